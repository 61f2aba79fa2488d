#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::*;
use crate::cli::{
    samples::{NOW, gateway, gateway_status},
    status::gateways::health,
};

const PAPER: Screen = Screen {
    colour: false,
    width: None,
};

fn pod(name: &str, port: i32, ready: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "ports": [{"name": "web", "containerPort": port}]}]},
        "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}
    }))
    .unwrap()
}

fn slice(endpoints: &[(&str, bool)]) -> EndpointSlice {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(name, ready)| json!({"addresses": ["10.1.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "shop-lb-x1"}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 3000, "protocol": "TCP"}], "endpoints": endpoints
    }))
    .unwrap()
}

fn service() -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "shop-lb", "creationTimestamp": "2026-11-21T11:00:00Z",
            "ownerReferences": [{"apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway", "name": "shop", "uid": "9a7e", "controller": true}]},
        "spec": {"type": "LoadBalancer"}
    }))
    .unwrap()
}

fn event(time: &str, warning: bool, reason: &str, note: &str) -> Happening {
    Happening {
        at: time.parse().unwrap(),
        warning,
        reason: reason.into(),
        note: note.into(),
    }
}

fn known(gateway: Gateway) -> Known {
    Known {
        gateway,
        service_name: "shop-lb".into(),
        service: Seen::There(service()),
        slices: Seen::There(vec![slice(&[("shop-1", true), ("shop-2", true), ("shop-3", false)])]),
        pods: Seen::There(vec![
            pod("shop-1", 3000, true),
            pod("shop-2", 3000, true),
            pod("shop-3", 3000, false),
        ]),
        events: Seen::There(vec![event(
            "2026-11-21T11:01:00Z",
            false,
            "AddressAssigned",
            "The Gateway has the address 10.0.0.7.",
        )]),
        service_events: Seen::There(vec![event(
            "2026-11-21T11:00:30Z",
            false,
            "EnsuringLoadBalancer",
            "Ensuring load balancer",
        )]),
    }
}

fn described(known: &Known) -> String {
    let now = NOW.parse().unwrap();
    render(known, &health::of(&known.gateway, now), now, PAPER)
}

#[test]
fn a_fine_one_says_who_takes_the_traffic() {
    let status = gateway_status(
        2,
        &["10.0.0.7"],
        &[(
            "ExposureVerified",
            "True",
            "Internal",
            "All addresses are of private networks",
        )],
    );
    insta::assert_snapshot!(described(&known(gateway("shop", &status))));
}

#[test]
fn one_that_is_public_says_so_first_and_how_to_close_it() {
    let status = gateway_status(
        0,
        &["203.0.113.9"],
        &[
            (
                "ExposureVerified",
                "False",
                "ExposureMismatch",
                "The scope is Internal, but 203.0.113.9 is a public address.",
            ),
            (
                "http/Programmed",
                "False",
                "PodsNotReady",
                "1 Pod matches the selector and none is ready: shop-1 is not ready",
            ),
        ],
    );
    let mut known = known(gateway("shop", &status));
    known.slices = Seen::There(vec![slice(&[("shop-1", false)])]);
    known.pods = Seen::There(vec![pod("shop-1", 8080, false)]);
    insta::assert_snapshot!(described(&known));
}

#[test]
fn one_that_is_refused_has_no_service_and_says_what_to_write() {
    let status = gateway_status(
        0,
        &[],
        &[
            (
                "Accepted",
                "False",
                "UnknownProvider",
                "The nodes have no providerID: write in spec.service.provider whose load balancer it is",
            ),
            ("Programmed", "False", "NotAccepted", "See Accepted"),
            ("ExposureVerified", "Unknown", "NoAddress", "There is no Service"),
        ],
    );
    let mut known = known(gateway("shop", &status));
    known.service = Seen::Missing;
    known.slices = Seen::There(Vec::new());
    known.pods = Seen::Forbidden;
    known.events = Seen::Forbidden;
    known.service_events = Seen::Missing;
    let text = described(&known);
    for words in [
        "Gateway app/shop is failing: UnknownProvider",
        "shop-lb does not exist",
        "whose load balancer it is",
        "http            none",
        "you may not list them",
        "UnknownProvider Write spec.service.provider",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let advice = text.split("What to do").nth(1).unwrap();
    assert!(!advice.contains("NotAccepted"), "{text}");
}

#[test]
fn a_listener_with_a_certificate_shows_the_secret_its_end_and_where_its_story_is() {
    let mut shop = gateway(
        "shop",
        "spec: {listeners: [{name: http, port: 443, protocol: HTTPS, hostname: shop.test, tls: {certificate: {issuerRef: {name: ca}}}}]}",
    );
    let status = gateway("x", &gateway_status(2, &["10.0.0.7"], &[]));
    shop.status = status.status;
    shop.status.as_mut().unwrap().listeners[0].certificate = Some(gatehouse_crds::gateway::ListenerCertificate {
        secret_name: "shop-http-tls".into(),
        not_after: Some("2026-12-21T12:00:00Z".parse().unwrap()),
    });
    let text = described(&known(shop));
    for words in [
        "http: 443/TCP (HTTPS) to the Pods' port 443, for shop.test",
        "Secret shop-http-tls, good until 2026-12-21T12:00:00Z (in 30d)",
        "its story: gatehouse status -n app certificate/shop-http",
        // No Pod declares 443.
        "no container declares the port 443 (they declare web 3000/TCP)",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}

#[test]
fn a_service_of_somebody_else_and_one_that_leaves_are_told() {
    let status = gateway_status(2, &["10.0.0.7"], &[]);
    let mut known = known(gateway("shop", &status));
    let mut theirs = service();
    theirs.metadata.owner_references = None;
    known.service = Seen::There(theirs);
    assert!(described(&known).contains("shop-lb, which is not of this Gateway"));
    let mut leaving = service();
    leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
    leaving.metadata.finalizers = Some(vec!["service.kubernetes.io/load-balancer-cleanup".into()]);
    known.service = Seen::There(leaving);
    let text = described(&known);
    assert!(
        text.contains("held by service.kubernetes.io/load-balancer-cleanup"),
        "{text}"
    );
}
