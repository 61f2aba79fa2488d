#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use crate::certificate::samples::{self, issued_at};

/// The differences between a certificate made for `made` and the spec `asked`, both lines of YAML.
fn between(made: &str, asked: &str, names: &[&str]) -> String {
    let mut made = samples::certificate(made);
    made.spec.dns_names.extend(names.iter().map(|name| (*name).to_owned()));
    let asked = samples::certificate(asked);
    let pair = samples::pair(&made, issued_at());
    differences(pair.leaf(), &samples::desired(&asked), &asked.spec, issued_at()).join("; ")
}

#[test]
fn what_a_ca_chose_otherwise_is_listed_and_what_cas_leave_out_as_a_rule_is_not() {
    for (case, made, asked, names, expected) in [
        ("the same", "", "", &[][..], ""),
        (
            "more names",
            "",
            "",
            &["example.com"][..],
            "the name example.com is not asked for",
        ),
        ("a name for common name", "commonName: www.example.com", "", &[], ""),
        (
            "a common name of its own",
            "commonName: Shop",
            "",
            &[],
            "the common name is \"Shop\", wanted none",
        ),
        (
            "another common name",
            "commonName: Shop",
            "commonName: www.example.com",
            &[],
            "the common name is \"Shop\", wanted \"www.example.com\"",
        ),
        (
            "another subject",
            "subject: {organizations: [CA]}",
            "",
            &[],
            "the subject is another",
        ),
        (
            "no subject",
            "",
            "subject: {organizations: [Shop]}",
            &[],
            "the subject is another",
        ),
        (
            "usages by default",
            "usages: [digital signature, server auth]",
            "",
            &[],
            "",
        ),
        (
            "usages by choice",
            "usages: [digital signature, server auth]",
            "usages: [digital signature, server auth, client auth]",
            &[],
            "the usages are [digital signature, server auth], wanted [digital signature, server auth, client auth]",
        ),
        (
            "no server may use it",
            "usages: [digital signature, client auth]",
            "",
            &[],
            "the usages are [digital signature, client auth], wanted [digital signature, key encipherment, server auth]",
        ),
    ] {
        assert_eq!(between(made, asked, names), expected, "{case}");
    }
}

#[test]
fn the_lifetime_is_compared_with_room_for_clocks_and_backdating() {
    for (given, asked, expected) in [
        ("1h", "", ""),
        ("2160h", "duration: 2160h", ""),
        ("1h", "duration: 8760h", "the lifetime is 1h, spec.duration is 8760h"),
        (
            "2160h",
            "duration: 1h30m",
            "the lifetime is 2160h, spec.duration is 1h30m",
        ),
        ("59m59s", "duration: 1h", ""),
        ("2200h", "duration: 2160h", ""),
        ("3h59m59s", "duration: 1h", "the lifetime is 4h, spec.duration is 1h"),
        ("33s", "duration: 30s", "the lifetime is 33s, spec.duration is 30s"),
    ] {
        assert_eq!(
            between(&format!("duration: {given}"), asked, &[]),
            expected,
            "{given} {asked}"
        );
    }
    // Put back by an hour, the certificate lasts as long as asked from its issue on.
    let asked = samples::certificate("duration: 3h");
    let pair = samples::pair(&asked, issued_at());
    let desired = samples::desired(&samples::certificate("duration: 2h"));
    let later = issued_at().checked_add(SignedDuration::from_hours(1)).unwrap();
    assert!(differences(pair.leaf(), &desired, &asked.spec, later).is_empty());
}

#[test]
fn a_hundred_more_names_are_ten_and_a_count() {
    let names: Vec<String> = (0..100).map(|number| format!("n{number}.example.com")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = between("", "", &names);
    assert_eq!(text.split("; ").count(), 11, "{text}");
    assert!(text.ends_with("and 90 more"), "{text}");
}
