//! Python programs of the suites: receivers that were written with other libraries.
//!
//! The libraries are pinned in `tests/receivers/requirements.txt` and installed once, into a cache named after that file's
//! content.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Doing as _, Error};
use crate::pki::write_private;
use crate::process::{Process, tail};
use crate::web::Web;
use crate::{ports, workspace};

const REQUIREMENTS: &str = include_str!("../receivers/requirements.txt");
const START: Duration = Duration::from_secs(20);

/// The interpreter that has the libraries.
pub fn interpreter() -> Result<PathBuf, Error> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, REQUIREMENTS.as_bytes());
    let name: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let cache = workspace::cache().join("python");
    let folder = cache.join(name);
    let (interpreter, complete) = (folder.join("bin/python"), folder.join(".complete"));
    fs::create_dir_all(&cache).doing("making the cache of Python's libraries")?;
    let lock = File::create(cache.join(".lock")).doing("making the lock of Python's libraries")?;
    lock.lock().doing("locking Python's libraries")?;
    // Python itself may have gone since, or be another one.
    if complete.is_file() && run(&interpreter, &["-c", "import standardwebhooks"]).is_ok() {
        return Ok(interpreter);
    }
    eprintln!("installing the libraries of tests/receivers/requirements.txt …");
    let missing = |error: String| Error::Missing {
        what: "Python 3 with venv and pip",
        install: format!("install it (Debian, Ubuntu: the packages `python3` and `python3-venv`); it said:\n{error}"),
    };
    let python = workspace::which("python3", &[]).ok_or_else(|| missing("there is no python3 on the PATH".into()))?;
    let place = folder.display().to_string();
    run(&python, &["-m", "venv", "--clear", &place]).map_err(missing)?;
    let requirements = workspace::root().join("tests/receivers/requirements.txt");
    let requirements = requirements.display().to_string();
    let install = [
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-deps",
        "-r",
        &requirements,
    ];
    run(&interpreter, &install).map_err(|error| Error::Missing {
        what: "the libraries of tests/receivers/requirements.txt",
        install: format!("let pip reach PyPI, or an index that has them (PIP_INDEX_URL); it said:\n{error}"),
    })?;
    fs::write(&complete, "").doing("marking Python's libraries as complete")?;
    Ok(interpreter)
}

fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}

/// Returns the errors of an Adaptive Card by Microsoft's schema.
pub fn adaptive_card(card: &Value) -> Result<(), String> {
    let interpreter = interpreter().map_err(|error| error.to_string())?;
    let mut child = Command::new(interpreter)
        .arg(workspace::root().join("tests/receivers/card.py"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut input) = child.stdin.take() {
        input
            .write_all(card.to_string().as_bytes())
            .map_err(|error| error.to_string())?;
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A receiver that verifies signatures with the Python library of Standard Webhooks.
pub struct Verifier {
    url: String,
    log: PathBuf,
    _process: Mutex<Process>,
}

/// A request as the [`Verifier`] saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct Verified {
    pub path: String,
    pub id: String,
    /// Returns `webhook-timestamp`, and the time of the request, both in seconds since 1970.
    pub timestamp: i64,
    pub at: f64,
    /// 204 when it verified, 401 when not, and 503 for the first try on a path that ends in `/late`.
    pub status: u16,
    /// Error of the library.
    pub error: Option<String>,
    pub body: String,
}

impl Verifier {
    /// Starts it; `keys` has a `whsec_…` key for each path.
    pub async fn start(folder: &Path, keys: &Value) -> Result<Self, Error> {
        let interpreter = interpreter()?;
        let port = ports::free();
        let (log, secrets) = (
            folder.join(format!("verifier-{port}.jsonl")),
            folder.join(format!("verifier-{port}.json")),
        );
        write_private(&secrets, &keys.to_string())?;
        let mut command = Command::new(interpreter);
        command
            .arg(workspace::root().join("tests/receivers/verify.py"))
            .arg(port.to_string())
            .arg(&secrets)
            .arg(&log);
        let mut process = Process::spawn("verify.py", command, &folder.join(format!("verifier-{port}.log")))?;
        let url = format!("http://127.0.0.1:{port}");
        let web = Web::plain();
        process.ready(START, || async { web.get(&url).await.ok() }).await?;
        Ok(Self {
            url,
            log,
            _process: Mutex::new(process),
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Everything that came to `path`, in order.
    pub fn received(&self, path: &str) -> Vec<Verified> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<Verified>(line).ok())
            .filter(|verified| verified.path == path)
            .collect()
    }

    /// The end of its log, for a test that fails.
    pub fn tail(&self) -> String {
        tail(&self.log, 10)
    }
}
