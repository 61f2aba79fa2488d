//! The `http01` block of a solver.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Answers over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Http01 {
    /// Through an ingress controller that runs already: Gatehouse makes one Ingress of this class, which leads
    /// challenges to a responder in the operator. No Pods are made.
    pub ingress: Http01Ingress,
}

/// The Ingress that leads challenges to the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http01Ingress {
    /// `IngressClass` of the controller that serves port 80 of the names.
    #[schemars(length(max = 200))]
    #[x_kube(
        validation = Rule::new("self.size() > 0")
            .message("ingressClassName is empty: write the name of an IngressClass (kubectl get ingressclass)")
    )]
    pub ingress_class_name: String,
    /// What the controller needs on the Ingress.
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
