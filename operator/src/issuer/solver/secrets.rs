//! Credentials of solvers.

use std::collections::BTreeMap;

use async_trait::async_trait;
use gatehouse_crds::secret_ref::SecretKeySelector;
use zeroize::Zeroizing;

use super::SolverError;

/// The `data` of a Secret. Wiped when dropped.
pub type SecretData = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Why a Secret could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretReadError {
    #[error("not found")]
    NotFound,
    #[error("{0}")]
    Failed(String),
}

/// Reads Secrets of the one namespace that the Issuer may use: a namespaced Issuer's own, or the operator's for
/// a `ClusterIssuer`. The implementation binds the namespace, so that a solver cannot ask for another's.
#[async_trait]
pub trait SecretReader: Send + Sync {
    async fn read(&self, name: &str) -> Result<SecretData, SecretReadError>;
}

pub(super) async fn read(reader: &dyn SecretReader, name: &str) -> Result<SecretData, SolverError> {
    reader.read(name).await.map_err(|error| match error {
        SecretReadError::NotFound => SolverError::SecretMissing { name: name.into() },
        SecretReadError::Failed(detail) => SolverError::SecretUnreadable {
            name: name.into(),
            detail,
        },
    })
}

/// One key as text, without the white space around it that editors and shells leave.
pub(super) async fn read_text(
    reader: &dyn SecretReader,
    selector: &SecretKeySelector,
) -> Result<Zeroizing<String>, SolverError> {
    let data = read(reader, &selector.name).await?;
    let Some(value) = data.get(&selector.key) else {
        return Err(SolverError::SecretKeyMissing {
            name: selector.name.clone(),
            key: selector.key.clone(),
        });
    };
    text(&selector.name, &selector.key, value)
}

pub(super) fn text(name: &str, key: &str, value: &[u8]) -> Result<Zeroizing<String>, SolverError> {
    let malformed = |detail: &str| SolverError::SecretMalformed {
        name: name.into(),
        key: key.into(),
        detail: detail.into(),
    };
    let value = std::str::from_utf8(value).map_err(|_| malformed("is not text"))?.trim();
    if value.is_empty() {
        return Err(malformed("is empty"));
    }
    Ok(Zeroizing::new(value.to_owned()))
}
