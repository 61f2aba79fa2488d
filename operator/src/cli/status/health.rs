//! Health of a Certificate, decided from its object alone.

use gatehouse_crds::certificate::{Certificate, ChallengeState, ChallengeStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    certificate::{
        rollout::ROLLED_OUT,
        status::{ISSUING, READY},
    },
    kubernetes::conditions,
};

/// Time for the operator to reconcile a new Certificate.
const FIRST_RECONCILE_GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Delay of a step after which the operator seems to be down: a new leader takes over within half a minute.
const STEP_GRACE: SignedDuration = SignedDuration::from_secs(300);

/// Reasons that no condition has: derived from outside.
pub(in crate::cli) const UNSEEN: &str = "NotSeen";
pub(in crate::cli) const OVERDUE: &str = "Overdue";
pub(in crate::cli) const EXPIRED: &str = "Expired";
pub(in crate::cli) const SUSPENDED: &str = "Suspended";
pub(in crate::cli) const UNREADABLE: &str = "Unreadable";

/// The worst first, as they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum State {
    /// An attempt failed, or none is made: a user has to act.
    Failing,
    /// The circuit breaker holds it back.
    Held,
    /// The certificate that is asked for is not there yet.
    Issuing,
    /// Left alone on purpose, with a certificate that serves.
    Suspended,
    /// A certificate serves while its successor is obtained.
    Renewing,
    Fine,
}

impl State {
    /// Returns whether a user has to act, or it has no certificate to serve with.
    pub fn is_unhealthy(self) -> bool {
        self <= Self::Issuing
    }

    /// The word in the summary.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Held => "held",
            Self::Issuing => "issuing",
            Self::Suspended => "suspended",
            Self::Renewing => "renewing",
            Self::Fine => "fine",
        }
    }
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Health {
    pub state: State,
    /// A word with an advice; none when there is nothing to say.
    pub reason: Option<String>,
    /// Text after the reason in a table.
    pub detail: String,
}

impl Health {
    fn new(state: State, reason: &str, detail: String) -> Self {
        Self {
            state,
            reason: Some(reason.to_owned()),
            detail,
        }
    }

    /// For objects that are no Certificate that this version can read.
    pub fn unreadable(error: &str) -> Self {
        Self::new(State::Failing, UNREADABLE, error.to_owned())
    }
}

/// Decides.
pub(in crate::cli) fn of(certificate: &Certificate, now: Timestamp) -> Health {
    let status = certificate.status.clone().unwrap_or_default();
    let find = |type_| conditions::find(&status.conditions, type_);
    let (ready, issuing) = (find(READY), find(ISSUING));
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    let expired = status.not_after.is_some_and(|end| end <= now);
    let serves = is_ready && !expired;
    let late = |time: Option<Timestamp>| time.is_some_and(|time| now.duration_since(time) > STEP_GRACE);

    if certificate.spec.suspend == Some(true) {
        let state = if serves { State::Suspended } else { State::Failing };
        return Health::new(state, SUSPENDED, lack(serves, expired).to_owned());
    }
    let Some(ready) = ready else {
        let age = certificate.metadata.creation_timestamp.as_ref();
        let young = age.is_none_or(|made| now.duration_since(made.0) < FIRST_RECONCILE_GRACE);
        let state = if young { State::Issuing } else { State::Failing };
        return Health::new(state, UNSEEN, "the operator has not looked at it".to_owned());
    };
    if let Some(issuing) = issuing.filter(|issuing| issuing.status == "True") {
        if late(status.next_attempt_time) {
            return Health::new(State::Failing, OVERDUE, "the next step is late".to_owned());
        }
        let state = if serves { State::Renewing } else { State::Issuing };
        let challenges = status.acme.as_ref().map_or(&[][..], |acme| &acme.challenges);
        return Health::new(state, &issuing.reason, progress(challenges, attempts(certificate)));
    }
    if late(status.next_attempt_time) {
        return Health::new(State::Failing, OVERDUE, "the next attempt is late".to_owned());
    }
    let failure = issuing.filter(|issuing| issuing.reason != "Issued");
    if let Some(trouble) = failure.or(Some(ready).filter(|_| !is_ready)) {
        if trouble.reason == SUSPENDED {
            return Health::new(State::Issuing, UNSEEN, "it is not suspended any more".to_owned());
        }
        let state = if trouble.reason == "ReissueHeld" {
            State::Held
        } else {
            State::Failing
        };
        return Health::new(state, &trouble.reason, failures(attempts(certificate)));
    }
    if expired {
        return Health::new(State::Failing, EXPIRED, String::new());
    }
    if late(status.renewal_time) {
        return Health::new(State::Failing, OVERDUE, "the renewal is late".to_owned());
    }
    if let Some(rollout) = find(ROLLED_OUT).filter(|rollout| rollout.status == "False") {
        let left = match status.pending_rollouts.len() {
            1 => "1 workload is not restarted".to_owned(),
            many => format!("{many} workloads are not restarted"),
        };
        return Health::new(State::Failing, &rollout.reason, left);
    }
    if is_behind(ready, certificate.metadata.generation) {
        return Health::new(
            State::Issuing,
            UNSEEN,
            "the last change of the spec is not dealt with".to_owned(),
        );
    }
    Health {
        state: State::Fine,
        reason: None,
        detail: String::new(),
    }
}

fn attempts(certificate: &Certificate) -> i32 {
    let status = certificate.status.as_ref();
    status.and_then(|status| status.failed_attempts).unwrap_or_default()
}

fn is_behind(ready: &Condition, generation: Option<i64>) -> bool {
    ready
        .observed_generation
        .zip(generation)
        .is_some_and(|(seen, is)| seen < is)
}

fn lack(serves: bool, expired: bool) -> &'static str {
    match (serves, expired) {
        (true, _) => "",
        (false, true) => "its certificate has expired",
        (false, false) => "it has no certificate that serves",
    }
}

fn failures(count: i32) -> String {
    match count {
        ..=0 => String::new(),
        1 => "1 failure".to_owned(),
        more => format!("{more} failures"),
    }
}

/// `2 of 3 challenges valid, after 4 failures`.
fn progress(challenges: &[ChallengeStatus], failed: i32) -> String {
    let valid = challenges
        .iter()
        .filter(|challenge| challenge.state == ChallengeState::Valid)
        .count();
    let mut parts = Vec::new();
    if !challenges.is_empty() {
        parts.push(format!("{valid} of {} challenges valid", challenges.len()));
    }
    if failed > 0 {
        parts.push(format!("after {}", failures(failed)));
    }
    parts.join(", ")
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
