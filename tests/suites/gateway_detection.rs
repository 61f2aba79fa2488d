//! Whose load balancer a Gateway gets is found out, asked or waited for, and never guessed where that could make it public.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "test code: to panic is how it reports, and a scenario is read from top to bottom"
)]

use std::time::Duration;

use gatehouse_crds::gateway::Provider;
use gatehouse_tests::GatewayEnvironment;
use gatehouse_tests::cloud::{Answer, Habits, Version};
use gatehouse_tests::gate::Reply;
use gatehouse_tests::gateway_environment::message;
use http::Method;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

#[allow(clippy::needless_pass_by_value, reason = "made in place by json!")]
fn spec(service: Value) -> Value {
    json!({"service": service, "target": {"selector": {"app": "shop"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}]})
}

/// Nodes belong to the whole cluster: one test, one cluster.
#[tokio::test]
async fn a_provider_is_detected_asked_for_or_waited_for() {
    let (env, operator) = GatewayEnvironment::open("detection", Habits::of(Answer::Private)).await;
    let nodes: Api<Node> = Api::all(env.cluster.client());

    // Several clouds say openstack://: never decided for Internal, whatever was decided for External.
    env.node(
        "openstack-one",
        Some("openstack:///0b1c"),
        &[("InternalIP", "10.0.9.1")],
    )
    .await;
    env.gateway("open", &spec(json!({}))).await;
    let open = env.programmed("open").await;
    assert_eq!(open.status.unwrap().provider, Some(Provider::OpenStack));
    env.gateway("inside", &spec(json!({"scope": "Internal"}))).await;
    let inside = env.wait("inside", "Accepted", "False", "UnknownProvider").await;
    let words = message(&inside, "Accepted");
    assert!(
        words.contains("openstack://")
            && words.contains("spec.service.provider")
            && words.contains("OpenStack or OVHcloud or STACKIT"),
        "{words}"
    );
    env.gateway("open", &spec(json!({"scope": "Internal"}))).await;
    env.wait("open", "Accepted", "False", "UnknownProvider").await;
    env.quiet(Duration::from_secs(2)).await;
    assert!(
        env.cloud.versions_of("inside").is_empty(),
        "nothing is made that might be public"
    );
    env.gateway("inside", &spec(json!({"scope": "Internal", "provider": "STACKIT"})))
        .await;
    env.programmed("inside").await;
    let service = env.service("inside").await;
    assert_eq!(service.annotations()["lb.stackit.cloud/internal-lb"], "true");
    drop(operator);
    nodes.delete("openstack-one", &DeleteParams::default()).await.unwrap();

    // The nodes cannot be read: nothing is made of not knowing, and nothing is left of it.
    env.node("gke-one", Some("gce://project/zone/one"), &[]).await;
    let failed = Reply {
        status: 500,
        headers: Vec::new(),
        body: String::new(),
    };
    env.gate.answer(Method::GET, "/api/v1/nodes", 2, failed);
    let operator = env.operator().await;
    env.gateway("late", &spec(json!({}))).await;
    let late = env.programmed("late").await;
    assert_eq!(late.status.unwrap().provider, Some(Provider::Gke));
    let labels = |versions: Vec<Version>| -> Vec<String> {
        let label = |version: &Version| version.service.labels().get("gatehouse.dev/provider").cloned();
        versions.iter().filter_map(label).collect()
    };
    let seen = labels(env.cloud.versions_of("late"));
    assert!(!seen.is_empty() && seen.iter().all(|label| label == "GKE"), "{seen:?}");
    nodes.delete("gke-one", &DeleteParams::default()).await.unwrap();

    // A node that its cloud has not initialized: soon it will say whose it is.
    let joining = json!({"metadata": {"name": "joining"}, "spec": {"taints": [
        {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}]}});
    nodes
        .create(
            &kube::api::PostParams::default(),
            &serde_json::from_value(joining).unwrap(),
        )
        .await
        .unwrap();
    env.gateway("joined", &spec(json!({"scope": "Internal"}))).await;
    env.wait("joined", "Accepted", "False", "DetectingProvider").await;
    let initialized = json!({"spec": {"providerID": "gce://project/zone/joining", "taints": null}});
    nodes
        .patch("joining", &PatchParams::default(), &Patch::Merge(&initialized))
        .await
        .unwrap();
    let joined = env.programmed("joined").await;
    assert_eq!(joined.status.unwrap().provider, Some(Provider::Gke));
    drop(operator);
}
