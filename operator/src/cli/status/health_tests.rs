#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::cli::samples::{NOW, certificate};

fn health(yaml: &str) -> (State, String) {
    let health = of(&certificate("web", yaml), NOW.parse().unwrap());
    let reason = health.reason.unwrap_or_default();
    let words = [reason, health.detail].into_iter().filter(|word| !word.is_empty());
    (health.state, words.collect::<Vec<_>>().join(": "))
}

const FINE: &str = r#"
status:
  conditions:
  - {type: Ready, status: "True", reason: Issued, message: "", lastTransitionTime: 2026-10-21T12:00:00Z, observedGeneration: 1}
  - {type: Issuing, status: "False", reason: Issued, message: "", lastTransitionTime: 2026-10-21T12:00:00Z, observedGeneration: 1}
  notBefore: 2026-10-21T12:00:00Z
  notAfter: 2027-01-19T12:00:00Z
  renewalTime: 2026-12-20T12:00:00Z
  failedAttempts: 0
"#;

#[test]
fn what_serves_and_is_not_due_is_fine() {
    assert_eq!(health(FINE), (State::Fine, String::new()));
    assert!(!State::Fine.is_unhealthy() && !State::Renewing.is_unhealthy() && !State::Suspended.is_unhealthy());
    assert!(State::Failing.is_unhealthy() && State::Held.is_unhealthy() && State::Issuing.is_unhealthy());
}

#[test]
fn a_certificate_that_its_workloads_do_not_have_is_failing() {
    let rolled = |status: &str, pending: &str| {
        let condition = format!(
            "  - {{type: RolledOut, status: \"{status}\", reason: WorkloadNotFound, message: \"\", lastTransitionTime: 2026-10-21T12:00:00Z, observedGeneration: 1}}\n"
        );
        let yaml = FINE.replace(
            "  notBefore:",
            &format!("{condition}  pendingRollouts: [{pending}]\n  notBefore:"),
        );
        health(&yaml)
    };
    let web = "{kind: Deployment, name: web}";
    assert_eq!(
        rolled("False", web),
        (
            State::Failing,
            "WorkloadNotFound: 1 workload is not restarted".to_owned()
        )
    );
    assert_eq!(
        rolled("False", &format!("{web}, {web}")).1,
        "WorkloadNotFound: 2 workloads are not restarted"
    );
    assert_eq!(rolled("True", ""), (State::Fine, String::new()));
}

#[test]
fn a_certificate_that_nobody_looked_at_is_given_a_minute() {
    let made = |at: &str| health(&format!("metadata: {{creationTimestamp: {at}}}"));
    let words = "NotSeen: the operator has not looked at it".to_owned();
    assert_eq!(made("2026-11-21T11:59:30Z"), (State::Issuing, words.clone()));
    assert_eq!(made("2026-11-21T11:58:00Z"), (State::Failing, words));
}

#[test]
fn what_is_obtained_for_the_first_time_is_issuing_and_its_successors_renewing() {
    let acme = "  nextAttemptTime: 2026-11-21T12:00:05Z\n  acme:\n    challenges:\n    - {type: dns-01, identifier: a.test, state: Valid}\n    - {type: dns-01, identifier: b.test, state: Propagating}\n";
    let renewing = FINE.replace(
        "{type: Issuing, status: \"False\", reason: Issued",
        "{type: Issuing, status: \"True\", reason: Due",
    );
    assert_eq!(
        health(&format!("{renewing}{acme}")),
        (State::Renewing, "Due: 1 of 2 challenges valid".to_owned())
    );
    let first = renewing
        .replace("{type: Ready, status: \"True\"", "{type: Ready, status: \"False\"")
        .replace("reason: Due", "reason: First")
        .replace("failedAttempts: 0", "failedAttempts: 2");
    assert_eq!(
        health(&format!("{first}{acme}")),
        (
            State::Issuing,
            "First: 1 of 2 challenges valid, after 2 failures".to_owned()
        )
    );
}

#[test]
fn a_renewal_that_fails_is_failing_also_while_the_old_one_serves() {
    let failing = FINE
        .replace(
            "{type: Issuing, status: \"False\", reason: Issued",
            "{type: Issuing, status: \"False\", reason: ChallengeFailed",
        )
        .replace("failedAttempts: 0", "failedAttempts: 3");
    assert_eq!(
        health(&failing),
        (State::Failing, "ChallengeFailed: 3 failures".to_owned())
    );
    let held = failing.replace("ChallengeFailed", "ReissueHeld");
    assert_eq!(health(&held).0, State::Held);
}

#[test]
fn steps_that_nobody_takes_tell_that_no_operator_is_there() {
    let late = FINE.replace("renewalTime: 2026-12-20", "renewalTime: 2026-11-20");
    assert_eq!(
        health(&late),
        (State::Failing, "Overdue: the renewal is late".to_owned())
    );
    let late = format!("{FINE}  nextAttemptTime: 2026-11-21T11:00:00Z\n");
    assert_eq!(
        health(&late),
        (State::Failing, "Overdue: the next attempt is late".to_owned())
    );
    let expired = FINE
        .replace("notAfter: 2027-01-19", "notAfter: 2026-11-20")
        .replace("renewalTime: 2026-12-20", "renewalTime: 2026-11-20");
    assert_eq!(health(&expired), (State::Failing, "Expired".to_owned()));
}

#[test]
fn a_suspended_one_is_left_in_peace_while_it_serves() {
    let suspended = |status: &str| health(&format!("spec: {{suspend: true}}\n{status}"));
    assert_eq!(suspended(FINE), (State::Suspended, "Suspended".to_owned()));
    let expired = FINE.replace("notAfter: 2027-01-19", "notAfter: 2026-11-20");
    assert_eq!(
        suspended(&expired),
        (State::Failing, "Suspended: its certificate has expired".to_owned())
    );
    assert_eq!(
        suspended(""),
        (
            State::Failing,
            "Suspended: it has no certificate that serves".to_owned()
        )
    );
}

#[test]
fn a_change_that_the_operator_has_not_seen_is_not_fine_yet() {
    assert_eq!(
        health(&format!("metadata: {{generation: 2}}\n{FINE}")),
        (
            State::Issuing,
            "NotSeen: the last change of the spec is not dealt with".to_owned()
        )
    );
}
