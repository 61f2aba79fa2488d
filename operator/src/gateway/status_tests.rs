#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::needless_pass_by_value)]
use serde_json::{Value, json};

use super::*;
use crate::gateway::ports::ports;

fn gateway(listeners: Value, scope: &str) -> Gateway {
    serde_json::from_value(json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway",
        "metadata": {"name": "shop", "namespace": "app", "uid": "gw", "generation": 3},
        "spec": {"service": {"provider": "GKE", "scope": scope}, "target": {"selector": {"app": "shop"}}, "listeners": listeners}
    }))
    .unwrap()
}

fn http() -> Value {
    json!([{"name": "http", "port": 80, "protocol": "TCP"}])
}

fn live(ingress: &[&str]) -> ObservedService {
    let ingress = ingress.iter().map(|ip| Ingress::Address(ip.parse().unwrap())).collect();
    ObservedService {
        name: "shop".into(),
        value: json!({"spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]}}),
        ingress,
        ..ObservedService::default()
    }
}

/// Conditions as `Type=Status Reason`.
fn said(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> Vec<String> {
    conditions
        .iter()
        .map(|condition| format!("{}={} {}", condition.type_, condition.status, condition.reason))
        .collect()
}

fn reconcile(gateway: &Gateway, plan: &Decision, exposure: &Exposure, ready: u32) -> GatewayStatus {
    let provider = gateway.spec.service.as_ref().unwrap().provider.unwrap();
    let desired = DesiredService::of(gateway, Ok(provider));
    let facts = Facts {
        desired: desired.as_ref(),
        ports: &ports(&gateway.spec.listeners),
        plan,
        exposure,
        services: plan.serving.as_slice(),
        nodes: &[],
        ready: &|_| ready,
        lacks: &BTreeMap::new(),
        certificates: &BTreeMap::new(),
        refused: None,
        refused_policy: None,
        cloud: None,
        ignored: None,
        now: "2026-06-01T12:00:00Z".parse().unwrap(),
    };
    status(gateway, &facts)
}

fn serving(ingress: &[&str]) -> Decision {
    Decision {
        serving: Some(std::sync::Arc::new(live(ingress))),
        ..Decision::default()
    }
}

#[test]
fn a_gateway_that_is_well_says_so_in_every_condition() {
    let gateway = gateway(http(), "Internal");
    let status = reconcile(&gateway, &serving(&["10.1.2.3"]), &Exposure::Private, 2);
    assert_eq!(
        said(&status.conditions),
        [
            "Accepted=True Accepted",
            "Programmed=True Programmed",
            "ExposureVerified=True Internal"
        ]
    );
    let listener = &status.listeners[0];
    assert_eq!((listener.ready_endpoints, listener.node_port), (2, Some(30080)));
    assert_eq!(
        said(&listener.conditions),
        [
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=True Programmed"
        ]
    );
    assert_eq!(status.addresses[0].value, "10.1.2.3");
}

#[test]
fn a_public_address_of_an_internal_gateway_is_a_mismatch() {
    let gateway = gateway(http(), "Internal");
    let public = reconcile(
        &gateway,
        &serving(&["203.0.113.7"]),
        &Exposure::Public("203.0.113.7".into()),
        1,
    );
    assert_eq!(said(&public.conditions)[2], "ExposureVerified=False ExposureMismatch");
    assert!(
        public.conditions[2].message.contains("203.0.113.7 is a public address"),
        "{}",
        public.conditions[2].message
    );
    let waiting = reconcile(
        &gateway,
        &serving(&[]),
        &Exposure::Unknown("There is no address yet".into()),
        1,
    );
    assert_eq!(
        said(&waiting.conditions)[1..],
        [
            "Programmed=False AddressPending",
            "ExposureVerified=Unknown NotVerified"
        ]
    );
    let nothing = reconcile(&gateway, &Decision::default(), &Exposure::Unknown(String::new()), 0);
    assert_eq!(said(&nothing.conditions)[2], "ExposureVerified=Unknown NoAddress");
}

#[test]
fn what_waits_for_consent_is_named_with_the_command_that_gives_it() {
    let gateway = gateway(http(), "External");
    let plan = Decision {
        pending: vec![super::super::recreate::Difference::Class {
            from: None,
            to: Some("new.example/lb".into()),
        }],
        ..serving(&["203.0.113.7"])
    };
    let status = reconcile(&gateway, &plan, &Exposure::Private, 1);
    let programmed = &status.conditions[1];
    assert_eq!(said(&status.conditions)[1], "Programmed=False RecreateRequired");
    assert!(
        programmed
            .message
            .contains("loadBalancerClass (now none, wanted new.example/lb)"),
        "{}",
        programmed.message
    );
    assert!(
        programmed
            .message
            .contains("kubectl annotate --overwrite ghgw shop -n app gatehouse.dev/recreate=3"),
        "{}",
        programmed.message
    );
}

#[test]
fn a_listener_that_clashes_says_so_and_the_others_go_on() {
    let listeners = json!([
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "more", "port": 80, "protocol": "TCP", "targetPort": 9}
    ]);
    let status = reconcile(
        &gateway(listeners, "External"),
        &serving(&["203.0.113.7"]),
        &Exposure::Private,
        1,
    );
    assert_eq!(said(&status.conditions)[0], "Accepted=True ListenersNotValid");
    assert_eq!(said(&status.listeners[0].conditions)[2], "Programmed=True Programmed");
    assert_eq!(said(&status.listeners[1].conditions)[0], "Accepted=False PortConflict");
    assert_eq!(said(&status.listeners[1].conditions)[2], "Programmed=False NotAccepted");
}

#[test]
fn what_was_said_before_keeps_its_time_and_saying_it_again_is_no_change() {
    let mut gateway = gateway(http(), "External");
    let first = reconcile(&gateway, &serving(&["203.0.113.7"]), &Exposure::Private, 1);
    gateway.status = Some(first.clone());
    assert_eq!(
        reconcile(&gateway, &serving(&["203.0.113.7"]), &Exposure::Private, 1),
        first
    );
}

#[test]
fn source_ranges_that_the_cloud_ignores_are_said_and_stay_so_for_this_spec() {
    let mut gateway = gateway(http(), "External");
    let service = gateway.spec.service.as_mut().unwrap();
    service.provider = Some(Provider::OpenStack);
    service.load_balancer_source_ranges = vec!["192.0.2.0/24".into()];
    let reconcile = |gateway: &Gateway, ignored: Option<&str>| {
        let desired = DesiredService::of(gateway, Ok(Provider::OpenStack));
        let plan = serving(&["203.0.113.7"]);
        let facts = Facts {
            desired: desired.as_ref(),
            ports: &ports(&gateway.spec.listeners),
            plan: &plan,
            exposure: &Exposure::Unknown(String::new()),
            services: plan.serving.as_slice(),
            nodes: &[],
            ready: &|_| 1,
            lacks: &BTreeMap::new(),
            certificates: &BTreeMap::new(),
            refused: None,
            refused_policy: None,
            cloud: None,
            ignored,
            now: "2026-06-01T12:00:00Z".parse().unwrap(),
        };
        status(gateway, &facts)
    };
    let status = reconcile(&gateway, Some("LoadBalancerSourceRangesIgnored: not supported"));
    assert_eq!(said(&status.conditions)[1], "Programmed=False SourceRangesIgnored");
    assert!(
        status.conditions[1].message.contains("admits all clients"),
        "{}",
        status.conditions[1].message
    );
    // The event has expired.
    gateway.status = Some(status.clone());
    assert_eq!(reconcile(&gateway, None), status);
    gateway.metadata.generation = Some(4);
    assert_eq!(
        said(&reconcile(&gateway, None).conditions)[1],
        "Programmed=True Programmed"
    );
}
