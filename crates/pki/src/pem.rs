//! PEM from outside (RFC 7468): the one reader for files and Secrets that people wrote.
//!
//! Lenient where the meaning is clear (line ends, indentation, line lengths, padding, text around the sections, sections
//! glued together), and otherwise an error with the line number. No section is ever passed over in silence.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use thiserror::Error;
use zeroize::Zeroizing;

/// Sections in one file; beyond this the rest is not read.
const MOST_SECTIONS: usize = 1_000;
/// A line of text outside of the sections that is base64 and at least so long is a section without its BEGIN line.
const BARE_LINE: usize = 60;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// One section: what is between a BEGIN and an END line.
#[derive(Clone)]
pub struct Section {
    /// `CERTIFICATE`, for example.
    pub label: String,
    /// The number of its BEGIN line, from 1.
    pub line: usize,
    /// The content; wiped when dropped, since it may be a key.
    pub der: Zeroizing<Vec<u8>>,
    /// Whether its headers say that it is encrypted (RFC 1421).
    pub is_encrypted: bool,
}

/// Why a text is not PEM that can be read. Nothing of its content but labels is in any variant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PemError {
    #[error("it holds no PEM section; one starts with a line like -----BEGIN CERTIFICATE-----")]
    NoSection,
    #[error("it is DER; write it as PEM (openssl x509 -inform DER -in cert.der, for a key openssl pkey -inform DER)")]
    Der,
    #[error("it is PKCS#12; write it as PEM (openssl pkcs12 -in store.p12 -nodes)")]
    Pkcs12,
    #[error("it is a Java keystore; export what is in it as PEM (keytool -importkeystore -deststoretype pkcs12)")]
    JavaKeystore,
    #[error("it is UTF-16; save it as UTF-8 or ASCII (iconv -f UTF-16 -t UTF-8)")]
    Utf16,
    #[error("it is the base64 of a PEM file, so it was encoded twice; encode it once, or use stringData")]
    EncodedTwice,
    #[error("it is base64 without BEGIN and END lines; write it as PEM, in full")]
    Bare,
    #[error("it has more than {MOST_SECTIONS} certificates or other sections")]
    TooMany,
    #[error("line {line}: {fault}")]
    Line { line: usize, fault: Fault },
}

/// A fault at a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    #[error(
        "this BEGIN or END line is malformed; write it as -----BEGIN CERTIFICATE-----, with five dashes on each side"
    )]
    Boundary,
    #[error("the section {label:?} that begins here has no END line: it was cut off")]
    NotEnded { label: String },
    #[error("this END line belongs to no section: the BEGIN line is missing")]
    NotBegun,
    #[error("END {found:?} closes the section {label:?}, so one of the two lines is wrong")]
    OtherEnd { label: String, found: String },
    #[error("this is not base64")]
    NotBase64,
    #[error("line ends are written out as \\n; write real ones")]
    EscapedLineEnds,
    #[error("the section {label:?} that begins here is empty")]
    Empty { label: String },
    #[error("the base64 of the section {label:?} that begins here is cut off")]
    CutOff { label: String },
    #[error("base64 outside of any section: its BEGIN and END lines are missing")]
    OutsideSection,
}

/// Reads every section of a text, in its order.
pub fn sections(bytes: &[u8]) -> Result<Vec<Section>, PemError> {
    check_form(bytes)?;
    let mut reader = Reader::default();
    for (line, text) in lines(bytes) {
        // A comment, also one that an END or BEGIN line was turned into.
        if text.starts_with(b"#") {
            continue;
        }
        reader.line(line, text).map_err(|error| match error {
            PemError::Line {
                fault: Fault::OutsideSection,
                ..
            } if !contains(bytes, b"-----BEGIN ") => without_section(bytes),
            error => error,
        })?;
    }
    match reader.open {
        Some(open) => Err(at(open.line, Fault::NotEnded { label: open.label })),
        None if reader.sections.is_empty() => Err(without_section(bytes)),
        None => Ok(reader.sections),
    }
}

/// A section that has begun.
struct Open<'a> {
    label: String,
    line: usize,
    body: Vec<(usize, &'a [u8])>,
}

#[derive(Default)]
struct Reader<'a> {
    sections: Vec<Section>,
    open: Option<Open<'a>>,
}

impl<'a> Reader<'a> {
    /// Takes one line, which may hold several boundaries: files that lack a final line end are glued by `cat`.
    fn line(&mut self, line: usize, mut text: &'a [u8]) -> Result<(), PemError> {
        while let Some((before, boundary, after)) = next_boundary(text).map_err(|fault| at(line, fault))? {
            self.text(line, before)?;
            self.boundary(line, &boundary)?;
            text = after;
        }
        self.text(line, text)
    }

    fn boundary(&mut self, line: usize, boundary: &Boundary) -> Result<(), PemError> {
        match (boundary, self.open.take()) {
            (Boundary::Begin(_), Some(open)) => Err(at(open.line, Fault::NotEnded { label: open.label })),
            (Boundary::End(_), None) => Err(at(line, Fault::NotBegun)),
            (Boundary::Begin(label), None) => {
                if self.sections.len() == MOST_SECTIONS {
                    return Err(PemError::TooMany);
                }
                self.open = Some(Open {
                    label: label.clone(),
                    line,
                    body: Vec::new(),
                });
                Ok(())
            }
            (Boundary::End(label), Some(open)) if *label != open.label => Err(at(
                line,
                Fault::OtherEnd {
                    label: open.label,
                    found: label.clone(),
                },
            )),
            (Boundary::End(_), Some(open)) => {
                self.sections.push(open.close()?);
                Ok(())
            }
        }
    }

    /// Takes the text between boundaries: content of the open section, or text that may be around sections.
    fn text(&mut self, line: usize, text: &'a [u8]) -> Result<(), PemError> {
        let text = trim(text);
        if let Some(open) = &mut self.open {
            open.body.push((line, text));
            return Ok(());
        }
        if is_nearly_boundary(text) {
            return Err(at(line, Fault::Boundary));
        }
        let is_hex = text.iter().all(u8::is_ascii_hexdigit);
        // Padding is at the end only: a name in OpenSSL's form, /C=DE/O=Example, is text.
        let padding = text.iter().rev().take_while(|octet| **octet == b'=').count();
        let is_bare = text.iter().rev().skip(padding).all(|octet| is_base64(*octet));
        if text.len() >= BARE_LINE && !is_hex && is_bare {
            return Err(at(line, Fault::OutsideSection));
        }
        Ok(())
    }
}

impl Open<'_> {
    fn close(self) -> Result<Section, PemError> {
        let mut is_encrypted = false;
        let mut in_headers = true;
        // Room for everything at once, so that no copy of a key stays behind in a smaller allocation.
        let room = self.body.iter().map(|(_, text)| text.len()).sum();
        let mut digits = Zeroizing::new(Vec::with_capacity(room));
        let mut padded = false;
        for (line, text) in &self.body {
            // Headers (RFC 1421 §4.4) come first, and base64 has no colon.
            if in_headers && text.contains(&b':') {
                is_encrypted |= text.starts_with(b"Proc-Type") && contains(text, b"ENCRYPTED");
                continue;
            }
            in_headers &= text.is_empty();
            for octet in text.iter().filter(|octet| !octet.is_ascii_whitespace()) {
                let fault = match octet {
                    b'=' => {
                        padded = true;
                        continue;
                    }
                    b'\\' => Some(Fault::EscapedLineEnds),
                    octet if padded || !is_base64(*octet) => Some(Fault::NotBase64),
                    _ => None,
                };
                if let Some(fault) = fault {
                    return Err(at(*line, fault));
                }
                digits.push(*octet);
            }
        }
        let Self { label, line, .. } = self;
        if digits.is_empty() {
            return Err(at(line, Fault::Empty { label }));
        }
        let mut der = Zeroizing::new(vec![0; digits.len() / 4 * 3 + 3]);
        match BASE64.decode_slice(&*digits, &mut der) {
            Ok(length) => der.truncate(length),
            Err(_) => return Err(at(line, Fault::CutOff { label })),
        }
        Ok(Section {
            label,
            line,
            der,
            is_encrypted,
        })
    }
}

enum Boundary {
    Begin(String),
    End(String),
}

/// The text before a boundary, the boundary, and the text after it.
type Split<'a> = (&'a [u8], Boundary, &'a [u8]);

/// Splits a text at its next BEGIN or END.
fn next_boundary(text: &[u8]) -> Result<Option<Split<'_>>, Fault> {
    const DASHES: &[u8] = b"-----";
    let found = [(b"-----BEGIN ".as_slice(), true), (b"-----END ".as_slice(), false)]
        .into_iter()
        .filter_map(|(marker, begins)| Some((position(text, marker)?, marker.len(), begins)))
        .min();
    let Some((start, length, begins)) = found else {
        return Ok(None);
    };
    let (before, rest) = text.split_at_checked(start).unwrap_or_default();
    let rest = rest.get(length..).unwrap_or_default();
    let end = position(rest, DASHES).ok_or(Fault::Boundary)?;
    let (label, rest) = rest.split_at_checked(end).unwrap_or_default();
    let label = std::str::from_utf8(trim(label)).map_err(|_| Fault::Boundary)?;
    let is_label = !label.is_empty() && label.len() <= 64 && label.chars().all(|c| matches!(c, ' '..='~'));
    if !is_label || before.ends_with(b"-") {
        return Err(Fault::Boundary);
    }
    let label = label.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let boundary = if begins {
        Boundary::Begin(label)
    } else {
        Boundary::End(label)
    };
    Ok(Some((before, boundary, rest.get(DASHES.len()..).unwrap_or_default())))
}

/// Whether a line is meant to begin or end a section, but is not written so: other dashes, or too few, or none; lower case.
fn is_nearly_boundary(text: &[u8]) -> bool {
    if text.len() > 200 {
        return false;
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let is_dash = |c: char| matches!(c, '-' | '_' | '=' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let words: String = text
        .trim_matches(|c: char| is_dash(c) || c.is_whitespace())
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let label = words.strip_prefix("BEGIN").or_else(|| words.strip_prefix("END"));
    // Whole labels only: "End entity certificate" is a comment that people write above a leaf.
    label.is_some_and(|label| {
        [
            "CERTIFICATE",
            "X509CERTIFICATE",
            "TRUSTEDCERTIFICATE",
            "CERTIFICATEREQUEST",
            "NEWCERTIFICATEREQUEST",
            "PRIVATEKEY",
            "RSAPRIVATEKEY",
            "ECPRIVATEKEY",
            "DSAPRIVATEKEY",
            "ENCRYPTEDPRIVATEKEY",
            "OPENSSHPRIVATEKEY",
            "PUBLICKEY",
            "RSAPUBLICKEY",
            "ECPARAMETERS",
            "DHPARAMETERS",
            "PKCS7",
            "CMS",
            "X509CRL",
        ]
        .contains(&label)
    })
}

/// Names what is no text, whatever is in it.
fn check_form(bytes: &[u8]) -> Result<(), PemError> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, 0, ..] | [_, 0, _, 0, ..] => Err(PemError::Utf16),
        [0xfe, 0xed, 0xfe, 0xed, ..] | [0xce, 0xce, 0xce, 0xce, ..] => Err(PemError::JavaKeystore),
        // SEQUENCE { INTEGER 3, …: a PFX (RFC 7292 §4).
        [0x30, 0x82 | 0x83, rest @ ..] if rest.get(2..5) == Some(&[2, 1, 3]) || rest.get(3..6) == Some(&[2, 1, 3]) => {
            Err(PemError::Pkcs12)
        }
        // No text continues like this after a 0: a length in the long form, or a short one.
        [0x30, length, ..] if *length >= 0x80 || (*length < 0x20 && !length.is_ascii_whitespace()) => {
            Err(PemError::Der)
        }
        _ => Ok(()),
    }
}

/// Why a text without any section is none.
fn without_section(bytes: &[u8]) -> PemError {
    let text = trim(bytes);
    let is_base64 = !text.is_empty()
        && text
            .iter()
            .all(|octet| is_base64(*octet) || *octet == b'=' || octet.is_ascii_whitespace());
    if is_base64 && text.starts_with(b"LS0tLS1") {
        PemError::EncodedTwice
    } else if is_base64 && text.starts_with(b"MI") {
        PemError::Bare
    } else {
        PemError::NoSection
    }
}

fn at(line: usize, fault: Fault) -> PemError {
    PemError::Line { line, fault }
}

fn is_base64(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/')
}

/// Lines with their numbers, ended by LF, CRLF or CR, without white space around them.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.iter().position(|octet| matches!(octet, b'\n' | b'\r')) else {
            rest = None;
            return Some(text);
        };
        let (line, after) = text.split_at_checked(end).unwrap_or_default();
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..));
        Some(line)
    })
    .enumerate()
    .map(|(number, line)| (number + 1, trim(line)))
}

/// Without white space at both ends, also such as comes out of web pages and editors: no-break and zero-width spaces, BOMs.
fn trim(mut text: &[u8]) -> &[u8] {
    const INVISIBLE: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xc2\xa0", b"\xe2\x80\x8b"];
    loop {
        let before = text.len();
        text = text.trim_ascii();
        for space in INVISIBLE {
            text = text.strip_prefix(space).unwrap_or(text);
            text = text.strip_suffix(space).unwrap_or(text);
        }
        if text.len() == before {
            return text;
        }
    }
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    position(text, wanted).is_some()
}

#[cfg(test)]
#[path = "pem_tests.rs"]
mod tests;
