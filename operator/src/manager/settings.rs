//! Settings of the operator.

use std::net::SocketAddr;

use crate::{issuer::solver::http01::IngressPolicy, telemetry::server::ListenError};

/// The operator's flags.
#[derive(Clone, Debug)]
pub struct Settings {
    pub leader_elect: bool,
    /// Watched namespaces; empty means all.
    pub namespaces: Vec<String>,
    /// Namespace of the Lease, the HTTP-01 objects and the Secrets of ClusterIssuers.
    pub own_namespace: String,
    pub metrics_addr: SocketAddr,
    pub health_addr: SocketAddr,
    pub http01_addr: SocketAddr,
    pub http01_advertise: Option<SocketAddr>,
    /// Limits what tenants' Issuers may set on Ingresses in `own_namespace`.
    pub http01_ingress: IngressPolicy,
    pub max_reissue_percent: u8,
    pub allow_loopback: bool,
    /// Name of this cluster in alerts.
    pub cluster_name: String,
}

impl Settings {
    /// Returns the watch scopes: each namespace, or one for all of them.
    pub(super) fn scopes(&self) -> Vec<Option<String>> {
        if self.namespaces.is_empty() {
            vec![None]
        } else {
            self.namespaces.iter().cloned().map(Some).collect()
        }
    }
}

/// Why the operator ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("the client for the API server cannot be created: {0}")]
    Client(#[source] kube::Error),
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Another process leads, or may: this one must not write any more.
    #[error("leadership is lost")]
    LeadershipLost,
    #[error("signals cannot be waited for: {0}")]
    Signals(#[source] std::io::Error),
}
