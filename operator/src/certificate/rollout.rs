//! Restarts what uses a Secret after it changed, and tries again until it is done.
//!
//! Pending restarts are in `status.pendingRollouts`, so that neither a failed write nor a restart of the operator leaves Pods
//! with a certificate that runs out.

use std::time::Duration;

use gatehouse_crds::certificate::{CertificateStatus, LastFailure, RolloutKind, RolloutTarget};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use super::{observed_secret::KeyPair, reconcile::Reconcile, renewal};
use crate::kubernetes::{
    apply::WriteError,
    conditions::{self, ConditionUpdate, Status},
    events::EventType,
    store::ObjectKey,
};

/// The workloads of `rollout` have been restarted with the certificate.
pub const ROLLED_OUT: &str = "RolledOut";
/// The reason of a failure.
const FAILED: &str = "RolloutFailed";
/// First and longest pause after a failure.
const MIN_BACKOFF: Duration = Duration::from_secs(2);
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// A workload that changes does not have it tried more often.
const MIN_REQUEUE_AFTER: Duration = Duration::from_secs(1);

/// The tries of one Certificate, and when the last was and the next is.
#[derive(Clone, Copy, Debug)]
pub struct RolloutAttempts {
    failures: u32,
    last: Instant,
    next: Instant,
}

/// A workload that could not be restarted, and why.
#[derive(Debug)]
pub struct Failed {
    target: RolloutTarget,
    error: WriteError,
}

impl Failed {
    fn reason(&self) -> &'static str {
        match self.error.reason() {
            "NotFound" => "WorkloadNotFound",
            "Forbidden" => "Forbidden",
            _ => FAILED,
        }
    }

    /// State, cause and remedy.
    fn message(&self) -> String {
        let workload = format!("{} {}", kind(self.target.kind), self.target.name);
        match self.reason() {
            "WorkloadNotFound" => {
                format!("{workload} does not exist: create it, or remove it from spec.rollout")
            }
            "Forbidden" => format!(
                "{workload} may not be restarted ({}): grant the operator the verb patch on it, as config/rbac does",
                self.error
            ),
            _ => format!("{workload} could not be restarted and is tried again: {}", self.error),
        }
    }
}

/// Outcome of an attempt.
#[derive(Debug)]
pub struct Outcome {
    failed: Vec<Failed>,
    serial: String,
}

/// Restarts the workloads that are to have `pair`, when it is another certificate than before or some are left.
///
/// A first certificate restarts nothing: Pods that mount the Secret were waiting for it.
pub async fn restart(reconcile: &Reconcile<'_>, pair: &KeyPair) -> Option<Outcome> {
    let status = reconcile.status();
    let serial = pair.leaf().serial_hex();
    let known = status.serial_number.as_deref()?;
    let all = &reconcile.certificate.spec.rollout;
    let targets = if known == serial {
        left(&status, all)
    } else {
        all.clone()
    };
    if targets.is_empty() {
        return None;
    }
    Some(attempt(reconcile, &targets, &serial).await)
}

/// Tries again what is left to do, when it is time. Returns the status when it differs.
pub async fn resume(reconcile: &Reconcile<'_>) -> Option<CertificateStatus> {
    let before = reconcile.certificate.status.as_ref()?;
    if before.pending_rollouts.is_empty() {
        return None;
    }
    let targets = left(before, &reconcile.certificate.spec.rollout);
    let mut status = before.clone();
    if targets.is_empty() {
        status.pending_rollouts.clear();
        status.conditions.retain(|condition| condition.type_ != ROLLED_OUT);
        return Some(status);
    }
    let tries = reconcile
        .ctx()
        .rollouts(|rollouts| rollouts.get(reconcile.uid()).copied());
    if let Some(wait) = tries.and_then(|tries| wait(&tries, reconcile.changed, Instant::now())) {
        enqueue_after(reconcile, wait);
        return None;
    }
    let outcome = attempt(reconcile, &targets, before.serial_number.as_deref()?).await;
    note(
        &mut status,
        &outcome,
        reconcile.certificate.metadata.generation,
        reconcile.now,
    );
    (status != *before).then_some(status)
}

/// The pending workloads that the spec still names.
fn left(status: &CertificateStatus, all: &[RolloutTarget]) -> Vec<RolloutTarget> {
    let pending = status.pending_rollouts.iter();
    pending.filter(|target| all.contains(target)).cloned().collect()
}

/// Returns the time until the next attempt; `None` when it is due now.
fn wait(tries: &RolloutAttempts, changed: bool, now: Instant) -> Option<Duration> {
    let due = if changed {
        tries.next.min(tries.last + MIN_REQUEUE_AFTER)
    } else {
        tries.next
    };
    Some(due.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
}

/// Writes what came of a try into the status.
pub fn note(status: &mut CertificateStatus, outcome: &Outcome, generation: Option<i64>, now: Timestamp) {
    status.pending_rollouts = outcome.failed.iter().map(|failed| failed.target.clone()).collect();
    let verdict = if let Some(first) = outcome.failed.first() {
        let messages: Vec<_> = outcome.failed.iter().map(Failed::message).collect();
        let same = outcome.failed.iter().all(|failed| failed.reason() == first.reason());
        let message = format!("{}.", messages.join("; ").trim_end_matches('.'));
        let is_news = conditions::find(&status.conditions, ROLLED_OUT)
            .is_none_or(|known| known.status != "False" || known.message != message);
        if is_news {
            status.last_failure = Some(LastFailure {
                time: renewal::whole_seconds(now),
                reason: FAILED.to_owned(),
                message: message.clone(),
            });
        }
        ConditionUpdate {
            type_: ROLLED_OUT,
            status: Status::False,
            reason: if same { first.reason() } else { FAILED },
            message,
        }
    } else {
        ConditionUpdate {
            type_: ROLLED_OUT,
            status: Status::True,
            reason: ROLLED_OUT,
            message: format!(
                "The workloads of spec.rollout were restarted with certificate {}.",
                outcome.serial
            ),
        }
    };
    conditions::set(&mut status.conditions, &verdict, generation, now);
}

/// Notes the serial number on the Pod template of each workload, which rolls it where the number is new. The same number twice
/// changes nothing, so it is safe to repeat.
async fn attempt(reconcile: &Reconcile<'_>, targets: &[RolloutTarget], serial: &str) -> Outcome {
    let mut failed = Vec::new();
    for target in targets {
        let result = match target.kind {
            RolloutKind::Deployment => roll::<Deployment>(reconcile, &target.name, serial).await,
            RolloutKind::StatefulSet => roll::<StatefulSet>(reconcile, &target.name, serial).await,
            RolloutKind::DaemonSet => roll::<DaemonSet>(reconcile, &target.name, serial).await,
        };
        if let Err(error) = result {
            failed.push(Failed {
                target: target.clone(),
                error,
            });
        }
    }
    if failed.is_empty() {
        reconcile.ctx().rollouts(|rollouts| rollouts.remove(reconcile.uid()));
    } else {
        let now = Instant::now();
        let pause = reconcile.ctx().rollouts(|rollouts| {
            let failures = rollouts.get(reconcile.uid()).map_or(0, |tries| tries.failures);
            let pause = pause(failures);
            let tries = RolloutAttempts {
                failures: failures.saturating_add(1),
                last: now,
                next: now + pause,
            };
            rollouts.insert(reconcile.uid().to_owned(), tries);
            pause
        });
        reconcile.ctx().wait_for_api(reconcile.certificate);
        enqueue_after(reconcile, pause);
        for failed in &failed {
            let note = format!("The Secret changed, but {}.", failed.message().trim_end_matches('.'));
            reconcile
                .ctx()
                .publish_event(reconcile.certificate, EventType::Warning, FAILED, &note);
        }
    }
    Outcome {
        failed,
        serial: serial.to_owned(),
    }
}

fn pause(failures: u32) -> Duration {
    MIN_BACKOFF
        .saturating_mul(2u32.saturating_pow(failures))
        .min(MAX_BACKOFF)
}

/// Enqueues the Certificate later, whatever else it waits for meanwhile.
fn enqueue_after(reconcile: &Reconcile<'_>, pause: Duration) {
    let cache = reconcile.scope.cache.clone();
    let certificate = ObjectKey::of(reconcile.certificate);
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        cache.enqueue(&certificate);
    });
}

async fn roll<K>(reconcile: &Reconcile<'_>, name: &str, serial: &str) -> Result<(), WriteError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(reconcile.ctx().client.clone(), &reconcile.namespace());
    let annotation = format!(
        "gatehouse.dev/serial-number.{}",
        shortened(&reconcile.certificate.name_any())
    );
    let patch = json!({ "spec": { "template": { "metadata": { "annotations": { annotation: serial } } } } });
    reconcile.ctx().writer.merge::<K>(&api, name, &patch).await
}

fn kind(kind: RolloutKind) -> &'static str {
    match kind {
        RolloutKind::Deployment => "Deployment",
        RolloutKind::StatefulSet => "StatefulSet",
        RolloutKind::DaemonSet => "DaemonSet",
    }
}

/// The name part of an annotation has 63 characters at most.
fn shortened(name: &str) -> String {
    const LEFT: usize = 63 - "serial-number.".len();
    if name.len() <= LEFT {
        return name.to_owned();
    }
    let hash = super::renewal::seed(&[name]);
    format!("{}-{hash:016x}", name.chars().take(LEFT - 17).collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
    use super::*;

    fn target(name: &str) -> RolloutTarget {
        RolloutTarget {
            kind: RolloutKind::Deployment,
            name: name.into(),
        }
    }

    fn refused(name: &str, reason: &'static str) -> Failed {
        let object = format!("Deployment {name}");
        let message = "no".to_owned();
        Failed {
            target: target(name),
            error: if reason == "Timeout" {
                WriteError::Timeout {
                    object,
                    wait: Duration::from_secs(10),
                }
            } else {
                WriteError::Refused {
                    object,
                    code: 400,
                    reason,
                    message,
                }
            },
        }
    }

    fn noted(status: &mut CertificateStatus, failed: Vec<Failed>) -> (String, String, String) {
        let outcome = Outcome {
            failed,
            serial: "04c1".into(),
        };
        note(status, &outcome, Some(2), Timestamp::UNIX_EPOCH);
        let condition = conditions::find(&status.conditions, ROLLED_OUT).unwrap();
        (
            condition.status.clone(),
            condition.reason.clone(),
            condition.message.clone(),
        )
    }

    #[test]
    fn what_is_left_to_restart_is_in_the_status_with_the_remedy() {
        for (reason, expected, remedy) in [
            (
                "NotFound",
                "WorkloadNotFound",
                "create it, or remove it from spec.rollout",
            ),
            ("Forbidden", "Forbidden", "grant the operator the verb patch"),
            ("TooManyRequests", "RolloutFailed", "is tried again"),
            ("Conflict", "RolloutFailed", "is tried again"),
            ("ServerError", "RolloutFailed", "is tried again"),
            ("Timeout", "RolloutFailed", "no answer from the API server within 10s"),
        ] {
            let mut status = CertificateStatus::default();
            let (value, word, message) = noted(&mut status, vec![refused("web", reason)]);
            assert_eq!((value.as_str(), word.as_str()), ("False", expected), "{reason}");
            assert!(
                message.starts_with("Deployment web ") && message.contains(remedy),
                "{message}"
            );
            assert!(message.ends_with('.') && !message.ends_with(".."), "{message}");
            assert_eq!(status.pending_rollouts, [target("web")]);
            assert_eq!(status.last_failure.as_ref().unwrap().reason, "RolloutFailed");
        }
    }

    #[test]
    fn it_ends_when_all_are_restarted() {
        let mut status = CertificateStatus::default();
        let both = vec![refused("web", "NotFound"), refused("api", "Forbidden")];
        assert_eq!(noted(&mut status, both).1, "RolloutFailed");
        assert_eq!(status.pending_rollouts, [target("web"), target("api")]);
        assert_eq!(noted(&mut status, vec![refused("api", "Forbidden")]).1, "Forbidden");
        assert_eq!(status.pending_rollouts, [target("api")]);
        let (value, reason, message) = noted(&mut status, Vec::new());
        assert_eq!((value.as_str(), reason.as_str()), ("True", "RolledOut"));
        assert!(message.contains("04c1"), "{message}");
        assert_eq!(status.pending_rollouts, []);
    }

    #[test]
    fn a_workload_that_the_spec_names_no_more_is_not_waited_for() {
        let status = CertificateStatus {
            pending_rollouts: vec![target("web"), target("api")],
            ..CertificateStatus::default()
        };
        assert_eq!(left(&status, &[target("api"), target("other")]), [target("api")]);
        assert_eq!(left(&status, &[]), []);
    }

    #[test]
    fn the_same_failure_again_writes_nothing() {
        let mut status = CertificateStatus::default();
        noted(&mut status, vec![refused("web", "NotFound")]);
        let before = status.clone();
        let outcome = Outcome {
            failed: vec![refused("web", "NotFound")],
            serial: "04c1".into(),
        };
        note(&mut status, &outcome, Some(2), Timestamp::from_second(600).unwrap());
        assert_eq!(status, before);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_tried_again_ever_more_rarely_and_at_once_when_the_workload_appears() {
        let last = Instant::now();
        let tries = RolloutAttempts {
            failures: 3,
            last,
            next: last + pause(3),
        };
        let seconds =
            |changed, after| wait(&tries, changed, last + Duration::from_secs(after)).map(|wait| wait.as_secs());
        assert_eq!(seconds(false, 0), Some(16));
        assert_eq!(seconds(false, 15), Some(1));
        assert_eq!(seconds(false, 16), None);
        assert_eq!(seconds(true, 0), Some(1), "not at each of its changes");
        assert_eq!(seconds(true, 1), None);
        let pauses: Vec<_> = (0..10).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pause(u32::MAX), MAX_BACKOFF);
    }

    #[test]
    fn a_long_name_fits_into_an_annotation() {
        let long = "a".repeat(253);
        assert_eq!(shortened("web"), "web");
        assert_eq!(shortened(&long).len() + "serial-number.".len(), 63);
    }
}
