#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use Rule::{Expired, Expiring, NotReady, ReissueHeld, RenewalFailed, Renewed};
use Severity::{Critical, Info, Warning};
use serde_json::{Value, json};

use super::*;

fn at(time: &str) -> Timestamp {
    format!("2026-{time}Z").parse().unwrap()
}

/// `app/web`, made on 1 January at noon; `spec` and `status` are merged over a healthy one's of 100 days.
fn certificate(spec: &Value, status: &Value) -> Certificate {
    let mut object = json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Certificate",
        "metadata": {"name": "web", "namespace": "app", "uid": "c0ffee", "creationTimestamp": "2026-01-01T12:00:00Z"},
        "spec": {"secretName": "web-tls", "issuerRef": {"name": "ca"}, "dnsNames": ["www.example.com"]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "Issued", "message": "", "lastTransitionTime": "2026-01-01T12:00:00Z"}],
            "notBefore": "2026-01-01T12:00:00Z", "notAfter": "2026-04-11T12:00:00Z", "renewalTime": "2026-03-09T12:00:00Z",
            "issuedAt": "2026-01-01T12:00:00Z", "revision": 1, "failedAttempts": 0
        }
    });
    for (part, given) in [("spec", spec), ("status", status)] {
        for (key, value) in given.as_object().unwrap() {
            object[part][key] = value.clone();
        }
    }
    serde_json::from_value(object).unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, since: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": format!("2026-{since}Z")})
}

fn rules(rules: &Value) -> RuleSet {
    let rules: Rules = serde_json::from_value(rules.clone()).unwrap();
    RuleSet::parse(Some(&rules)).unwrap()
}

fn all() -> RuleSet {
    rules(
        &json!({"expiring": {}, "expired": {}, "renewalFailed": {}, "notReady": {}, "reissueHeld": {}, "renewed": {"enabled": true}}),
    )
}

/// Returns the findings as `(rule, severity, since)`, and the next moment.
fn judged(
    certificate: &Certificate,
    rules: &RuleSet,
    now: &str,
) -> (Vec<(Rule, Severity, Timestamp)>, Option<Timestamp>) {
    let judgement = judge(certificate, rules, at(now));
    let found = judgement.findings.iter();
    (
        found.map(|found| (found.rule, found.severity, found.since)).collect(),
        judgement.next,
    )
}

#[test]
fn expiring_warns_at_a_quarter_and_is_critical_at_a_tenth() {
    let certificate = certificate(&json!({}), &json!({}));
    let (warning, critical, end) = (at("03-17T12:00:00"), at("04-01T12:00:00"), at("04-11T12:00:00"));
    let table = [
        ("01-02T00:00:00", vec![], Some(warning)),
        ("03-17T11:59:59", vec![], Some(warning)),
        ("03-17T12:00:00", vec![(Expiring, Warning, warning)], Some(critical)),
        ("04-01T11:59:59", vec![(Expiring, Warning, warning)], Some(critical)),
        ("04-01T12:00:00", vec![(Expiring, Critical, warning)], Some(end)),
        (
            "04-11T12:00:00",
            vec![(Expiring, Critical, warning), (Expired, Critical, end)],
            None,
        ),
    ];
    for (now, found, next) in table {
        assert_eq!(judged(&certificate, &all(), now), (found, next), "{now}");
    }
}

#[test]
fn absolute_thresholds_are_times_before_the_end() {
    let certificate = certificate(&json!({}), &json!({}));
    let rules = rules(&json!({"expiring": {"warning": "21d", "critical": "36h"}}));
    let (warning, critical) = (at("03-21T12:00:00"), at("04-10T00:00:00"));
    assert_eq!(judged(&certificate, &rules, "03-21T11:00:00"), (vec![], Some(warning)));
    let found = vec![(Expiring, Warning, warning)];
    assert_eq!(judged(&certificate, &rules, "03-21T12:00:00"), (found, Some(critical)));
    // Only the listed rules: it is not reported as expired.
    let found = vec![(Expiring, Critical, warning)];
    assert_eq!(judged(&certificate, &rules, "05-01T12:00:00"), (found, None));
}

#[test]
fn who_renews_late_on_purpose_is_warned_when_it_is_late_and_no_later_than_the_end() {
    let renewal = json!({"renewalTime": "2026-04-06T12:00:00Z"});
    let late = certificate(&json!({}), &renewal);
    let due = at("04-08T12:00:00");
    assert_eq!(judged(&late, &all(), "04-07T12:00:00"), (vec![], Some(due)));
    let found = vec![(Expiring, Critical, due)];
    assert_eq!(
        judged(&late, &all(), "04-08T12:00:00"),
        (found, Some(at("04-11T12:00:00")))
    );
    // One that is suspended will not be renewed at all.
    let suspended = certificate(&json!({"suspend": true}), &renewal);
    let found = vec![(Expiring, Warning, at("03-17T12:00:00"))];
    assert_eq!(judged(&suspended, &all(), "03-20T12:00:00").0, found);
}

#[test]
fn failures_warn_at_once_and_are_critical_at_the_third() {
    let last = at("02-01T00:00:00");
    for (attempts, severity) in [
        (0, None),
        (1, Some(Warning)),
        (2, Some(Warning)),
        (3, Some(Critical)),
        (9, Some(Critical)),
    ] {
        let failing = certificate(
            &json!({}),
            &json!({"failedAttempts": attempts, "lastFailure": {"time": "2026-02-01T00:00:00Z", "reason": "Rejected", "message": "no"}}),
        );
        let found: Vec<_> = severity
            .map(|severity| (RenewalFailed, severity, last))
            .into_iter()
            .collect();
        assert_eq!(judged(&failing, &all(), "02-01T00:05:00").0, found, "{attempts}");
    }
    let patient = rules(&json!({"renewalFailed": {"afterAttempts": 5}}));
    let failing = |attempts| certificate(&json!({}), &json!({"failedAttempts": attempts}));
    assert_eq!(judged(&failing(4), &patient, "02-01T00:05:00").0, []);
    // Never milder than the warning that it would skip.
    assert_eq!(judged(&failing(5), &patient, "02-01T00:05:00").0[0].1, Critical);
}

#[test]
fn a_certificate_that_waits_for_a_server_that_is_down_warns() {
    let waiting = |reason: &str| {
        let failure = json!({"time": "2026-02-01T00:00:00Z", "reason": reason, "message": "no"});
        certificate(&json!({}), &json!({"failedAttempts": 0, "lastFailure": failure}))
    };
    let found = |certificate: &Certificate, rules: &RuleSet| {
        let judgement = judge(certificate, rules, at("02-02T00:00:00"));
        let mut found = judgement.findings.into_iter();
        found.find(|finding| finding.rule == Rule::RenewalFailed)
    };
    assert_eq!(found(&waiting("Network"), &all()).unwrap().severity, Severity::Warning);
    assert_eq!(found(&waiting("IssuerNotReady"), &all()), None);
    let patient = rules(&json!({"renewalFailed": {"afterAttempts": 2}}));
    assert_eq!(found(&waiting("Network"), &patient), None);
}

#[test]
fn what_is_not_ready_for_ten_minutes_is_critical_also_when_it_never_was() {
    let lost = json!({"serialNumber": "01", "conditions": [condition("Ready", "False", "Issuing", "02-01T00:00:00")], "notBefore": null, "notAfter": null});
    let waiting = certificate(&json!({}), &lost);
    let moment = at("02-01T00:10:00");
    assert_eq!(judged(&waiting, &all(), "02-01T00:09:59"), (vec![], Some(moment)));
    let found = vec![(NotReady, Critical, moment)];
    assert_eq!(judged(&waiting, &all(), "02-01T00:10:00"), (found, None));
    let found = vec![(NotReady, Critical, at("01-01T12:10:00"))];
    let never = json!({"conditions": [condition("Ready", "False", "Issuing", "01-01T12:00:05")], "notBefore": null, "notAfter": null});
    let never = certificate(&json!({}), &never);
    assert_eq!(
        judged(&never, &all(), "01-01T12:10:00"),
        (found.clone(), None),
        "the first look at it changes nothing"
    );
    let mut untouched = certificate(&json!({}), &json!({}));
    untouched.status = None;
    assert_eq!(judged(&untouched, &all(), "01-01T12:10:00"), (found, None));
    untouched.spec.suspend = Some(true);
    assert_eq!(judged(&untouched, &all(), "01-01T12:10:00"), (vec![], None));
}

#[test]
fn a_renewal_that_does_not_reach_its_workloads_warns_after_ten_minutes() {
    let late = |status: &str| {
        let rolled = condition("RolledOut", status, "WorkloadNotFound", "02-01T00:00:00");
        certificate(
            &json!({}),
            &json!({"conditions": [condition("Ready", "True", "Issued", "01-01T12:00:00"), rolled]}),
        )
    };
    let (warning, critical) = (at("02-01T00:10:00"), at("02-02T00:00:00"));
    assert_eq!(
        judged(&late("False"), &all(), "02-01T00:09:59"),
        (vec![], Some(warning))
    );
    let found = vec![(RenewalFailed, Warning, warning)];
    assert_eq!(
        judged(&late("False"), &all(), "02-01T00:10:00"),
        (found, Some(critical))
    );
    assert_eq!(
        judged(&late("False"), &all(), "02-02T00:00:00").0,
        [(RenewalFailed, Critical, warning)]
    );
    assert_eq!(judged(&late("True"), &all(), "02-02T00:00:00").0, []);
    let off = rules(&json!({"notReady": {}}));
    assert_eq!(judged(&late("False"), &off, "02-02T00:00:00").0, []);
}

#[test]
fn what_the_breaker_holds_warns() {
    let ready = condition("Ready", "True", "Issued", "01-01T12:00:00");
    let held = condition("Issuing", "False", "ReissueHeld", "02-01T00:00:00");
    let held = certificate(&json!({}), &json!({"conditions": [ready, held]}));
    let found = vec![(ReissueHeld, Warning, at("02-01T00:00:00"))];
    assert_eq!(judged(&held, &all(), "02-01T00:00:01").0, found);
}

#[test]
fn a_renewal_is_told_for_five_minutes_and_a_first_issue_never() {
    let renewed = certificate(&json!({}), &json!({"issuedAt": "2026-02-01T00:00:00Z", "revision": 2}));
    let (moment, over) = (at("02-01T00:00:00"), at("02-01T00:05:00"));
    let found = vec![(Renewed, Info, moment)];
    assert_eq!(judged(&renewed, &all(), "02-01T00:04:59"), (found, Some(over)));
    assert_eq!(judged(&renewed, &all(), "02-01T00:05:00").0, []);
    let first = certificate(&json!({}), &json!({}));
    assert_eq!(judged(&first, &all(), "01-01T12:00:01").0, []);
    assert_eq!(judged(&renewed, &RuleSet::parse(None).unwrap(), "02-01T00:04:59").0, []);
}

#[test]
fn one_that_is_being_deleted_raises_nothing() {
    let mut going = certificate(&json!({}), &json!({"failedAttempts": 9}));
    going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
    assert_eq!(judged(&going, &all(), "05-01T00:00:00"), (vec![], None));
}

#[test]
fn a_rule_can_be_switched_off() {
    let rules = rules(&json!({"expired": {"enabled": false}, "reissueHeld": {"enabled": false}}));
    let certificate = certificate(
        &json!({}),
        &json!({"conditions": [condition("Issuing", "False", "ReissueHeld", "02-01T00:00:00")]}),
    );
    assert_eq!(judged(&certificate, &rules, "05-01T00:00:00"), (vec![], None));
}
