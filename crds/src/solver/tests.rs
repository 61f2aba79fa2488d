#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::*;

/// The manifests of `api.md`, and one of each provider.
fn manifests() -> Vec<Value> {
    let key = json!({"name": "s", "key": "k"});
    vec![
        json!({"http01": {"ingress": {"ingressClassName": "nginx"}}}),
        json!({"http01": {"ingress": {"ingressClassName": "nginx", "ingressTemplate": {"metadata": {
            "annotations": {"nginx.ingress.kubernetes.io/ssl-redirect": "false"}}}}}}),
        json!({
            "selector": {"dnsZones": ["example.com"], "dnsNames": ["a.test"], "matchLabels": {"team": "a"}},
            "dns01": {
                "rfc2136": {"nameserver": "10.0.0.53:53", "tsigKeyName": "k", "tsigAlgorithm": "HMACSHA256",
                            "tsigSecretSecretRef": key},
                "cnameStrategy": "Follow",
                "propagation": {"nameservers": ["10.0.0.53"], "timeout": "2m"}
            }
        }),
        json!({"dns01": {"cloudflare": {"apiTokenSecretRef": key}}}),
        json!({"dns01": {"route53": {"region": "eu-central-1", "accessKeyID": "AK", "secretAccessKeySecretRef": key, "hostedZoneID": "Z1"}}}),
        json!({"dns01": {"route53": {"accessKeyIDSecretRef": key, "secretAccessKeySecretRef": key}}}),
        json!({"dns01": {"cloudDNS": {"project": "p", "serviceAccountSecretRef": key, "hostedZoneName": "z"}}}),
        json!({"dns01": {"azureDNS": {"clientID": "c", "clientSecretSecretRef": key, "subscriptionID": "s", "tenantID": "t",
                                      "resourceGroupName": "g", "hostedZoneName": "example.com", "environment": "AzureChinaCloud"}}}),
        json!({"dns01": {"digitalocean": {"tokenSecretRef": key}}}),
        json!({"dns01": {"acmeDNS": {"host": "https://auth.test", "accountSecretRef": key}}}),
        json!({"dns01": {"provider": {"type": "hetzner", "config": {}, "credentialsSecretRef": {"name": "s"}}}}),
    ]
}

#[test]
fn manifests_come_back_as_they_were_written() {
    for manifest in manifests() {
        let solver: Solver = serde_json::from_value(manifest.clone()).unwrap();
        let mut back = serde_json::to_value(&solver).unwrap();
        if let Some(config) = manifest.pointer("/dns01/provider/config") {
            back["dns01"]["provider"]["config"] = config.clone();
        }
        if let Some(timeout) = manifest.pointer("/dns01/propagation/timeout") {
            back["dns01"]["propagation"]["timeout"] = timeout.clone();
        }
        assert_eq!(back, manifest);
    }
}

fn walk(schema: &Value, seen: &mut impl FnMut(&str, &Value), path: &str) {
    seen(path, schema);
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            walk(property, seen, &format!("{path}.{name}"));
        }
    }
    if let Some(items) = schema.get("items") {
        walk(items, seen, &format!("{path}[]"));
    }
}

fn schema() -> Value {
    let mut settings = schemars::generate::SchemaSettings::openapi3();
    settings.inline_subschemas = true;
    let mut generator = SchemaGenerator::new(settings);
    serde_json::to_value(generator.subschema_for::<Solver>()).unwrap()
}

#[test]
fn every_field_is_explained() {
    walk(
        &schema(),
        &mut |path, property| {
            if !path.ends_with(']') {
                assert!(
                    property.get("description").is_some(),
                    "{path} has no description: {property}"
                );
            }
        },
        "solver",
    );
}

#[test]
fn every_list_and_string_has_a_bound() {
    walk(
        &schema(),
        &mut |path, property| {
            let kind = property.get("type").and_then(Value::as_str);
            let bounded = match kind {
                Some("array") => property.get("maxItems").is_some(),
                Some("string") => ["maxLength", "enum"].iter().any(|k| property.get(*k).is_some()),
                Some("object") if property.get("properties").is_none() => property.get("maxProperties").is_some(),
                _ => true,
            };
            assert!(bounded, "{path} has no bound: {property}");
        },
        "solver",
    );
}

#[test]
fn provider_names_are_those_of_the_schema() {
    for kind in ProviderType::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.as_str()));
    }
}
