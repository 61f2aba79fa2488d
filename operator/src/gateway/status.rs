//! Builds the status of a Gateway.

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_crds::gateway::{
    AddressType, ExposureResult, Gateway, GatewayAddress, GatewayExposure, GatewayStatus, Listener,
    ListenerCertificate, ListenerStatus, Provider, Scope,
};
use jiff::Timestamp;

use super::{
    decide::Decision,
    endpoints::Lack,
    exposure::Verdict as Exposure,
    known_exposure, listener_certificates,
    nodes::NodeFacts,
    observed_service::{Ingress, ObservedService},
    ports::Ports,
    provider::Refusal,
    service::DesiredService,
};
use crate::kubernetes::conditions::{self, ConditionUpdate, Status};

pub const ACCEPTED: &str = "Accepted";
pub const PROGRAMMED: &str = "Programmed";
pub const EXPOSURE_VERIFIED: &str = "ExposureVerified";
/// Reason: the scope is Internal, and there is a public address.
pub const EXPOSURE_MISMATCH: &str = "ExposureMismatch";
/// Reason: the load balancer admits all clients, whatever the source ranges are.
pub const SOURCE_RANGES_IGNORED: &str = "SourceRangesIgnored";
pub const RESOLVED_REFS: &str = "ResolvedRefs";

/// So many addresses of nodes are named.
const NODES: usize = 16;

/// State of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Valid until then.
    Good(Option<Timestamp>),
    /// It is not: reason and message.
    Bad(&'static str, String),
    /// It could not be read now: why. It is read again.
    Unread(String),
}

/// Input of the status, beside the decision.
pub struct Facts<'a> {
    pub desired: Result<&'a DesiredService, &'a Refusal>,
    pub ports: &'a Ports,
    pub plan: &'a Decision,
    pub exposure: &'a Exposure,
    /// The Gateway's own.
    pub services: &'a [Arc<ObservedService>],
    pub nodes: &'a [NodeFacts],
    /// Ready endpoints by the name of the port.
    pub ready: &'a (dyn Fn(&str) -> u32 + Sync),
    /// Why a port has none, where it was asked.
    pub lacks: &'a BTreeMap<String, Lack>,
    /// By listener, for those that ask for one.
    pub certificates: &'a BTreeMap<String, Certificate>,
    /// Error of the API server for the last write that it refused.
    pub refused: Option<&'a str>,
    /// Why there is no NetworkPolicy, as a sentence.
    pub refused_policy: Option<&'a str>,
    /// Last warning of the cloud about a Service without an address.
    pub cloud: Option<&'a str>,
    /// Warning of the cloud about source ranges that it ignores.
    pub ignored: Option<&'a str>,
    pub now: Timestamp,
}

/// Returns the new status; unchanged conditions keep their times.
pub fn status(gateway: &Gateway, facts: &Facts<'_>) -> GatewayStatus {
    let before = gateway.status.clone().unwrap_or_default();
    let generation = gateway.metadata.generation;
    let spec = gateway.spec.service.clone().unwrap_or_default();
    let serving = facts.plan.serving.as_deref();
    let mut status = GatewayStatus {
        conditions: before.conditions.clone(),
        addresses: addresses(spec.scope.unwrap_or_default(), serving, facts.nodes),
        listeners: Vec::new(),
        service_name: serving.map(|live| live.name.clone()),
        provider: provider(facts, &before),
        recreated_generation: if facts.plan.consumed {
            generation
        } else {
            before.recreated_generation
        },
        exposure: None,
    };
    if facts.plan.withdrawn {
        status.addresses.clear();
    }
    let (exposed, known) = exposure(gateway, spec.scope.unwrap_or_default(), facts);
    status.exposure = known;
    for verdict in [accepted(facts), programmed(gateway, facts, &status.addresses), exposed] {
        conditions::set(&mut status.conditions, &verdict, generation, facts.now);
    }
    let has_address = !status.addresses.is_empty();
    status.listeners = gateway
        .spec
        .listeners
        .iter()
        .enumerate()
        .map(|(position, listener)| {
            let known = before.listeners.iter().find(|known| known.name == listener.name);
            let known = known.map(|known| known.conditions.clone()).unwrap_or_default();
            listener_status(gateway, (position, listener), known, has_address, facts)
        })
        .collect();
    status
}

fn provider(facts: &Facts<'_>, before: &GatewayStatus) -> Option<Provider> {
    match facts.desired {
        Ok(desired) if facts.plan.pending.is_empty() => desired.provider,
        // The load balancer that is there is still the other's.
        _ => before.provider,
    }
}

fn verdict(type_: &'static str, status: Status, reason: &'static str, message: impl Into<String>) -> ConditionUpdate {
    ConditionUpdate {
        type_,
        status,
        reason,
        message: message.into(),
    }
}

fn accepted(facts: &Facts<'_>) -> ConditionUpdate {
    let refusal = facts.desired.err().or(facts.plan.blocked.as_ref());
    if let Some(refusal) = refusal {
        return verdict(ACCEPTED, Status::False, refusal.reason, refusal.message.clone());
    }
    let clashes = facts.ports.of_listeners.iter().filter(|port| port.is_err()).count();
    if clashes > 0 {
        return verdict(
            ACCEPTED,
            Status::True,
            "ListenersNotValid",
            format!("Accepted but for {clashes} of its listeners: see status.listeners"),
        );
    }
    verdict(ACCEPTED, Status::True, "Accepted", "The spec can be carried out")
}

fn programmed(gateway: &Gateway, facts: &Facts<'_>, addresses: &[GatewayAddress]) -> ConditionUpdate {
    let no = |reason, message: String| verdict(PROGRAMMED, Status::False, reason, message);
    if facts.desired.is_err() || facts.plan.blocked.is_some() {
        let refused = || Some(format!("The API server refuses the Service: {}", facts.refused?));
        let missing = facts.plan.missing.clone().or_else(refused);
        let more = missing.map(|why| format!(". {why}")).unwrap_or_default();
        return no(
            "NotAccepted",
            format!("The spec is not carried out: see Accepted{more}"),
        );
    }
    if let Some(refused) = facts.refused {
        return no(
            "ServiceRefused",
            format!("The API server refuses the Service: {refused}"),
        );
    }
    if facts.plan.withdrawn {
        return no(
            "Withdrawn",
            "The address was public and was taken away. Fix the Gateway: any change of its spec tries again".into(),
        );
    }
    if !facts.plan.pending.is_empty() {
        let what: Vec<String> = facts
            .plan
            .pending
            .iter()
            .map(super::recreate::Difference::words)
            .collect();
        let generation = gateway.metadata.generation.unwrap_or_default();
        let fixed = gateway
            .spec
            .service
            .as_ref()
            .is_some_and(|service| service.name.is_some());
        let how = if fixed {
            "The Service is then deleted and created again under its name, and is absent meanwhile"
        } else {
            "A second Service then comes up, and the first goes when the second has its address"
        };
        return no(
            "RecreateRequired",
            format!(
                "Not changed, because it is read only when a load balancer is made: {}. To have a new one: kubectl annotate --overwrite ghgw {} -n {} {}={generation}. {how}",
                what.join("; "),
                gateway.metadata.name.as_deref().unwrap_or_default(),
                gateway.metadata.namespace.as_deref().unwrap_or_default(),
                crate::kubernetes::names::RECREATE,
            ),
        );
    }
    if facts.plan.recreating {
        return no(
            "Recreating",
            "A new Service is on its way, or the old one on its way out".into(),
        );
    }
    if addresses.is_empty() {
        let class = facts
            .desired
            .ok()
            .and_then(|desired| desired.template.load_balancer_class.clone());
        let message = match (facts.cloud, class) {
            (Some(said), _) => format!("There is no address yet. The last that was said of the Service: {said}"),
            (None, Some(class)) => format!(
                "There is no address yet. If it stays so, see whether the controller of the class {class} is installed and running"
            ),
            (None, None) => "There is no address yet. If it stays so, see whether a load balancer controller is installed and running".into(),
        };
        return no("AddressPending", message);
    }
    if let Some(said) = ranges_ignored(gateway, facts) {
        return no(SOURCE_RANGES_IGNORED, said);
    }
    if let Some(refused) = facts.refused_policy {
        return no("NetworkPolicyRefused", refused.to_owned());
    }
    verdict(
        PROGRAMMED,
        Status::True,
        "Programmed",
        "The Service exists and has its address",
    )
}

/// Returns why all clients are admitted although there are source ranges: the cloud has reported so, now or earlier for this spec.
fn ranges_ignored(gateway: &Gateway, facts: &Facts<'_>) -> Option<String> {
    if facts.desired.is_ok_and(|desired| desired.source_ranges().is_empty()) {
        return None;
    }
    if let Some(said) = facts.ignored {
        return Some(format!(
            "The load balancer ignores loadBalancerSourceRanges and admits all clients ({said}). Leave them out, and restrict who may connect with security groups, or have it created by a driver that reads them"
        ));
    }
    // Its event is kept for an hour.
    let before = gateway.status.as_ref()?;
    let said = conditions::find(&before.conditions, PROGRAMMED)?;
    let is_same = said.reason == SOURCE_RANGES_IGNORED && said.observed_generation == gateway.metadata.generation;
    is_same.then(|| said.message.clone())
}

fn exposure(gateway: &Gateway, scope: Scope, facts: &Facts<'_>) -> (ConditionUpdate, Option<GatewayExposure>) {
    let type_ = EXPOSURE_VERIFIED;
    let before = gateway.status.as_ref();
    let addresses = known_exposure::addresses(facts.services.iter().map(AsRef::as_ref));
    if scope == Scope::External {
        let any = verdict(
            type_,
            Status::True,
            "External",
            "The scope is External: any address will do",
        );
        return (any, None);
    }
    if facts.plan.withdrawn {
        let (_, known) = known_exposure::conclude(facts.exposure, before, &addresses, facts.now);
        let gone = verdict(
            type_,
            Status::False,
            EXPOSURE_MISMATCH,
            "The scope is Internal and the address was public: it was taken away",
        );
        // That there is none is no answer to whether the next will be private.
        let public = known.filter(|known| known.result == ExposureResult::Public);
        return (
            gone,
            public.or_else(|| before.and_then(|before| before.exposure.clone())),
        );
    }
    if facts.services.is_empty() {
        let none = verdict(
            type_,
            Status::Unknown,
            "NoAddress",
            "There is no Service, and so nothing that could be public",
        );
        return (none, None);
    }
    known_exposure::conclude(facts.exposure, before, &addresses, facts.now)
}

fn addresses(scope: Scope, serving: Option<&ObservedService>, nodes: &[NodeFacts]) -> Vec<GatewayAddress> {
    let address = |type_, value: String, ports: &[i32]| GatewayAddress {
        type_,
        value,
        ports: ports.to_vec(),
    };
    let Some(live) = serving else { return Vec::new() };
    // Those that it has now, whatever the spec wants it to be.
    match live.type_() {
        "LoadBalancer" => live
            .ingress
            .iter()
            .map(|ingress| match ingress {
                Ingress::Address(ip) => address(AddressType::IpAddress, ip.to_string(), &[]),
                Ingress::Name(name) => address(AddressType::Hostname, name.clone(), &[]),
            })
            .collect(),
        "NodePort" => {
            let ports = live.node_ports();
            if ports.is_empty() {
                return Vec::new();
            }
            let public = scope == Scope::External && nodes.iter().any(|node| !node.external.is_empty());
            nodes
                .iter()
                .filter(|node| node.ready)
                .flat_map(|node| if public { &node.external } else { &node.internal })
                .take(NODES)
                .map(|ip| address(AddressType::IpAddress, ip.to_string(), &ports))
                .collect()
        }
        _ => live
            .cluster_addresses()
            .iter()
            .map(|ip| address(AddressType::IpAddress, (*ip).to_owned(), &[]))
            .collect(),
    }
}

fn listener_status(
    gateway: &Gateway,
    (position, listener): (usize, &Listener),
    mut known: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
    has_address: bool,
    facts: &Facts<'_>,
) -> ListenerStatus {
    let port = facts.ports.of(position);
    let ready = port.map_or(0, |port| (facts.ready)(&port.name));
    let live = facts.plan.serving.as_deref();
    let accepted = match facts.ports.of_listeners.get(position) {
        Some(Err(clash)) => verdict(ACCEPTED, Status::False, "PortConflict", clash.clone()),
        _ => verdict(ACCEPTED, Status::True, "Accepted", ""),
    };
    let certificate = facts.certificates.get(&listener.name);
    let resolved = match certificate {
        Some(Certificate::Bad(reason, message)) => verdict(RESOLVED_REFS, Status::False, reason, message.clone()),
        Some(Certificate::Unread(message)) => {
            verdict(RESOLVED_REFS, Status::False, "InvalidCertificateRef", message.clone())
        }
        _ => verdict(RESOLVED_REFS, Status::True, "ResolvedRefs", ""),
    };
    let no = |reason, message: String| verdict(PROGRAMMED, Status::False, reason, message);
    let programmed = match port {
        None => no("NotAccepted", "See Accepted".into()),
        Some(port) if !live.is_some_and(|live| live.has_port(port.number, port.transport.as_str())) => {
            no("Pending", "The Service does not have this port yet".into())
        }
        Some(port) if ready == 0 => match facts.lacks.get(&port.name) {
            Some(lack) => no(lack.reason, lack.message.clone()),
            None => no("EndpointsPending", "No Pod takes its traffic yet".into()),
        },
        Some(_) if !has_address => no("AddressPending", "The Gateway has no address yet".into()),
        Some(_) => verdict(PROGRAMMED, Status::True, "Programmed", ""),
    };
    for verdict in [accepted, resolved, programmed] {
        conditions::set(&mut known, &verdict, gateway.metadata.generation, facts.now);
    }
    let secret = listener.tls.as_ref().and_then(|tls| {
        let of_ours =
            || listener_certificates::secret_name(gateway.metadata.name.as_deref().unwrap_or_default(), &listener.name);
        let of_theirs = || tls.certificate_refs.first().map(|reference| reference.name.clone());
        if tls.certificate.is_some() {
            Some(of_ours())
        } else {
            of_theirs()
        }
    });
    ListenerStatus {
        name: listener.name.clone(),
        ready_endpoints: i32::try_from(ready).unwrap_or(i32::MAX),
        node_port: port.and_then(|port| live?.node_port(&port.name, port.transport.as_str())),
        certificate: secret.map(|secret_name| ListenerCertificate {
            secret_name,
            not_after: match certificate {
                Some(Certificate::Good(not_after)) => *not_after,
                _ => None,
            },
        }),
        conditions: known,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
