//! Reads the Secrets of the one namespace that an issuer may use.

use async_trait::async_trait;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client};
use zeroize::Zeroizing;

use super::solver::{SecretData, SecretReadError, SecretReader};

/// Bound to a namespace: an Issuer's own, or the operator's for a ClusterIssuer. Nothing that a
/// user writes can make it read another's.
pub struct NamespaceSecrets(Api<Secret>);

impl NamespaceSecrets {
    /// Of `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }
}

#[async_trait]
impl SecretReader for NamespaceSecrets {
    async fn read(&self, name: &str) -> Result<SecretData, SecretReadError> {
        match self.0.get_opt(name).await {
            Ok(Some(secret)) => Ok(secret
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(key, ByteString(value))| (key, Zeroizing::new(value)))
                .collect()),
            Ok(None) => Err(SecretReadError::NotFound),
            // The API server's refusals name objects and rights; other errors could quote a body.
            Err(kube::Error::Api(status)) => Err(SecretReadError::Failed(status.message.clone())),
            Err(_) => Err(SecretReadError::Failed("the API server gave no usable answer".into())),
        }
    }
}
