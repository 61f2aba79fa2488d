//! The Secret as it is written: the pair, its further forms, and what is noted about it.

use std::collections::BTreeMap;

use gatehouse_crds::certificate::{Certificate, OutputFormatType, SecretDeletionPolicy};
use jiff::Timestamp;
use kube::Resource;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    desired::DesiredCertificate,
    failure::{Class, Failure},
    observed_secret::{
        ARI_IDENTIFIER, CAUSE, CHAIN_HASH, DATA_KEYS, ISSUED_AT, KEYSTORE_PASSWORDS, KeyPair, OUTPUT_HASH,
        REQUEST_HASH, TLS,
    },
};
use crate::{kubernetes::names, pki};

/// Passwords of the keystores, read beforehand.
#[derive(Default)]
pub struct Passwords {
    pub pkcs12: Option<Zeroizing<String>>,
    pub jks: Option<Zeroizing<String>>,
    /// Fingerprint of the Secrets that they were read from ([`super::keystores::passwords_mark`]).
    pub mark: Option<String>,
}

/// Annotations of the Secret, in addition to the key pair.
#[derive(Clone, Debug)]
pub struct SecretAnnotations<'a> {
    /// Signing issuer as `<kind>/<name>`, when known.
    pub issuer: Option<String>,
    /// Why it was issued, when known.
    pub cause: Option<String>,
    /// The identifier for ACME Renewal Information, when the CA gives any.
    pub ari_identifier: Option<String>,
    /// When it was issued, when known.
    pub issued_at: Option<Timestamp>,
    pub desired: &'a DesiredCertificate,
}

/// The body of the apply that writes the Secret, all of it in one write.
///
/// # Errors
/// When a keystore cannot be made, for want of a password for example.
pub fn body(
    certificate: &Certificate,
    pair: &KeyPair,
    passwords: &Passwords,
    notes: &SecretAnnotations<'_>,
) -> Result<Value, Failure> {
    let desired = notes.desired;
    let data = data(certificate, desired, pair, passwords)?;
    let keys = data.keys().map(String::as_str).collect::<Vec<_>>().join(",");
    let leaf = pair.leaf();
    let template = certificate.spec.secret_template.clone().unwrap_or_default();

    let mut labels = template.labels;
    labels.insert(names::MANAGED.into(), names::TRUE.into());
    labels
        .entry(names::APP_MANAGED_BY.into())
        .or_insert_with(|| names::FIELD_MANAGER.into());

    let mut annotations = template.annotations;
    let mut note = |key: &str, value: Option<String>| value.and_then(|value| annotations.insert(key.into(), value));
    note(names::CERTIFICATE, certificate.metadata.name.clone());
    note(names::ISSUER, notes.issuer.clone());
    note(
        names::NOT_AFTER,
        Some(super::renewal::whole_seconds(leaf.not_after).to_string()),
    );
    note(names::SERIAL_NUMBER, Some(leaf.serial_hex()));
    note(REQUEST_HASH, Some(desired.request_hash.clone()));
    note(OUTPUT_HASH, Some(desired.output_hash.clone()));
    note(CHAIN_HASH, Some(pair.chain_hash()));
    note(DATA_KEYS, Some(keys));
    note(CAUSE, notes.cause.clone());
    note(ARI_IDENTIFIER, notes.ari_identifier.clone());
    note(KEYSTORE_PASSWORDS, passwords.mark.clone());
    note(ISSUED_AT, notes.issued_at.map(|time| time.to_string()));

    let owner = (certificate.spec.secret_deletion_policy == Some(SecretDeletionPolicy::Delete))
        .then(|| certificate.owner_ref(&()))
        .flatten();
    let mut metadata = serde_json::Map::new();
    metadata.insert("labels".into(), json!(labels));
    metadata.insert("annotations".into(), json!(annotations));
    if let Some(owner) = owner {
        metadata.insert("ownerReferences".into(), json!([owner]));
    }
    Ok(json!({ "metadata": metadata, "type": TLS, "data": data }))
}

/// Values in base64, as the API takes them.
fn data(
    certificate: &Certificate,
    desired: &DesiredCertificate,
    pair: &KeyPair,
    passwords: &Passwords,
) -> Result<BTreeMap<String, String>, Failure> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut data = BTreeMap::new();
    let mut put = |name: &str, value: &[u8]| {
        data.insert(name.to_owned(), STANDARD.encode(value));
    };
    let spec = &certificate.spec;
    let chain = pair.chain.pem();
    let key = pair.key.to_pem(desired.encoding).map_err(key_failure)?;
    put("tls.crt", chain.as_bytes());
    put("tls.key", key.as_bytes());
    if let Some(ca) = &pair.ca {
        put("ca.crt", ca.as_bytes());
    }
    for format in &spec.additional_output_formats {
        match format.kind {
            OutputFormatType::CombinedPEM => {
                put(
                    "tls-combined.pem",
                    &Zeroizing::new([key.as_bytes(), chain.as_bytes()].concat()),
                );
            }
            OutputFormatType::DER => put("key.der", &pair.key.to_der(desired.encoding).map_err(key_failure)?),
        }
    }
    for (name, value) in super::keystores::made(spec.keystores.as_ref(), pair, passwords)? {
        put(name, &value);
    }
    Ok(data)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn key_failure(error: pki::KeyError) -> Failure {
    Failure::new(
        Class::Transient,
        "SecretWriteFailed",
        format!("the private key cannot be written: {error}"),
    )
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
