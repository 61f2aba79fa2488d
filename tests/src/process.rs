//! A component's process: its log, its signals, its end.

use std::fs::File;
use std::future::Future;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;

use crate::error::{Doing as _, Error};
use crate::keeper;

/// Interval of a readiness probe.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// A child in a process group of its own (a Ctrl-C in the terminal is ours to handle, not its), with stdout and stderr
/// in one log file. Killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; its output is appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self, Error> {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .doing(format!("opening {}", log.display()))
        };
        command.stdout(open()?).stderr(open()?);
        let child = spawn_kept(&mut command).doing(format!("starting {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal; one that comes too late is no error.
    pub fn signal(&mut self, signal: Signal) {
        // A child that was waited for gives its number back, perhaps to another process.
        if self.exited().is_none()
            && let Some(pid) = i32::try_from(self.child.id())
                .ok()
                .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// The exit status when it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// `SIGKILL`, and waits for the end.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.child.kill();
        let status = self.child.wait().ok();
        keeper::release(self.child.id());
        status
    }

    /// `SIGTERM`, then `SIGKILL` after `patience`. The status says which of them ended it.
    pub async fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + patience;
        while self.exited().is_none() && Instant::now() < deadline {
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        self.kill()
    }

    /// Waits until `probe` gives a value; fails when the process ends before, or at the deadline.
    pub async fn ready<T, P, F>(&mut self, within: Duration, mut probe: P) -> Result<T, Error>
    where
        P: FnMut() -> F,
        F: Future<Output = Option<T>>,
    {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exited() {
                return Err(Error::Ended {
                    component: self.name.clone(),
                    status: status.to_string(),
                    log: self.log.clone(),
                    tail: tail(&self.log, 20),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(Some(value)) = tokio::time::timeout(left.min(Duration::from_secs(5)), probe()).await {
                return Ok(value);
            }
            if left.is_zero() {
                return Err(Error::Deadline {
                    what: format!("{} ready", self.name),
                    after: within,
                    detail: tail(&self.log, 20),
                });
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a child that cannot outlive this process.
pub fn spawn_kept(command: &mut Command) -> std::io::Result<Child> {
    let child = command.stdin(Stdio::null()).process_group(0).spawn()?;
    keeper::adopt(child.id());
    Ok(child)
}

/// Waits for a child of [`spawn_kept`].
pub fn wait_kept(child: &mut Child) -> std::io::Result<ExitStatus> {
    let status = child.wait();
    keeper::release(child.id());
    status
}

/// The last lines of a log file.
pub fn tail(log: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("({}: {error})", log.display()));
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Asks until `probe` gives a value. For what has no watch; a Kubernetes object has one (see `Cluster`).
pub async fn eventually<T, P, F>(what: &str, within: Duration, mut probe: P) -> T
where
    P: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}
