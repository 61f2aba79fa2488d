//! The operator is killed at every step of an ACME order. Where the first order can still be finished there is exactly one
//! at the CA, and at the end there is a chain that verifies.
//!
//! Nothing in the operator helps to stop it: a gate on each of its sides holds one request, or one answer, while it is killed.
// A scenario is read from top to bottom, however long; its values are made in place.
#![allow(
    clippy::too_many_lines,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::type_complexity,
    clippy::needless_pass_by_value,
    clippy::borrow_as_ptr
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: to panic is how it reports"
)]

use std::time::{Duration, Instant};

use gatehouse_crds::certificate::Certificate;
use gatehouse_tests::gate::Stop;
use gatehouse_tests::process::eventually;
use gatehouse_tests::scene::SOON;
use gatehouse_tests::{Operator, Scene, World, manifests};
use http::Method;
use kube::api::DeleteParams;

const TAKEN_UP: &str = "an order is taken up again";

fn order_url(certificate: &Certificate) -> Option<&str> {
    certificate.status.as_ref()?.acme.as_ref()?.order_url.as_deref()
}

/// A scene with an issuer that is ready and an operator that runs.
async fn scene(name: &str) -> (Scene, Operator) {
    let scene = Scene::new(&World::shared().await, name).await;
    let operator = scene.operator().await;
    scene.acme_issuer().await;
    (scene, operator)
}

async fn ask(scene: &Scene) -> String {
    let host = scene.host("www");
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    host
}

/// Kills the operator at `stop`, throws away what was held there, lets the next operator finish, and looks at everything
/// that is left. The log of the second operator is the answer.
async fn crash(scene: &Scene, mut operator: Operator, mut stop: Stop, orders: usize) -> String {
    let host = ask(scene).await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    finish(scene, &host, orders).await
}

async fn finish(scene: &Scene, host: &str, orders: usize) -> String {
    let next = scene.operator().await;
    scene.verified("web", &[host]).await;
    assert_eq!(scene.orders(), orders, "orders at the CA; {:#?}", scene.ca.seen());
    assert_eq!(scene.finalized(), 1, "certificates at the CA; {:#?}", scene.ca.seen());
    eventually("the order's key is deleted", SOON, || async {
        scene.order_keys().await.is_empty().then_some(())
    })
    .await;
    let certificate = scene.certificates().get("web").await.unwrap();
    let status = certificate.status.clone().unwrap();
    assert_eq!(
        (status.revision, order_url(&certificate)),
        (Some(1), None),
        "{status:?}"
    );
    assert_eq!(status.issuer.map(|issuer| issuer.name).as_deref(), Some("acme"));
    assert!(
        status.acme.is_some_and(|acme| acme.ari.is_some()),
        "the CA's advice is asked for"
    );
    next.log()
}

async fn no_record_is_left(scene: &Scene, host: &str) {
    let name = format!("_acme-challenge.{host}");
    eventually("the challenge's record is taken away", SOON, || async {
        scene.world.knot().txt(&name).await.unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn killed_before_the_orders_key_is_kept() {
    let (scene, operator) = scene("before-key").await;
    let stop = scene.api.hold_request(Method::POST, "/secrets?");
    crash(&scene, operator, stop, 1).await;
}

#[tokio::test]
async fn killed_before_the_ca_hears_of_the_order() {
    let (scene, operator) = scene("before-order").await;
    let stop = scene.ca.hold_request(Method::POST, "/order-plz");
    crash(&scene, operator, stop, 1).await;
}

/// Nobody can finish an order whose URL was never heard of: one is lost, and no more.
#[tokio::test]
async fn killed_before_the_orders_url_is_heard() {
    let (scene, operator) = scene("order-lost").await;
    let stop = scene.ca.hold_answer(Method::POST, "/order-plz");
    crash(&scene, operator, stop, 2).await;
}

/// The same in the moment before the URL is in the status.
#[tokio::test]
async fn killed_before_the_orders_url_is_kept() {
    let (scene, mut operator) = scene("before-url").await;
    let mut ordered = scene.ca.hold_answer(Method::POST, "/order-plz");
    let host = ask(&scene).await;
    ordered.reached(SOON).await;
    let mut stop = scene.api.hold_request(Method::PATCH, "/certificates/web/status");
    ordered.release().await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    finish(&scene, &host, 2).await;
}

#[tokio::test]
async fn killed_when_the_orders_url_is_kept_and_its_answer_lost() {
    let (scene, mut operator) = scene("url-kept").await;
    let mut ordered = scene.ca.hold_answer(Method::POST, "/order-plz");
    let host = ask(&scene).await;
    ordered.reached(SOON).await;
    let mut stop = scene.api.hold_answer(Method::PATCH, "/certificates/web/status");
    ordered.release().await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    let log = finish(&scene, &host, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_while_it_reads_the_authorizations() {
    let (scene, operator) = scene("authorization").await;
    let stop = scene.ca.hold_request(Method::POST, "/authZ/");
    let log = crash(&scene, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_before_the_ca_is_told_to_look() {
    let (scene, operator) = scene("before-told").await;
    let stop = scene.ca.hold_request(Method::POST, "/chalZ/");
    let log = crash(&scene, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
    no_record_is_left(&scene, &scene.host("www")).await;
}

/// No status is left to say what was written: the operator's own record of it is.
#[tokio::test]
async fn records_of_a_certificate_deleted_while_no_operator_runs_are_removed() {
    let (scene, mut operator) = scene("deleted-meanwhile").await;
    let mut stop = scene.ca.hold_request(Method::POST, "/chalZ/");
    let host = ask(&scene).await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    let name = format!("_acme-challenge.{host}");
    assert_eq!(scene.world.knot().txt(&name).await.unwrap().len(), 1);
    scene
        .certificates()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    let _next = scene.operator().await;
    no_record_is_left(&scene, &host).await;
}

#[tokio::test]
async fn killed_when_the_ca_is_told_and_its_answer_lost() {
    let (scene, operator) = scene("told").await;
    let stop = scene.ca.hold_answer(Method::POST, "/chalZ/");
    let log = crash(&scene, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

/// The CA looks, and the operator waits for its verdict.
#[tokio::test]
async fn killed_while_the_ca_validates() {
    let (scene, mut operator) = scene("validating").await;
    let mut told = scene.ca.hold_answer(Method::POST, "/chalZ/");
    let host = ask(&scene).await;
    told.reached(SOON).await;
    let mut stop = scene.ca.hold_request(Method::POST, "Z/");
    told.release().await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    let log = finish(&scene, &host, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_before_the_order_is_finalized() {
    let (scene, operator) = scene("before-finalize").await;
    let stop = scene.ca.hold_request(Method::POST, "/finalize-order/");
    let log = crash(&scene, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

/// The CA has signed the key of an operator that is no more: the next one has that key.
#[tokio::test]
async fn killed_when_the_order_is_finalized_and_the_answer_lost() {
    let (scene, operator) = scene("finalized").await;
    let stop = scene.ca.hold_answer(Method::POST, "/finalize-order/");
    let log = crash(&scene, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_before_the_certificate_is_fetched() {
    let (scene, operator) = scene("before-fetch").await;
    let stop = scene.ca.hold_request(Method::POST, "/certZ/");
    let log = crash(&scene, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_before_the_secret_is_written() {
    let (scene, operator) = scene("before-secret").await;
    let stop = scene.api.hold_request(Method::PATCH, "/secrets/web-tls");
    let log = crash(&scene, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_when_the_secret_is_written_and_the_answer_lost() {
    let (scene, operator) = scene("secret").await;
    let stop = scene.api.hold_answer(Method::PATCH, "/secrets/web-tls");
    crash(&scene, operator, stop, 1).await;
}

/// The Secret speaks for itself: no second order, and the status says when the certificate was issued.
#[tokio::test]
async fn killed_between_the_secret_and_the_status() {
    let (scene, mut operator) = scene("before-status").await;
    let mut written = scene.api.hold_answer(Method::PATCH, "/secrets/web-tls");
    let host = ask(&scene).await;
    written.reached(SOON).await;
    let mut stop = scene.api.hold_request(Method::PATCH, "/certificates/web/status");
    written.release().await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    finish(&scene, &host, 1).await;
}

/// A request that was answered before the crash is not answered again after it.
#[tokio::test]
async fn killed_between_the_secret_and_the_status_of_a_renewal_on_request() {
    let (scene, mut operator) = scene("renewal").await;
    let host = ask(&scene).await;
    let first = scene.verified("web", &[&host]).await;
    let mut written = scene.api.hold_answer(Method::PATCH, "/secrets/web-tls");
    // Newer than the first certificate: the status has whole seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let at = jiff::Timestamp::now();
    let request = format!(
        "{}
",
        manifests::certificate("web", "acme", &[&host])
    )
    .replace(
        "metadata: {name: web}",
        &format!("metadata: {{name: web, annotations: {{gatehouse.dev/renew-requested-at: \"{at}\"}}}}"),
    );
    scene.apply(&request).await;
    written.reached(SOON).await;
    let mut stop = scene.api.hold_request(Method::PATCH, "/certificates/web/status");
    written.release().await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    let _next = scene.operator().await;
    scene
        .cluster
        .wait(&scene.certificates(), "web", "renewed", SOON, |certificate| {
            certificate.status.as_ref().and_then(|status| status.revision) == Some(2)
        })
        .await;
    let second = scene.verified("web", &[&host]).await;
    assert_ne!(first.serial, second.serial);
    // Nothing happens any more: the next look at the Certificate comes within this time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((scene.orders(), scene.finalized()), (2, 2), "{:#?}", scene.ca.seen());
}

#[tokio::test]
async fn killed_before_the_orders_key_is_deleted() {
    let (scene, operator) = scene("before-clean-up").await;
    let stop = scene.api.hold_request(Method::DELETE, "/secrets/gatehouse-order-");
    crash(&scene, operator, stop, 1).await;
}

/// The DNS server is silent while the record is on its way there.
#[tokio::test]
async fn killed_while_the_dns_server_does_not_answer() {
    let world = World::shared().await;
    let scene = Scene::new(&world, "propagation").await;
    let mut operator = scene.operator().await;
    // A Knot of its own: that of the world answers the others.
    let knot = gatehouse_tests::Knot::start(scene.world.folder(), &["example.test"])
        .await
        .unwrap();
    let pebble = world
        .another_pebble(gatehouse_tests::pebble::Options {
            dns: Some(knot.address()),
            ..gatehouse_tests::pebble::Options::default()
        })
        .await;
    let yaml = manifests::acme_dns01("acme", &pebble.directory(), pebble.ca_pem(), &knot);
    scene.apply(&yaml).await;
    let issuers = scene.cluster.api::<gatehouse_crds::issuer::Issuer>(&scene.namespace);
    scene
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
    knot.freeze();
    let host = ask(&scene).await;
    scene
        .cluster
        .wait(&scene.certificates(), "web", "ordered", SOON, |certificate| {
            order_url(certificate).is_some()
        })
        .await;
    operator.kill9();
    knot.thaw();
    let next = scene.operator().await;
    let root = pebble.root().await.unwrap();
    scene.verified_by("web", &[&host], &root, SOON).await;
    assert_eq!((pebble.orders(), pebble.issued()), (1, 1));
    assert!(next.log().contains(TAKEN_UP), "{}", next.log());
}

#[tokio::test]
async fn asked_to_end_in_mid_order_it_finishes_the_step_and_the_next_goes_on() {
    let (scene, mut operator) = scene("graceful").await;
    let mut stop = scene.ca.hold_request(Method::POST, "/chalZ/");
    let host = ask(&scene).await;
    stop.reached(SOON).await;
    let url = order_url(&scene.certificates().get("web").await.unwrap()).map(str::to_owned);
    assert!(url.is_some(), "the order's URL is kept before anything else");
    let began = Instant::now();
    let (status, ()) = tokio::join!(operator.terminate(Duration::from_secs(30)), async {
        // Long enough that the signal comes first.
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.release().await;
    });
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let told = scene.ca.successes(&Method::POST, "/chalZ/");
    assert_eq!(told, 1, "the step in hand was finished");
    let log = finish(&scene, &host, 1).await;
    assert!(log.contains(&url.unwrap()) && log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn asked_to_end_while_the_ca_hangs_it_ends_within_thirty_seconds() {
    let (scene, mut operator) = scene("hanging").await;
    let mut stop = scene.ca.hold_request(Method::POST, "/finalize-order/");
    let host = ask(&scene).await;
    stop.reached(SOON).await;
    let status = operator.terminate(Duration::from_secs(30)).await;
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    drop(stop);
    let log = finish(&scene, &host, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

/// Nothing is in hand yet, so there is nothing to wait for.
#[tokio::test]
async fn asked_to_end_before_it_has_listed_anything_it_ends_at_once() {
    for list in ["/certificates?", "/issuers?", "/secrets?"] {
        let scene = Scene::new(&World::shared().await, "early").await;
        scene
            .apply(&manifests::certificate("web", "nobody", &["www.example.test"]))
            .await;
        let mut stop = scene.api.hold_request(Method::GET, list);
        let mut operator = scene.operator().await;
        stop.reached(SOON).await;
        let began = Instant::now();
        let status = operator.terminate(Duration::from_secs(30)).await;
        assert!(status.is_some_and(|status| status.success()), "{list}: {status:?}");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{list}: {:?}",
            began.elapsed()
        );
    }
}

/// The list of Secrets may be the last to arrive: everybody who waited for it goes on.
#[tokio::test]
async fn certificates_that_are_there_before_the_list_of_secrets_all_go_on() {
    let scene = Scene::new(&World::shared().await, "late-list").await;
    let ca = gatehouse_tests::pki::Ca::new("late").unwrap();
    scene.apply(&manifests::ca("internal", &ca)).await;
    let names: Vec<String> = (0..10).map(|number| format!("c{number}")).collect();
    for name in &names {
        scene
            .apply(&manifests::certificate(name, "internal", &["www.example.test"]))
            .await;
    }
    let mut stop = scene.api.hold_request(Method::GET, "/secrets?");
    let operator = scene.operator().await;
    stop.reached(SOON).await;
    // All of them are waiting when the first has been looked at: nothing tells of that but the log of the API.
    eventually("the issuer is ready", SOON, || async {
        let issuers = scene.cluster.api::<gatehouse_crds::issuer::Issuer>(&scene.namespace);
        let issuer = issuers.get("internal").await.unwrap();
        gatehouse_tests::cluster::condition_is(&issuer, "Ready", "True").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.release().await;
    for name in &names {
        scene.verified_by(name, &["www.example.test"], &ca.pem(), SOON).await;
    }
    drop(operator);
}
