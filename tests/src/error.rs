//! Failures before a test begins.

use std::path::PathBuf;
use std::time::Duration;

/// A component could not be installed, started or reached. `Display` says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that the reader has to install.
    #[error("{what} is missing: {install}")]
    Missing { what: &'static str, install: String },
    /// A tool did not build.
    #[error("building {tool} failed ({status}):\n{output}")]
    Build {
        tool: String,
        status: String,
        output: String,
    },
    /// A component ended instead of becoming ready.
    #[error("{component} ended with {status} before it was ready; the end of {}:\n{tail}", log.display())]
    Ended {
        component: String,
        status: String,
        log: PathBuf,
        tail: String,
    },
    /// Something did not happen in time.
    #[error("{what}: not within {after:?}\n{detail}")]
    Deadline {
        what: String,
        after: Duration,
        detail: String,
    },
    /// A command ended with a failure.
    #[error("{command} failed ({status}):\n{output}")]
    Command {
        command: String,
        status: String,
        output: String,
    },
    /// A request to a component failed.
    #[error("{url}: {message}")]
    Web { url: String, message: String },
    /// Files, pipes, processes.
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("Kubernetes: {0}")]
    Kube(#[from] kube::Error),
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("DNS: {0}")]
    Dns(String),
    #[error("manifest: {0}")]
    Manifest(String),
}

/// Attaches what was being done to an I/O error.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            what: what.into(),
            source,
        })
    }
}
