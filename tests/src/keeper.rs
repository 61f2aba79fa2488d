//! Nothing is left behind.
//!
//! Rust drops no statics, `SIGKILL` runs no destructor, and `PR_SET_PDEATHSIG` needs `unsafe` (and follows the thread that
//! forked, not the process). So one small shell for each process of ours reads from a pipe which process groups and
//! folders are ours; the pipe closes with the process, however it ends, and the shell then kills and removes them.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// Every component is the leader of a process group of its own, so that its pid names its children, too.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
pids=
while read -r verb what; do
  case $verb in
    add) pids="$pids $what" ;;
    del) left=; for p in $pids; do [ "$p" = "$what" ] || left="$left $p"; done; pids=$left ;;
    dir) set -- "$@" "$what" ;;
  esac
done
for p in $pids; do kill -s KILL -- "-$p" 2>/dev/null; done
for d do rm -rf -- "$d" 2>/dev/null || { sleep 1; rm -rf -- "$d"; }; done
"#;

static KEEPER: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

#[allow(
    clippy::zombie_processes,
    reason = "it ends after this process: that is what it is for"
)]
fn report(verb: &str, what: &str) {
    let keeper = KEEPER.get_or_init(|| {
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "gatehouse-keeper"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("/bin/sh starts");
        Mutex::new(child.stdin.expect("stdin was piped"))
    });
    let mut pipe = keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // The keeper ignores every signal but SIGKILL; without it the components are still ended by their `Drop`.
    let _ = writeln!(pipe, "{verb} {what}");
}

/// From now on the process group `pid` ends with this process.
pub(crate) fn adopt(pid: u32) {
    report("add", &pid.to_string());
}

/// The process has been waited for; its number may soon belong to another one.
pub(crate) fn release(pid: u32) {
    report("del", &pid.to_string());
}

/// The folder is removed with this process.
pub(crate) fn remove_at_exit(folder: &Path) {
    report("dir", &folder.display().to_string());
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use crate::process::{spawn_kept, wait_kept};

    const VICTIM: &str = "GATEHOUSE_KEEPER_VICTIM";

    /// Not a test by itself: started by the one below as a process that is then killed.
    #[test]
    fn victim() {
        if std::env::var_os(VICTIM).is_none() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        super::remove_at_exit(folder.path());
        let mut done = spawn_kept(&mut Command::new("true")).unwrap();
        wait_kept(&mut done).unwrap();
        // A child with a child of its own, as Cargo has; both hold our stdout open while they live.
        let mut child = spawn_kept(Command::new("sh").args(["-c", "sleep 600 & wait"])).unwrap();
        println!("victim {}", folder.path().display());
        wait_kept(&mut child).unwrap();
    }

    #[test]
    fn what_a_killed_process_started_and_made_is_gone() {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["keeper::tests::victim", "--exact", "--nocapture"])
            .env(VICTIM, "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(victim.stdout.take().unwrap()).lines();
        let folder = output
            .find_map(|line| Some(line.unwrap().split_once("victim ")?.1.to_owned()))
            .unwrap();
        assert!(std::path::Path::new(&folder).exists());

        victim.kill().unwrap();
        victim.wait().unwrap();
        let (ended, all_ended) = mpsc::channel();
        std::thread::spawn(move || ended.send(output.count()));
        all_ended
            .recv_timeout(Duration::from_secs(10))
            .expect("a child of the victim lives on");
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::path::Path::new(&folder).exists() {
            assert!(Instant::now() < deadline, "{folder} was left behind");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
