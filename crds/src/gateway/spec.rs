//! The spec of a Gateway.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GatewayStatus, Listener, ServiceSpec};

/// A way in to applications: an address, listeners, their certificates, and who may pass.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "gatehouse.dev",
    version = "v1alpha1",
    kind = "Gateway",
    plural = "gateways",
    shortname = "ghgw",
    category = "gatehouse",
    namespaced,
    status = "GatewayStatus",
    derive = "PartialEq",
    doc = "A way in to applications: an address, listeners, their certificates, and who may pass.",
    printcolumn(name = "Scope", type_ = "string", json_path = ".spec.service.scope"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses[*].value"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(
        name = "Verified",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ExposureVerified\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".status.provider", priority = 1),
    printcolumn(name = "Service", type_ = "string", json_path = ".status.serviceName", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.service) || !has(self.service.nodePorts) || self.service.nodePorts.all(n, self.listeners.exists(l, l.name == n))")
        .message("nodePorts are by listener: each key must be the name of a listener"),
    validation = Rule::new("!has(self.service) || !has(self.service.nodePorts) || size(self.service.nodePorts) == 0 || !has(self.service.type) || self.service.type != 'ClusterIP'")
        .message("nodePorts are for type LoadBalancer and NodePort; a ClusterIP has none")
)]
pub struct GatewaySpec {
    /// The Service in front. Default: a public load balancer named like the Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSpec>,
    /// Existing Pods of this namespace: layer 4 straight to them.
    pub target: Target,
    /// The ports, and what is spoken there.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub listeners: Vec<Listener>,
    /// A NetworkPolicy for the Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicySpec>,
}

/// Which Pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Labels that a Pod must have, all of them, as a Service's selector.
    #[schemars(extend(
        "minProperties" = 1,
        "maxProperties" = 64,
        "additionalProperties" = serde_json::json!({
            "type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        }),
    ))]
    pub selector: BTreeMap<String, String>,
}

/// Restricts the clients of the Pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// When true, a NetworkPolicy admits to the Pods of `target` the ports of the listeners and nothing else: from anywhere, or from `loadBalancerSourceRanges` and the ranges of the provider's health checks.
    pub enabled: bool,
}
