//! What flows into the cache.

use std::{collections::HashMap, sync::Arc};

use futures::{Stream, StreamExt};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::NetworkPolicy};
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::store::Writer,
        watcher::{self, Event},
    },
};

use super::{Cache, CompactService, Guarded, Key, ObservedPolicy, Other, Ref, Slice, key, live_policy, version};
use crate::{
    certificate::cache::Change,
    gateway::observed_service::ObservedService,
    kubernetes::{client::Recovery, names, watch::watch},
};

/// Objects in one page of a list.
const PAGE: u32 = 100;
/// What an EndpointSlice is of (a well-known label).
const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl Cache {
    /// Watches Gateways; each that was made or changed comes out.
    pub fn watch_gateways(
        self: &Arc<Self>,
        api: Api<Guarded>,
        mut inlet: Writer<Guarded>,
        mut gone: Box<dyn FnMut(&Guarded) + Send>,
        recovery: &Recovery,
    ) -> impl Stream<Item = Result<Guarded, watcher::Error>> + Send + use<> {
        let cache = self.clone();
        watch(api, watcher::Config::default().page_size(PAGE), "Gateway", recovery)
            .map(move |event| {
                let event = event.modify(slim);
                let before = if matches!(event, Event::InitDone) {
                    cache.gateways.state()
                } else {
                    Vec::new()
                };
                cache.note(&event);
                inlet.apply_watcher_event(&event);
                match &event {
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
                let change = match &event {
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
                Ok(event)
            })
            .applied_objects()
    }

    /// Takes an event of the Gateways into the index, before the store has it.
    fn note(&self, event: &Event<Guarded>) {
        let before = |object: &Guarded| self.gateways.get(&Ref::from_obj(object));
        let mut known = self.lock();
        match event {
            Event::Init => known.listing.clear(),
            Event::InitApply(object) => known.listing.put(None, object.0.as_ref().ok()),
            Event::InitDone => known.index = std::mem::take(&mut known.listing),
            Event::Apply(object) => {
                let before = before(object);
                let before = before.as_ref().and_then(|before| before.0.as_ref().ok());
                known.index.put(before, object.0.as_ref().ok());
            }
            Event::Delete(object) => {
                let before = before(object);
                known
                    .index
                    .put(before.as_ref().and_then(|before| before.0.as_ref().ok()), None);
            }
        }
    }

    /// Watches the Services that were made for Gateways.
    pub async fn watch_services(self: Arc<Self>, api: Api<Service>, recovery: Recovery) {
        let config = watcher::Config::default().labels(names::GATEWAY).page_size(PAGE);
        let mut listed: HashMap<Key, ObservedService> = HashMap::new();
        self.follow(watch(api, config, "Service", &recovery), |event| match event {
            Event::Init => listed.clear(),
            Event::InitApply(service) => drop(listed.insert(key(&service), ObservedService::of(&service))),
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
                self.enqueue_all();
            }
            Event::Apply(service) => {
                let (key, live) = (key(&service), ObservedService::of(&service));
                let mut known = self.lock();
                let newer = known
                    .services
                    .get(&key)
                    .is_none_or(|CompactService { live: there, .. }| {
                        there.uid != live.uid || version(&there.resource_version) <= version(&live.resource_version)
                    });
                let kept = known.is_kept(&key, &live);
                if newer {
                    known.put(key, live);
                }
                drop(known);
                self.enqueue_owner(&service);
                if !kept {
                    self.enqueue_named(&service);
                }
            }
            Event::Delete(service) => {
                self.lock().drop_service(&key(&service));
                self.enqueue_owner(&service);
                self.enqueue_named(&service);
            }
        })
        .await;
    }

    /// Watches the names of all other Services: one of those is never touched.
    pub async fn watch_others(self: Arc<Self>, api: Api<PartialObjectMeta<Service>>, recovery: Recovery) {
        let config = watcher::Config::default()
            .labels(&format!("!{}", names::GATEWAY))
            .page_size(PAGE);
        let mut listed: HashMap<Key, Other> = HashMap::new();
        self.follow(watch(api, config, "Service", &recovery), |event| match event {
            Event::Init => listed.clear(),
            Event::InitApply(service) => drop(listed.insert(key(&service), Other::of(&service))),
            Event::InitDone => {
                self.lock().others = std::mem::take(&mut listed);
                self.listed.send_modify(|listed| listed.others = true);
                self.enqueue_all();
            }
            Event::Apply(service) => {
                let new = Other::of(&service);
                let before = self.lock().others.insert(key(&service), new.clone());
                if before != Some(new) {
                    self.enqueue_named(&service);
                }
            }
            Event::Delete(service) => {
                self.lock().others.remove(&key(&service));
                self.enqueue_named(&service);
            }
        })
        .await;
    }

    /// Watches the EndpointSlices of our Services: they carry the labels of their Service.
    pub async fn watch_slices(self: Arc<Self>, api: Api<EndpointSlice>, recovery: Recovery) {
        let config = watcher::Config::default().labels(names::GATEWAY).page_size(PAGE);
        let mut listed: HashMap<Key, Vec<(String, Slice)>> = HashMap::new();
        let service = |slice: &EndpointSlice| Some((slice.namespace()?, slice.labels().get(SERVICE_NAME)?.clone()));
        self.follow(watch(api, config, "EndpointSlice", &recovery), |event| match event {
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
                self.enqueue_all();
            }
            Event::Apply(slice) => {
                let Some(service) = service(&slice) else { return };
                let mut known = self.lock();
                let new = Slice::of(&slice);
                let differs = known.put_slice(service.clone(), slice.name_any(), new);
                let owner = known.owner_name(&service);
                drop(known);
                if let Some(owner) = owner.filter(|_| differs) {
                    self.enqueue(&service.0, &owner);
                }
            }
            Event::Delete(slice) => {
                let Some(service) = service(&slice) else { return };
                let mut known = self.lock();
                if let Some(slices) = known.slices.get_mut(&service) {
                    slices.retain(|(name, _)| *name != slice.name_any());
                    if slices.is_empty() {
                        known.slices.remove(&service);
                    }
                }
                let owner = known.owner_name(&service);
                drop(known);
                if let Some(owner) = owner {
                    self.enqueue(&service.0, &owner);
                }
            }
        })
        .await;
    }

    /// Watches the NetworkPolicies that were made for Gateways.
    pub async fn watch_policies(self: Arc<Self>, api: Api<NetworkPolicy>, recovery: Recovery) {
        let config = watcher::Config::default().labels(names::GATEWAY).page_size(PAGE);
        let mut listed: HashMap<Key, ObservedPolicy> = HashMap::new();
        self.follow(watch(api, config, "NetworkPolicy", &recovery), |event| match event {
            Event::Init => listed.clear(),
            Event::InitApply(policy) => drop(listed.insert(key(&policy), live_policy(&policy))),
            Event::InitDone => {
                self.lock().policies = std::mem::take(&mut listed);
                self.listed.send_modify(|listed| listed.policies = true);
                self.enqueue_all();
            }
            Event::Apply(policy) => {
                self.lock().policies.insert(key(&policy), live_policy(&policy));
                self.enqueue_owner(&policy);
            }
            Event::Delete(policy) => {
                self.lock().policies.remove(&key(&policy));
                self.enqueue_owner(&policy);
            }
        })
        .await;
    }

    async fn follow<K: Send>(&self, events: impl Stream<Item = Event<K>> + Send, mut take: impl FnMut(Event<K>)) {
        let mut events = events.boxed();
        while let Some(event) = events.next().await {
            take(event);
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
