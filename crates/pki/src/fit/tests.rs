#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines
)]
use super::*;
use crate::{
    Curve, DnsName, RsaSize,
    samples::{ca_request, everything, for_hours, leaf, named, p256, permitting},
    self_sign,
};

const P256: KeyParameters = KeyParameters::Ecdsa(Curve::P256);

fn made(request: &CertificateRequest) -> Certificate {
    leaf(&self_sign(request, &p256(), for_hours(1)).unwrap())
}

#[test]
fn a_certificate_fits_its_own_request_in_any_order_of_names() {
    for request in [
        everything(),
        named(&["a.example"]),
        ca_request("Root"),
        CertificateRequest {
            name_constraints: Some(permitting(&["b", "a"])),
            ..ca_request("Root")
        },
    ] {
        let certificate = made(&request);
        for fidelity in [Fidelity::Exact, Fidelity::AuthorityDecides] {
            assert_eq!(certificate.satisfies(&request, P256, fidelity), Ok(()));
            let mut turned = request.clone();
            turned.dns_names.reverse();
            turned.ip_addresses.reverse();
            turned.usages.reverse();
            turned.subject.organizations.reverse();
            assert_eq!(certificate.satisfies(&turned, P256, fidelity), Ok(()));
        }
    }
}

#[test]
fn every_difference_that_matters_is_told() {
    let base = everything();
    let certificate = made(&base);
    let with = |change: fn(&mut CertificateRequest)| {
        let mut request = base.clone();
        change(&mut request);
        request
    };
    let text = |request: &CertificateRequest, key, fidelity| {
        certificate.satisfies(request, key, fidelity).map_or_else(
            |list| list.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            |()| String::new(),
        )
    };
    for (request, exact, acme) in [
        (
            with(|r| r.dns_names.push(DnsName::parse("new.example").unwrap())),
            "the name new.example is missing",
            true,
        ),
        (
            with(|r| drop(r.dns_names.pop())),
            "the name xn--bcher-kva.example.com is not asked for",
            true,
        ),
        (
            with(|r| r.ip_addresses.clear()),
            "the name 192.0.2.7 is not asked for; the name 2001:db8::7 is not asked for",
            true,
        ),
        (
            with(|r| r.uris[0].push('x')),
            "the name spiffe://example.com/shopx is missing; the name spiffe://example.com/shop is not asked for",
            true,
        ),
        (
            with(|r| r.email_addresses.clear()),
            "the name shop@example.com is not asked for",
            true,
        ),
        (
            with(|r| r.subject.organizations.clear()),
            "the subject is another",
            false,
        ),
        (
            with(|r| r.usages = vec![Usage::ServerAuth]),
            "the usages are [digital signature, key encipherment, server auth, client auth, ipsec user], wanted [server auth]",
            false,
        ),
        (
            with(|r| r.common_name = Some("*.shop.example.com".into())),
            "the common name is \"shop.example.com\", wanted \"*.shop.example.com\"",
            false,
        ),
        (with(|r| r.common_name = None), "", false),
    ] {
        assert_eq!(text(&request, P256, Fidelity::Exact), exact);
        assert_eq!(
            text(&request, P256, Fidelity::AuthorityDecides),
            if acme { exact } else { "" }
        );
    }
    for fidelity in [Fidelity::Exact, Fidelity::AuthorityDecides] {
        assert_eq!(
            text(&base, KeyParameters::Rsa(RsaSize::Bits2048), fidelity),
            "the key is ECDSA 256, wanted RSA 2048"
        );
        assert_eq!(
            text(&base, KeyParameters::Ecdsa(Curve::P384), fidelity),
            "the key is ECDSA 256, wanted ECDSA 384"
        );
        assert!(
            text(
                &CertificateRequest {
                    is_ca: true,
                    ..base.clone()
                },
                P256,
                fidelity
            )
            .contains("it is not a CA")
        );
    }
    let ca = made(&CertificateRequest {
        name_constraints: Some(permitting(&["a"])),
        ..ca_request("Root")
    });
    let other = CertificateRequest {
        name_constraints: Some(permitting(&["b"])),
        ..ca_request("Root")
    };
    assert_eq!(
        ca.satisfies(&other, P256, Fidelity::Exact),
        Err(vec![Mismatch::NameConstraints])
    );
    assert_eq!(
        made(&ca_request("Root")).satisfies(
            &CertificateRequest {
                is_ca: false,
                ..ca_request("Root")
            },
            P256,
            Fidelity::AuthorityDecides
        ),
        Err(vec![Mismatch::IsCa { wanted: false }])
    );
}

#[test]
fn an_acme_ca_may_drop_replace_or_repeat_the_common_name() {
    let asked = CertificateRequest {
        common_name: Some("a.example".into()),
        ..named(&["b.example", "c.example"])
    };
    let given = |common_name: Option<&str>, names: &[&str]| {
        // A CA key, so that no common name is made up as it is for a self-signed one.
        let ca = crate::samples::Ca::root(&ca_request("CA"), P256, for_hours(10)).authority();
        let request = CertificateRequest {
            common_name: common_name.map(Into::into),
            ..named(names)
        };
        leaf(
            &ca.sign(
                &request,
                p256().public_key_der(),
                for_hours(1),
                &crate::Extras::default(),
            )
            .unwrap(),
        )
    };
    for (common_name, names, exact, acme) in [
        (Some("a.example"), &["b.example", "c.example"][..], true, true),
        (Some("a.example"), &["c.example", "a.example", "b.example"], false, true),
        (None, &["a.example", "b.example", "c.example"], false, true),
        (None, &["b.example", "c.example"], false, true),
        (Some("c.example"), &["b.example", "c.example"], false, true),
        (Some("x.example"), &["b.example", "c.example"], false, false),
        (Some("a.example"), &["b.example"], false, false),
        (
            Some("a.example"),
            &["b.example", "c.example", "d.example"],
            false,
            false,
        ),
    ] {
        let certificate = given(common_name, names);
        assert_eq!(
            certificate.satisfies(&asked, P256, Fidelity::Exact).is_ok(),
            exact,
            "{common_name:?} {names:?}"
        );
        assert_eq!(
            certificate.satisfies(&asked, P256, Fidelity::AuthorityDecides).is_ok(),
            acme,
            "{common_name:?} {names:?}"
        );
    }
}

#[test]
fn of_what_was_issued_for_a_request_only_the_ordered_names_and_the_key_count() {
    let ordered = named(&["a.example", "*.b.example"]);
    let ca = crate::samples::Ca::root(&ca_request("CA"), P256, for_hours(10)).authority();
    let given = |change: fn(&mut CertificateRequest)| {
        let mut request = ordered.clone();
        change(&mut request);
        let extras = crate::Extras::default();
        leaf(
            &ca.sign(&request, p256().public_key_der(), for_hours(1), &extras)
                .unwrap(),
        )
    };
    for (case, change, expected) in [
        (
            "a common name of its own",
            (|r| r.common_name = Some("Example".into())) as fn(&mut CertificateRequest),
            "",
        ),
        (
            "more names",
            |r| r.dns_names.push(DnsName::parse("www.a.example").unwrap()),
            "",
        ),
        ("an address", |r| r.ip_addresses.push([192, 0, 2, 7].into()), ""),
        ("a subject", |r| r.subject.organizations.push("Example".into()), ""),
        ("other usages", |r| r.usages = vec![Usage::ClientAuth], ""),
        (
            "a name less",
            |r| drop(r.dns_names.pop()),
            "the name *.b.example is missing",
        ),
        (
            "a name for another",
            |r| r.dns_names[1] = DnsName::parse("b.example").unwrap(),
            "the name *.b.example is missing",
        ),
        (
            "a CA",
            |r| {
                *r = CertificateRequest {
                    is_ca: true,
                    common_name: Some("CA".into()),
                    ..r.clone()
                }
            },
            "it is a CA",
        ),
    ] {
        let found = given(change)
            .satisfies(&ordered, P256, Fidelity::NamesAndKey)
            .err()
            .unwrap_or_default();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.join("; "), expected, "{case}");
    }
    assert!(
        given(|_| {})
            .satisfies(&ordered, KeyParameters::Ecdsa(Curve::P384), Fidelity::NamesAndKey)
            .is_err()
    );
}

#[test]
fn a_common_name_that_no_request_had_is_no_obstacle_to_adoption() {
    let ca = crate::samples::Ca::root(&ca_request("CA"), P256, for_hours(10)).authority();
    let given = CertificateRequest {
        common_name: Some("Example".into()),
        ..named(&["a.example"])
    };
    let extras = crate::Extras::default();
    let given = leaf(&ca.sign(&given, p256().public_key_der(), for_hours(1), &extras).unwrap());
    let fits = |request: &CertificateRequest| given.satisfies(request, P256, Fidelity::AuthorityDecides).is_ok();
    assert!(fits(&named(&["a.example"])));
    assert!(!fits(&named(&["a.example", "b.example"])));
    assert!(!fits(&CertificateRequest {
        common_name: Some("Other".into()),
        ..named(&["a.example"])
    }));
}
