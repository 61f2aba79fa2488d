//! Owners of the fields of an object (`metadata.managedFields`).

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use serde_json::Value;

/// Returns the fields of a Service that a manager owns: paths as the API server writes them, such as
/// `f:metadata f:annotations f:cloud.test/load-balancer-id`.
pub fn owned_by(service: &Service, manager: &str) -> Vec<String> {
    fn walk(fields: &Value, path: &mut Vec<String>, found: &mut Vec<String>) {
        let below: Vec<_> = fields
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key != ".")
            .collect();
        if below.is_empty() && !path.is_empty() {
            found.push(path.join(" "));
        }
        for (key, fields) in below {
            path.push(key.clone());
            walk(fields, path, found);
            path.pop();
        }
    }
    let mut found = Vec::new();
    for entry in service.managed_fields() {
        if let Some(fields) = entry
            .fields_v1
            .as_ref()
            .filter(|_| entry.manager.as_deref() == Some(manager))
        {
            walk(&fields.0, &mut Vec::new(), &mut found);
        }
    }
    found.sort_unstable();
    found
}
