//! The Lease object, and where it is kept.

use std::{env, fmt, fs};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use super::{LEASE_DURATION, LEASE_NAME, decision::holder};
use crate::kubernetes::names;

/// Identity of a candidate: unique for each process, for a process that starts again must not take the Lease of
/// its own past for its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(String);

impl Identity {
    /// `<name>_<16 random hexadecimal digits>`.
    pub fn unique(name: &str) -> Self {
        Self(format!("{name}_{:016x}", rand::random::<u64>()))
    }

    /// Named after the Pod (`POD_NAME`), or else the host.
    pub fn of_this_process() -> Self {
        let name = env::var("POD_NAME")
            .ok()
            .or_else(|| fs::read_to_string("/etc/hostname").ok())
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        Self::unique(name.as_deref().unwrap_or("gatehouse"))
    }

    /// Returns the value of `holderIdentity`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process wrote it since we read it.
    #[error("the Lease was written by another process")]
    Conflict,
    /// It is not there to be replaced.
    #[error("the Lease does not exist")]
    Missing,
    /// Anything else; whether a write took effect is not known.
    #[error("the Lease cannot be reached: {0}")]
    Unavailable(String),
}

impl LeaseError {
    /// Stable name of the error.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Conflict => "Conflict",
            Self::Missing => "NotFound",
            Self::Unavailable(_) => "Unavailable",
        }
    }
}

/// Storage of the Lease. Every write is conditional: `create` on absence, `replace` on the
/// `resourceVersion` in the object.
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// The Lease as it is now, never from a cache.
    async fn get(&self) -> Result<Option<Lease>, LeaseError>;
    /// Creates it, or [`LeaseError::Conflict`] if it exists.
    async fn create(&self, lease: &Lease) -> Result<Lease, LeaseError>;
    /// Replaces it, or [`LeaseError::Conflict`] when it has changed.
    async fn replace(&self, lease: &Lease) -> Result<Lease, LeaseError>;
}

/// The Lease [`LEASE_NAME`] in the Kubernetes API.
#[derive(Clone)]
pub struct KubeLeases {
    api: Api<Lease>,
    namespace: String,
}

impl KubeLeases {
    /// The Lease in `namespace`, the operator's own.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
        }
    }
}

#[async_trait]
impl LeaseStore for KubeLeases {
    async fn get(&self) -> Result<Option<Lease>, LeaseError> {
        self.api.get_opt(LEASE_NAME).await.map_err(classify)
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        let mut lease = lease.clone();
        lease.metadata.namespace = Some(self.namespace.clone());
        self.api.create(&params(), &lease).await.map_err(classify)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        self.api.replace(LEASE_NAME, &params(), lease).await.map_err(classify)
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(names::FIELD_MANAGER.into()),
        ..PostParams::default()
    }
}

fn classify(error: kube::Error) -> LeaseError {
    match error {
        kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() => LeaseError::Conflict,
        kube::Error::Api(status) if status.is_not_found() => LeaseError::Missing,
        kube::Error::Api(status) => LeaseError::Unavailable(status.message),
        other => LeaseError::Unavailable(other.to_string()),
    }
}

/// A new Lease held by `me`.
pub(super) fn fresh(me: &Identity, now: Timestamp) -> Lease {
    held(
        &Lease {
            metadata: ObjectMeta {
                name: Some(LEASE_NAME.into()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        },
        me,
        now,
    )
}

/// `lease`, held by `me` and renewed at `now`; other people's labels and annotations stay.
pub(super) fn held(lease: &Lease, me: &Identity, now: Timestamp) -> Lease {
    let spec = lease.spec.clone().unwrap_or_default();
    let already_mine = holder(lease) == Some(me.as_str());
    let first = lease.metadata.resource_version.is_none();
    let transitions = spec.lease_transitions.unwrap_or(0);
    Lease {
        metadata: lease.metadata.clone(),
        spec: Some(LeaseSpec {
            holder_identity: Some(me.as_str().to_owned()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: if already_mine {
                spec.acquire_time.clone()
            } else {
                Some(MicroTime(now))
            },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if already_mine || first {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..spec
        }),
    }
}

/// Returns `lease` as released at `now`: without a holder, and as short as the API allows.
pub(super) fn released(lease: &Lease, now: Timestamp) -> Lease {
    Lease {
        metadata: lease.metadata.clone(),
        spec: Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(now)),
            ..lease.spec.clone().unwrap_or_default()
        }),
    }
}
