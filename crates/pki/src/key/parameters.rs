//! The kinds and sizes of keys that can be made and used.

use std::fmt;

use x509_parser::{
    asn1_rs::{FromDer as _, Oid},
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
        OID_SIG_ED25519,
    },
    public_key::PublicKey,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

use super::KeyError;

/// The size of an RSA modulus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RsaSize {
    Bits2048,
    Bits3072,
    Bits4096,
}

/// A NIST curve (RFC 5480 §2.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Curve {
    P256,
    P384,
    P521,
}

/// The kind and size of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyParameters {
    Rsa(RsaSize),
    Ecdsa(Curve),
    Ed25519,
}

impl KeyParameters {
    /// The parameters of a public key, given as DER of its `SubjectPublicKeyInfo`.
    pub fn of_public_key(spki: &[u8]) -> Result<Self, KeyError> {
        let (_, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| KeyError::Malformed { part: "public key" })?;
        let rsa_bits = match info.parsed() {
            Ok(PublicKey::RSA(rsa)) => bits(rsa.modulus),
            _ => 0,
        };
        Self::of_algorithm(&info.algorithm, rsa_bits)
    }

    pub(super) fn of_algorithm(identifier: &AlgorithmIdentifier<'_>, rsa_bits: usize) -> Result<Self, KeyError> {
        let algorithm = &identifier.algorithm;
        if *algorithm == OID_PKCS1_RSAENCRYPTION {
            return match rsa_bits {
                2048 => Ok(Self::Rsa(RsaSize::Bits2048)),
                3072 => Ok(Self::Rsa(RsaSize::Bits3072)),
                4096 => Ok(Self::Rsa(RsaSize::Bits4096)),
                bits => Err(KeyError::UnsupportedRsaSize { bits }),
            };
        }
        if *algorithm == OID_SIG_ED25519 {
            return Ok(Self::Ed25519);
        }
        if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let curve = identifier.parameters.as_ref().and_then(|any| any.as_oid().ok());
            return curve.as_ref().and_then(Curve::of_oid).map(Self::Ecdsa).ok_or_else(|| {
                KeyError::UnsupportedAlgorithm {
                    algorithm: curve.map_or_else(
                        || "ECDSA without a named curve".to_owned(),
                        |oid| format!("ECDSA on the curve {oid}"),
                    ),
                }
            });
        }
        Err(KeyError::UnsupportedAlgorithm {
            algorithm: algorithm.to_string(),
        })
    }
}

impl fmt::Display for KeyParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa(RsaSize::Bits2048) => "RSA 2048",
            Self::Rsa(RsaSize::Bits3072) => "RSA 3072",
            Self::Rsa(RsaSize::Bits4096) => "RSA 4096",
            Self::Ecdsa(Curve::P256) => "ECDSA 256",
            Self::Ecdsa(Curve::P384) => "ECDSA 384",
            Self::Ecdsa(Curve::P521) => "ECDSA 521",
            Self::Ed25519 => "Ed25519",
        })
    }
}

impl Curve {
    fn of_oid(oid: &Oid<'_>) -> Option<Self> {
        [
            (OID_EC_P256, Self::P256),
            (OID_NIST_EC_P384, Self::P384),
            (OID_NIST_EC_P521, Self::P521),
        ]
        .into_iter()
        .find(|(known, _)| known == oid)
        .map(|(_, curve)| curve)
    }
}

/// The length of an unsigned number, high octet first.
pub(super) fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|octet| **octet == 0);
    significant.clone().count() * 8
        - significant
            .clone()
            .next()
            .map_or(0, |first| first.leading_zeros() as usize)
}
