//! Alerts: what fires reaches its receivers once, is resolved once, and survives failures on the way.
//!
//! Each scenario has an operator of its own that stays within its namespace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: to panic is how it reports"
)]

use std::time::Duration;

use gatehouse_crds::alert::{AlertPolicy, ClusterAlertPolicy, ReceiverStatus};
use gatehouse_tests::cluster::condition;
use gatehouse_tests::isolated_operator::SOON;
use gatehouse_tests::manifests::{alert_policy, orphan, self_signed};
use gatehouse_tests::process::eventually;
use gatehouse_tests::receiver::{Answer, Received};
use gatehouse_tests::test_cluster::Options;
use gatehouse_tests::{IsolatedOperator, Receiver, TestCluster, operator};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

async fn isolated(name: &str) -> IsolatedOperator {
    IsolatedOperator::new(&TestCluster::shared().await, name).await
}

/// A policy that reports at once what is not ready.
fn policy(name: &str, receivers: &Value) -> String {
    let rules = json!({"notReady": {"after": "1s"}, "expired": {}, "expiring": {}});
    alert_policy(name, &rules, receivers)
}

fn ops(receiver: &Receiver) -> Value {
    json!([{"name": "ops", "webhook": {"url": receiver.url("/hook")}}])
}

fn policies(isolated: &IsolatedOperator) -> Api<AlertPolicy> {
    isolated.cluster.api(&isolated.namespace)
}

/// Waits until so many were taken, and then sees that it stays so.
async fn reported(receiver: &Receiver, expected: &[&str]) {
    let what = format!("reported {expected:?}");
    eventually(&what, SOON, || async {
        (receiver.reported().len() >= expected.len()).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(receiver.reported(), expected);
}

async fn receiver_status(
    isolated: &IsolatedOperator,
    policy: &str,
    what: &str,
    fits: impl Fn(&ReceiverStatus) -> bool,
) -> AlertPolicy {
    let found = |policy: &AlertPolicy| {
        policy
            .status
            .as_ref()
            .is_some_and(|status| status.receivers.iter().any(&fits))
    };
    isolated
        .cluster
        .wait(&policies(isolated), policy, what, SOON, found)
        .await
}

async fn states(isolated: &IsolatedOperator) -> usize {
    let api: Api<ConfigMap> = isolated.cluster.api(&isolated.namespace);
    let list = api
        .list(&ListParams::default().labels("gatehouse.dev/alert-state"))
        .await;
    list.expect("the API server answers").items.len()
}

#[tokio::test]
async fn what_is_not_ready_is_told_with_everything_one_needs_and_its_mending_once() {
    let (isolated, receiver) = (isolated("alarm").await, Receiver::start().await);
    let _operator = isolated.operator().await;
    isolated.apply(&policy("ops", &ops(&receiver))).await;
    isolated.apply(&orphan("web")).await;
    reported(&receiver, &["firing notReady web"]).await;
    let first = &receiver.received()[0];
    assert_eq!(first.header("content-type"), "application/cloudevents+json");
    let event = first.json();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "dev.gatehouse.certificate.not_ready");
    assert_eq!(event["subject"], format!("{}/web", isolated.namespace));
    assert_eq!(event["id"], first.header("webhook-id"));
    let data = &event["data"];
    assert_eq!(
        (&data["status"], &data["severity"]),
        (&json!("firing"), &json!("critical"))
    );
    assert_eq!(data["certificate"]["dnsNames"], json!(["web.test"]));
    let fits = |policy: &AlertPolicy| {
        policy
            .status
            .as_ref()
            .is_some_and(|status| status.firing_count == Some(1))
    };
    let status = isolated
        .cluster
        .wait(&policies(&isolated), "ops", "one that fires", SOON, fits)
        .await;
    let status = status.status.unwrap();
    assert_eq!(
        status.firing[0].certificate.clone().unwrap_or_default(),
        format!("{}/web", isolated.namespace)
    );
    assert!(status.receivers[0].last_success.is_some());
    assert_eq!(states(&isolated).await, 1);

    isolated.apply(&self_signed("own")).await;
    isolated.apply(&orphan("web").replace("absent", "own")).await;
    reported(&receiver, &["firing notReady web", "resolved notReady web"]).await;
    eventually("nothing is left to remember", SOON, || async {
        (states(&isolated).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_runs_out_is_told_at_its_moment() {
    let (isolated, receiver) = (isolated("runs-out").await, Receiver::start().await);
    let _operator = isolated.operator().await;
    isolated.apply(&self_signed("own")).await;
    let yaml = orphan("web")
        .replace("absent", "own")
        .replace("dnsNames", "duration: 40s, dnsNames");
    isolated.apply(&yaml).await;
    isolated
        .cluster
        .wait_condition(&isolated.certificates(), "web", "Ready", "True", SOON)
        .await;
    isolated
        .apply(&yaml.replace("duration", "suspend: true, duration"))
        .await;
    isolated.apply(&policy("ops", &ops(&receiver))).await;
    // Warning and critical of one alert, then another one.
    reported(
        &receiver,
        &["firing expiring web", "firing expiring web", "firing expired web"],
    )
    .await;
    let requests = receiver.received();
    let severities: Vec<Value> = requests
        .iter()
        .map(|received| received.json()["data"]["severity"].clone())
        .collect();
    assert_eq!(severities, ["warning", "critical", "critical"]);
    let moment = |received: &Received, pointer: &str| -> jiff::Timestamp {
        received
            .json()
            .pointer(pointer)
            .unwrap()
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    let (sent, end) = (
        moment(&requests[2], "/time"),
        moment(&requests[2], "/data/certificate/notAfter"),
    );
    assert!(
        (sent - end).total(jiff::Unit::Second).unwrap() < 1.5,
        "{sent} for {end}"
    );
}

#[tokio::test]
async fn a_crash_loses_no_alert_and_a_deleted_certificate_ends_its_alert() {
    let (isolated, receiver) = (isolated("crash").await, Receiver::start().await);
    receiver.answer(Answer::of(503));
    let mut operator = isolated.operator().await;
    isolated.apply(&policy("ops", &ops(&receiver))).await;
    isolated.apply(&orphan("web")).await;
    let first = receiver.wait("a first try", SOON, |_| true).await;
    let failing = |status: &ReceiverStatus| status.consecutive_failures > 0 && status.pending == 1;
    let policy = receiver_status(&isolated, "ops", "a failing receiver", failing).await;
    let delivering = condition(&policy, "Delivering").unwrap();
    assert_eq!(
        (&delivering["status"], &delivering["reason"]),
        (&json!("False"), &json!("DeliveryFailed"))
    );
    eventually("an event on the Certificate", SOON, || async {
        let events = isolated.cluster.events("Certificate", &isolated.namespace, "web").await;
        events
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("AlertDeliveryFailed"))
    })
    .await;
    operator.kill9();
    isolated
        .certificates()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    receiver.answer(Answer::default());
    let _operator = isolated.operator().await;
    reported(&receiver, &["firing notReady web", "resolved notReady web"]).await;
    let taken = receiver
        .received()
        .into_iter()
        .find(|received| received.answered.is_success())
        .unwrap();
    assert_eq!(taken.header("webhook-id"), first.header("webhook-id"));
}

#[tokio::test]
async fn a_restart_with_nothing_new_says_nothing_new() {
    let (isolated, receiver) = (isolated("restart").await, Receiver::start().await);
    let mut operator = isolated.operator().await;
    isolated.apply(&policy("ops", &ops(&receiver))).await;
    isolated.apply(&orphan("web")).await;
    reported(&receiver, &["firing notReady web"]).await;
    operator.terminate(Duration::from_secs(20)).await;
    let _operator = isolated.operator().await;
    reported(&receiver, &["firing notReady web"]).await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_left_alone_until_the_policy_changes() {
    let (isolated, receiver) = (isolated("gone").await, Receiver::start().await);
    receiver.answer(Answer::of(410));
    let _operator = isolated.operator().await;
    isolated.apply(&policy("ops", &ops(&receiver))).await;
    isolated.apply(&orphan("web")).await;
    receiver_status(&isolated, "ops", "stopped", |status| status.stopped).await;
    isolated.apply(&orphan("api")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let tried: Vec<Value> = receiver
        .received()
        .iter()
        .map(gatehouse_tests::receiver::Received::json)
        .collect();
    assert_eq!(tried.len(), 1, "{tried:#?}");
    receiver.answer(Answer::default());
    let moved = json!([{"name": "ops", "webhook": {"url": receiver.url("/new")}}]);
    isolated.apply(&policy("ops", &moved)).await;
    isolated.apply(&orphan("shop")).await;
    reported(&receiver, &["firing notReady shop"]).await;
    receiver_status(&isolated, "ops", "at work again", |status| {
        !status.stopped && status.last_success.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_deleted_policy_resolves_its_alerts_also_without_its_secret() {
    let (isolated, receiver) = (isolated("deleted").await, Receiver::start().await);
    let mut operator = isolated.operator().await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hooks"}, "stringData": {"url": receiver.url("/secret")}});
    isolated.apply(&secret.to_string()).await;
    let by_secret = json!([{"name": "ops", "webhook": {"urlSecretRef": {"name": "hooks", "key": "url"}}}]);
    isolated.apply(&policy("first", &by_secret)).await;
    isolated.apply(&policy("second", &ops(&receiver))).await;
    isolated.apply(&orphan("web")).await;
    let of = |path: &str| {
        let requests = receiver.received().into_iter();
        let requests = requests.filter(|received| received.path == path && received.answered.is_success());
        requests
            .map(|received| {
                received.json()["data"]["status"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    let comes = async |path: &str, expected: &[&str]| {
        eventually(&format!("{expected:?} at {path}"), SOON, || async {
            (of(path) == expected).then_some(())
        })
        .await;
    };
    comes("/secret", &["firing"]).await;
    comes("/hook", &["firing"]).await;
    // As when a namespace is deleted: the Secret goes first.
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = isolated.cluster.api(&isolated.namespace);
    secrets.delete("hooks", &DeleteParams::default()).await.unwrap();
    policies(&isolated)
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    comes("/secret", &["firing", "resolved"]).await;
    // Deleted while no operator runs.
    eventually("one is forgotten", SOON, || async {
        (states(&isolated).await == 1).then_some(())
    })
    .await;
    operator.terminate(Duration::from_secs(20)).await;
    policies(&isolated)
        .delete("second", &DeleteParams::default())
        .await
        .unwrap();
    let _operator = isolated.operator().await;
    comes("/hook", &["firing", "resolved"]).await;
    eventually("all are forgotten", SOON, || async {
        (states(&isolated).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_receiver_that_is_removed_or_moved_gets_the_end_of_its_alerts() {
    let (isolated, old, new) = (
        isolated("moved").await,
        Receiver::start().await,
        Receiver::start().await,
    );
    let _operator = isolated.operator().await;
    let to = |name: &str, receiver: &Receiver, least: &str| json!([{"name": name, "minSeverity": least, "webhook": {"url": receiver.url("/hook")}}]);
    let rules = json!({"renewalFailed": {"criticalAfterAttempts": 1000}, "notReady": {"after": "1s"}});
    let policy = |receivers: &Value| alert_policy("ops", &rules, receivers);
    isolated.apply(&policy(&to("ops", &old, "warning"))).await;
    isolated.apply(&orphan("web")).await;
    reported(&old, &["firing notReady web"]).await;
    // Under another name it is the same receiver.
    isolated.apply(&policy(&to("pager", &old, "warning"))).await;
    reported(&old, &["firing notReady web"]).await;
    isolated.apply(&policy(&to("pager", &new, "warning"))).await;
    reported(&old, &["firing notReady web", "resolved notReady web"]).await;
    reported(&new, &["firing notReady web"]).await;
    let both = json!([
        {"name": "pager", "webhook": {"url": new.url("/hook")}}, {"name": "ops", "webhook": {"url": old.url("/hook")}}
    ]);
    isolated.apply(&policy(&both)).await;
    isolated.apply(&policy(&to("ops", &old, "warning"))).await;
    reported(&new, &["firing notReady web", "resolved notReady web"]).await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_starts_again_when_its_url_in_the_secret_is_corrected() {
    let (isolated, old, new) = (
        isolated("corrected").await,
        Receiver::start().await,
        Receiver::start().await,
    );
    old.answer(Answer::of(410));
    let _operator = isolated.operator().await;
    let url = |receiver: &Receiver| {
        let data = json!({"url": receiver.url("/hook")});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hooks"}, "stringData": data}).to_string()
    };
    isolated.apply(&url(&old)).await;
    let receivers = json!([{"name": "ops", "webhook": {"urlSecretRef": {"name": "hooks", "key": "url"}}}]);
    isolated.apply(&policy("ops", &receivers)).await;
    isolated.apply(&orphan("web")).await;
    receiver_status(&isolated, "ops", "stopped", |status| status.stopped).await;
    isolated.apply(&url(&new)).await;
    receiver_status(&isolated, "ops", "not stopped", |status| !status.stopped).await;
    isolated.apply(&orphan("shop")).await;
    reported(&new, &["firing notReady shop"]).await;
}

#[tokio::test]
async fn loopback_and_metadata_addresses_and_redirects_to_them_are_refused() {
    let (isolated, receiver) = (isolated("guard").await, Receiver::start().await);
    let _operator = isolated
        .test_cluster
        .operator(&isolated.options().without_loopback())
        .await;
    let receivers = json!([
        {"name": "loopback", "webhook": {"url": receiver.url("/hook")}},
        {"name": "named", "webhook": {"url": receiver.url("/hook").replace("127.0.0.1", "localhost")}},
        {"name": "metadata", "webhook": {"url": "http://169.254.169.254/latest"}}
    ]);
    isolated.apply(&policy("ops", &receivers)).await;
    isolated.apply(&orphan("web")).await;
    for name in ["loopback", "named", "metadata"] {
        let refused = |status: &ReceiverStatus| status.name == name && status.consecutive_failures > 0;
        let policy = receiver_status(&isolated, "ops", "refused", refused).await;
        let status = policy.status.unwrap();
        let message = status
            .receivers
            .iter()
            .find(|status| status.name == name)
            .unwrap()
            .message
            .clone()
            .unwrap();
        assert!(message.contains("does not connect there"), "{name}: {message}");
        assert!(!message.contains("/hook") && !message.contains("/latest"), "{message}");
    }
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn bad_receivers_are_told_and_the_good_one_undisturbed() {
    let (isolated, receiver, bad) = (isolated("bad").await, Receiver::start().await, Receiver::start().await);
    let huge = Answer {
        body: vec![b'x'; 10 * 1024 * 1024].into(),
        ..Answer::of(500)
    };
    bad.answer(huge);
    let _operator = isolated.operator().await;
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: hooks}\nstringData: {signing: 'not a key', url: 'http://127.0.0.1:9/token-1234567'}\n";
    isolated.apply(secret).await;
    let receivers = json!([
        {"name": "good", "webhook": {"url": receiver.url("/hook")}},
        {"name": "huge", "webhook": {"url": bad.url("/hook")}},
        {"name": "missing", "webhook": {"urlSecretRef": {"name": "nowhere", "key": "url"}}},
        {"name": "unsigned", "webhook": {"url": receiver.url("/signed"), "signingSecretRef": {"name": "hooks", "key": "signing"}}},
        {"name": "dead", "webhook": {"urlSecretRef": {"name": "hooks", "key": "url"}}},
        {"name": "plain", "webhook": {"url": receiver.url("/tls").replace("http://", "https://")}}
    ]);
    isolated.apply(&policy("ops", &receivers)).await;
    isolated.apply(&orphan("web")).await;
    let words = [
        ("huge", "500"),
        ("missing", "nowhere"),
        ("unsigned", "whsec_"),
        ("dead", "Secret hooks, key url"),
        ("plain", "TLS"),
    ];
    for (name, word) in words {
        let failed = |status: &ReceiverStatus| status.name == name && status.message.is_some();
        let policy = receiver_status(&isolated, "ops", "failed", failed).await;
        let status = policy.status.unwrap();
        let message = status
            .receivers
            .iter()
            .find(|status| status.name == name)
            .unwrap()
            .message
            .clone()
            .unwrap();
        assert!(message.contains(word), "{name} lacks {word:?}: {message}");
        assert!(
            !message.contains("token-1234567") && !message.contains("not a key"),
            "{message}"
        );
        assert!(message.len() < 500, "{message}");
    }
    reported(&receiver, &["firing notReady web"]).await;
}

#[tokio::test]
async fn a_test_goes_through_every_receiver_and_says_how_it_went() {
    let (isolated, receiver) = (isolated("try").await, Receiver::start().await);
    let _operator = isolated.operator().await;
    let receivers = json!([
        {"name": "ops", "minSeverity": "critical", "webhook": {"url": receiver.url("/hook")}},
        {"name": "broken", "webhook": {"urlSecretRef": {"name": "nowhere", "key": "url"}}}
    ]);
    isolated.apply(&policy("ops", &receivers)).await;
    let asked = jiff::Timestamp::now().to_string();
    let patch = json!({"metadata": {"annotations": {"gatehouse.dev/test-requested-at": asked}}});
    policies(&isolated)
        .patch("ops", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    let answered = |policy: &AlertPolicy| policy.status.as_ref().is_some_and(|status| status.test.is_some());
    let policy = isolated
        .cluster
        .wait(&policies(&isolated), "ops", "tested", SOON, answered)
        .await;
    let results = policy.status.unwrap().test.unwrap().receivers;
    let delivered: Vec<(&str, bool)> = results
        .iter()
        .map(|result| (result.name.as_str(), result.delivered))
        .collect();
    assert_eq!(delivered, [("ops", true), ("broken", false)]);
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(receiver.received()[0].json()["type"], "dev.gatehouse.test");
}

#[tokio::test]
async fn a_sign_of_life_comes_at_its_interval() {
    let (isolated, receiver) = (isolated("alive").await, Receiver::start().await);
    let _operator = isolated.operator().await;
    let mut policy: Value = serde_json::from_str(&policy("ops", &ops(&receiver))).unwrap();
    policy["spec"]["heartbeatInterval"] = json!("2s");
    isolated.apply(&policy.to_string()).await;
    eventually("three signs of life", SOON, || async {
        (receiver.received().len() >= 3).then_some(())
    })
    .await;
    let requests = receiver.received();
    assert!(
        requests
            .iter()
            .all(|received| received.json()["type"] == "dev.gatehouse.heartbeat")
    );
}

#[tokio::test]
async fn a_cluster_policy_covers_the_namespaces_and_certificates_that_it_selects() {
    // A cluster of its own: this operator watches all namespaces, and would report the alerts of the other environments, too.
    let (receiver, test_cluster) = (
        Receiver::start().await,
        TestCluster::start(Options::default()).await.unwrap(),
    );
    let cluster = test_cluster.cluster().await;
    cluster.install_crds().await.unwrap();
    let (prod, dev) = (cluster.namespace("prod").await, cluster.namespace("dev").await);
    let label = json!({"metadata": {"labels": {"env": prod}}});
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cluster.client());
    namespaces
        .patch(&prod, &PatchParams::default(), &Patch::Merge(&label))
        .await
        .unwrap();
    let options =
        operator::Options::new(&test_cluster.plane.kubeconfig()).arg(format!("--cluster-resource-namespace={dev}"));
    let _operator = test_cluster.operator(&options).await;
    let all: Api<ClusterAlertPolicy> = Api::all(cluster.client());
    let policy = json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "ClusterAlertPolicy", "metadata": {"name": prod},
        "spec": {
            "namespaceSelector": {"matchLabels": {"env": prod}}, "selector": {"matchLabels": {"team": "shop"}},
            "rules": {"notReady": {"after": "1s"}}, "receivers": ops(&receiver)
        }
    });
    let policy = all
        .patch(&prod, &PatchParams::apply("tests"), &Patch::Apply(&policy))
        .await
        .unwrap();
    for (namespace, name) in [(&prod, "web"), (&dev, "other")] {
        cluster.apply(namespace, &orphan(name)).await;
    }
    cluster
        .apply(&prod, &orphan("api").replace("team: shop", "team: ads"))
        .await;
    reported(&receiver, &["firing notReady web"]).await;
    // A namespace that is no longer covered takes its alerts along.
    let label = json!({"metadata": {"labels": {"env": null}}});
    namespaces
        .patch(&prod, &PatchParams::default(), &Patch::Merge(&label))
        .await
        .unwrap();
    reported(&receiver, &["firing notReady web", "resolved notReady web"]).await;
    all.delete(&policy.metadata.name.unwrap(), &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_storm_is_one_message_and_its_end_another() {
    const COUNT: usize = 120;
    let (isolated, receiver) = (isolated("storm").await, Receiver::start().await);
    let _operator = isolated.operator().await;
    let yaml: Vec<String> = (0..COUNT).map(|number| orphan(&format!("web-{number}"))).collect();
    isolated.apply(&yaml.join("---\n")).await;
    let last = format!("web-{}", COUNT - 1);
    isolated
        .cluster
        .wait_condition(&isolated.certificates(), &last, "Ready", "False", SOON)
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    isolated.apply(&policy("ops", &ops(&receiver))).await;
    let storm = receiver
        .wait("a group", SOON, |received| received.json()["data"]["count"] == COUNT)
        .await;
    assert_eq!(storm.json()["data"]["certificates"].as_array().unwrap().len(), 20);
    isolated
        .certificates()
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    receiver
        .wait("its end", SOON, |received| {
            received.json()["data"]["status"] == "resolved"
        })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(receiver.received().len(), 2);
}
