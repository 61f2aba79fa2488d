//! The operator under test: the real binary, as a child, under any kubeconfig.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::error::{Doing as _, Error};
use crate::process::{Process, Signal, spawn_kept, tail, wait_kept};
use crate::web::Web;
use crate::workspace;

const START: Duration = Duration::from_mins(1);

/// The `gatehouse` binary: `GATEHOUSE_BIN` when set, else built, once a process.
pub fn binary() -> Result<PathBuf, Error> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(built) = BUILT.get() {
        return Ok(built.clone());
    }
    if let Some(given) = std::env::var_os("GATEHOUSE_BIN").filter(|value| !value.is_empty()) {
        return Ok(given.into());
    }
    let built = build(&["--workspace", "--bin", "gatehouse"])?;
    Ok(BUILT.get_or_init(|| built).clone())
}

/// Builds the binary together with all tests: the same features, so that `cargo test` compiles nothing again.
pub fn build_with_tests() -> Result<PathBuf, Error> {
    build(&["--workspace", "--bins", "--tests"])
}

/// The binary as people run it, for a benchmark: `GATEHOUSE_BIN` when set, else built with optimization.
pub fn release_binary() -> Result<PathBuf, Error> {
    match std::env::var_os("GATEHOUSE_BIN").filter(|value| !value.is_empty()) {
        Some(given) => Ok(given.into()),
        None => build(&["--release", "--package", "gatehouse", "--bin", "gatehouse"]),
    }
}

/// Asks Cargo, which knows whether anything changed and where the file is. Progress goes to stderr.
fn build(targets: &[&str]) -> Result<PathBuf, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace::root())
        .args(["build", "--message-format=json-render-diagnostics"])
        .args(targets)
        .stdout(Stdio::piped());
    let mut child = spawn_kept(&mut command).doing("starting cargo")?;
    let messages = child
        .stdout
        .take()
        .map(std::io::read_to_string)
        .transpose()
        .doing("reading from cargo")?;
    let status = wait_kept(&mut child).doing("waiting for cargo")?;
    messages
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            // The unit tests of the binary are an executable of that name, too.
            message.pointer("/target/name").is_some_and(|name| name == "gatehouse")
                && message.pointer("/profile/test").is_some_and(|test| test == false)
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .filter(|_| status.success())
        .ok_or_else(|| Error::Build {
            tool: "gatehouse".to_owned(),
            status: status.to_string(),
            output: "(cargo's messages are above)".to_owned(),
        })
}

/// Options of the start. Loopback is allowed and ports are picked by the operator by default.
#[derive(Clone, Debug)]
pub struct Options {
    kubeconfig: PathBuf,
    binary: Option<PathBuf>,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    http01: Option<u16>,
    loopback: bool,
}

impl Options {
    pub fn new(kubeconfig: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            binary: None,
            args: Vec::new(),
            env: Vec::new(),
            http01: None,
            loopback: true,
        }
    }

    /// Adds a flag, `--leader-elect` for instance.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another binary than [`binary`].
    #[must_use]
    pub fn binary(mut self, file: &Path) -> Self {
        self.binary = Some(file.to_owned());
        self
    }

    /// As it is in a cluster: loopback is refused.
    #[must_use]
    pub fn without_loopback(mut self) -> Self {
        self.loopback = false;
        self
    }

    /// The port of the HTTP-01 responder: the one that Pebble looks at.
    #[must_use]
    pub fn http01(mut self, port: u16) -> Self {
        self.http01 = Some(port);
        self
    }
}

/// A running operator.
pub struct Operator {
    process: Process,
    log: PathBuf,
}

impl Operator {
    /// Starts it and returns at once; see [`Self::wait_ready`].
    pub fn start(folder: &Path, options: &Options) -> Result<Self, Error> {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let log = folder.join(format!("operator-{}.log", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let program = options.binary.clone().map_or_else(binary, Ok)?;
        let mut command = Command::new(program);
        command
            .arg("operator")
            .arg("--kubeconfig")
            .arg(&options.kubeconfig)
            .args(["--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0"])
            .arg("--http01-addr")
            .arg(format!("127.0.0.1:{}", options.http01.unwrap_or(0)))
            .args(["--log-format", "json"])
            .args(options.loopback.then_some("--allow-loopback"))
            .args(&options.args)
            .envs(options.env.iter().map(|(name, value)| (name, value)));
        Ok(Self {
            process: Process::spawn("gatehouse operator", command, &log)?,
            log,
        })
    }

    /// Waits until `/readyz` says yes.
    pub async fn wait_ready(&mut self) -> Result<(), Error> {
        let (log, web) = (self.log.clone(), Web::plain());
        self.process
            .ready(START, || async {
                let address = listening(&log, "health")?;
                let answer = web.get(&format!("http://{address}/readyz")).await;
                answer.ok().filter(|(status, _)| status.is_success())
            })
            .await
            .map(drop)
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> Result<String, Error> {
        let address = self.address_of("metrics")?;
        Ok(Web::plain().get(&format!("http://{address}/metrics")).await?.1)
    }

    /// The value of one series: its name with its labels as they are printed, `gatehouse_leader` or
    /// `gatehouse_certificate_ready_status{namespace="a",name="b",condition="True"}`.
    pub async fn metric(&self, series: &str) -> Result<Option<f64>, Error> {
        let text = self.metrics().await?;
        Ok(text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok()))
    }

    /// `/healthz` or `/readyz`: the status and the text.
    pub async fn health(&self, path: &str) -> Result<(http::StatusCode, String), Error> {
        let address = self.address_of("health")?;
        Web::plain().get(&format!("http://{address}{path}")).await
    }

    /// Addresses on which it listens: `metrics`, `health`, `http01`.
    pub fn address_of(&self, what: &str) -> Result<SocketAddr, Error> {
        listening(&self.log, what).ok_or_else(|| Error::Deadline {
            what: format!("a log line `{what} listening`"),
            after: Duration::ZERO,
            detail: tail(&self.log, 20),
        })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `SIGKILL`: a crash.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// `SIGTERM`, as Kubernetes does; the exit status when it ended by itself in time.
    pub async fn terminate(&mut self, within: Duration) -> Option<ExitStatus> {
        self.process.terminate(within).await
    }

    /// `SIGSTOP`: the process makes no step while time passes.
    pub fn freeze(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// `SIGCONT`.
    pub fn thaw(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// The exit status when it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Everything it wrote to stdout and stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Panics if one of these texts (keys, tokens, passwords; lines of PEM one by one) is in the log. The panic does not
    /// repeat the text.
    pub fn assert_no_secret(&self, secrets: &[&str]) {
        let log = self.log();
        for (number, secret) in secrets.iter().enumerate() {
            // Short lines (`-----END`'s neighbours, padding) say nothing about a key.
            let mut lines = secret
                .lines()
                .map(str::trim)
                .filter(|line| line.len() >= 8 && !line.starts_with("-----"));
            assert!(
                !lines.any(|line| log.contains(line)),
                "secret number {number} is in the operator's log"
            );
        }
        assert!(
            !log.contains("PRIVATE KEY-----"),
            "a private key is in the operator's log"
        );
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of {}\n{}\n---", self.log.display(), tail(&self.log, 60));
        }
    }
}

/// The `addr` field of the log line `<what> listening`.
fn listening(log: &Path, what: &str) -> Option<SocketAddr> {
    let wanted = format!("{what} listening");
    let text = std::fs::read_to_string(log).ok()?;
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|line| {
            let fields = line.get("fields").unwrap_or(&line);
            (fields["message"] == wanted).then(|| fields["addr"].as_str()?.parse().ok())?
        })
}
