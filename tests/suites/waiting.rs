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
use gatehouse_tests::SharedOperator;
use gatehouse_tests::cluster::condition;
use gatehouse_tests::pki::Ca;
use gatehouse_tests::shared_operator::{SOON, base64};
use kube::api::DeleteParams;
use serde_json::json;

/// Two seconds are promised, and one more is allowed since the tests share the machine with others.
const AWAKE: Duration = Duration::from_secs(3);

/// Waits until a Certificate says why it waits, and a moment longer: what is only on its way is not waited for.
async fn waits(shared: &SharedOperator, name: &str, reason: &str) {
    let is_told = |certificate: &Certificate| {
        condition(certificate, "Issuing").is_some_and(|issuing| issuing["reason"] == reason)
    };
    shared
        .cluster
        .wait(&shared.certificates(), name, reason, SOON, is_told)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Waits for a Certificate, whose wait is over since `began`.
async fn wakes(shared: &SharedOperator, name: &str, began: Instant) {
    shared
        .cluster
        .wait_condition(&shared.certificates(), name, "Ready", "True", AWAKE)
        .await;
    println!("{name}: awake after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_keystores_password_that_is_made_or_corrected_later_is_used_at_once() {
    let shared = SharedOperator::set("password").await;
    shared.internal_ca("ca").await;
    let keystores = |kind: &str| {
        let password =
            json!({"create": true, "passwordSecretRef": {"name": format!("{kind}-password"), "key": "password"}});
        json!({"issuerRef": {"name": "ca"}, "dnsNames": [format!("{kind}.test")], "keystores": {kind: password}})
    };
    for kind in ["pkcs12", "jks"] {
        shared.certificate(kind, keystores(kind)).await;
        waits(&shared, kind, "KeystoreFailed").await;
        let secret = format!("{kind}-password");
        // There, but not what is needed: that is no reason to wait for the clock either.
        shared.make_secret(&secret, "Opaque", &[("other", "changeit")]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        waits(&shared, kind, "KeystoreFailed").await;
        let began = Instant::now();
        let correct = json!({"stringData": {"password": "changeit"}});
        shared.patch(&shared.secrets(), &secret, &correct).await;
        wakes(&shared, kind, began).await;
    }
}

#[tokio::test]
async fn a_foreign_secret_that_leaves_the_way_is_noticed_whatever_its_type() {
    let shared = SharedOperator::set("in-the-way").await;
    shared.internal_ca("ca").await;
    let junk = [("tls.crt", "junk"), ("tls.key", "junk")];
    for (name, kind) in [
        ("opaque", "Opaque"),
        ("tls", "kubernetes.io/tls"),
        ("consent", "Opaque"),
    ] {
        let secret = format!("{name}-tls");
        shared.make_secret(&secret, kind, &junk).await;
        shared
            .certificate(
                name,
                json!({"issuerRef": {"name": "ca"}, "dnsNames": [format!("{name}.test")]}),
            )
            .await;
        waits(&shared, name, "SecretConflict").await;
        let began = Instant::now();
        if name == "consent" {
            let consent = json!({"metadata": {"annotations": {"gatehouse.dev/adopt": "true"}}});
            shared.patch(&shared.secrets(), &secret, &consent).await;
        } else {
            shared
                .secrets()
                .delete(&secret, &DeleteParams::default())
                .await
                .unwrap();
        }
        wakes(&shared, name, began).await;
    }
}

#[tokio::test]
async fn a_secret_that_another_certificate_gives_up_is_taken_over() {
    let shared = SharedOperator::set("rival").await;
    shared.internal_ca("ca").await;
    let spec = json!({"secretName": "shared-tls", "issuerRef": {"name": "ca"}, "dnsNames": ["shared.test"]});
    shared.certificate("elder", spec.clone()).await;
    shared.ready("elder", 1).await;
    shared.certificate("younger", spec).await;
    waits(&shared, "younger", "SecretConflict").await;
    let began = Instant::now();
    shared
        .certificates()
        .delete("elder", &DeleteParams::default())
        .await
        .unwrap();
    wakes(&shared, "younger", began).await;
}

#[tokio::test]
async fn what_an_issuer_lacks_is_used_as_soon_as_it_is_there() {
    let shared = SharedOperator::set("issuer").await;
    let became_ready = async |name: &str, began: Instant| {
        shared
            .cluster
            .wait_condition(&shared.issuers(), name, "Ready", "True", AWAKE)
            .await;
        println!("{name}: ready after {:?}", began.elapsed());
    };
    let missing = async |name: &str| {
        shared
            .cluster
            .wait_condition(&shared.issuers(), name, "Ready", "False", SOON)
            .await;
        // Its own pauses have grown meanwhile.
        tokio::time::sleep(Duration::from_secs(12)).await;
    };
    // A CA's Secret need not be of type kubernetes.io/tls.
    let ca = Ca::new("late").unwrap();
    shared
        .apply("Issuer", "ca", &json!({"ca": {"secretName": "late-ca"}}))
        .await;
    let pebble = shared.test_cluster.pebble();
    let mut acme = shared.acme(pebble, "account", json!([shared.dns01()]));
    acme["acme"].as_object_mut().unwrap().remove("caBundle");
    acme["acme"]["caBundleSecretRef"] = json!({"name": "bundle", "key": "ca.crt"});
    shared.apply("Issuer", "acme", &acme).await;
    missing("ca").await;
    missing("acme").await;

    let began = Instant::now();
    shared
        .make_secret(
            "late-ca",
            "Opaque",
            &[("tls.crt", &ca.pem()), ("tls.key", &ca.key_pem())],
        )
        .await;
    became_ready("ca", began).await;
    let began = Instant::now();
    shared
        .make_secret("bundle", "Opaque", &[("ca.crt", pebble.ca_pem())])
        .await;
    became_ready("acme", began).await;

    // A wrong key of the DNS server, corrected.
    shared
        .make_secret("tsig", "Opaque", &[("secret", &base64(b"not the key of the server"))])
        .await;
    shared
        .certificate(
            "web",
            json!({"issuerRef": {"name": "acme"}, "dnsNames": [format!("web.{}.example.test", shared.namespace)]}),
        )
        .await;
    waits(&shared, "web", "ChallengeFailed").await;
    let began = Instant::now();
    let correct = json!({"stringData": {"secret": shared.test_cluster.knot().secret()}});
    shared.patch(&shared.secrets(), "tsig", &correct).await;
    shared
        .cluster
        .wait(&shared.certificates(), "web", "another attempt", AWAKE, |certificate| {
            condition(certificate, "Issuing").is_some_and(|issuing| issuing["reason"] != "ChallengeFailed")
        })
        .await;
    println!("web: tried again after {:?}", began.elapsed());
    shared.ready("web", 1).await;

    // A CA that is exchanged signs from then on.
    let other = Ca::new("exchanged").unwrap();
    let exchange = json!({"stringData": {"tls.crt": other.pem(), "tls.key": other.key_pem()}});
    shared.patch(&shared.secrets(), "late-ca", &exchange).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    shared
        .certificate(
            "internal",
            json!({"issuerRef": {"name": "ca"}, "dnsNames": ["internal.test"]}),
        )
        .await;
    shared.outcome("internal", 1, &other.pem(), &["internal.test"]).await;
}

#[tokio::test]
async fn an_issuer_that_appears_wakes_those_who_want_it() {
    let shared = SharedOperator::set("appears").await;
    shared
        .certificate("web", json!({"issuerRef": {"name": "own"}, "dnsNames": ["web.test"]}))
        .await;
    waits(&shared, "web", "IssuerNotReady").await;
    let began = Instant::now();
    shared.apply("Issuer", "own", &json!({"selfSigned": {}})).await;
    wakes(&shared, "web", began).await;
}
