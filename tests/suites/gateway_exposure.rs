//! An Internal Gateway is never public: what would make it so is refused, and what turns out otherwise is told and, when so asked,
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
use gatehouse_tests::Site;
use gatehouse_tests::cloud::{Answer, Habits};
use gatehouse_tests::site::{SOON, addresses, message, reason};
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
    let (site, _operator) = Site::open("mismatch", Habits::of(Answer::Public)).await;
    site.gateway("shop", &internal(json!({"provider": "GKE"}))).await;
    let gateway = site.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    let public = addresses(&gateway)[0].clone();
    assert!(public.starts_with("203.0.113."));
    assert!(message(&gateway, "ExposureVerified").contains(&public));
    site.event("shop", "ExposureMismatch", &public).await;
    // Alert is the default: the Service stays.
    assert_eq!(
        site.service("shop").await.spec.unwrap().type_.as_deref(),
        Some("LoadBalancer")
    );
    site.cloud.answers(Answer::Private);
    site.wait("shop", "ExposureVerified", "True", "Internal").await;
    // It is checked whenever it changes.
    site.cloud.answers(Answer::Public);
    site.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    // That it is gone is no answer to whether the next is private.
    site.cloud.answers(Answer::Nothing);
    site.waits_to_say("shop", "ExposureVerified", "Unknown since").await;
    site.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    // Names: those that say so themselves, and those that nobody knows.
    site.cloud
        .answers(Answer::Name("internal-a1-1.eu-west-1.elb.amazonaws.com".to_owned()));
    site.wait("shop", "ExposureVerified", "True", "Internal").await;
    site.cloud.answers(Answer::Name("nobody.knows.invalid".to_owned()));
    let gateway = site.wait("shop", "ExposureVerified", "Unknown", "NotVerified").await;
    assert!(message(&gateway, "ExposureVerified").contains("nobody.knows.invalid"));
    // An External one may have any.
    site.gateway(
        "open",
        &json!({"service": {"provider": "GKE"}, "target": {"selector": {"app": "shop"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
    )
    .await;
    site.cloud.answers_for("open", Answer::Public);
    site.programmed("open").await;
    site.wait("open", "ExposureVerified", "True", "External").await;
}

#[tokio::test]
async fn withdraw_takes_a_public_address_away_at_once_and_an_edit_tries_again() {
    let (site, _operator) = Site::open("withdraw", Habits::of(Answer::Public)).await;
    let asked = internal(json!({"provider": "GKE", "onMismatch": "Withdraw"}));
    site.gateway("shop", &asked).await;
    let withdrawn = site
        .cluster
        .wait(&site.services(), "shop", "a ClusterIP", SOON, |service| {
            let given = service
                .status
                .as_ref()
                .and_then(|status| status.load_balancer.as_ref()?.ingress.clone());
            service.spec.as_ref().unwrap().type_.as_deref() == Some("ClusterIP") && given.unwrap_or_default().is_empty()
        })
        .await;
    let gateway = site.wait("shop", "Programmed", "False", "Withdrawn").await;
    assert_eq!(reason(&gateway, "ExposureVerified"), "ExposureMismatch");
    assert!(addresses(&gateway).is_empty());
    site.event("shop", "ExposureMismatch", "taken away").await;
    // It does not come and go.
    site.quiet(Duration::from_secs(3)).await;
    assert_eq!(
        site.service("shop").await.spec.unwrap().type_.as_deref(),
        Some("ClusterIP")
    );
    let turns = site.cloud.versions_of("shop");
    let types: Vec<_> = turns
        .iter()
        .map(|version| version.service.spec.clone().unwrap().type_.unwrap())
        .collect();
    let mut changes = types.clone();
    changes.dedup();
    assert_eq!(changes, ["LoadBalancer", "ClusterIP"]);
    // The cloud is mended; an edit tries again.
    site.cloud.answers(Answer::AsTold(Provider::Gke));
    let mut mended = asked.clone();
    mended["service"]["labels"] = json!({"mended": "yes"});
    site.gateway("shop", &mended).await;
    let gateway = site.programmed("shop").await;
    assert!(addresses(&gateway)[0].starts_with("10."), "{:?}", addresses(&gateway));
    site.wait("shop", "ExposureVerified", "True", "Internal").await;
    assert_eq!(site.service("shop").await.uid(), withdrawn.uid(), "the same Service");
}

#[tokio::test]
async fn what_could_become_public_is_not_made() {
    let (site, _operator) = Site::open("refused", Habits::of(Answer::Public)).await;
    let refused = async |name: &str, service: Value, why: &str, words: &str| {
        site.gateway(name, &internal(service)).await;
        let gateway = site.wait(name, "Accepted", "False", why).await;
        let said = message(&gateway, "Accepted");
        assert!(said.contains(words), "{name}: {said}");
        site.wait(name, "Programmed", "False", "NotAccepted").await;
        assert!(addresses(&gateway).is_empty());
    };
    // Nobody knows whose cluster this is.
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
    site.quiet(Duration::from_secs(2)).await;
    assert!(site.cloud.versions().is_empty(), "{:?}", site.cloud.versions());
    // What there is already stays as it was when an edit would make it public.
    site.gateway("edited", &internal(json!({"provider": "GKE"}))).await;
    site.cloud.answers(Answer::AsTold(Provider::Gke));
    let before = addresses(&site.programmed("edited").await);
    let worse = json!({"provider": "GKE", "annotations": {"networking.gke.io/load-balancer-type": "External"}});
    site.gateway("edited", &internal(worse)).await;
    let gateway = site.wait("edited", "Accepted", "False", "ConflictingAnnotation").await;
    assert_eq!(addresses(&gateway), before);
    let service = site.service("edited").await;
    assert_eq!(
        service.annotations()["networking.gke.io/load-balancer-type"],
        "Internal"
    );
    site.event(
        "edited",
        "ConflictingAnnotation",
        "networking.gke.io/load-balancer-type",
    )
    .await;
    // External to somebody unknown is as everywhere else.
    site.gateway(
        "open",
        &json!({"target": {"selector": {"app": "shop"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
    )
    .await;
    site.programmed("open").await;
}

#[tokio::test]
async fn only_an_answer_ends_an_exposure_and_a_restart_is_none() {
    let (site, operator) = Site::open("unknown", Habits::of(Answer::Public)).await;
    site.gateway("shop", &internal(json!({"provider": "GKE"}))).await;
    let first = site.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    let since = |gateway: &gatehouse_crds::gateway::Gateway| {
        let conditions = gateway.status.clone().unwrap().conditions;
        let verified = conditions
            .into_iter()
            .find(|condition| condition.type_ == "ExposureVerified");
        verified.unwrap().last_transition_time
    };
    // A name that cannot be looked up.
    site.cloud.answers(Answer::Name("nobody.knows.invalid".to_owned()));
    site.waits_to_say("shop", "ExposureVerified", "Unknown since").await;
    let unknown = site.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    assert_eq!(since(&unknown), since(&first));
    let words = message(&unknown, "ExposureVerified");
    assert!(
        words.contains("203.0.113.") && words.contains("nobody.knows.invalid"),
        "{words}"
    );
    drop(operator);
    let _operator = site.operator().await;
    site.quiet(Duration::from_secs(3)).await;
    let restarted = site.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    assert_eq!(since(&restarted), since(&first));
    site.cloud.answers(Answer::Private);
    site.wait("shop", "ExposureVerified", "True", "Internal").await;
}

#[tokio::test]
async fn an_internal_gateway_is_kept_private_while_its_spec_is_not_accepted() {
    const SWITCH: &str = "networking.gke.io/load-balancer-type";
    let (site, _operator) = Site::open("unaccepted", Habits::of(Answer::AsTold(Provider::Gke))).await;
    site.gateway("shop", &internal(json!({"provider": "GKE"}))).await;
    site.programmed("shop").await;
    let bad = json!({"provider": "GKE", "annotations": {SWITCH: "External"}});
    site.gateway("shop", &internal(bad.clone())).await;
    site.wait("shop", "Accepted", "False", "ConflictingAnnotation").await;
    // Somebody takes the switch away.
    let taken = json!({"metadata": {"annotations": {SWITCH: null}}});
    site.patch(&site.services(), "shop", &taken).await;
    site.cluster
        .wait(&site.services(), "shop", "internal again", SOON, |service| {
            service
                .annotations()
                .get(SWITCH)
                .is_some_and(|value| value == "Internal")
        })
        .await;
    // And sends the traffic elsewhere.
    let before = site.services().get("shop").await.unwrap().spec.unwrap().selector;
    let elsewhere = json!({"spec": {"selector": {"app": "elsewhere"}}});
    site.patch(&site.services(), "shop", &elsewhere).await;
    site.cluster
        .wait(&site.services(), "shop", "its own selector again", SOON, |service| {
            service.spec.as_ref().unwrap().selector == before
        })
        .await;
    site.wait("shop", "Accepted", "False", "ConflictingAnnotation").await;
    site.wait("shop", "ExposureVerified", "True", "Internal").await;
    // It becomes public all the same: told, and withdrawn where that is asked for.
    site.cloud.answers(Answer::Public);
    site.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
    let mut withdraw = bad;
    withdraw["onMismatch"] = "Withdraw".into();
    site.gateway("shop", &internal(withdraw)).await;
    site.cluster
        .wait(&site.services(), "shop", "a ClusterIP", SOON, |service| {
            service.spec.as_ref().unwrap().type_.as_deref() == Some("ClusterIP")
        })
        .await;
    site.wait("shop", "Accepted", "False", "ConflictingAnnotation").await;
    site.wait("shop", "ExposureVerified", "False", "ExposureMismatch").await;
}

#[tokio::test]
async fn node_ports_of_an_internal_load_balancer_are_none_or_judged() {
    let (site, _operator) = Site::open("nodeports", Habits::of(Answer::Private)).await;
    let node = format!("{}-public", site.namespace);
    site.node(
        &node,
        None,
        &[("InternalIP", "10.0.8.1"), ("ExternalIP", "203.0.113.77")],
    )
    .await;
    // GKE does without.
    site.gateway("without", &internal(json!({"provider": "GKE"}))).await;
    site.programmed("without").await;
    site.wait("without", "ExposureVerified", "True", "Internal").await;
    let spec = site.service("without").await.spec.unwrap();
    assert_eq!(spec.allocate_load_balancer_node_ports, Some(false));
    assert!(spec.ports.unwrap().iter().all(|port| port.node_port.is_none()));
    // AKS does not.
    site.gateway("with", &internal(json!({"provider": "AKS"}))).await;
    let with = site.wait("with", "ExposureVerified", "False", "ExposureMismatch").await;
    let words = message(&with, "ExposureVerified");
    assert!(words.contains("203.0.113.77") && words.contains(&node), "{words}");
    let nodes: Api<Node> = Api::all(site.cluster.client());
    nodes.delete(&node, &DeleteParams::default()).await.unwrap();
    site.wait("with", "ExposureVerified", "True", "Internal").await;
    // Others' addresses on a Service count, too.
    let more = json!({"spec": {"externalIPs": ["198.51.100.9"]}});
    site.patch(&site.services(), "without", &more).await;
    let gateway = site
        .wait("without", "ExposureVerified", "False", "ExposureMismatch")
        .await;
    assert!(message(&gateway, "ExposureVerified").contains("198.51.100.9"));
}
