//! Output of Gatehouse, read by independent programs: `openssl` and Java's `keytool`.
//!
//! Both must be on the PATH; a missing one fails the tests and says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines
)]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::samples::now;

mod certificates;
mod keys;
mod keystores;

/// Runs a program; returns both of its outputs, and whether it succeeded.
fn attempt(directory: &Path, program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("{program} cannot be started ({error}): install OpenSSL 3 and a JDK, and put them on the PATH")
        });
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let (content, text) = attempt(directory, program, arguments);
    assert!(content, "{program} {arguments:?}: {text}");
    text
}

fn openssl(directory: &Path, arguments: &[&str]) -> String {
    run(directory, "openssl", arguments)
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// A minute after the samples are issued.
fn moment() -> String {
    (now().as_second() + 60).to_string()
}
