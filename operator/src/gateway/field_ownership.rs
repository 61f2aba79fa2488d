//! Which fields of a Service are ours, and whether they say what they should.
//!
//! Server-side apply keeps what others wrote; to know whether a write is needed, what we own is compared with what we want.
//! Paths are `metadata/annotations/<key>`, `spec/<field>`, `spec/ports/80/TCP/<field>`.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value};

use crate::kubernetes::names;

/// Paths of fields.
pub type Paths = BTreeSet<String>;

/// Fields that are one value for the API server, however they look (`x-kubernetes-map-type: atomic`).
const ATOMIC: &[&str] = &["spec/selector"];

/// Returns the fields that our field manager has applied.
pub fn owned(managed: &[ManagedFieldsEntry]) -> Paths {
    let mut paths = Paths::new();
    for entry in managed {
        let ours = entry.manager.as_deref() == Some(names::FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty();
        if let (true, Some(fields)) = (ours, &entry.fields_v1) {
            walk_managed(&fields.0, &mut String::new(), &mut paths);
        }
    }
    paths
}

fn walk_managed(fields: &Value, path: &mut String, paths: &mut Paths) {
    let Value::Object(fields) = fields else { return };
    let mut leaf = true;
    for (key, below) in fields {
        let part = match key.split_once(':') {
            Some(("f", name)) => name.to_owned(),
            Some(("k", keys)) => item(&serde_json::from_str(keys).unwrap_or_default()),
            _ => continue,
        };
        leaf = false;
        let length = path.len();
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&part);
        walk_managed(below, path, paths);
        path.truncate(length);
    }
    if leaf && !path.is_empty() {
        paths.insert(path.clone());
    }
}

/// The name of a list's item, by its keys: a port's, or an owner's.
fn item(keys: &Map<String, Value>) -> String {
    let word = |key| keys.get(key).map(|value| value.to_string().replace('"', ""));
    match (word("port"), word("uid")) {
        (Some(port), _) => format!("{port}/{}", word("protocol").unwrap_or_else(|| "TCP".into())),
        (None, Some(uid)) => uid,
        (None, None) => Value::Object(keys.clone()).to_string(),
    }
}

/// The fields that a body sets, with their values.
pub fn of(body: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    walk_body(body, &mut String::new(), &mut found);
    found
}

fn walk_body<'a>(value: &'a Value, path: &mut String, found: &mut Vec<(String, &'a Value)>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(fields) if !ATOMIC.contains(&path.as_str()) => {
            fields.iter().map(|(key, below)| (key.clone(), below)).collect()
        }
        Value::Array(items) if path == "spec/ports" || path == "metadata/ownerReferences" => items
            .iter()
            .filter_map(|below| Some((item(below.as_object()?), below)))
            .collect(),
        _ => {
            found.push((path.clone(), value));
            return;
        }
    };
    for (part, below) in below {
        let length = path.len();
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&part);
        walk_body(below, path, found);
        path.truncate(length);
    }
}

/// Whether `live` has everything that `body` says, and we own nothing else of it.
pub fn is_applied(body: &Value, live: &Value, owned: &Paths) -> bool {
    let desired = of(body);
    let there: std::collections::BTreeMap<String, &Value> = of(live).into_iter().collect();
    let said = desired
        .iter()
        .filter(|(path, _)| {
            path.starts_with("metadata/annotations/")
                || path.starts_with("metadata/labels/")
                || path.starts_with("spec/")
        })
        .all(|(path, value)| there.get(path) == Some(value) && owned.contains(path));
    let paths: BTreeSet<&str> = desired.iter().map(|(path, _)| path.as_str()).collect();
    said && owned
        .iter()
        .filter(|path| !path.starts_with("metadata/ownerReferences"))
        .all(|path| paths.contains(path.as_str()))
}

/// The fields of `live` that we have applied, as the body of an apply that changes nothing.
pub fn retained(live: &Value, owned: &Paths) -> Value {
    retain(live, &mut String::new(), owned).unwrap_or_default()
}

fn retain(value: &Value, path: &mut String, owned: &Paths) -> Option<Value> {
    let below = |path: &mut String, part: &str, value: &Value| {
        let length = path.len();
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
        let kept = retain(value, path, owned);
        path.truncate(length);
        kept
    };
    match value {
        Value::Object(fields) if !ATOMIC.contains(&path.as_str()) => {
            let kept: Map<String, Value> = fields
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), below(path, key, value)?)))
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(items) if path == "spec/ports" => {
            let kept: Vec<Value> = items
                .iter()
                .filter_map(|value| below(path, &item(value.as_object()?), value))
                .collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => owned.contains(path.as_str()).then(|| value.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::needless_pass_by_value)]
    use serde_json::json;

    use super::*;

    fn managed(fields: Value) -> Paths {
        let entry = |manager: &str, operation: &str, fields: Value| -> ManagedFieldsEntry {
            serde_json::from_value(
                json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields}),
            )
            .unwrap()
        };
        owned(&[
            entry(
                "cloud",
                "Update",
                json!({"f:metadata": {"f:annotations": {"f:cloud": {}}}}),
            ),
            entry("gatehouse", "Apply", fields),
        ])
    }

    fn body() -> Value {
        json!({
            "metadata": {"annotations": {"a.b/c": "x"}, "ownerReferences": [{"uid": "u", "name": "gw"}]},
            "spec": {"type": "LoadBalancer", "selector": {"app": "shop"}, "ports": [{"port": 80, "protocol": "TCP", "name": "http", "targetPort": 3000}]}
        })
    }

    fn fields() -> Value {
        json!({
            "f:metadata": {"f:annotations": {".": {}, "f:a.b/c": {}}, "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}}},
            "f:spec": {"f:type": {}, "f:selector": {}, "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}}}
        })
    }

    #[test]
    fn what_is_there_and_ours_needs_no_write_and_what_others_add_is_no_difference() {
        let mut live = body();
        live["metadata"]["annotations"]["cloud"] = json!("says");
        live["spec"]["clusterIP"] = json!("10.0.0.1");
        live["spec"]["ports"][0]["nodePort"] = json!(30080);
        assert!(is_applied(&body(), &live, &managed(fields())));
    }

    #[test]
    fn a_value_that_differs_is_missing_or_somebody_elses_is_to_be_written() {
        let changed = |change: fn(&mut Value)| {
            let mut live = body();
            change(&mut live);
            is_applied(&body(), &live, &managed(fields()))
        };
        assert!(changed(|_| ()));
        assert!(!changed(|live| live["metadata"]["annotations"]["a.b/c"] = json!("y")));
        assert!(!changed(|live| live["spec"]["ports"][0]["targetPort"] = json!(8080)));
        assert!(!changed(
            |live| live["spec"]["selector"] = json!({"app": "shop", "more": "x"})
        ));
        let mut less = fields();
        less["f:spec"].as_object_mut().unwrap().remove("f:type");
        assert!(!is_applied(&body(), &body(), &managed(less)), "another's");
    }

    #[test]
    fn what_is_retained_is_what_we_own_and_changes_nothing() {
        let mut live = body();
        live["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        live["metadata"]["annotations"]["cloud"] = json!("says");
        live["spec"]["clusterIP"] = json!("10.0.0.1");
        live["spec"]["ports"][0]["nodePort"] = json!(30080);
        let kept = retained(&live, &managed(fields()));
        let mut expected = body();
        expected["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        assert_eq!(kept, expected);
        assert!(is_applied(&kept, &live, &managed(fields())));
    }

    #[test]
    fn what_we_own_and_want_no_more_is_to_be_given_up() {
        let mut more = fields();
        more["f:metadata"]["f:annotations"]["f:old"] = json!({});
        assert!(!is_applied(&body(), &body(), &managed(more)));
        let mut port = fields();
        port["f:spec"]["f:ports"]["k:{\"port\":81,\"protocol\":\"TCP\"}"] = json!({".": {}, "f:port": {}});
        assert!(!is_applied(&body(), &body(), &managed(port)));
    }
}
