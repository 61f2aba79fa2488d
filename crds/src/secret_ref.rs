//! References to Secrets.

#![allow(unreachable_pub, reason = "KubeSchema repeats the structs inside a function")]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// One key of a Secret.
///
/// The Secret is in the namespace of the object that refers to it; for a cluster-scoped object, in the operator's
/// own (`--cluster-resource-namespace`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
pub struct SecretKeySelector {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret's `data`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A whole Secret, in the same place as for [`SecretKeySelector`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
pub struct LocalSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
