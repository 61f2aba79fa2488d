#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Tables of whole scenes.
#![allow(clippy::large_stack_arrays)]
use std::time::Duration;

use gatehouse_crds::certificate::{AcmeStatus, AriStatus};
use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::Time};
use proptest::prelude::*;

use super::*;
use crate::certificate::{
    observed_secret::{self, CAUSE, CHAIN_HASH, OUTPUT_HASH, REQUEST_HASH},
    samples::{self, after, days, hours, issued_at},
};

type Body = k8s_openapi::api::core::v1::Secret;

/// A Certificate, its Secret, and the moment at which both are looked at.
#[derive(Clone)]
struct Case {
    certificate: Certificate,
    secret: Option<Body>,
    rival: Option<&'static str>,
    in_flight: bool,
    issuers: Since,
    passwords: Option<String>,
    now: Timestamp,
}

/// Just applied: no Secret, no status.
fn fresh() -> Case {
    Case {
        certificate: samples::certificate(""),
        secret: None,
        rival: None,
        in_flight: false,
        issuers: Since::default(),
        passwords: None,
        now: issued_at(),
    }
}

/// Issued for 90 days, an hour ago, and untouched since.
fn issued() -> Case {
    let certificate = samples::certificate("");
    let pair = samples::pair(&certificate, issued_at());
    Case {
        secret: Some(samples::written(&certificate, &pair, IssuanceReason::First)),
        certificate: samples::with_issued(certificate, &pair, issued_at()),
        now: after(hours(1)),
        ..fresh()
    }
}

/// Not issued by us: a foreign pair for `name` is in the way of a new Certificate.
fn foreign(name: &str) -> Case {
    let other = Certificate {
        spec: gatehouse_crds::certificate::CertificateSpec {
            dns_names: vec![name.into()],
            ..samples::certificate("").spec
        },
        ..samples::certificate("")
    };
    let mut secret = samples::written(&other, &samples::pair(&other, issued_at()), IssuanceReason::First);
    secret.metadata.annotations = None;
    secret.metadata.managed_fields = None;
    fresh().over(secret)
}

impl Case {
    fn over(mut self, secret: Body) -> Self {
        self.secret = Some(secret);
        self
    }

    fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }

    fn certificate(mut self, change: impl FnOnce(&mut Certificate)) -> Self {
        change(&mut self.certificate);
        self
    }

    /// The user changes the spec.
    fn spec(self, more: &str) -> Self {
        let spec = samples::certificate(more).spec;
        self.certificate(|certificate| {
            certificate.spec = spec;
            certificate.metadata.generation = Some(2);
        })
    }

    fn requested(self, time: Timestamp) -> Self {
        self.certificate(|certificate| {
            certificate.metadata.annotations = Some([(names::RENEW_REQUESTED_AT.into(), time.to_string())].into());
        })
    }

    fn failed(self, reason: &str, until: Timestamp) -> Self {
        self.certificate(|certificate| samples::fail(certificate, reason, until))
    }

    /// The CA advises to renew between `start` and an hour later, and is asked again at `check`.
    fn advised(self, start: Timestamp, check: Timestamp) -> Self {
        self.certificate(|certificate| {
            certificate.status.as_mut().unwrap().acme = Some(AcmeStatus {
                ari: Some(AriStatus {
                    window_start: Some(start),
                    window_end: Some(start.checked_add(hours(1)).unwrap()),
                    next_check_time: Some(check),
                    ..AriStatus::default()
                }),
                ..AcmeStatus::default()
            });
        })
    }

    /// The CA's advice was for later, and then it was this.
    fn recalled(self) -> Self {
        self.certificate(|certificate| {
            let before = StatusBuilder {
                certificate,
                now: issued_at(),
            };
            let seed = before.certificate_seed();
            let status = certificate.status.as_mut().unwrap();
            let ari = status.acme.as_ref().unwrap().ari.as_ref().unwrap();
            status.renewal_time = renewal::advised_time(ari, seed);
        })
    }

    fn secret(mut self, change: impl FnOnce(&mut Body)) -> Self {
        change(self.secret.as_mut().unwrap());
        self
    }

    /// An annotation of the Secret, as an older or newer Gatehouse wrote it.
    fn note(self, key: &str, value: &str) -> Self {
        self.secret(|secret| {
            let notes = secret.metadata.annotations.as_mut().unwrap();
            notes.insert(key.into(), value.into());
        })
    }

    fn gone(mut self) -> Self {
        self.secret = None;
        self
    }

    fn claimed(mut self) -> Self {
        self.rival = Some("elder");
        self
    }

    /// As the controller does: by the metadata, and by the contents when the plan wants to read them.
    fn decide(&self) -> Decision {
        let desired = DesiredCertificate::parse(&self.certificate.spec);
        let decide = |secret: Secret<'_>| {
            decide(&Observed {
                certificate: &self.certificate,
                desired: &desired,
                secret,
                passwords: self.passwords.as_deref(),
                rival: self.rival,
                in_flight: self.in_flight,
                has_order: false,
                spends_order: false,
                issuers: self.issuers,
                changed: false,
                pause: Pause::default(),
                now: self.now,
            })
        };
        let Some(secret) = &self.secret else {
            return decide(Secret::Absent);
        };
        let metadata = SecretMetadata::of(&secret.metadata);
        match decide(Secret::Seen(&metadata)) {
            Decision::ReadSecret | Decision::CheckKeystores => {
                let own = metadata.certificate == self.certificate.metadata.name;
                let contents = if own {
                    observed_secret::read_own(secret, &metadata, &[])
                } else {
                    observed_secret::read(secret)
                };
                decide(Secret::Read(&metadata, &contents))
            }
            plan => plan,
        }
    }

    /// The passwords of the keystores may have changed.
    fn passwords(mut self, mark: &str) -> Self {
        self.passwords = Some(mark.to_owned());
        self
    }

    /// The plan in a word or two.
    fn verdict(&self) -> String {
        match self.decide() {
            Decision::Issue(cause) => format!("issue {}", cause.as_str()),
            Decision::Refuse(failure) => format!("refuse {}", failure.reason),
            Decision::BackOff { .. } => "hold".into(),
            Decision::UpToDate { .. } => "serve".into(),
            Decision::AskAdvice { .. } => "ask".into(),
            Decision::Write => "write".into(),
            Decision::Ignore => "leave".into(),
            Decision::ReadSecret => "read".into(),
            Decision::CheckKeystores => "check keystores".into(),
        }
    }
}

fn check(table: Vec<(&str, Case, &str)>) {
    for (label, case, expected) in table {
        assert_eq!(case.verdict(), expected, "{label}");
    }
}

#[test]
fn a_missing_secret_is_made() {
    check(vec![
        ("the first", fresh(), "issue First"),
        ("gone after it was issued", issued().gone(), "issue SecretMissing"),
        (
            "an older Certificate wants it",
            fresh().claimed(),
            "refuse SecretConflict",
        ),
        ("suspended", fresh().spec("suspend: true"), "leave"),
        (
            "being deleted",
            fresh().certificate(|it| it.metadata.deletion_timestamp = Some(Time(issued_at()))),
            "leave",
        ),
        (
            "a spec that cannot be",
            fresh().spec("ipAddresses: [nonsense]"),
            "refuse Invalid",
        ),
    ]);
}

#[test]
fn a_certificate_signed_while_the_clock_was_ahead_is_replaced_once_it_is_right() {
    // Written by the API server's clock a year before the certificate begins.
    let a_year_ago = issued_at().checked_sub(days(365)).unwrap();
    let ahead = || {
        issued().secret(|secret| {
            secret.metadata.managed_fields.as_mut().unwrap()[0].time = Some(Time(a_year_ago));
        })
    };
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    check(vec![
        ("while the clock is still ahead", ahead(), "serve"),
        (
            "the clock is right again",
            ahead().at(a_year_ago),
            "issue SecretDamaged",
        ),
        (
            "until clients accept it",
            ahead().at(issued_at().checked_sub(minutes(10)).unwrap()),
            "issue SecretDamaged",
        ),
        (
            "a little skew",
            ahead().at(issued_at().checked_sub(minutes(4)).unwrap()),
            "serve",
        ),
        (
            "this clock is a year behind: the API server's is not",
            issued()
                .secret(|secret| secret.metadata.managed_fields.as_mut().unwrap()[0].time = Some(Time(issued_at())))
                .at(a_year_ago),
            "serve",
        ),
        (
            "an ACME server would choose so again",
            ahead()
                .certificate(|it| {
                    let authority = it.status.as_mut().unwrap().authority.as_mut().unwrap();
                    authority.kind = AuthorityType::ACME;
                })
                .at(a_year_ago),
            "serve",
        ),
    ]);
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn a_disturbed_secret_is_judged_by_what_is_in_it() {
    let take = |path: &'static [&'static str]| move |secret: &mut Body| samples::take(secret, path);
    let edit = |key: &'static str, value: &'static str| move |secret: &mut Body| samples::edit(secret, key, value);
    let stranger = samples::pair(&samples::certificate(""), issued_at());
    let of_another = samples::certificate("commonName: other.example.com");
    let of_another = samples::pair(&of_another, issued_at());
    let swap = |pair: &KeyPair| {
        let data = [
            ("tls.crt", pair.chain.pem()),
            (
                "tls.key",
                pair.key.to_pem(crate::pki::KeyEncoding::Pkcs8).unwrap().to_string(),
            ),
            ("ca.crt", pair.ca.clone().unwrap()),
        ];
        move |secret: &mut Body| data.iter().for_each(|(key, value)| samples::edit(secret, key, value))
    };
    check(vec![
        ("untouched", issued(), "serve"),
        (
            "garbage for a certificate",
            issued().secret(edit("tls.crt", "junk")),
            "issue SecretDamaged",
        ),
        (
            "garbage for a key",
            issued().secret(edit("tls.key", "junk")),
            "issue SecretDamaged",
        ),
        (
            "an emptied key",
            issued().secret(edit("tls.key", "")),
            "issue SecretDamaged",
        ),
        (
            "another key",
            issued().secret(|secret| {
                let pem = stranger.key.to_pem(crate::pki::KeyEncoding::Pkcs8).unwrap();
                samples::edit(secret, "tls.key", &pem);
            }),
            "issue SecretDamaged",
        ),
        (
            "no CA any more",
            issued().secret(|secret| {
                samples::take(secret, &["f:data", "f:ca.crt"]);
                secret.data.as_mut().unwrap().remove("ca.crt");
            }),
            "write",
        ),
        (
            "another CA in ca.crt",
            issued().secret(|secret| samples::edit(secret, "ca.crt", &stranger.chain.pem())),
            "write",
        ),
        ("junk in ca.crt", issued().secret(edit("ca.crt", "junk")), "write"),
        (
            "a stranger behind the leaf",
            issued().secret(|secret| {
                let leaf = String::from_utf8(secret.data.as_ref().unwrap()["tls.crt"].0.clone()).unwrap();
                samples::edit(secret, "tls.crt", &format!("{leaf}{}", stranger.chain.pem()));
            }),
            "write",
        ),
        (
            "the fingerprint of the request edited by hand",
            issued().note(REQUEST_HASH, "1-00").secret(take(&[
                "f:metadata",
                "f:annotations",
                "f:gatehouse.dev/request-hash",
            ])),
            "write",
        ),
        (
            "the fingerprint of the chain edited by hand",
            issued().note(CHAIN_HASH, "1-00").secret(take(&[
                "f:metadata",
                "f:annotations",
                "f:gatehouse.dev/chain-hash",
            ])),
            "write",
        ),
        (
            "the passwords of the keystores changed",
            issued().passwords("1-new"),
            "write",
        ),
        (
            "the pair of another Certificate",
            issued().secret(swap(&of_another)),
            "issue SecretDamaged",
        ),
        (
            "the label taken away",
            issued().secret(take(&["f:metadata", "f:labels", "f:gatehouse.dev/managed"])),
            "write",
        ),
        (
            "a note taken away",
            issued().secret(take(&["f:metadata", "f:annotations", "f:gatehouse.dev/serial-number"])),
            "write",
        ),
        (
            "something added by another",
            issued().secret(|secret| {
                let fields = serde_json::json!({"f:data": {"f:extra": {}}});
                secret
                    .metadata
                    .managed_fields
                    .as_mut()
                    .unwrap()
                    .push(samples::entry("kubectl-edit", "Update", fields));
                secret
                    .data
                    .as_mut()
                    .unwrap()
                    .insert("extra".into(), ByteString("x".into()));
            }),
            "serve",
        ),
        (
            "another form is wanted",
            issued().spec("secretTemplate: {labels: {team: shop}}"),
            "write",
        ),
    ]);
}

/// Issued by a CA that wrote a common name of its own and a name that was not ordered.
fn issued_otherwise() -> Case {
    let given = samples::certificate("commonName: Shop\nipAddresses: [192.0.2.7]");
    let pair = samples::pair(&given, issued_at());
    let certificate = samples::certificate("");
    Case {
        secret: Some(samples::written(&certificate, &pair, IssuanceReason::First)),
        certificate: samples::with_issued(certificate, &pair, issued_at()),
        now: after(hours(1)),
        ..fresh()
    }
}

#[test]
fn what_a_ca_chose_otherwise_is_not_issued_again() {
    let stripped = |secret: &mut Body| {
        secret.metadata.annotations = None;
        secret.metadata.managed_fields = None;
    };
    let read_again = |case: Case| {
        case.secret(|secret| samples::take(secret, &["f:metadata", "f:labels", "f:gatehouse.dev/managed"]))
    };
    check(vec![
        ("untouched", issued_otherwise(), "serve"),
        ("read again", read_again(issued_otherwise()), "write"),
        (
            "restored without its status",
            issued_otherwise().certificate(|it| it.status = None),
            "write",
        ),
        (
            "another recipe of the hashes",
            issued_otherwise()
                .note(REQUEST_HASH, "0-5eed")
                .note(OUTPUT_HASH, "0-5eed"),
            "write",
        ),
        ("all notes lost", issued_otherwise().secret(stripped), "write"),
        (
            "all notes lost, and another spec",
            issued_otherwise()
                .secret(stripped)
                .spec("uris: [spiffe://example.com/a]"),
            "refuse SecretConflict",
        ),
        (
            "a name less than ordered",
            read_again(issued_otherwise().spec("uris: [spiffe://example.com/a]")),
            "issue SpecChanged",
        ),
        ("due", issued_otherwise().at(after(days(60))), "issue Due"),
        // Nothing says that it was issued for this Certificate: its other name may be in use elsewhere.
        (
            "of another tool",
            Case {
                certificate: samples::certificate(""),
                ..issued_otherwise().secret(stripped)
            },
            "refuse SecretConflict",
        ),
    ]);
}

#[test]
fn a_restored_backup_is_taken_as_it_is_without_an_order() {
    // Backups keep labels and annotations; who wrote which field, UIDs and the status are lost.
    let restored = |secret: &mut Body| {
        secret.metadata.uid = Some("another".into());
        secret.metadata.managed_fields = Some(vec![samples::entry(
            "restore",
            "Update",
            serde_json::json!({"f:data": {"f:tls.crt": {}, "f:tls.key": {}}}),
        )]);
        secret.metadata.owner_references = Some(vec![
            serde_json::from_value(serde_json::json!({
                "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Certificate", "name": "web", "uid": "gone"
            }))
            .unwrap(),
        ]);
    };
    let without_status = |case: Case| case.certificate(|certificate| certificate.status = None);
    check(vec![
        (
            "pair and Certificate",
            without_status(issued().secret(restored)),
            "write",
        ),
        (
            "of a cluster where its issuer has another name",
            without_status(
                issued()
                    .secret(restored)
                    .spec("fallbackIssuerRefs: []")
                    .certificate(|certificate| {
                        certificate.spec.issuer_ref.name = "other".into();
                    }),
            ),
            "write",
        ),
        ("the status, and no pair yet", issued().secret(restored), "write"),
        (
            "a pair older than the status",
            issued().secret(restored).certificate(|certificate| {
                certificate.status.as_mut().unwrap().serial_number = Some("beef".into());
            }),
            "write",
        ),
        (
            "a pair that has run out",
            without_status(issued().secret(restored)).at(after(days(91))),
            "issue Expired",
        ),
        (
            "a pair for other names",
            without_status(issued().secret(restored).spec("ipAddresses: [192.0.2.7]")),
            "issue SecretDamaged",
        ),
    ]);
}

#[test]
fn a_foreign_secret_is_adopted_or_left_alone() {
    let consents = |secret: &mut Body| {
        secret.metadata.annotations = Some([(names::ADOPT.into(), names::TRUE.into())].into());
    };
    let of = |name: &'static str| {
        move |secret: &mut Body| {
            secret.metadata.annotations = Some([(names::CERTIFICATE.into(), name.into())].into());
        }
    };
    check(vec![
        ("it fits", foreign("www.example.com"), "write"),
        (
            "it fits, and has run out",
            foreign("www.example.com").at(after(days(91))),
            "issue Due",
        ),
        ("it does not fit", foreign("other.example.com"), "refuse SecretConflict"),
        (
            "it does not fit, with consent",
            foreign("other.example.com").secret(consents),
            "issue Consent",
        ),
        (
            "it fits, with consent",
            foreign("www.example.com").secret(consents),
            "write",
        ),
        (
            "it is of another type",
            foreign("www.example.com").secret(|secret| secret.type_ = Some("Opaque".into())),
            "refuse SecretConflict",
        ),
        (
            "it is of another type, with consent",
            foreign("www.example.com").secret(|secret| {
                secret.type_ = Some("Opaque".into());
                consents(secret);
            }),
            "issue Consent",
        ),
        (
            "another Certificate has it",
            foreign("www.example.com").secret(of("elder")).claimed(),
            "refuse SecretConflict",
        ),
        (
            "another Certificate had it and is gone",
            foreign("www.example.com").secret(of("elder")),
            "write",
        ),
    ]);
}

#[test]
fn a_good_certificate_is_replaced_for_a_reason() {
    let soon = after(hours(2));
    check(vec![
        (
            "another name is wanted",
            issued().spec("commonName: www.example.com"),
            "issue SpecChanged",
        ),
        (
            "another key is wanted",
            issued().spec("privateKey: {size: 384}"),
            "issue SpecChanged",
        ),
        (
            "another issuer is wanted",
            issued().certificate(|it| it.spec.issuer_ref.name = "other".into()),
            "issue SpecChanged",
        ),
        (
            "only the time of renewal is another",
            issued().spec("renewBefore: 24h"),
            "serve",
        ),
        ("requested", issued().requested(after(hours(1))), "issue Requested"),
        (
            "requested before it was issued",
            issued().requested(issued_at()),
            "serve",
        ),
        ("not yet due", issued().at(after(days(58))), "serve"),
        ("due", issued().at(after(days(60))), "issue Due"),
        ("run out", issued().at(after(days(91))), "issue Expired"),
        (
            "the CA advises it",
            issued().advised(issued_at(), soon).at(after(hours(1))),
            "issue Advised",
        ),
        (
            "the CA advises it for later",
            issued().advised(after(days(3)), soon),
            "serve",
        ),
        (
            "the CA is to be asked",
            issued().advised(after(days(3)), after(Duration::ZERO)),
            "ask",
        ),
        (
            "the CA advised this one already",
            issued().advised(issued_at(), soon).note(CAUSE, "Advised"),
            "serve",
        ),
        (
            "the CA advised this one already, and recalled its word on the new one",
            issued()
                .advised(issued_at(), soon)
                .note(CAUSE, "Advised")
                .recalled()
                .at(after(hours(1))),
            "issue Advised",
        ),
        (
            "later than the CA says, by the clock",
            issued().advised(after(days(80)), soon).at(after(days(60))),
            "issue Due",
        ),
    ]);
}

#[test]
fn after_a_failure_there_is_a_pause_and_some_things_end_it() {
    let (now, later) = (after(days(70)), after(days(71)));
    let due = || issued().at(now);
    check(vec![
        ("within the pause", due().failed("Rejected", later), "hold"),
        ("after it", due().failed("Rejected", now), "issue Due"),
        (
            "also without a certificate",
            fresh().at(now).failed("Rejected", later),
            "hold",
        ),
        (
            "a pause that a clock left behind which was a year ahead",
            due().failed("Rejected", after(days(71 + 365))),
            "issue Due",
        ),
        (
            "the same for a limit",
            due().failed("RateLimited", after(days(71 + 365))),
            "issue Due",
        ),
        (
            "also run out",
            due().at(after(days(91))).failed("Network", after(days(92))),
            "hold",
        ),
        (
            "the spec was changed",
            due().failed("Rejected", later).spec("duration: 480h"),
            "issue SpecChanged",
        ),
        (
            "requested since",
            due().failed("Rejected", later).requested(now),
            "issue Requested",
        ),
        (
            "requested before the failure",
            due().failed("Rejected", later).requested(after(days(68))),
            "hold",
        ),
        (
            "the issuer is not ready yet",
            due().failed("IssuerNotReady", later),
            "hold",
        ),
        (
            "the Secret in the way is gone",
            fresh().failed("SecretConflict", later),
            "issue First",
        ),
        (
            "an order is in flight",
            Case {
                in_flight: true,
                ..due().failed("Network", later)
            },
            "issue Due",
        ),
    ]);
}

#[test]
fn an_upgrade_never_issues_again() {
    let without = |key: &'static str| {
        issued().secret(move |secret| {
            secret.metadata.annotations.as_mut().unwrap().remove(key);
        })
    };
    check(vec![
        (
            "another recipe of the request's hash",
            issued().note(REQUEST_HASH, "0-5eed"),
            "serve",
        ),
        (
            "another recipe of the output's hash",
            issued().note(OUTPUT_HASH, "0-5eed"),
            "write",
        ),
        (
            "another recipe of the chain's hash",
            issued().note(OUTPUT_HASH, "0-5eed").note(CHAIN_HASH, "0-5eed"),
            "write",
        ),
        ("no hash of the request", without(REQUEST_HASH), "serve"),
        ("no hash of the output", without(OUTPUT_HASH), "write"),
        ("no hash of the chain", without(CHAIN_HASH), "serve"),
        ("no cause", without(CAUSE), "serve"),
        (
            "no notes at all",
            issued().secret(|secret| secret.metadata.annotations = None),
            "write",
        ),
        (
            "no record of who wrote what",
            issued().secret(|secret| secret.metadata.managed_fields = None),
            "write",
        ),
        (
            "no status (restored from a backup without it)",
            issued().certificate(|it| it.status = None),
            "write",
        ),
    ]);
}

#[test]
fn the_next_look_is_at_the_renewal_or_the_next_question() {
    let case = issued();
    let renewal = case.certificate.status.as_ref().unwrap().renewal_time.unwrap();
    assert_eq!(case.decide(), Decision::UpToDate { renewal, next: renewal });
    let check = after(days(1));
    assert_eq!(
        case.clone().advised(after(days(80)), check).decide(),
        Decision::UpToDate { renewal, next: check }
    );
    let Decision::UpToDate { renewal: moved, next } = case.advised(after(days(3)), check).decide() else {
        panic!("it serves");
    };
    assert_eq!(next, check);
    assert!(after(days(3)) <= moved && moved < after(days(3) + hours(1)), "{moved}");
}

#[test]
fn a_conflict_says_what_to_do() {
    let Decision::Refuse(failure) = foreign("other.example.com").decide() else {
        panic!("it is refused");
    };
    for part in ["Secret web-tls", "another secretName", "gatehouse.dev/adopt=true"] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn an_intact_certificate_that_is_not_due_is_never_issued_again(
        // A third of 90 days before the end, less the twentieth of it that renewals are spread over.
        seconds in 0u64..58 * 86_400,
        (rival, in_flight) in any::<(bool, bool)>(),
        failed in proptest::option::of(0u64..90 * 86_400),
        requested in proptest::option::of(0u64..90 * 86_400),
        recipe in proptest::option::of("[02-9]-[0-9a-f]{4}"),
        advised in proptest::option::of(0u64..30 * 86_400),
    ) {
        static CASE: std::sync::LazyLock<Case> = std::sync::LazyLock::new(issued);
        let now = after(Duration::from_secs(seconds));
        let mut case = Case { rival: rival.then_some("elder"), in_flight, ..CASE.clone() }.at(now);
        if let Some(until) = failed {
            case = case.failed("Rejected", after(Duration::from_secs(until)));
        }
        // Not after it was issued.
        if let Some(before) = requested {
            case = case.requested(issued_at().checked_sub(Duration::from_secs(before)).unwrap());
        }
        if let Some(recipe) = recipe {
            case = case.note(REQUEST_HASH, &recipe).note(CHAIN_HASH, &recipe);
        }
        if let Some(ahead) = advised {
            case = case.advised(now.checked_add(Duration::from_secs(1 + ahead)).unwrap(), now);
        }
        let plan = case.decide();
        prop_assert!(!matches!(plan, Decision::Issue(_)), "{plan:?}");
    }
}
