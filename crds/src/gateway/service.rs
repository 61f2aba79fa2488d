//! The Service in front.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service in front: its kind, who may reach it, and whose load balancer it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.loadBalancerClass) || !has(self.type) || self.type == 'LoadBalancer'")
        .message("loadBalancerClass is for type LoadBalancer"),
    validation = Rule::new("!has(self.loadBalancerSourceRanges) || size(self.loadBalancerSourceRanges) == 0 || !has(self.type) || self.type == 'LoadBalancer'")
        .message("loadBalancerSourceRanges are for type LoadBalancer"),
    validation = Rule::new("!has(self.addresses) || size(self.addresses) == 0 || !has(self.type) || self.type == 'LoadBalancer'")
        .message("addresses are for type LoadBalancer"),
    validation = Rule::new("!has(self.subnet) || !has(self.type) || self.type == 'LoadBalancer'")
        .message("subnet is for type LoadBalancer"),
    validation = Rule::new("!has(self.externalTrafficPolicy) || !has(self.type) || self.type != 'ClusterIP'")
        .message("externalTrafficPolicy is for type LoadBalancer and NodePort"),
    validation = Rule::new("!has(self.globalAccess) || !self.globalAccess || (has(self.scope) && self.scope == 'Internal')")
        .message("globalAccess is for scope Internal: a public address is reachable from everywhere")
)]
pub struct ServiceSpec {
    /// LoadBalancer (default), NodePort or ClusterIP.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    pub type_: Option<ServiceType>,
    /// External (default), or Internal: reachable from the private network only. Anything that would make an Internal Gateway public is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whose load balancer. Default: detected from the nodes, and from the load balancer controllers that are installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The Service's name. Default: the Gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("name must be one that a Service can have: lower-case letters, digits and -, a letter first"))]
    pub name: Option<String>,
    /// Annotations for the Service, beside those of the provider's preset and stronger than they.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('gatehouse.dev/'))")
        .message("annotations under gatehouse.dev/ are Gatehouse's own"))]
    pub annotations: BTreeMap<String, String>,
    /// Labels for the Service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('gatehouse.dev/'))")
        .message("labels under gatehouse.dev/ are Gatehouse's own"))]
    pub labels: BTreeMap<String, String>,
    /// The class of load balancer, when it is not the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,
    /// Clients that may connect, as CIDRs. Default: all that reach the address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 2, max = 49)))]
    #[x_kube(validation = Rule::new("self.all(r, isCIDR(r))")
        .message("loadBalancerSourceRanges must be CIDRs such as 192.0.2.0/24 or 2001:db8::/32"))]
    pub load_balancer_source_ranges: Vec<String>,
    /// Static addresses, where the provider takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 2, max = 253)))]
    pub addresses: Vec<String>,
    /// Node ports, by listener. Default: what the API server gives, and keeps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(n, self[n] >= 1 && self[n] <= 65535)")
        .message("a node port is a number, by default from 30000 to 32767"))]
    pub node_ports: BTreeMap<String, i32>,
    /// Local keeps the client's address and sends to Pods on the same node only; Cluster spreads. Default: the API server's, Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// IPv4, IPv6, or both in the order of preference. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(validation = Rule::new("self.all(f, self.exists_one(g, g == f))").message("each IP family once"))]
    pub ip_families: Vec<IpFamily>,
    /// The subnet, pool or network of the load balancer, in the provider's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub subnet: Option<String>,
    /// Whether an internal address is reachable from other regions, where the provider asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_access: Option<bool>,
    /// Reaction when an Internal Gateway turns out to have a public address: Alert (default), or Withdraw: the Service becomes a ClusterIP at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_mismatch: Option<OnMismatch>,
}

/// A Service's type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    #[default]
    LoadBalancer,
    NodePort,
    #[serde(rename = "ClusterIP")]
    ClusterIp,
}

/// Network from which the address can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    #[default]
    External,
    Internal,
}

/// Whose load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Provider {
    #[serde(rename = "GKE")]
    Gke,
    #[serde(rename = "AWSLoadBalancerController")]
    AwsLoadBalancerController,
    #[serde(rename = "EKSAutoMode")]
    EksAutoMode,
    #[serde(rename = "AWS")]
    Aws,
    #[serde(rename = "AKS")]
    Aks,
    #[serde(rename = "OCI")]
    Oci,
    #[serde(rename = "OCINetwork")]
    OciNetwork,
    DigitalOcean,
    Alibaba,
    Tencent,
    Baidu,
    #[serde(rename = "IBM")]
    Ibm,
    OpenStack,
    #[serde(rename = "OVHcloud")]
    OvhCloud,
    #[serde(rename = "STACKIT")]
    Stackit,
    Yandex,
    Hetzner,
    Scaleway,
    Linode,
    Vultr,
    Exoscale,
    #[serde(rename = "MetalLB")]
    MetalLb,
    Cilium,
    KubeVip,
    /// None of these. Never Internal.
    Other,
}

/// Treatment of a client's address by a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    Cluster,
    Local,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IpFamily {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

/// Reaction when an Internal Gateway turns out to be public.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnMismatch {
    #[default]
    Alert,
    Withdraw,
}
