//! Distinguished names, compared as RFC 5280 §7.1 wants it.

use icu_normalizer::ComposingNormalizerBorrowed;
use x509_parser::{asn1_rs::FromDer as _, x509::X509Name};

/// A name in the form in which two that are the same name are equal: without regard to the string types, case,
/// insignificant spaces and compatibility forms (RFC 4518), and to the order in a multi-valued RDN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name(Vec<Vec<Attribute>>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    oid: Vec<u8>,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Text(String),
    /// Not a string: compared octet by octet, with its tag.
    Octets(u32, Vec<u8>),
}

impl Name {
    /// Takes a name that a library has read.
    pub(super) fn of(name: &X509Name<'_>) -> Self {
        let attributes = name.iter_rdn().map(|rdn| {
            let mut attributes: Vec<_> = rdn
                .iter()
                .map(|attribute| {
                    let value = attribute.attr_value();
                    let tag = value.header.tag().0;
                    Attribute {
                        oid: attribute.attr_type().as_bytes().to_vec(),
                        value: text(tag, value.data).map_or_else(
                            || Value::Octets(tag, value.data.to_vec()),
                            |text| Value::Text(prepared(&text)),
                        ),
                    }
                })
                .collect();
            attributes.sort_unstable();
            attributes
        });
        Self(attributes.collect())
    }

    /// Reads the DER of a name; `None` when it is none.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        X509Name::from_der(der).ok().map(|(_, name)| Self::of(&name))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this name is in the subtree of `base` (RFC 5280 §4.2.1.10): its first RDNs are those of the base.
    pub fn is_within(&self, base: &Self) -> bool {
        self.0.starts_with(&base.0)
    }
}

/// The text of a string of any of ASN.1's types; `None` for other values and malformed ones.
fn text(tag: u32, octets: &[u8]) -> Option<String> {
    const UTF8: u32 = 12;
    const NUMERIC: u32 = 18;
    const PRINTABLE: u32 = 19;
    const TELETEX: u32 = 20;
    const IA5: u32 = 22;
    const VISIBLE: u32 = 26;
    const UNIVERSAL: u32 = 28;
    const BMP: u32 = 30;
    match tag {
        UTF8 | NUMERIC | PRINTABLE | IA5 | VISIBLE => String::from_utf8(octets.to_vec()).ok(),
        // As all software writes it, whatever T.61 says.
        TELETEX => Some(octets.iter().map(|octet| char::from(*octet)).collect()),
        BMP => {
            let (units, rest) = octets.as_chunks::<2>();
            let units: Vec<_> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            String::from_utf16(&units).ok().filter(|_| rest.is_empty())
        }
        UNIVERSAL => {
            let (units, rest) = octets.as_chunks::<4>();
            let text: Option<String> = units
                .iter()
                .map(|unit| char::from_u32(u32::from_be_bytes(*unit)))
                .collect();
            text.filter(|_| rest.is_empty())
        }
        _ => None,
    }
}

/// A text as it is compared: mapped, folded, normalized and without insignificant spaces (RFC 4518 §2).
fn prepared(text: &str) -> String {
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let mapped: String = text.chars().filter_map(mapped).collect();
    // Compatibility forms may decompose to upper case, hence twice.
    let folded = folded(&nfkc.normalize(&folded(&mapped)));
    let normalized = nfkc.normalize(&folded);
    normalized.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Upper case first, so that `ß` and `ss`, or both small sigmas, fold to the same.
fn folded(text: &str) -> String {
    text.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

/// Characters that are mapped to a space, and to nothing (RFC 4518 §2.2).
fn mapped(c: char) -> Option<char> {
    match c {
        c if c.is_whitespace() => Some(' '),
        '\u{ad}'
        | '\u{34f}'
        | '\u{1806}'
        | '\u{180b}'..='\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffc}' => None,
        c if c.is_control() => None,
        c => Some(c),
    }
}

#[cfg(test)]
#[path = "name_tests.rs"]
mod tests;
