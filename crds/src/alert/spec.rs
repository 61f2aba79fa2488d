//! Whose alerts, which, and where they go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{AlertPolicyStatus, Receiver, Rules};
use crate::duration::Duration;

macro_rules! policy_kind {
    ($spec:ident, $kind:literal, $plural:literal, $short:literal, $doc:literal, { $($scope:ident)? }, { $($extra:tt)* }) => {
        #[doc = $doc]
        #[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
        #[kube(
            group = "gatehouse.dev",
            version = "v1alpha1",
            kind = $kind,
            plural = $plural,
            shortname = $short,
            category = "gatehouse",
            $($scope,)?
            status = "AlertPolicyStatus",
            derive = "PartialEq",
            doc = $doc,
            printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
            printcolumn(name = "Delivering", type_ = "string", json_path = ".status.conditions[?(@.type==\"Delivering\")].status"),
            printcolumn(name = "Firing", type_ = "integer", json_path = ".status.firingCount"),
            printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Delivering\")].message", priority = 1),
            printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        )]
        #[serde(rename_all = "camelCase")]
        pub struct $spec {
            /// Certificates and Gateways by label. Default: all.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub selector: Option<LabelSelector>,
            $($extra)*
            /// Conditions for alerts. Omitted rules are disabled; without `rules` these apply: expiring at 25% and 10%, expired, renewalFailed, notReady after 10m, reissueHeld, exposureMismatch.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub rules: Option<Rules>,
            /// Destinations of alerts. Each has a queue of its own.
            #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
            pub receivers: Vec<Receiver>,
            /// Interval at which an alert that continues to fire is sent again. Default: 4h.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("repeatInterval must be 1s or more"))]
            pub repeat_interval: Option<Duration>,
            /// Interval of heartbeats, so that silence means that the operator is down. Default: never.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("heartbeatInterval must be 1s or more"))]
            pub heartbeat_interval: Option<Duration>,
        }
    };
}

policy_kind!(
    AlertPolicySpec,
    "AlertPolicy",
    "alertpolicies",
    "ghalert",
    "Sends alerts for the Certificates and Gateways of one namespace. Its Secrets are in that namespace.",
    { namespaced },
    {}
);
policy_kind!(
    ClusterAlertPolicySpec,
    "ClusterAlertPolicy",
    "clusteralertpolicies",
    "ghcalert",
    "Sends alerts for the Certificates and Gateways of all namespaces. Its Secrets are in the operator's namespace.",
    {},
    {
        /// Namespaces by label. Default: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub namespace_selector: Option<LabelSelector>,
    }
);
