//! Gateways are created, repaired, and report their state: against a real API server, with a cloud that the tests play.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "test code: to panic is how it reports, and a scenario is read from top to bottom"
)]

use gatehouse_tests::GatewayEnvironment;
use gatehouse_tests::cloud::{self, Answer, Habits};
use gatehouse_tests::gateway_environment::{SOON, addresses, listener_of, message};
use gatehouse_tests::managed::owned_by;
use gatehouse_tests::process::eventually;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

/// As `api.md` has it.
fn shop_api() -> Value {
    json!({
        "service": {"scope": "Internal", "provider": "GKE", "name": "shop-api-internal-load-balancer"},
        "target": {"selector": {"app": "shop-api"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 3000}],
    })
}

#[tokio::test]
async fn the_internal_load_balancer_of_the_manual_comes_out_exactly() {
    let (env, _operator) = GatewayEnvironment::open("exact", Habits::of(Answer::Private)).await;
    for pod in ["one", "two"] {
        let ports = json!([{"name": "web", "containerPort": 3000}]);
        env.pod(pod, &[("app", "shop-api")], &ports, true).await;
    }
    env.gateway("shop-api", &shop_api()).await;
    env.programmed("shop-api").await;
    let gateway = env.endpoints("shop-api", "http", 2).await;

    let service = env.service("shop-api-internal-load-balancer").await;
    let spec = serde_json::to_value(service.spec.clone().unwrap()).unwrap();
    assert_eq!(spec["type"], "LoadBalancer");
    assert_eq!(spec["selector"], json!({"app": "shop-api"}));
    let ports = spec["ports"].as_array().unwrap();
    assert_eq!(ports.len(), 1);
    assert_eq!(
        (&ports[0]["port"], &ports[0]["targetPort"], &ports[0]["protocol"]),
        (&json!(80), &json!(3000), &json!("TCP"))
    );
    let mut annotations = service.annotations().clone();
    assert!(annotations.remove(cloud::ANNOTATION).is_some(), "the cloud's own stays");
    assert_eq!(
        json!(annotations),
        json!({"networking.gke.io/load-balancer-type": "Internal"})
    );
    let owner = &service.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Gateway", "shop-api"));

    let given = service.status.unwrap().load_balancer.unwrap().ingress.unwrap();
    assert_eq!(addresses(&gateway), [given[0].ip.clone().unwrap()]);
    env.wait("shop-api", "Accepted", "True", "Accepted").await;
    env.wait("shop-api", "ExposureVerified", "True", "Internal").await;
    assert_eq!(listener_of(&gateway, "http").unwrap()["readyEndpoints"], 2);
    env.event("shop-api", "AddressAssigned", &addresses(&gateway)[0]).await;
}

/// A public Gateway at port 80.
fn public() -> Value {
    json!({
        "service": {"provider": "GKE", "annotations": {"example.test/team": "shop"}},
        "target": {"selector": {"app": "shop"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "HTTP", "targetPort": 8080}],
    })
}

#[tokio::test]
async fn what_a_hand_changes_is_put_back_and_what_others_add_stays() {
    let (env, _operator) = GatewayEnvironment::open("healing", Habits::of(Answer::Private)).await;
    env.gateway("shop", &public()).await;
    env.programmed("shop").await;
    // Others' words: an annotation, a label, a node port's choice, a finalizer and a status (the cloud's).
    let added = json!({"metadata": {"annotations": {"other.test/note": "kept"}, "labels": {"other.test/team": "net"}},
        "spec": {"healthCheckNodePort": null, "sessionAffinity": "ClientIP"}});
    let before = env.patch(&env.services(), "shop", &added).await;
    let port = |service: &Service| service.spec.clone().unwrap().ports.unwrap()[0].clone();
    let is_whole = |service: &Service| {
        let spec = service.spec.clone().unwrap();
        service.annotations().get("example.test/team").map(String::as_str) == Some("shop")
            && spec.selector.clone().unwrap_or_default().get("app").map(String::as_str) == Some("shop")
            && spec.selector.unwrap_or_default().len() == 1
            && json!(port(service).target_port) == json!(8080)
            && port(service).app_protocol.as_deref() == Some("http")
            && service.labels().get("gatehouse.dev/gateway").map(String::as_str) == Some("shop")
            && service.labels().get("gatehouse.dev/managed").map(String::as_str) == Some("true")
            && service.owner_references().len() == 1
    };
    assert!(is_whole(&before));
    for (what, patch) in [
        (
            "an annotation",
            json!({"metadata": {"annotations": {"example.test/team": "thieves"}}}),
        ),
        (
            "an annotation that is gone",
            json!({"metadata": {"annotations": {"example.test/team": null}}}),
        ),
        ("the selector", json!({"spec": {"selector": {"app": "other"}}})),
        ("a narrower selector", json!({"spec": {"selector": {"tier": "x"}}})),
        (
            "the port's target",
            json!({"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 9999, "nodePort": port(&before).node_port}]}}),
        ),
        (
            "a label",
            json!({"metadata": {"labels": {"gatehouse.dev/managed": null}}}),
        ),
        (
            "the label that it is found by",
            json!({"metadata": {"labels": {"gatehouse.dev/gateway": null}}}),
        ),
        ("the owner", json!({"metadata": {"ownerReferences": []}})),
    ] {
        env.patch(&env.services(), "shop", &patch).await;
        let healed = env
            .cluster
            .wait(&env.services(), "shop", &format!("healed of {what}"), SOON, &is_whole)
            .await;
        assert_eq!(healed.uid(), before.uid(), "{what}");
        assert_eq!(port(&healed).node_port, port(&before).node_port, "{what}");
        assert_eq!(healed.status, before.status, "{what}");
        assert_eq!(healed.finalizers(), [cloud::FINALIZER], "{what}");
        assert_eq!(
            healed.annotations().get("other.test/note").map(String::as_str),
            Some("kept"),
            "{what}"
        );
        assert!(healed.annotations().contains_key(cloud::ANNOTATION), "{what}");
        assert_eq!(
            healed.labels().get("other.test/team").map(String::as_str),
            Some("net"),
            "{what}"
        );
        let affinity = healed.spec.clone().unwrap().session_affinity;
        assert_eq!(affinity.as_deref(), Some("ClientIP"), "{what}");
        assert_eq!(owned_by(&healed, cloud::MANAGER), owned_by(&before, cloud::MANAGER));
    }
    // The whole of it.
    env.services().delete("shop", &DeleteParams::default()).await.unwrap();
    let again = env
        .cluster
        .wait(&env.services(), "shop", "there again", SOON, |service| {
            service.uid() != before.uid() && service.metadata.deletion_timestamp.is_none()
        })
        .await;
    assert!(is_whole(&again));
    env.programmed("shop").await;
    env.quiet(std::time::Duration::from_secs(3)).await;
}

#[tokio::test]
async fn a_status_that_is_lost_comes_back() {
    let (env, _operator) = GatewayEnvironment::open("lost", Habits::of(Answer::Private)).await;
    env.gateway("shop", &public()).await;
    let before = env.programmed("shop").await;
    env.quiet(std::time::Duration::from_secs(2)).await;
    let before = env.gateways().get(&before.name_any()).await.unwrap();
    for status in [
        Value::Null,
        json!({"addresses": null, "conditions": null}),
        json!({"listeners": null}),
    ] {
        let patch = Patch::Merge(json!({"status": status}));
        let wiped = env
            .gateways()
            .patch_status("shop", &PatchParams::default(), &patch)
            .await
            .unwrap();
        assert_ne!(wiped.status, before.status);
        env.cluster
            .wait(&env.gateways(), "shop", "as before", SOON, |gateway| {
                let (Some(is), Some(was)) = (&gateway.status, &before.status) else {
                    return false;
                };
                (
                    &is.addresses,
                    &is.service_name,
                    is.provider,
                    is.conditions.len(),
                    is.listeners.len(),
                ) == (
                    &was.addresses,
                    &was.service_name,
                    was.provider,
                    was.conditions.len(),
                    was.listeners.len(),
                )
            })
            .await;
    }
}

#[tokio::test]
async fn a_listener_says_why_no_pod_takes_its_traffic() {
    let (env, _operator) = GatewayEnvironment::open("lack", Habits::of(Answer::Private)).await;
    let ports = json!([{"name": "web", "containerPort": 8080}]);
    env.pod("near", &[("app", "shop"), ("tier", "front")], &ports, true)
        .await;
    env.pod("far", &[("app", "blog")], &ports, true).await;
    let spec = |selector: Value, target: Value| {
        json!({"service": {"provider": "GKE"}, "target": {"selector": selector},
            "listeners": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": target}]})
    };
    let lack = async |reason: &str| {
        let found = env.listener("shop", "http", "Programmed", reason).await;
        found["message"].as_str().unwrap().to_owned()
    };
    env.gateway("shop", &spec(json!({"app": "shop", "tier": "web"}), json!(8080)))
        .await;
    let words = lack("NoMatchingPods").await;
    assert!(
        words.contains("near") && words.contains("tier") && words.contains("front"),
        "{words}"
    );
    env.programmed("shop").await;

    env.gateway("shop", &spec(json!({"app": "shop"}), json!("grpc"))).await;
    let words = lack("TargetPortMissing").await;
    assert!(words.contains("grpc") && words.contains("web (8080/TCP)"), "{words}");

    env.gateway("shop", &spec(json!({"app": "shop"}), json!("web"))).await;
    env.endpoints("shop", "http", 1).await;
    lack("Programmed").await;

    env.pod_ready("near", false).await;
    let words = lack("PodsNotReady").await;
    assert!(words.contains("near"), "{words}");
    env.pod_ready("near", true).await;
    env.endpoints("shop", "http", 1).await;
    let pods: Api<Pod> = env.cluster.api(&env.namespace);
    pods.delete("near", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    env.endpoints("shop", "http", 0).await;
    // Hosts of one port share its endpoints; another port has its own.
    env.pod(
        "dns",
        &[("app", "dns")],
        &json!([{"name": "dns", "containerPort": 53, "protocol": "UDP"}]),
        true,
    )
    .await;
    env.gateway(
        "dns",
        &json!({"service": {"provider": "GKE"}, "target": {"selector": {"app": "dns"}},
            "listeners": [{"name": "udp", "port": 53, "protocol": "UDP", "targetPort": "dns"},
                          {"name": "tcp", "port": 53, "protocol": "TCP", "targetPort": "dns"}]}),
    )
    .await;
    env.endpoints("dns", "udp", 1).await;
    env.listener("dns", "tcp", "Programmed", "TargetPortMissing").await;
}

#[tokio::test]
async fn addresses_are_those_of_the_kind_of_service() {
    let (env, _operator) = GatewayEnvironment::open("kinds", Habits::of(Answer::Private)).await;
    let pair = [("InternalIP", "10.0.7.1"), ("ExternalIP", "198.51.100.7")];
    env.node("kinds-one", None, &pair).await;
    let spec = |service: Value| {
        json!({"service": service, "target": {"selector": {"app": "shop"}},
            "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}]})
    };
    env.gateway("inside", &spec(json!({"type": "ClusterIP", "scope": "Internal"})))
        .await;
    let inside = env.programmed("inside").await;
    let service = env.service("inside").await.spec.unwrap();
    assert_eq!(service.type_.as_deref(), Some("ClusterIP"));
    assert_eq!(addresses(&inside), service.cluster_ips.unwrap());
    env.wait("inside", "ExposureVerified", "True", "Internal").await;

    env.gateway("nodes", &spec(json!({"type": "NodePort"}))).await;
    let nodes = env.programmed("nodes").await;
    let port = env.service("nodes").await.spec.unwrap().ports.unwrap()[0]
        .node_port
        .unwrap();
    let status = nodes.status.clone().unwrap();
    assert!(
        addresses(&nodes).contains(&"198.51.100.7".to_owned()),
        "{:?}",
        status.addresses
    );
    assert!(
        !addresses(&nodes).contains(&"10.0.7.1".to_owned()),
        "{:?}",
        status.addresses
    );
    assert!(status.addresses.iter().all(|address| address.ports == [port]));
    assert_eq!(listener_of(&nodes, "http").unwrap()["nodePort"], port);
    // Node ports are open on every address of a node: one of them is public.
    env.gateway("nodes", &spec(json!({"type": "NodePort", "scope": "Internal"})))
        .await;
    env.wait("nodes", "ExposureVerified", "False", "ExposureMismatch").await;

    env.gateway("named", &spec(json!({"provider": "AWS"}))).await;
    env.cloud
        .answers_for("named", Answer::Name("lb-1.eu-west-1.elb.amazonaws.com".to_owned()));
    let named = env
        .cluster
        .wait(&env.gateways(), "named", "named", SOON, |gateway| {
            addresses(gateway) == ["lb-1.eu-west-1.elb.amazonaws.com"]
        })
        .await;
    assert_eq!(json!(named.status.unwrap().addresses)[0]["type"], "Hostname");
}

#[tokio::test]
async fn an_address_that_changes_is_told_and_one_that_is_slow_is_waited_for() {
    let mut habits = Habits::of(Answer::Private);
    habits.delay = std::time::Duration::from_secs(3);
    let (env, _operator) = GatewayEnvironment::open("slow", habits).await;
    env.gateway("shop", &public()).await;
    env.wait("shop", "Programmed", "False", "AddressPending").await;
    let first = addresses(&env.programmed("shop").await);
    env.event("shop", "AddressAssigned", &first[0]).await;
    env.cloud.behave(|habits| habits.delay = std::time::Duration::ZERO);
    env.cloud.answers(Answer::Public);
    let second = env
        .cluster
        .wait(&env.gateways(), "shop", "elsewhere", SOON, |gateway| {
            !addresses(gateway).is_empty() && addresses(gateway) != first
        })
        .await;
    env.event("shop", "AddressAssigned", &addresses(&second)[0]).await;
    env.cloud.answers(Answer::Nothing);
    env.wait("shop", "Programmed", "False", "AddressPending").await;
    // What the cloud says of it is passed on, in time.
    env.cloud
        .answers(Answer::Failure("the quota for addresses is 5".to_owned()));
    let pending = eventually("the cloud's words", 2 * SOON, || async {
        let gateway = env.gateways().get("shop").await.ok()?;
        message(&gateway, "Programmed")
            .contains("the quota for addresses is 5")
            .then_some(gateway)
    })
    .await;
    assert!(addresses(&pending).is_empty());
    env.cloud.answers(Answer::Private);
    env.programmed("shop").await;
}

#[tokio::test]
async fn kubectl_shows_what_matters_in_columns() {
    let (env, _operator) = GatewayEnvironment::open("columns", Habits::of(Answer::Private)).await;
    env.gateway("shop-api", &shop_api()).await;
    let gateway = env.programmed("shop-api").await;
    let shown = env
        .test_cluster
        .plane
        .kubectl(&["get", "ghgw", "-n", &env.namespace])
        .unwrap();
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0],
        ["NAME", "SCOPE", "ADDRESS", "ACCEPTED", "PROGRAMMED", "VERIFIED", "AGE"]
    );
    assert_eq!(
        lines[1][..6],
        ["shop-api", "Internal", &addresses(&gateway)[0], "True", "True", "True"]
    );
    let wide = env
        .test_cluster
        .plane
        .kubectl(&["get", "ghgw", "-n", &env.namespace, "-o", "wide"])
        .unwrap();
    assert!(
        wide.contains("GKE") && wide.contains("shop-api-internal-load-balancer"),
        "{wide}"
    );
}
