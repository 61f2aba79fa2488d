//! Objects as `kubectl get -o json` and `-o yaml` print them.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::connection::Trouble;

/// Format of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Json,
    Yaml,
    /// A table with more columns.
    Wide,
}

/// One object, or a List of them. What only the API server's bookkeeping needs is left out, as kubectl does.
pub(super) fn objects(objects: Vec<DynamicObject>) -> Value {
    let items: Vec<Value> = objects.into_iter().map(object).collect();
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

/// One object.
pub(super) fn object(mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    serde_json::to_value(object).unwrap_or_default()
}

/// The text.
pub(super) fn text(value: &Value, format: Format) -> Result<String, Trouble> {
    let written = match format {
        Format::Yaml => serde_saphyr::to_string(value).map_err(|error| error.to_string()),
        Format::Json | Format::Wide => serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string()),
    };
    written.map_err(|error| Trouble::Refused(format!("the objects cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_list_is_what_kubectl_gives() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Certificate",
            "metadata": {"name": "web", "managedFields": [{"manager": "kubectl"}]},
            "spec": {"secretName": "web-tls", "unknown": 1},
        }))
        .unwrap();
        let list = objects(vec![object]);
        for format in [Format::Json, Format::Yaml] {
            let read: Value = serde_saphyr::from_str(&text(&list, format).unwrap()).unwrap();
            assert_eq!(
                read,
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [{
                    "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Certificate",
                    "metadata": {"name": "web"}, "spec": {"secretName": "web-tls", "unknown": 1},
                }]})
            );
        }
    }
}
