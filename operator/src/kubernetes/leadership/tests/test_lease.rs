//! An API server that keeps one Lease, candidates around it, and the faults between them.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::super::{Elector, Identity, Leadership, LeaseError, LeaseStore, decision::holder};

/// Fate of the requests of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// An error at once.
    Refuses,
    /// Neither request nor answer arrives.
    Hangs,
    /// The request takes effect, the answer never comes.
    LosesAnswer,
    /// Latency to the server, and the same back; it takes effect also after the caller has stopped waiting.
    Slow(Duration),
}

#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
    last_change: Option<Instant>,
    requests: usize,
    candidates: Vec<(String, Leadership)>,
    violations: Vec<String>,
}

impl Server {
    /// The mutual exclusion that all this is about.
    fn check_exclusion(&mut self, when: &str) {
        let leading: Vec<_> = self
            .candidates
            .iter()
            .filter(|(_, guard)| guard.is_leader())
            .map(|(name, _)| name.clone())
            .collect();
        if leading.len() > 1 {
            self.violations.push(format!("{when}: {leading:?} all pass the guard"));
        }
    }

    fn write(&mut self, lease: &Lease, create: bool) -> Result<Lease, LeaseError> {
        let current = self.lease.as_ref();
        match (current, create) {
            (Some(_), true) => return Err(LeaseError::Conflict),
            (None, false) => return Err(LeaseError::Missing),
            (Some(current), false) if current.metadata.resource_version != lease.metadata.resource_version => {
                return Err(LeaseError::Conflict);
            }
            _ => {}
        }
        // At the moment a name enters the Lease, no other candidate may still be let through.
        if let Some(winner) = holder(lease) {
            for (name, guard) in &self.candidates {
                if name != winner && guard.is_leader() {
                    self.violations
                        .push(format!("{winner} took the Lease while {name} passed the guard"));
                }
            }
        }
        Ok(self.store(lease.clone()))
    }

    fn store(&mut self, mut lease: Lease) -> Lease {
        self.version += 1;
        self.last_change = Some(Instant::now());
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        lease
    }
}

enum Request {
    Get,
    Create(Lease),
    Replace(Lease),
}

struct Wire {
    server: Arc<Mutex<Server>>,
    fault: Arc<Mutex<Fault>>,
}

impl Wire {
    async fn send(&self, request: Request) -> Result<Option<Lease>, LeaseError> {
        let fault = *self.fault.lock().unwrap();
        let delay = match fault {
            Fault::Refuses => return Err(LeaseError::Unavailable("refused".into())),
            Fault::Hangs => std::future::pending().await,
            Fault::Slow(delay) => delay,
            Fault::None | Fault::LosesAnswer => Duration::ZERO,
        };
        let server = Arc::clone(&self.server);
        // On a task of its own: a request that is on its way arrives, whatever becomes of its sender.
        let answer = tokio::spawn(async move {
            sleep(delay).await;
            let mut server = server.lock().unwrap();
            server.requests += 1;
            match request {
                Request::Get => Ok(server.lease.clone()),
                Request::Create(lease) => server.write(&lease, true).map(Some),
                Request::Replace(lease) => server.write(&lease, false).map(Some),
            }
        })
        .await
        .unwrap();
        if fault == Fault::LosesAnswer {
            std::future::pending::<()>().await;
        }
        sleep(delay).await;
        answer
    }
}

#[async_trait]
impl LeaseStore for Wire {
    async fn get(&self) -> Result<Option<Lease>, LeaseError> {
        self.send(Request::Get).await
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        self.send(Request::Create(lease.clone())).await.map(Option::unwrap)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        self.send(Request::Replace(lease.clone())).await.map(Option::unwrap)
    }
}

pub(super) struct TestLease {
    server: Arc<Mutex<Server>>,
}

pub(super) struct Candidate {
    pub(super) identity: String,
    pub(super) leadership: Leadership,
    server: Weak<Mutex<Server>>,
    fault: Arc<Mutex<Fault>>,
    frozen_until: Arc<Mutex<Instant>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl TestLease {
    pub(super) fn new() -> Self {
        Self { server: Arc::default() }
    }

    /// Starts a process. Wall clocks disagree by days: nothing may depend on them.
    pub(super) fn start(&self, name: &str) -> Candidate {
        let wall: fn() -> Timestamp = if name.len().is_multiple_of(2) {
            || Timestamp::UNIX_EPOCH
        } else {
            || Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 80)
        };
        let identity = Identity::unique(name);
        let fault = Arc::new(Mutex::new(Fault::None));
        let wire = Wire {
            server: Arc::clone(&self.server),
            fault: Arc::clone(&fault),
        };
        let (elector, leadership) = Elector::with_wall_clock(wire, identity.clone(), wall);
        self.server
            .lock()
            .unwrap()
            .candidates
            .push((identity.to_string(), leadership.clone()));
        let frozen_until = Arc::new(Mutex::new(Instant::now()));
        let stop = CancellationToken::new();
        let task = tokio::spawn(freezable(
            Box::pin(elector.run(stop.clone())),
            Arc::clone(&frozen_until),
        ));
        Candidate {
            identity: identity.to_string(),
            leadership,
            server: Arc::downgrade(&self.server),
            fault,
            frozen_until,
            stop,
            task,
        }
    }

    pub(super) fn lease(&self) -> Lease {
        self.server.lock().unwrap().lease.clone().unwrap()
    }

    pub(super) fn holder(&self) -> String {
        holder(&self.lease()).unwrap_or_default().to_owned()
    }

    pub(super) fn last_change(&self) -> Instant {
        self.server.lock().unwrap().last_change.unwrap()
    }

    pub(super) fn requests(&self) -> usize {
        self.server.lock().unwrap().requests
    }

    pub(super) fn label(&self, key: &str, value: &str) {
        let mut lease = self.lease();
        lease
            .metadata
            .labels
            .get_or_insert_default()
            .insert(key.into(), value.into());
        self.server.lock().unwrap().store(lease);
    }

    pub(super) fn usurp(&self, name: &str) {
        let mut lease = self.lease();
        lease.spec.get_or_insert_default().holder_identity = Some(name.into());
        self.server.lock().unwrap().store(lease);
    }

    pub(super) fn delete(&self) {
        self.server.lock().unwrap().lease = None;
    }

    pub(super) fn check_exclusion(&self, when: &str) {
        self.server.lock().unwrap().check_exclusion(when);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.server.lock().unwrap().violations.clone()
    }
}

impl Candidate {
    pub(super) fn fault(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// The task is not run for so long, as if the runtime had no thread to spare.
    pub(super) fn freeze(&self, time: Duration) {
        *self.frozen_until.lock().unwrap() = Instant::now() + time;
    }

    /// As `kill -9`: nothing is given back, and the process is not there to ask its guard.
    pub(super) fn kill(&self) {
        self.task.abort();
        if let Some(server) = self.server.upgrade() {
            server
                .lock()
                .unwrap()
                .candidates
                .retain(|(name, _)| *name != self.identity);
        }
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn ended(&self) -> bool {
        self.task.is_finished()
    }
}

/// Runs `future`, except while it is frozen.
async fn freezable(mut future: Pin<Box<dyn Future<Output = ()> + Send>>, frozen_until: Arc<Mutex<Instant>>) {
    let mut thaw = Box::pin(sleep(Duration::ZERO));
    poll_fn(move |context| {
        let until = *frozen_until.lock().unwrap();
        if Instant::now() < until {
            thaw.set(sleep_until(until));
            if thaw.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        future.as_mut().poll(context)
    })
    .await;
}
