//! Gateways and the objects that belong to them, for one watch scope: a namespace, or all of them.

mod projections;

use std::sync::Arc;

use gatehouse_crds::gateway::Gateway;
use k8s_openapi::api::{core::v1::Service, networking::v1::NetworkPolicy};
use kube::core::DeserializeGuard;

pub use self::projections::ObservedPolicy;
use self::projections::{OtherService, ServiceSlice};
use super::{
    compact_service::CompactService, decide::Foreign, endpoints::Slice, listener_certificates,
    observed_service::ObservedService, service::label_value,
};
use crate::kubernetes::{
    controller::{Enqueued, Enqueuer},
    names,
    store::{Index, ObjectKey, Projection, Store, StoreEvent},
};

/// A Gateway, or why it cannot be decoded: kept all the same, so that it affects no other.
pub type Guarded = DeserializeGuard<Gateway>;

/// Gateways, Services, EndpointSlices and NetworkPolicies of one watch scope.
pub struct Cache {
    pub gateways: Arc<Store<Guarded>>,
    /// Services with our label.
    pub services: Arc<Store<CompactService>>,
    /// All other Services.
    pub others: Arc<Store<OtherService>>,
    /// EndpointSlices with our label.
    pub slices: Arc<Store<ServiceSlice>>,
    /// NetworkPolicies with our label.
    pub policies: Arc<Store<ObservedPolicy>>,
    enqueuer: GatewayEnqueuer,
    /// Services by their Gateway's UID.
    by_owner: Arc<Index<CompactService>>,
    /// EndpointSlices by their Service.
    by_service: Arc<Index<ServiceSlice>>,
}

/// Enqueues Gateways by what they name.
#[derive(Clone)]
struct GatewayEnqueuer {
    gateways: Arc<Store<Guarded>>,
    /// Gateways by the Service that their spec names.
    by_service: Arc<Index<Guarded>>,
    /// Gateways by the Certificates and Secrets of their listeners.
    by_certificate: Arc<Index<Guarded>>,
    queue: Enqueuer,
}

impl GatewayEnqueuer {
    fn enqueue(&self, gateway: ObjectKey) {
        self.queue.enqueue(gateway);
    }

    fn enqueue_all(&self) {
        for gateway in self.gateways.state().iter().filter(|gateway| gateway.0.is_ok()) {
            self.enqueue(gateway.key());
        }
    }

    /// Enqueues the Gateways whose Service has this name: by their spec, or by their own name.
    fn enqueue_named(&self, service: &ObjectKey) {
        self.by_service
            .get(service)
            .into_iter()
            .for_each(|key| self.enqueue(key));
        self.enqueue(service.clone());
    }
}

impl Cache {
    /// Returns an empty cache, and the Gateways that it enqueues.
    pub fn new() -> (Arc<Self>, Enqueued) {
        let (gateways, services, slices) = (Store::new(), Store::new(), Store::new());
        let (queue, enqueued) = Enqueuer::new();
        let cache = Self {
            by_owner: Index::of(&services, |service: &CompactService| {
                service.owner().into_iter().collect()
            }),
            by_service: Index::of(&slices, |slice: &ServiceSlice| vec![slice.service.clone()]),
            enqueuer: GatewayEnqueuer {
                by_service: Index::of(&gateways, named_service),
                by_certificate: Index::of(&gateways, named_certificates),
                gateways: gateways.clone(),
                queue,
            },
            gateways,
            services,
            others: Store::new(),
            slices,
            policies: Store::new(),
        };
        cache.follow_services();
        cache.follow_others();
        cache.follow_slices();
        cache.follow_policies();
        (Arc::new(cache), enqueued)
    }

    fn follow_services(&self) {
        let enqueuer = self.enqueuer.clone();
        self.services.subscribe(move |_, event| match event {
            StoreEvent::Applied {
                before,
                after,
                is_own_write,
            } => {
                if !is_own_write && let Some(gateway) = after.owner_key() {
                    enqueuer.enqueue(gateway);
                }
                let is_same = |before: &Arc<CompactService>| {
                    before.live.uid == after.live.uid && before.live.owner == after.live.owner
                };
                if after.live.owner.is_none() || !before.as_ref().is_some_and(is_same) {
                    enqueuer.enqueue_named(&after.key());
                }
            }
            StoreEvent::Deleted(service) => {
                if let Some(gateway) = service.owner_key() {
                    enqueuer.enqueue(gateway);
                }
                enqueuer.enqueue_named(&service.key());
            }
            StoreEvent::Listed { .. } => enqueuer.enqueue_all(),
        });
    }

    fn follow_others(&self) {
        let enqueuer = self.enqueuer.clone();
        self.others.subscribe(move |_, event| match event {
            StoreEvent::Applied { before, after, .. } => {
                if before.as_ref() != Some(after) {
                    enqueuer.enqueue_named(&after.key());
                }
            }
            StoreEvent::Deleted(service) => enqueuer.enqueue_named(&service.key()),
            StoreEvent::Listed { .. } => enqueuer.enqueue_all(),
        });
    }

    fn follow_slices(&self) {
        let (enqueuer, services) = (self.enqueuer.clone(), self.services.clone());
        let enqueue_owner = move |slice: &ServiceSlice| {
            let owner = services.get(&slice.service).and_then(|service| service.owner_key());
            if let Some(gateway) = owner {
                enqueuer.enqueue(gateway);
            }
        };
        let enqueuer = self.enqueuer.clone();
        self.slices.subscribe(move |_, event| match event {
            StoreEvent::Applied { before, after, .. } => {
                if before.as_ref() != Some(after) {
                    enqueue_owner(after);
                }
            }
            StoreEvent::Deleted(slice) => enqueue_owner(slice),
            StoreEvent::Listed { .. } => enqueuer.enqueue_all(),
        });
    }

    fn follow_policies(&self) {
        let enqueuer = self.enqueuer.clone();
        self.policies.subscribe(move |_, event| match event {
            StoreEvent::Applied { is_own_write: true, .. } => {}
            StoreEvent::Applied { after: policy, .. } | StoreEvent::Deleted(policy) => {
                if let Some(gateway) = &policy.gateway {
                    enqueuer.enqueue(gateway.clone());
                }
            }
            StoreEvent::Listed { .. } => enqueuer.enqueue_all(),
        });
    }

    /// Waits until all kinds are listed.
    pub async fn synced(&self) {
        self.gateways.listed().await;
        self.services.listed().await;
        self.others.listed().await;
        self.slices.listed().await;
        self.policies.listed().await;
    }

    /// Returns the Services that the Gateway of this UID owns.
    pub fn services(&self, namespace: &str, owner: &str) -> Vec<Arc<ObservedService>> {
        let keys = self.by_owner.get(&ObjectKey::new(namespace, owner));
        keys.iter()
            .filter_map(|key| Some(Arc::new(self.services.get(key)?.unpack())))
            .collect()
    }

    /// Returns what a Service of this name is to the Gateway `gateway` of the UID `owner`; `None` when it does not exist, or
    /// is the Gateway's own.
    pub fn foreign(&self, namespace: &str, name: &str, (gateway, owner): (&str, &str)) -> Option<Foreign> {
        let key = ObjectKey::new(namespace, name);
        if let Some(service) = self.services.get(&key) {
            if service.live.owner.as_deref() == Some(owner) {
                return None;
            }
            let live = service.unpack();
            let consents = live.annotation(names::ADOPT) == Some(names::TRUE);
            // We wrote it for a Gateway of this name, and it has lost its owner: by hand, or with `--cascade=orphan`.
            let lost = !live.owned.is_empty() && live.labels().get(names::GATEWAY) == Some(&label_value(gateway));
            return Some(if live.owner.is_none() && (consents || lost) {
                Foreign::Adoptable
            } else {
                Foreign::Keep
            });
        }
        let other = self.others.get(&key)?;
        Some(if other.owner.as_deref() == Some(owner) {
            Foreign::Adoptable
        } else {
            other.foreign
        })
    }

    /// Returns the UID of the Service of this name, whatever owns it.
    pub fn uid(&self, namespace: &str, name: &str) -> Option<String> {
        let key = ObjectKey::new(namespace, name);
        let ours = self.services.get(&key).map(|service| service.live.uid.clone());
        ours.or_else(|| Some(self.others.get(&key)?.uid.clone()))
    }

    /// Returns the EndpointSlices of a Service.
    pub fn slices(&self, namespace: &str, service: &str) -> Vec<Slice> {
        let keys = self.by_service.get(&ObjectKey::new(namespace, service));
        keys.iter()
            .filter_map(|key| Some(self.slices.get(key)?.slice.clone()))
            .collect()
    }

    pub fn policy(&self, namespace: &str, name: &str) -> Option<Arc<ObservedPolicy>> {
        self.policies.get(&ObjectKey::new(namespace, name))
    }

    /// Takes a Service that we wrote, before the watch shows it.
    pub fn wrote_service(&self, service: &Service) {
        self.services.wrote(CompactService::of(service));
    }

    /// Takes a NetworkPolicy that we wrote.
    pub fn wrote_policy(&self, policy: NetworkPolicy) {
        self.policies.wrote(ObservedPolicy::of(policy));
    }

    /// Enqueues a Gateway, if it exists in this scope.
    pub fn enqueue(&self, namespace: &str, name: &str) {
        self.enqueuer.enqueue(ObjectKey::new(namespace, name));
    }

    /// Enqueues the Gateways whose listeners name a Certificate or a Secret of this name.
    pub fn enqueue_certificate(&self, certificate: &ObjectKey) {
        for gateway in self.enqueuer.by_certificate.get(certificate) {
            self.enqueuer.enqueue(gateway);
        }
    }

    /// Enqueues all Gateways whose listeners have a certificate.
    pub fn enqueue_certificates(&self) {
        for gateway in self.enqueuer.by_certificate.referrers() {
            self.enqueuer.enqueue(gateway);
        }
    }
}

/// Returns the Service that a Gateway's spec names, unless it is named like the Gateway.
fn named_service(object: &Guarded) -> Vec<ObjectKey> {
    let Ok(gateway) = &object.0 else { return Vec::new() };
    let key = object.key();
    let named = gateway
        .spec
        .service
        .as_ref()
        .and_then(|service| service.name.as_deref());
    let named = named.filter(|service| *service != key.name());
    named
        .map(|service| ObjectKey::new(key.namespace(), service))
        .into_iter()
        .collect()
}

/// Returns the Secrets that a Gateway's listeners name, and the Certificates that are created for them.
fn named_certificates(object: &Guarded) -> Vec<ObjectKey> {
    let Ok(gateway) = &object.0 else { return Vec::new() };
    let key = object.key();
    let with_tls = gateway
        .spec
        .listeners
        .iter()
        .filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
    with_tls
        .flat_map(|(listener, tls)| {
            let named = tls.certificate_refs.iter().map(|reference| reference.name.clone());
            named.chain([listener_certificates::name(key.name(), &listener.name)])
        })
        .map(|name| ObjectKey::new(key.namespace(), &name))
        .collect()
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
