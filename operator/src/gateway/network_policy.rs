//! NetworkPolicy: admits clients to the Pods.

use gatehouse_crds::gateway::{Gateway, ServiceType};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::{
    provider::{Clients, clients, health_check_ranges},
    service::{DesiredService, labels, owner},
};

/// Its name.
pub fn name(gateway: &str) -> String {
    format!("gatehouse-{gateway}")
}

/// The NetworkPolicy, when it is asked for.
///
/// Ranges admit by address only where Pods see the addresses of clients: behind a proxy, or after the nodes have put their own
/// in, the load balancer alone can keep them, and the Pods would admit no client of those ranges.
pub fn body(gateway: &Gateway, desired: &DesiredService) -> Option<Value> {
    gateway.spec.network_policy.as_ref().filter(|policy| policy.enabled)?;
    let ports: Vec<Value> = desired
        .ports
        .ports
        .iter()
        .map(|port| json!({"protocol": port.transport.as_str(), "port": port.target}))
        .collect();
    let mut rule = json!({"ports": ports});
    let ranges = desired.source_ranges();
    if !ranges.is_empty() && sees_clients(desired) {
        let health = desired.provider.map(health_check_ranges).unwrap_or_default();
        let from: Vec<Value> = ranges
            .iter()
            .map(String::as_str)
            .chain(health.iter().copied())
            .map(|range| json!({"ipBlock": {"cidr": range}}))
            .collect();
        if let Some(rule) = rule.as_object_mut() {
            rule.insert("from".into(), json!(from));
        }
    }
    Some(json!({
        "metadata": {"labels": labels(&gateway.name_any()), "ownerReferences": [owner(gateway)]},
        "spec": {
            "podSelector": {"matchLabels": gateway.spec.target.selector},
            "policyTypes": ["Ingress"],
            "ingress": [rule],
        }
    }))
}

/// The body that keeps a policy of ours as it is, without what others have added.
pub fn kept(gateway: &Gateway, spec: &Value) -> Value {
    let fields = ["podSelector", "policyTypes", "ingress"];
    let said = |field: &str| Some((field.to_owned(), spec.get(field)?.clone()));
    let spec: Map<String, Value> = fields.into_iter().filter_map(said).collect();
    json!({
        "metadata": {"labels": labels(&gateway.name_any()), "ownerReferences": [owner(gateway)]},
        "spec": spec,
    })
}

/// Whether a policy's spec says what is wanted, whatever others have added to it.
pub fn is_as_wanted(body: &Value, spec: &Value) -> bool {
    let desired = body.get("spec").and_then(Value::as_object);
    desired
        .into_iter()
        .flatten()
        .all(|(field, value)| spec.get(field) == Some(value))
}

/// As it is made.
pub fn object(name: &str, body: Value) -> Option<NetworkPolicy> {
    let mut policy: NetworkPolicy = serde_json::from_value(body).ok()?;
    policy.metadata.name = Some(name.to_owned());
    Some(policy)
}

fn sees_clients(desired: &DesiredService) -> bool {
    desired.type_ == ServiceType::LoadBalancer
        && desired.is_local()
        && desired
            .provider
            .is_some_and(|provider| clients(provider) == Clients::Seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_add_to_a_policy_is_no_difference_and_what_they_change_is() {
        let desired = json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": []}]}});
        let with = |field: &str, value: Value| {
            let mut spec = desired.get("spec").cloned().unwrap_or_default();
            if let Some(spec) = spec.as_object_mut() {
                spec.insert(field.into(), value);
            }
            is_as_wanted(&desired, &spec)
        };
        assert!(with("egress", json!([{}])));
        assert!(!with("ingress", json!([])));
    }
}
