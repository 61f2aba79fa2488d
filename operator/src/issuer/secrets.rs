//! Reads the Secrets of the one namespace that an issuer may use.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client};
use zeroize::Zeroizing;

use super::solver::{SecretData, SecretReadError, SecretReader};
use crate::kubernetes::dependency::{Dependencies, Dependency, Dependent};

/// Bound to a namespace: an Issuer's own, or the operator's for a ClusterIssuer. Nothing that a
/// user writes can make it read another's.
pub struct NamespaceSecrets {
    api: Api<Secret>,
    namespace: String,
    /// The reader, and the registry of its dependencies: it is not enqueued for a version that it has read.
    reader: (Arc<Dependencies>, Dependent),
}

impl NamespaceSecrets {
    /// Reads those of `namespace` for `dependent`.
    pub fn new(client: Client, namespace: &str, dependencies: Arc<Dependencies>, dependent: Dependent) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            reader: (dependencies, dependent),
        }
    }

    fn note(&self, name: &str, version: Option<String>) {
        let (dependencies, dependent) = &self.reader;
        dependencies.note_read(dependent, &Dependency::secret(&self.namespace, name), version);
    }
}

#[async_trait]
impl SecretReader for NamespaceSecrets {
    async fn read(&self, name: &str) -> Result<SecretData, SecretReadError> {
        match self.api.get_opt(name).await {
            Ok(Some(secret)) => {
                self.note(name, secret.metadata.resource_version);
                Ok(secret
                    .data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, ByteString(value))| (key, Zeroizing::new(value)))
                    .collect())
            }
            Ok(None) => {
                self.note(name, None);
                Err(SecretReadError::NotFound)
            }
            // The API server's refusals name objects and rights; other errors could quote a body.
            Err(kube::Error::Api(status)) => Err(SecretReadError::Failed(status.message.clone())),
            Err(_) => Err(SecretReadError::Failed("the API server gave no usable answer".into())),
        }
    }
}
