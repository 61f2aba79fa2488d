//! What is done while a Gateway's spec cannot be carried out: an Internal one is kept as private as it was.
//!
//! Nothing of the spec is carried out then. But the switch that makes the load balancer internal is put back when somebody takes
//! it away, and a public address is withdrawn where that is asked for: who may reach the Pods does not wait for a spec to be
//! corrected.

use std::sync::Arc;

use gatehouse_crds::gateway::{Gateway, Provider, Scope, ServiceSpec};
use serde_json::{Map, Value, json};

use super::{
    created::{CREATED_WITH, Created},
    exposure, fields,
    live::Live,
    plan::{Plan, Seen, asks_to_withdraw, has_public_address, update},
    provider::{Exposure, Protocols, create_only, says, template},
    recreate::made_for,
    service::{WITHDRAWN, owner},
};

/// Fields that only a load balancer, or a Service with node ports, has.
const OF_OTHER_TYPES: &[&str] = &[
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "allocateLoadBalancerNodePorts",
    "externalTrafficPolicy",
];

/// Decides.
pub fn safeguard(gateway: &Gateway, seen: &Seen<'_>) -> Plan {
    let serving = seen
        .services
        .iter()
        .min_by_key(|live| (live.deleting, live.ingress.is_empty()))
        .cloned();
    let mut plan = Plan {
        serving,
        ..Plan::default()
    };
    let spec = gateway.spec.service.clone().unwrap_or_default();
    if spec.scope.unwrap_or_default() != Scope::Internal {
        return plan;
    }
    for live in seen.services.iter().filter(|live| !live.deleting) {
        let withdrawn = withdrawal(gateway, live, seen);
        plan.withdrawn |= withdrawn.is_some();
        let body = match withdrawn {
            Some(generation) => Some(without_address(gateway, live, generation)),
            None => with_switch(gateway, &spec, live),
        };
        let write = body.and_then(|body| update(live, body));
        plan.write = plan.write.or(write);
    }
    plan
}

/// The generation for which the address is taken away.
fn withdrawal(gateway: &Gateway, live: &Arc<Live>, seen: &Seen<'_>) -> Option<i64> {
    let generation = gateway.metadata.generation.filter(|_| asks_to_withdraw(gateway))?;
    let before = live.annotation(WITHDRAWN).and_then(|text| text.parse::<i64>().ok()) == Some(generation);
    let alone = seen.services.iter().all(|other| other.uid == live.uid);
    let public = has_public_address(live) || (alone && matches!(seen.exposure, exposure::Verdict::Public(_)));
    (before || (public && live.type_() != "ClusterIP")).then_some(generation)
}

/// The Service as it is, as a ClusterIP.
fn without_address(gateway: &Gateway, live: &Live, generation: i64) -> Value {
    let mut body = as_it_is(gateway, live);
    if let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("type".into(), "ClusterIP".into());
        for field in OF_OTHER_TYPES {
            spec.remove(*field);
        }
        let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
    if let Some(annotations) = annotations(&mut body) {
        annotations.remove(CREATED_WITH);
        annotations.insert(WITHDRAWN.into(), generation.to_string().into());
    }
    body
}

/// The Service as it is, with the switch that it was made with; none when it says Internal, or cannot be made to.
fn with_switch(gateway: &Gateway, spec: &ServiceSpec, live: &Live) -> Option<Value> {
    let known = gateway.status.as_ref().and_then(|status| status.provider);
    let provider = made_for(live)
        .or(known)
        .filter(|provider| *provider != Provider::Other)?;
    let said = says(provider, &live.annotations(), &live.labels(), live.class());
    if !live.is_load_balancer() || said == Exposure::Internal {
        return None;
    }
    let record = Created::on(live).filter(|record| record.provider == provider);
    let switch = match record {
        Some(record) => (record.scope == Scope::Internal).then_some(record.annotations)?,
        // Another scope would be read by a new load balancer only.
        None if create_only(provider).scope => return None,
        None => {
            let bare = ServiceSpec {
                scope: Some(Scope::Internal),
                subnet: spec.subnet.clone(),
                ..ServiceSpec::default()
            };
            template(provider, &bare, Protocols { tcp: true, udp: false })
                .ok()?
                .annotations
        }
    };
    let mut body = as_it_is(gateway, live);
    annotations(&mut body)?.extend(switch.into_iter().map(|(key, value)| (key, value.into())));
    Some(body)
}

/// What we own of it.
fn as_it_is(gateway: &Gateway, live: &Live) -> Value {
    let mut body = fields::retained(&live.value, &live.owned);
    if !body.is_object() {
        body = json!({});
    }
    if let Some(metadata) = metadata(&mut body) {
        metadata.insert("ownerReferences".into(), json!([owner(gateway)]));
    }
    body
}

fn metadata(body: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = body.as_object_mut()?.entry("metadata").or_insert_with(|| json!({}));
    metadata.as_object_mut()
}

fn annotations(body: &mut Value) -> Option<&mut Map<String, Value>> {
    let annotations = metadata(body)?.entry("annotations").or_insert_with(|| json!({}));
    annotations.as_object_mut()
}

#[cfg(test)]
#[path = "safeguard_tests.rs"]
mod tests;
