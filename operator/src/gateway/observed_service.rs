//! A Service as it is, as far as it concerns us.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::field_ownership::{self, Paths};

/// A Service that a Gateway owns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedService {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    /// The UID of the Gateway that owns it.
    pub owner: Option<String>,
    /// And its name.
    pub owner_name: Option<String>,
    pub created: Option<Timestamp>,
    pub deleting: bool,
    /// Metadata and spec as in the API, without what is of no interest.
    pub value: Value,
    /// Fields that we have applied.
    pub owned: Paths,
    pub ingress: Vec<Ingress>,
}

/// An address of a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ingress {
    Address(IpAddr),
    Name(String),
}

impl ObservedService {
    /// Reads a Service with its managed fields.
    pub fn of(service: &Service) -> Self {
        let metadata = &service.metadata;
        let owner = metadata
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.kind == "Gateway" && owner.controller == Some(true));
        let ingress = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        // One entry may have both, and each may be the public one.
        let ingress = ingress.into_iter().flatten().flat_map(|ingress| {
            let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
            let address = filled(&ingress.ip).map(|ip| address(&ip).map_or(Ingress::Name(ip), Ingress::Address));
            address.into_iter().chain(filled(&ingress.hostname).map(Ingress::Name))
        });
        Self {
            name: service.name_any(),
            uid: service.uid().unwrap_or_default(),
            resource_version: service.resource_version().unwrap_or_default(),
            owner: owner.map(|owner| owner.uid.clone()),
            owner_name: owner.map(|owner| owner.name.clone()),
            created: service.creation_timestamp().map(|time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            value: json!({
                "metadata": {"annotations": metadata.annotations, "labels": metadata.labels},
                "spec": service.spec,
            }),
            owned: field_ownership::owned(metadata.managed_fields.as_deref().unwrap_or_default()),
            ingress: ingress.collect(),
        }
    }

    fn spec(&self, field: &str) -> Option<&Value> {
        self.value.get("spec")?.get(field)
    }

    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    pub fn type_(&self) -> &str {
        self.spec("type").and_then(Value::as_str).unwrap_or("ClusterIP")
    }

    pub fn class(&self) -> Option<&str> {
        self.spec("loadBalancerClass").and_then(Value::as_str)
    }

    pub fn is_load_balancer(&self) -> bool {
        self.type_() == "LoadBalancer"
    }

    /// `spec.ipFamilies`.
    pub fn families(&self) -> Vec<&str> {
        self.spec("ipFamilies")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    /// `spec.clusterIPs`, without `None`.
    pub fn cluster_addresses(&self) -> Vec<&str> {
        let addresses = self.spec("clusterIPs").and_then(Value::as_array);
        addresses
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|address| *address != "None")
            .collect()
    }

    /// `spec.externalIPs`: others write it.
    pub fn external_ips(&self) -> impl Iterator<Item = &str> {
        let addresses = self.spec("externalIPs").and_then(Value::as_array);
        addresses.into_iter().flatten().filter_map(Value::as_str)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.value.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }

    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.words("annotations")
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        self.words("labels")
    }

    fn words(&self, field: &str) -> BTreeMap<String, String> {
        let words = self
            .value
            .get("metadata")
            .and_then(|metadata| metadata.get(field))
            .and_then(Value::as_object);
        words
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    /// The node port of the port of this name.
    pub fn node_port(&self, port: &str, transport: &str) -> Option<i32> {
        self.node_port_at(self.number_of(port, transport)?, transport)
    }

    /// The number of the port of this name.
    pub fn number_of(&self, port: &str, transport: &str) -> Option<i32> {
        let named = |found: &&Value| found.get("name").and_then(Value::as_str).unwrap_or_default() == port;
        self.ports(transport)
            .find(named)
            .and_then(|found| number(found, "port"))
    }

    /// The node port of the port of this number.
    pub fn node_port_at(&self, port: i32, transport: &str) -> Option<i32> {
        let found = self
            .ports(transport)
            .find(|found| number(found, "port") == Some(port))?;
        number(found, "nodePort").filter(|port| *port > 0)
    }

    fn ports(&self, transport: &str) -> impl Iterator<Item = &Value> {
        let ports = self.spec("ports").and_then(Value::as_array);
        ports
            .into_iter()
            .flatten()
            .filter(move |found| found.get("protocol").and_then(Value::as_str).unwrap_or("TCP") == transport)
    }

    /// All node ports.
    pub fn node_ports(&self) -> Vec<i32> {
        let ports = self.spec("ports").and_then(Value::as_array);
        ports
            .into_iter()
            .flatten()
            .filter_map(|port| number(port, "nodePort").filter(|port| *port > 0))
            .collect()
    }

    /// Whether it has a port of this number.
    pub fn has_port(&self, port: i32, transport: &str) -> bool {
        self.ports(transport).any(|found| number(found, "port") == Some(port))
    }
}

/// An address as the API server takes it: also with leading zeros in its decimal numbers (`net.ParseIPSloppy`).
fn address(text: &str) -> Option<IpAddr> {
    let without_zeros = || {
        let numbers: Vec<&str> = text
            .split('.')
            .map(|number| match number.trim_start_matches('0') {
                "" if !number.is_empty() => "0",
                rest => rest,
            })
            .collect();
        numbers.join(".").parse().ok()
    };
    text.parse().ok().or_else(without_zeros)
}

fn number(port: &Value, field: &str) -> Option<i32> {
    i32::try_from(port.get(field)?.as_i64()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_address_and_name_of_an_ingress_counts_however_it_is_written() {
        let service: Service = serde_json::from_value(json!({"status": {"loadBalancer": {"ingress": [
            {"ip": "10.0.0.1", "hostname": "lb.example.com"},
            {"ip": "203.000.113.007"},
            {"ip": "", "hostname": "other.example.com"},
            {"ip": "rubbish"},
        ]}}}))
        .unwrap();
        let address = |text: &str| Ingress::Address(text.parse().unwrap());
        let name = |text: &str| Ingress::Name(text.into());
        assert_eq!(
            ObservedService::of(&service).ingress,
            [
                address("10.0.0.1"),
                name("lb.example.com"),
                address("203.0.113.7"),
                name("other.example.com"),
                name("rubbish"),
            ]
        );
    }
}
