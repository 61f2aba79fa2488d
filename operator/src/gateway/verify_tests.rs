#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use serde_json::{Value, json};

use super::*;

fn live(uid: &str, ingress: &Value, spec: &Value) -> Arc<ObservedService> {
    let service = json!({
        "metadata": {"name": uid, "uid": uid},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": ingress}}
    });
    Arc::new(ObservedService::of(&serde_json::from_value(service).unwrap()))
}

fn balancer() -> Value {
    json!({"type": "LoadBalancer", "ports": [{"port": 80}]})
}

fn with_node_port() -> Value {
    json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]})
}

fn name(name: &str, addresses: &[&str]) -> Known {
    let addresses = addresses.iter().map(|address| address.parse().unwrap());
    Known::Name(name.into(), addresses.collect())
}

fn found_public(public: &str, addresses: &[&str]) -> GatewayStatus {
    serde_json::from_value(json!({"exposure": {"result": "Public", "addresses": addresses, "public": public}})).unwrap()
}

fn public(each: &[(Arc<ObservedService>, Vec<Known>)], open: &[Known], before: Option<&GatewayStatus>) -> Vec<String> {
    judge_each(each, open, before).public.into_iter().collect()
}

#[test]
fn of_two_services_the_one_is_public_whose_name_is() {
    let each = [
        (
            live("old", &json!([{"hostname": "old.test"}]), &balancer()),
            vec![name("old.test", &["203.0.113.7"])],
        ),
        (
            live("new", &json!([{"hostname": "new.test"}]), &balancer()),
            vec![name("new.test", &["10.0.0.7"])],
        ),
    ];
    assert_eq!(public(&each, &[], None), ["old"]);
    let verdict = judge_each(&each, &[], None).verdict;
    assert_eq!(verdict, Verdict::Public("old.test (203.0.113.7)".into()));
}

#[test]
fn node_ports_are_public_of_the_services_that_have_some() {
    let each = [
        (live("ports", &json!([]), &with_node_port()), vec![]),
        (
            live("none", &json!([{"ip": "10.0.0.7"}]), &balancer()),
            vec![Known::Address("10.0.0.7".parse().unwrap())],
        ),
    ];
    let open = [Known::Node("one".into(), "203.0.113.5".parse().unwrap())];
    assert_eq!(public(&each, &open, None), ["ports"]);
}

#[test]
fn without_an_answer_the_service_stays_public_that_has_what_was_public() {
    let unresolved = |name: &str| vec![Known::Unresolved(name.into(), "timeout".into())];
    let each = [
        (
            live("old", &json!([{"hostname": "old.test"}]), &balancer()),
            unresolved("old.test"),
        ),
        (
            live("new", &json!([{"hostname": "new.test"}]), &balancer()),
            unresolved("new.test"),
        ),
    ];
    let before = found_public("old.test (203.0.113.7)", &["new.test", "old.test"]);
    assert_eq!(public(&each, &[], Some(&before)), ["old"]);
    // Node ports, whose nodes cannot be read now.
    let each = [(live("ports", &json!([]), &with_node_port()), vec![])];
    let subject = "203.0.113.5 of the node one, where its node ports are open,";
    let open = [Known::Unread("forbidden".into())];
    for (port, expected) in [("node port 30080", &["ports"][..]), ("node port 30081", &[])] {
        let before = found_public(subject, &[port]);
        assert_eq!(public(&each, &open, Some(&before)), expected, "{port}");
    }
}
