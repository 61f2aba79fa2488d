//! PKCS#12 through p12-keystore.

use aws_lc_rs::digest;
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, Pkcs12ImportPolicy, PrivateKey,
    PrivateKeyChain,
};

use super::{KEY_ALIAS, KeystoreContent, KeystoreError, authority_alias};
use crate::certificate::CertificateError;

/// Encryption of a PKCS#12 file, by cert-manager's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pkcs12Profile {
    /// RC2 with 40 bits and HMAC-SHA-1, for readers from the last century.
    LegacyRC2,
    /// Triple DES and HMAC-SHA-1, which everything reads.
    LegacyDES,
    /// AES-256 and HMAC-SHA-256 (PBES2): OpenSSL 1.1, Java 8u301 and later. Java takes ASCII passwords only here.
    #[default]
    Modern2023,
}

/// Rounds of key derivation, as in cert-manager's profiles: the password is in a Secret
/// beside the keystore, so more would cost CPU and protect nothing.
const ITERATIONS: u32 = 2048;

impl Pkcs12Profile {
    fn algorithms(self) -> (EncryptionAlgorithm, MacAlgorithm) {
        match self {
            Self::LegacyRC2 => (EncryptionAlgorithm::PbeWithShaAnd40BitRc4Cbc, MacAlgorithm::HmacSha1),
            Self::LegacyDES => (
                EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc,
                MacAlgorithm::HmacSha1,
            ),
            Self::Modern2023 => (
                EncryptionAlgorithm::PbeWithHmacSha256AndAes256,
                MacAlgorithm::HmacSha256,
            ),
        }
    }
}

/// Whether this is a keystore of this password.
pub fn pkcs12_opens(keystore: &[u8], password: &str) -> bool {
    KeyStore::from_pkcs12(keystore, password, Pkcs12ImportPolicy::Raw).is_ok()
}

/// Writes a keystore with the key, its chain and the CAs under one alias.
pub fn pkcs12_keystore(
    content: KeystoreContent<'_>,
    password: &str,
    profile: Pkcs12Profile,
) -> Result<Vec<u8>, KeystoreError> {
    let Some(leaf) = content.chain.first() else {
        return Err(KeystoreError::NoCertificate);
    };
    let key = PrivateKey::from_der(content.key.pkcs8_der()).map_err(|_| KeystoreError::Library)?;
    // What OpenSSL and Java take to join a key with its certificate.
    let identifier = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, leaf)
        .as_ref()
        .to_vec();
    let certificates = certificates(&content)
        .into_iter()
        .map(certificate)
        .collect::<Result<Vec<_>, _>>()?;
    let mut store = KeyStore::new();
    store.add_entry(
        KEY_ALIAS,
        KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(identifier, key, certificates)),
    );
    write(&store, password, profile)
}

/// Writes a truststore with the CAs (DER).
pub fn pkcs12_truststore(
    authorities: &[Vec<u8>],
    password: &str,
    profile: Pkcs12Profile,
) -> Result<Vec<u8>, KeystoreError> {
    if authorities.is_empty() {
        return Err(KeystoreError::NoAuthority);
    }
    let mut store = KeyStore::new();
    for (position, der) in authorities.iter().enumerate() {
        store.add_entry(
            &authority_alias(position),
            KeyStoreEntry::Certificate(certificate(der)?),
        );
    }
    write(&store, password, profile)
}

/// The chain and the CAs, each certificate once: `ca.crt` may repeat a self-signed leaf.
fn certificates<'a>(content: &KeystoreContent<'a>) -> Vec<&'a [u8]> {
    let mut all: Vec<&[u8]> = Vec::new();
    for der in content.chain.iter().chain(content.authorities).map(Vec::as_slice) {
        if !all.contains(&der) {
            all.push(der);
        }
    }
    all
}

fn certificate(der: impl AsRef<[u8]>) -> Result<Certificate, KeystoreError> {
    Certificate::from_der(der.as_ref()).map_err(|_| KeystoreError::Certificate(CertificateError::Malformed))
}

fn write(store: &KeyStore, password: &str, profile: Pkcs12Profile) -> Result<Vec<u8>, KeystoreError> {
    if password.is_empty() {
        return Err(KeystoreError::EmptyPassword);
    }
    let (encryption, mac) = profile.algorithms();
    store
        .writer(password)
        .encryption_algorithm(encryption)
        .encryption_iterations(ITERATIONS)
        .mac_algorithm(mac)
        .mac_iterations(ITERATIONS)
        .write()
        .map_err(|_| KeystoreError::Library)
}

#[cfg(test)]
mod tests;
