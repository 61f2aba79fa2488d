//! The engine's eyes and hands in a cluster.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use gatehouse_crds::alert::{AlertPolicy, AlertPolicyStatus, ClusterAlertPolicy};
use gatehouse_crds::certificate::Certificate;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store as Reflected},
};

use super::{
    engine::{Hands, Sight},
    failure::FailureKind,
    message::{Message, Subject},
    policy::{PolicyKey, Receiver},
    queue::Outcome,
    send::Sender,
    store::Store,
    target::Target,
};
use crate::{
    certificate::cache::{Cache, Guarded},
    issuer::secrets::NamespaceSecrets,
    kubernetes::{
        apply::{self, Writer},
        events::{EventType, Events},
    },
};

/// Certificates and namespaces as the caches have them.
pub struct ClusterSight {
    /// Each with the namespace that it is of; none is all of them.
    pub caches: Vec<(Option<String>, Arc<Cache>)>,
    /// Labels of namespaces; none where ClusterAlertPolicies are not read.
    pub namespaces: Option<Reflected<PartialObjectMeta<Namespace>>>,
}

impl ClusterSight {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>> {
        let wanted = ObjectRef::new(name).within(namespace);
        self.caches
            .iter()
            .find_map(|(_, cache)| cache.certificates().get(&wanted))
    }
}

impl Sight for ClusterSight {
    fn knows(&self, namespace: &str) -> bool {
        let mut of = self
            .caches
            .iter()
            .filter(|(scope, _)| scope.as_deref().is_none_or(|scope| scope == namespace));
        of.any(|(_, cache)| cache.has_certificates())
    }

    fn certificate(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>> {
        self.get(namespace, name)
    }

    fn certificates(&self, namespace: Option<&str>) -> Vec<(String, String)> {
        let all = self.caches.iter().flat_map(|(_, cache)| cache.certificates().state());
        all.map(|object| (object.namespace().unwrap_or_default(), object.name_any()))
            .filter(|(own, _)| namespace.is_none_or(|namespace| namespace == own))
            .collect()
    }

    fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        let found = self.namespaces.as_ref()?.get(&ObjectRef::new(namespace))?;
        Some(found.metadata.labels.clone().unwrap_or_default())
    }
}

/// Writes to the API server, and sends.
pub struct ClusterHands {
    pub client: Client,
    pub writer: Writer,
    pub events: Events,
    pub sight: Arc<ClusterSight>,
    pub store: Store,
    pub sender: Sender,
    /// Where the Secrets of ClusterAlertPolicies are.
    pub own_namespace: String,
}

#[async_trait]
impl Hands for ClusterHands {
    async fn save(&self, policy: &PolicyKey, uid: &str, state: Option<Vec<u8>>) -> Result<(), String> {
        let result = match state {
            Some(state) => self.store.save(policy, uid, &state).await,
            None => self.store.remove(uid).await,
        };
        result.map_err(|error| error.to_string())
    }

    async fn write_status(&self, policy: &PolicyKey, uid: &str, status: &AlertPolicyStatus) -> Result<(), String> {
        let target = apply::Target {
            name: &policy.name,
            resource_version: None,
            uid: Some(uid),
        };
        let body = serde_json::to_value(status).map_err(|error| error.to_string())?;
        let written = if let Some(namespace) = &policy.namespace {
            let api = Api::<PartialObjectMeta<AlertPolicy>>::namespaced(self.client.clone(), namespace);
            self.writer.apply_status(&api, target, body).await.map(drop)
        } else {
            let api = Api::<PartialObjectMeta<ClusterAlertPolicy>>::all(self.client.clone());
            self.writer.apply_status(&api, target, body).await.map(drop)
        };
        match written {
            // It is gone, and so is who would read it.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            other => other.map_err(|error| error.to_string()),
        }
    }

    async fn send(&self, policy: &PolicyKey, receiver: &Receiver, message: &Message) -> Outcome {
        if let Err(error) = self.writer.check() {
            return Outcome::Unavailable {
                message: error.to_string(),
                after: None,
            };
        }
        let namespace = policy.namespace.as_deref().unwrap_or(&self.own_namespace);
        let secrets = NamespaceSecrets::new(self.client.clone(), namespace);
        let sent = match Target::read(&receiver.webhook, &secrets).await {
            Ok(target) => self.sender.send(&target, message, self.now()).await,
            Err(error) => Err(error.into()),
        };
        match sent {
            Ok(_) => Outcome::Accepted,
            Err(failure) => {
                let (message, after) = (failure.message, failure.retry_after);
                match failure.kind {
                    FailureKind::Gone => Outcome::Gone { message },
                    FailureKind::Refused => Outcome::Refused { message, after },
                    FailureKind::Unavailable | FailureKind::Misconfigured => Outcome::Unavailable { message, after },
                }
            }
        }
    }

    fn undelivered(&self, subject: &Subject, note: &str) {
        let Some(certificate) = self.sight.get(&subject.namespace, &subject.name) else {
            return;
        };
        let reference = ObjectReference {
            api_version: Some(Certificate::api_version(&()).into()),
            kind: Some(Certificate::kind(&()).into()),
            name: Some(subject.name.clone()),
            namespace: Some(subject.namespace.clone()),
            uid: certificate.uid(),
            ..ObjectReference::default()
        };
        self.events
            .publish(&reference, EventType::Warning, "AlertDeliveryFailed", "Alert", note);
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
