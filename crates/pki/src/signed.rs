//! The outer structure that certificates and requests share, and what goes into a certificate's body.

use aws_lc_rs::{digest, rand};
use jiff::Timestamp;
use yasna::{DERWriter, Tag, TagClass, models::ObjectIdentifier, tags::TAG_UTF8STRING};

use super::{
    extension::Extension,
    key::{Curve, KeyError, KeyParameters, PrivateKey, RsaSize},
};

const UTC_TIME: Tag = Tag {
    tag_class: TagClass::Universal,
    tag_number: 23,
};
const GENERALIZED_TIME: Tag = Tag {
    tag_class: TagClass::Universal,
    tag_number: 24,
};

/// The first and last moment at which a certificate is valid, both included. Whole seconds count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// A certificate's serial number: positive, random, of 16 octets (RFC 5280 §4.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SerialNumber([u8; 16]);

impl SerialNumber {
    /// Draws one. The sign bit is clear and the next set, so that it is positive and always of 16 octets.
    pub fn random() -> Result<Self, KeyError> {
        let mut octets = [0; 16];
        rand::fill(&mut octets).map_err(|_| KeyError::Library {
            doing: "draw a serial number",
        })?;
        octets[0] = octets[0] & 0x7f | 0x40;
        Ok(Self(octets))
    }

    pub fn as_octets(&self) -> &[u8] {
        &self.0
    }
}

/// The part that a CA signs (RFC 5280 §4.1.2), names and key already as DER.
pub(super) struct Body<'a> {
    pub(super) serial: SerialNumber,
    pub(super) issuer: &'a [u8],
    pub(super) validity: Validity,
    pub(super) subject: &'a [u8],
    pub(super) public_key: &'a [u8],
    pub(super) extensions: &'a [Extension],
}

impl Body<'_> {
    /// The certificate as DER, signed by `signer`.
    pub(super) fn sign(&self, signer: &PrivateKey) -> Result<Vec<u8>, KeyError> {
        let tbs = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
                writer.next().write_bigint_bytes(self.serial.as_octets(), true);
                write_signature_algorithm(writer.next(), signer.parameters());
                writer.next().write_der(self.issuer);
                writer.next().write_sequence(|writer| {
                    write_time(writer.next(), self.validity.not_before);
                    write_time(writer.next(), self.validity.not_after);
                });
                writer.next().write_der(self.subject);
                writer.next().write_der(self.public_key);
                writer.next().write_tagged(Tag::context(3), |writer| {
                    write_extensions(writer, self.extensions);
                });
            });
        });
        sign(&tbs, signer)
    }
}

/// `SEQUENCE { what is signed, algorithm, signature }`: a certificate or a PKCS#10 request.
pub(super) fn sign(content: &[u8], signer: &PrivateKey) -> Result<Vec<u8>, KeyError> {
    let signature = signer.sign(content)?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(content);
            write_signature_algorithm(writer.next(), signer.parameters());
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    }))
}

pub(super) fn write_extensions(writer: DERWriter<'_>, extensions: &[Extension]) {
    writer.write_sequence(|writer| {
        for extension in extensions {
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&ObjectIdentifier::from_slice(extension.oid));
                if extension.critical {
                    writer.next().write_bool(true);
                }
                writer.next().write_bytes(&extension.value);
            });
        }
    });
}

/// RFC 8017 §A.2.4 has NULL parameters; RFC 5758 §3.2 and RFC 8410 §3 have none.
fn write_signature_algorithm(writer: DERWriter<'_>, signer: KeyParameters) {
    let (oid, null): (&[u64], bool) = match signer {
        KeyParameters::Rsa(RsaSize::Bits2048) => (&[1, 2, 840, 113_549, 1, 1, 11], true),
        KeyParameters::Rsa(RsaSize::Bits3072) => (&[1, 2, 840, 113_549, 1, 1, 12], true),
        KeyParameters::Rsa(RsaSize::Bits4096) => (&[1, 2, 840, 113_549, 1, 1, 13], true),
        KeyParameters::Ecdsa(Curve::P256) => (&[1, 2, 840, 10045, 4, 3, 2], false),
        KeyParameters::Ecdsa(Curve::P384) => (&[1, 2, 840, 10045, 4, 3, 3], false),
        KeyParameters::Ecdsa(Curve::P521) => (&[1, 2, 840, 10045, 4, 3, 4], false),
        KeyParameters::Ed25519 => (&[1, 3, 101, 112], false),
    };
    writer.write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if null {
            writer.next().write_null();
        }
    });
}

/// `UTCTime` to the end of 2049, `GeneralizedTime` from then on (RFC 5280 §4.1.2.5).
fn write_time(writer: DERWriter<'_>, time: Timestamp) {
    let four_digits = time.strftime("%Y%m%d%H%M%SZ").to_string();
    match four_digits
        .get(2..)
        .filter(|_| ("1950".."2050").contains(&four_digits.get(..4).unwrap_or_default()))
    {
        Some(two_digits) => writer.write_tagged_implicit(UTC_TIME, |writer| writer.write_bytes(two_digits.as_bytes())),
        None => writer.write_tagged_implicit(GENERALIZED_TIME, |writer| {
            writer.write_bytes(four_digits.as_bytes());
        }),
    }
}

/// The key identifier of RFC 7093 §2 method 1: the first 160 bits of SHA-256 over the public key's bits.
pub(super) fn key_identifier(subject_public_key: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, subject_public_key)
        .as_ref()
        .iter()
        .copied()
        .take(20)
        .collect()
}

/// `PrintableString` where X.520 wants it and the text can be one, `UTF8String` otherwise.
pub(super) fn write_directory_string(writer: DERWriter<'_>, text: &str, printable: bool) {
    if printable
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c))
    {
        writer.write_printable_string(text);
    } else {
        writer.write_tagged_implicit(TAG_UTF8STRING, |writer| writer.write_bytes(text.as_bytes()));
    }
}
