//! Whatever an object waits for wakes it, seconds after a user has made, corrected or deleted it.
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
use gatehouse_tests::Stage;
use gatehouse_tests::cluster::condition;
use gatehouse_tests::pki::Ca;
use gatehouse_tests::stage::{SOON, base64};
use kube::api::DeleteParams;
use serde_json::json;

/// Two seconds are promised, and one more is allowed since the tests share the machine with others.
const AWAKE: Duration = Duration::from_secs(3);

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
