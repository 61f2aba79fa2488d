#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::cli::{
    describe::{exists::Contents, gather::Happening},
    samples::{NOW, certificate},
    status::health,
};

const PAPER: Screen = Screen {
    colour: false,
    width: None,
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn pair() -> Pair {
    Pair {
        not_before: at("2026-10-21T12:00:00Z"),
        not_after: at("2027-01-19T12:00:00Z"),
        serial: "04c1".into(),
        names: vec!["www.example.com".into()],
        key: "ECDSA 256".into(),
        signer: "root".into(),
        mismatches: Vec::new(),
        differences: Vec::new(),
    }
}

fn issuer(
    yaml: &str,
) -> (
    gatehouse_crds::certificate::IssuerRef,
    Seen<gatehouse_crds::issuer::IssuerStatus>,
) {
    let wanted = serde_saphyr::from_str("name: ca").unwrap();
    (wanted, Seen::There(serde_saphyr::from_str(yaml).unwrap()))
}

fn ready() -> (
    gatehouse_crds::certificate::IssuerRef,
    Seen<gatehouse_crds::issuer::IssuerStatus>,
) {
    issuer(
        "conditions: [{type: Ready, status: 'True', reason: Ready, message: m, lastTransitionTime: 2026-10-21T12:00:00Z}]",
    )
}

fn event(time: &str, warning: bool, reason: &str, note: &str) -> Happening {
    Happening {
        at: at(time),
        warning,
        reason: reason.into(),
        note: note.into(),
    }
}

fn described(known: &Known) -> String {
    let now = at(NOW);
    render(known, &health::of(&known.certificate, now), now, PAPER)
}

fn conditions(ready: (&str, &str), issuing: (&str, &str), message: &str) -> String {
    let condition = |kind: &str, (status, reason): (&str, &str)| {
        format!(
            "  - {{type: {kind}, status: \"{status}\", reason: {reason}, message: \"{message}\", lastTransitionTime: 2026-10-21T12:00:00Z, observedGeneration: 1}}\n"
        )
    };
    format!(
        "status:\n  conditions:\n{}{}",
        condition("Ready", ready),
        condition("Issuing", issuing)
    )
}

const VALID: &str = "  notBefore: 2026-10-21T12:00:00Z\n  notAfter: 2027-01-19T12:00:00Z\n  renewalTime: 2026-12-20T12:00:00Z\n  serialNumber: 04c1\n  failedAttempts: 0\n  issuedAt: 2026-10-21T12:00:05Z\n  revision: 3\n  issuer: {kind: Issuer, name: ca}\n";

fn known(certificate: Certificate, secret: Seen<Contents>) -> Known {
    Known {
        certificate,
        secret,
        issuers: vec![ready()],
        events: Seen::There(Vec::new()),
    }
}

fn own(pair: Pair) -> Seen<Contents> {
    Seen::There(Contents {
        owner: Some("web".into()),
        pair: Ok(pair),
    })
}

#[test]
fn a_fine_one_says_when_it_is_renewed_and_why() {
    let status = conditions(("True", "Issued"), ("False", "Issued"), "m");
    let ari = "  acme: {ari: {windowStart: 2026-12-19T00:00:00Z, windowEnd: 2026-12-21T00:00:00Z, explanationURL: 'https://ca.test/why', nextCheckTime: 2026-11-21T18:00:00Z}}\n";
    let mut known = known(certificate("web", &format!("{status}{VALID}{ari}")), own(pair()));
    known.events = Seen::There(vec![
        event("2026-07-21T12:00:00Z", false, "Issued", "Issuer ca signed."),
        event("2026-10-21T12:00:00Z", false, "Renewed", "Issuer ca signed again."),
    ]);
    insta::assert_snapshot!(described(&known));
}

#[test]
fn what_a_ca_chose_and_a_changed_issuer_are_shown() {
    let remark = "It was issued by another. To replace the certificate now: kubectl gatehouse renew -n app web";
    let message =
        format!("The certificate in Secret web-tls was issued and is good until 2027-01-19T12:00:00Z. {remark}");
    let status = conditions(("True", "Issued"), ("False", "Issued"), &message);
    let certificate = certificate("web", &format!("{status}{VALID}"));
    let chosen = Pair {
        differences: vec!["the name example.com is not asked for".into()],
        ..pair()
    };
    let story = described(&known(certificate, own(chosen)));
    assert!(story.contains(remark), "{story}");
    assert!(
        story.contains("it serves the spec, with what its CA decided: the name example.com is not asked for"),
        "{story}"
    );
}

#[test]
fn a_failing_one_names_the_cause_and_what_to_do() {
    let message = "www.example.com: 192.0.2.53 refused: the key is unknown (DnsRefused)";
    let status = conditions(("False", "ChallengeFailed"), ("False", "ChallengeFailed"), message);
    let more = format!(
        "  failedAttempts: 3\n  nextAttemptTime: 2026-11-21T12:09:30Z\n  lastFailure: {{time: 2026-11-21T11:59:30Z, reason: ChallengeFailed, message: \"{message}\"}}\n"
    );
    let spec = "spec:\n  dnsNames: [www.example.com, shop.example.com]\n  fallbackIssuerRefs: [{name: other, kind: ClusterIssuer}]\n  privateKey: {algorithm: RSA, rotationPolicy: Never}\n  duration: 240h\n  renewBefore: 48h\n";
    let mut known = known(certificate("web", &format!("{spec}{status}{more}")), Seen::Missing);
    known.events = Seen::There(vec![event("2026-11-21T11:59:30Z", true, "ChallengeFailed", message)]);
    known.issuers.push((
        serde_saphyr::from_str("{name: other, kind: ClusterIssuer}").unwrap(),
        Seen::Missing,
    ));
    insta::assert_snapshot!(described(&known));
}

#[test]
fn an_order_that_runs_shows_its_challenges() {
    let status = conditions(
        ("False", "Issuing"),
        ("True", "First"),
        "Issuer ca is asked for a certificate, since there is none yet.",
    );
    let more = "  nextAttemptTime: 2026-11-21T12:00:05Z\n  acme:\n    orderURL: https://ca.test/order/1\n    challenges:\n    - {type: http-01, identifier: www.example.com, state: Validating}\n    - {type: dns-01, identifier: shop.example.com, state: Propagating, message: 1 of 2 servers}\n";
    let text = described(&known(certificate("web", &format!("{status}{more}")), Seen::Missing));
    insta::assert_snapshot!(text);
}

#[test]
fn who_may_not_read_the_secret_is_told_what_the_status_knows() {
    let status = conditions(("True", "Issued"), ("False", "Issued"), "m");
    let mut known = known(certificate("web", &format!("{status}{VALID}")), Seen::Forbidden);
    known.events = Seen::Forbidden;
    let text = described(&known);
    for words in [
        "you may not read web-tls (get secrets, in namespace app)",
        "2027-01-19T12:00:00Z (in 59d)",
        "you may not list them",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}

#[test]
fn an_issuer_that_is_not_ready_is_the_story() {
    let message = "Issuer ca is not ready: no route (Network)";
    let status = conditions(("False", "IssuerNotReady"), ("False", "IssuerNotReady"), message);
    let more = "  nextAttemptTime: 2026-11-21T12:05:00Z\n  lastFailure: {time: 2026-11-21T11:59:30Z, reason: IssuerNotReady, message: no route}\n";
    let mut known = known(certificate("web", &format!("{status}{more}")), Seen::Missing);
    known.issuers = vec![issuer(
        "conditions: [{type: Ready, status: 'False', reason: Network, message: no route to 192.0.2.1, lastTransitionTime: 2026-10-21T12:00:00Z}]",
    )];
    let text = described(&known);
    for words in [
        "Issuer ca is not ready: Network: no route to 192.0.2.1",
        "Issuer ca, Network: The ACME server cannot be reached",
        "renew -n app web --wait",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}

#[test]
fn what_is_in_the_secret_is_compared_with_the_spec() {
    let status = conditions(("True", "Issued"), ("False", "Issued"), "m");
    let describe = |secret: Seen<Contents>| described(&known(certificate("web", &format!("{status}{VALID}")), secret));
    let other = Pair {
        serial: "05d2".into(),
        mismatches: vec!["the name www.example.com is missing".into()],
        ..pair()
    };
    let text = describe(own(other));
    assert!(
        text.contains("it is not what the spec asks for: the name www.example.com is missing"),
        "{text}"
    );
    assert!(text.contains("Gatehouse has not seen this certificate yet"), "{text}");
    let text = describe(Seen::There(Contents {
        owner: Some("rival".into()),
        pair: Err("tls.key is not the key of tls.crt".into()),
    }));
    assert!(text.contains("web-tls, which belongs to Certificate rival"), "{text}");
    assert!(
        text.contains("cannot serve: tls.key is not the key of tls.crt"),
        "{text}"
    );
}

#[test]
fn a_suspended_one_has_no_next_step() {
    let status = conditions(("True", "Issued"), ("False", "Issued"), "m");
    let text = described(&known(
        certificate("web", &format!("spec: {{suspend: true}}\n{status}{VALID}")),
        own(pair()),
    ));
    assert!(
        text.contains("it is left alone until spec.suspend is taken away"),
        "{text}"
    );
    assert!(!text.contains("What to do"), "{text}");
}
