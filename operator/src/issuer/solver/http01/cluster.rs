//! Writes routes to the cluster.

use async_trait::async_trait;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::Ingress};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    frontdoor::RouteWriter,
    routing::{MANAGER, Site, labels},
};

/// Server-side apply in the operator's namespace.
///
/// It needs there: `services` and `endpointslices` create, patch; `ingresses` create, patch, delete, list.
#[derive(Clone)]
pub struct ClusterRoutes {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    ingresses: Api<Ingress>,
}

impl ClusterRoutes {
    pub fn new(client: &Client, site: &Site) -> Self {
        Self {
            services: Api::namespaced(client.clone(), &site.namespace),
            slices: Api::namespaced(client.clone(), &site.namespace),
            ingresses: Api::namespaced(client.clone(), &site.namespace),
        }
    }
}

async fn apply<K>(api: &Api<K>, object: &K) -> Result<(), String>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let name = object.meta().name.as_deref().unwrap_or_default();
    let applied = api
        .patch(
            name,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(object),
        )
        .await;
    applied.map(drop).map_err(|error| error.to_string())
}

#[async_trait]
impl RouteWriter for ClusterRoutes {
    async fn apply_service(&self, service: &Service) -> Result<(), String> {
        apply(&self.services, service).await
    }

    async fn apply_endpoint_slice(&self, slice: &EndpointSlice) -> Result<(), String> {
        apply(&self.slices, slice).await
    }

    async fn apply_ingress(&self, ingress: &Ingress) -> Result<(), String> {
        apply(&self.ingresses, ingress).await
    }

    async fn delete_ingress(&self, name: &str) -> Result<(), String> {
        match self.ingresses.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.to_string()),
        }
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
        let found = found.map_err(|error| error.to_string())?;
        Ok(found
            .items
            .into_iter()
            .filter_map(|ingress| ingress.metadata.name)
            .collect())
    }
}
