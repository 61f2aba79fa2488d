//! What the operator remembers for Gateways: those themselves, their Services whole, of all other Services the name, of
//! EndpointSlices a count, and their NetworkPolicies.

mod index;
mod watches;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gatehouse_crds::gateway::Gateway;
use k8s_openapi::api::{core::v1::Service, networking::v1::NetworkPolicy};
use kube::{
    ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::reflector::{ObjectRef, Store, store, store::Writer},
};
use tokio::sync::{mpsc, watch};

use self::index::Index;
use super::{
    compact_service::CompactService, decide::Foreign, endpoints::Slice, observed_service::ObservedService,
    service::label_value,
};
use crate::{certificate::cache::Change, kubernetes::names};

/// A Gateway, or why it is none.
pub type Guarded = DeserializeGuard<Gateway>;
/// Names a Gateway.
pub type Ref = ObjectRef<Guarded>;
/// Namespace and name.
type Key = (String, String);

/// A NetworkPolicy of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedPolicy {
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
    services: HashMap<Key, CompactService>,
    /// By the UID of the Gateway: names of its Services.
    by_owner: HashMap<String, Vec<Key>>,
    others: HashMap<Key, Other>,
    /// By Service: each with its name. There are few of one Service.
    slices: HashMap<Key, Vec<(String, Slice)>>,
    policies: HashMap<Key, ObservedPolicy>,
    index: Index,
    /// The index of a list that is under way.
    listing: Index,
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
pub struct StoreWriters {
    pub gateways: Writer<Guarded>,
    /// Gateways to be looked at.
    pub touched: mpsc::UnboundedReceiver<Ref>,
    /// What is told of the Gateways, after it is in the store.
    pub changes: mpsc::UnboundedReceiver<Change>,
}

impl Cache {
    /// An empty cache.
    pub fn new() -> (Arc<Self>, StoreWriters) {
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
        let inlets = StoreWriters {
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
    pub fn services(&self, owner: &str) -> Vec<Arc<ObservedService>> {
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
        let labelled = labelled.map(CompactService::unpack).map(|live| {
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

    pub fn policy(&self, namespace: &str, name: &str) -> Option<ObservedPolicy> {
        self.lock()
            .policies
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Takes in a Service that we wrote, before the watch shows it.
    pub fn wrote_service(&self, namespace: &str, service: &Service) {
        let live = ObservedService::of(service);
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
            self.enqueue_named(service);
        }
    }

    /// Takes in a NetworkPolicy that we wrote.
    pub fn wrote_policy(&self, namespace: &str, policy: &NetworkPolicy) {
        let key = (namespace.to_owned(), policy.name_any());
        self.lock().policies.insert(key, live_policy(policy));
    }

    /// Has a Gateway looked at now, if it is here.
    pub fn enqueue(&self, namespace: &str, name: &str) {
        let gateway = Ref::new(name).within(namespace);
        if self.gateways.get(&gateway).is_some() {
            // Its controller is gone: the process is on its way out.
            let _ = self.touched.send(gateway);
        }
    }

    /// Enqueues every Gateway.
    fn enqueue_all(&self) {
        for object in self.gateways.state().iter().filter(|object| object.0.is_ok()) {
            let _ = self.touched.send(Ref::from_obj(object.as_ref()));
        }
    }

    /// Enqueues the Gateways whose listeners have a Certificate or a Secret of this name.
    pub fn enqueue_certificate(&self, namespace: &str, name: &str) {
        let gateways = self
            .lock()
            .index
            .of_certificate(&(namespace.to_owned(), name.to_owned()));
        for gateway in gateways {
            self.enqueue(namespace, &gateway);
        }
    }

    /// Enqueues all Gateways whose listeners have a certificate.
    pub fn enqueue_certificates(&self) {
        let gateways = self.lock().index.with_certificates();
        for (namespace, gateway) in gateways {
            self.enqueue(&namespace, &gateway);
        }
    }

    fn enqueue_owner(&self, object: &impl ResourceExt) {
        let owner = object.owner_references().iter().find(|owner| owner.kind == "Gateway");
        if let Some(owner) = owner {
            self.enqueue(&object.namespace().unwrap_or_default(), &owner.name);
        }
    }

    /// Enqueues the Gateways that want a Service of this name.
    fn enqueue_named(&self, service: &impl ResourceExt) {
        let service = key(service);
        let gateways = self.lock().index.of_service(&service);
        let (namespace, name) = service;
        for gateway in gateways {
            self.enqueue(&namespace, &gateway);
        }
        self.enqueue(&namespace, &name);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn put(&mut self, key: Key, live: ObservedService) {
        self.drop_service(&key);
        if let Some(owner) = &live.owner {
            let keys = self.by_owner.entry(owner.clone());
            keys.or_insert_with(|| Vec::with_capacity(1)).push(key.clone());
        }
        self.services.insert(key, CompactService::of(live));
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
    fn is_kept(&self, key: &Key, live: &ObservedService) -> bool {
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

fn key(object: &impl ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Versions of one object grow.
fn version(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

fn live_policy(policy: &NetworkPolicy) -> ObservedPolicy {
    let owner = policy
        .owner_references()
        .iter()
        .find(|owner| owner.kind == "Gateway" && owner.controller == Some(true));
    ObservedPolicy {
        uid: policy.uid().unwrap_or_default(),
        owner: owner.map(|owner| owner.uid.clone()),
        spec: serde_json::to_value(&policy.spec).unwrap_or_default(),
    }
}
