#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use gatehouse_crds::certificate::{Certificate, CertificateSpec};

use super::*;
use crate::certificate::samples::{self, hours, issued_at};

#[test]
fn what_a_ca_answers_decides_when_it_is_asked_again() {
    let detail = || "no".to_owned();
    let limited = |retry_after| AcmeError::RateLimited {
        retry_after,
        detail: detail(),
    };
    let unavailable = |retry_after| AcmeError::Unavailable {
        status: 503,
        retry_after,
        detail: detail(),
    };
    let host = || "ca.test".to_owned();
    for (error, class, reason) in [
        (limited(Some(hours(2))), Class::RetryAfter(hours(2)), "RateLimited"),
        (limited(None), Class::RetryAfter(hours(1)), "RateLimited"),
        (unavailable(Some(hours(3))), Class::RetryAfter(hours(3)), "Network"),
        (unavailable(None), Class::Transient, "Network"),
        (
            AcmeError::Network {
                host: host(),
                detail: detail(),
            },
            Class::Transient,
            "Network",
        ),
        (
            AcmeError::Timeout {
                host: host(),
                after: Duration::from_secs(30),
            },
            Class::Transient,
            "Network",
        ),
        (
            AcmeError::Malformed {
                status: 200,
                host: host(),
                detail: detail(),
            },
            Class::Transient,
            "Network",
        ),
        (AcmeError::BadNonce { attempts: 5 }, Class::Transient, "Network"),
        (
            AcmeError::InsecureAnswer {
                host: host(),
                url: "http://ca.test/order".to_owned(),
            },
            Class::Transient,
            "Network",
        ),
    ] {
        let failure = failure(&error);
        assert_eq!((failure.class, failure.reason), (class, reason), "{error}");
        assert!(failure.may_fall_back(), "{error}");
    }
    let account = failure(&AcmeError::AccountDoesNotExist { detail: detail() });
    assert!(matches!(account.class, Class::Waiting(_)), "{account:?}");
    // Counted, so that alerts fire and a fallback is asked.
    for refused in [
        AcmeError::Invalid(detail()),
        AcmeError::Unauthorized { detail: detail() },
        AcmeError::ExternalAccountRequired { detail: detail() },
    ] {
        let refused = failure(&refused);
        assert_eq!(refused.class, Class::Refused, "{refused}");
        assert!(refused.may_fall_back(), "{refused}");
    }
}

#[test]
fn an_order_ends_by_its_kind_of_failure() {
    let end = |kind| {
        ended(&acme::Failure {
            kind,
            problems: Vec::new(),
        })
    };
    let class = |progress| match progress {
        Progress::Failed(failure) => failure.class,
        _ => panic!("it has failed"),
    };
    assert_eq!(class(end(FailureKind::ChallengeFailed)), Class::Refused);
    assert_eq!(class(end(FailureKind::Rejected)), Class::Refused);
    assert_eq!(class(end(FailureKind::RateLimited)), Class::RetryAfter(hours(1)));
    assert_eq!(class(end(FailureKind::ServerFailed)), Class::Refused);
    assert!(matches!(end(FailureKind::Lapsed), Progress::Lapsed(_)));
}

#[test]
fn a_chain_is_taken_only_if_it_is_what_was_asked_for() {
    let certificate = samples::certificate("");
    let (desired, pair) = (samples::desired(&certificate), samples::pair(&certificate, issued_at()));
    let pem = pair.chain.pem();
    let pems = std::slice::from_ref(&pem);
    let chain = chosen(pems, Some("No Such Root"), &desired, &pair.key, issued_at()).unwrap();
    assert_eq!(chain.leaf.serial_hex(), pair.leaf().serial_hex());

    let refused = |chains: &[String], desired: &DesiredCertificate, key: &PrivateKey| {
        let failure = chosen(chains, None, desired, key, issued_at()).unwrap_err();
        assert_eq!((failure.reason, failure.class), ("Rejected", Class::Refused));
        failure.message
    };
    let expired = chosen(pems, None, &desired, &pair.key, samples::after(samples::days(90))).unwrap_err();
    assert_eq!(expired.reason, "Rejected");
    refused(&[], &desired, &pair.key);
    refused(&["junk".into()], &desired, &pair.key);
    let other = samples::pair(&certificate, issued_at());
    refused(pems, &desired, &other.key);
    let more = samples::desired(&samples::certificate("ipAddresses: [192.0.2.7]"));
    let message = refused(&[pem], &more, &pair.key);
    assert!(message.contains("192.0.2.7"), "{message}");
}

#[test]
fn an_alternate_chain_is_needed_only_where_it_is_preferred() {
    let certificate = samples::certificate("");
    let (desired, pair) = (samples::desired(&certificate), samples::pair(&certificate, issued_at()));
    let pem = pair.chain.pem();
    let broken = "-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n".to_owned();
    let chain = chosen(
        &[pem.clone(), broken.clone()],
        Some("Root X"),
        &desired,
        &pair.key,
        issued_at(),
    )
    .unwrap();
    assert_eq!(chain.pem(), pem);
    assert!(chosen(&[broken, pem], None, &desired, &pair.key, issued_at()).is_err());

    let own = chain.topmost().issuer_common_name.clone().unwrap();
    let unread = Some("https://ca.test/cert/1/1: the CA does not have it");
    assert_eq!(unchosen(&chain, Some(&own), unread), None);
    assert_eq!(unchosen(&chain, Some("Root X"), None), None);
    assert_eq!(unchosen(&chain, None, unread), None);
    let note = unchosen(&chain, Some("Root X"), unread).unwrap();
    assert!(
        note.contains("https://ca.test/cert/1/1: the CA does not have it") && note.contains("\"Root X\""),
        "{note}"
    );
}

#[test]
fn a_certificate_with_all_ordered_names_is_taken_whatever_else_the_ca_chose() {
    let ordered = samples::desired(&samples::certificate(""));
    let more_names = samples::certificate("");
    let more_names = Certificate {
        spec: CertificateSpec {
            dns_names: vec!["example.com".into(), "WWW.example.com".into()],
            ..more_names.spec
        },
        ..more_names
    };
    for (case, spec) in [
        (
            "a common name of its own",
            samples::certificate("commonName: A Name of the CA"),
        ),
        ("more host names", more_names),
        (
            "names of other forms",
            samples::certificate("ipAddresses: [192.0.2.7]\nuris: [spiffe://example.com/a]"),
        ),
        (
            "another subject",
            samples::certificate("subject: {organizations: [Example CA]}"),
        ),
        ("other usages", samples::certificate("usages: [client auth]")),
        ("another lifetime", samples::certificate("duration: 1h")),
    ] {
        let pair = samples::pair(&spec, issued_at());
        let chain = chosen(&[pair.chain.pem()], None, &ordered, &pair.key, issued_at());
        assert!(chain.is_ok(), "{case}: {chain:?}");
    }
}
