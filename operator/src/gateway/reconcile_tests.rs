#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]
use serde_json::{Value, json};

use super::*;

fn gateway(status: Value) -> Gateway {
    serde_json::from_value(json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway",
        "metadata": {"name": "shop", "namespace": "app", "uid": "gw", "generation": 3},
        "spec": {"target": {"selector": {"app": "shop"}}, "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        "status": status
    }))
    .unwrap()
}

/// A Service that was made for this provider.
fn made(provider: &str, annotations: Value, ingress: &[&str]) -> Vec<Arc<ObservedService>> {
    let ingress: Vec<Value> = ingress.iter().map(|ip| json!({"ip": ip})).collect();
    let service = json!({
        "metadata": {"name": "shop", "labels": {"gatehouse.dev/provider": provider}, "annotations": annotations,
            "managedFields": [{"manager": "gatehouse", "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {"f:gatehouse.dev/provider": {}}}}}]},
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": ingress}}
    });
    vec![Arc::new(ObservedService::of(&serde_json::from_value(service).unwrap()))]
}

fn verified(provider: &str, reason: &str, status: &str) -> Value {
    json!({"provider": provider, "conditions": [{"type": "ExposureVerified", "status": status, "reason": reason,
        "message": "", "lastTransitionTime": "2026-06-01T12:00:00Z"}]})
}

const OCTAVIA: &str = "service.beta.kubernetes.io/openstack-internal-load-balancer";

#[test]
fn an_ambiguous_provider_stays_for_internal_only_if_it_came_out_internal() {
    let inside = made("OpenStack", json!({OCTAVIA: "true"}), &["10.0.0.7"]);
    let outside = made("OpenStack", json!({}), &["203.0.113.7"]);
    let known =
        |status: Value, scope, services: &[Arc<ObservedService>]| known_provider(&gateway(status), scope, services);
    let good = || verified("OpenStack", "Internal", "True");
    assert_eq!(known(good(), Reach::Internal, &inside), Some(Provider::OpenStack));
    let mismatch = verified("OpenStack", "ExposureMismatch", "False");
    assert_eq!(known(mismatch, Reach::Internal, &inside), None);
    // It was External until now, and nothing speaks for it.
    let external = verified("OpenStack", "External", "True");
    assert_eq!(known(external.clone(), Reach::Internal, &outside), None);
    assert_eq!(known(external, Reach::External, &outside), Some(Provider::OpenStack));
    assert_eq!(known(good(), Reach::Internal, &outside), None);
}

#[test]
fn a_status_that_was_lost_is_read_off_the_service() {
    let services = made("GKE", json!({"networking.gke.io/load-balancer-type": "Internal"}), &[]);
    for scope in [Reach::Internal, Reach::External] {
        let known = known_provider(&gateway(Value::Null), scope, &services);
        assert_eq!(known, Some(Provider::Gke));
    }
    let status = json!({"provider": "GKE"});
    assert_eq!(
        known_provider(&gateway(status), Reach::External, &[]),
        None,
        "no Service"
    );
}

#[test]
fn no_provider_is_decided_again_unless_somebody_serves_the_service() {
    let status = || json!({"provider": "Other"});
    let known = |scope, ingress: &[&str]| known_provider(&gateway(status()), scope, &made("Other", json!({}), ingress));
    assert_eq!(known(Reach::External, &[]), None);
    assert_eq!(known(Reach::External, &["203.0.113.7"]), Some(Provider::Other));
    assert_eq!(known(Reach::Internal, &["203.0.113.7"]), None);
}

#[test]
fn what_was_taken_for_external_is_detected_again_for_internal() {
    for provider in ["MetalLB", "Hetzner"] {
        let services = made(provider, json!({}), &["10.0.0.7"]);
        let known = |status: Value| known_provider(&gateway(status), Reach::Internal, &services).is_some();
        assert!(!known(verified(provider, "External", "True")), "{provider}");
        // What is said of it while it is asked for.
        assert!(!known(verified(provider, "NotVerified", "Unknown")), "{provider}");
        assert!(known(verified(provider, "Internal", "True")), "{provider}");
    }
}
