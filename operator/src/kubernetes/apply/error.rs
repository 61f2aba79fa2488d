//! Failures of writes, in texts that may be part of a status.

use std::time::Duration;

use kube::core::Status;

use crate::kubernetes::leadership::NotLeader;

/// A write that failed. It never quotes a Secret's content: the API server's messages may.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// Whether it took effect is not known.
    #[error("{object}: no answer from the API server within {wait:?}")]
    Timeout { object: String, wait: Duration },
    /// The API server refused it.
    #[error("{object}: {message}")]
    Refused {
        object: String,
        code: u16,
        reason: &'static str,
        message: String,
    },
    /// The request did not get through, or its answer could not be read: whether it took effect is not known.
    #[error("{object}: the API server cannot be reached: {message}")]
    Unreachable { object: String, message: String },
}

/// `Secret web-tls`, as errors name it.
pub(super) fn object(kind: &str, name: &str) -> String {
    format!("{kind} {name}")
}

impl WriteError {
    /// A read that a write was to follow.
    pub fn reading(kind: &str, name: &str, error: kube::Error) -> Self {
        Self::new(kind, name, error)
    }

    pub(super) fn new(kind: &str, name: &str, error: kube::Error) -> Self {
        let object = object(kind, name);
        match error {
            kube::Error::Api(status) => {
                let message = if kind == "Secret" {
                    without_values(&status)
                } else {
                    status.message.clone()
                };
                Self::Refused {
                    object,
                    code: status.code,
                    reason: reason(&status),
                    message,
                }
            }
            // serde quotes what it stumbles over.
            kube::Error::SerdeError(_) => Self::Unreachable {
                object,
                message: "its answer cannot be read".into(),
            },
            other => Self::Unreachable {
                object,
                message: other.to_string(),
            },
        }
    }

    /// Stable name of the error: condition reason, event reason, metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotLeader(error) => error.reason(),
            Self::Timeout { .. } => "Timeout",
            Self::Refused { reason, .. } => reason,
            Self::Unreachable { .. } => "Unreachable",
        }
    }

    /// Another writer was faster, another manager owns a field, or a precondition does not hold.
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    /// A `create` found the object there.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    /// The object, or its namespace, is gone.
    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }
}

/// A UID that does not hold is "invalid" when another object has the name, and "conflict" when none
/// has; and admission says "forbidden" for three things that a user fixes in three different places.
fn reason(status: &Status) -> &'static str {
    let causes = || status.details.iter().flat_map(|details| &details.causes);
    let terminating = causes().any(|cause| cause.reason == "NamespaceTerminating");
    let other_uid = causes().any(|cause| cause.field == "metadata.uid");
    if is_denied(status) {
        // With whatever code the policy chose: 400 is what webhooks give that choose none, 422 a ValidatingAdmissionPolicy.
        "Forbidden"
    } else if status.is_already_exists() {
        "AlreadyExists"
    } else if status.is_not_found() {
        "NotFound"
    } else if status.is_conflict() || (status.is_invalid() && other_uid) {
        "Conflict"
    } else if status.is_forbidden() && terminating {
        "NamespaceTerminating"
    } else if status.is_forbidden() && status.message.contains("exceeded quota") {
        "QuotaExceeded"
    } else if status.is_forbidden() {
        "Forbidden"
    } else if status.is_invalid() && causes().any(|cause| cause.message.contains("when `immutable` is set")) {
        "Immutable"
    } else if status.code == 413 || causes().any(|cause| cause.reason == "FieldValueTooLong") {
        "TooLarge"
    } else if status.is_invalid() || status.code == 400 {
        "Invalid"
    } else if status.code == 401 {
        "Unauthorized"
    } else if status.code == 429 {
        "TooManyRequests"
    } else {
        "ServerError"
    }
}

/// Whether an admission webhook or a ValidatingAdmissionPolicy denied the request.
fn is_denied(status: &Status) -> bool {
    let says = |words| status.message.contains(words);
    (says("admission webhook") && says("denied the request"))
        || (says("ValidatingAdmissionPolicy '") && says("denied request"))
}

/// The words of a policy, without what may be data: no word of a policy is so long.
fn without_data(message: &str) -> String {
    const LONGEST_WORD: usize = 64;
    let is_data = |character: char| character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '=');
    let words = message.split(' ').map(|word| {
        let longest = word.split(|character| !is_data(character)).map(str::len).max();
        if longest.is_some_and(|length| length > LONGEST_WORD) {
            "…"
        } else {
            word
        }
    });
    crate::egress::printable(&words.collect::<Vec<_>>().join(" "), 500)
}

/// Returns the API server's message about a Secret, without quotes of its data.
fn without_values(status: &Status) -> String {
    if is_denied(status) {
        return without_data(&status.message);
    }
    if status.is_forbidden() || status.is_conflict() || status.is_not_found() || status.is_already_exists() {
        // These speak of names, quotas, managers and rights, not of data.
        return status.message.clone();
    }
    let causes: Vec<_> = status
        .details
        .iter()
        .flat_map(|details| &details.causes)
        .map(|cause| format!("{}: {}", cause.field, cause.reason))
        .collect();
    let summary = format!("the API server answered {} {}", status.code, status.reason);
    if causes.is_empty() {
        summary
    } else {
        format!("{summary} ({})", causes.join(", "))
    }
}
