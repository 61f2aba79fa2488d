//! Private keys: made, read from PEM, written, used to sign. Never shown.

use std::fmt;

use aws_lc_rs::{
    encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, EcPrivateKeyRfc5915Der, Pkcs8V1Der, PublicKeyX509Der},
    error::Unspecified,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RsaEncoding, RsaKeyPair,
    },
};
use thiserror::Error;
use x509_parser::{
    asn1_rs::{Any, FromDer as _},
    x509::AlgorithmIdentifier,
};
use zeroize::Zeroizing;

use super::{
    encoding::pem_section,
    pem::{self, PemError, Section},
};
use parameters::bits;
pub use parameters::{Curve, KeyParameters, RsaSize};

mod parameters;

/// Encoding of a private key. `Pkcs1` means the traditional encodings: PKCS#1 for RSA
/// (RFC 8017), SEC 1 for ECDSA (RFC 5915). Ed25519 has PKCS#8 (RFC 8410) only, whichever is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyEncoding {
    Pkcs1,
    #[default]
    Pkcs8,
}

/// Why a private key cannot be read or used. No variant holds any part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(
        "it holds several private keys, at lines {first} and {second}; leave the one that belongs to the certificate"
    )]
    Several { first: usize, second: usize },
    #[error("the private key is encrypted; decrypt it first (openssl pkey -in key.pem -out decrypted.pem)")]
    Encrypted,
    #[error("this is {found}, not a private key")]
    NotAPrivateKey { found: String },
    #[error("the private key cannot be read: its {part} is malformed")]
    Malformed { part: &'static str },
    #[error("the key's algorithm {algorithm} is not supported; use RSA, ECDSA on P-256, P-384 or P-521, or Ed25519")]
    UnsupportedAlgorithm { algorithm: String },
    #[error("RSA keys of {bits} bits are not supported; use 2048, 3072 or 4096")]
    UnsupportedRsaSize { bits: usize },
    #[error("the crypto library failed to {doing}")]
    Library { doing: &'static str },
}

impl KeyError {
    /// The stable reason for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Pem(_) | Self::Several { .. } | Self::NotAPrivateKey { .. } | Self::Malformed { .. } => {
                "InvalidPrivateKey"
            }
            Self::Encrypted => "EncryptedPrivateKey",
            Self::UnsupportedAlgorithm { .. } | Self::UnsupportedRsaSize { .. } => "UnsupportedKeyAlgorithm",
            Self::Library { .. } => "CryptoLibraryFailed",
        }
    }
}

enum Signer {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key. Its bytes are wiped when it is dropped, and `Debug` shows its parameters only.
pub struct PrivateKey {
    signer: Signer,
    parameters: KeyParameters,
    pkcs8: Zeroizing<Vec<u8>>,
    public_key: Vec<u8>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// Makes a new key. RSA takes from tenths of a second to seconds: call it off the async threads.
    pub fn generate(parameters: KeyParameters) -> Result<Self, KeyError> {
        let failed = |_: Unspecified| KeyError::Library {
            doing: "generate a key",
        };
        match parameters {
            KeyParameters::Rsa(size) => {
                let size = match size {
                    RsaSize::Bits2048 => KeySize::Rsa2048,
                    RsaSize::Bits3072 => KeySize::Rsa3072,
                    RsaSize::Bits4096 => KeySize::Rsa4096,
                };
                Self::of_rsa(RsaKeyPair::generate(size).map_err(failed)?)
            }
            KeyParameters::Ecdsa(curve) => {
                Self::of_ecdsa(EcdsaKeyPair::generate(signing(curve)).map_err(failed)?, curve)
            }
            KeyParameters::Ed25519 => Self::of_ed25519(Ed25519KeyPair::generate().map_err(failed)?),
        }
    }

    /// Reads the private key of a PEM text: PKCS#8, PKCS#1 for RSA or SEC 1 for EC. Other sections that a file with
    /// a key may hold, such as certificates or `EC PARAMETERS`, are passed over; a second key is not.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let sections = pem::sections(pem)?;
        let is_key = |section: &&Section| section.label.ends_with("PRIVATE KEY");
        let keys: Vec<_> = sections.iter().filter(is_key).collect();
        let Some(first) = keys.first() else {
            let label = sections.first().map_or("", |section| section.label.as_str());
            return Err(KeyError::NotAPrivateKey { found: found(label) });
        };
        if keys
            .iter()
            .any(|key| key.label == "ENCRYPTED PRIVATE KEY" || key.is_encrypted)
        {
            return Err(KeyError::Encrypted);
        }
        if let Some(other) = keys.iter().find(|key| *key.der != *first.der) {
            return Err(KeyError::Several {
                first: first.line,
                second: other.line,
            });
        }
        match first.label.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8_der(&first.der),
            "RSA PRIVATE KEY" => Self::from_pkcs1_der(&first.der),
            "EC PRIVATE KEY" => Self::from_sec1_der(&first.der),
            label => Err(KeyError::NotAPrivateKey { found: found(label) }),
        }
    }

    /// Reads an unencrypted PKCS#8 key (RFC 5208, RFC 5958).
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { part: "PKCS#8 content" };
        let (_, info) = Any::from_der(der).map_err(|_| malformed())?;
        let (after_version, _) = Any::from_der(info.data).map_err(|_| malformed())?;
        let (after_algorithm, identifier) = AlgorithmIdentifier::from_der(after_version).map_err(|_| malformed())?;
        let (_, content) = Any::from_der(after_algorithm).map_err(|_| malformed())?;
        match KeyParameters::of_algorithm(&identifier, rsa_bits(content.data))? {
            KeyParameters::Rsa(_) => Self::of_rsa(RsaKeyPair::from_pkcs8(der).map_err(|_| malformed())?),
            KeyParameters::Ecdsa(curve) => Self::of_foreign_ecdsa(
                &EcdsaKeyPair::from_pkcs8(signing(curve), der).map_err(|_| malformed())?,
                curve,
            ),
            KeyParameters::Ed25519 => {
                Self::of_ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| malformed())?)
            }
        }
    }

    fn from_pkcs1_der(der: &[u8]) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { part: "PKCS#1 content" };
        match rsa_bits(der) {
            0 => Err(malformed()),
            2048 | 3072 | 4096 => Self::of_rsa(RsaKeyPair::from_der(der).map_err(|_| malformed())?),
            bits => Err(KeyError::UnsupportedRsaSize { bits }),
        }
    }

    /// SEC 1 names the curve optionally, and the library checks it: the first that fits is the one.
    fn from_sec1_der(der: &[u8]) -> Result<Self, KeyError> {
        [Curve::P256, Curve::P384, Curve::P521]
            .into_iter()
            .find_map(|curve| Some((EcdsaKeyPair::from_private_key_der(signing(curve), der).ok()?, curve)))
            .map_or(
                Err(KeyError::Malformed {
                    part: "EC content, or its curve is not P-256, P-384 or P-521 and",
                }),
                |(pair, curve)| Self::of_foreign_ecdsa(&pair, curve),
            )
    }

    fn of_rsa(pair: RsaKeyPair) -> Result<Self, KeyError> {
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(unwritten)?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(unwritten)?;
        let parameters = KeyParameters::of_public_key(public.as_ref())?;
        // A hash about as strong as the modulus, as cert-manager and the CAs' habit have it.
        let encoding: &'static dyn RsaEncoding = match parameters {
            KeyParameters::Rsa(RsaSize::Bits4096) => &RSA_PKCS1_SHA512,
            KeyParameters::Rsa(RsaSize::Bits3072) => &RSA_PKCS1_SHA384,
            _ => &RSA_PKCS1_SHA256,
        };
        let (pkcs8, public_key) = (Zeroizing::new(pkcs8.as_ref().to_vec()), public.as_ref().to_vec());
        Ok(Self {
            signer: Signer::Rsa(pair, encoding),
            parameters,
            pkcs8,
            public_key,
        })
    }

    /// A key that came without its public half would be written without; some readers want it there.
    fn of_foreign_ecdsa(pair: &EcdsaKeyPair, curve: Curve) -> Result<Self, KeyError> {
        let private: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().map_err(unwritten)?;
        let whole =
            EcdsaKeyPair::from_private_key_and_public_key(signing(curve), private.as_ref(), pair.public_key().as_ref())
                .map_err(|_| KeyError::Malformed { part: "EC content" })?;
        Self::of_ecdsa(whole, curve)
    }

    fn of_ecdsa(pair: EcdsaKeyPair, curve: Curve) -> Result<Self, KeyError> {
        let pkcs8 = Zeroizing::new(pair.to_pkcs8v1().map_err(unwritten)?.as_ref().to_vec());
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(unwritten)?;
        let public_key = public.as_ref().to_vec();
        Ok(Self {
            signer: Signer::Ecdsa(pair),
            parameters: KeyParameters::Ecdsa(curve),
            pkcs8,
            public_key,
        })
    }

    fn of_ed25519(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        // Version 1, since readers such as OpenSSL 1.1 and older Java know no other.
        let pkcs8 = Zeroizing::new(pair.to_pkcs8v1().map_err(unwritten)?.as_ref().to_vec());
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(unwritten)?;
        let public_key = public.as_ref().to_vec();
        Ok(Self {
            signer: Signer::Ed25519(pair),
            parameters: KeyParameters::Ed25519,
            pkcs8,
            public_key,
        })
    }

    pub fn parameters(&self) -> KeyParameters {
        self.parameters
    }

    /// DER of the public key's `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key
    }

    /// DER of the unencrypted PKCS#8 `PrivateKeyInfo`.
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// DER in the encoding asked for.
    pub fn to_der(&self, encoding: KeyEncoding) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        match (encoding, &self.signer) {
            (KeyEncoding::Pkcs8, _) | (_, Signer::Ed25519(_)) => Ok(self.pkcs8.clone()),
            (KeyEncoding::Pkcs1, Signer::Ecdsa(pair)) => {
                let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().map_err(unwritten)?;
                Ok(Zeroizing::new(der.as_ref().to_vec()))
            }
            (KeyEncoding::Pkcs1, Signer::Rsa(..)) => {
                // PKCS#8 holds the PKCS#1 key as its third element, an OCTET STRING.
                let inner = || {
                    let (_, info) = Any::from_der(&self.pkcs8).ok()?;
                    let (after_version, _) = Any::from_der(info.data).ok()?;
                    let (after_algorithm, _) = Any::from_der(after_version).ok()?;
                    let (_, key) = Any::from_der(after_algorithm).ok()?;
                    Some(Zeroizing::new(key.data.to_vec()))
                };
                inner().ok_or(KeyError::Malformed { part: "PKCS#8 content" })
            }
        }
    }

    /// PEM in the encoding asked for: `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`.
    pub fn to_pem(&self, encoding: KeyEncoding) -> Result<Zeroizing<String>, KeyError> {
        let label = match (encoding, self.parameters) {
            (KeyEncoding::Pkcs8, _) | (_, KeyParameters::Ed25519) => "PRIVATE KEY",
            (KeyEncoding::Pkcs1, KeyParameters::Rsa(_)) => "RSA PRIVATE KEY",
            (KeyEncoding::Pkcs1, KeyParameters::Ecdsa(_)) => "EC PRIVATE KEY",
        };
        Ok(pem_section(label, &self.to_der(encoding)?))
    }

    /// Signs as certificates are signed: RSA PKCS#1 v1.5 or ECDSA (DER) with the hash that fits the
    /// size, or Ed25519.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let failed = |_: Unspecified| KeyError::Library { doing: "sign" };
        match &self.signer {
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
            Signer::Ecdsa(pair) => Ok(pair
                .sign(&SystemRandom::new(), message)
                .map_err(failed)?
                .as_ref()
                .to_vec()),
            Signer::Ed25519(pair) => Ok(pair.try_sign(message).map_err(failed)?.as_ref().to_vec()),
        }
    }
}

/// Returns the meaning of a section's label, for messages.
fn found(label: &str) -> String {
    match label {
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => "a certificate".to_owned(),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => "a public key".to_owned(),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => "a certificate request".to_owned(),
        "OPENSSH PRIVATE KEY" => "a key in OpenSSH's own format (convert it with ssh-keygen -p -m PKCS8)".to_owned(),
        label => format!("a PEM section {label:?}"),
    }
}

/// The size of the modulus in a PKCS#1 key, its second element; 0 when it is none. Known before the
/// library reads the key, which refuses small ones without a reason.
fn rsa_bits(pkcs1: &[u8]) -> usize {
    let modulus = || {
        let (_, key) = Any::from_der(pkcs1).ok()?;
        let (after_version, _) = Any::from_der(key.data).ok()?;
        let (_, modulus) = Any::from_der(after_version).ok()?;
        Some(bits(modulus.data))
    };
    modulus().unwrap_or(0)
}

fn signing(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        Curve::P521 => &ECDSA_P521_SHA512_ASN1_SIGNING,
    }
}

fn unwritten(_: Unspecified) -> KeyError {
    KeyError::Library { doing: "write a key" }
}

#[cfg(test)]
mod tests;
