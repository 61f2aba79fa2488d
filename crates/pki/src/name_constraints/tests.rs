#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use proptest::prelude::*;

use super::*;
use crate::DnsName;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn dns(permitted: &[&str], excluded: &[&str], name: &str) -> bool {
    let constraints = NameConstraints {
        critical: true,
        permitted: Subtrees {
            dns_domains: strings(permitted),
            ..Default::default()
        },
        excluded: Subtrees {
            dns_domains: strings(excluded),
            ..Default::default()
        },
    };
    constraints
        .admit(&CertificateRequest {
            dns_names: vec![DnsName::parse(name).unwrap()],
            ..Default::default()
        })
        .is_ok()
}

#[test]
fn dns_names_are_judged_by_whole_labels() {
    for (permitted, excluded, name, admitted) in [
        (&["example.com"][..], &[][..], "example.com", true),
        (&["example.com"], &[], "a.b.example.com", true),
        (&["Example.COM"], &[], "a.example.com", true),
        (&["example.com"], &[], "badexample.com", false),
        (&["example.com"], &[], "example.org", false),
        (&[".example.com"], &[], "example.com", false),
        (&[".example.com"], &[], "a.example.com", true),
        (&["example.com"], &[], "*.example.com", true),
        (&["a.example.com"], &[], "*.example.com", false),
        (&[""], &[], "anything.example", true),
        (&["example.com", "example.org"], &[], "example.org", true),
        (&["example.com"], &["secret.example.com"], "secret.example.com", false),
        (&["example.com"], &["secret.example.com"], "a.secret.example.com", false),
        (&["example.com"], &["secret.example.com"], "*.example.com", false),
        (&["example.com"], &["a.secret.example.com"], "*.example.com", true),
        (&["example.com"], &["secret.example.com"], "open.example.com", true),
        (&[], &[""], "example.com", false),
        (&[], &[], "example.com", true),
    ] {
        assert_eq!(
            dns(permitted, excluded, name),
            admitted,
            "{permitted:?} {excluded:?} {name}"
        );
    }
}

#[test]
fn other_forms_are_judged_by_their_own_rules_and_leave_each_other_alone() {
    let constraints = NameConstraints {
        critical: true,
        permitted: Subtrees {
            dns_domains: vec![],
            ip_ranges: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            email_addresses: strings(&["root@example.org", "example.com", ".mail.example.com"]),
            uri_domains: strings(&["example.com", ".svc.example.com"]),
        },
        excluded: Subtrees {
            ip_ranges: vec!["10.9.0.0/16".parse().unwrap()],
            ..Default::default()
        },
    };
    let request = |form: &str, name: &str| match form {
        "ip" => CertificateRequest {
            ip_addresses: vec![name.parse().unwrap()],
            ..Default::default()
        },
        "email" => CertificateRequest {
            email_addresses: vec![name.into()],
            ..Default::default()
        },
        "uri" => CertificateRequest {
            uris: vec![name.into()],
            ..Default::default()
        },
        _ => CertificateRequest {
            dns_names: vec![DnsName::parse(name).unwrap()],
            ..Default::default()
        },
    };
    for (form, name, admitted) in [
        ("dns", "anything.example", true),
        ("ip", "10.1.2.3", true),
        ("ip", "10.9.2.3", false),
        ("ip", "192.0.2.1", false),
        ("ip", "2001:db8::7", true),
        ("ip", "::1", false),
        ("email", "root@example.org", true),
        ("email", "root@EXAMPLE.org", true),
        ("email", "Root@example.org", false),
        ("email", "any@example.com", true),
        ("email", "any@sub.example.com", false),
        ("email", "any@a.mail.example.com", true),
        ("email", "any@mail.example.com", false),
        ("uri", "https://example.com/x", true),
        ("uri", "https://user@Example.com:8443?q", true),
        ("uri", "https://a.example.com/", false),
        ("uri", "spiffe://a.svc.example.com/w", true),
        ("uri", "https://10.1.2.3/", false),
        ("uri", "https://[2001:db8::1]/", false),
        ("uri", "urn:uuid:1", false),
    ] {
        assert_eq!(
            constraints.admit(&request(form, name)).is_ok(),
            admitted,
            "{form} {name}"
        );
    }
    assert_eq!(
        constraints.admit(&request("ip", "10.9.2.3")),
        Err(Forbidden {
            name: "10.9.2.3".into(),
            excluded_by: Some("10.9.0.0/16".into())
        })
    );
}

#[test]
fn a_host_name_in_the_subject_is_judged_when_no_dns_name_stands_beside_it() {
    let constraints = NameConstraints {
        permitted: Subtrees {
            dns_domains: strings(&["example.com"]),
            ..Default::default()
        },
        ..Default::default()
    };
    let common_name = |name: &str| CertificateRequest {
        common_name: Some(name.into()),
        ..Default::default()
    };
    assert!(constraints.admit(&common_name("a.example.com")).is_ok());
    assert!(constraints.admit(&common_name("a.example.org")).is_err());
    assert!(constraints.admit(&common_name("some service")).is_ok());
}

proptest! {
    #[test]
    fn permitting_and_excluding_the_same_subtree_admits_nothing_in_it(
        host in "[a-z]{1,5}(\\.[a-z]{1,5}){0,3}",
        domain in "[a-z]{1,3}(\\.[a-z]{1,3}){0,2}",
        star in any::<bool>(),
    ) {
        let name = if star { format!("*.{host}.{domain}") } else { format!("{host}.{domain}") };
        prop_assert!(dns(&[&domain], &[], &name));
        prop_assert!(!dns(&[&domain], &[&domain], &name));
        prop_assert!(!dns(&[], &[&domain], &name));
        let other = format!("x{domain}");
        prop_assert!(!dns(&[&other], &[], &name));
    }
}
