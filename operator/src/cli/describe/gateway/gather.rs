//! Input of a Gateway's description: read from the cluster, as far as the user may.

use std::fmt::Debug;

use gatehouse_crds::gateway::Gateway;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Pod, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use serde::de::DeserializeOwned;

use crate::cli::{
    connection::{self, Connection, Trouble},
    describe::gather::{Happening, Seen, events, seen},
};

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub gateway: Gateway,
    /// The name of the Service, there or not.
    pub service_name: String,
    pub service: Seen<Service>,
    pub slices: Seen<Vec<EndpointSlice>>,
    /// The Pods of the selector.
    pub pods: Seen<Vec<Pod>>,
    /// Events of the Gateway, oldest first.
    pub events: Seen<Vec<Happening>>,
    /// Events of the Service, mostly of the cloud.
    pub service_events: Seen<Vec<Happening>>,
}

/// Reads it.
pub(super) async fn gather(connection: &Connection, object: DynamicObject) -> Result<Known, Trouble> {
    let name = object.name_any();
    let gateway: Gateway = object.try_parse().map_err(|error| {
        Trouble::Refused(format!(
            "Gateway {name} cannot be read: {error}. Correct its spec, or see it whole with -o yaml"
        ))
    })?;
    let serving = gateway.status.as_ref().and_then(|status| status.service_name.clone());
    let asked = gateway.spec.service.as_ref().and_then(|service| service.name.clone());
    let service_name = serving.or(asked).unwrap_or(name);
    let services: Api<Service> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let of_service = format!("kubernetes.io/service-name={service_name}");
    let selector: Vec<String> = gateway
        .spec
        .target
        .selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let (service, slices, pods, events_of_gateway) = futures::join!(
        connection::ask(services.get(&service_name)),
        labelled(connection, of_service),
        labelled(connection, selector.join(",")),
        events(connection, "Gateway", &gateway)
    );
    let service = seen(service);
    let service_events = match &service {
        Seen::There(service) => events(connection, "Service", service).await,
        _ => Seen::Missing,
    };
    Ok(Known {
        gateway,
        service_name,
        service,
        slices,
        pods,
        events: events_of_gateway,
        service_events,
    })
}

async fn labelled<K>(connection: &Connection, labels: String) -> Seen<Vec<K>>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(connection.client.clone(), &connection.namespace);
    seen(connection::list(&api, &ListParams::default().labels(&labels)).await)
}
