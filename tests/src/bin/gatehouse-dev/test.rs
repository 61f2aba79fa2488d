//! `cargo dev test`: every test, and a short account of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use gatehouse_tests::process::{spawn_kept, tail, wait_kept};
use gatehouse_tests::{Assets, Error, assets, operator, workspace};

use crate::summary::Summary;

/// Builds, runs, sums up. Fails when a test fails, when one could not run, and when there was none.
pub(crate) fn test(threads: Option<usize>, further: &[String]) -> Result<ExitCode, Error> {
    Assets::find()?;
    assets::knotd()?;
    eprintln!("building (the first time takes minutes) …");
    let binary = operator::build_with_tests()?;

    // They wait for servers and timers more than they compute.
    let threads =
        threads.unwrap_or_else(|| 2 * std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)));
    let log = log_file()?;
    let mut file = std::fs::File::create(&log).map_err(|source| io("making the log", source))?;
    let (reader, writer) = std::io::pipe().map_err(|source| io("making a pipe", source))?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace::root())
        .args(["test", "--no-fail-fast", "--color", "never"]);
    if !further.iter().any(|arg| arg == "-p" || arg.starts_with("--package")) {
        command.arg("--workspace");
    }
    let mut parts = further.splitn(2, |arg| arg == "--");
    command
        .args(parts.next().unwrap_or_default())
        .arg("--")
        .arg(format!("--test-threads={threads}"));
    command
        .args(parts.next().unwrap_or_default())
        .env("GATEHOUSE_BIN", binary);
    if std::env::var_os("GATEHOUSE_BACKTRACE").is_none() {
        // A panic says where it was; forty frames of the runtime hide it.
        command.env("RUST_BACKTRACE", "0");
    }
    let second = writer.try_clone().map_err(|source| io("making a pipe", source))?;
    command.stdout(writer).stderr(second);
    let mut child = spawn_kept(&mut command).map_err(|source| io("starting cargo test", source))?;
    // The command holds our ends of the pipe open.
    drop(command);

    let mut summary = Summary::default();
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let _ = writeln!(file, "{line}");
        if let Some(show) = summary.line(&line) {
            println!("{show}");
        }
    }
    let status = wait_kept(&mut child).map_err(|source| io("waiting for cargo test", source))?;
    if !status.success() && summary.failed == 0 {
        println!(
            "{}\ncargo test ended with {status} before it could say which test failed",
            tail(&log, 40)
        );
        summary.failed = 1;
    }
    if summary.passed + summary.failed == 0 {
        println!("no test ran");
        summary.failed = 1;
    }
    if !summary.failures.is_empty() {
        println!("\nfailed:\n  {}", summary.failures.join("\n  "));
    }
    println!("\nfull log: {}\n{}", log.display(), summary.totals());
    Ok(if summary.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Beside this program, so that each target folder has its own.
fn log_file() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().map_err(|source| io("finding this program", source))?;
    Ok(program.with_file_name("test.log"))
}

fn io(what: &str, source: std::io::Error) -> Error {
    Error::Io {
        what: what.to_owned(),
        source,
    }
}
