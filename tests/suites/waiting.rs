//! Whatever an object waits for wakes it: seconds after a user has made, corrected or deleted it, and after the API server is back.
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
use gatehouse_tests::pki::Ca;
use gatehouse_tests::process::eventually;
use gatehouse_tests::stage::{SOON, base64};
use gatehouse_tests::{Proxy, Scene, Stage, World, manifests, operator};
use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DeleteParams;
use serde_json::{Value, json};

/// Two seconds are promised. The tests share the machine with others, so they allow for more, which is still a fraction of what
/// the clock alone would take.
const AWAKE: Duration = Duration::from_secs(6);

/// Waits until a Certificate says why it waits, and a moment longer: what is only on its way is not waited for.
async fn waits(stage: &Stage, name: &str, reason: &str) {
    let is_told = |certificate: &Certificate| {
        condition(certificate, "Issuing").is_some_and(|issuing| issuing["reason"] == reason)
    };
    stage
        .cluster
        .wait(&stage.certificates(), name, reason, SOON, is_told)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Waits for a Certificate, whose wait is over since `began`.
async fn wakes(stage: &Stage, name: &str, began: Instant) {
    stage
        .cluster
        .wait_condition(&stage.certificates(), name, "Ready", "True", AWAKE)
        .await;
    println!("{name}: awake after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_keystores_password_that_is_made_or_corrected_later_is_used_at_once() {
    let stage = Stage::set("password").await;
    stage.internal_ca("ca").await;
    let keystores = |kind: &str| {
        let password =
            json!({"create": true, "passwordSecretRef": {"name": format!("{kind}-password"), "key": "password"}});
        json!({"issuerRef": {"name": "ca"}, "dnsNames": [format!("{kind}.test")], "keystores": {kind: password}})
    };
    for kind in ["pkcs12", "jks"] {
        stage.certificate(kind, keystores(kind)).await;
        waits(&stage, kind, "KeystoreFailed").await;
        let secret = format!("{kind}-password");
        // There, but not what is needed: that is no reason to wait for the clock either.
        stage.make_secret(&secret, "Opaque", &[("other", "changeit")]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        waits(&stage, kind, "KeystoreFailed").await;
        let began = Instant::now();
        let correct = json!({"stringData": {"password": "changeit"}});
        stage.patch(&stage.secrets(), &secret, &correct).await;
        wakes(&stage, kind, began).await;
    }
}

#[tokio::test]
async fn a_foreign_secret_that_leaves_the_way_is_noticed_whatever_its_type() {
    let stage = Stage::set("in-the-way").await;
    stage.internal_ca("ca").await;
    let junk = [("tls.crt", "junk"), ("tls.key", "junk")];
    for (name, kind) in [
        ("opaque", "Opaque"),
        ("tls", "kubernetes.io/tls"),
        ("consent", "Opaque"),
    ] {
        let secret = format!("{name}-tls");
        stage.make_secret(&secret, kind, &junk).await;
        stage
            .certificate(
                name,
                json!({"issuerRef": {"name": "ca"}, "dnsNames": [format!("{name}.test")]}),
            )
            .await;
        waits(&stage, name, "SecretConflict").await;
        let began = Instant::now();
        if name == "consent" {
            let consent = json!({"metadata": {"annotations": {"gatehouse.dev/adopt": "true"}}});
            stage.patch(&stage.secrets(), &secret, &consent).await;
        } else {
            stage.secrets().delete(&secret, &DeleteParams::default()).await.unwrap();
        }
        wakes(&stage, name, began).await;
    }
}

#[tokio::test]
async fn a_secret_that_another_certificate_gives_up_is_taken_over() {
    let stage = Stage::set("rival").await;
    stage.internal_ca("ca").await;
    let spec = json!({"secretName": "shared-tls", "issuerRef": {"name": "ca"}, "dnsNames": ["shared.test"]});
    stage.certificate("elder", spec.clone()).await;
    stage.ready("elder", 1).await;
    stage.certificate("younger", spec).await;
    waits(&stage, "younger", "SecretConflict").await;
    let began = Instant::now();
    stage
        .certificates()
        .delete("elder", &DeleteParams::default())
        .await
        .unwrap();
    wakes(&stage, "younger", began).await;
}

#[tokio::test]
async fn what_an_issuer_lacks_is_used_as_soon_as_it_is_there() {
    let stage = Stage::set("issuer").await;
    let became_ready = async |name: &str, began: Instant| {
        stage
            .cluster
            .wait_condition(&stage.issuers(), name, "Ready", "True", AWAKE)
            .await;
        println!("{name}: ready after {:?}", began.elapsed());
    };
    let missing = async |name: &str| {
        stage
            .cluster
            .wait_condition(&stage.issuers(), name, "Ready", "False", SOON)
            .await;
        // Its own pauses have grown meanwhile.
        tokio::time::sleep(Duration::from_secs(12)).await;
    };
    // A CA's Secret need not be of type kubernetes.io/tls.
    let ca = Ca::new("late").unwrap();
    stage
        .apply("Issuer", "ca", &json!({"ca": {"secretName": "late-ca"}}))
        .await;
    let pebble = stage.world.pebble();
    let mut acme = stage.acme(pebble, "account", json!([stage.dns01()]));
    acme["acme"].as_object_mut().unwrap().remove("caBundle");
    acme["acme"]["caBundleSecretRef"] = json!({"name": "bundle", "key": "ca.crt"});
    stage.apply("Issuer", "acme", &acme).await;
    missing("ca").await;
    missing("acme").await;

    let began = Instant::now();
    stage
        .make_secret(
            "late-ca",
            "Opaque",
            &[("tls.crt", &ca.pem()), ("tls.key", &ca.key_pem())],
        )
        .await;
    became_ready("ca", began).await;
    let began = Instant::now();
    stage
        .make_secret("bundle", "Opaque", &[("ca.crt", pebble.ca_pem())])
        .await;
    became_ready("acme", began).await;

    // A wrong key of the DNS server, corrected.
    stage
        .make_secret("tsig", "Opaque", &[("secret", &base64(b"not the key of the server"))])
        .await;
    stage
        .certificate(
            "web",
            json!({"issuerRef": {"name": "acme"}, "dnsNames": [format!("web.{}.example.test", stage.namespace)]}),
        )
        .await;
    waits(&stage, "web", "ChallengeFailed").await;
    let began = Instant::now();
    let correct = json!({"stringData": {"secret": stage.world.knot().secret()}});
    stage.patch(&stage.secrets(), "tsig", &correct).await;
    stage
        .cluster
        .wait(&stage.certificates(), "web", "another attempt", AWAKE, |certificate| {
            condition(certificate, "Issuing").is_some_and(|issuing| issuing["reason"] != "ChallengeFailed")
        })
        .await;
    println!("web: tried again after {:?}", began.elapsed());
    stage.ready("web", 1).await;

    // A CA that is exchanged signs from then on.
    let other = Ca::new("exchanged").unwrap();
    let exchange = json!({"stringData": {"tls.crt": other.pem(), "tls.key": other.key_pem()}});
    stage.patch(&stage.secrets(), "late-ca", &exchange).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage
        .certificate(
            "internal",
            json!({"issuerRef": {"name": "ca"}, "dnsNames": ["internal.test"]}),
        )
        .await;
    stage.outcome("internal", 1, &other.pem(), &["internal.test"]).await;
}

#[tokio::test]
async fn an_issuer_that_appears_wakes_those_who_want_it() {
    let stage = Stage::set("appears").await;
    stage
        .certificate("web", json!({"issuerRef": {"name": "own"}, "dnsNames": ["web.test"]}))
        .await;
    waits(&stage, "web", "IssuerNotReady").await;
    let began = Instant::now();
    stage.apply("Issuer", "own", &json!({"selfSigned": {}})).await;
    wakes(&stage, "web", began).await;
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web", "image": "web"}]}}}})
}

/// The serial number that a Deployment was restarted with.
async fn noted(scene: &Scene, name: &str) -> Option<String> {
    let deployment = scene
        .cluster
        .api::<Deployment>(&scene.namespace)
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
async fn renewed(scene: &Scene, workloads: &[&str]) -> Certificate {
    let rollout: Vec<_> = workloads
        .iter()
        .map(|name| format!("{{kind: Deployment, name: {name}}}"))
        .collect();
    let web = format!(
        "{}  rollout: [{}]\n",
        manifests::certificate("web", "own", &["web.test"]),
        rollout.join(", ")
    );
    scene
        .apply("apiVersion: gatehouse.dev/v1alpha1\nkind: Issuer\nmetadata: {name: own}\nspec: {selfSigned: {}}\n")
        .await;
    scene.apply(&web).await;
    scene
        .cluster
        .wait_condition(&scene.certificates(), "web", "Ready", "True", SOON)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let request = format!(
        "{{name: web, annotations: {{gatehouse.dev/renew-requested-at: \"{}\"}}}}",
        jiff::Timestamp::now()
    );
    scene.apply(&web.replacen("{name: web}", &request, 1)).await;
    scene
        .cluster
        .wait(&scene.certificates(), "web", "renewed", SOON, |certificate| {
            certificate.status.as_ref().and_then(|status| status.revision) == Some(2)
        })
        .await
}

#[tokio::test]
async fn a_rollout_that_the_api_server_refuses_is_repeated_until_it_is_done() {
    let scene = Scene::new(&World::shared().await, "rollout-refused").await;
    let _operator = scene.operator().await;
    scene.apply(&deployment("web").to_string()).await;
    let conflict = Reply {
        status: 409,
        headers: vec![("content-type", "application/json".to_owned())],
        body: json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "busy"})
            .to_string(),
    };
    scene.api.answer(Method::PATCH, "/deployments/web", 3, conflict);
    let certificate = renewed(&scene, &["web"]).await;
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
    let done = scene
        .cluster
        .wait_condition(&scene.certificates(), "web", "RolledOut", "True", SOON)
        .await;
    let status = done.status.unwrap();
    assert_eq!(status.pending_rollouts, []);
    assert_eq!(noted(&scene, "web").await, status.serial_number);
}

#[tokio::test]
async fn a_workload_that_is_missing_is_restarted_when_it_is_there_also_after_a_restart_of_the_operator() {
    let scene = Scene::new(&World::shared().await, "rollout-missing").await;
    let mut operator = scene.operator().await;
    scene.apply(&deployment("web").to_string()).await;
    let certificate = renewed(&scene, &["web", "late", "later"]).await;
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
    assert_eq!(noted(&scene, "web").await, serial, "the others are restarted");
    // Its own pauses have grown meanwhile.
    tokio::time::sleep(Duration::from_secs(8)).await;

    let began = Instant::now();
    scene.apply(&deployment("late").to_string()).await;
    scene
        .cluster
        .wait(
            &scene.certificates(),
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
    assert_eq!(noted(&scene, "late").await, serial);

    operator.kill9();
    scene.apply(&deployment("later").to_string()).await;
    let _next = scene.operator().await;
    scene
        .cluster
        .wait_condition(&scene.certificates(), "web", "RolledOut", "True", SOON)
        .await;
    assert_eq!(noted(&scene, "later").await, serial);
}

#[tokio::test]
async fn a_read_that_is_never_answered_holds_up_its_object_for_seconds_only() {
    let scene = Scene::new(&World::shared().await, "unanswered").await;
    let _operator = scene.operator().await;
    scene
        .apply("apiVersion: gatehouse.dev/v1alpha1\nkind: Issuer\nmetadata: {name: own}\nspec: {selfSigned: {}}\n")
        .await;
    let issuers = scene.cluster.api::<Issuer>(&scene.namespace);
    scene
        .cluster
        .wait_condition(&issuers, "own", "Ready", "True", SOON)
        .await;
    let began = Instant::now();
    // It stays stopped: only a deadline of the reader's own can end the wait for it.
    let mut stop = scene.api.hold_request(Method::GET, "/secrets/web-tls");
    scene.apply(&manifests::certificate("web", "own", &["web.test"])).await;
    stop.reached(SOON).await;
    scene
        .apply(&manifests::certificate("other", "own", &["other.test"]))
        .await;
    scene
        .cluster
        .wait_condition(&scene.certificates(), "other", "Ready", "True", AWAKE)
        .await;
    eventually("it is tried again", Duration::from_secs(20), || async {
        (stop.count() > 1).then_some(())
    })
    .await;
    println!("web: read again after {:?}", began.elapsed());
    drop(stop);
    scene
        .cluster
        .wait_condition(&scene.certificates(), "web", "Ready", "True", SOON)
        .await;
}

#[tokio::test]
async fn what_is_made_after_an_outage_of_the_api_server_is_seen_within_seconds() {
    let world = World::shared().await;
    let scene = Scene::new(&world, "outage").await;
    let proxy = Proxy::start(world.plane.address()).unwrap();
    let identity = world.plane.admin().through(proxy.address());
    let kubeconfig = identity.write(&world.folder().join("outage.kubeconfig")).unwrap();
    let options = operator::Options::new(&kubeconfig).arg(format!("--namespace={}", scene.namespace));
    let _operator = world.operator(&options).await;
    scene
        .apply("apiVersion: gatehouse.dev/v1alpha1\nkind: Issuer\nmetadata: {name: own}\nspec: {selfSigned: {}}\n")
        .await;
    let issuers = scene.cluster.api::<Issuer>(&scene.namespace);
    scene
        .cluster
        .wait_condition(&issuers, "own", "Ready", "True", SOON)
        .await;
    for (name, outage) in [("short", 4), ("long", 20)] {
        proxy.cut();
        tokio::time::sleep(Duration::from_secs(outage)).await;
        proxy.heal();
        let began = Instant::now();
        scene.apply(&manifests::certificate(name, "own", &["web.test"])).await;
        scene
            .cluster
            .wait_condition(&scene.certificates(), name, "Ready", "True", AWAKE)
            .await;
        println!("{name}: Ready {:?} after the outage", began.elapsed());
    }
}
