//! Projection of nodes: their addresses, and evidence for a provider.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::provider::{Evidence, is_evidence};

/// The taint of a node that its cloud has yet to initialize (a well-known taint).
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    pub name: String,
    pub ready: bool,
    pub internal: Vec<IpAddr>,
    pub external: Vec<IpAddr>,
    provider_id: Option<String>,
    /// Labels that are evidence for a provider.
    labels: BTreeMap<String, String>,
    uninitialized: bool,
}

impl NodeFacts {
    pub fn of(node: &Node) -> Self {
        let status = node.status.as_ref();
        let addresses = |type_: &str| {
            let all = status
                .and_then(|status| status.addresses.as_ref())
                .into_iter()
                .flatten();
            all.filter(|address| address.type_ == type_)
                .filter_map(|address| address.address.parse().ok())
                .collect()
        };
        let conditions = status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten();
        let spec = node.spec.as_ref();
        let provider_id = spec
            .and_then(|spec| spec.provider_id.clone())
            .filter(|id| !id.is_empty());
        let taints = spec.into_iter().flat_map(|spec| spec.taints.iter().flatten());
        let labels = node.labels().iter().filter(|(key, _)| is_evidence(key));
        Self {
            name: node.name_any(),
            ready: conditions
                .into_iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            internal: addresses("InternalIP"),
            external: addresses("ExternalIP"),
            uninitialized: provider_id.is_none() && taints.into_iter().any(|taint| taint.key == UNINITIALIZED),
            provider_id,
            labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}

/// Returns the evidence of the nodes for a provider; the rest comes from elsewhere.
pub fn evidence(nodes: &[NodeFacts]) -> Evidence {
    let mut node_labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, value) in nodes.iter().flat_map(|node| &node.labels) {
        node_labels.entry(key.clone()).or_default().insert(value.clone());
    }
    Evidence {
        provider_ids: nodes.iter().filter_map(|node| node.provider_id.clone()).collect(),
        node_labels,
        uninitialized: nodes.iter().any(|node| node.uninitialized),
        ..Evidence::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_node_only_addresses_and_what_speaks_for_a_provider_are_kept() {
        let node = serde_json::from_value(json!({
            "metadata": {"name": "one", "labels": {"node.k8s.ovh/type": "standard", "team": "shop"}},
            "spec": {"providerID": "openstack:///1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "ExternalIP", "address": "203.0.113.1"},
                    {"type": "Hostname", "address": "one"}],
                "conditions": [{"type": "Ready", "status": "True"}], "images": [{"names": ["x"], "sizeBytes": 1}]}
        }));
        let facts = NodeFacts::of(&node.unwrap());
        assert_eq!((facts.internal.len(), facts.external.len(), facts.ready), (1, 1, true));
        let evidence = evidence(&[facts]);
        assert_eq!(evidence.provider_ids, ["openstack:///1"]);
        assert_eq!(
            evidence.node_labels.keys().collect::<Vec<_>>(),
            ["node.k8s.ovh/type"],
            "labels of no provider are not kept"
        );
    }

    #[test]
    fn a_node_that_joins_has_no_provider_until_its_cloud_has_initialized_it() {
        let node = |id: Option<&str>| {
            let node = json!({"metadata": {"name": "one"}, "spec": {"providerID": id,
                "taints": [{"key": UNINITIALIZED, "effect": "NoSchedule", "value": "true"}]}});
            NodeFacts::of(&serde_json::from_value(node).unwrap())
        };
        assert!(evidence(&[node(None)]).uninitialized);
        assert!(!evidence(&[node(Some("gce://p/z/one"))]).uninitialized);
    }
}
