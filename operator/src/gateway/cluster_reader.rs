//! Reads on demand: nodes, Pods and warnings by watches that end when no Gateway needs them, and by single
//! requests the user's own Secrets and what speaks for a provider. Nothing is asked while all Gateways are well.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatehouse_crds::gateway::{Provider, Scope};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Event, Node, Pod, Secret},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    core::PartialObjectMeta,
    runtime::watcher,
};
use tokio::sync::Mutex as AsyncMutex;

use super::{
    endpoints::PodFacts,
    followed::{Followed, Unreadable, Waker},
    nodes::{self, NodeFacts},
    provider::{Detection, Evidence, Refusal, UNKNOWN_PROVIDER, detect},
    status::Certificate,
};
use crate::{certificate::observed_secret::SecretMetadata, pki::Chain};

/// Validity of a detected provider, while the nodes stay as they are.
const DETECTED: Duration = Duration::from_secs(300);
/// Validity of a detection without result.
const DOUBTFUL: Duration = Duration::from_secs(20);
/// Validity of a failed detection: all that wait share one attempt.
const FAILED: Duration = Duration::from_secs(1);
/// Longest answer to wait for.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Reason: whose load balancer it is cannot be said yet, and is found out without the user.
pub const DETECTING_PROVIDER: &str = "DetectingProvider";

/// A reader of what is watched: the UID of its Gateway, and how it is woken when that changes.
#[derive(Clone)]
pub struct Reader {
    pub uid: String,
    pub wake: Waker,
}

/// Result of a detection: its time, its nodes, and the failure.
type Detected = (Timestamp, Arc<Vec<NodeFacts>>, Result<Detection, String>);

/// Reads from the API server.
pub struct ClusterReader {
    client: Client,
    nodes: Followed<Node, NodeFacts>,
    pods: Followed<Pod, PodFacts>,
    warnings: Followed<Event, Warning>,
    /// Name and UID of all of a namespace.
    policies: Followed<PartialObjectMeta<NetworkPolicy>, (String, String)>,
    detection: AsyncMutex<Option<Detected>>,
    /// By namespace and name: the version that was read, and what was in it.
    secrets: Mutex<HashMap<(String, String), (String, Certificate)>>,
}

/// Projection of a warning about a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Warning {
    service: String,
    uid: String,
    at: Option<Timestamp>,
    reason: String,
    words: String,
}

impl Warning {
    fn of(event: &Event) -> Self {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        let at = last
            .or(event.event_time.as_ref().map(|time| time.0))
            .or(event.creation_timestamp().map(|time| time.0));
        let parts = [event.reason.as_deref(), event.message.as_deref()];
        Self {
            service: event.involved_object.name.clone().unwrap_or_default(),
            uid: event.involved_object.uid.clone().unwrap_or_default(),
            at,
            reason: event.reason.clone().unwrap_or_default(),
            words: parts.into_iter().flatten().collect::<Vec<_>>().join(": "),
        }
    }
}

impl ClusterReader {
    pub fn new(client: Client) -> Self {
        let warnings = watcher::Config::default().fields("involvedObject.kind=Service,type=Warning");
        Self {
            nodes: Followed::new(
                client.clone(),
                |client, _| Api::all(client),
                watcher::Config::default(),
                NodeFacts::of,
            ),
            pods: Followed::new(
                client.clone(),
                Api::namespaced,
                watcher::Config::default(),
                PodFacts::of,
            ),
            warnings: Followed::new(client.clone(), Api::namespaced, warnings, Warning::of),
            policies: Followed::new(client.clone(), Api::namespaced, watcher::Config::default(), |policy| {
                (policy.name_any(), policy.uid().unwrap_or_default())
            }),
            client,
            detection: AsyncMutex::default(),
            secrets: Mutex::default(),
        }
    }

    /// Returns whose load balancer a Service would get.
    ///
    /// # Errors
    /// When it cannot be said yet, or the user has to say it.
    pub async fn provider(&self, scope: Scope, reader: &Reader, now: Timestamp) -> Result<Provider, Refusal> {
        match self.detection(reader, now).await {
            Ok(Detection::One(provider)) => Ok(provider),
            Ok(Detection::Likely(provider, _)) if scope == Scope::External => Ok(provider),
            // Any load balancer will do for an external one, if no provider is detected.
            Ok(Detection::Unknown(_)) if scope == Scope::External => Ok(Provider::Other),
            Ok(Detection::Unknown(why) | Detection::Several(_, why) | Detection::Likely(_, why)) => Err(Refusal {
                reason: UNKNOWN_PROVIDER,
                message: why,
            }),
            Ok(Detection::Later(why)) => Err(Refusal {
                reason: DETECTING_PROVIDER,
                message: why,
            }),
            // Not knowing is no evidence: a Service made now may be another's for good.
            Err(error) => Err(Refusal {
                reason: DETECTING_PROVIDER,
                message: format!(
                    "The provider cannot be detected yet: {error}. It is tried again by itself; to decide it now, write spec.service.provider"
                ),
            }),
        }
    }

    async fn detection(&self, reader: &Reader, now: Timestamp) -> Result<Detection, String> {
        let nodes = match self.nodes(reader).await {
            Ok(nodes) => nodes,
            // Without the right there is nothing to wait for.
            Err(error) if error.forbidden => {
                return Ok(Detection::Unknown(format!(
                    "Gatehouse has no right to read the nodes ({error}): write in spec.service.provider whose load balancer it is"
                )));
            }
            Err(error) => return Err(format!("the nodes cannot be read: {error}")),
        };
        // The detection may wait for the API server; other readers do not wait for it.
        let Ok(mut known) = tokio::time::timeout(FAILED, self.detection.lock()).await else {
            return Err("the API server has not answered yet".into());
        };
        let good_for = |found: &Result<Detection, String>| match found {
            Ok(Detection::One(_) | Detection::Likely(..)) => DETECTED,
            // A cluster that is not known yet may be soon: a controller is installed.
            Ok(_) => DOUBTFUL,
            Err(_) => FAILED,
        };
        let fresh = known
            .as_ref()
            .filter(|(at, of, found)| Arc::ptr_eq(of, &nodes) && is_fresh(*at, now, good_for(found)));
        if let Some((_, _, found)) = fresh {
            return found.clone();
        }
        let found = self.evidence(&nodes).await.map(|evidence| detect(&evidence));
        *known = Some((now, nodes, found.clone()));
        found
    }

    async fn evidence(&self, nodes: &[NodeFacts]) -> Result<Evidence, String> {
        let groups = timely(self.client.list_api_groups()).await?;
        let api_groups: BTreeSet<String> = groups.groups.into_iter().map(|group| group.name).collect();
        let cilium_pool = api_groups.contains("cilium.io") && self.has_cilium_pool().await?;
        let kube_vip = Api::<ConfigMap>::namespaced(self.client.clone(), "kube-system");
        let kube_vip_pool = timely(kube_vip.get_metadata_opt("kubevip")).await?.is_some();
        Ok(Evidence {
            api_groups,
            cilium_pool,
            kube_vip_pool,
            ..nodes::evidence(nodes)
        })
    }

    async fn has_cilium_pool(&self) -> Result<bool, String> {
        for version in ["v2", "v2alpha1"] {
            let kind = GroupVersionKind::gvk("cilium.io", version, "CiliumLoadBalancerIPPool");
            let kind = ApiResource::from_gvk_with_plural(&kind, "ciliumloadbalancerippools");
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
            match tokio::time::timeout(READ_TIMEOUT, api.list_metadata(&ListParams::default().limit(1))).await {
                Ok(Ok(pools)) => return Ok(!pools.items.is_empty()),
                // Not of this version.
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(silent()),
            }
        }
        Ok(false)
    }

    /// Returns the nodes.
    ///
    /// # Errors
    /// Why they cannot be read now.
    pub async fn nodes(&self, reader: &Reader) -> Result<Arc<Vec<NodeFacts>>, Unreadable> {
        self.nodes.read("", &reader.uid, reader.wake.clone()).await
    }

    /// Returns the Pods of a namespace; none when they cannot be read.
    pub async fn pods(&self, namespace: &str, reader: &Reader) -> Option<Arc<Vec<PodFacts>>> {
        self.pods
            .read(namespace, &reader.uid, reader.wake.clone())
            .await
            .map_err(|error| tracing::warn!(namespace, %error, "Pods cannot be read"))
            .ok()
    }

    /// Enqueues the reader when the NetworkPolicy of this name is deleted. Returns whether it exists: else nothing enqueues it.
    pub async fn await_policy(&self, namespace: &str, name: &str, reader: &Reader) -> bool {
        let policies = self.policies.read(namespace, &reader.uid, reader.wake.clone()).await;
        policies
            .map_err(|error| tracing::warn!(namespace, %error, "NetworkPolicies cannot be read"))
            .is_ok_and(|policies| policies.iter().any(|(there, _)| there == name))
    }

    /// Returns the last warning about a Service, of this reason or of any.
    pub async fn last_warning(
        &self,
        (namespace, name, uid): (&str, &str, &str),
        reason: Option<&str>,
        reader: &Reader,
    ) -> Option<String> {
        let warnings = self
            .warnings
            .read(namespace, &reader.uid, reader.wake.clone())
            .await
            .map_err(|error| tracing::warn!(namespace, %error, "events cannot be read"))
            .ok()?;
        let about = |warning: &&Warning| warning.service == name && warning.uid == uid;
        let fits = |warning: &&Warning| reason.is_none_or(|reason| warning.reason == reason);
        let last = warnings
            .iter()
            .filter(about)
            .filter(fits)
            .max_by_key(|warning| warning.at)?;
        (!last.words.is_empty()).then(|| last.words.clone())
    }

    /// Returns the state of a user's Secret.
    pub async fn secret(&self, namespace: &str, facts: &SecretMetadata, now: Timestamp) -> Certificate {
        let key = (namespace.to_owned(), facts.name.clone());
        let known = self
            .secrets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        let state = if let Some((_, state)) = known.filter(|(version, _)| *version == facts.resource_version) {
            state
        } else {
            let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
            let state = match timely(api.get(&facts.name)).await {
                Ok(secret) => pair(&secret),
                Err(error) => {
                    return Certificate::Unread(format!("The Secret {} cannot be read: {error}", facts.name));
                }
            };
            let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
            secrets.insert(key, (facts.resource_version.clone(), state.clone()));
            state
        };
        match state {
            Certificate::Good(Some(end)) if end <= now => Certificate::Bad(
                "CertificateExpired",
                format!("The certificate in the Secret {} ran out at {end}", facts.name),
            ),
            state => state,
        }
    }
}

/// The certificate in a Secret, if its key is its own.
fn pair(secret: &Secret) -> Certificate {
    let bad = |why: &str| {
        Certificate::Bad(
            "InvalidCertificateRef",
            format!("The Secret {} {why}", secret.name_any()),
        )
    };
    let data = secret.data.as_ref();
    let Some(chain) = data.and_then(|data| data.get("tls.crt")) else {
        return bad("has no tls.crt");
    };
    if data
        .and_then(|data| data.get("tls.key"))
        .is_none_or(|key| key.0.is_empty())
    {
        return bad("has no tls.key");
    }
    match Chain::read(&chain.0, None) {
        Ok(chain) => Certificate::Good(Some(chain.leaf.not_after)),
        Err(error) => bad(&format!("holds a tls.crt that is no certificate: {error}")),
    }
}

fn is_fresh(at: Timestamp, now: Timestamp, good_for: Duration) -> bool {
    now.duration_since(at).unsigned_abs() < good_for
}

async fn timely<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(READ_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(silent()),
    }
}

fn silent() -> String {
    format!("no answer from the API server within {READ_TIMEOUT:?}")
}
