//! Reads the figures: CPU and memory in `/proc`, requests in the API server's audit log, what becomes of objects by a watch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use gatehouse_crds::certificate::Certificate;
use gatehouse_tests::{Error, Operator};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt as _};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

/// User agent of the operator at the API server.
const USER: &str = "system:serviceaccount:gatehouse-system:gatehouse-operator";
/// Nothing more comes after so long without a request.
const QUIET: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_mins(5);

/// Seconds of CPU, user and system, since the process began.
pub(super) fn cpu(operator: &Operator) -> Result<f64, Error> {
    let text = read_proc(operator, "stat")?;
    // After the name, which is in brackets and may hold anything: state is field 3, utime 14, stime 15.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    // USER_HZ, which is 100 on every Linux that Rust runs on.
    Ok(ticks.filter_map(|tick| tick.parse::<f64>().ok()).sum::<f64>() / 100.0)
}

/// `VmRSS` or `VmHWM` (the peak), MiB.
pub(super) fn memory(operator: &Operator, field: &str) -> Result<f64, Error> {
    let text = read_proc(operator, "status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.unwrap_or(f64::NAN) / 1024.0)
}

fn read_proc(operator: &Operator, file: &str) -> Result<String, Error> {
    let path = format!("/proc/{}/{file}", operator.pid());
    std::fs::read_to_string(&path).map_err(|source| super::io(&format!("reading {path} (Linux only)"), source))
}

/// The audit log of the control plane.
pub(super) struct Audit {
    log: PathBuf,
}

/// Returns the operator's requests to the API server: `verb resource` and their number, without its Lease.
pub(super) type Requests = BTreeMap<String, usize>;

/// A line of the log, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "auditID")]
    audit_id: String,
    verb: String,
    user: User,
    object_ref: Option<Object>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
}

impl Audit {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            log: folder.join("audit.log"),
        }
    }

    /// Returns the end of the log.
    pub(super) fn mark(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// Requests after `mark`. A watch is one, though the log has its beginning and its end.
    pub(super) fn since(&self, mark: u64) -> Requests {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = std::fs::File::open(&self.log)?;
            file.seek(SeekFrom::Start(mark))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let (mut seen, mut requests) = (HashSet::new(), Requests::new());
        for line in String::from_utf8_lossy(&bytes)
            .lines()
            .filter(|line| line.contains(USER))
        {
            // The last line may be in the making.
            let Ok(event) = serde_json::from_str::<Line>(line) else {
                continue;
            };
            let object = event.object_ref.unwrap_or_default();
            if event.user.username == USER && object.resource != "leases" && seen.insert(event.audit_id) {
                let what = [event.verb, object.resource, object.subresource].join(" ");
                *requests.entry(what.trim_end().to_owned()).or_default() += 1;
            }
        }
        requests
    }

    /// Waits until nothing but the Lease was asked for, for a while.
    pub(super) async fn quiet(&self) {
        let (deadline, mut mark, mut last) = (Instant::now() + TIMEOUT, self.mark(), Instant::now());
        while last.elapsed() < QUIET && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = self.mark();
            if !self.since(mark).is_empty() {
                last = Instant::now();
            }
            mark = now;
        }
    }
}

/// When each object of a kind was first seen as it should be, by name.
pub(super) struct Seen {
    seen: Arc<Mutex<HashMap<String, Instant>>>,
    task: JoinHandle<()>,
}

impl Seen {
    pub(super) fn watch<K>(api: Api<K>, good: fn(&K) -> bool) -> Self
    where
        K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut events = watcher(api, watcher::Config::default()).boxed();
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object) | Event::InitApply(object)) = event
                    && good(&object)
                {
                    let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.entry(object.name_any()).or_insert_with(Instant::now);
                }
            }
        });
        Self { seen, task }
    }

    /// Waits for all of them; the moments, in the order of the names.
    pub(super) async fn all(&self, names: &[String]) -> Result<Vec<Instant>, Error> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let seen: Vec<Instant> = {
                let known = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                names.iter().filter_map(|name| known.get(name).copied()).collect()
            };
            if seen.len() == names.len() {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                return Err(Error::Deadline {
                    what: format!("{} objects as they should be", names.len()),
                    after: TIMEOUT,
                    detail: format!("{} are", seen.len()),
                });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns the present state of the Certificate.
pub(super) fn is_ready(certificate: &Certificate) -> bool {
    let conditions = certificate.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| {
        condition.type_ == "Ready"
            && condition.status == "True"
            && condition.observed_generation == certificate.metadata.generation
    })
}
