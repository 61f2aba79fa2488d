//! Services of a Gateway when it is edited, recreated, deleted, or meets a Service of another owner.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "test code: to panic is how it reports, and a scenario is read from top to bottom"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use gatehouse_tests::GatewayEnvironment;
use gatehouse_tests::cloud::{self, Answer, Habits};
use gatehouse_tests::gateway_environment::{SOON, addresses, message, reason};
use gatehouse_tests::managed::owned_by;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

const ADOPT: &str = "gatehouse.dev/adopt";
const RECREATE: &str = "gatehouse.dev/recreate";

fn spec(service: Value, listeners: Value) -> Value {
    json!({"service": service, "target": {"selector": {"app": "shop"}}, "listeners": listeners})
}

fn http() -> Value {
    json!([{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}])
}

/// A Service of another owner.
async fn foreign(env: &GatewayEnvironment, name: &str) -> Service {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {"theirs.test/note": "ours"}, "labels": {"team": "legacy"}},
        "spec": {"type": "LoadBalancer", "selector": {"app": "legacy"},
            "ports": [{"name": "old", "port": 8443, "targetPort": 8443}]},
    }))
    .unwrap();
    let params = PostParams {
        field_manager: Some("helm".to_owned()),
        ..PostParams::default()
    };
    env.services().create(&params, &service).await.unwrap()
}

fn node_ports(service: &Service) -> BTreeMap<String, i32> {
    let ports = service.spec.clone().unwrap().ports.unwrap();
    ports
        .into_iter()
        .map(|port| (port.name.unwrap(), port.node_port.unwrap()))
        .collect()
}

#[tokio::test]
async fn a_service_of_the_same_name_is_left_alone_until_its_owner_consents() {
    let (env, _operator) = GatewayEnvironment::open("foreign", Habits::of(Answer::Private)).await;
    foreign(&env, "shop").await;
    let mine = env
        .cluster
        .wait(&env.services(), "shop", "served", SOON, |service| {
            service.status.as_ref().is_some_and(|status| {
                status
                    .load_balancer
                    .as_ref()
                    .is_some_and(|balancer| balancer.ingress.is_some())
            })
        })
        .await;
    env.gateway("shop", &spec(json!({"provider": "GKE"}), http())).await;
    let gateway = env.wait("shop", "Accepted", "False", "ServiceConflict").await;
    let words = message(&gateway, "Accepted");
    assert!(words.contains("Service shop") && words.contains(ADOPT), "{words}");
    assert!(addresses(&gateway).is_empty());
    // Edits do not tempt it, nor does another consent.
    env.gateway("shop", &spec(json!({"provider": "GKE", "labels": {"a": "b"}}), http()))
        .await;
    env.wait("shop", "Accepted", "False", "ServiceConflict").await;
    env.annotate("shop", RECREATE, "2").await;
    env.quiet(Duration::from_secs(2)).await;
    let still = env.service("shop").await;
    assert_eq!(still.resource_version(), mine.resource_version(), "never written");

    // Another name goes round it.
    env.gateway("shop", &spec(json!({"provider": "GKE", "name": "shop-two"}), http()))
        .await;
    env.programmed("shop").await;
    env.gateway("other", &spec(json!({"provider": "GKE", "name": "shop"}), http()))
        .await;
    env.wait("other", "Accepted", "False", "ServiceConflict").await;

    let consent = json!({"metadata": {"annotations": {ADOPT: "true"}}});
    env.patch(&env.services(), "shop", &consent).await;
    env.programmed("other").await;
    env.wait("other", "Accepted", "True", "Accepted").await;
    let taken = env.service("shop").await;
    assert_eq!(taken.uid(), mine.uid());
    assert_eq!(taken.owner_references()[0].name, "other");
    assert_eq!(taken.annotations()["theirs.test/note"], "ours");
    assert_eq!(taken.status, mine.status, "it keeps its address");
    let selector = taken.spec.clone().unwrap().selector.unwrap();
    assert_eq!(json!(selector), json!({"app": "shop"}));
}

#[tokio::test]
async fn all_that_was_made_goes_with_the_gateway() {
    let mut habits = Habits::of(Answer::Private);
    habits.cleanup = Duration::from_secs(2);
    let (env, _operator) = GatewayEnvironment::open("gone", habits).await;
    let mut whole = spec(json!({"provider": "GKE"}), http());
    whole["networkPolicy"] = json!({"enabled": true});
    env.gateway("shop", &whole).await;
    env.programmed("shop").await;
    let policies = env
        .cluster
        .api::<k8s_openapi::api::networking::v1::NetworkPolicy>(&env.namespace);
    assert!(policies.get_opt("gatehouse-shop").await.unwrap().is_some());
    env.gateways().delete("shop", &DeleteParams::default()).await.unwrap();
    env.cluster.wait_gone(&env.services(), "shop", SOON).await;
    env.cluster.wait_gone(&policies, "gatehouse-shop", SOON).await;
    // The cloud had its time.
    let last = env.cloud.versions_of("shop");
    assert!(
        last.iter()
            .any(|version| version.service.metadata.deletion_timestamp.is_some())
    );
    env.quiet(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn edits_of_listeners_keep_node_ports_and_what_others_wrote() {
    let (env, _operator) = GatewayEnvironment::open("edits", Habits::of(Answer::Private)).await;
    let listener = |name: &str, port: i32, target: Value| json!({"name": name, "port": port, "protocol": "TCP", "targetPort": target});
    let with = |listeners: Vec<Value>| spec(json!({"provider": "GKE"}), json!(listeners));
    env.gateway("shop", &with(vec![listener("http", 80, json!(8080))]))
        .await;
    env.programmed("shop").await;
    let first = env.service("shop").await;
    let kept = node_ports(&first)["http"];
    let now = async |what: &str, wanted: &[(&str, i32)]| -> Service {
        let wanted: BTreeMap<String, i32> = wanted.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect();
        let service = env
            .cluster
            .wait(&env.services(), "shop", what, SOON, |service| {
                let ports = service.spec.clone().unwrap_or_default().ports.unwrap_or_default();
                let there: BTreeMap<String, i32> = ports
                    .into_iter()
                    .map(|port| (port.name.unwrap_or_default(), port.port))
                    .collect();
                there == wanted
            })
            .await;
        assert_eq!(service.uid(), first.uid(), "{what}");
        assert!(service.annotations().contains_key(cloud::ANNOTATION), "{what}");
        assert_eq!(
            owned_by(&service, cloud::MANAGER),
            owned_by(&first, cloud::MANAGER),
            "{what}"
        );
        service
    };
    env.gateway("shop", &with(vec![listener("http", 80, json!("web"))]))
        .await;
    let service = env
        .cluster
        .wait(&env.services(), "shop", "retargeted", SOON, |service| {
            json!(service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].target_port) == json!("web")
        })
        .await;
    assert_eq!(node_ports(&service)["http"], kept, "another target");

    let more = vec![listener("http", 80, json!("web")), listener("admin", 81, json!(9000))];
    env.gateway("shop", &with(more)).await;
    let service = now("one more", &[("http", 80), ("admin", 81)]).await;
    assert_eq!(node_ports(&service)["http"], kept, "one more");
    let admin = node_ports(&service)["admin"];

    let moved = vec![listener("http", 8080, json!("web")), listener("admin", 81, json!(9000))];
    env.gateway("shop", &with(moved)).await;
    let service = now("another port", &[("http", 8080), ("admin", 81)]).await;
    assert_eq!(
        node_ports(&service),
        BTreeMap::from([("http".to_owned(), kept), ("admin".to_owned(), admin)])
    );

    let renamed = vec![
        listener("plain", 8080, json!("web")),
        listener("admin", 81, json!(9000)),
    ];
    env.gateway("shop", &with(renamed)).await;
    let service = now("another name", &[("plain", 8080), ("admin", 81)]).await;
    assert_eq!(
        node_ports(&service)["plain"],
        kept,
        "a port keeps what it has by its number"
    );

    let swapped = vec![
        listener("plain", 81, json!("web")),
        listener("admin", 8080, json!(9000)),
    ];
    env.gateway("shop", &with(swapped)).await;
    let service = now("changed places", &[("plain", 81), ("admin", 8080)]).await;
    let ports: Vec<i32> = node_ports(&service).into_values().collect();
    assert!(ports.contains(&kept) && ports.contains(&admin), "{ports:?}");

    env.gateway("shop", &with(vec![listener("admin", 8080, json!(9000))]))
        .await;
    now("one less", &[("admin", 8080)]).await;
    // By the user's setting, and back to the present provider.
    let asked = |port: i32| {
        spec(
            json!({"provider": "GKE", "nodePorts": {"admin": port}}),
            json!([listener("admin", 8080, json!(9000))]),
        )
    };
    env.gateway("shop", &asked(31999)).await;
    env.cluster
        .wait(&env.services(), "shop", "at 31999", SOON, |service| {
            node_ports(service)["admin"] == 31999
        })
        .await;
    env.gateway("shop", &with(vec![listener("admin", 8080, json!(9000))]))
        .await;
    env.programmed("shop").await;
    env.quiet(Duration::from_secs(2)).await;
    assert_eq!(node_ports(&env.service("shop").await)["admin"], 31999);
}

#[tokio::test]
async fn what_is_read_at_creation_only_is_changed_by_a_second_service_after_consent() {
    let mut habits = Habits::of(Answer::Private);
    habits.delay = Duration::from_millis(1500);
    let (env, _operator) = GatewayEnvironment::open("again", habits).await;
    let of_class = |class: &str| spec(json!({"provider": "Other", "loadBalancerClass": class}), http());
    env.gateway("shop", &of_class("a.test/one")).await;
    let first = addresses(&env.programmed("shop").await);
    let before = env.service("shop").await;

    let generation = env.gateway("shop", &of_class("a.test/two")).await;
    let gateway = env.wait("shop", "Programmed", "False", "RecreateRequired").await;
    let words = message(&gateway, "Programmed");
    for word in [
        "loadBalancerClass",
        "a.test/one",
        "a.test/two",
        &format!("{RECREATE}={generation}"),
    ] {
        assert!(words.contains(word), "{word}: {words}");
    }
    assert_eq!(addresses(&gateway), first, "clients still have where to go");
    let same = env.service("shop").await;
    assert_eq!(same.spec, before.spec, "nothing was changed in place");
    // A consent to another generation is none.
    env.annotate("shop", RECREATE, &(generation - 1).to_string()).await;
    env.annotate("shop", RECREATE, "please").await;
    env.quiet(Duration::from_secs(2)).await;
    assert_eq!(env.service("shop").await.uid(), before.uid());
    assert_eq!(env.cloud.there().len(), 1);

    env.annotate("shop", RECREATE, &generation.to_string()).await;
    env.cluster.wait_gone(&env.services(), "shop", SOON).await;
    let gateway = env.programmed("shop").await;
    let second = env.service("shop-2").await;
    assert_eq!(
        second.spec.clone().unwrap().load_balancer_class.as_deref(),
        Some("a.test/two")
    );
    assert_eq!(gateway.status.clone().unwrap().service_name.as_deref(), Some("shop-2"));
    assert_ne!(addresses(&gateway), first);
    // The first went only when the second had its address.
    let versions = env.cloud.versions();
    let addressed = versions.iter().position(|version| {
        version.service.name_any() == "shop-2"
            && version.service.status.as_ref().is_some_and(|status| {
                status
                    .load_balancer
                    .as_ref()
                    .is_some_and(|balancer| balancer.ingress.is_some())
            })
    });
    let leaving = versions.iter().position(|version| {
        version.service.name_any() == "shop"
            && (version.deleted || version.service.metadata.deletion_timestamp.is_some())
    });
    assert!(addressed.unwrap() < leaving.unwrap(), "{addressed:?} {leaving:?}");

    // The consent was used: the same change again asks again.
    env.gateway("shop", &of_class("a.test/one")).await;
    env.wait("shop", "Programmed", "False", "RecreateRequired").await;
    env.gateway("shop", &of_class("a.test/two")).await;
    env.programmed("shop").await;
    env.quiet(Duration::from_secs(2)).await;
    assert_eq!(env.cloud.there().len(), 1);
    assert_eq!(env.service("shop-2").await.uid(), second.uid());
}

#[tokio::test]
async fn a_service_whose_name_is_the_users_is_deleted_and_made_anew_once() {
    let mut habits = Habits::of(Answer::Private);
    habits.cleanup = Duration::from_secs(2);
    let (env, _operator) = GatewayEnvironment::open("fixed", habits).await;
    let of_class = |class: &str| {
        spec(
            json!({"provider": "Other", "name": "front", "loadBalancerClass": class}),
            http(),
        )
    };
    env.gateway("shop", &of_class("a.test/one")).await;
    env.programmed("shop").await;
    let before = env.service("front").await;
    let generation = env.gateway("shop", &of_class("a.test/two")).await;
    env.wait("shop", "Programmed", "False", "RecreateRequired").await;
    env.annotate("shop", RECREATE, &generation.to_string()).await;
    let after = env
        .cluster
        .wait(&env.services(), "front", "made again", SOON, |service| {
            service.uid() != before.uid()
        })
        .await;
    assert_eq!(after.spec.unwrap().load_balancer_class.as_deref(), Some("a.test/two"));
    env.programmed("shop").await;
    env.quiet(Duration::from_secs(2)).await;
    let uids: std::collections::BTreeSet<_> = env
        .cloud
        .versions()
        .iter()
        .map(|version| version.service.uid())
        .collect();
    assert_eq!(uids.len(), 2, "once");
    assert_eq!(env.service("front").await.uid(), after.metadata.uid);
    let names: Vec<_> = env.cloud.there().iter().map(kube::ResourceExt::name_any).collect();
    assert_eq!(names, ["front"]);
    // To take the name away, or to give one, is such a change, too.
    let free = spec(json!({"provider": "Other", "loadBalancerClass": "a.test/two"}), http());
    env.gateway("shop", &free).await;
    env.programmed("shop").await;
    let renamed = spec(
        json!({"provider": "Other", "name": "back", "loadBalancerClass": "a.test/two"}),
        http(),
    );
    let generation = env.gateway("shop", &renamed).await;
    let gateway = env.wait("shop", "Programmed", "False", "RecreateRequired").await;
    assert!(message(&gateway, "Programmed").contains("now front, wanted back"));
    env.annotate("shop", RECREATE, &generation.to_string()).await;
    env.cluster.wait_gone(&env.services(), "front", SOON).await;
    env.programmed("shop").await;
    assert_eq!(
        reason(&env.wait("shop", "Accepted", "True", "Accepted").await, "Programmed"),
        "Programmed"
    );
    env.service("back").await;
}
