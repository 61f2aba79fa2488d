//! Programs from Debian's archive, where this is root on a Debian.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Doing as _, Error};
use crate::workspace;

pub(crate) fn is_root_here() -> bool {
    Path::new("/etc/debian_version").exists() && rustix::process::geteuid().is_root()
}

/// Held while apt works: suites run side by side.
pub(crate) fn lock() -> Result<File, Error> {
    fs::create_dir_all(workspace::cache()).doing("making the cache")?;
    let lock = File::create(workspace::cache().join("apt.lock")).doing("making the lock of apt")?;
    lock.lock().doing("locking apt")?;
    Ok(lock)
}

/// `apt-get` in a folder; once more after `apt-get update` when it fails.
pub(crate) fn apt(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y"]).args(arguments);
        run(command.current_dir(folder).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(arguments).or_else(|_| apt(&["update"]).and_then(|()| apt(arguments)))
}

/// A program, or a folder, out of a package that is not installed; kept in the cache. The error is the end of a sentence, and empty where
/// there is nothing to say but that it is missing.
pub(crate) fn unpacked(package: &str, program: &str) -> Result<PathBuf, String> {
    if !is_root_here() {
        return Err(String::new());
    }
    let said = |error: &dyn std::fmt::Display| format!("; unpacking the package {package} failed:\n{error}");
    let _lock = lock().map_err(|error| said(&error))?;
    let whole = workspace::cache().join("debian").join(package);
    if !whole.join(program).exists() {
        eprintln!("unpacking the package {package} (apt-get download {package}) …");
        // Renamed when whole, so that an interrupted download is never taken for a program.
        let unfinished = whole.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished).map_err(|error| said(&error))?;
        apt(&unfinished, &["download", package]).map_err(|error| said(&error))?;
        let files = fs::read_dir(&unfinished).map_err(|error| said(&error))?;
        for file in files.flatten().map(|entry| entry.path()) {
            run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&unfinished)).map_err(|error| said(&error))?;
            fs::remove_file(&file).map_err(|error| said(&error))?;
        }
        let _ = fs::remove_dir_all(&whole);
        fs::rename(&unfinished, &whole).map_err(|error| said(&error))?;
    }
    Ok(whole.join(program))
}

/// Links what was unpacked to where its program looks for it, unless something exists there.
pub(crate) fn link(unpacked: &Path, place: &Path) -> Result<(), String> {
    let said = |error: std::io::Error| format!("; linking {} failed: {error}", place.display());
    let _lock = lock().map_err(|error| format!("; {error}"))?;
    if place.exists() {
        return Ok(());
    }
    if place.is_symlink() {
        fs::remove_file(place).map_err(said)?;
    }
    fs::create_dir_all(place.parent().unwrap_or(place)).map_err(said)?;
    std::os::unix::fs::symlink(unpacked, place).map_err(said)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
