//! Keystores for Java and other readers: PKCS#12 (RFC 7292) and JKS.
//!
//! They are written, and never read but to see whether they open with a password: whether one is still as it was written,
//! the API server shows (`certificate::observed_secret`).

use thiserror::Error;

use super::{certificate::CertificateError, key::PrivateKey};

mod jks;
mod pkcs12;

pub use jks::{jks_keystore, jks_opens, jks_truststore};
pub use pkcs12::{Pkcs12Profile, pkcs12_keystore, pkcs12_opens, pkcs12_truststore};

/// The alias of the key and its chain, as in cert-manager.
pub const KEY_ALIAS: &str = "certificate";
/// The alias of the first CA; further ones are `ca-1`, `ca-2`, …
pub const AUTHORITY_ALIAS: &str = "ca";

/// Content of a keystore.
#[derive(Debug, Clone, Copy)]
pub struct KeystoreContent<'a> {
    pub key: &'a PrivateKey,
    /// DER, the leaf first.
    pub chain: &'a [Vec<u8>],
    /// DER of what is in `ca.crt`; may be empty.
    pub authorities: &'a [Vec<u8>],
}

/// Why a keystore cannot be written.
#[derive(Debug, Error)]
pub enum KeystoreError {
    #[error("a keystore needs a certificate, and there is none")]
    NoCertificate,
    #[error("a truststore needs a CA certificate, and the issuer's is not known")]
    NoAuthority,
    #[error("the keystore's password is empty; put one into the Secret that passwordSecretRef names")]
    EmptyPassword,
    #[error("the keystore's password is {length} characters long; Java's tools want at least 6 for JKS")]
    ShortPassword { length: usize },
    #[error("a certificate cannot go into a keystore: {0}")]
    Certificate(#[from] CertificateError),
    #[error("the crypto library failed to write the keystore")]
    Library,
}

impl KeystoreError {
    /// The stable reason for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate | Self::Certificate(_) => "InvalidCertificate",
            Self::NoAuthority => "NoAuthority",
            Self::EmptyPassword | Self::ShortPassword { .. } => "InvalidKeystorePassword",
            Self::Library => "CryptoLibraryFailed",
        }
    }
}

/// The aliases of CAs, by position.
fn authority_alias(position: usize) -> String {
    if position == 0 {
        AUTHORITY_ALIAS.to_owned()
    } else {
        format!("{AUTHORITY_ALIAS}-{position}")
    }
}
