#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use jiff::SignedDuration;

use super::*;
use crate::{
    Authority, Extras, KeyEncoding, PrivateKey, SerialNumber,
    encoding::certificates_pem,
    extension::{self, Extension},
    samples::{ca_request, for_hours, named, now, p256},
    signed::Body,
};

/// BasicConstraints with CA:TRUE, and how many CAs may be below.
fn basic(path_length: Option<u8>) -> Extension {
    let value = match path_length {
        Some(length) => vec![0x30, 6, 1, 1, 0xff, 2, 1, length],
        None => vec![0x30, 3, 1, 1, 0xff],
    };
    Extension {
        oid: &[2, 5, 29, 19],
        critical: true,
        value,
    }
}

/// A CA of two tiers, as a test wants them: nothing is checked when it is made.
struct Tiers {
    root: Vec<Extension>,
    root_validity: Validity,
    middle: Vec<Extension>,
    middle_validity: Validity,
}

fn tiers() -> Tiers {
    Tiers {
        root: vec![basic(None)],
        root_validity: for_hours(100),
        middle: vec![basic(None)],
        middle_validity: for_hours(50),
    }
}

impl Tiers {
    fn load(&self) -> Result<Authority, AuthorityError> {
        self.load_at(now())
    }

    /// The pair as a Secret has it, with the root in `ca.crt`.
    fn load_at(&self, at: Timestamp) -> Result<Authority, AuthorityError> {
        let (root_key, key) = (p256(), p256());
        let name = |text| name_der(None, Some(text));
        let sign = |subject: &[u8], public: &PrivateKey, validity, extensions: &[Extension]| {
            let body = Body {
                serial: SerialNumber::random().unwrap(),
                issuer: &name("Root"),
                validity,
                subject,
                public_key: public.public_key_der(),
                extensions,
            };
            body.sign(&root_key).unwrap()
        };
        let root = sign(&name("Root"), &root_key, self.root_validity, &self.root);
        let middle = sign(&name("Middle"), &key, self.middle_validity, &self.middle);
        Authority::load(
            certificates_pem([middle.as_slice()]).as_bytes(),
            key.to_pem(KeyEncoding::Pkcs8).unwrap().as_bytes(),
            Some(certificates_pem([root.as_slice()]).as_bytes()),
            at,
        )
    }
}

/// ExtendedKeyUsage with these usages.
fn extended(usages: &[Usage]) -> Extension {
    let request = CertificateRequest {
        usages: usages.to_vec(),
        ..ca_request("x")
    };
    extension::of_request(&request, false)
        .into_iter()
        .find(|extension| extension.oid == [2, 5, 29, 37])
        .unwrap()
}

fn asking(usages: &[Usage]) -> CertificateRequest {
    CertificateRequest {
        usages: usages.to_vec(),
        ..named(&["a.example.com"])
    }
}

fn sign(authority: &Authority, request: &CertificateRequest) -> Result<Certificate, AuthorityError> {
    let issued = authority.sign(request, p256().public_key_der(), for_hours(1), &Extras::default())?;
    Ok(Certificate::from_der(&issued.leaf).unwrap())
}

#[test]
fn a_usage_that_a_ca_anywhere_above_does_not_allow_is_refused() {
    let client = || extended(&[Usage::ClientAuth]);
    let in_middle = Tiers {
        middle: vec![basic(None), client()],
        ..tiers()
    };
    let in_root = Tiers {
        root: vec![basic(None), client()],
        ..tiers()
    };
    for (scene, ca) in [(in_middle, "Middle"), (in_root, "Root")] {
        let authority = scene.load().unwrap();
        assert_eq!(authority.only_for().as_deref(), Some("client auth"));
        for usages in [&[Usage::ServerAuth][..], &[Usage::ClientAuth, Usage::ServerAuth]] {
            let error = sign(&authority, &asking(usages)).unwrap_err();
            assert_eq!(error.reason(), "UsageNotPermitted");
            let message = error.to_string();
            for part in [ca, "client auth", "server auth"] {
                assert!(message.contains(part), "{message}");
            }
        }
        sign(&authority, &asking(&[Usage::ClientAuth])).unwrap();
        sign(&authority, &asking(&[Usage::DigitalSignature])).unwrap();
    }
    let any = Tiers {
        middle: vec![basic(None), extended(&[Usage::Any, Usage::ClientAuth])],
        ..tiers()
    };
    let authority = any.load().unwrap();
    assert_eq!(authority.only_for(), None);
    sign(&authority, &asking(&[Usage::ServerAuth])).unwrap();
}

#[test]
fn a_ca_whose_usages_and_those_above_have_nothing_in_common_is_not_ready() {
    let scene = Tiers {
        root: vec![basic(None), extended(&[Usage::ServerAuth])],
        middle: vec![basic(None), extended(&[Usage::ClientAuth])],
        ..tiers()
    };
    let error = scene.load().unwrap_err();
    assert_eq!(error.reason(), "UsageNotPermitted");
    assert!(error.to_string().contains("nothing is left"), "{error}");
}

#[test]
fn a_path_that_is_too_long_for_any_leaf_is_not_ready() {
    let scene = |length| Tiers {
        root: vec![basic(Some(length))],
        ..tiers()
    };
    let error = scene(0).load().unwrap_err();
    assert_eq!(error.reason(), "PathLengthExceeded");
    assert!(error.to_string().contains("Root allows 0 CAs below it"), "{error}");
    let authority = scene(1).load().unwrap();
    sign(&authority, &named(&["a.example.com"])).unwrap();
    assert_eq!(
        sign(&authority, &ca_request("Lower")).unwrap_err(),
        AuthorityError::PathTooShort {
            ca: "Root".into(),
            path_length: 1,
            below: 2
        }
    );
}

#[test]
fn a_leaf_ends_with_the_first_ca_above_it_and_starts_with_the_last() {
    let short_root = Tiers {
        root_validity: for_hours(10),
        ..tiers()
    };
    let authority = short_root.load().unwrap();
    assert_eq!(authority.not_after(), for_hours(10).not_after);
    let long = Validity {
        not_before: now() - SignedDuration::from_hours(1),
        not_after: now() + SignedDuration::from_hours(40),
    };
    let key = p256();
    let request = named(&["a.example.com"]);
    let issued = authority
        .sign(&request, key.public_key_der(), long, &Extras::default())
        .unwrap();
    let leaf = Certificate::from_der(&issued.leaf).unwrap();
    assert_eq!((leaf.not_before, leaf.not_after), (now(), for_hours(10).not_after));

    let expired = now() + SignedDuration::from_hours(11);
    assert_eq!(
        short_root.load_at(expired).unwrap_err().to_string(),
        "the CA Root expired at 2026-06-01T22:00:00Z; renew it"
    );
    assert_eq!(authority.check_time(expired).unwrap_err().reason(), "AuthorityExpired");
    let later_root = Tiers {
        root_validity: Validity {
            not_before: now() + SignedDuration::from_hours(1),
            ..for_hours(10)
        },
        ..tiers()
    };
    assert_eq!(later_root.load().unwrap_err().reason(), "AuthorityNotYetValid");
}

#[test]
fn a_ca_above_that_is_none_or_may_not_sign_is_named() {
    let crl_only = Extension {
        oid: &[2, 5, 29, 15],
        critical: true,
        value: vec![3, 2, 1, 2],
    };
    let may_not = Tiers {
        root: vec![basic(None), crl_only],
        ..tiers()
    };
    assert_eq!(
        may_not.load().unwrap_err(),
        AuthorityError::MayNotSign { ca: "Root".into() }
    );
    // A root without extensions, as they were before version 3, is a CA all the same.
    let old = Tiers {
        root: vec![extension::subject_key_identifier(b"root")],
        ..tiers()
    };
    sign(&old.load().unwrap(), &named(&["a.example.com"])).unwrap();
    let no_ca = Tiers {
        middle: vec![extension::subject_key_identifier(b"middle")],
        ..tiers()
    };
    assert_eq!(
        no_ca.load().unwrap_err(),
        AuthorityError::NotAnAuthority { ca: "Middle".into() }
    );
}

#[test]
fn a_ca_that_requires_a_policy_of_the_leaf_is_not_ready() {
    let policy = |skip: u8| Extension {
        oid: &[2, 5, 29, 36],
        critical: true,
        value: vec![0x30, 3, 0x80, 1, skip],
    };
    let scene = |skip| Tiers {
        root: vec![basic(None), policy(skip)],
        ..tiers()
    };
    for skip in [0, 1, 2] {
        let error = scene(skip).load().unwrap_err();
        assert_eq!(
            (error.reason(), error),
            ("PolicyRequired", AuthorityError::PolicyRequired { ca: "Root".into() })
        );
    }
    scene(3).load().unwrap();
}

#[test]
fn digests_and_keys_that_clients_refuse_are_named() {
    // The path is checked as values: the library would sign neither.
    let root = Tiers { ..tiers() }.load().unwrap().path().to_vec();
    let mut weak = root.clone();
    weak[0].weak_digest = Some("SHA-1");
    assert_eq!(
        check(&weak).unwrap_err(),
        AuthorityError::WeakSignature {
            ca: "Middle".into(),
            digest: "SHA-1"
        }
    );
    let mut weak_root = root.clone();
    weak_root[1].weak_digest = Some("SHA-1");
    assert_eq!(check(&weak_root), Ok(()), "a root's own signature is never checked");
    assert_eq!(check(&root), Ok(()));
}

#[test]
fn a_ca_with_a_critical_extension_that_clients_do_not_know_is_not_ready() {
    let extension = |critical| Extension {
        oid: &[1, 3, 6, 1, 4, 1, 99_999, 1],
        critical,
        value: vec![5, 0],
    };
    for (where_, critical, refused) in [("root", true, true), ("middle", true, true), ("middle", false, false)] {
        let mut tiers = tiers();
        let extensions = if where_ == "root" {
            &mut tiers.root
        } else {
            &mut tiers.middle
        };
        extensions.push(extension(critical));
        match tiers.load() {
            Err(AuthorityError::UnknownCritical { oid, .. }) if refused => assert_eq!(oid, "1.3.6.1.4.1.99999.1"),
            Ok(_) if !refused => {}
            other => panic!("{where_} {critical}: {other:?}"),
        }
    }
    // What RFC 5280 defines may be critical (certificate policies, §4.2.1.4).
    let mut policies = tiers();
    policies.middle.push(Extension {
        oid: &[2, 5, 29, 32],
        critical: true,
        value: vec![0x30, 8, 0x30, 6, 6, 4, 0x55, 0x1d, 0x20, 0],
    });
    policies.load().unwrap();
}

#[test]
fn an_expired_certificate_beside_the_renewed_one_of_the_same_ca_is_passed_over() {
    let (root_key, key) = (p256(), p256());
    let make = |subject: &str, public: &PrivateKey, validity| {
        let body = Body {
            serial: SerialNumber::random().unwrap(),
            issuer: &name_der(None, Some("Root")),
            validity,
            subject: &name_der(None, Some(subject)),
            public_key: public.public_key_der(),
            extensions: &[basic(None)],
        };
        body.sign(&root_key).unwrap()
    };
    let past = Validity {
        not_before: now() - SignedDuration::from_hours(48),
        not_after: now() - SignedDuration::from_hours(1),
    };
    let old = [make("Middle", &key, past), make("Root", &root_key, past)];
    let new = [
        make("Middle", &key, for_hours(10)),
        make("Root", &root_key, for_hours(20)),
    ];
    let load = |chain: &[&Vec<u8>]| {
        Authority::load(
            certificates_pem(chain.iter().map(|der| der.as_slice())).as_bytes(),
            key.to_pem(KeyEncoding::Pkcs8).unwrap().as_bytes(),
            None,
            now(),
        )
    };
    let authority = load(&[&old[0], &old[1], &new[0], &new[1]]).unwrap();
    let path: Vec<_> = authority.path().iter().map(|ca| ca.der.clone()).collect();
    assert_eq!(path, new);
    assert!(matches!(load(&[&old[0], &new[1]]), Err(AuthorityError::Expired { .. })));
}
