#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::cli::samples::{NOW, gateway, gateway_status};

/// State, reason and detail of a Gateway.
fn of_yaml(yaml: &str, now: &str) -> String {
    let health = of(&gateway("shop", yaml), now.parse().unwrap());
    let reason = health.reason.unwrap_or_default();
    format!("{} {reason} {}", health.state.word(), health.detail)
        .trim_end()
        .to_owned()
}

fn judged(differs: &[(&str, &str, &str, &str)]) -> String {
    of_yaml(&gateway_status(2, &["10.0.0.7"], differs), NOW)
}

#[test]
fn every_trouble_has_its_state_and_the_worst_is_told() {
    let mismatch = ("ExposureVerified", "False", "ExposureMismatch", "m");
    let refused = ("Accepted", "False", "UnknownProvider", "m");
    let unaccepted = ("Programmed", "False", "NotAccepted", "m");
    let waits = ("Programmed", "False", "AddressPending", "m");
    let idle = ("http/Programmed", "False", "NoMatchingPods", "m");
    let no_certificate = ("http/ResolvedRefs", "False", "CertificateNotReady", "m");
    let unverified = ("ExposureVerified", "Unknown", "NotVerified", "m");
    for (differs, expected) in [
        (&[][..], "fine"),
        (&[mismatch, idle], "failing ExposureMismatch"),
        (&[refused, unaccepted], "failing UnknownProvider"),
        (&[waits], "pending AddressPending"),
        (
            &[("Programmed", "False", "RecreateRequired", "m")],
            "failing RecreateRequired",
        ),
        (&[idle], "failing NoMatchingPods http"),
        (&[no_certificate], "pending CertificateNotReady http"),
        (&[unverified], "pending NotVerified"),
    ] {
        assert_eq!(judged(differs), expected, "{differs:?}");
    }
}

#[test]
fn what_passes_by_itself_is_a_failure_when_it_does_not() {
    let status = gateway_status(2, &[], &[("Programmed", "False", "AddressPending", "m")]);
    assert_eq!(of_yaml(&status, "2026-11-21T12:08:00Z"), "pending AddressPending");
    assert_eq!(
        of_yaml(&status, "2026-11-21T12:08:01Z"),
        "failing AddressPending for 10m"
    );
}

#[test]
fn what_nobody_looks_at_is_not_fine() {
    assert_eq!(of_yaml("", NOW), "failing NotSeen the operator has not looked at it");
    assert_eq!(
        of_yaml("metadata: {creationTimestamp: 2026-11-21T11:59:30Z}", NOW),
        "pending NotSeen the operator has not looked at it"
    );
    let changed = format!(
        "{{metadata: {{generation: 2}}, {}",
        gateway_status(2, &["10.0.0.7"], &[]).strip_prefix('{').unwrap()
    );
    assert_eq!(
        of_yaml(&changed, NOW),
        "pending NotSeen the last change of the spec is not dealt with"
    );
}
