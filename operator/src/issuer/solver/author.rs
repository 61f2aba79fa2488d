//! The author of the Issuer that a solver belongs to.

use std::fmt;

use gatehouse_crds::certificate::IssuerKind;

use super::super::registry::Key;

/// Decides how far an Issuer is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// Writes ClusterIssuers: runs the cluster.
    Administrator,
    /// An author of Issuers in this namespace, who is not trusted.
    Tenant(String),
}

impl Author {
    /// The author of the issuer.
    pub fn of(issuer: &Key) -> Self {
        match issuer.kind {
            IssuerKind::ClusterIssuer => Self::Administrator,
            IssuerKind::Issuer => Self::Tenant(issuer.namespace.clone()),
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Administrator => formatter.write_str("cluster"),
            Self::Tenant(namespace) => write!(formatter, "namespace/{namespace}"),
        }
    }
}
