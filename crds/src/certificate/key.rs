//! The private key that a Certificate asks for.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Algorithm, encoding and rotation of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.size) || (has(self.algorithm) && self.algorithm == 'RSA' ? self.size in [2048, 3072, 4096] : has(self.algorithm) && self.algorithm == 'Ed25519' ? false : self.size in [256, 384, 521])")
        .message("size must be 2048, 3072 or 4096 for RSA, 256, 384 or 521 for ECDSA (the default algorithm), and left out for Ed25519"),
    validation = Rule::new("!(has(self.algorithm) && self.algorithm == 'Ed25519' && has(self.encoding) && self.encoding == 'PKCS1')")
        .message("Ed25519 keys have no PKCS1 encoding; leave encoding out or write PKCS8")
)]
pub struct PrivateKeySpec {
    /// ECDSA (the default), RSA or Ed25519. Public CAs do not sign Ed25519.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<KeyAlgorithm>,
    /// Bits. RSA: 2048 (default), 3072, 4096. ECDSA: 256 (default), 384, 521.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,
    /// PKCS8 (the default) or PKCS1, which for ECDSA means SEC 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<KeyEncoding>,
    /// Always (the default) makes a new key for each certificate; Never keeps the Secret's key as long as it fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_policy: Option<RotationPolicy>,
}

/// ECDSA (the default), RSA or Ed25519. Public CAs do not sign Ed25519.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// NIST curves P-256, P-384, P-521.
    #[default]
    ECDSA,
    /// RSA with 2048, 3072 or 4096 bits.
    RSA,
    /// RFC 8032.
    Ed25519,
}

/// Encoding of the key in `tls.key`: PKCS8 (the default) or PKCS1, which for ECDSA means SEC 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyEncoding {
    /// `BEGIN PRIVATE KEY`, RFC 5208.
    #[default]
    PKCS8,
    /// `BEGIN RSA PRIVATE KEY` (RFC 8017), or `BEGIN EC PRIVATE KEY` (RFC 5915) for ECDSA.
    PKCS1,
}

/// Always (the default) makes a new key for each certificate; Never keeps the Secret's key as long as it fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RotationPolicy {
    /// A new key each time.
    #[default]
    Always,
    /// The key in the Secret is used again as long as it fits the spec.
    Never,
}
