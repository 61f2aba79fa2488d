//! The `http01` block of a solver.

use std::collections::BTreeMap;

use kube::{KubeSchema, core::Duration};
use serde::{Deserialize, Serialize};

/// Answers over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http01 {
    /// Through an ingress controller that runs already: Gatehouse makes an Ingress of this class for each host, which
    /// leads challenges to a responder in the operator. No Pods are made.
    pub ingress: Http01Ingress,
    /// Check of the answer before the CA is asked to validate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_check: Option<SelfCheck>,
}

/// The try from inside the cluster. It advises: the CA is asked in any case, and the challenge's message in the
/// Certificate's status says what was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SelfCheck {
    /// Longest time to try until the answer is visible at port 80 of the host; then the CA is asked all the same. More for
    /// controllers that make a load balancer for an Ingress; 0s does not try. Default: 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('15m')")
            .message("timeout is between 0s and 15m: write for example 1m")
    )]
    pub timeout: Option<Duration>,
}

/// The Ingress that leads challenges to the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http01Ingress {
    /// `IngressClass` of the controller that serves port 80 of the names.
    #[schemars(length(max = 200))]
    #[x_kube(
        validation = Rule::new("self.size() > 0")
            .message("ingressClassName is empty: write the name of an IngressClass (kubectl get ingressclass)"),
        validation = Rule::new("self.size() == 0 || self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
            .message("ingressClassName is the name of an IngressClass (kubectl get ingressclass): lower-case letters, digits, hyphens and dots")
    )]
    pub ingress_class_name: String,
    /// Settings that the controller needs on the Ingress. It is in the operator's namespace: in a namespaced Issuer only those that
    /// the operator's flags permit is taken (--http01-ingress-annotations, --http01-ingress-labels); without them,
    /// annotations that keep a controller from redirecting to HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_template: Option<IngressTemplate>,
}

/// Additions to the Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
pub struct IngressTemplate {
    /// Labels and annotations of the Ingress.
    #[serde(default)]
    pub metadata: IngressTemplateMetadata,
}

/// Labels and annotations. Those that Gatehouse sets itself win.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
pub struct IngressTemplateMetadata {
    /// Labels added to the Ingress.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Annotations added to the Ingress, such as one that keeps a controller from redirecting to HTTPS.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}
