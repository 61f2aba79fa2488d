//! PKCS#12 through p12-keystore.

use aws_lc_rs::digest;
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, Pkcs12Archive, PrivateKey, PrivateKeyChain,
};

use super::{KEY_ALIAS, KeystoreContent, KeystoreError, LARGEST, authority_alias};
use crate::pki::certificate::CertificateError;

/// How a PKCS#12 file is protected, by cert-manager's names.
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

/// Rounds of key derivation, as cert-manager's profiles have them: the password stands in a Secret
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

    /// The DER of the encryption scheme's object identifier, which stands in clear in the file.
    fn scheme(self) -> &'static [u8] {
        match self {
            Self::LegacyRC2 => &[6, 10, 42, 134, 72, 134, 247, 13, 1, 12, 1, 6],
            Self::LegacyDES => &[6, 10, 42, 134, 72, 134, 247, 13, 1, 12, 1, 3],
            Self::Modern2023 => &[6, 9, 42, 134, 72, 134, 247, 13, 1, 5, 13],
        }
    }

    /// RC2 goes first: other writers protect the certificates by it and the key by triple DES.
    fn of(file: &[u8]) -> Option<Self> {
        [Self::LegacyRC2, Self::LegacyDES, Self::Modern2023]
            .into_iter()
            .find(|profile| {
                file.windows(profile.scheme().len())
                    .any(|window| window == profile.scheme())
            })
    }
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

/// Whether a file is a keystore of this content, password and profile.
pub fn pkcs12_keystore_matches(
    existing: &[u8],
    content: KeystoreContent<'_>,
    password: &str,
    profile: Pkcs12Profile,
) -> bool {
    let Some(archive) = read(existing, password, profile) else {
        return false;
    };
    let [key] = archive.keys.as_slice() else {
        return false;
    };
    let found = archive.certs.iter().map(|bag| bag.cert.as_der());
    key.friendly_name.as_deref() == Some(KEY_ALIAS)
        && key.key.as_der() == content.key.pkcs8_der()
        && archive.secrets.is_empty()
        && found.eq(certificates(&content))
}

/// Whether a file is a truststore of these CAs, password and profile.
pub fn pkcs12_truststore_matches(
    existing: &[u8],
    authorities: &[Vec<u8>],
    password: &str,
    profile: Pkcs12Profile,
) -> bool {
    let Some(archive) = read(existing, password, profile) else {
        return false;
    };
    // The writer orders entries by alias, which is not the order of the list beyond ten.
    let mut found: Vec<_> = archive
        .certs
        .iter()
        .map(|bag| (bag.friendly_name.clone(), bag.trusted, bag.cert.as_der()))
        .collect();
    let mut wanted: Vec<_> = authorities
        .iter()
        .enumerate()
        .map(|(position, der)| (Some(authority_alias(position)), true, der.as_slice()))
        .collect();
    found.sort();
    wanted.sort();
    archive.keys.is_empty() && archive.secrets.is_empty() && found == wanted
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

fn read(existing: &[u8], password: &str, profile: Pkcs12Profile) -> Option<Pkcs12Archive> {
    if existing.len() > LARGEST || Pkcs12Profile::of(existing) != Some(profile) {
        return None;
    }
    Pkcs12Archive::from_pkcs12(existing, password).ok()
}

#[cfg(test)]
mod tests;
