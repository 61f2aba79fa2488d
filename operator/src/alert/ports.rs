//! Ports of the engine: its view of the cluster, and its effects there.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use gatehouse_crds::alert::{AlertKind, AlertPolicyStatus};
use jiff::Timestamp;
use kube::{Resource, api::ObjectMeta};

use super::{
    message::{Message, Subject},
    policy::{PolicyKey, Receiver},
    queue::Outcome,
    rules::{Judgement, RuleSet, judge, judge_gateway},
    state::Object,
};
use crate::{certificate::cache::Guarded, gateway::cache::Guarded as GuardedGateway};

/// View of the cluster.
pub trait ClusterView: Send + Sync + 'static {
    /// Whether the objects of a namespace have been listed: else nothing can be said of them, also not that they are gone.
    fn knows(&self, kind: AlertKind, namespace: &str) -> bool;
    /// Returns the Certificate of that name, if it exists.
    fn certificate(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>>;
    /// Returns the Gateway of that name, if it exists.
    fn gateway(&self, namespace: &str, name: &str) -> Option<Arc<GuardedGateway>>;
    /// All Certificates and Gateways, or those of one namespace.
    fn objects(&self, namespace: Option<&str>) -> Vec<Object>;
    /// The labels of a namespace.
    fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>>;
}

/// Effects on the cluster and on receivers.
#[async_trait]
pub trait Effects: Send + Sync + 'static {
    /// Makes the state durable; none removes it.
    async fn save(&self, policy: &PolicyKey, uid: &str, state: Option<Vec<u8>>) -> Result<(), String>;
    async fn write_status(&self, policy: &PolicyKey, uid: &str, status: &AlertPolicyStatus) -> Result<(), String>;
    /// Sends `message`. A `retired` receiver may be called with what its Secrets held before they were deleted.
    async fn send(&self, policy: &PolicyKey, receiver: &Receiver, message: &Message, retired: bool) -> Outcome;
    /// Sends [`Trigger::SecretChanged`](super::engine::Trigger) when a Secret of these receivers changes; none when the policy is
    /// gone.
    fn follow_secrets(&self, policy: &PolicyKey, receivers: &[Receiver]);
    /// Forgets what was kept of the Secrets of a policy's receivers.
    fn forget(&self, policy: &PolicyKey);
    /// Says on the object that an alert about it has not arrived.
    fn undelivered(&self, subject: &Subject, note: &str);
    fn now(&self) -> Timestamp;
}

/// An object of alerts.
pub(super) enum Watched {
    Certificate(Arc<Guarded>),
    Gateway(Arc<GuardedGateway>),
}

impl Watched {
    /// Returns the object of that name, if it exists.
    pub(super) fn of(view: &impl ClusterView, kind: AlertKind, namespace: &str, name: &str) -> Option<Self> {
        match kind {
            AlertKind::Certificate => view.certificate(namespace, name).map(Self::Certificate),
            AlertKind::Gateway => view.gateway(namespace, name).map(Self::Gateway),
        }
    }

    pub(super) fn is_readable(&self) -> bool {
        match self {
            Self::Certificate(object) => object.0.is_ok(),
            Self::Gateway(object) => object.0.is_ok(),
        }
    }

    pub(super) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Certificate(object) => object.meta(),
            Self::Gateway(object) => object.meta(),
        }
    }

    pub(super) fn judge(&self, rules: &RuleSet, now: Timestamp) -> Judgement {
        match self {
            Self::Certificate(object) => object.0.as_ref().map(|object| judge(object, rules, now)),
            Self::Gateway(object) => object.0.as_ref().map(|object| judge_gateway(object, rules, now)),
        }
        .unwrap_or_default()
    }

    /// Returns the facts about it; none of one that cannot be decoded.
    pub(super) fn subject(&self) -> Option<Subject> {
        match self {
            Self::Certificate(object) => Some(Subject::of(object.0.as_ref().ok()?)),
            Self::Gateway(object) => Some(Subject::of_gateway(object.0.as_ref().ok()?)),
        }
    }
}
