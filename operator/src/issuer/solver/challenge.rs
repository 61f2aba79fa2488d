//! A challenge, and what solves it.

use std::{fmt, net::IpAddr, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use super::SolverError;

/// The kinds of challenge that solvers answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChallengeKind {
    /// RFC 8555, section 8.3.
    Http01,
    /// RFC 8555, section 8.4.
    Dns01,
}

impl ChallengeKind {
    /// The name in ACME.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
        }
    }
}

/// The identifier to be proved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identifier {
    /// A name in lower-case A-labels, without `*.` and without a dot at the end.
    Dns(String),
    /// RFC 8738.
    Ip(IpAddr),
}

impl fmt::Display for Identifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => formatter.write_str(name),
            Self::Ip(address) => address.fmt(formatter),
        }
    }
}

/// One challenge of one authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub kind: ChallengeKind,
    pub identifier: Identifier,
    /// The authorization is for `*.` and the identifier (RFC 8555, section 7.1.4).
    pub wildcard: bool,
    pub token: String,
    /// RFC 8555, section 8.1: what HTTP-01 answers.
    pub key_authorization: String,
    /// The base64url SHA-256 of it: what the TXT record holds.
    pub dns_value: String,
}

/// May the CA be asked to look?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Not yet: call `check` again after this time.
    Wait {
        after: Duration,
        /// The missing condition, for the challenge's state in the status.
        message: String,
    },
    /// The answer was not seen, but the check only advises and its time is over: the CA may look.
    Unseen {
        /// Says what was seen instead.
        message: String,
    },
}

/// Answers challenges. Every method may be called again, also after a restart, with the same outcome.
#[async_trait]
pub trait Solver: Send + Sync {
    /// Puts the answer in place.
    async fn present(&self, challenge: &Challenge) -> Result<(), SolverError>;

    /// Says whether the answer can be seen. `presented_at` is when `present` succeeded first: the deadline
    /// counts from there.
    async fn check(
        &self,
        challenge: &Challenge,
        presented_at: Timestamp,
        now: Timestamp,
    ) -> Result<Readiness, SolverError>;

    /// Takes the answer away, and only this one: others may be at the same name.
    async fn clean_up(&self, challenge: &Challenge) -> Result<(), SolverError>;
}
