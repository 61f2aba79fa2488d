//! A Secret as observed: its metadata without reading the body, and its contents.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use gatehouse_crds::certificate::{IssuerKind, SigningIssuer};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};
use serde_json::{Value, json};
use thiserror::Error;
use zeroize::Zeroize;

use super::desired;
use crate::{
    kubernetes::names,
    pki::{Certificate, Chain, ChainError, PrivateKey, chain::read_bundle},
};

/// Annotation: fingerprint of the request that the certificate answers.
pub const REQUEST_HASH: &str = "gatehouse.dev/request-hash";
/// Annotation: fingerprint of the Secret's form.
pub const OUTPUT_HASH: &str = "gatehouse.dev/output-hash";
/// Annotation: the keys of `data` that we wrote, so that a missing one is missed.
pub const DATA_KEYS: &str = "gatehouse.dev/data-keys";
/// Annotation: fingerprint of `tls.crt` and `ca.crt`, so that one that was cut or exchanged by hand is noticed.
pub const CHAIN_HASH: &str = "gatehouse.dev/chain-hash";
/// Annotation: the certificate's identifier for ACME Renewal Information (RFC 9773 section 4.1).
pub const ARI_IDENTIFIER: &str = "gatehouse.dev/ari-identifier";
/// Annotation: fingerprint of the Secrets from which the keystores' passwords came: which, and in which version.
pub const KEYSTORE_PASSWORDS: &str = "gatehouse.dev/keystore-passwords";
/// Annotation: when it was issued, so that a restored backup does not answer an old request for a renewal again.
pub const ISSUED_AT: &str = "gatehouse.dev/issued-at";
/// Annotation: why it was issued ([`super::decide::IssuanceReason`]).
pub const CAUSE: &str = "gatehouse.dev/cause";

/// Our annotations. Other annotations that we own come from a template.
const NOTES: [&str; 12] = [
    names::CERTIFICATE,
    names::ISSUER,
    names::NOT_AFTER,
    names::SERIAL_NUMBER,
    REQUEST_HASH,
    OUTPUT_HASH,
    CHAIN_HASH,
    DATA_KEYS,
    CAUSE,
    ARI_IDENTIFIER,
    KEYSTORE_PASSWORDS,
    ISSUED_AT,
];
/// All our labels.
const LABELS: [&str; 2] = [names::MANAGED, names::APP_MANAGED_BY];

/// Metadata of a Secret: all that is kept of it in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecretMetadata {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    /// The Certificate that it belongs to, by its own word.
    pub certificate: Option<String>,
    /// Whether its owner consents that we take it.
    pub adopt: bool,
    /// Whether every field that we wrote is still as we wrote it. The API server keeps account of
    /// that: a client that changes or removes a field takes it from us (server-side apply).
    pub intact: bool,
    /// Which labels and annotations of a template are as we wrote them, by [`template_mark`].
    pub template: u64,
    /// When our apply last changed something, by the API server's clock.
    pub written: Option<Timestamp>,
    /// Signing issuer as `<kind>/<name>`.
    pub issuer: Option<String>,
    pub serial_number: Option<String>,
    pub not_after: Option<Timestamp>,
    pub request_hash: Option<String>,
    pub output_hash: Option<String>,
    pub chain_hash: Option<String>,
    pub ari_identifier: Option<String>,
    pub cause: Option<String>,
    pub passwords: Option<String>,
    pub issued_at: Option<Timestamp>,
}

impl SecretMetadata {
    /// Reads them off an object's metadata.
    pub fn of(meta: &ObjectMeta) -> Self {
        let note = |key: &str| meta.annotations.as_ref().and_then(|notes| notes.get(key)).cloned();
        let fields = meta.managed_fields.iter().flatten().find_map(ours);
        // Fingerprints count only while they are as we wrote them: edited by hand, or restored from a backup, they say
        // nothing, and what is in the Secret is judged instead.
        let own_note = |key: &str| {
            let path = ["f:metadata", "f:annotations", &format!("f:{key}")];
            note(key).filter(|_| fields.is_some_and(|fields| owns(fields, &path)))
        };
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            certificate: note(names::CERTIFICATE),
            adopt: note(names::ADOPT).as_deref() == Some(names::TRUE),
            intact: fields
                .is_some_and(|fields| is_intact(meta, fields, note(DATA_KEYS).as_deref().unwrap_or_default())),
            template: template_mark(owned(fields, "f:labels"), owned(fields, "f:annotations")),
            written: meta
                .managed_fields
                .iter()
                .flatten()
                .find(|entry| is_our_apply(entry))
                .and_then(|entry| Some(entry.time.as_ref()?.0)),
            issuer: note(names::ISSUER),
            serial_number: note(names::SERIAL_NUMBER),
            not_after: note(names::NOT_AFTER).and_then(|time| time.parse().ok()),
            request_hash: own_note(REQUEST_HASH),
            output_hash: own_note(OUTPUT_HASH),
            chain_hash: own_note(CHAIN_HASH),
            ari_identifier: note(ARI_IDENTIFIER),
            cause: note(CAUSE),
            passwords: own_note(KEYSTORE_PASSWORDS),
            issued_at: note(ISSUED_AT).and_then(|time| time.parse().ok()),
        }
    }
}

impl SecretMetadata {
    /// Signing issuer as in a Certificate's status.
    pub fn signing_issuer(&self) -> Option<SigningIssuer> {
        let (kind, name) = self.issuer.as_deref()?.split_once('/')?;
        let kind = [IssuerKind::Issuer, IssuerKind::ClusterIssuer]
            .into_iter()
            .find(|known| known.as_str() == kind)?;
        Some(SigningIssuer {
            kind,
            name: name.to_owned(),
        })
    }
}

/// Whether our apply still owns the `data` keys that its annotation lists, and all our labels and annotations.
fn is_intact(meta: &ObjectMeta, fields: &Value, data_keys: &str) -> bool {
    let owns = |path: &[&str]| owns(fields, path);
    // Some are not always known: they need to be ours only where they are.
    let may_lack = |key: &str| {
        matches!(
            key,
            names::ISSUER | CHAIN_HASH | CAUSE | ARI_IDENTIFIER | KEYSTORE_PASSWORDS | ISSUED_AT
        )
    };
    let is_there = |key: &str| meta.annotations.as_ref().is_some_and(|notes| notes.contains_key(key));
    !data_keys.is_empty()
        && data_keys.split(',').all(|key| owns(&["f:data", &format!("f:{key}")]))
        && NOTES
            .iter()
            .filter(|key| !may_lack(key) || is_there(key))
            .all(|key| owns(&["f:metadata", "f:annotations", &format!("f:{key}")]))
        && LABELS
            .iter()
            .all(|key| owns(&["f:metadata", "f:labels", &format!("f:{key}")]))
}

/// Whether our apply owns the field at `path`.
fn owns(fields: &Value, path: &[&str]) -> bool {
    path.iter().try_fold(fields, |at, step| at.get(step)).is_some()
}

/// The keys of a map of the metadata that our apply owns.
fn owned<'a>(fields: Option<&'a Value>, map: &str) -> impl Iterator<Item = &'a str> {
    fields
        .and_then(|fields| fields.get("f:metadata")?.get(map)?.as_object())
        .into_iter()
        .flat_map(|map| map.keys().filter_map(|key| key.strip_prefix("f:")))
}

/// A number for the keys of a template's labels and annotations, without those that we set anyway: the same for those
/// that the template wants and those that are still ours, or another client changed or took one. All that is kept of them.
pub fn template_mark<'a>(labels: impl Iterator<Item = &'a str>, annotations: impl Iterator<Item = &'a str>) -> u64 {
    let mut keys: Vec<_> = labels
        .filter(|key| !LABELS.contains(key))
        .map(|key| ("label", key))
        .chain(
            annotations
                .filter(|key| !NOTES.contains(key))
                .map(|key| ("annotation", key)),
        )
        .collect();
    keys.sort_unstable();
    let mut hasher = DefaultHasher::new();
    keys.hash(&mut hasher);
    hasher.finish()
}

fn is_our_apply(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(names::FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
}

fn ours(entry: &ManagedFieldsEntry) -> Option<&Value> {
    is_our_apply(entry)
        .then_some(entry.fields_v1.as_ref())
        .flatten()
        .map(|fields| &fields.0)
}

/// The pair inside a Secret: a key and a certificate that match.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// Shared, so that there is one copy in memory, wiped with its last holder.
    pub key: Arc<PrivateKey>,
    /// Leaf first.
    pub chain: Chain,
    /// `ca.crt` as it is.
    pub ca: Option<String>,
    /// Whether the chain or the CA was damaged, and was put together again around an intact leaf ([`read_own`]).
    pub is_restored: bool,
}

impl KeyPair {
    /// A pair that was just made: its root is the CA to trust.
    pub fn new(key: Arc<PrivateKey>, chain: Chain) -> Self {
        let ca = chain.root_pem();
        Self {
            key,
            chain,
            ca,
            is_restored: false,
        }
    }

    /// Fingerprint of the chain and the CA, as they are written.
    pub fn chain_hash(&self) -> String {
        desired::hash(&json!([self.chain.pem(), self.ca]))
    }

    /// The leaf.
    pub fn leaf(&self) -> &Certificate {
        &self.chain.leaf
    }
}

/// Why what is inside cannot serve.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidSecret {
    #[error("it is of type {0}, and only kubernetes.io/tls can hold the pair")]
    Type(String),
    #[error("{0} is missing or empty")]
    Missing(&'static str),
    #[error("{0} cannot be read: {1}")]
    Unreadable(&'static str, String),
    #[error("tls.key is not the key of tls.crt")]
    Mismatch,
}

/// The type of the Secrets that hold pairs.
pub const TLS: &str = "kubernetes.io/tls";

/// Reads the key alone out of a Secret's body.
pub fn key(secret: &Secret) -> Result<PrivateKey, InvalidSecret> {
    let data = secret.data.as_ref();
    let pem = data
        .and_then(|data| data.get("tls.key"))
        .filter(|value| !value.0.is_empty())
        .ok_or(InvalidSecret::Missing("tls.key"))?;
    PrivateKey::from_pem(&pem.0).map_err(|error| InvalidSecret::Unreadable("tls.key", error.to_string()))
}

/// Overwrites what a Secret holds, before its memory goes to others.
pub fn wipe(secret: &mut Secret) {
    for value in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
        value.0.zeroize();
    }
}

/// Reads the pair out of a Secret's body.
pub fn read(secret: &Secret) -> Result<KeyPair, InvalidSecret> {
    let kind = secret.type_.as_deref().unwrap_or("Opaque");
    if kind != TLS {
        return Err(InvalidSecret::Type(kind.to_owned()));
    }
    let empty = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    let get = |name: &'static str| {
        data.get(name)
            .filter(|value| !value.0.is_empty())
            .ok_or(InvalidSecret::Missing(name))
    };
    let crt = get("tls.crt")?;
    let key = key(secret)?;
    let unreadable = |error: ChainError| match error {
        ChainError::KeyMismatch => InvalidSecret::Mismatch,
        error => InvalidSecret::Unreadable("tls.crt", error.to_string()),
    };
    let found = read_bundle(&crt.0).map_err(unreadable)?;
    let chain = Chain::order(&found, Some(&key)).map_err(unreadable)?.keep(&found);
    let ca = data
        .get("ca.crt")
        .and_then(|ByteString(pem)| String::from_utf8(pem.clone()).ok());
    Ok(KeyPair {
        key: Arc::new(key),
        chain,
        ca: ca.filter(|pem| !pem.trim().is_empty()),
        is_restored: false,
    })
}

/// Reads the pair out of the body of a Secret of ours. When only the chain or `ca.crt` is not as we wrote it, and the leaf
/// is, they are put together again from what the Secret still has and from `path`, the CA of the issuer with those above
/// it: no new certificate is needed for that.
pub fn read_own(secret: &Secret, metadata: &SecretMetadata, path: &[Certificate]) -> Result<KeyPair, InvalidSecret> {
    let read = read(secret);
    let is_intact = match &read {
        Ok(pair) => metadata
            .chain_hash
            .as_deref()
            .is_none_or(|written| !desired::differs(written, &pair.chain_hash())),
        Err(InvalidSecret::Unreadable(place, _)) => *place != "tls.crt",
        Err(_) => true,
    };
    if is_intact {
        return read;
    }
    restored(secret, metadata, path).map_or(read, Ok)
}

fn restored(secret: &Secret, metadata: &SecretMetadata, path: &[Certificate]) -> Option<KeyPair> {
    let written = metadata.chain_hash.as_deref()?;
    let data = secret.data.as_ref()?;
    let bundle = |name: &str| {
        data.get(name)
            .and_then(|value| read_bundle(&value.0).ok())
            .unwrap_or_default()
    };
    let key = Arc::new(key(secret).ok()?);
    let found = bundle("tls.crt");
    let leaf = found.iter().find(|certificate| certificate.matches(&key))?;
    if metadata.serial_number.as_deref() != Some(leaf.serial_hex().as_str()) {
        return None;
    }
    let mut pool = found.clone();
    pool.extend(bundle("ca.crt").into_iter().chain(bundle("tls-combined.pem")));
    pool.extend(path.iter().cloned());
    let chain = Chain::order(&pool, Some(&key)).ok()?;
    let text = |name: &str| data.get(name).and_then(|value| String::from_utf8(value.0.clone()).ok());
    let root = chain.root_pem();
    let candidates: Vec<_> = [chain.clone(), chain.clone().keep(&found)]
        .into_iter()
        .flat_map(|chain| [text("ca.crt"), root.clone(), None].map(|ca| (chain.clone(), ca)))
        .map(|(chain, ca)| KeyPair {
            key: key.clone(),
            chain,
            ca,
            is_restored: true,
        })
        .collect();
    // What we wrote, to the letter; else what the issuer would write today.
    let exact = candidates.into_iter().find(|pair| pair.chain_hash() == written);
    let signed = || {
        path.first()
            .is_some_and(|issuer| chain.leaf.is_signed_by(issuer) == Some(true))
    };
    exact.or_else(|| {
        signed().then(|| KeyPair {
            ca: root.clone().or_else(|| text("ca.crt")),
            key: key.clone(),
            chain: chain.clone(),
            is_restored: true,
        })
    })
}

#[cfg(test)]
#[path = "observed_secret_tests.rs"]
mod tests;
