//! Pods that take the traffic of a listener: their names, from EndpointSlices.

use std::collections::BTreeSet;

use gatehouse_crds::gateway::{Listener, Protocol};
use k8s_openapi::{
    api::{core::v1::Pod, discovery::v1::EndpointSlice},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::gateway::ports::{Port, Transport};

/// The Pods behind a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Takers {
    pub ready: BTreeSet<String>,
    pub waiting: BTreeSet<String>,
}

/// Returns the Pods in the slices for the port. A Pod with two families counts once; an endpoint without a Pod has its address.
pub(super) fn takers(slices: &[EndpointSlice], port: &str) -> Takers {
    let mut takers = Takers::default();
    let of_port = |slice: &&EndpointSlice| {
        let mut ports = slice.ports.iter().flatten();
        ports.any(|found| found.name.as_deref().unwrap_or_default() == port && found.port.is_some())
    };
    for endpoint in slices
        .iter()
        .filter(of_port)
        .flat_map(|slice| slice.endpoints.iter().flatten())
    {
        let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.clone());
        let Some(name) = pod.or_else(|| endpoint.addresses.first().cloned()) else {
            continue;
        };
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        // Unknown counts as ready (EndpointConditions); one that ends is not awaited.
        if conditions.ready.unwrap_or(true) {
            takers.ready.insert(name);
        } else if !conditions.terminating.unwrap_or_default() {
            takers.waiting.insert(name);
        }
    }
    let Takers { ready, waiting } = &mut takers;
    waiting.retain(|name| !ready.contains(name));
    takers
}

/// Returns the ports that the Pods declare in place of the number of a port that none of them declares. It may work all the same, for
/// declarations are optional; but nothing else finds a wrong number. None when it is declared, or nothing is.
pub(super) fn undeclared(pods: &[Pod], port: &Port) -> Option<Vec<String>> {
    let IntOrString::Int(number) = port.target else {
        return None;
    };
    let declared: BTreeSet<(String, i32, String)> = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref())
        .flat_map(|spec| &spec.containers)
        .flat_map(|container| container.ports.iter().flatten())
        .map(|found| {
            let protocol = found
                .protocol
                .clone()
                .unwrap_or_else(|| Transport::Tcp.as_str().to_owned());
            (found.name.clone().unwrap_or_default(), found.container_port, protocol)
        })
        .collect();
    let fits = |(_, found, protocol): &(String, i32, String)| *found == number && protocol == port.transport.as_str();
    if declared.is_empty() || declared.iter().any(fits) {
        return None;
    }
    let said = declared.iter().map(|(name, number, protocol)| {
        let name = if name.is_empty() {
            String::new()
        } else {
            format!("{name} ")
        };
        format!("{name}{number}/{protocol}")
    });
    Some(said.collect())
}

/// `80/TCP`, `443/TCP (HTTPS)`.
pub(super) fn spoken(listener: &Listener) -> String {
    let transport = Transport::of(listener.protocol).as_str();
    let more = match listener.protocol {
        Protocol::Http => " (HTTP)",
        Protocol::Https => " (HTTPS)",
        Protocol::Tls => " (TLS)",
        Protocol::Tcp | Protocol::Udp => "",
    };
    format!("{}/{transport}{more}", listener.port)
}
