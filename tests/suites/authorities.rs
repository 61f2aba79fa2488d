//! What CAs answer beyond the RFC, and issuers that change: whatever happens is reported, bounded, and sent to nobody else.
// A scenario is read from top to bottom, however long; its values are made in place.
#![allow(clippy::too_many_lines)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: to panic is how it reports"
)]

use gatehouse_crds::certificate::{AuthorityType, Certificate};
use gatehouse_crds::issuer::Issuer;
use gatehouse_tests::cluster::condition;
use gatehouse_tests::gate::{Gate, Reply};
use gatehouse_tests::scene::SOON;
use gatehouse_tests::{Scene, World, manifests, pebble};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

fn message(certificate: &Certificate) -> String {
    condition(certificate, "Ready").unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Answers about an order that is never decided, and that expires so many seconds from now.
fn undecided(scene: &Scene, seconds: i64) {
    for path in ["/finalize-order/", "/my-order/"] {
        let expires = Timestamp::now() + SignedDuration::from_secs(seconds);
        scene.ca.edit(Method::POST, path, usize::MAX, move |order: &mut Value| {
            order["status"] = json!("processing");
            order["expires"] = json!(expires.to_string());
            order.as_object_mut().unwrap().remove("certificate");
        });
    }
}

#[tokio::test]
async fn an_order_that_the_ca_never_decides_is_given_up_and_counted() {
    let scene = Scene::new(&World::shared().await, "undecided").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    let host = scene.host("www");
    undecided(&scene, 12);
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let certificate = scene.failed("web", "OrderTimedOut").await;
    let words = message(&certificate);
    assert!(words.contains("/my-order/") && words.contains("processing"), "{words}");
    let status = certificate.status.unwrap();
    assert_eq!(status.failed_attempts, Some(1));
    assert!(status.acme.is_none_or(|acme| acme.order_url.is_none()));
    scene.event("Certificate", "web", "IssuanceFailed").await;
    assert_eq!(scene.finalized(), 1, "one order, one finalize");
    scene.ca.clear();
    scene.request_renewal("web").await;
    scene.verified("web", &[&host]).await;
}

#[tokio::test]
async fn the_wait_for_a_ca_goes_on_after_a_restart() {
    let scene = Scene::new(&World::shared().await, "longwait").await;
    let operator = scene.operator().await;
    scene.acme_issuer().await;
    let host = scene.host("www");
    undecided(&scene, 86_400);
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let waiting = |it: &Certificate| {
        let acme = it.status.as_ref().and_then(|status| status.acme.as_ref());
        acme.is_some_and(|acme| acme.waiting_since.is_some())
    };
    let certificates = scene.certificates();
    scene
        .cluster
        .wait(&certificates, "web", "waiting for the CA", SOON, waiting)
        .await;
    drop(operator);
    // As if the operator had been started two hours ago.
    let since = Timestamp::now() - SignedDuration::from_hours(2);
    let since = Timestamp::from_second(since.as_second()).unwrap();
    let patch = Patch::Merge(json!({"status": {"acme": {"waitingSince": since.to_string()}}}));
    certificates
        .patch_status("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let _operator = scene.operator().await;
    let words = message(&scene.failed("web", "OrderTimedOut").await);
    assert!(words.contains(&since.to_string()) && words.contains("120m"), "{words}");
    assert_eq!((scene.orders(), scene.finalized()), (1, 1));
}

#[tokio::test]
async fn a_refused_account_is_the_issuers_failure_and_orders_nothing_until_it_is_replaced() {
    let scene = Scene::new(&World::shared().await, "refused").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    // As CAs answer for a deactivated account: everywhere.
    for path in ["/order-plz", "/my-account/", "/sign-me-up"] {
        scene
            .ca
            .answer(Method::POST, path, usize::MAX, Reply::problem(403, "unauthorized"));
    }
    let host = scene.host("www");
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let issuers = scene.cluster.api::<Issuer>(&scene.namespace);
    let issuer = scene
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "False", SOON)
        .await;
    let ready = condition(&issuer, "Ready").unwrap();
    assert_eq!(ready["reason"], "AccountRefused");
    let words = ready["message"].to_string();
    assert!(
        words.contains("so the CA said") && words.contains("acme-account"),
        "{words}"
    );
    let certificate = scene.failed("web", "IssuerNotReady").await;
    assert_eq!(certificate.status.unwrap().failed_attempts, Some(1));
    let attempts = |scene: &Scene| {
        let seen = scene.ca.seen();
        seen.iter().filter(|seen| seen.path.contains("/order-plz")).count()
    };
    assert_eq!(attempts(&scene), 1);
    scene.request_renewal("web").await;
    let counted = |it: &Certificate| {
        it.status
            .as_ref()
            .is_some_and(|status| status.failed_attempts == Some(2))
    };
    scene
        .cluster
        .wait(&scene.certificates(), "web", "counted again", SOON, counted)
        .await;
    assert_eq!(attempts(&scene), 1, "nothing is ordered");
    // The user does what the message says.
    scene.ca.clear();
    let secrets: Api<Secret> = scene.cluster.api(&scene.namespace);
    secrets.delete("acme-account", &DeleteParams::default()).await.unwrap();
    scene
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
    scene.verified("web", &[&host]).await;
}

#[tokio::test]
async fn a_ca_that_wants_a_user_to_act_is_the_issuers_failure_and_orders_nothing() {
    let scene = Scene::new(&World::shared().await, "terms").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    scene.ca.answer(
        Method::POST,
        "/order-plz",
        usize::MAX,
        Reply::problem(403, "userActionRequired"),
    );
    let (first, second) = (scene.host("a"), scene.host("b"));
    scene.apply(&manifests::certificate("a", "acme", &[&first])).await;
    let issuers = scene.cluster.api::<Issuer>(&scene.namespace);
    let issuer = scene
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "False", SOON)
        .await;
    let ready = condition(&issuer, "Ready").unwrap();
    assert_eq!(ready["reason"], "UserActionRequired");
    assert!(ready["message"].to_string().contains("so the CA said"), "{ready}");
    scene.failed("a", "IssuerNotReady").await;
    // Another one is not ordered, although the account answers that it is valid.
    scene.apply(&manifests::certificate("b", "acme", &[&second])).await;
    scene.failed("b", "IssuerNotReady").await;
    let orders = scene
        .ca
        .seen()
        .iter()
        .filter(|seen| seen.path.contains("/order-plz"))
        .count();
    assert_eq!(orders, 1);
    // The user has agreed, and does not want to wait: any change of the spec asks at once.
    scene.ca.clear();
    let change = serde_json::json!({"spec": {"acme": {"email": "ops@example.com"}}});
    issuers
        .patch(
            "acme",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(&change),
        )
        .await
        .unwrap();
    scene
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
    scene.verified("a", &[&first]).await;
    scene.verified("b", &[&second]).await;
}

#[tokio::test]
async fn an_order_that_the_ca_does_not_allow_says_nothing_about_the_account() {
    let scene = Scene::new(&World::shared().await, "forbidden").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    scene
        .ca
        .answer(Method::POST, "/order-plz", 1, Reply::problem(403, "unauthorized"));
    let host = scene.host("www");
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let certificate = scene.failed("web", "Rejected").await;
    assert!(message(&certificate).contains("so the CA said"));
    assert_eq!(certificate.status.unwrap().failed_attempts, Some(1));
    let issuer = scene.cluster.api::<Issuer>(&scene.namespace).get("acme").await.unwrap();
    assert_eq!(condition(&issuer, "Ready").unwrap()["status"], "True");
}

#[tokio::test]
async fn another_server_under_the_same_name_is_reported_and_learns_no_identifier_of_the_first() {
    let scene = Scene::new(&World::shared().await, "moved").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    let host = scene.host("www");
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    scene.verified("web", &[&host]).await;
    let first = scene.certificates().get("web").await.unwrap().status.unwrap();
    let authority = first.authority.clone().unwrap();
    assert_eq!(authority.kind, AuthorityType::ACME);
    let staging = format!("https://{}/dir", scene.ca.address());
    assert_eq!(authority.server.as_deref(), Some(staging.as_str()));

    let options = pebble::Options {
        dns: Some(scene.world.knot().address()),
        ..pebble::Options::default()
    };
    let other = scene.world.another_pebble(options).await;
    let gate = Gate::start(other.address(), other.ca_pem()).unwrap();
    let production = format!("https://{}/dir", gate.address());
    scene
        .apply(&manifests::acme_dns01(
            "acme",
            &production,
            gate.ca_pem(),
            scene.world.knot(),
        ))
        .await;
    let reported = |it: &Certificate| {
        let words = condition(it, "Ready").map(|ready| ready["message"].to_string());
        words.is_some_and(|words| words.contains(&format!("kubectl gatehouse renew -n {} web", scene.namespace)))
    };
    let certificates = scene.certificates();
    let certificate = scene
        .cluster
        .wait(&certificates, "web", "the changed server is reported", SOON, reported)
        .await;
    let words = message(&certificate);
    assert!(words.contains(&staging) && words.contains(&production), "{words}");
    let status = certificate.status.unwrap();
    assert_eq!(
        (status.revision, &status.serial_number),
        (Some(1), &first.serial_number)
    );
    assert_eq!(status.authority, first.authority);

    // The CA's advice is due: the new server is not asked about the old one's certificate.
    let past = Timestamp::from_second(Timestamp::now().as_second() - 60).unwrap();
    let due = Patch::Merge(json!({"status": {"acme": {"ari": {"nextCheckTime": past.to_string()}}}}));
    certificates
        .patch_status("web", &PatchParams::default(), &due)
        .await
        .unwrap();
    let postponed = |it: &Certificate| {
        let acme = it.status.as_ref().and_then(|status| status.acme.clone());
        let ari = acme.and_then(|acme| acme.ari);
        ari.and_then(|ari| ari.next_check_time).is_some_and(|time| time > past)
    };
    scene
        .cluster
        .wait(&certificates, "web", "the advice is put off", SOON, postponed)
        .await;
    let asked = |gate: &Gate| {
        gate.seen()
            .iter()
            .filter(|seen| seen.path.to_lowercase().contains("renewal"))
            .count()
    };
    assert_eq!(asked(&gate), 0, "{:#?}", gate.seen());

    scene.request_renewal("web").await;
    let renewed = |it: &Certificate| it.status.as_ref().is_some_and(|status| status.revision == Some(2));
    let certificate = scene.cluster.wait(&certificates, "web", "renewed", SOON, renewed).await;
    assert!(!message(&certificate).contains("kubectl"), "{}", message(&certificate));
    let authority = certificate.status.unwrap().authority.unwrap();
    assert_eq!(authority.server.as_deref(), Some(production.as_str()));
    let root = other.root().await.unwrap();
    scene.verified_by("web", &[&host], &root, SOON).await;
    assert_eq!(other.orders(), 1);
}

#[tokio::test]
async fn the_duration_is_requested_where_the_issuer_says_so_and_else_the_ca_decides() {
    let scene = Scene::new(&World::shared().await, "duration").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    let host = scene.host("www");
    let with_duration = |name: &str| format!("{}  duration: 240h\n", manifests::certificate(name, "acme", &[&host]));
    let lasts = |certificate: &Certificate| {
        let status = certificate.status.as_ref().unwrap();
        status
            .not_after
            .unwrap()
            .duration_since(status.not_before.unwrap())
            .as_hours()
    };
    scene.apply(&with_duration("plain")).await;
    scene.verified("plain", &[&host]).await;
    let certificate = scene.certificates().get("plain").await.unwrap();
    let words = message(&certificate);
    assert!((2158..=2160).contains(&lasts(&certificate)), "{}", lasts(&certificate));
    assert!(
        words.contains("240h") && words.contains("acme.enableDurationFeature: true"),
        "{words}"
    );
    let differences = certificate.status.unwrap().differences;
    assert!(differences.iter().any(|line| line.contains("240h")), "{differences:?}");
    scene.event("Certificate", "plain", "IssuedDifferently").await;

    let feature = Patch::Merge(json!({"spec": {"acme": {"enableDurationFeature": true}}}));
    let issuers = scene.cluster.api::<Issuer>(&scene.namespace);
    issuers.patch("acme", &PatchParams::default(), &feature).await.unwrap();
    let enabled = |it: &Certificate| {
        condition(it, "Ready").is_some_and(|ready| ready["message"].to_string().contains("which decides"))
    };
    let certificates = scene.certificates();
    scene
        .cluster
        .wait(&certificates, "plain", "the issuer asks for it now", SOON, enabled)
        .await;
    scene.apply(&with_duration("asked")).await;
    scene.verified("asked", &[&host]).await;
    let certificate = certificates.get("asked").await.unwrap();
    assert!((239..=241).contains(&lasts(&certificate)), "{}", lasts(&certificate));
    assert_eq!(certificate.status.as_ref().unwrap().differences, Vec::<String>::new());
    assert!(!message(&certificate).contains("duration"), "{}", message(&certificate));

    // A CA that knows no notAfter, as most.
    scene
        .ca
        .answer(Method::POST, "/order-plz", 1, Reply::problem(400, "malformed"));
    scene.apply(&with_duration("refused")).await;
    scene.verified("refused", &[&host]).await;
    let note = scene.event("Certificate", "refused", "DurationRefused").await;
    assert!(note.contains("so the CA said"), "{note}");
    let status = certificates.get("refused").await.unwrap().status.unwrap();
    assert_eq!((status.revision, status.failed_attempts), (Some(1), Some(0)));
}
