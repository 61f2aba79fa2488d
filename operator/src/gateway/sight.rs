//! What is asked for when it is needed, rather than watched: nodes, Pods, events, the user's own Secrets, and what speaks for a
//! provider. Nothing is asked while all Gateways are well.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatehouse_crds::gateway::{Provider, Scope, ServiceSpec};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use tokio::sync::Mutex as AsyncMutex;

use super::{
    provider::{Detection, Evidence, Refusal, detect},
    status::{Certificate, NodeFacts},
};
use crate::{certificate::holding::Facts, pki::Chain};

/// How long Pods and nodes that were read are good for.
const FRESH: Duration = Duration::from_secs(10);
/// How long what was found out about the provider is good for.
const DETECTED: Duration = Duration::from_secs(300);
/// How long nothing having been found out is.
const DOUBTFUL: Duration = Duration::from_secs(20);
/// Objects in one page.
const PAGE: u32 = 500;
/// Longest answer to wait for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that was read, and when.
type Read<T> = AsyncMutex<Option<(Timestamp, T)>>;
/// By namespace: who waits for one does not wait for another.
type Pods = HashMap<String, Arc<Read<Arc<Vec<Pod>>>>>;

/// Asks the API server.
pub struct Sight {
    client: Client,
    now: fn() -> Timestamp,
    nodes: Read<Arc<Vec<Node>>>,
    detection: Read<Detection>,
    pods: Mutex<Pods>,
    /// By namespace and name: the version that was read, and what was in it.
    secrets: Mutex<HashMap<(String, String), (String, Certificate)>>,
}

impl Sight {
    pub fn new(client: Client, now: fn() -> Timestamp) -> Self {
        Self {
            client,
            now,
            nodes: AsyncMutex::default(),
            detection: AsyncMutex::default(),
            pods: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    /// Whose load balancer a Service would get.
    pub async fn provider(&self, spec: Option<&ServiceSpec>, now: Timestamp) -> Result<Provider, Refusal> {
        let mut known = self.detection.lock().await;
        // A cluster that is not known yet may be soon: a node joins, a controller is installed.
        let good_for = |found: &Detection| {
            if matches!(found, Detection::One(_)) {
                DETECTED
            } else {
                DOUBTFUL
            }
        };
        let fresh = known.as_ref().filter(|(at, found)| is_fresh(*at, now, good_for(found)));
        let detection = if let Some((_, found)) = fresh {
            found.clone()
        } else {
            let found = match self.evidence().await {
                Ok(evidence) => detect(&evidence),
                Err(error) => Detection::Unknown(format!(
                    "The provider cannot be found out: {error}. Write spec.service.provider"
                )),
            };
            *known = Some((now, found.clone()));
            found
        };
        drop(known);
        let internal = spec.and_then(|spec| spec.scope).unwrap_or_default() == Scope::Internal;
        match detection {
            Detection::One(provider) => Ok(provider),
            // Any load balancer will do for an external one, if nobody says whose.
            Detection::Unknown(_) if !internal => Ok(Provider::Other),
            Detection::Unknown(why) | Detection::Several(_, why) => Err(Refusal {
                reason: "UnknownProvider",
                message: why,
            }),
        }
    }

    async fn evidence(&self) -> Result<Evidence, String> {
        let nodes = self.read_nodes().await?;
        let groups = timely(self.client.list_api_groups()).await?;
        let api_groups: BTreeSet<String> = groups.groups.into_iter().map(|group| group.name).collect();
        let mut node_labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (key, value) in nodes.iter().flat_map(kube::ResourceExt::labels) {
            node_labels.entry(key.clone()).or_default().insert(value.clone());
        }
        let provider_ids = nodes
            .iter()
            .filter_map(|node| node.spec.as_ref()?.provider_id.clone())
            .collect();
        let cilium_pool = api_groups.contains("cilium.io") && self.has_cilium_pool().await;
        let kube_vip = Api::<ConfigMap>::namespaced(self.client.clone(), "kube-system");
        let kube_vip_pool = timely(kube_vip.get_metadata_opt("kubevip")).await?.is_some();
        Ok(Evidence {
            provider_ids,
            node_labels,
            api_groups,
            cilium_pool,
            kube_vip_pool,
        })
    }

    async fn has_cilium_pool(&self) -> bool {
        for version in ["v2", "v2alpha1"] {
            let kind = GroupVersionKind::gvk("cilium.io", version, "CiliumLoadBalancerIPPool");
            let kind = ApiResource::from_gvk_with_plural(&kind, "ciliumloadbalancerippools");
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
            if let Ok(pools) = timely(api.list_metadata(&ListParams::default().limit(1))).await {
                return !pools.items.is_empty();
            }
        }
        false
    }

    /// The nodes' addresses; none when they cannot be read.
    pub async fn nodes(&self) -> Option<Vec<NodeFacts>> {
        let nodes = self.read_nodes().await;
        let nodes = nodes
            .map_err(|error| tracing::warn!(error, "the nodes cannot be read"))
            .ok()?;
        Some(nodes.iter().map(node_facts).collect())
    }

    async fn read_nodes(&self) -> Result<Arc<Vec<Node>>, String> {
        let now = (self.now)();
        let mut known = self.nodes.lock().await;
        if let Some((_, nodes)) = known.as_ref().filter(|(at, _)| is_fresh(*at, now, FRESH)) {
            return Ok(nodes.clone());
        }
        let nodes = Arc::new(all(&Api::<Node>::all(self.client.clone())).await?);
        *known = Some((now, nodes.clone()));
        Ok(nodes)
    }

    /// The Pods of a namespace; none when they cannot be read.
    pub async fn pods(&self, namespace: &str, now: Timestamp) -> Option<Arc<Vec<Pod>>> {
        let place = self.place(namespace, now);
        let mut known = place.lock().await;
        if let Some((_, pods)) = known.as_ref().filter(|(at, _)| is_fresh(*at, now, FRESH)) {
            return Some(pods.clone());
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let pods = all(&api)
            .await
            .map_err(|error| tracing::warn!(namespace, error, "Pods cannot be read"))
            .ok()?;
        let pods = Arc::new(pods);
        *known = Some((now, pods.clone()));
        Some(pods)
    }

    /// Where the Pods of a namespace are kept; those that are old are forgotten.
    fn place(&self, namespace: &str, now: Timestamp) -> Arc<Read<Arc<Vec<Pod>>>> {
        let mut known = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let is_used = |read: &Read<Arc<Vec<Pod>>>| match read.try_lock() {
            Ok(read) => read.as_ref().is_some_and(|(at, _)| is_fresh(*at, now, FRESH)),
            Err(_) => true,
        };
        known.retain(|_, read| Arc::strong_count(read) > 1 || is_used(read));
        known.entry(namespace.to_owned()).or_default().clone()
    }

    /// The last warning that anybody has given about a Service.
    pub async fn last_warning(&self, namespace: &str, name: &str, uid: &str) -> Option<String> {
        let api = Api::<Event>::namespaced(self.client.clone(), namespace);
        let fields =
            format!("involvedObject.kind=Service,involvedObject.name={name},involvedObject.uid={uid},type=Warning");
        let events = timely(api.list(&ListParams::default().fields(&fields).limit(PAGE)))
            .await
            .ok()?;
        let when = |event: &Event| {
            let last = event.last_timestamp.as_ref().map(|time| time.0);
            last.or(event.event_time.as_ref().map(|time| time.0))
                .or(event.creation_timestamp().map(|time| time.0))
        };
        let last = events.items.into_iter().max_by_key(when)?;
        let words = [last.reason, last.message]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(": ");
        (!words.is_empty()).then_some(words)
    }

    /// How a Secret of the user's stands.
    pub async fn secret(&self, namespace: &str, facts: &Facts, now: Timestamp) -> Certificate {
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
                    return Certificate::Bad(
                        "InvalidCertificateRef",
                        format!("The Secret {} cannot be read: {error}", facts.name),
                    );
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

fn node_facts(node: &Node) -> NodeFacts {
    let status = node.status.as_ref();
    let addresses = |type_: &str| {
        let all = status
            .and_then(|status| status.addresses.as_ref())
            .into_iter()
            .flatten();
        all.filter(|address| address.type_ == type_)
            .filter_map(|address| address.address.parse().ok())
            .collect()
    };
    let conditions = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten();
    NodeFacts {
        name: node.name_any(),
        ready: conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        internal: addresses("InternalIP"),
        external: addresses("ExternalIP"),
    }
}

fn is_fresh(at: Timestamp, now: Timestamp, good_for: Duration) -> bool {
    now.duration_since(at).unsigned_abs() < good_for
}

async fn timely<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer from the API server within {PATIENCE:?}")),
    }
}

/// Every object, page by page.
async fn all<K>(api: &Api<K>) -> Result<Vec<K>, String>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut found = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = timely(api.list(&params)).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = ListParams::default().limit(PAGE).continue_token(&token),
            None => return Ok(found),
        }
    }
}
