#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::needless_pass_by_value)]
use gatehouse_crds::gateway::Listener;
use serde_json::{Value, json};

use super::*;

fn pod(name: &str, labels: Value, ports: Value, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "app", "ports": ports}]},
        "status": status
    }))
    .unwrap()
}

fn ready_status() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

fn port(target: Value) -> Port {
    let listener: Listener =
        serde_json::from_value(json!({"name": "http", "port": 80, "protocol": "TCP", "targetPort": target})).unwrap();
    super::super::ports::ports(&[listener]).ports.remove(0)
}

fn said(pods: &[Pod], selector: Value, target: Value) -> (&'static str, String) {
    let pods: Vec<PodFacts> = pods.iter().map(PodFacts::of).collect();
    let lack = lack(&pods, &serde_json::from_value(selector).unwrap(), &port(target));
    (lack.reason, lack.message)
}

#[test]
fn a_pod_of_two_families_counts_once_and_a_port_that_its_containers_lack_does_not() {
    let slice = |family: &str, ports: Value, ready: &[bool]| {
        let endpoints: Vec<Value> = ready
            .iter()
            .map(|ready| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}))
            .collect();
        let slice = json!({"addressType": family, "endpoints": endpoints, "ports": ports});
        Slice::of(&serde_json::from_value(slice).unwrap())
    };
    let http = json!([{"name": "http", "port": 3000}]);
    let slices = [
        slice("IPv4", http.clone(), &[true, true, false]),
        slice("IPv6", http, &[true, true]),
        slice("IPv4", json!([{"name": "admin"}]), &[true]),
        slice("IPv4", Value::Null, &[true]),
    ];
    assert_eq!(
        (ready(&slices, "http"), ready(&slices, "admin"), slices[0].not_ready),
        (2, 0, 1)
    );
}

#[test]
fn an_endpoint_that_ends_is_not_awaited_and_one_without_a_word_is_ready() {
    let slice = json!({"addressType": "IPv4", "ports": [{"name": "http", "port": 1}], "endpoints": [
        {"addresses": ["10.0.0.1"]},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "terminating": true}}
    ]});
    let slice = Slice::of(&serde_json::from_value(slice).unwrap());
    assert_eq!((slice.ready, slice.not_ready), (1, 0));
}

#[test]
fn no_match_names_the_pod_that_is_nearest_and_what_differs() {
    let pods = [
        pod(
            "web-1",
            json!({"app": "shop-web", "tier": "front"}),
            json!([]),
            ready_status(),
        ),
        pod(
            "api-1",
            json!({"app": "shop-apl", "tier": "back"}),
            json!([]),
            ready_status(),
        ),
    ];
    assert_eq!(
        said(&pods, json!({"app": "shop-api"}), json!(80)),
        (
            "NoMatchingPods",
            "No Pod of this namespace matches app=shop-api. Nearest is api-1: app is shop-apl there, not shop-api"
                .into()
        )
    );
    assert_eq!(
        said(&pods, json!({"app": "shop-apl", "track": "stable"}), json!(80)).1,
        "No Pod of this namespace matches app=shop-apl,track=stable. Nearest is api-1: it has no label track"
    );
    assert!(
        said(&pods, json!({"role": "x"}), json!(80))
            .1
            .ends_with("and none has such a label")
    );
    assert!(
        said(&[], json!({"role": "x"}), json!(80))
            .1
            .ends_with("there are no Pods here")
    );
}

#[test]
fn pods_that_are_over_do_not_match() {
    let pods = [pod(
        "job-1",
        json!({"app": "a"}),
        json!([]),
        json!({"phase": "Succeeded"}),
    )];
    assert_eq!(said(&pods, json!({"app": "a"}), json!(80)).0, "NoMatchingPods");
}

#[test]
fn a_pod_that_is_not_ready_says_why() {
    let waiting = json!({"phase": "Pending", "containerStatuses": [{"name": "app", "ready": false, "image": "i", "imageID": "", "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
    let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]});
    let probing = json!({"phase": "Running", "containerStatuses": [{"name": "app", "ready": false, "image": "i", "imageID": "", "restartCount": 0}]});
    for (status, words) in [
        (
            waiting,
            "1 Pod matches the selector and none is ready: a-1 waits: container app: ImagePullBackOff",
        ),
        (unscheduled, "a-1 is not scheduled: 0/3 nodes are available"),
        (
            probing,
            "a-1 is not ready: container app does not pass its readiness probe",
        ),
    ] {
        let (reason, message) = said(
            &[pod("a-1", json!({"app": "a"}), json!([]), status)],
            json!({"app": "a"}),
            json!(80),
        );
        assert_eq!(reason, "PodsNotReady");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_port_that_no_container_has_is_named_with_those_that_there_are() {
    let pods = [pod(
        "a-1",
        json!({"app": "a"}),
        json!([{"name": "web", "containerPort": 8080}]),
        ready_status(),
    )];
    assert_eq!(
        said(&pods, json!({"app": "a"}), json!("http")),
        (
            "TargetPortMissing",
            "No container of the Pods has the port http (TCP): they have web (8080/TCP)".into()
        )
    );
    assert_eq!(said(&pods, json!({"app": "a"}), json!("web")).0, "EndpointsPending");
    // A number works without being declared.
    assert_eq!(said(&pods, json!({"app": "a"}), json!(3000)).0, "EndpointsPending");
    let unready = [pod(
        "a-1",
        json!({"app": "a"}),
        json!([{"containerPort": 8080}]),
        json!({"phase": "Running"}),
    )];
    assert_eq!(said(&unready, json!({"app": "a"}), json!(3000)).0, "TargetPortMissing");
    assert_eq!(said(&unready, json!({"app": "a"}), json!(8080)).0, "PodsNotReady");
}

#[test]
fn words_are_as_far_apart_as_their_letters() {
    for (one, other, far) in [
        ("", "", 0),
        ("abc", "abc", 0),
        ("abc", "abd", 1),
        ("abc", "ab", 1),
        ("kitten", "sitting", 3),
        ("", "abc", 3),
    ] {
        assert_eq!(distance(one, other), far, "{one} {other}");
        assert_eq!(distance(other, one), far, "{other} {one}");
    }
}
