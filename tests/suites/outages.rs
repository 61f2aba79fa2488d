//! The API server goes away, refuses or never answers: operators recover within seconds, and what they had to do is done.
//!
//! Apart from `waiting`, whose operator looks after all namespaces: here each scene's operator is the only one.
// A scenario is read from top to bottom, however long; its values are made in place.
#![allow(clippy::too_many_lines)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: to panic is how it reports"
)]

use std::time::{Duration, Instant};

use gatehouse_crds::certificate::Certificate;
use gatehouse_crds::issuer::Issuer;
use gatehouse_tests::cluster::condition;
use gatehouse_tests::gate::Reply;
use gatehouse_tests::isolated_operator::SOON;
use gatehouse_tests::process::eventually;
use gatehouse_tests::{IsolatedOperator, Proxy, TestCluster, manifests, operator};
use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

/// Two seconds are promised. The tests share the machine with others, so they allow for more, which is still a fraction of what
/// the clock alone would take.
const AWAKE: Duration = Duration::from_secs(6);

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web", "image": "web"}]}}}})
}

/// The serial number that a Deployment was restarted with.
async fn noted(isolated: &IsolatedOperator, name: &str) -> Option<String> {
    let deployment = isolated
        .cluster
        .api::<Deployment>(&isolated.namespace)
        .get(name)
        .await
        .unwrap();
    let template = deployment.spec.unwrap().template.metadata.unwrap_or_default();
    template
        .annotations
        .unwrap_or_default()
        .get("gatehouse.dev/serial-number.web")
        .cloned()
}

/// A Certificate `web` that restarts `workloads`, renewed once.
async fn renewed(isolated: &IsolatedOperator, workloads: &[&str]) -> Certificate {
    let rollout: Vec<_> = workloads
        .iter()
        .map(|name| format!("{{kind: Deployment, name: {name}}}"))
        .collect();
    let web = format!(
        "{}  rollout: [{}]\n",
        manifests::certificate("web", "own", &["web.test"]),
        rollout.join(", ")
    );
    isolated
        .apply("apiVersion: gatehouse.dev/v1alpha1\nkind: Issuer\nmetadata: {name: own}\nspec: {selfSigned: {}}\n")
        .await;
    isolated.apply(&web).await;
    isolated
        .cluster
        .wait_condition(&isolated.certificates(), "web", "Ready", "True", SOON)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let request = format!(
        "{{name: web, annotations: {{gatehouse.dev/renew-requested-at: \"{}\"}}}}",
        jiff::Timestamp::now()
    );
    isolated.apply(&web.replacen("{name: web}", &request, 1)).await;
    isolated
        .cluster
        .wait(&isolated.certificates(), "web", "renewed", SOON, |certificate| {
            certificate.status.as_ref().and_then(|status| status.revision) == Some(2)
        })
        .await
}

#[tokio::test]
async fn a_rollout_that_the_api_server_refuses_is_repeated_until_it_is_done() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "rollout-refused").await;
    let _operator = isolated.operator().await;
    isolated.apply(&deployment("web").to_string()).await;
    let conflict = Reply {
        status: 409,
        headers: vec![("content-type", "application/json".to_owned())],
        body: json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "busy"})
            .to_string(),
    };
    isolated.api.answer(Method::PATCH, "/deployments/web", 3, conflict);
    let certificate = renewed(&isolated, &["web"]).await;
    let rolled = condition(&certificate, "RolledOut").expect("the failure is in the status");
    assert_eq!(
        (&rolled["status"], &rolled["reason"]),
        (&json!("False"), &json!("RolloutFailed")),
        "{rolled}"
    );
    assert!(
        rolled["message"].as_str().unwrap().contains("is tried again"),
        "{rolled}"
    );
    let done = isolated
        .cluster
        .wait_condition(&isolated.certificates(), "web", "RolledOut", "True", SOON)
        .await;
    let status = done.status.unwrap();
    assert_eq!(status.pending_rollouts, []);
    assert_eq!(noted(&isolated, "web").await, status.serial_number);
}

#[tokio::test]
async fn a_missing_workload_is_restarted_once_it_exists_also_after_an_operator_restart() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "rollout-missing").await;
    let mut operator = isolated.operator().await;
    isolated.apply(&deployment("web").to_string()).await;
    let certificate = renewed(&isolated, &["web", "late", "later"]).await;
    let rolled = condition(&certificate, "RolledOut").expect("the failure is in the status");
    assert_eq!(
        (&rolled["status"], &rolled["reason"]),
        (&json!("False"), &json!("WorkloadNotFound")),
        "{rolled}"
    );
    let message = rolled["message"].as_str().unwrap();
    assert!(
        message.contains("Deployment late does not exist: create it, or remove it from spec.rollout"),
        "{message}"
    );
    let serial = certificate.status.unwrap().serial_number;
    assert_eq!(noted(&isolated, "web").await, serial, "the others are restarted");
    // Its own pauses have grown meanwhile.
    tokio::time::sleep(Duration::from_secs(8)).await;

    let began = Instant::now();
    isolated.apply(&deployment("late").to_string()).await;
    isolated
        .cluster
        .wait(
            &isolated.certificates(),
            "web",
            "late is restarted",
            AWAKE,
            |certificate| {
                let status = certificate.status.as_ref();
                status.is_some_and(|status| {
                    status.pending_rollouts.len() == 1 && status.pending_rollouts[0].name == "later"
                })
            },
        )
        .await;
    println!("late: restarted after {:?}", began.elapsed());
    assert_eq!(noted(&isolated, "late").await, serial);

    operator.kill9();
    isolated.apply(&deployment("later").to_string()).await;
    let _next = isolated.operator().await;
    isolated
        .cluster
        .wait_condition(&isolated.certificates(), "web", "RolledOut", "True", SOON)
        .await;
    assert_eq!(noted(&isolated, "later").await, serial);
}

#[tokio::test]
async fn a_read_that_is_never_answered_holds_up_its_object_for_seconds_only() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "unanswered").await;
    let _operator = isolated.operator().await;
    isolated
        .apply("apiVersion: gatehouse.dev/v1alpha1\nkind: Issuer\nmetadata: {name: own}\nspec: {selfSigned: {}}\n")
        .await;
    let issuers = isolated.cluster.api::<Issuer>(&isolated.namespace);
    isolated
        .cluster
        .wait_condition(&issuers, "own", "Ready", "True", SOON)
        .await;
    // One that is in the way has to be read.
    let junk = "apiVersion: v1\nkind: Secret\nmetadata: {name: web-tls}\ntype: kubernetes.io/tls\nstringData: {tls.crt: junk, tls.key: junk}\n";
    isolated.apply(junk).await;
    let began = Instant::now();
    // It stays stopped: only a deadline of the reader's own can end the wait for it.
    let mut stop = isolated.api.hold_request(Method::GET, "/secrets/web-tls");
    isolated
        .apply(&manifests::certificate("web", "own", &["web.test"]))
        .await;
    stop.reached(SOON).await;
    isolated
        .apply(&manifests::certificate("other", "own", &["other.test"]))
        .await;
    isolated
        .cluster
        .wait_condition(&isolated.certificates(), "other", "Ready", "True", AWAKE)
        .await;
    eventually("it is tried again", Duration::from_secs(20), || async {
        (stop.count() > 1).then_some(())
    })
    .await;
    println!("web: read again after {:?}", began.elapsed());
    drop(stop);
    isolated
        .cluster
        .wait(&isolated.certificates(), "web", "the conflict", SOON, |certificate| {
            condition(certificate, "Ready").is_some_and(|ready| ready["reason"] == "SecretConflict")
        })
        .await;
}

#[tokio::test]
async fn what_is_made_after_an_outage_of_the_api_server_is_seen_within_seconds() {
    let test_cluster = TestCluster::shared().await;
    let isolated = IsolatedOperator::new(&test_cluster, "outage").await;
    let proxy = Proxy::start(test_cluster.plane.address()).unwrap();
    let identity = test_cluster.plane.admin().through(proxy.address());
    let kubeconfig = identity
        .write(&test_cluster.folder().join("outage.kubeconfig"))
        .unwrap();
    let options = operator::Options::new(&kubeconfig).arg(format!("--namespace={}", isolated.namespace));
    let _operator = test_cluster.operator(&options).await;
    isolated
        .apply("apiVersion: gatehouse.dev/v1alpha1\nkind: Issuer\nmetadata: {name: own}\nspec: {selfSigned: {}}\n")
        .await;
    let issuers = isolated.cluster.api::<Issuer>(&isolated.namespace);
    isolated
        .cluster
        .wait_condition(&issuers, "own", "Ready", "True", SOON)
        .await;
    for (name, outage) in [("short", 4), ("long", 20)] {
        proxy.cut();
        tokio::time::sleep(Duration::from_secs(outage)).await;
        proxy.heal();
        let began = Instant::now();
        isolated
            .apply(&manifests::certificate(name, "own", &["web.test"]))
            .await;
        isolated
            .cluster
            .wait_condition(&isolated.certificates(), name, "Ready", "True", AWAKE)
            .await;
        println!("{name}: Ready {:?} after the outage", began.elapsed());
    }
}
