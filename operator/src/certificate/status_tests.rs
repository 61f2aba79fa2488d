#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::time::Duration;

use gatehouse_crds::certificate::ChallengeState;
use proptest::prelude::*;

use super::*;
use crate::certificate::samples::{self, after, ca, days, hours, issued_at};

/// Conditions in a line: `Ready=True Issued, Issuing=False Issued`.
fn summary(status: &CertificateStatus) -> String {
    let line = |type_| {
        conditions::find(&status.conditions, type_).map_or_else(
            || format!("{type_}=?"),
            |condition| format!("{type_}={} {}", condition.status, condition.reason),
        )
    };
    format!("{}, {}", line(READY), line(ISSUING))
}

fn at(certificate: &Certificate, now: Timestamp) -> StatusBuilder<'_> {
    StatusBuilder { certificate, now }
}

fn fresh() -> Certificate {
    samples::certificate("")
}

/// Issued at [`issued_at`] for 90 days.
fn served() -> Certificate {
    let certificate = fresh();
    let pair = samples::pair(&certificate, issued_at());
    samples::with_issued(certificate, &pair, issued_at())
}

fn with(mut certificate: Certificate, status: CertificateStatus) -> Certificate {
    certificate.status = Some(status);
    certificate
}

fn failure(class: Class, reason: &'static str) -> Failure {
    Failure::new(class, reason, "it went wrong")
}

fn order() -> Order {
    Order {
        url: "https://ca.test/order/1".into(),
        server: "https://ca.test/directory".into(),
        request_hash: "1-abc".into(),
        waiting_since: Some(issued_at()),
        challenges: vec![ChallengeStatus {
            kind: "dns-01".into(),
            identifier: "www.example.com".into(),
            state: ChallengeState::Presenting,
            message: None,
        }],
        look_again: after(hours(1)),
    }
}

#[test]
fn the_first_certificate_is_told_whole() {
    let certificate = fresh();
    let pair = samples::pair(&certificate, issued_at());
    let first_check = after(Duration::from_secs(40));
    let status = at(&certificate, issued_at()).issued(&Issued {
        pair: &pair,
        issuer: Some(ca()),
        is_new: true,
        answers_request: false,
        written: None,
        noted: None,
        first_advice: Some(first_check),
        certificate_url: None,
        differences: Vec::new(),
        ready_issuer: None,
        authority: None,
    });
    assert_eq!(summary(&status), "Ready=True Issued, Issuing=False Issued");
    assert_eq!(
        (status.not_before, status.not_after),
        (Some(pair.leaf().not_before), Some(after(days(90))))
    );
    assert_eq!(status.serial_number, Some(pair.leaf().serial_hex()));
    assert_eq!(status.fingerprint_sha256, Some(pair.leaf().fingerprint_sha256()));
    assert_eq!((status.issuer, status.issued_at), (Some(ca()), Some(issued_at())));
    assert_eq!((status.revision, status.failed_attempts), (Some(1), Some(0)));
    assert_eq!((status.last_failure, status.next_attempt_time), (None, None));
    let renewal = status.renewal_time.unwrap();
    assert!(after(days(58)) < renewal && renewal <= after(days(60)), "{renewal}");
    let ari = status.acme.unwrap().ari.unwrap();
    assert_eq!((ari.next_check_time, ari.window_start), (Some(first_check), None));
}

#[test]
fn ready_stays_while_a_certificate_is_renewed_and_goes_without_one() {
    for (cause, now, ready) in [
        (IssuanceReason::Due, days(60), "True Issued"),
        (IssuanceReason::Advised, days(3), "True Issued"),
        (IssuanceReason::Requested, days(3), "True Issued"),
        (IssuanceReason::Expired, days(91), "False Issuing"),
        (IssuanceReason::Due, days(91), "False Issuing"),
        (IssuanceReason::SpecChanged, days(3), "False Issuing"),
        (IssuanceReason::SecretMissing, days(3), "False Issuing"),
        (IssuanceReason::SecretDamaged, days(3), "False Issuing"),
        (IssuanceReason::Consent, days(3), "False Issuing"),
    ] {
        let status = at(&served(), after(now)).issuing(cause, &ca(), None);
        assert_eq!(
            summary(&status),
            format!("Ready={ready}, Issuing=True {}", cause.as_str()),
            "{cause:?}"
        );
    }
    let status = at(&fresh(), issued_at()).issuing(IssuanceReason::First, &ca(), None);
    assert_eq!(summary(&status), "Ready=False Issuing, Issuing=True First");
}

#[test]
fn an_order_in_flight_is_in_the_status_beside_the_advice() {
    let mut certificate = served();
    let advice = AriStatus {
        window_start: Some(issued_at()),
        ..AriStatus::default()
    };
    certificate.status.as_mut().unwrap().acme.get_or_insert_default().ari = Some(advice.clone());
    let status = at(&certificate, after(days(60))).issuing(IssuanceReason::Due, &ca(), Some(order()));
    assert_eq!(status.next_attempt_time, Some(after(hours(1))));
    assert_eq!(
        status.acme,
        Some(AcmeStatus {
            order_url: Some("https://ca.test/order/1".into()),
            order_issuer: Some(ca()),
            order_server: Some("https://ca.test/directory".into()),
            order_request: Some("1-abc".into()),
            waiting_since: Some(issued_at()),
            certificate_url: None,
            ari: Some(advice.clone()),
            challenges: order().challenges,
        })
    );

    // One that was only interrupted is taken up again; one that was refused is not.
    let in_flight = with(certificate, status);
    for (class, kept) in [
        (Class::Transient, true),
        (Class::RetryAfter(hours(1)), true),
        (Class::Refused, false),
        (Class::Waiting(hours(1)), false),
    ] {
        let status = at(&in_flight, after(days(61))).failed(&failure(class, "Network"), Some(IssuanceReason::Due));
        let acme = status.acme.unwrap();
        assert_eq!(acme.order_url.is_some(), kept, "{class:?}");
        assert_eq!(acme.ari, Some(advice.clone()), "{class:?}");
    }
}

#[test]
fn a_failure_is_told_with_its_next_attempt() {
    for (certificate, class, reason, cause, ready) in [
        (
            served(),
            Class::Transient,
            "Network",
            IssuanceReason::Due,
            "Ready=True Issued",
        ),
        (
            served(),
            Class::Refused,
            "Rejected",
            IssuanceReason::SpecChanged,
            "Ready=False Rejected",
        ),
        (
            served(),
            Class::Waiting(hours(1)),
            "SecretConflict",
            IssuanceReason::Due,
            "Ready=False SecretConflict",
        ),
        (
            fresh(),
            Class::Transient,
            "Network",
            IssuanceReason::First,
            "Ready=False Network",
        ),
        (
            fresh(),
            Class::Spec,
            "Invalid",
            IssuanceReason::First,
            "Ready=False Invalid",
        ),
    ] {
        let now = after(days(60));
        let status = at(&certificate, now).failed(&failure(class, reason), Some(cause));
        assert_eq!(summary(&status), format!("{ready}, Issuing=False {reason}"));
        let last = status.last_failure.unwrap();
        assert_eq!(
            (last.time, last.reason.as_str(), last.message.as_str()),
            (now, reason, "it went wrong")
        );
        assert!(status.next_attempt_time.unwrap() > now, "{reason}");
    }
}

#[test]
fn attempts_are_counted_but_not_those_that_only_wait_and_success_forgets_them() {
    let mut certificate = fresh();
    let mut counts = Vec::new();
    for class in [
        Class::Transient,
        Class::Refused,
        Class::Waiting(hours(1)),
        Class::RetryAfter(hours(1)),
    ] {
        let status = at(&certificate, issued_at()).failed(&failure(class, "Network"), Some(IssuanceReason::First));
        counts.push(status.failed_attempts.unwrap());
        certificate = with(certificate, status);
    }
    assert_eq!(counts, [1, 2, 2, 3]);
    let pair = samples::pair(&certificate, issued_at());
    let status = samples::with_issued(certificate, &pair, issued_at()).status.unwrap();
    assert_eq!(
        (status.failed_attempts, status.last_failure, status.next_attempt_time),
        (Some(0), None, None)
    );
}

#[test]
fn a_renewal_counts_and_an_adoption_is_the_first() {
    let certificate = served();
    let second = samples::pair(&certificate, after(days(60)));
    let renewed = samples::with_issued(certificate, &second, after(days(60)))
        .status
        .unwrap();
    assert_eq!((renewed.revision, renewed.issued_at), (Some(2), Some(after(days(60)))));

    let certificate = fresh();
    let pair = samples::pair(&certificate, issued_at());
    let there_already = Issued {
        pair: &pair,
        issuer: None,
        is_new: false,
        answers_request: false,
        written: None,
        noted: None,
        first_advice: None,
        certificate_url: None,
        differences: Vec::new(),
        ready_issuer: None,
        authority: None,
    };
    let adopted = at(&certificate, after(days(1))).issued(&there_already);
    assert_eq!(summary(&adopted), "Ready=True Adopted, Issuing=False Issued");
    assert_eq!(
        (adopted.revision, adopted.issuer.clone(), adopted.issued_at),
        (Some(1), None, Some(pair.leaf().not_before))
    );
    // Rewritten in another form it is still the same.
    let again = at(&with(certificate, adopted.clone()), after(days(2))).issued(&there_already);
    assert_eq!(again, adopted);
}

#[test]
fn a_secret_that_is_mended_changes_nothing_in_the_status_whatever_its_notes_said() {
    let certificate = fresh();
    let pair = samples::pair(&certificate, issued_at());
    let certificate = samples::with_issued(certificate, &pair, issued_at());
    let rewritten = Issued {
        pair: &pair,
        issuer: Some(SigningIssuer {
            name: "another".into(),
            ..ca()
        }),
        is_new: false,
        answers_request: false,
        written: Some(after(days(1))),
        noted: None,
        first_advice: None,
        certificate_url: None,
        differences: Vec::new(),
        ready_issuer: None,
        authority: None,
    };
    assert_eq!(
        Some(at(&certificate, after(days(1))).issued(&rewritten)),
        certificate.status
    );
}

#[test]
fn a_held_one_says_until_when_and_how_to_get_it_through() {
    let until = after(days(1));
    let status = at(&served(), after(hours(1))).held(IssuanceReason::SecretMissing, until);
    assert_eq!(summary(&status), "Ready=False ReissueHeld, Issuing=False ReissueHeld");
    assert_eq!(status.next_attempt_time, Some(until));
    let message = &conditions::find(&status.conditions, READY).unwrap().message;
    for part in [
        until.to_string(),
        "-n app".into(),
        "web".into(),
        names::RENEW_REQUESTED_AT.into(),
    ] {
        assert!(message.contains(&part), "{part}: {message}");
    }
}

#[test]
fn a_suspended_one_has_nothing_under_way() {
    let order = Order {
        url: "https://ca.test/order/1".into(),
        server: "https://ca.test/directory".into(),
        request_hash: "1-a".into(),
        waiting_since: None,
        challenges: Vec::new(),
        look_again: after(hours(1)),
    };
    let ordering = |certificate: Certificate, cause| {
        let status = at(&certificate, after(days(1))).issuing(cause, &ca(), Some(order.clone()));
        with(certificate, status)
    };
    for (before, cause, expected) in [
        (
            fresh(),
            IssuanceReason::First,
            "Ready=False Suspended, Issuing=False Suspended",
        ),
        (
            served(),
            IssuanceReason::Due,
            "Ready=True Issued, Issuing=False Suspended",
        ),
    ] {
        let status = at(&ordering(before, cause), after(days(2))).suspended();
        assert_eq!(summary(&status), expected);
        assert_eq!((status.next_attempt_time, status.acme.clone()), (None, None));
        let again = with(fresh(), status.clone());
        assert_eq!(at(&again, after(days(3))).suspended(), status, "said once");
    }
    assert_eq!(
        summary(&at(&fresh(), after(days(1))).suspended()),
        "Ready=False Suspended, Issuing=False Suspended"
    );
}

#[test]
fn looking_again_at_what_serves_changes_nothing() {
    let certificate = served();
    let status = certificate.status.clone().unwrap();
    let again = at(&certificate, after(days(3))).serving(status.renewal_time.unwrap(), None);
    assert_eq!(again, status);
    let issuer = samples::ready_issuer();
    let again = at(&certificate, after(days(3))).serving(status.renewal_time.unwrap(), Some(&issuer));
    assert_eq!(again, status);
}

proptest! {
    #[test]
    fn one_that_is_not_ready_always_has_a_next_attempt(
        seconds in 0u64..100 * 86_400,
        issued: bool,
        class in prop_oneof![
            Just(Class::Transient),
            Just(Class::Refused),
            Just(Class::Spec),
            (1u64..1_000_000).prop_map(|wait| Class::RetryAfter(Duration::from_secs(wait))),
            (1u64..1_000_000).prop_map(|wait| Class::Waiting(Duration::from_secs(wait))),
        ],
        cause in proptest::sample::select(vec![IssuanceReason::First, IssuanceReason::Due, IssuanceReason::SpecChanged, IssuanceReason::SecretMissing, IssuanceReason::Expired]),
    ) {
        static SERVED: std::sync::LazyLock<Certificate> = std::sync::LazyLock::new(served);
        let now = after(Duration::from_secs(seconds));
        let certificate = if issued { SERVED.clone() } else { fresh() };
        let status = at(&certificate, now).failed(&failure(class, "Network"), Some(cause));
        prop_assert!(status.next_attempt_time.is_some_and(|time| time > now), "{status:?}");
        if conditions::is_true(&status.conditions, READY) {
            prop_assert!(status.not_after.is_some_and(|end| end > now), "{status:?}");
        }
    }
}

#[test]
fn a_restored_pair_keeps_its_age_so_that_no_old_request_is_answered_again() {
    let pair = samples::pair(&samples::certificate(""), issued_at());
    let mut certificate = samples::certificate("");
    let asked = issued_at();
    certificate.metadata.annotations = Some([(names::RENEW_REQUESTED_AT.into(), asked.to_string())].into());
    let now = samples::after(samples::hours(5));
    let restored = |noted: Option<Timestamp>| {
        let status = at(&certificate, now).issued(&Issued {
            pair: &pair,
            issuer: None,
            is_new: false,
            answers_request: false,
            written: None,
            noted,
            first_advice: None,
            certificate_url: None,
            differences: Vec::new(),
            ready_issuer: None,
            authority: None,
        });
        let mut after = certificate.clone();
        after.status = Some(status);
        crate::certificate::decide::is_requested(&after, now)
    };
    // notBefore is a minute before the issue, and so before the request that it answered.
    assert!(pair.leaf().not_before < asked);
    assert!(!restored(Some(asked)));
    // The stamp of an issue that answers a request is rounded up to the next second.
    let soon = now.checked_add(Duration::from_secs(1)).unwrap();
    assert!(!restored(Some(soon)));
    assert!(restored(None), "nothing says when it was issued");
    assert!(restored(Some(samples::after(samples::days(1)))), "in the future");
}
