#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use crate::certificate::{
    samples::{self, after, days, issued_at},
    status::{READY, StatusBuilder},
};
use crate::kubernetes::conditions;

fn acme(server: &str, takes_duration: bool) -> ReadyIssuer {
    ReadyIssuer {
        authority: SigningAuthority {
            kind: AuthorityType::ACME,
            server: Some(server.into()),
            key_id: None,
        },
        takes_duration,
    }
}

fn ca(key_id: Option<&str>) -> ReadyIssuer {
    ReadyIssuer {
        authority: SigningAuthority {
            kind: AuthorityType::CA,
            server: None,
            key_id: key_id.map(str::to_owned),
        },
        takes_duration: true,
    }
}

fn own_key() -> ReadyIssuer {
    ReadyIssuer {
        authority: SigningAuthority {
            kind: AuthorityType::SelfSigned,
            server: None,
            key_id: None,
        },
        takes_duration: true,
    }
}

const STAGING: &str = "https://staging.test/directory";
const PRODUCTION: &str = "https://production.test/directory";

/// Issued for 90 days by `signed`; the spec has `more`.
fn issued(signed: Option<&ReadyIssuer>, more: &str) -> Certificate {
    let pair = samples::pair(&samples::certificate(""), issued_at());
    let mut certificate = samples::with_issued(samples::certificate(more), &pair, issued_at());
    certificate.status.as_mut().unwrap().authority = signed.map(|issuer| issuer.authority.clone());
    certificate
}

/// The status after another look, a day later.
fn looked_at(certificate: &Certificate, issuer: Option<&ReadyIssuer>) -> CertificateStatus {
    let before = StatusBuilder {
        certificate,
        now: after(days(1)),
    };
    let renewal = certificate.status.as_ref().unwrap().renewal_time.unwrap();
    before.serving(renewal, issuer)
}

fn message(status: &CertificateStatus) -> String {
    let ready = conditions::find(&status.conditions, READY).unwrap();
    assert_eq!(ready.status, "True");
    ready.message.clone()
}

#[test]
fn an_issuer_that_signs_with_something_else_now_is_reported_with_the_command() {
    for (case, signed, now, reported) in [
        ("the same server", acme(STAGING, false), acme(STAGING, true), false),
        (
            "the same server, written otherwise",
            acme(STAGING, false),
            acme("https://Staging.test:443/directory/", false),
            false,
        ),
        ("another server", acme(STAGING, false), acme(PRODUCTION, false), true),
        ("a CA in place of a server", acme(STAGING, false), ca(Some("aa")), true),
        ("a server in place of a CA", ca(Some("aa")), acme(STAGING, false), true),
        ("the CA has another key", ca(Some("aa")), ca(Some("bb")), true),
        ("the CA was renewed with its key", ca(Some("aa")), ca(Some("aa")), false),
        ("a CA without identifier", ca(Some("aa")), ca(None), false),
        ("a CA in place of its own key", own_key(), ca(Some("aa")), true),
        ("its own key", own_key(), own_key(), false),
    ] {
        let certificate = issued(Some(&signed), "");
        let status = looked_at(&certificate, Some(&now));
        let text = message(&status);
        assert_eq!(
            text.contains("kubectl gatehouse renew -n app web"),
            reported,
            "{case}: {text}"
        );
        assert_eq!(status.authority, Some(signed.authority), "{case}");
        if reported {
            let renewal = status.renewal_time.unwrap().to_string();
            assert!(text.contains("Issuer ca") && text.contains(&renewal), "{case}: {text}");
        }
        // Said once, and kept while the issuer is not known, as after a restart.
        let again = Certificate {
            status: Some(status.clone()),
            ..certificate
        };
        assert_eq!(looked_at(&again, Some(&now)), status, "{case}");
        assert_eq!(looked_at(&again, None), status, "{case}");
        assert!(
            !message(&looked_at(
                &again,
                Some(&ReadyIssuer {
                    authority: status.authority.clone().unwrap(),
                    ..now
                })
            ))
            .contains("kubectl"),
            "{case}: it is back"
        );
    }
}

#[test]
fn a_status_of_before_takes_the_authority_of_now() {
    let status = looked_at(&issued(None, ""), Some(&acme(STAGING, false)));
    assert_eq!(status.authority, Some(acme(STAGING, false).authority));
    assert!(!message(&status).contains("kubectl"));
    // The issuer of an adopted certificate is unknown.
    let mut adopted = issued(None, "");
    adopted.status.as_mut().unwrap().issuer = None;
    assert_eq!(looked_at(&adopted, Some(&acme(STAGING, false))).authority, None);
}

#[test]
fn who_decides_about_the_lifetime_is_reported_where_it_is_not_the_duration() {
    let longer = "duration: 8760h";
    for (case, spec, issuer, part) in [
        ("no duration", "", acme(STAGING, false), None),
        ("what was asked", "duration: 2160h", acme(STAGING, false), None),
        (
            "not requested",
            longer,
            acme(STAGING, false),
            Some("acme.enableDurationFeature: true on ca"),
        ),
        ("requested in vain", longer, acme(STAGING, true), Some("which decides")),
        (
            "shortened by a CA",
            longer,
            ca(None),
            Some("No certificate outlives its CA"),
        ),
    ] {
        let text = message(&looked_at(&issued(Some(&issuer), spec), Some(&issuer)));
        match part {
            Some(part) => assert!(text.contains(part), "{case}: {text}"),
            None => assert!(!text.contains("lifetime"), "{case}: {text}"),
        }
    }
}

#[test]
fn a_certificate_dated_ahead_is_reported_with_the_time_of_its_start() {
    let issuer = acme(STAGING, false);
    let now = after(days(1));
    for (case, seconds, reported) in [
        ("a day ahead", 86_400, true),
        ("within the skew of clocks", 240, false),
        ("begun", -60, false),
    ] {
        let mut certificate = issued(Some(&issuer), "");
        let start = now + jiff::SignedDuration::from_secs(seconds);
        certificate.status.as_mut().unwrap().not_before = Some(start);
        let text = message(&looked_at(&certificate, Some(&issuer)));
        assert_eq!(text.contains("dated it ahead"), reported, "{case}: {text}");
        assert_eq!(text.contains(&start.to_string()), reported, "{case}: {text}");
    }
}
