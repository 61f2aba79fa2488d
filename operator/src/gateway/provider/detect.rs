//! Which provider a cluster has.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_crds::gateway::Provider;

/// What was seen of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// `spec.providerID` of the nodes that have one, duplicates or not.
    pub provider_ids: Vec<String>,
    /// Labels of the nodes, each key with all the values that it has on any.
    pub node_labels: BTreeMap<String, BTreeSet<String>>,
    /// The API groups that are served.
    pub api_groups: BTreeSet<String>,
    /// Whether there is a `CiliumLoadBalancerIPPool`. Cilium's groups alone prove little: it is the network of many clouds.
    pub cilium_pool: bool,
    /// Whether there is the ConfigMap `kubevip` in `kube-system`: the pools of kube-vip's cloud provider, which has no API group.
    pub kube_vip_pool: bool,
}

/// What follows from the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detection {
    One(Provider),
    /// Nothing speaks for any; why, and what to write.
    Unknown(String),
    /// Several could serve a Service; why that is not decided here, and what to write.
    Several(Vec<Provider>, String),
}

/// Which provider serves a Service of type LoadBalancer.
pub fn detect(_evidence: &Evidence) -> Detection {
    Detection::Unknown(String::from("write spec.service.provider"))
}
