//! An attempt that failed: why, and what class of failure it is.

use std::time::Duration;

use crate::kubernetes::apply::WriteError;

/// Why an attempt failed. The reason is the condition's, the event's and the metric's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `CamelCase`, from a closed list in code.
    pub reason: &'static str,
    /// For humans, without secrets.
    pub message: String,
    /// Time after which another attempt makes sense.
    pub class: Class,
    /// Number of attempts at the same thing that failed in a row, by any Certificate.
    pub tries: u32,
}

/// Kind of a failure, which decides when the next attempt is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing was tried: something that is needed is not there, or in the way. Its change wakes
    /// us where we see it; the clock, this much later, is the second chance.
    Waiting(Duration),
    /// Something on the way failed: a name server, a provider, the API server.
    Transient,
    /// The CA cannot be reached, or does not serve; it is tried again so much later, and this is the outage's one failure.
    Away(Duration),
    /// Nothing was tried: the CA asked for a pause or is away, as others have found out.
    Held(Duration),
    /// The other side said when to come again.
    RetryAfter(Duration),
    /// The other side looked and said no. Something has to be fixed first.
    Refused,
    /// The spec itself is wrong; only its change helps.
    Spec,
}

impl Failure {
    /// Builds one.
    pub fn new(class: Class, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            class,
            tries: 1,
        }
    }

    /// The event's reason, one of the contract's list.
    pub fn event(&self) -> &'static str {
        match self.reason {
            "ChallengeFailed" => "ChallengeFailed",
            "RateLimited" => "RateLimited",
            "SecretConflict" => "SecretConflict",
            _ => "IssuanceFailed",
        }
    }

    /// Whether another issuer could do better. What is wrong on our side of the line would be wrong there too.
    pub fn may_fall_back(&self) -> bool {
        !matches!(self.class, Class::Spec)
            && !matches!(
                self.reason,
                "SecretConflict" | "SecretImmutable" | "SecretWriteFailed" | "KeystoreFailed" | "KeyGenerationFailed"
            )
    }
}

/// Why an attempt stopped before the certificate was in its Secret.
#[derive(Debug)]
pub enum Stopped {
    /// It failed, which is recorded in the status.
    Failed(Failure),
    /// A read or write at the API server failed; the reconcile is repeated.
    Api(WriteError),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<WriteError> for Stopped {
    fn from(error: WriteError) -> Self {
        Self::Api(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
