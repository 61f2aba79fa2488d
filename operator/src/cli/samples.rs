//! Certificates and Gateways for the tests of the commands.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use gatehouse_crds::{certificate::Certificate, gateway::Gateway};
use serde_json::{Value, json};

/// When the tests play.
pub(super) const NOW: &str = "2026-11-21T12:00:00Z";

/// `app/<name>` with what `yaml` says over the least that a Certificate has.
pub(super) fn certificate(name: &str, yaml: &str) -> Certificate {
    let mut object = json!({
        "apiVersion": "gatehouse.dev/v1alpha1",
        "kind": "Certificate",
        "metadata": {"name": name, "namespace": "app", "generation": 1, "uid": "c0ffee"},
        "spec": {"secretName": format!("{name}-tls"), "issuerRef": {"name": "ca"}, "dnsNames": ["www.example.com"]},
    });
    if !yaml.trim().is_empty() {
        merge(&mut object, serde_saphyr::from_str(yaml).unwrap());
    }
    serde_json::from_value(object).unwrap()
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// The Gateway `app/<name>` with what `yaml` says over the least that a Gateway has.
pub(super) fn gateway(name: &str, yaml: &str) -> Gateway {
    let mut object = json!({
        "apiVersion": "gatehouse.dev/v1alpha1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": "app", "generation": 1, "uid": "9a7e", "creationTimestamp": "2026-11-20T12:00:00Z"},
        "spec": {
            "service": {"scope": "Internal", "provider": "GKE"},
            "target": {"selector": {"app": "shop"}},
            "listeners": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 3000}],
        },
    });
    if !yaml.trim().is_empty() {
        merge(&mut object, serde_saphyr::from_str(yaml).unwrap());
    }
    serde_json::from_value(object).unwrap()
}

/// Its status: what differs from one that is fine, by condition (`Type` or `listener/Type`): status, reason, message.
pub(super) fn gateway_status(ready: i32, addresses: &[&str], differs: &[(&str, &str, &str, &str)]) -> String {
    let condition = |whose: &str, type_: &str, reason: &str| {
        let found = differs.iter().find(|(key, ..)| *key == format!("{whose}{type_}"));
        let (status, reason, message) = found.map_or(("True", reason, ""), |(_, status, reason, message)| {
            (*status, *reason, *message)
        });
        json!({"type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-11-21T11:58:00Z", "observedGeneration": 1})
    };
    let addresses: Vec<Value> = addresses
        .iter()
        .map(|value| json!({"type": "IPAddress", "value": value}))
        .collect();
    json!({"status": {
        "conditions": [
            condition("", "Accepted", "Accepted"),
            condition("", "Programmed", "Programmed"),
            condition("", "ExposureVerified", "Internal"),
        ],
        "addresses": addresses,
        "serviceName": "shop-lb",
        "provider": "GKE",
        "listeners": [{"name": "http", "readyEndpoints": ready, "conditions": [
            condition("http/", "Accepted", "Accepted"),
            condition("http/", "ResolvedRefs", "ResolvedRefs"),
            condition("http/", "Programmed", "Programmed"),
        ]}],
    }})
    .to_string()
}
