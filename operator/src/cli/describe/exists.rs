//! Contents of the Secret, compared with the spec.

use gatehouse_crds::certificate::Certificate;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::{
    certificate::{
        desired::DesiredCertificate,
        differences::differences,
        observed_secret::{self, SecretMetadata},
    },
    pki::{self, Fidelity},
};

/// The Secret, without anything that is secret.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    /// The Certificate that it belongs to, by its own word.
    pub owner: Option<String>,
    /// The pair, or why there is none that could serve.
    pub pair: Result<Pair, String>,
}

/// A key and a certificate that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub serial: String,
    pub names: Vec<String>,
    pub key: String,
    /// The signer, by the certificate's own issuer field.
    pub signer: String,
    /// Why it cannot serve the spec.
    pub mismatches: Vec<String>,
    /// In what else it is not what the spec asks for, by its CA's decision.
    pub differences: Vec<String>,
}

/// Reads a Secret.
pub(super) fn contents(secret: &Secret, certificate: &Certificate) -> Contents {
    let owner = SecretMetadata::of(&secret.metadata).certificate;
    let fidelity = if owner.is_some() && owner == certificate.metadata.name {
        Fidelity::NamesAndKey
    } else {
        Fidelity::AuthorityDecides
    };
    Contents {
        owner,
        pair: observed_secret::read(secret)
            .map(|held| pair(held.leaf(), certificate, fidelity))
            .map_err(|damage| damage.to_string()),
    }
}

fn pair(leaf: &pki::Certificate, certificate: &Certificate, fidelity: Fidelity) -> Pair {
    let issued_at = certificate.status.as_ref().and_then(|status| status.issued_at);
    let (mismatches, differences) = match DesiredCertificate::parse(&certificate.spec) {
        Ok(wanted) => (
            leaf.satisfies(&wanted.for_acme(), wanted.key, fidelity)
                .err()
                .unwrap_or_default()
                .iter()
                .map(ToString::to_string)
                .collect(),
            differences(leaf, &wanted, &certificate.spec, issued_at.unwrap_or(leaf.not_before)),
        ),
        Err(error) => (vec![error.to_string()], Vec::new()),
    };
    Pair {
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        serial: leaf.serial_hex(),
        names: names(leaf),
        key: leaf
            .key_parameters
            .map_or_else(|| "of another kind".to_owned(), |key| key.to_string()),
        signer: if leaf.is_self_issued() {
            "itself".to_owned()
        } else {
            leaf.issuer_common_name
                .clone()
                .unwrap_or_else(|| "a CA without a common name".to_owned())
        },
        mismatches,
        differences,
    }
}

/// Every alternative name, or else the common name.
pub(in crate::cli) fn names(leaf: &pki::Certificate) -> Vec<String> {
    let mut names = leaf.dns_names.clone();
    names.extend(leaf.ip_addresses.iter().map(ToString::to_string));
    names.extend(leaf.uris.iter().chain(&leaf.email_addresses).cloned());
    if names.is_empty() {
        names.extend(leaf.common_name.clone());
    }
    names
}
