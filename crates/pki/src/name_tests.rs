#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use proptest::prelude::*;
use yasna::{Tag, models::ObjectIdentifier};

use super::*;

const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const DOMAIN_COMPONENT: &[u64] = &[0, 9, 2342, 19_200_300, 100, 1, 25];

const UTF8: u64 = 12;
const PRINTABLE: u64 = 19;
const TELETEX: u64 = 20;
const IA5: u64 = 22;
const UNIVERSAL: u64 = 28;
const BMP: u64 = 30;

type Attribute<'a> = (&'a [u64], u64, &'a [u8]);

/// A name whose RDNs have these attributes, in the order given.
fn name(rdns: &[&[Attribute<'_>]]) -> Name {
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for rdn in rdns {
                writer.next().write_set(|writer| {
                    for (oid, tag, value) in *rdn {
                        writer.next().write_sequence(|writer| {
                            writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
                            let tag = Tag {
                                tag_class: yasna::TagClass::Universal,
                                tag_number: *tag,
                            };
                            writer
                                .next()
                                .write_tagged_implicit(tag, |writer| writer.write_bytes(value));
                        });
                    }
                });
            }
        });
    });
    Name::from_der(&der).unwrap()
}

fn common_name(tag: u64, value: &[u8]) -> Name {
    name(&[&[(COMMON_NAME, tag, value)]])
}

fn utf8(text: &str) -> Name {
    common_name(UTF8, text.as_bytes())
}

#[test]
fn the_string_type_of_an_attribute_does_not_matter() {
    let utf16: Vec<u8> = "Sample CA".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let utf32: Vec<u8> = "Sample CA".chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
    for (tag, octets) in [
        (PRINTABLE, b"Sample CA".as_slice()),
        (TELETEX, b"Sample CA"),
        (IA5, b"Sample CA"),
        (BMP, &utf16),
        (UNIVERSAL, &utf32),
    ] {
        assert_eq!(common_name(tag, octets), utf8("Sample CA"), "{tag}");
    }
    assert_eq!(common_name(TELETEX, b"M\xfcller"), utf8("müller"));
    // Not a string: only itself.
    assert_ne!(common_name(2, b"A"), common_name(2, b"a"));
    assert_ne!(common_name(2, b"A"), utf8("A"));
}

#[test]
fn case_and_insignificant_spaces_and_compatibility_forms_do_not_matter() {
    for (one, other) in [
        ("Sample CA", "sample ca"),
        ("Sample CA", "  Sample   CA "),
        ("Sample CA", "Sample\u{a0}CA"),
        ("Sample CA", "Sample\tCA"),
        ("Sample CA", "Sam\u{ad}ple CA\u{200b}"),
        ("STRASSE", "Straße"),
        ("ΟΔΟΣ", "οδος"),
        ("Ａｃｍｅ", "acme"),
        ("e\u{301}tat", "État"),
        ("ﬁrma", "Firma"),
        ("ᴬcme", "acme"),
    ] {
        assert_eq!(utf8(one), utf8(other), "{one} {other}");
    }
    for (one, other) in [
        ("Sample CA", "SampleCA"),
        ("Sample CA", "Sample CB"),
        ("Müller", "Muller"),
    ] {
        assert_ne!(utf8(one), utf8(other), "{one} {other}");
    }
}

#[test]
fn domain_components_are_compared_without_regard_to_case() {
    let dc = |tag, text: &'static str| name(&[&[(DOMAIN_COMPONENT, tag, text.as_bytes())]]);
    assert_eq!(dc(IA5, "Example"), dc(IA5, "example"));
    assert_eq!(dc(IA5, "Example"), dc(UTF8, "example"));
    assert_ne!(dc(IA5, "example"), utf8("example"));
}

#[test]
fn the_attributes_of_one_rdn_have_no_order_and_rdns_have_one() {
    let (cn, o) = (
        (COMMON_NAME, UTF8, b"a".as_slice()),
        (ORGANIZATION, UTF8, b"b".as_slice()),
    );
    assert_eq!(name(&[&[cn, o]]), name(&[&[o, cn]]));
    assert_ne!(name(&[&[cn], &[o]]), name(&[&[o], &[cn]]));
    assert_ne!(name(&[&[cn, o]]), name(&[&[cn], &[o]]));
    assert_ne!(name(&[&[cn]]), name(&[&[cn], &[cn]]));
}

#[test]
fn a_name_is_within_the_names_that_it_begins_with() {
    let o: &[Attribute<'_>] = &[(ORGANIZATION, PRINTABLE, b"Acme")];
    let o_again: &[Attribute<'_>] = &[(ORGANIZATION, UTF8, b"ACME ")];
    let cn: &[Attribute<'_>] = &[(COMMON_NAME, UTF8, b"web")];
    assert!(name(&[o, cn]).is_within(&name(&[o_again])));
    assert!(name(&[o, cn]).is_within(&name(&[])));
    assert!(!name(&[cn, o]).is_within(&name(&[o_again])));
    assert!(!name(&[o]).is_within(&name(&[o, cn])));
}

proptest! {
    #[test]
    fn a_name_is_itself_in_other_case_and_with_more_spaces(text in "[a-zA-Z0-9äöüßéσ][a-zA-Z0-9 äöüßéσ]{0,30}") {
        let spaced = format!(" {} ", text.replace(' ', "   "));
        prop_assert_eq!(utf8(&text), utf8(&text.to_uppercase()));
        prop_assert_eq!(utf8(&text), utf8(&text.to_lowercase()));
        prop_assert_eq!(utf8(&text), utf8(&spaced));
    }
}
