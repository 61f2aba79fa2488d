//! Programs from Debian's archive, unpacked into the cache: nothing is installed, so no service is started and no root is
//! needed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::error::{Doing as _, Error};
use crate::workspace;

/// Prometheus' Alertmanager: the one on the PATH, else Debian's.
pub fn alertmanager() -> Result<PathBuf, Error> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    let names = ["prometheus-alertmanager", "alertmanager"];
    let found = match names.iter().find_map(|name| workspace::which(name, &[])) {
        Some(found) => found,
        None => unpacked("prometheus-alertmanager", "usr/bin/prometheus-alertmanager").map_err(|detail| {
            Error::Missing {
                what: "Prometheus' Alertmanager",
                install: format!(
                    "put `alertmanager` on the PATH (Debian, Ubuntu: the package `prometheus-alertmanager`){detail}"
                ),
            }
        })?,
    };
    Ok(FOUND.get_or_init(|| found).clone())
}

/// A file of a package. The error says what went wrong, as the end of a sentence.
fn unpacked(package: &str, file: &str) -> Result<PathBuf, String> {
    if !Path::new("/etc/debian_version").exists() {
        return Err(String::new());
    }
    let folder = workspace::cache().join("debian");
    let unpacked = folder.join(package);
    let find = || Some(unpacked.join(file)).filter(|file| file.is_file());
    let words = |error: Error| format!("; {error}");
    fs::create_dir_all(&folder)
        .doing("making the cache of Debian's packages")
        .map_err(words)?;
    let lock = File::create(folder.join(".lock"))
        .doing("making the lock of Debian's packages")
        .map_err(words)?;
    lock.lock().doing("locking Debian's packages").map_err(words)?;
    if let Some(found) = find() {
        return Ok(found);
    }
    eprintln!("downloading Debian's package {package} …");
    let fresh = tempfile::tempdir_in(&folder).map_err(|error| format!("; {error}"))?;
    let download = || run(fresh.path(), "apt-get", &["-q", "download", package]);
    // The lists of packages may be old, or were never read.
    download()
        .or_else(|_| run(fresh.path(), "apt-get", &["-q", "update"]).and_then(|()| download()))
        .map_err(|error| format!("; apt-get could not download it:\n{error}"))?;
    let archive = fs::read_dir(fresh.path())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("; apt-get downloaded nothing")?;
    let (from, to) = (archive.display().to_string(), fresh.path().join("unpacked"));
    run(fresh.path(), "dpkg-deb", &["-x", &from, &to.display().to_string()])
        .map_err(|error| format!("; dpkg-deb could not unpack it:\n{error}"))?;
    let _ = fs::remove_dir_all(&unpacked);
    fs::rename(&to, &unpacked).map_err(|error| format!("; {error}"))?;
    find().ok_or_else(|| format!("; Debian's package {package} has no {file}"))
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
