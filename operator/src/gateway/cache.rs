//! What the operator remembers for Gateways: those themselves, their Services whole, of all other Services the name, of
//! EndpointSlices a count, and their NetworkPolicies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, StreamExt};
use gatehouse_crds::gateway::Gateway;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::NetworkPolicy};
use kube::{
    Api, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::{mpsc, watch};

use super::{endpoints::Slice, live::Live, packed::Packed, plan::Foreign, service::label_value};
use crate::{certificate::cache::Change, kubernetes::names};

/// A Gateway, or why it is none.
pub type Guarded = DeserializeGuard<Gateway>;
/// Names a Gateway.
pub type Ref = ObjectRef<Guarded>;
/// Namespace and name.
type Key = (String, String);

/// Objects in one page of a list.
const PAGE: u32 = 100;
/// What an EndpointSlice is of (a well-known label).
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A NetworkPolicy of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct LivePolicy {
    pub uid: String,
    pub owner: Option<String>,
    pub spec: serde_json::Value,
}

/// A Service without our label.
#[derive(Clone, Debug, PartialEq)]
struct Other {
    uid: String,
    foreign: Foreign,
    /// The UID of the Gateway that owns it: somebody took our label away.
    owner: Option<String>,
}

impl Other {
    fn of(service: &PartialObjectMeta<Service>) -> Self {
        let consent = service.annotations().get(names::ADOPT);
        let owner = service
            .owner_references()
            .iter()
            .find(|owner| owner.kind == "Gateway" && owner.controller == Some(true));
        Self {
            uid: service.uid().unwrap_or_default(),
            foreign: if consent.is_some_and(|consent| consent == names::TRUE) {
                Foreign::Adoptable
            } else {
                Foreign::Keep
            },
            owner: owner.map(|owner| owner.uid.clone()),
        }
    }
}

#[derive(Default)]
struct Known {
    services: HashMap<Key, Packed>,
    /// By the UID of the Gateway: names of its Services.
    by_owner: HashMap<String, Vec<Key>>,
    others: HashMap<Key, Other>,
    /// By Service: each with its name. There are few of one Service.
    slices: HashMap<Key, Vec<(String, Slice)>>,
    policies: HashMap<Key, LivePolicy>,
}

/// Which lists have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a list that has arrived or not")]
struct Listed {
    gateways: bool,
    services: bool,
    others: bool,
    slices: bool,
    policies: bool,
}

impl Listed {
    fn all(self) -> bool {
        self.gateways && self.services && self.others && self.slices && self.policies
    }
}

/// Of one scope: all namespaces, or one.
pub struct Cache {
    gateways: Store<Guarded>,
    known: Mutex<Known>,
    touched: mpsc::UnboundedSender<Ref>,
    changes: mpsc::UnboundedSender<Change>,
    listed: watch::Sender<Listed>,
}

/// The cache's inlets.
pub struct Inlets {
    pub gateways: Writer<Guarded>,
    /// Gateways to be looked at.
    pub touched: mpsc::UnboundedReceiver<Ref>,
    /// What is told of the Gateways, after it is in the store.
    pub changes: mpsc::UnboundedReceiver<Change>,
}

impl Cache {
    /// An empty cache.
    pub fn new() -> (Arc<Self>, Inlets) {
        let (reader, gateways) = store();
        let (touched, touched_out) = mpsc::unbounded_channel();
        let (changes, changes_out) = mpsc::unbounded_channel();
        let cache = Self {
            gateways: reader,
            known: Mutex::default(),
            touched,
            changes,
            listed: watch::Sender::default(),
        };
        let inlets = Inlets {
            gateways,
            touched: touched_out,
            changes: changes_out,
        };
        (Arc::new(cache), inlets)
    }

    /// The store that a controller reads.
    pub fn gateways(&self) -> Store<Guarded> {
        self.gateways.clone()
    }

    /// Waits until all lists have arrived.
    pub async fn synced(&self) {
        let mut listed = self.listed.subscribe();
        // The sender lives as long as this does.
        let _ = listed.wait_for(|listed| listed.all()).await;
    }

    /// Waits until the Gateways have arrived.
    pub async fn listed(&self) {
        let mut listed = self.listed.subscribe();
        let _ = listed.wait_for(|listed| listed.gateways).await;
    }

    /// Whether the Gateways have arrived.
    pub fn has_gateways(&self) -> bool {
        self.listed.borrow().gateways
    }

    /// The Services that the Gateway of this UID owns.
    pub fn services(&self, owner: &str) -> Vec<Arc<Live>> {
        let known = self.lock();
        let keys = known.by_owner.get(owner).into_iter().flatten();
        keys.filter_map(|key| known.services.get(key).map(|packed| Arc::new(packed.unpack())))
            .collect()
    }

    /// What a Service of this name, that is not known to be its own, is to the Gateway `gateway` of the UID `owner`.
    pub fn foreign(&self, namespace: &str, name: &str, (gateway, owner): (&str, &str)) -> Option<Foreign> {
        let key = (namespace.to_owned(), name.to_owned());
        let known = self.lock();
        let labelled = known
            .services
            .get(&key)
            .filter(|packed| packed.live.owner.as_deref() != Some(owner));
        let labelled = labelled.map(Packed::unpack).map(|live| {
            let consents = live.annotation(names::ADOPT) == Some(names::TRUE);
            // We have written it, for a Gateway of this name, and it has lost its owner: by a hand, or with `--cascade=orphan`.
            let lost = !live.owned.is_empty() && live.labels().get(names::GATEWAY) == Some(&label_value(gateway));
            if live.owner.is_none() && (consents || lost) {
                Foreign::Adoptable
            } else {
                Foreign::Keep
            }
        });
        let other = || {
            let other = known.others.get(&key)?;
            Some(if other.owner.as_deref() == Some(owner) {
                Foreign::Adoptable
            } else {
                other.foreign
            })
        };
        labelled.or_else(other)
    }

    /// The UID of the Service of this name, whoever's it is.
    pub fn uid(&self, namespace: &str, name: &str) -> Option<String> {
        let key = (namespace.to_owned(), name.to_owned());
        let known = self.lock();
        let ours = known.services.get(&key).map(|packed| packed.live.uid.clone());
        ours.or_else(|| known.others.get(&key).map(|other| other.uid.clone()))
    }

    /// Of a Service.
    pub fn slices(&self, namespace: &str, service: &str) -> Vec<Slice> {
        let slices = self
            .lock()
            .slices
            .get(&(namespace.to_owned(), service.to_owned()))
            .cloned();
        slices.unwrap_or_default().into_iter().map(|(_, slice)| slice).collect()
    }

    pub fn policy(&self, namespace: &str, name: &str) -> Option<LivePolicy> {
        self.lock()
            .policies
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Takes in a Service that we wrote, before the watch shows it.
    pub fn wrote_service(&self, namespace: &str, service: &Service) {
        let live = Live::of(service);
        let key = (namespace.to_owned(), live.name.clone());
        let mut known = self.lock();
        let kept = known.is_kept(&key, &live);
        if known
            .services
            .get(&key)
            .is_none_or(|there| version(&there.live.resource_version) <= version(&live.resource_version))
        {
            known.others.remove(&key);
            known.put(key, live);
        }
        drop(known);
        if !kept {
            self.touch_named(service);
        }
    }

    /// Takes in a NetworkPolicy that we wrote.
    pub fn wrote_policy(&self, namespace: &str, policy: &NetworkPolicy) {
        let key = (namespace.to_owned(), policy.name_any());
        self.lock().policies.insert(key, live_policy(policy));
    }

    /// Has a Gateway looked at now, if it is here.
    pub fn touch(&self, namespace: &str, name: &str) {
        let gateway = Ref::new(name).within(namespace);
        if self.gateways.get(&gateway).is_some() {
            // Its controller is gone: the process is on its way out.
            let _ = self.touched.send(gateway);
        }
    }

    /// Has every Gateway of which `concerns` holds looked at.
    pub fn touch_where(&self, concerns: impl Fn(&Gateway) -> bool) {
        for object in self.gateways.state() {
            if object.0.as_ref().is_ok_and(&concerns) {
                let _ = self.touched.send(Ref::from_obj(object.as_ref()));
            }
        }
    }

    /// Watches Gateways; each that was made or changed comes out.
    pub fn watch_gateways(
        self: &Arc<Self>,
        api: Api<Guarded>,
        mut inlet: Writer<Guarded>,
        mut gone: Box<dyn FnMut(&Guarded) + Send>,
    ) -> impl Stream<Item = Result<Guarded, watcher::Error>> + Send + use<> {
        let cache = self.clone();
        watcher(api, watcher::Config::default().page_size(PAGE))
            .default_backoff()
            .modify(slim)
            .map(move |event| {
                match &event {
                    Ok(event) => {
                        let before = if matches!(event, Event::InitDone) {
                            cache.gateways.state()
                        } else {
                            Vec::new()
                        };
                        inlet.apply_watcher_event(event);
                        match event {
                            Event::Delete(object) => gone(object),
                            Event::InitDone => {
                                cache.listed.send_modify(|listed| listed.gateways = true);
                                let lost = |object: &&Arc<Guarded>| {
                                    let now = cache.gateways.get(&Ref::from_obj(object.as_ref()));
                                    now.is_none_or(|now| now.uid() != object.uid())
                                };
                                before.iter().filter(lost).for_each(|object| gone(object));
                            }
                            _ => {}
                        }
                        let change = match event {
                            Event::Apply(object) | Event::Delete(object) => {
                                Some(Change::One(object.namespace().unwrap_or_default(), object.name_any()))
                            }
                            Event::InitDone => Some(Change::All),
                            Event::Init | Event::InitApply(_) => None,
                        };
                        if let Some(change) = change {
                            // Nobody raises the alarm any more: the process is on its way out.
                            let _ = cache.changes.send(change);
                        }
                    }
                    Err(error) => tracing::warn!(%error, "the watch of Gateways was interrupted and will be resumed"),
                }
                event
            })
            .applied_objects()
    }

    /// Watches the Services that were made for Gateways.
    pub async fn watch_services(self: Arc<Self>, api: Api<Service>) {
        let config = watcher::Config::default().labels(names::GATEWAY).page_size(PAGE);
        let mut listed: HashMap<Key, Live> = HashMap::new();
        self.follow("Services", watcher(api, config), |event| match event {
            Event::Init => listed.clear(),
            Event::InitApply(service) => drop(listed.insert(key(&service), Live::of(&service))),
            Event::InitDone => {
                let new = std::mem::take(&mut listed);
                let mut known = self.lock();
                known.services.clear();
                known.by_owner.clear();
                for (key, live) in new {
                    known.put(key, live);
                }
                drop(known);
                self.listed.send_modify(|listed| listed.services = true);
                self.touch_where(|_| true);
            }
            Event::Apply(service) => {
                let (key, live) = (key(&service), Live::of(&service));
                let mut known = self.lock();
                let newer = known.services.get(&key).is_none_or(|Packed { live: there, .. }| {
                    there.uid != live.uid || version(&there.resource_version) <= version(&live.resource_version)
                });
                let kept = known.is_kept(&key, &live);
                if newer {
                    known.put(key, live);
                }
                drop(known);
                self.touch_owner(&service);
                if !kept {
                    self.touch_named(&service);
                }
            }
            Event::Delete(service) => {
                self.lock().drop_service(&key(&service));
                self.touch_owner(&service);
                self.touch_named(&service);
            }
        })
        .await;
    }

    /// Watches the names of all other Services: one of those is never touched.
    pub async fn watch_others(self: Arc<Self>, api: Api<PartialObjectMeta<Service>>) {
        let config = watcher::Config::default()
            .labels(&format!("!{}", names::GATEWAY))
            .page_size(PAGE);
        let mut listed: HashMap<Key, Other> = HashMap::new();
        self.follow("Services", watcher(api, config), |event| match event {
            Event::Init => listed.clear(),
            Event::InitApply(service) => drop(listed.insert(key(&service), Other::of(&service))),
            Event::InitDone => {
                self.lock().others = std::mem::take(&mut listed);
                self.listed.send_modify(|listed| listed.others = true);
                self.touch_where(|_| true);
            }
            Event::Apply(service) => {
                let new = Other::of(&service);
                let before = self.lock().others.insert(key(&service), new.clone());
                if before != Some(new) {
                    self.touch_named(&service);
                }
            }
            Event::Delete(service) => {
                self.lock().others.remove(&key(&service));
                self.touch_named(&service);
            }
        })
        .await;
    }

    /// Watches the EndpointSlices of our Services: they carry the labels of their Service.
    pub async fn watch_slices(self: Arc<Self>, api: Api<EndpointSlice>) {
        let config = watcher::Config::default().labels(names::GATEWAY).page_size(PAGE);
        let mut listed: HashMap<Key, Vec<(String, Slice)>> = HashMap::new();
        let service = |slice: &EndpointSlice| Some((slice.namespace()?, slice.labels().get(SERVICE_NAME)?.clone()));
        self.follow("EndpointSlices", watcher(api, config), |event| match event {
            Event::Init => listed.clear(),
            Event::InitApply(slice) => {
                if let Some(service) = service(&slice) {
                    // Nearly always it is the only one.
                    let slices = listed.entry(service).or_insert_with(|| Vec::with_capacity(1));
                    slices.push((slice.name_any(), Slice::of(&slice)));
                }
            }
            Event::InitDone => {
                self.lock().slices = std::mem::take(&mut listed);
                self.listed.send_modify(|listed| listed.slices = true);
                self.touch_where(|_| true);
            }
            Event::Apply(slice) => {
                let Some(service) = service(&slice) else { return };
                let mut known = self.lock();
                let new = Slice::of(&slice);
                let differs = known.put_slice(service.clone(), slice.name_any(), new);
                let owner = known.owner_name(&service);
                drop(known);
                if let Some(owner) = owner.filter(|_| differs) {
                    self.touch(&service.0, &owner);
                }
            }
            Event::Delete(slice) => {
                let Some(service) = service(&slice) else { return };
                let mut known = self.lock();
                if let Some(slices) = known.slices.get_mut(&service) {
                    slices.retain(|(name, _)| *name != slice.name_any());
                }
                known.slices.retain(|_, slices| !slices.is_empty());
                let owner = known.owner_name(&service);
                drop(known);
                if let Some(owner) = owner {
                    self.touch(&service.0, &owner);
                }
            }
        })
        .await;
    }

    /// Watches the NetworkPolicies that were made for Gateways.
    pub async fn watch_policies(self: Arc<Self>, api: Api<NetworkPolicy>) {
        let config = watcher::Config::default().labels(names::GATEWAY).page_size(PAGE);
        let mut listed: HashMap<Key, LivePolicy> = HashMap::new();
        self.follow("NetworkPolicies", watcher(api, config), |event| match event {
            Event::Init => listed.clear(),
            Event::InitApply(policy) => drop(listed.insert(key(&policy), live_policy(&policy))),
            Event::InitDone => {
                self.lock().policies = std::mem::take(&mut listed);
                self.listed.send_modify(|listed| listed.policies = true);
                self.touch_where(|_| true);
            }
            Event::Apply(policy) => {
                self.lock().policies.insert(key(&policy), live_policy(&policy));
                self.touch_owner(&policy);
            }
            Event::Delete(policy) => {
                self.lock().policies.remove(&key(&policy));
                self.touch_owner(&policy);
            }
        })
        .await;
    }

    async fn follow<K: Send>(
        &self,
        kind: &str,
        events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
        mut take: impl FnMut(Event<K>),
    ) {
        let mut events = events.default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => take(event),
                Err(error) => tracing::warn!(%error, "the watch of {kind} was interrupted and will be resumed"),
            }
        }
    }

    fn touch_owner(&self, object: &impl ResourceExt) {
        let owner = object.owner_references().iter().find(|owner| owner.kind == "Gateway");
        if let Some(owner) = owner {
            self.touch(&object.namespace().unwrap_or_default(), &owner.name);
        }
    }

    /// Whoever wants a Service of this name.
    fn touch_named(&self, service: &impl ResourceExt) {
        let (namespace, name) = key(service);
        self.touch_where(|gateway| {
            let fixed = gateway.spec.service.as_ref().and_then(|service| service.name.clone());
            gateway.metadata.namespace.as_deref() == Some(&*namespace)
                && fixed.unwrap_or_else(|| gateway.name_any()) == name
        });
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn put(&mut self, key: Key, live: Live) {
        self.drop_service(&key);
        if let Some(owner) = &live.owner {
            let keys = self.by_owner.entry(owner.clone());
            keys.or_insert_with(|| Vec::with_capacity(1)).push(key.clone());
        }
        self.services.insert(key, Packed::of(live));
    }

    /// Gives whether it differs from what was known of it.
    fn put_slice(&mut self, service: Key, name: String, slice: Slice) -> bool {
        let slices = self.slices.entry(service).or_insert_with(|| Vec::with_capacity(1));
        if let Some((_, known)) = slices.iter_mut().find(|(known, _)| *known == name) {
            return std::mem::replace(known, slice.clone()) != slice;
        }
        slices.push((name, slice));
        true
    }

    /// The Gateway whose Service this is.
    fn owner_name(&self, service: &Key) -> Option<String> {
        self.services.get(service)?.live.owner_name.clone()
    }

    /// Whether a Service is what it was to all but its owner.
    fn is_kept(&self, key: &Key, live: &Live) -> bool {
        let there = self.services.get(key).map(|packed| &packed.live);
        live.owner.is_some() && there.is_some_and(|there| there.uid == live.uid && there.owner == live.owner)
    }

    fn drop_service(&mut self, key: &Key) {
        let Some(owner) = self.services.remove(key).and_then(|packed| packed.live.owner) else {
            return;
        };
        if let Some(keys) = self.by_owner.get_mut(&owner) {
            keys.retain(|known| known != key);
            if keys.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
    }
}

/// Without what nobody reads, and without the room for more that its lists have from being read.
fn slim(object: &mut Guarded) {
    *object.managed_fields_mut() = Vec::new();
    let Ok(gateway) = &mut object.0 else { return };
    gateway.spec.listeners.shrink_to_fit();
    if let Some(status) = &mut gateway.status {
        status.addresses.shrink_to_fit();
        status.conditions.shrink_to_fit();
        status.listeners.shrink_to_fit();
        for listener in &mut status.listeners {
            listener.conditions.shrink_to_fit();
        }
    }
}

fn key(object: &impl ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Versions of one object grow.
fn version(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

fn live_policy(policy: &NetworkPolicy) -> LivePolicy {
    let owner = policy
        .owner_references()
        .iter()
        .find(|owner| owner.kind == "Gateway" && owner.controller == Some(true));
    LivePolicy {
        uid: policy.uid().unwrap_or_default(),
        owner: owner.map(|owner| owner.uid.clone()),
        spec: serde_json::to_value(&policy.spec).unwrap_or_default(),
    }
}
