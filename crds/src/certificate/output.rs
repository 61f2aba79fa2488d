//! Further output beside the key pair, and what happens to it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret_ref::SecretKeySelector;

/// Labels and annotations for the Secret. Changed without issuing again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(!has(self.labels) || self.labels.all(k, !k.startsWith('gatehouse.dev/'))) && (!has(self.annotations) || self.annotations.all(k, !k.startsWith('gatehouse.dev/')))")
        .message("labels and annotations under gatehouse.dev/ are written by Gatehouse; choose another prefix")
)]
pub struct SecretTemplate {
    /// Added to the Secret's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Added to the Secret's annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// A further form of the pair in the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputFormat {
    /// CombinedPEM writes `tls-combined.pem` (key, then chain); DER writes `key.der`.
    #[serde(rename = "type")]
    pub kind: OutputFormatType,
}

/// Which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum OutputFormatType {
    /// `tls-combined.pem`: the key, then the chain.
    CombinedPEM,
    /// `key.der`: the key in DER, in `privateKey.encoding`.
    DER,
}

/// Keystores for programs that do not read PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keystores {
    /// `keystore.p12`, and `truststore.p12` when the CA is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs12: Option<Pkcs12Keystore>,
    /// `keystore.jks`, and `truststore.jks` when the CA is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jks: Option<JksKeystore>,
}

/// PKCS#12 (RFC 7292).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pkcs12Keystore {
    /// Whether it is written.
    pub create: bool,
    /// Password of keystore and truststore, in the Certificate's namespace.
    pub password_secret_ref: SecretKeySelector,
    /// Ciphers. Modern2023 (the default) is AES-256 with HMAC-SHA-256; the Legacy ones are for old readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Pkcs12Profile>,
}

/// Ciphers, by cert-manager's names. Modern2023 (the default) is AES-256 with HMAC-SHA-256; the Legacy ones are for old readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Pkcs12Profile {
    /// PBES2, AES-256-CBC, HMAC-SHA-256.
    #[default]
    Modern2023,
    /// 3DES, HMAC-SHA-1.
    LegacyDES,
    /// RC2-40 for certificates, 3DES for keys, HMAC-SHA-1.
    LegacyRC2,
}

/// Java's own keystore format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JksKeystore {
    /// Whether it is written.
    pub create: bool,
    /// Password of keystore and truststore, in the Certificate's namespace; Java wants at least 6 characters.
    pub password_secret_ref: SecretKeySelector,
}

/// Whether the Secret is kept or deleted with the Certificate: Retain (the default) or Delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretDeletionPolicy {
    /// The Secret stays.
    #[default]
    Retain,
    /// The Secret goes with the Certificate (by owner reference).
    Delete,
}

/// A workload that is restarted after the Secret changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutTarget {
    /// Deployment, StatefulSet or DaemonSet.
    pub kind: RolloutKind,
    /// Its name, in the Certificate's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Kinds that can be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, clippy::enum_variant_names)]
pub enum RolloutKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}
