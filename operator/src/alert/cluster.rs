//! The engine's eyes and hands in a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use gatehouse_crds::alert::{AlertKind, AlertPolicy, AlertPolicyStatus, ClusterAlertPolicy};
use gatehouse_crds::certificate::Certificate;
use gatehouse_crds::gateway::Gateway;
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
    state::Object,
    store::Store,
    target::Target,
};
use crate::{
    certificate::cache::{Cache, Guarded},
    gateway::cache::{Cache as GatewayCache, Guarded as GuardedGateway},
    issuer::secrets::NamespaceSecrets,
    kubernetes::{
        apply::{self, Writer},
        dependency::{Dependencies, Dependency, Dependent, secret_names},
        events::{EventType, Events},
    },
};

/// What is known of one namespace, or of all.
#[derive(Clone)]
pub struct Place {
    pub namespace: Option<String>,
    pub certificates: Arc<Cache>,
    pub gateways: Arc<GatewayCache>,
}

/// Certificates, Gateways and namespaces as the caches have them.
pub struct ClusterSight {
    pub places: Vec<Place>,
    /// Labels of namespaces; none where ClusterAlertPolicies are not read.
    pub namespaces: Option<Reflected<PartialObjectMeta<Namespace>>>,
}

impl ClusterSight {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>> {
        let wanted = ObjectRef::new(name).within(namespace);
        self.places
            .iter()
            .find_map(|place| place.certificates.certificates().get(&wanted))
    }
}

impl Sight for ClusterSight {
    fn knows(&self, kind: AlertKind, namespace: &str) -> bool {
        let of = |place: &&Place| place.namespace.as_deref().is_none_or(|own| own == namespace);
        self.places.iter().filter(of).any(|place| match kind {
            AlertKind::Certificate => place.certificates.has_certificates(),
            AlertKind::Gateway => place.gateways.has_gateways(),
        })
    }

    fn certificate(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>> {
        self.get(namespace, name)
    }

    fn gateway(&self, namespace: &str, name: &str) -> Option<Arc<GuardedGateway>> {
        let wanted = ObjectRef::new(name).within(namespace);
        self.places
            .iter()
            .find_map(|place| place.gateways.gateways().get(&wanted))
    }

    fn objects(&self, namespace: Option<&str>) -> Vec<Object> {
        let certificates = self
            .places
            .iter()
            .flat_map(|place| place.certificates.certificates().state());
        let certificates = certificates.map(|object| {
            (
                AlertKind::Certificate,
                object.namespace().unwrap_or_default(),
                object.name_any(),
            )
        });
        let gateways = self.places.iter().flat_map(|place| place.gateways.gateways().state());
        let gateways = gateways.map(|object| {
            (
                AlertKind::Gateway,
                object.namespace().unwrap_or_default(),
                object.name_any(),
            )
        });
        certificates
            .chain(gateways)
            .filter(|(_, own, _)| namespace.is_none_or(|namespace| namespace == own))
            .collect()
    }

    fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        let found = self.namespaces.as_ref()?.get(&ObjectRef::new(namespace))?;
        Some(found.metadata.labels.clone().unwrap_or_default())
    }
}

/// Names a policy among those who wait for objects.
pub fn dependent(policy: &PolicyKey) -> Dependent {
    Dependent::new(
        policy.kind(),
        policy.namespace.as_deref().unwrap_or_default(),
        &policy.name,
    )
}

/// Returns the Secrets that the receivers of a policy refer to, which are in `namespace`.
pub fn dependencies(receivers: &[Receiver], namespace: &str) -> BTreeSet<Dependency> {
    let names = receivers.iter().flat_map(|receiver| secret_names(&receiver.webhook));
    names.map(|name| Dependency::secret(namespace, &name)).collect()
}

/// Writes to the API server, and sends.
pub struct ClusterHands {
    pub client: Client,
    pub writer: Writer,
    pub events: Events,
    pub dependencies: Arc<Dependencies>,
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
        let dependent = dependent(policy);
        let secrets = NamespaceSecrets::new(self.client.clone(), namespace, self.dependencies.clone(), dependent);
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
        let (namespace, name) = (&subject.namespace, &subject.name);
        let (kind, uid) = match subject.kind() {
            AlertKind::Certificate => (
                Certificate::kind(&()),
                self.sight.get(namespace, name).map(|found| found.uid()),
            ),
            AlertKind::Gateway => (
                Gateway::kind(&()),
                self.sight.gateway(namespace, name).map(|found| found.uid()),
            ),
        };
        let Some(uid) = uid else { return };
        let reference = ObjectReference {
            api_version: Some(Certificate::api_version(&()).into()),
            kind: Some(kind.into()),
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid,
            ..ObjectReference::default()
        };
        self.events
            .publish(&reference, EventType::Warning, "AlertDeliveryFailed", "Alert", note);
    }

    fn follow_secrets(&self, policy: &PolicyKey, receivers: &[Receiver]) {
        let namespace = policy.namespace.as_deref().unwrap_or(&self.own_namespace);
        self.dependencies
            .set_from_now(&dependent(policy), dependencies(receivers, namespace));
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
