//! The engine's eyes and hands in a cluster.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use gatehouse_crds::alert::{AlertKind, AlertPolicy, AlertPolicyStatus, ClusterAlertPolicy};
use gatehouse_crds::certificate::Certificate;
use gatehouse_crds::gateway::Gateway;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Api, Client, Resource, ResourceExt, core::PartialObjectMeta};

use super::{
    failure::{Failure, FailureKind},
    message::{Message, Subject},
    policy::{PolicyKey, Receiver},
    ports::{ClusterView, Effects},
    queue::Outcome,
    send::Sender,
    state::Object,
    store::Store,
    target::{Target, TargetError},
    watch::NamespaceLabels,
};
use crate::{
    certificate::cache::{Cache, Guarded},
    gateway::cache::{Cache as GatewayCache, Guarded as GuardedGateway},
    issuer::secrets::NamespaceSecrets,
    kubernetes::{
        apply::{self, Writer},
        dependency::{Dependencies, Dependency, Dependent, secret_names},
        events::{EventType, Events},
        store::{ObjectKey, Store as KubernetesStore},
    },
};

/// Stores of one namespace, or of all.
#[derive(Clone)]
pub struct WatchScope {
    pub namespace: Option<String>,
    pub certificates: Arc<Cache>,
    pub gateways: Arc<GatewayCache>,
}

/// Certificates, Gateways and namespaces as the caches have them.
pub struct KubernetesView {
    pub watch_scopes: Vec<WatchScope>,
    /// Labels of namespaces; none where ClusterAlertPolicies are not read.
    pub namespaces: Option<Arc<KubernetesStore<NamespaceLabels>>>,
}

impl KubernetesView {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>> {
        let key = ObjectKey::new(namespace, name);
        self.watch_scopes
            .iter()
            .find_map(|scope| scope.certificates.certificates.get(&key))
    }
}

impl ClusterView for KubernetesView {
    fn knows(&self, kind: AlertKind, namespace: &str) -> bool {
        let of = |scope: &&WatchScope| scope.namespace.as_deref().is_none_or(|own| own == namespace);
        self.watch_scopes.iter().filter(of).any(|scope| match kind {
            AlertKind::Certificate => scope.certificates.certificates.is_listed(),
            AlertKind::Gateway => scope.gateways.gateways.is_listed(),
        })
    }

    fn certificate(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>> {
        self.get(namespace, name)
    }

    fn gateway(&self, namespace: &str, name: &str) -> Option<Arc<GuardedGateway>> {
        let key = ObjectKey::new(namespace, name);
        self.watch_scopes
            .iter()
            .find_map(|scope| scope.gateways.gateways.get(&key))
    }

    fn objects(&self, namespace: Option<&str>) -> Vec<Object> {
        let certificates = self
            .watch_scopes
            .iter()
            .flat_map(|scope| scope.certificates.certificates.state());
        let certificates = certificates.map(|object| {
            (
                AlertKind::Certificate,
                object.namespace().unwrap_or_default(),
                object.name_any(),
            )
        });
        let gateways = self
            .watch_scopes
            .iter()
            .flat_map(|scope| scope.gateways.gateways.state());
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
        let found = self.namespaces.as_ref()?.get(&ObjectKey::new("", namespace))?;
        Some(found.labels.clone())
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
pub struct KubernetesEffects {
    pub client: Client,
    pub writer: Writer,
    pub events: Events,
    pub dependencies: Arc<Dependencies>,
    pub view: Arc<KubernetesView>,
    pub store: Store,
    pub sender: Sender,
    /// Namespace of the Secrets of ClusterAlertPolicies.
    pub own_namespace: String,
    pub targets: Targets,
}

/// Number of targets that are kept. Without one, a receiver whose Secret is deleted does not get the end of its alerts.
const TARGETS: usize = 10_000;

/// Receivers as they were when they last took something, by policy and name.
///
/// When a namespace is deleted, its Secrets may be deleted before its policies. Until their receivers are notified, the end of an
/// alert is sent with what the Secret held.
#[derive(Default)]
pub struct Targets(Mutex<HashMap<PolicyKey, HashMap<String, Arc<Target>>>>);

impl Targets {
    fn get(&self, policy: &PolicyKey, receiver: &Receiver) -> Option<Arc<Target>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let target = all.get(policy)?.get(&receiver.name)?;
        target.is_of(&receiver.webhook).then(|| target.clone())
    }

    fn keep(&self, policy: &PolicyKey, receiver: &Receiver, target: Arc<Target>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < TARGETS || all.contains_key(policy) {
            all.entry(policy.clone())
                .or_default()
                .insert(receiver.name.clone(), target);
        }
    }

    fn forget(&self, policy: &PolicyKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(policy);
    }
}

impl KubernetesEffects {
    async fn try_send(
        &self,
        policy: &PolicyKey,
        receiver: &Receiver,
        message: &Message,
        retired: bool,
    ) -> Result<bool, Failure> {
        let namespace = policy.namespace.as_deref().unwrap_or(&self.own_namespace);
        let dependent = dependent(policy);
        let secrets = NamespaceSecrets::new(self.client.clone(), namespace, self.dependencies.clone(), dependent);
        let target = match Target::read(&receiver.webhook, &secrets).await {
            Ok(target) => Arc::new(target),
            Err(error) => {
                let gone = matches!(
                    error,
                    TargetError::SecretMissing { .. } | TargetError::SecretKeyMissing { .. }
                );
                let kept = self.targets.get(policy, receiver).filter(|_| retired && gone);
                kept.ok_or(error)?
            }
        };
        let accepted = self.sender.send(&target, message, self.now()).await?;
        if !retired && receiver.has_secrets() {
            self.targets.keep(policy, receiver, target);
        }
        Ok(accepted.status.is_some())
    }
}

#[async_trait]
impl Effects for KubernetesEffects {
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

    async fn send(&self, policy: &PolicyKey, receiver: &Receiver, message: &Message, retired: bool) -> Outcome {
        if let Err(error) = self.writer.check() {
            return Outcome::Unavailable {
                message: error.to_string(),
                after: None,
            };
        }
        match self.try_send(policy, receiver, message, retired).await {
            Ok(true) => Outcome::Accepted,
            Ok(false) => Outcome::NotSent,
            Err(failure) => {
                let (message, after, content) = (failure.message, failure.retry_after, failure.content);
                match failure.kind {
                    FailureKind::Gone => Outcome::Gone { message },
                    FailureKind::Refused => Outcome::Refused {
                        message,
                        after,
                        content,
                    },
                    FailureKind::Partial => Outcome::Partial { message },
                    FailureKind::Unavailable | FailureKind::Misconfigured => Outcome::Unavailable { message, after },
                }
            }
        }
    }

    fn forget(&self, policy: &PolicyKey) {
        self.targets.forget(policy);
    }

    fn undelivered(&self, subject: &Subject, note: &str) {
        let (namespace, name) = (&subject.namespace, &subject.name);
        let (kind, uid) = match subject.kind() {
            AlertKind::Certificate => (
                Certificate::kind(&()),
                self.view.get(namespace, name).map(|found| found.uid()),
            ),
            AlertKind::Gateway => (
                Gateway::kind(&()),
                self.view.gateway(namespace, name).map(|found| found.uid()),
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
