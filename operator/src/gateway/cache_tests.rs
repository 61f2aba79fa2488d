#![allow(clippy::unwrap_used)]

use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

#[allow(clippy::needless_pass_by_value, reason = "made in place by json!")]
fn gateway(name: &str, service: Value, listeners: Value) -> Guarded {
    serde_json::from_value(json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": "app", "uid": name},
        "spec": {"service": service, "target": {"selector": {"app": "shop"}}, "listeners": listeners}
    }))
    .unwrap()
}

fn enqueued(queue: &mut Enqueued) -> Vec<String> {
    let mut all: Vec<_> = std::iter::from_fn(|| queue.try_recv().ok())
        .map(|key| key.to_string())
        .collect();
    all.sort();
    all
}

#[test]
fn a_gateway_is_enqueued_by_what_it_names_until_it_names_something_else() {
    let (cache, mut queue) = Cache::new();
    let tls = json!([
        {"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "a.test", "tls": {"certificateRefs": [{"name": "mine"}]}},
        {"name": "http", "port": 80, "protocol": "HTTP"}
    ]);
    cache
        .gateways
        .take(Event::Apply(gateway("shop", json!({"name": "edge"}), tls)));
    let plain = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    cache.gateways.take(Event::Apply(gateway("plain", json!({}), plain)));
    enqueued(&mut queue);
    for (secret, expected) in [
        ("mine", vec!["app/shop"]),
        ("shop-https", vec!["app/shop"]),
        ("shop-http", vec![]),
    ] {
        cache.enqueue_certificate(&ObjectKey::new("app", secret));
        assert_eq!(enqueued(&mut queue), expected, "{secret}");
    }
    cache.enqueue_certificate(&ObjectKey::new("other", "mine"));
    assert_eq!(enqueued(&mut queue), Vec::<String>::new());
    cache.enqueue_certificates();
    assert_eq!(enqueued(&mut queue), ["app/shop"]);

    let service = |name: &str| {
        let metadata = json!({"name": name, "namespace": "app", "uid": name});
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata})).unwrap()
    };
    cache.others.take(Event::Apply(service("edge")));
    assert_eq!(
        enqueued(&mut queue),
        ["app/edge", "app/shop"],
        "by its spec, and by its own name"
    );
    cache.others.take(Event::Apply(service("edge")));
    assert_eq!(enqueued(&mut queue), Vec::<String>::new(), "nothing has changed");

    let moved = gateway("shop", json!({"name": "front"}), json!([]));
    cache.gateways.take(Event::Apply(moved));
    enqueued(&mut queue);
    cache.enqueue_certificates();
    cache.others.take(Event::Delete(service("edge")));
    assert_eq!(enqueued(&mut queue), ["app/edge"]);
}
