//! Writes routes to the cluster.

use async_trait::async_trait;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::Ingress};
use kube::{Api, Client, Resource, api::ListParams};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    http01_router::RouteWriter,
    routing::{ResponderService, labels},
};
use crate::kubernetes::apply::{Conflicts, Target, Writer};

/// Writes through the one door, in the operator's namespace.
///
/// It needs there: `services` and `endpointslices` create, patch; `ingresses` create, patch, delete, list.
#[derive(Clone)]
pub struct ClusterRoutes {
    writer: Writer,
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    ingresses: Api<Ingress>,
}

impl ClusterRoutes {
    pub fn new(client: &Client, writer: Writer, responder_service: &ResponderService) -> Self {
        Self {
            writer,
            services: Api::namespaced(client.clone(), &responder_service.namespace),
            slices: Api::namespaced(client.clone(), &responder_service.namespace),
            ingresses: Api::namespaced(client.clone(), &responder_service.namespace),
        }
    }

    async fn apply<K>(&self, api: &Api<K>, object: &K) -> Result<(), String>
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let name = object.meta().name.as_deref().unwrap_or_default();
        let body = serde_json::to_value(object).map_err(|error| error.to_string())?;
        let applied = self.writer.apply(api, Target::named(name), body, Conflicts::Take).await;
        applied.map(drop).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl RouteWriter for ClusterRoutes {
    async fn apply_service(&self, service: &Service) -> Result<(), String> {
        self.apply(&self.services, service).await
    }

    async fn apply_endpoint_slice(&self, slice: &EndpointSlice) -> Result<(), String> {
        self.apply(&self.slices, slice).await
    }

    async fn apply_ingress(&self, ingress: &Ingress) -> Result<(), String> {
        self.apply(&self.ingresses, ingress).await
    }

    async fn delete_ingress(&self, name: &str) -> Result<(), String> {
        let deleted = self.writer.delete(&self.ingresses, Target::named(name)).await;
        deleted.map_err(|error| error.to_string())
    }

    async fn list_ingresses(&self) -> Result<Vec<String>, String> {
        let selector: Vec<String> = labels()
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let found = self
            .ingresses
            .list(&ListParams::default().labels(&selector.join(",")))
            .await;
        let found = found.map_err(|error| match error {
            kube::Error::Api(status) => status.message.clone(),
            other => other.to_string(),
        })?;
        Ok(found
            .items
            .into_iter()
            .filter_map(|ingress| ingress.metadata.name)
            .collect())
    }
}
