#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use gatehouse_crds::certificate::{IssuerKind, SigningIssuer};

use crate::certificate::status::{Issued, StatusBuilder};

const START: &str = "2026-01-01T00:00:00Z";
const END: &str = "2026-04-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A Certificate that was issued at [`START`] and is good until [`END`]; `more` is merged into it.
fn certificate(more: &str) -> Certificate {
    let mut value = serde_json::json!({
        "apiVersion": "gatehouse.dev/v1alpha1",
        "kind": "Certificate",
        "metadata": {"name": "web", "namespace": "app", "uid": "u", "generation": 1},
        "spec": {"secretName": "web-tls", "issuerRef": {"name": "ca"}, "dnsNames": ["web.test"]},
        "status": {
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Issued", "message": "", "observedGeneration": 1, "lastTransitionTime": START},
                {"type": "Issuing", "status": "False", "reason": "Issued", "message": "", "observedGeneration": 1, "lastTransitionTime": START},
            ],
            "notBefore": START, "notAfter": END, "serialNumber": "01", "issuedAt": START, "revision": 1,
        },
    });
    let more: serde_json::Value = serde_saphyr::from_str(more).unwrap();
    merge(&mut value, &more);
    serde_json::from_value(value).unwrap()
}

fn merge(into: &mut serde_json::Value, more: &serde_json::Value) {
    match (into, more) {
        (serde_json::Value::Object(into), serde_json::Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// Its Secret, as we wrote it.
fn metadata(certificate: &Certificate) -> SecretMetadata {
    let desired = DesiredCertificate::parse(&certificate.spec).unwrap();
    SecretMetadata {
        namespace: "app".into(),
        name: "web-tls".into(),
        certificate: Some("web".into()),
        intact: true,
        serial_number: Some("01".into()),
        not_after: Some(at(END)),
        request_hash: Some(desired.request_hash),
        output_hash: Some(desired.output_hash),
        template: desired.template,
        ..SecretMetadata::default()
    }
}

/// The decision when the Secret is as `metadata` say.
fn decide(certificate: &Certificate, metadata: Option<&SecretMetadata>, now: &str) -> Decision {
    super::decide(&Observed {
        certificate,
        desired: &DesiredCertificate::parse(&certificate.spec),
        secret: metadata.map_or(Secret::Absent, Secret::Seen),
        passwords: None,
        rival: None,
        in_flight: false,
        has_order: false,
        spends_order: false,
        issuers: Since::default(),
        changed: false,
        pause: Pause::default(),
        now: at(now),
    })
}

fn requested(time: &str) -> Certificate {
    certificate(&format!(
        "metadata: {{annotations: {{gatehouse.dev/renew-requested-at: \"{time}\"}}}}"
    ))
}

#[test]
fn a_request_in_the_future_is_due_then_and_not_before() {
    let asked = requested("2026-01-10T00:00:00Z");
    let metadata = metadata(&asked);
    assert!(
        matches!(decide(&asked, Some(&metadata), "2026-01-09T23:59:59Z"), Decision::UpToDate { next, .. } if next == at("2026-01-10T00:00:00Z"))
    );
    assert_eq!(
        decide(&asked, Some(&metadata), "2026-01-10T00:00:00Z"),
        Decision::Issue(IssuanceReason::Requested)
    );
}

#[test]
fn a_request_is_answered_once_though_it_came_in_the_same_second() {
    let asked = requested("2026-01-10T00:00:00.5Z");
    let failure = Failure::new(Class::Transient, "Network", "no");
    let now = at("2026-01-10T00:00:00.7Z");
    let mut failed = asked.clone();
    failed.status = Some(
        StatusBuilder {
            certificate: &asked,
            now,
        }
        .failed(&failure, Some(IssuanceReason::Requested)),
    );
    assert!(matches!(
        decide(&failed, Some(&metadata(&asked)), "2026-01-10T00:00:00.8Z"),
        Decision::BackOff { .. }
    ));
}

/// A pair for the tests' spec, and the facts of the Secret that we wrote it to.
fn pair() -> crate::certificate::observed_secret::KeyPair {
    let spec = certificate("{}").spec;
    let desired = DesiredCertificate::parse(&spec).unwrap();
    let key = crate::pki::PrivateKey::generate(desired.key).unwrap();
    crate::certificate::signing::by_itself(&desired, key.into(), at("2026-03-01T00:00:00Z")).unwrap()
}

#[test]
fn a_pair_that_a_crash_kept_out_of_the_status_is_noted_as_what_it_is() {
    // The advice is about the certificate before: its window is past.
    let before = certificate(
        r#"{metadata: {annotations: {gatehouse.dev/renew-requested-at: "2026-03-01T00:00:00Z"}},
            status: {issuer: {kind: Issuer, name: old},
                     acme: {orderURL: "https://ca.test/order/1",
                            ari: {windowStart: "2026-02-01T00:00:00Z", windowEnd: "2026-02-02T00:00:00Z"}}}}"#,
    );
    let pair = pair();
    let now = at("2026-03-01T00:00:10Z");
    let status = StatusBuilder {
        certificate: &before,
        now,
    }
    .issued(&Issued {
        pair: &pair,
        issuer: Some(SigningIssuer {
            kind: IssuerKind::Issuer,
            name: "ca".into(),
        }),
        is_new: false,
        answers_request: false,
        written: Some(at("2026-03-01T00:00:05Z")),
        noted: None,
        first_advice: None,
        certificate_url: None,
        differences: Vec::new(),
        ready_issuer: None,
        authority: None,
    });
    assert_eq!(status.revision, Some(2));
    assert_eq!(status.issuer.as_ref().unwrap().name, "ca");
    assert_eq!(status.issued_at, Some(at("2026-03-01T00:00:05Z")));
    assert_eq!(status.acme, None);
    let mut after = before.clone();
    let metadata = SecretMetadata {
        serial_number: status.serial_number.clone(),
        not_after: status.not_after,
        ..metadata(&before)
    };
    after.status = Some(status);
    assert!(matches!(
        decide(&after, Some(&metadata), "2026-03-01T00:00:11Z"),
        Decision::UpToDate { .. }
    ));
}

#[test]
fn what_was_under_way_leaves_no_trace_once_all_is_well() {
    let before = certificate(
        r#"{status: {failedAttempts: 3,
                     acme: {orderURL: "https://ca.test/order/1", ari: {nextCheckTime: "2026-02-01T00:00:00Z"}}}}"#,
    );
    let now = at("2026-01-02T00:00:00Z");
    let status = StatusBuilder {
        certificate: &before,
        now,
    }
    .serving(at("2026-03-01T00:00:00Z"), None);
    assert_eq!(status.failed_attempts, Some(0));
    let acme = status.acme.unwrap();
    assert_eq!(acme.order_url, None);
    assert_eq!(acme.ari.unwrap().next_check_time, Some(at("2026-02-01T00:00:00Z")));
}

#[test]
fn a_request_in_the_second_of_an_issue_is_answered_and_once() {
    let asked = requested("2026-01-10T00:00:00.5Z");
    let mut before = asked.clone();
    before.status.as_mut().unwrap().issued_at = Some(at("2026-01-10T00:00:00Z"));
    let now = at("2026-01-10T00:00:00.7Z");
    assert!(is_requested(&before, now), "issued just before");
    let pair = pair();
    let mut after = before.clone();
    after.status = Some(
        StatusBuilder {
            certificate: &before,
            now,
        }
        .issued(&Issued {
            pair: &pair,
            issuer: None,
            is_new: true,
            answers_request: false,
            written: None,
            noted: None,
            first_advice: None,
            certificate_url: None,
            differences: Vec::new(),
            ready_issuer: None,
            authority: None,
        }),
    );
    assert!(!is_requested(&after, at("2026-01-10T00:00:00.8Z")));
}

#[test]
fn a_request_stands_until_a_certificate_answers_it() {
    let asked = requested("2026-01-10T00:00:00Z");
    assert!(!is_requested(&asked, at("2026-01-09T23:59:59Z")));
    assert!(is_requested(&asked, at("2026-01-10T00:00:00Z")));
    let mut answered = asked.clone();
    answered.status.as_mut().unwrap().issued_at = Some(at("2026-01-10T00:00:00Z"));
    assert!(!is_requested(&answered, at("2026-01-11T00:00:00Z")));
    assert!(!is_requested(&certificate("{}"), at("2026-01-11T00:00:00Z")));
}

#[test]
fn a_changed_object_ends_the_pause_of_those_who_waited_for_it() {
    let holds = |reason: &str, changed: bool| {
        let failed = certificate(&format!(
            r#"{{status: {{lastFailure: {{time: "2026-03-10T00:00:00Z", reason: {reason}, message: missing}},
                          nextAttemptTime: "2026-03-11T00:00:00Z"}}}}"#
        ));
        let decision = super::decide(&Observed {
            certificate: &failed,
            desired: &DesiredCertificate::parse(&failed.spec),
            secret: Secret::Absent,
            passwords: None,
            rival: None,
            in_flight: false,
            has_order: false,
            spends_order: false,
            issuers: Since::default(),
            changed,
            pause: Pause::default(),
            now: at("2026-03-10T01:00:00Z"),
        });
        matches!(decision, Decision::BackOff { .. })
    };
    for (reason, changed, pair) in [
        ("KeystoreFailed", false, true),
        ("KeystoreFailed", true, false),
        ("SecretWriteFailed", false, true),
        ("SecretWriteFailed", true, false),
        // No Secret of the Certificate's helps against these.
        ("ChallengeFailed", true, true),
        ("RateLimited", true, true),
        ("IssuerNotReady", true, true),
    ] {
        assert_eq!(holds(reason, changed), pair, "{reason} {changed}");
    }
}

#[test]
fn a_refreshed_issuer_ends_the_pause_and_one_that_stayed_ready_does_not() {
    let hold = |reason: &str, since: Since, pause: Pause| {
        let failed = certificate(&format!(
            r#"{{status: {{lastFailure: {{time: "2026-03-10T00:00:00Z", reason: {reason}, message: refused}},
                          nextAttemptTime: "2026-03-11T00:00:00Z"}}}}"#
        ));
        let decision = super::decide(&Observed {
            certificate: &failed,
            desired: &DesiredCertificate::parse(&failed.spec),
            secret: Secret::Seen(&metadata(&failed)),
            passwords: None,
            rival: None,
            in_flight: false,
            has_order: false,
            spends_order: false,
            issuers: since,
            changed: false,
            pause,
            now: at("2026-03-10T01:00:00Z"),
        });
        matches!(decision, Decision::BackOff { .. })
    };
    // The attempt began at revision 7 of the registry: what happened in the same tick of the clock has its order.
    let (never, before, same, after) = (0, 6, 7, 8);
    for (reason, ready, refreshed, pair) in [
        ("IssuerNotReady", never, never, true),
        ("IssuerNotReady", before, before, true),
        ("IssuerNotReady", same, same, true),
        ("IssuerNotReady", after, never, false),
        ("IssuerNotReady", before, after, false),
        ("ChallengeFailed", after, never, true),
        ("ChallengeFailed", before, before, true),
        ("ChallengeFailed", same, same, true),
        ("ChallengeFailed", before, after, false),
        ("Network", same, same, true),
        ("RateLimited", after, after, true),
    ] {
        let since = Since {
            ready,
            refreshed,
            ..Since::default()
        };
        let pause = Pause {
            revision: 7,
            ..Pause::default()
        };
        assert_eq!(hold(reason, since, pause), pair, "{reason} {ready:?} {refreshed:?}");
    }
    // Another process failed, and this one finds the issuer ready: Certificates that waited for it continue, others don't.
    let found = Since {
        examined: 1,
        ready: 1,
        refreshed: 0,
    };
    assert!(!hold("IssuerNotReady", found, Pause::default()));
    assert!(hold("Network", found, Pause::default()));
    // A CA that is back ends the pause that its absence made.
    let over = Pause {
        revision: 7,
        is_over: true,
        ..Pause::default()
    };
    assert!(!hold("Network", Since::default(), over));
    assert!(!hold("RateLimited", Since::default(), over));
}

#[test]
fn a_changed_template_is_written_again_without_another_certificate() {
    let templated = certificate("spec: {secretTemplate: {labels: {team: shop}}}");
    let whole = metadata(&templated);
    let now = "2026-01-02T00:00:00Z";
    assert!(matches!(
        decide(&templated, Some(&whole), now),
        Decision::UpToDate { .. }
    ));
    let taken = SecretMetadata {
        template: metadata(&certificate("{}")).template,
        ..whole
    };
    assert_eq!(decide(&templated, Some(&taken), now), Decision::ReadSecret);
    let pair = pair();
    let read = SecretMetadata {
        serial_number: Some(pair.leaf().serial_hex()),
        ..taken
    };
    let mut known = templated.clone();
    let status = known.status.get_or_insert_default();
    status.serial_number = read.serial_number.clone();
    let contents = Ok(pair);
    let observed = Observed {
        certificate: &known,
        desired: &DesiredCertificate::parse(&known.spec),
        secret: Secret::Read(&read, &contents),
        passwords: None,
        rival: None,
        in_flight: false,
        has_order: false,
        spends_order: false,
        issuers: Since::default(),
        changed: false,
        pause: Pause::default(),
        now: at("2026-01-02T00:00:00Z"),
    };
    assert_eq!(super::decide(&observed), Decision::Write);
}

#[test]
fn a_secret_that_the_watch_does_not_show_is_read_before_it_counts_as_missing() {
    let mut fresh = certificate("{}");
    fresh.status = None;
    let issued = certificate("{}");
    let decided = |certificate: &Certificate, secret, spends_order, has_order| {
        super::decide(&Observed {
            certificate,
            desired: &DesiredCertificate::parse(&certificate.spec),
            secret,
            passwords: None,
            rival: None,
            in_flight: false,
            has_order,
            spends_order,
            issuers: Since::default(),
            changed: false,
            pause: Pause::default(),
            now: at("2026-01-02T00:00:00Z"),
        })
    };
    let (first, missing) = (
        Decision::Issue(IssuanceReason::First),
        Decision::Issue(IssuanceReason::SecretMissing),
    );
    for (certificate, secret, spends_order, has_order, expected) in [
        (&fresh, Secret::NotSeen, false, false, first.clone()),
        (&fresh, Secret::NotSeen, true, false, Decision::ReadSecret),
        (&fresh, Secret::Absent, true, false, first.clone()),
        (&fresh, Secret::NotSeen, true, true, first),
        (&issued, Secret::NotSeen, false, false, Decision::ReadSecret),
        (&issued, Secret::Absent, false, false, missing.clone()),
        (&issued, Secret::NotSeen, true, true, missing),
    ] {
        let got = decided(certificate, secret, spends_order, has_order);
        assert_eq!(got, expected, "{secret:?} {spends_order} {has_order}");
    }
}

#[test]
fn changed_passwords_have_the_keystores_checked_when_all_else_is_up_to_date() {
    let certificate = certificate("{}");
    let metadata = SecretMetadata {
        passwords: Some("before".into()),
        ..metadata(&certificate)
    };
    let decided = |metadata: &SecretMetadata, passwords| {
        super::decide(&Observed {
            certificate: &certificate,
            desired: &DesiredCertificate::parse(&certificate.spec),
            secret: Secret::Seen(metadata),
            passwords,
            rival: None,
            in_flight: false,
            has_order: false,
            spends_order: false,
            issuers: Since::default(),
            changed: false,
            pause: Pause::default(),
            now: at("2026-01-02T00:00:00Z"),
        })
    };
    assert_eq!(decided(&metadata, Some("after")), Decision::CheckKeystores);
    assert!(matches!(decided(&metadata, Some("before")), Decision::UpToDate { .. }));
    assert!(matches!(decided(&metadata, None), Decision::UpToDate { .. }));
    let damaged = SecretMetadata {
        intact: false,
        ..metadata.clone()
    };
    assert_eq!(decided(&damaged, Some("after")), Decision::ReadSecret);
}
