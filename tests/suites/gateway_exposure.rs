//! An Internal Gateway is never public: what would make it so is refused, and what turns out otherwise is reported and, on request,
//! taken away.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "test code: to panic is how it reports, and a scenario is read from top to bottom"
)]

use std::time::Duration;

use gatehouse_crds::gateway::Provider;
use gatehouse_tests::GatewayEnvironment;
use gatehouse_tests::cloud::{Answer, Habits};
use gatehouse_tests::gateway_environment::{SOON, addresses, message, reason};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};

fn internal(service: Value) -> Value {
    let mut spec = json!({
        "service": {"scope": "Internal"},
        "target": {"selector": {"app": "shop"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
    });
    let service: Value = service;
    spec["service"]
        .as_object_mut()
        .unwrap()
        .extend(service.as_object().unwrap().clone());
    spec
}

#[tokio::test]
async fn a_public_address_of_an_internal_gateway_is_told_and_so_is_its_end() {
    let (env, _operator) = GatewayEnvironment::open("mismatch", Habits::of(Answer::Public)).await;
    env.gateway("shop", &internal(json!({"provider": "GKE"}))).await;
    let gateway = env.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    let public = addresses(&gateway)[0].clone();
    assert!(public.starts_with("203.0.113."));
    assert!(message(&gateway, "ExposureVerified").contains(&public));
    env.event("shop", "ExposureMismatch", &public).await;
    // Alert is the default: the Service stays.
    assert_eq!(
        env.service("shop").await.spec.unwrap().type_.as_deref(),
        Some("LoadBalancer")
    );
    env.cloud.answers(Answer::Private);
    env.wait("shop", "ExposureVerified", "True", "Internal").await;
    // It is checked whenever it changes.
    env.cloud.answers(Answer::Public);
    env.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    // That it is gone is no answer to whether the next is private.
    env.cloud.answers(Answer::Nothing);
    env.waits_to_say("shop", "ExposureVerified", "Unknown since").await;
    env.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    // Names: those that are internal by themselves, and unknown ones.
    env.cloud
        .answers(Answer::Name("internal-a1-1.eu-west-1.elb.amazonaws.com".to_owned()));
    env.wait("shop", "ExposureVerified", "True", "Internal").await;
    env.cloud.answers(Answer::Name("absent.knows.invalid".to_owned()));
    let gateway = env.wait("shop", "ExposureVerified", "Unknown", "NotVerified").await;
    assert!(message(&gateway, "ExposureVerified").contains("absent.knows.invalid"));
    // An External one may have any.
    env.gateway(
        "open",
        &json!({"service": {"provider": "GKE"}, "target": {"selector": {"app": "shop"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
    )
    .await;
    env.cloud.answers_for("open", Answer::Public);
    env.programmed("open").await;
    env.wait("open", "ExposureVerified", "True", "External").await;
}

#[tokio::test]
async fn withdraw_takes_a_public_address_away_at_once_and_an_edit_tries_again() {
    let (env, _operator) = GatewayEnvironment::open("withdraw", Habits::of(Answer::Public)).await;
    let asked = internal(json!({"provider": "GKE", "onMismatch": "Withdraw"}));
    env.gateway("shop", &asked).await;
    let withdrawn = env
        .cluster
        .wait(&env.services(), "shop", "a ClusterIP", SOON, |service| {
            let given = service
                .status
                .as_ref()
                .and_then(|status| status.load_balancer.as_ref()?.ingress.clone());
            service.spec.as_ref().unwrap().type_.as_deref() == Some("ClusterIP") && given.unwrap_or_default().is_empty()
        })
        .await;
    let gateway = env.wait("shop", "Programmed", "False", "Withdrawn").await;
    assert_eq!(reason(&gateway, "ExposureVerified"), "ExposureMismatch");
    assert!(addresses(&gateway).is_empty());
    env.event("shop", "ExposureMismatch", "taken away").await;
    // It does not come and go.
    env.quiet(Duration::from_secs(3)).await;
    assert_eq!(
        env.service("shop").await.spec.unwrap().type_.as_deref(),
        Some("ClusterIP")
    );
    let turns = env.cloud.versions_of("shop");
    let types: Vec<_> = turns
        .iter()
        .map(|version| version.service.spec.clone().unwrap().type_.unwrap())
        .collect();
    let mut changes = types.clone();
    changes.dedup();
    assert_eq!(changes, ["LoadBalancer", "ClusterIP"]);
    // The cloud is fixed; an edit tries again.
    env.cloud.answers(Answer::AsTold(Provider::Gke));
    let mut fixed = asked.clone();
    fixed["service"]["labels"] = json!({"fixed": "yes"});
    env.gateway("shop", &fixed).await;
    let gateway = env.programmed("shop").await;
    assert!(addresses(&gateway)[0].starts_with("10."), "{:?}", addresses(&gateway));
    env.wait("shop", "ExposureVerified", "True", "Internal").await;
    assert_eq!(env.service("shop").await.uid(), withdrawn.uid(), "the same Service");
}

#[tokio::test]
async fn what_could_become_public_is_not_made() {
    let (env, _operator) = GatewayEnvironment::open("refused", Habits::of(Answer::Public)).await;
    let refused = async |name: &str, service: Value, why: &str, words: &str| {
        env.gateway(name, &internal(service)).await;
        let gateway = env.wait(name, "Accepted", "False", why).await;
        let said = message(&gateway, "Accepted");
        assert!(said.contains(words), "{name}: {said}");
        env.wait(name, "Programmed", "False", "NotAccepted").await;
        assert!(addresses(&gateway).is_empty());
    };
    // The cluster's cloud is unknown.
    refused("unknown", json!({}), "UnknownProvider", "spec.service.provider").await;
    refused("other", json!({"provider": "Other"}), "UnknownProvider", "provider").await;
    refused(
        "conflict",
        json!({"provider": "GKE", "annotations": {"networking.gke.io/load-balancer-type": "External"}}),
        "ConflictingAnnotation",
        "networking.gke.io/load-balancer-type",
    )
    .await;
    refused(
        "aws",
        json!({"provider": "AWSLoadBalancerController",
            "annotations": {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internet-facing"}}),
        "ConflictingAnnotation",
        "aws-load-balancer-scheme",
    )
    .await;
    env.quiet(Duration::from_secs(2)).await;
    assert!(env.cloud.versions().is_empty(), "{:?}", env.cloud.versions());
    // What there is already stays as it was when an edit would make it public.
    env.gateway("edited", &internal(json!({"provider": "GKE"}))).await;
    env.cloud.answers(Answer::AsTold(Provider::Gke));
    let before = addresses(&env.programmed("edited").await);
    let worse = json!({"provider": "GKE", "annotations": {"networking.gke.io/load-balancer-type": "External"}});
    env.gateway("edited", &internal(worse)).await;
    let gateway = env.wait("edited", "Accepted", "False", "ConflictingAnnotation").await;
    assert_eq!(addresses(&gateway), before);
    let service = env.service("edited").await;
    assert_eq!(
        service.annotations()["networking.gke.io/load-balancer-type"],
        "Internal"
    );
    env.event(
        "edited",
        "ConflictingAnnotation",
        "networking.gke.io/load-balancer-type",
    )
    .await;
    // External on an unknown cloud is as everywhere else.
    env.gateway(
        "open",
        &json!({"target": {"selector": {"app": "shop"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
    )
    .await;
    env.programmed("open").await;
}

#[tokio::test]
async fn only_an_answer_ends_an_exposure_and_a_restart_is_none() {
    let (env, operator) = GatewayEnvironment::open("unknown", Habits::of(Answer::Public)).await;
    env.gateway("shop", &internal(json!({"provider": "GKE"}))).await;
    let first = env.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    let since = |gateway: &gatehouse_crds::gateway::Gateway| {
        let conditions = gateway.status.clone().unwrap().conditions;
        let verified = conditions
            .into_iter()
            .find(|condition| condition.type_ == "ExposureVerified");
        verified.unwrap().last_transition_time
    };
    // A name that cannot be looked up.
    env.cloud.answers(Answer::Name("absent.knows.invalid".to_owned()));
    env.waits_to_say("shop", "ExposureVerified", "Unknown since").await;
    let unknown = env.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    assert_eq!(since(&unknown), since(&first));
    let words = message(&unknown, "ExposureVerified");
    assert!(
        words.contains("203.0.113.") && words.contains("absent.knows.invalid"),
        "{words}"
    );
    drop(operator);
    let _operator = env.operator().await;
    env.quiet(Duration::from_secs(3)).await;
    let restarted = env.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    assert_eq!(since(&restarted), since(&first));
    env.cloud.answers(Answer::Private);
    env.wait("shop", "ExposureVerified", "True", "Internal").await;
}

#[tokio::test]
async fn an_internal_gateway_is_kept_private_while_its_spec_is_not_accepted() {
    const SWITCH: &str = "networking.gke.io/load-balancer-type";
    let (env, _operator) = GatewayEnvironment::open("unaccepted", Habits::of(Answer::AsTold(Provider::Gke))).await;
    env.gateway("shop", &internal(json!({"provider": "GKE"}))).await;
    env.programmed("shop").await;
    let bad = json!({"provider": "GKE", "annotations": {SWITCH: "External"}});
    env.gateway("shop", &internal(bad.clone())).await;
    env.wait("shop", "Accepted", "False", "ConflictingAnnotation").await;
    // Another client removes the switch.
    let taken = json!({"metadata": {"annotations": {SWITCH: null}}});
    env.patch(&env.services(), "shop", &taken).await;
    env.cluster
        .wait(&env.services(), "shop", "internal again", SOON, |service| {
            service
                .annotations()
                .get(SWITCH)
                .is_some_and(|value| value == "Internal")
        })
        .await;
    // And sends the traffic elsewhere.
    let before = env.services().get("shop").await.unwrap().spec.unwrap().selector;
    let elsewhere = json!({"spec": {"selector": {"app": "elsewhere"}}});
    env.patch(&env.services(), "shop", &elsewhere).await;
    env.cluster
        .wait(&env.services(), "shop", "its own selector again", SOON, |service| {
            service.spec.as_ref().unwrap().selector == before
        })
        .await;
    // And deletes it.
    let gone = env.services().get("shop").await.unwrap().uid();
    let now = kube::api::DeleteParams::default();
    env.services().delete("shop", &now).await.unwrap();
    env.cluster
        .wait(&env.services(), "shop", "made again as it was", SOON, |service| {
            let is_internal = service
                .annotations()
                .get(SWITCH)
                .is_some_and(|value| value == "Internal");
            is_internal && service.uid() != gone && service.spec.as_ref().unwrap().selector == before
        })
        .await;
    env.wait("shop", "Accepted", "False", "ConflictingAnnotation").await;
    env.wait("shop", "ExposureVerified", "True", "Internal").await;
    // It becomes public all the same: reported, and withdrawn where the spec says so.
    env.cloud.answers(Answer::Public);
    env.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    let mut withdraw = bad;
    withdraw["onMismatch"] = "Withdraw".into();
    env.gateway("shop", &internal(withdraw)).await;
    env.cluster
        .wait(&env.services(), "shop", "a ClusterIP", SOON, |service| {
            service.spec.as_ref().unwrap().type_.as_deref() == Some("ClusterIP")
        })
        .await;
    env.wait("shop", "Accepted", "False", "ConflictingAnnotation").await;
    env.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
}

#[tokio::test]
async fn node_ports_of_an_internal_load_balancer_are_none_or_judged() {
    let (env, _operator) = GatewayEnvironment::open("nodeports", Habits::of(Answer::Private)).await;
    let node = format!("{}-public", env.namespace);
    env.node(
        &node,
        None,
        &[("InternalIP", "10.0.8.1"), ("ExternalIP", "203.0.113.77")],
    )
    .await;
    // GKE does without.
    env.gateway("without", &internal(json!({"provider": "GKE"}))).await;
    env.programmed("without").await;
    env.wait("without", "ExposureVerified", "True", "Internal").await;
    let spec = env.service("without").await.spec.unwrap();
    assert_eq!(spec.allocate_load_balancer_node_ports, Some(false));
    assert!(spec.ports.unwrap().iter().all(|port| port.node_port.is_none()));
    // AKS does not.
    env.gateway("with", &internal(json!({"provider": "AKS"}))).await;
    let with = env.wait("with", "ExposureVerified", "False", "ExposureMismatch").await;
    let words = message(&with, "ExposureVerified");
    assert!(words.contains("203.0.113.77") && words.contains(&node), "{words}");
    let nodes: Api<Node> = Api::all(env.cluster.client());
    nodes.delete(&node, &DeleteParams::default()).await.unwrap();
    env.wait("with", "ExposureVerified", "True", "Internal").await;
    // Others' addresses on a Service count, too.
    let more = json!({"spec": {"externalIPs": ["198.51.100.9"]}});
    env.patch(&env.services(), "without", &more).await;
    let gateway = env
        .wait("without", "ExposureVerified", "False", "ExposureMismatch")
        .await;
    assert!(message(&gateway, "ExposureVerified").contains("198.51.100.9"));
}
