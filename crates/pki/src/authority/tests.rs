#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::time::Duration;

use jiff::SignedDuration;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::*;
use crate::{
    Curve, DnsName, KeyEncoding, KeyParameters, Subject,
    samples::{Ca, PARAMETERS, ca_request, everything, for_hours, leaf, named, now, p256, permitting, two_tier},
};

/// Verifies as a TLS client would, with nothing but the root trusted.
fn verify_by_webpki(issued: &Issued, name: &str) {
    let root = CertificateDer::from(issued.root.as_deref().unwrap().as_slice());
    let anchors = [anchor_from_trusted_cert(&root).unwrap()];
    let intermediates: Vec<_> = issued
        .intermediates
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let der = CertificateDer::from(issued.leaf.as_slice());
    let end_entity = EndEntityCert::try_from(&der).unwrap();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now().as_second()).unwrap() + 60));
    end_entity
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &intermediates,
            time,
            KeyUsage::server_auth(),
            None,
            None,
        )
        .unwrap_or_else(|error| panic!("{error:?}"));
    end_entity
        .verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap())
        .unwrap();
}

#[test]
fn cas_of_every_algorithm_sign_for_keys_of_every_algorithm() {
    for ca_parameters in PARAMETERS {
        let ca = Ca::root(&ca_request("Root"), ca_parameters, for_hours(1_000));
        let authority = ca.authority();
        for parameters in PARAMETERS {
            let key = PrivateKey::generate(parameters).unwrap();
            let issued = authority
                .sign(
                    &named(&["a.example.com"]),
                    key.public_key_der(),
                    for_hours(1),
                    &Extras::default(),
                )
                .unwrap();
            verify_by_webpki(&issued, "a.example.com");
            let leaf = leaf(&issued);
            assert!(leaf.matches(&key));
            assert_eq!(
                leaf.is_signed_by(authority.certificate()),
                Some(true),
                "{ca_parameters}"
            );
            assert_eq!(
                leaf.satisfies(&named(&["a.example.com"]), parameters, crate::Fidelity::Exact),
                Ok(())
            );
        }
    }
}

#[test]
fn a_leaf_of_an_intermediate_comes_with_it_and_names_the_root_apart() {
    let (root, intermediate) = two_tier();
    let key = p256();
    let issued = intermediate
        .authority()
        .sign(&everything(), key.public_key_der(), for_hours(24), &Extras::default())
        .unwrap();
    verify_by_webpki(&issued, "shop.example.com");
    verify_by_webpki(&issued, "any.shop.example.com");
    assert_eq!(issued.intermediates.len(), 1);
    assert_eq!(issued.root_pem().unwrap(), root.root_pem);
    assert_eq!(issued.chain_pem().matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!issued.chain_pem().contains(&root.root_pem));

    let (leaf, ca) = (leaf(&issued), intermediate.authority());
    assert_eq!(leaf.authority_key_identifier, ca.certificate().subject_key_identifier);
    assert_ne!(leaf.subject_key_identifier, leaf.authority_key_identifier);
    assert_eq!(leaf.subject, everything().subject);
    assert_eq!(
        leaf.dns_names,
        ["shop.example.com", "*.shop.example.com", "xn--bcher-kva.example.com"]
    );
    assert_eq!(
        (leaf.ip_addresses, leaf.uris, leaf.email_addresses),
        (
            everything().ip_addresses,
            everything().uris,
            everything().email_addresses
        )
    );
    assert_eq!(
        (leaf.not_before, leaf.not_after),
        (for_hours(24).not_before, for_hours(24).not_after)
    );
}

#[test]
fn a_root_that_signs_itself_is_ca_crt_and_not_in_the_chain() {
    let ca = Ca::root(&ca_request("Root"), KeyParameters::Ecdsa(Curve::P256), for_hours(100));
    let issued = ca
        .authority()
        .sign(
            &named(&["a.example.com"]),
            p256().public_key_der(),
            for_hours(1),
            &Extras::default(),
        )
        .unwrap();
    assert_eq!(
        (issued.intermediates.len(), issued.root_pem().unwrap()),
        (0, ca.root_pem.clone())
    );
}

#[test]
fn without_its_root_an_intermediate_signs_and_ca_crt_stays_unknown() {
    let (_, intermediate) = two_tier();
    let key = intermediate.key.to_pem(KeyEncoding::Pkcs1).unwrap();
    let authority = Authority::load(intermediate.chain_pem.as_bytes(), key.as_bytes(), Some(b"\n"), now()).unwrap();
    let issued = authority
        .sign(
            &named(&["a.example.com"]),
            p256().public_key_der(),
            for_hours(1),
            &Extras::default(),
        )
        .unwrap();
    assert_eq!((issued.intermediates.len(), issued.root), (1, None));
}

#[test]
fn the_leaf_ends_with_its_ca_at_the_latest_and_starts_no_earlier() {
    let ca = Ca::root(&ca_request("Root"), KeyParameters::Ecdsa(Curve::P256), for_hours(10));
    let asked = Validity {
        not_before: now() - SignedDuration::from_mins(5),
        not_after: now() + SignedDuration::from_hours(99),
    };
    let issued = ca
        .authority()
        .sign(
            &named(&["a.example.com"]),
            p256().public_key_der(),
            asked,
            &Extras::default(),
        )
        .unwrap();
    let leaf = leaf(&issued);
    assert_eq!(
        (leaf.not_before, leaf.not_after),
        (for_hours(10).not_before, for_hours(10).not_after)
    );

    let late = Validity {
        not_before: now() + SignedDuration::from_hours(11),
        not_after: now() + SignedDuration::from_hours(12),
    };
    let error = ca
        .authority()
        .sign(
            &named(&["a.example.com"]),
            p256().public_key_der(),
            late,
            &Extras::default(),
        )
        .unwrap_err();
    assert_eq!(error.reason(), "AuthorityExpired");
    let none = Validity {
        not_before: now(),
        not_after: now(),
    };
    let error = ca
        .authority()
        .sign(
            &named(&["a.example.com"]),
            p256().public_key_der(),
            none,
            &Extras::default(),
        )
        .unwrap_err();
    assert_eq!(error.reason(), "InvalidDuration");
}

#[test]
fn a_ca_that_may_not_sign_is_refused_with_the_reason() {
    let curve = KeyParameters::Ecdsa(Curve::P256);
    let root = Ca::root(&ca_request("Root"), curve, for_hours(10));
    let load = |ca: &Ca, at| ca.load(at).unwrap_err();
    let leaf_only = Ca::root(
        &CertificateRequest {
            common_name: Some("Leaf".into()),
            ..Default::default()
        },
        curve,
        for_hours(10),
    );
    let other_key = Ca {
        key: p256(),
        chain_pem: root.chain_pem.clone(),
        root_pem: root.root_pem.clone(),
    };
    let garbage = Ca {
        key: p256(),
        chain_pem: "hello".into(),
        root_pem: root.root_pem.clone(),
    };
    let bad_root = Ca {
        root_pem: "hello".into(),
        chain_pem: root.chain_pem.clone(),
        key: p256(),
    };
    for (error, reason, says) in [
        (load(&leaf_only, now()), "NotACertificateAuthority", "isCA: true"),
        (
            load(&root, now() + SignedDuration::from_hours(11)),
            "AuthorityExpired",
            "expired at 2026-06-01T22:00:00Z; renew it",
        ),
        (
            load(&root, now() - SignedDuration::from_hours(1)),
            "AuthorityNotYetValid",
            "valid only from",
        ),
        (load(&other_key, now()), "KeyMismatch", "for the private key"),
        (load(&garbage, now()), "InvalidCertificate", "no PEM section"),
        (load(&bad_root, now()), "InvalidCertificate", "(ca.crt)"),
        (
            Authority::load(root.chain_pem.as_bytes(), root.chain_pem.as_bytes(), None, now()).unwrap_err(),
            "InvalidPrivateKey",
            "a certificate, not a private key",
        ),
    ] {
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_ca_without_cert_sign_is_refused() {
    // Our own writer always adds cert sign to a CA, so the bit is taken away in the DER.
    let key = p256();
    let issued = self_sign(&ca_request("Root"), &key, for_hours(10)).unwrap();
    let usage = [
        0x06, 0x03, 0x55, 0x1d, 0x0f, 0x01, 0x01, 0xff, 0x04, 0x04, 0x03, 0x02, 0x01,
    ];
    let at = issued
        .leaf
        .windows(usage.len())
        .position(|window| window == usage)
        .unwrap()
        + usage.len();
    let mut der = issued.leaf;
    assert_eq!(der[at], 0x06);
    der[at] = 0x02;
    let pem = certificates_pem([der.as_slice()]);
    let error = Authority::load(
        pem.as_bytes(),
        key.to_pem(KeyEncoding::Pkcs8).unwrap().as_bytes(),
        None,
        now(),
    )
    .unwrap_err();
    assert_eq!(
        (error.reason(), error),
        (
            "MayNotSignCertificates",
            AuthorityError::MayNotSign { ca: "Root".into() }
        )
    );
}

#[test]
fn names_outside_the_constraints_of_any_ca_above_are_refused() {
    let constrained = |name: &str, domains: &[&str]| CertificateRequest {
        name_constraints: Some(permitting(domains)),
        ..ca_request(name)
    };
    let root = Ca::root(
        &constrained("Root", &["example.com"]),
        KeyParameters::Ecdsa(Curve::P256),
        for_hours(100),
    );
    let intermediate = root.below(
        &constrained("Intermediate", &["shop.example.com", "example.org"]),
        for_hours(50),
    );
    let authority = intermediate.authority();
    let sign =
        |names: &[&str]| authority.sign(&named(names), p256().public_key_der(), for_hours(1), &Extras::default());
    verify_by_webpki(
        &sign(&["a.shop.example.com", "*.shop.example.com"]).unwrap(),
        "a.shop.example.com",
    );
    for (names, ca, name) in [
        (
            &["a.shop.example.com", "other.example.com"][..],
            "Intermediate",
            "other.example.com",
        ),
        (&["a.example.org"], "Root", "a.example.org"),
    ] {
        let error = sign(names).unwrap_err();
        assert_eq!(
            error,
            AuthorityError::NameNotPermitted {
                ca: ca.into(),
                name: name.into(),
                excluded_by: None
            }
        );
        assert_eq!(error.reason(), "NameNotPermitted");
    }
    assert_eq!(
        authority.certificate().name_constraints,
        Some(permitting(&["shop.example.com", "example.org"]))
    );
}

#[test]
fn a_ca_below_a_ca_of_path_length_zero_is_refused_and_a_leaf_is_not() {
    let key = p256();
    let name = name_der(None, Some("Short Root"));
    let identifier = identifier_of(key.public_key_der());
    // BasicConstraints { CA:TRUE, pathlen:0 }, which requests cannot ask for.
    let constraints = Extension {
        oid: &[2, 5, 29, 19],
        critical: true,
        value: vec![0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00],
    };
    let extensions = [constraints, extension::subject_key_identifier(&identifier)];
    let root = body(&name, &name, for_hours(10), key.public_key_der(), &extensions)
        .unwrap()
        .sign(&key)
        .unwrap();
    let pem = certificates_pem([root.as_slice()]);
    let authority = Authority::load(
        pem.as_bytes(),
        key.to_pem(KeyEncoding::Pkcs8).unwrap().as_bytes(),
        None,
        now(),
    )
    .unwrap();
    let leaf = authority
        .sign(
            &named(&["a.example.com"]),
            p256().public_key_der(),
            for_hours(1),
            &Extras::default(),
        )
        .unwrap();
    verify_by_webpki(&leaf, "a.example.com");
    let error = authority
        .sign(
            &ca_request("Below"),
            p256().public_key_der(),
            for_hours(1),
            &Extras::default(),
        )
        .unwrap_err();
    assert_eq!(
        (error.reason(), error),
        (
            "PathLengthExceeded",
            AuthorityError::PathTooShort {
                ca: "Short Root".into(),
                path_length: 0,
                below: 1
            }
        )
    );
}

#[test]
fn serial_numbers_are_positive_of_sixteen_octets_and_never_the_same() {
    let authority = Ca::root(&ca_request("Root"), KeyParameters::Ecdsa(Curve::P256), for_hours(10)).authority();
    let key = p256();
    let serials: std::collections::BTreeSet<Vec<u8>> = (0..100)
        .map(|_| {
            leaf(
                &authority
                    .sign(
                        &named(&["a.example.com"]),
                        key.public_key_der(),
                        for_hours(1),
                        &Extras::default(),
                    )
                    .unwrap(),
            )
            .serial
        })
        .collect();
    assert_eq!(serials.len(), 100);
    assert!(serials.iter().all(|serial| serial.len() == 16 && serial[0] < 0x80));
}

#[test]
fn a_self_signed_certificate_without_a_subject_takes_its_first_name() {
    let long = format!("{}.example.com", "a".repeat(60));
    let request = CertificateRequest {
        dns_names: [long.as_str(), "b.example.com"]
            .map(|name| DnsName::parse(name).unwrap())
            .into(),
        ..named(&[])
    };
    let key = p256();
    let issued = self_sign(&request, &key, for_hours(1)).unwrap();
    let leaf = leaf(&issued);
    assert_eq!(leaf.common_name.as_deref(), Some("b.example.com"));
    assert!(leaf.is_self_signed() && issued.root.as_deref() == Some(&issued.leaf));
    assert_eq!(
        leaf.satisfies(&request, key.parameters(), crate::Fidelity::Exact),
        Ok(())
    );
}

#[test]
fn an_authority_is_shared_between_threads_and_shows_no_key() {
    fn shared<T: Send + Sync>(_: &T) {}
    let authority = Ca::root(&ca_request("Root"), KeyParameters::Ed25519, for_hours(10)).authority();
    shared(&authority);
    let shown = format!("{authority:?}");
    assert!(shown.contains("PrivateKey { parameters: Ed25519, .. }"), "{shown}");
    assert!(
        !shown.contains(
            &format!("{:?}", &authority.key.pkcs8_der()[20..28])
                .trim_matches(['[', ']'])
                .to_owned()
        )
    );
}

#[test]
fn subjects_outside_a_cas_directory_names_are_refused() {
    let key = p256();
    let acme = |unit: Option<&str>| Subject {
        organizations: vec!["Acme".into()],
        organizational_units: unit.map(Into::into).into_iter().collect(),
        ..Default::default()
    };
    let name = name_der(Some(&acme(None)), Some("Root"));
    let value = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for (tag, base) in [(0, acme(None)), (1, acme(Some("Secret")))] {
                writer.next().write_tagged_implicit(yasna::Tag::context(tag), |writer| {
                    writer.write_sequence(|writer| {
                        writer.next().write_sequence(|writer| {
                            writer.next().write_tagged(yasna::Tag::context(4), |writer| {
                                writer.write_der(&name_der(Some(&base), None));
                            });
                        });
                    });
                });
            }
        });
    });
    let extensions = [
        Extension {
            oid: &[2, 5, 29, 19],
            critical: true,
            value: vec![0x30, 3, 1, 1, 0xff],
        },
        Extension {
            oid: &[2, 5, 29, 30],
            critical: true,
            value,
        },
    ];
    let root = body(&name, &name, for_hours(10), key.public_key_der(), &extensions)
        .unwrap()
        .sign(&key)
        .unwrap();
    let pem = certificates_pem([root.as_slice()]);
    let authority = Authority::load(
        pem.as_bytes(),
        key.to_pem(KeyEncoding::Pkcs8).unwrap().as_bytes(),
        None,
        now(),
    )
    .unwrap();
    for (subject, refused) in [
        (Subject::default(), None),
        (acme(None), None),
        (acme(Some("Open")), None),
        (
            Subject {
                organizations: vec!["ACME".into()],
                ..Default::default()
            },
            None,
        ),
        (
            Subject {
                organizations: vec!["Other".into()],
                ..Default::default()
            },
            Some(None),
        ),
        (acme(Some("Secret")), Some(Some("O=Acme, OU=Secret".to_owned()))),
    ] {
        let request = CertificateRequest {
            subject,
            ..named(&["a.example.com"])
        };
        let excluded_by = match authority.check_request(&request) {
            Ok(()) => None,
            Err(AuthorityError::NameNotPermitted { excluded_by, .. }) => Some(excluded_by),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(excluded_by, refused, "{:?}", request.subject);
    }
}
