//! Health of a Gateway, decided from its object alone.

use gatehouse_crds::gateway::{Gateway, GatewayStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    cli::{
        moment::span,
        status::health::{UNREADABLE, UNSEEN},
    },
    gateway::status::{ACCEPTED, EXPOSURE_VERIFIED, PROGRAMMED, RESOLVED_REFS},
    kubernetes::conditions,
};

/// Time for the operator to reconcile a new Gateway.
const FIRST_RECONCILE_GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Time for a cloud to create a load balancer, which usually takes a minute or three.
const LOAD_BALANCER_GRACE: SignedDuration = SignedDuration::from_secs(600);

/// Reasons that pass by themselves, for a while.
const PASSING: &[&str] = &[
    "AddressPending",
    "Recreating",
    "Pending",
    "EndpointsPending",
    "CertificatePending",
    "CertificateNotReady",
    "NotVerified",
    "NoAddress",
];

/// The worst first, as they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum State {
    /// A user has to act.
    Failing,
    /// It is on its way.
    Pending,
    Fine,
}

impl State {
    /// Whether it does not do what it is for.
    pub fn is_unhealthy(self) -> bool {
        self != Self::Fine
    }

    /// The word in the table and the summary.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Pending => "pending",
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
    fn new(state: State, reason: &str, detail: impl Into<String>) -> Self {
        Self {
            state,
            reason: Some(reason.to_owned()),
            detail: detail.into(),
        }
    }

    /// For objects that are no Gateway that this version can read.
    pub fn unreadable(error: &str) -> Self {
        Self::new(State::Failing, UNREADABLE, error)
    }
}

/// Decides.
pub(in crate::cli) fn of(gateway: &Gateway, now: Timestamp) -> Health {
    let status = gateway.status.clone().unwrap_or_default();
    let find = |type_| conditions::find(&status.conditions, type_);
    // What is public and should not be comes before anything else.
    if let Some(public) = find(EXPOSURE_VERIFIED).filter(|verified| verified.status == "False") {
        return Health::new(State::Failing, &public.reason, "");
    }
    let Some(accepted) = find(ACCEPTED) else {
        let age = gateway.metadata.creation_timestamp.as_ref();
        let young = age.is_none_or(|made| now.duration_since(made.0) < FIRST_RECONCILE_GRACE);
        let state = if young { State::Pending } else { State::Failing };
        return Health::new(state, UNSEEN, "the operator has not looked at it");
    };
    if let Some(trouble) = [Some(accepted), find(PROGRAMMED)]
        .into_iter()
        .flatten()
        .find(|it| is_bad(it))
    {
        return judged(trouble, "", now);
    }
    if let Some(health) = of_listeners(&status, now) {
        return health;
    }
    let behind = accepted.observed_generation.zip(gateway.metadata.generation);
    if behind.is_some_and(|(seen, is)| seen < is) {
        return Health::new(State::Pending, UNSEEN, "the last change of the spec is not dealt with");
    }
    match find(EXPOSURE_VERIFIED).filter(|it| is_bad(it)) {
        Some(unverified) => judged(unverified, "", now),
        None => Health {
            state: State::Fine,
            reason: None,
            detail: String::new(),
        },
    }
}

fn is_bad(condition: &Condition) -> bool {
    condition.status != "True"
}

/// Returns the health by a condition that is not True.
fn judged(condition: &Condition, detail: &str, now: Timestamp) -> Health {
    let age = now.duration_since(condition.last_transition_time.0);
    let passes = PASSING.contains(&condition.reason.as_str());
    if passes && age <= LOAD_BALANCER_GRACE {
        return Health::new(State::Pending, &condition.reason, detail);
    }
    let since = passes.then(|| format!("for {}", span(age)));
    let detail: Vec<&str> = [detail].into_iter().chain(since.as_deref()).collect();
    let detail: Vec<&str> = detail.into_iter().filter(|part| !part.is_empty()).collect();
    Health::new(State::Failing, &condition.reason, detail.join(", "))
}

/// Returns the fault of a listener, in the order in which they are to be fixed.
pub(in crate::cli) fn trouble(conditions: &[Condition]) -> Option<&Condition> {
    [ACCEPTED, RESOLVED_REFS, PROGRAMMED]
        .into_iter()
        .filter_map(|type_| conditions::find(conditions, type_))
        .find(|it| is_bad(it))
}

/// The worst of the listeners, with the names of all that have it.
fn of_listeners(status: &GatewayStatus, now: Timestamp) -> Option<Health> {
    let troubles: Vec<(&str, &Condition)> = status
        .listeners
        .iter()
        .filter_map(|listener| Some((listener.name.as_str(), trouble(&listener.conditions)?)))
        .collect();
    let (_, worst) = troubles
        .iter()
        .min_by_key(|(_, condition)| judged(condition, "", now).state)?;
    let names: Vec<&str> = troubles
        .iter()
        .filter(|(_, condition)| condition.reason == worst.reason)
        .map(|(name, _)| *name)
        .collect();
    Some(judged(worst, &names.join(", "), now))
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
