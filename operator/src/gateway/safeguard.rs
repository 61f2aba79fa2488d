//! Keeps what was accepted last while a Gateway's spec cannot be carried out.
//!
//! Nothing of the spec is carried out then. But what was applied last is put back when another changes it, with the switch that
//! makes the load balancer internal; a Service that is deleted is made again as it was; and a public address is withdrawn where that is asked for: who may reach the Pods does not
//! wait for a spec to be corrected.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use gatehouse_crds::gateway::{Gateway, Provider, Scope, ServiceSpec};
use serde_json::{Map, Value, json};

use super::{
    created::{CREATED_WITH, Created},
    decide::{Decision, Observed, Write, asks_to_withdraw, is_public, update},
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

/// Last applied content of the Services and the NetworkPolicy of an accepted spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// By the UID of the Service.
    pub services: BTreeMap<String, Kept>,
    pub policy: Option<Value>,
    /// The Service as it last matched an accepted spec.
    pub settled: Option<Settled>,
}

/// A Service as it was applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    name: String,
    body: Value,
    /// Whether it is just what the last accepted spec wants.
    is_settled: bool,
}

/// The mark of a Service that is all that an accepted spec wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    scope: Scope,
    hash: u64,
}

impl Settled {
    /// None while the Service is not yet, or cannot be, what is wanted.
    pub fn of(gateway: &Gateway, plan: &Decision) -> Option<Self> {
        let at_rest = plan.write.is_none() && plan.pending.is_empty() && plan.blocked.is_none() && !plan.recreating;
        let live = plan.serving.as_ref().filter(|live| at_rest && !live.deleting)?;
        Some(Self {
            scope: scope(gateway),
            hash: hash(&field_ownership::retained(&live.value, &live.owned)),
        })
    }
}

fn hash(body: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut fields = field_ownership::of(body);
    fields.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    for (path, value) in fields {
        (path, value.to_string()).hash(&mut hasher);
    }
    hasher.finish()
}

fn scope(gateway: &Gateway) -> Scope {
    let spec = gateway.spec.service.as_ref();
    spec.and_then(|spec| spec.scope).unwrap_or_default()
}

impl Applied {
    /// Adds what is applied to the Services that are new to it. What it has remains: that may have been changed since.
    pub fn see(&mut self, services: &[Arc<ObservedService>]) {
        if !services.is_empty() {
            // Of those that went while another serves, nothing is to come back.
            self.services
                .retain(|uid, _| services.iter().any(|live| live.uid == *uid));
        }
        for live in services.iter().filter(|live| !live.deleting) {
            let settled = self.settled;
            self.services.entry(live.uid.clone()).or_insert_with(|| {
                let body = field_ownership::retained(&live.value, &live.owned);
                Kept {
                    name: live.name.clone(),
                    is_settled: settled.is_some_and(|settled| settled.hash == hash(&body)),
                    body,
                }
            });
        }
    }

    /// Notes what was written to the Service of this UID.
    pub fn wrote(&mut self, uid: &str, body: &Value) {
        if let Some(kept) = self.services.get_mut(uid) {
            kept.body = body.clone();
        }
    }
}

/// Returns the Service of the last accepted spec to be created again; or why it is not.
///
/// Never one that admits more than the last accepted spec: only what was known to be just that is made again.
fn again(gateway: &Gateway, observed: &Observed<'_>, applied: &Applied) -> Result<Write, String> {
    let mut known = applied.services.values();
    let (kept, settled) = match (known.next(), known.next(), applied.settled) {
        (Some(kept), None, Some(settled)) if kept.is_settled => (kept, settled),
        _ => {
            return Err("There is no Service, and none is made before the spec is accepted: what an accepted spec made last is not known, or was not finished. Correct the spec".into());
        }
    };
    let name = &kept.name;
    if scope(gateway) == Scope::Internal && settled.scope == Scope::External {
        return Err(format!(
            "The Service {name} is gone, and is not made again: it was External, and the spec says Internal now. Correct the spec"
        ));
    }
    if (observed.foreign)(name).is_some() {
        return Err(format!(
            "The Service {name} is gone, and is not made again: there is another of that name. Delete that one, or correct the spec"
        ));
    }
    let mut body = kept.body.clone();
    if let Some(metadata) = metadata(&mut body) {
        metadata.insert("ownerReferences".into(), json!([owner(gateway)]));
    }
    Ok(Write {
        name: name.clone(),
        uid: None,
        adopt: false,
        body,
    })
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
    if observed.services.is_empty() {
        match again(gateway, observed, applied) {
            Ok(write) => plan.write = Some(write),
            Err(why) => plan.missing = Some(why),
        }
        return plan;
    }
    let spec = gateway.spec.service.clone().unwrap_or_default();
    let internal = scope(gateway) == Scope::Internal;
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

/// Returns what was applied to it last; if that is unknown, the fields that we own.
fn as_applied(gateway: &Gateway, live: &ObservedService, applied: &Applied) -> Value {
    let before = applied.services.get(&live.uid);
    let before = before.map(|kept| kept.body.clone());
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
