//! JKS, Java's own format up to Java 8, of our own writing.
//!
//! The format has no standard; it is what `sun.security.provider.JavaKeyStore` and `KeyProtector`
//! of `OpenJDK` read: magic, version 2, entries, and a SHA-1 digest keyed with the password. The
//! protection of the key (SHA-1 and XOR) is weak by today's measure, and that format's only one.

use aws_lc_rs::{
    digest::{Context, Digest, SHA1_FOR_LEGACY_USE_ONLY},
    rand,
};
use yasna::models::ObjectIdentifier;
use zeroize::Zeroizing;

use super::{KEY_ALIAS, KeystoreContent, KeystoreError, authority_alias};
use crate::certificate::Certificate;

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
const PRIVATE_KEY: u32 = 1;
const TRUSTED_CERTIFICATE: u32 = 2;
const CERTIFICATE_TYPE: &str = "X.509";
const WHITENER: &[u8] = b"Mighty Aphrodite";
const DIGEST_LENGTH: usize = 20;
const KEY_PROTECTOR: &[u64] = &[1, 3, 6, 1, 4, 1, 42, 2, 17, 1, 1];
const SHORTEST_PASSWORD: usize = 6;

/// An entry: the alias and the certificates, with the key when there is one.
struct Entry {
    alias: String,
    key: Option<Zeroizing<Vec<u8>>>,
    certificates: Vec<Vec<u8>>,
}

/// Writes a keystore with the key and its chain as one entry and each CA as a trusted one. Entries
/// are dated with their certificate's notBefore.
pub fn jks_keystore(content: KeystoreContent<'_>, password: &str) -> Result<Vec<u8>, KeystoreError> {
    if content.chain.is_empty() {
        return Err(KeystoreError::NoCertificate);
    }
    write(&entries(&content), password)
}

/// Writes a truststore with the CAs (DER).
pub fn jks_truststore(authorities: &[Vec<u8>], password: &str) -> Result<Vec<u8>, KeystoreError> {
    if authorities.is_empty() {
        return Err(KeystoreError::NoAuthority);
    }
    write(&trusted(authorities).collect::<Vec<_>>(), password)
}

/// Whether this is a keystore of this password.
pub fn jks_opens(keystore: &[u8], password: &str) -> bool {
    let Some(end) = keystore.len().checked_sub(DIGEST_LENGTH) else {
        return false;
    };
    let (content, written) = keystore.split_at_checked(end).unwrap_or_default();
    let digest = sha1(&[&password_octets(password), WHITENER, content]);
    content.starts_with(&MAGIC.to_be_bytes()) && digest.as_ref() == written
}

fn entries(content: &KeystoreContent<'_>) -> Vec<Entry> {
    let key = Zeroizing::new(content.key.pkcs8_der().to_vec());
    let own = Entry {
        alias: KEY_ALIAS.to_owned(),
        key: Some(key),
        certificates: content.chain.to_vec(),
    };
    std::iter::once(own).chain(trusted(content.authorities)).collect()
}

fn trusted(authorities: &[Vec<u8>]) -> impl Iterator<Item = Entry> + '_ {
    authorities.iter().enumerate().map(|(position, der)| Entry {
        alias: authority_alias(position),
        key: None,
        certificates: vec![der.clone()],
    })
}

/// Java hashes the password's UTF-16 code units, high octet first.
fn password_octets(password: &str) -> Zeroizing<Vec<u8>> {
    let mut octets = Zeroizing::new(Vec::with_capacity(password.len() * 2));
    octets.extend(password.encode_utf16().flat_map(u16::to_be_bytes));
    octets
}

fn sha1(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    context.finish()
}

fn write(entries: &[Entry], password: &str) -> Result<Vec<u8>, KeystoreError> {
    match password.chars().count() {
        0 => return Err(KeystoreError::EmptyPassword),
        length if length < SHORTEST_PASSWORD => {
            return Err(KeystoreError::ShortPassword { length });
        }
        _ => {}
    }
    let password = password_octets(password);
    let mut file = Vec::new();
    write_u32(&mut file, MAGIC);
    write_u32(&mut file, VERSION);
    write_length(&mut file, entries.len())?;
    for entry in entries {
        write_u32(
            &mut file,
            if entry.key.is_some() {
                PRIVATE_KEY
            } else {
                TRUSTED_CERTIFICATE
            },
        );
        write_text(&mut file, &entry.alias)?;
        let first = entry.certificates.first().ok_or(KeystoreError::NoCertificate)?;
        let created = Certificate::from_der(first)?.not_before.as_millisecond();
        file.extend_from_slice(&created.max(0).to_be_bytes());
        if let Some(key) = &entry.key {
            let protected = protect(key, &password)?;
            write_length(&mut file, protected.len())?;
            file.extend_from_slice(&protected);
            write_length(&mut file, entry.certificates.len())?;
        }
        for certificate in &entry.certificates {
            write_text(&mut file, CERTIFICATE_TYPE)?;
            write_length(&mut file, certificate.len())?;
            file.extend_from_slice(certificate);
        }
    }
    let digest = sha1(&[&password, WHITENER, &file]);
    file.extend_from_slice(digest.as_ref());
    Ok(file)
}

fn write_u32(file: &mut Vec<u8>, value: u32) {
    file.extend_from_slice(&value.to_be_bytes());
}

fn write_length(file: &mut Vec<u8>, length: usize) -> Result<(), KeystoreError> {
    write_u32(file, u32::try_from(length).map_err(|_| KeystoreError::Library)?);
    Ok(())
}

fn write_text(file: &mut Vec<u8>, text: &str) -> Result<(), KeystoreError> {
    file.extend_from_slice(
        &u16::try_from(text.len())
            .map_err(|_| KeystoreError::Library)?
            .to_be_bytes(),
    );
    file.extend_from_slice(text.as_bytes());
    Ok(())
}

/// `salt · key XOR stream · SHA-1(password, key)`, wrapped as an `EncryptedPrivateKeyInfo`.
fn protect(key: &[u8], password: &[u8]) -> Result<Vec<u8>, KeystoreError> {
    let mut salt = [0; DIGEST_LENGTH];
    rand::fill(&mut salt).map_err(|_| KeystoreError::Library)?;
    let content = [
        &salt,
        mask(key, &salt, password).as_slice(),
        sha1(&[password, key]).as_ref(),
    ]
    .concat();
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&ObjectIdentifier::from_slice(KEY_PROTECTOR));
                writer.next().write_null();
            });
            writer.next().write_bytes(&content);
        });
    }))
}

/// XOR with the stream `d1 · d2 · …`, where `d1 = SHA-1(password, salt)` and `dn = SHA-1(password, dn-1)`.
fn mask(data: &[u8], salt: &[u8], password: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut masked = Zeroizing::new(Vec::with_capacity(data.len()));
    let mut digest = sha1(&[password, salt]);
    for block in data.chunks(DIGEST_LENGTH) {
        masked.extend(block.iter().zip(digest.as_ref()).map(|(octet, key)| octet ^ key));
        digest = sha1(&[password, digest.as_ref()]);
    }
    masked
}

#[cfg(test)]
mod tests;
