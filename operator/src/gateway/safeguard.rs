//! What is done while a Gateway's spec cannot be carried out: what was accepted last is kept as it was.
//!
//! Nothing of the spec is carried out then. But what was applied last is put back when another changes it, with the switch that
//! makes the load balancer internal, and a public address is withdrawn where that is asked for: who may reach the Pods does not
//! wait for a spec to be corrected.

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_crds::gateway::{Gateway, Provider, Scope, ServiceSpec};
use serde_json::{Map, Value, json};

use super::{
    created::{CREATED_WITH, Created},
    decide::{Decision, Observed, asks_to_withdraw, is_public, update},
    field_ownership,
    observed_service::ObservedService,
    provider::{Exposure, Protocols, annotation_exposure, create_only, template},
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

/// What was applied to the Services and the NetworkPolicy when the spec was accepted last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// Bodies by the UID of the Service.
    pub services: BTreeMap<String, Value>,
    pub policy: Option<Value>,
}

impl Applied {
    /// Adds what is applied to the Services that are new to it. What it has remains: that may have been changed since.
    pub fn see(&mut self, services: &[Arc<ObservedService>]) {
        for live in services.iter().filter(|live| !live.deleting) {
            let body = || field_ownership::retained(&live.value, &live.owned);
            self.services.entry(live.uid.clone()).or_insert_with(body);
        }
    }
}

/// Decides.
pub fn safeguard(gateway: &Gateway, observed: &Observed<'_>, applied: &Applied) -> Decision {
    let serving = observed
        .services
        .iter()
        .min_by_key(|live| (live.deleting, live.ingress.is_empty()))
        .cloned();
    let mut plan = Decision {
        serving,
        ..Decision::default()
    };
    let spec = gateway.spec.service.clone().unwrap_or_default();
    let internal = spec.scope.unwrap_or_default() == Scope::Internal;
    for live in observed.services.iter().filter(|live| !live.deleting) {
        let withdrawn = withdrawal(gateway, live, observed).filter(|_| internal);
        plan.withdrawn |= withdrawn.is_some();
        let before = as_applied(gateway, live, applied);
        let body = match withdrawn {
            Some(generation) => Some(without_address(before, generation)),
            None => missing_switch(gateway, &spec, live)
                .filter(|_| internal)
                .and_then(|switch| with_switch(before.clone(), switch))
                .or(Some(before)),
        };
        let write = body.and_then(|body| update(live, body));
        plan.write = plan.write.or(write);
    }
    plan
}

/// The generation for which the address is taken away.
fn withdrawal(gateway: &Gateway, live: &Arc<ObservedService>, observed: &Observed<'_>) -> Option<i64> {
    let generation = gateway.metadata.generation.filter(|_| asks_to_withdraw(gateway))?;
    let before = live.annotation(WITHDRAWN).and_then(|text| text.parse::<i64>().ok()) == Some(generation);
    (before || (is_public(live, observed) && live.type_() != "ClusterIP")).then_some(generation)
}

/// The Service as it was, as a ClusterIP.
fn without_address(mut body: Value, generation: i64) -> Value {
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

/// The switch that the Service was made with; none when it says Internal, or cannot be made to.
fn missing_switch(gateway: &Gateway, spec: &ServiceSpec, live: &ObservedService) -> Option<BTreeMap<String, String>> {
    let known = gateway.status.as_ref().and_then(|status| status.provider);
    let provider = made_for(live)
        .or(known)
        .filter(|provider| *provider != Provider::Other)?;
    let said = annotation_exposure::parse(provider, &live.annotations(), &live.labels(), live.class());
    if !live.is_load_balancer() || said == Exposure::Internal {
        return None;
    }
    let record = Created::on(live).filter(|record| record.provider == provider);
    match record {
        Some(record) => (record.scope == Scope::Internal).then_some(record.annotations),
        // Another scope would be read by a new load balancer only.
        None if create_only(provider).scope => None,
        None => {
            let bare = ServiceSpec {
                scope: Some(Scope::Internal),
                subnet: spec.subnet.clone(),
                ..ServiceSpec::default()
            };
            let made = template(provider, &bare, Protocols { tcp: true, udp: false });
            Some(made.ok()?.annotations)
        }
    }
}

fn with_switch(mut body: Value, switch: BTreeMap<String, String>) -> Option<Value> {
    annotations(&mut body)?.extend(switch.into_iter().map(|(key, value)| (key, value.into())));
    Some(body)
}

/// What was applied to it last; when that is not known, what we own of it.
fn as_applied(gateway: &Gateway, live: &ObservedService, applied: &Applied) -> Value {
    let before = applied.services.get(&live.uid).cloned();
    let mut body = before.unwrap_or_else(|| field_ownership::retained(&live.value, &live.owned));
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
