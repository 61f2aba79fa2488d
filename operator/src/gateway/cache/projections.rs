//! Projections of the objects that belong to Gateways.

use gatehouse_crds::gateway::Gateway;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::NetworkPolicy};
use kube::{ResourceExt, core::PartialObjectMeta, runtime::watcher};

use super::{
    super::{compact_service::CompactService, decide::Foreign, endpoints::Slice},
    Guarded,
};
use crate::kubernetes::{
    names,
    store::{ObjectKey, PAGE, Projection, Whole},
};

/// Label of an EndpointSlice: name of its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Selects the objects that were created for Gateways.
fn labelled() -> watcher::Config {
    watcher::Config::default().labels(names::GATEWAY).page_size(PAGE)
}

impl Whole for Gateway {
    const KIND: &'static str = "Gateway";

    /// Drops what nothing reads, and the spare capacity of lists that decoding leaves.
    fn prune(object: &mut Guarded) {
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
}

impl Projection for CompactService {
    type Object = Service;
    const KIND: &'static str = "Service";

    fn config() -> watcher::Config {
        labelled()
    }

    fn of(service: Service) -> Self {
        Self::of(&service)
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.namespace, &self.live.name)
    }

    fn object_uid(&self) -> &str {
        &self.live.uid
    }

    fn object_version(&self) -> &str {
        &self.live.resource_version
    }
}

/// A Service that was not created for a Gateway, or has lost our label.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherService {
    key: ObjectKey,
    pub(super) uid: String,
    pub(super) foreign: Foreign,
    /// UID of the Gateway that owns it, after a user removed our label.
    pub(super) owner: Option<String>,
}

impl Projection for OtherService {
    type Object = PartialObjectMeta<Service>;
    const KIND: &'static str = "Service";

    fn config() -> watcher::Config {
        watcher::Config::default()
            .labels(&format!("!{}", names::GATEWAY))
            .page_size(PAGE)
    }

    fn of(service: PartialObjectMeta<Service>) -> Self {
        let consents = service
            .annotations()
            .get(names::ADOPT)
            .is_some_and(|consent| consent == names::TRUE);
        let owner = service
            .owner_references()
            .iter()
            .find(|owner| owner.kind == "Gateway" && owner.controller == Some(true));
        Self {
            key: ObjectKey::of(&service),
            uid: service.uid().unwrap_or_default(),
            foreign: if consents { Foreign::Adoptable } else { Foreign::Keep },
            owner: owner.map(|owner| owner.uid.clone()),
        }
    }

    fn key(&self) -> ObjectKey {
        self.key.clone()
    }

    fn object_uid(&self) -> &str {
        &self.uid
    }
}

/// An EndpointSlice of a Service with our label, which it inherits.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSlice {
    name: Box<str>,
    pub(super) service: ObjectKey,
    pub(super) slice: Slice,
}

impl Projection for ServiceSlice {
    type Object = EndpointSlice;
    const KIND: &'static str = "EndpointSlice";

    fn config() -> watcher::Config {
        labelled()
    }

    fn of(slice: EndpointSlice) -> Self {
        let service = slice.labels().get(SERVICE_NAME).map(String::as_str).unwrap_or_default();
        Self {
            service: ObjectKey::new(slice.metadata.namespace.as_deref().unwrap_or_default(), service),
            name: slice.metadata.name.as_deref().unwrap_or_default().into(),
            slice: Slice::of(&slice),
        }
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::new(self.service.namespace(), &self.name)
    }
}

/// A NetworkPolicy that was created for a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedPolicy {
    key: ObjectKey,
    pub uid: String,
    /// UID of the Gateway that controls it.
    pub owner: Option<String>,
    /// Key of the Gateway that owns it.
    pub(super) gateway: Option<ObjectKey>,
    pub spec: serde_json::Value,
}

impl Projection for ObservedPolicy {
    type Object = NetworkPolicy;
    const KIND: &'static str = "NetworkPolicy";

    fn config() -> watcher::Config {
        labelled()
    }

    fn of(policy: NetworkPolicy) -> Self {
        let key = ObjectKey::of(&policy);
        let mut owners = policy.owner_references().iter().filter(|owner| owner.kind == "Gateway");
        let owner = owners.clone().find(|owner| owner.controller == Some(true));
        Self {
            uid: policy.uid().unwrap_or_default(),
            owner: owner.map(|owner| owner.uid.clone()),
            gateway: owners.next().map(|owner| ObjectKey::new(key.namespace(), &owner.name)),
            spec: serde_json::to_value(&policy.spec).unwrap_or_default(),
            key,
        }
    }

    fn key(&self) -> ObjectKey {
        self.key.clone()
    }

    fn object_uid(&self) -> &str {
        &self.uid
    }
}
