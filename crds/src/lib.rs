//! The API types of Gatehouse, and the CRDs generated from them. No I/O and no client.

pub mod alert;
pub mod certificate;
pub mod duration;
pub mod gateway;
pub mod issuer;
pub mod secret_ref;
pub mod solver;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Every CRD, in the order in which they are printed and installed.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        certificate::Certificate::crd(),
        issuer::Issuer::crd(),
        issuer::ClusterIssuer::crd(),
        alert::AlertPolicy::crd(),
        alert::ClusterAlertPolicy::crd(),
        gateway::Gateway::crd(),
    ]
}

/// One CRD as the YAML that is committed beside this crate.
///
/// # Errors
/// When the CRD cannot be written as YAML, which its test shows to be never.
pub fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    // By way of a JSON value, so that keys come sorted and a change of field order is no change.
    let value = serde_json::to_value(crd).map_err(|error| error.to_string())?;
    serde_saphyr::to_string(&value)
}
