//! Certificates for the tests of the commands.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use gatehouse_crds::certificate::Certificate;
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
