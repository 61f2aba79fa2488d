//! A policy's status, made purely.

use gatehouse_crds::alert::{AlertKind, AlertPolicyStatus, FiringAlert, ReceiverStatus, TestStatus};
use jiff::Timestamp;
use std::cmp::Reverse;

use super::{engine::MAX_POLICIES_PER_NAMESPACE, policy::Policy, state::State};
use crate::kubernetes::conditions::{self, ConditionUpdate, Status};

/// The policy can be carried out.
pub const READY: &str = "Ready";
/// Every receiver takes what is sent.
pub const DELIVERING: &str = "Delivering";

/// Every receiver gets the heartbeats. Only there when the policy has `heartbeatInterval`.
pub const HEARTBEAT: &str = "Heartbeat";

/// So many of the alerts that fire are named.
const MAX_LISTED: usize = 50;

/// Why a policy is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inactive {
    /// `CamelCase`.
    pub reason: &'static str,
    pub message: String,
}

/// Returns the status of an active policy.
pub fn status(
    policy: &Policy,
    before: &AlertPolicyStatus,
    state: &State,
    test: Option<TestStatus>,
    now: Timestamp,
) -> AlertPolicyStatus {
    let receivers: Vec<ReceiverStatus> = policy
        .receivers
        .iter()
        .map(|receiver| {
            let mut status = ReceiverStatus {
                name: receiver.name.clone(),
                ..ReceiverStatus::default()
            };
            if let Some(queue) = state.queue(&receiver.name) {
                status.last_success = queue.last_success.map(whole_seconds);
                status.last_failure = queue.last_failure.map(whole_seconds);
                status.message.clone_from(&queue.message);
                status.consecutive_failures = queue.failures;
                status.pending = i64::try_from(queue.len()).unwrap_or(i64::MAX);
                status.stopped = queue.stopped.is_some();
            }
            status
        })
        .collect();
    let mut conditions = before.conditions.clone();
    let ready = ConditionUpdate {
        type_: READY,
        status: Status::True,
        reason: "Accepted",
        message: "Alerts are raised by this policy.".into(),
    };
    conditions::set(&mut conditions, &ready, policy.generation, now);
    conditions::set(&mut conditions, &delivering(&receivers), policy.generation, now);
    match heartbeat(policy) {
        Some(heartbeat) => drop(conditions::set(&mut conditions, &heartbeat, policy.generation, now)),
        None => conditions.retain(|condition| condition.type_ != HEARTBEAT),
    }
    AlertPolicyStatus {
        conditions,
        firing_count: Some(i64::try_from(state.firing.len()).unwrap_or(i64::MAX)),
        firing: firing(state),
        receivers,
        test,
    }
}

/// Whether every receiver gets heartbeats; none where none are asked for.
fn heartbeat(policy: &Policy) -> Option<ConditionUpdate> {
    policy.heartbeat?;
    let unable = policy.receivers.iter().filter(|receiver| !receiver.takes_heartbeats());
    let unable: Vec<&str> = unable.map(|receiver| receiver.name.as_str()).collect();
    let (status, reason, message) = if unable.is_empty() {
        (Status::True, "Sending", "Every receiver gets heartbeats.".to_owned())
    } else {
        let message = format!(
            "No heartbeats are sent to {}: PagerDuty's Events API has no message for them. Add a receiver of another format that watches for them.",
            unable.join(", ")
        );
        (Status::False, "NotSupported", message)
    };
    Some(ConditionUpdate {
        type_: HEARTBEAT,
        status,
        reason,
        message,
    })
}

/// Returns the status of an inactive one: its alerts have ended, and the other facts stay.
pub fn inactive(
    before: &AlertPolicyStatus,
    inactive: &Inactive,
    generation: Option<i64>,
    now: Timestamp,
) -> AlertPolicyStatus {
    let mut status = before.clone();
    status.firing.clear();
    status.firing_count = Some(0);
    let verdict = ConditionUpdate {
        type_: READY,
        status: Status::False,
        reason: inactive.reason,
        message: inactive.message.clone(),
    };
    conditions::set(&mut status.conditions, &verdict, generation, now);
    status
}

/// Returns why a policy beyond the limit of its namespace is inactive.
pub fn crowded() -> Inactive {
    Inactive {
        reason: "TooManyPolicies",
        message: format!(
            "There are more than {MAX_POLICIES_PER_NAMESPACE} AlertPolicies in this namespace, and this is one of the youngest: it is not carried out. Delete some, or give one policy several receivers."
        ),
    }
}

fn delivering(receivers: &[ReceiverStatus]) -> ConditionUpdate {
    let failing = receivers.iter().filter(|receiver| receiver.consecutive_failures > 0);
    let reported: Vec<String> = failing
        .map(|receiver| {
            let message = receiver.message.as_deref().unwrap_or("it failed");
            format!("{}: {message}", receiver.name)
        })
        .collect();
    let stopped = receivers.iter().any(|receiver| receiver.stopped);
    let (status, reason, message) = if reported.is_empty() {
        (
            Status::True,
            "Delivering",
            "Every receiver took what was sent.".to_owned(),
        )
    } else if stopped {
        (Status::False, "ReceiverGone", reported.join("; "))
    } else {
        (Status::False, "DeliveryFailed", reported.join("; "))
    };
    ConditionUpdate {
        type_: DELIVERING,
        status,
        reason,
        message,
    }
}

/// The worst first, of those the oldest.
fn firing(state: &State) -> Vec<FiringAlert> {
    let mut all: Vec<_> = state.firing.iter().collect();
    all.sort_by_key(|(key, firing)| (Reverse(firing.severity), firing.since, *key));
    all.into_iter()
        .take(MAX_LISTED)
        .map(|(key, firing)| FiringAlert {
            certificate: (key.rule.kind() == AlertKind::Certificate).then(|| key.name.path()),
            gateway: (key.rule.kind() == AlertKind::Gateway).then(|| key.name.path()),
            rule: key.rule,
            severity: firing.severity,
            since: whole_seconds(firing.since),
            last_sent: firing.last_sent.map(whole_seconds),
        })
        .collect()
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
