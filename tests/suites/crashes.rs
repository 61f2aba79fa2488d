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
use gatehouse_tests::isolated_operator::SOON;
use gatehouse_tests::process::eventually;
use gatehouse_tests::{IsolatedOperator, Operator, TestCluster, manifests};
use http::Method;
use kube::api::DeleteParams;

const TAKEN_UP: &str = "order resumed";

fn order_url(certificate: &Certificate) -> Option<&str> {
    certificate.status.as_ref()?.acme.as_ref()?.order_url.as_deref()
}

/// A scene with an issuer that is ready and an operator that runs.
async fn isolated(name: &str) -> (IsolatedOperator, Operator) {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, name).await;
    let operator = isolated.operator().await;
    isolated.acme_issuer().await;
    (isolated, operator)
}

async fn ask(isolated: &IsolatedOperator) -> String {
    let host = isolated.host("www");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    host
}

/// Kills the operator at `stop`, throws away what was held there, lets the next operator finish, and looks at everything
/// that is left. The log of the second operator is the answer.
async fn crash(isolated: &IsolatedOperator, mut operator: Operator, mut stop: Stop, orders: usize) -> String {
    let host = ask(isolated).await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    finish(isolated, &host, orders).await
}

async fn finish(isolated: &IsolatedOperator, host: &str, orders: usize) -> String {
    let next = isolated.operator().await;
    isolated.verified("web", &[host]).await;
    assert_eq!(isolated.orders(), orders, "orders at the CA; {:#?}", isolated.ca.seen());
    assert_eq!(
        isolated.finalized(),
        1,
        "certificates at the CA; {:#?}",
        isolated.ca.seen()
    );
    eventually("the order's key is deleted", SOON, || async {
        isolated.order_keys().await.is_empty().then_some(())
    })
    .await;
    let certificate = isolated.certificates().get("web").await.unwrap();
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

async fn no_record_is_left(isolated: &IsolatedOperator, host: &str) {
    let name = format!("_acme-challenge.{host}");
    eventually("the challenge's record is taken away", SOON, || async {
        isolated
            .test_cluster
            .knot()
            .txt(&name)
            .await
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn killed_before_the_orders_key_is_kept() {
    let (isolated, operator) = isolated("before-key").await;
    let stop = isolated.api.hold_request(Method::POST, "/secrets?");
    crash(&isolated, operator, stop, 1).await;
}

#[tokio::test]
async fn killed_before_the_ca_hears_of_the_order() {
    let (isolated, operator) = isolated("before-order").await;
    let stop = isolated.ca.hold_request(Method::POST, "/order-plz");
    crash(&isolated, operator, stop, 1).await;
}

/// An order whose URL was never received cannot be completed: exactly one is lost.
#[tokio::test]
async fn killed_before_the_orders_url_is_heard() {
    let (isolated, operator) = isolated("order-lost").await;
    let stop = isolated.ca.hold_answer(Method::POST, "/order-plz");
    crash(&isolated, operator, stop, 2).await;
}

/// The same in the moment before the URL is in the status.
#[tokio::test]
async fn killed_before_the_orders_url_is_kept() {
    let (isolated, mut operator) = isolated("before-url").await;
    let mut ordered = isolated.ca.hold_answer(Method::POST, "/order-plz");
    let host = ask(&isolated).await;
    ordered.reached(SOON).await;
    let mut stop = isolated.api.hold_request(Method::PATCH, "/certificates/web/status");
    ordered.release().await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    finish(&isolated, &host, 2).await;
}

#[tokio::test]
async fn killed_when_the_orders_url_is_kept_and_its_answer_lost() {
    let (isolated, mut operator) = isolated("url-kept").await;
    let mut ordered = isolated.ca.hold_answer(Method::POST, "/order-plz");
    let host = ask(&isolated).await;
    ordered.reached(SOON).await;
    let mut stop = isolated.api.hold_answer(Method::PATCH, "/certificates/web/status");
    ordered.release().await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    let log = finish(&isolated, &host, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_while_it_reads_the_authorizations() {
    let (isolated, operator) = isolated("authorization").await;
    let stop = isolated.ca.hold_request(Method::POST, "/authZ/");
    let log = crash(&isolated, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_before_the_ca_is_told_to_look() {
    let (isolated, operator) = isolated("before-reported").await;
    let stop = isolated.ca.hold_request(Method::POST, "/chalZ/");
    let log = crash(&isolated, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
    no_record_is_left(&isolated, &isolated.host("www")).await;
}

/// No status is left to say what was written: the operator's own record of it is.
#[tokio::test]
async fn records_of_a_certificate_deleted_while_no_operator_runs_are_removed() {
    let (isolated, mut operator) = isolated("deleted-meanwhile").await;
    let mut stop = isolated.ca.hold_request(Method::POST, "/chalZ/");
    let host = ask(&isolated).await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    let name = format!("_acme-challenge.{host}");
    assert_eq!(isolated.test_cluster.knot().txt(&name).await.unwrap().len(), 1);
    isolated
        .certificates()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    let _next = isolated.operator().await;
    no_record_is_left(&isolated, &host).await;
}

#[tokio::test]
async fn killed_when_the_ca_is_told_and_its_answer_lost() {
    let (isolated, operator) = isolated("reported").await;
    let stop = isolated.ca.hold_answer(Method::POST, "/chalZ/");
    let log = crash(&isolated, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

/// The CA looks, and the operator waits for its verdict.
#[tokio::test]
async fn killed_while_the_ca_validates() {
    let (isolated, mut operator) = isolated("validating").await;
    let mut reported = isolated.ca.hold_answer(Method::POST, "/chalZ/");
    let host = ask(&isolated).await;
    reported.reached(SOON).await;
    let mut stop = isolated.ca.hold_request(Method::POST, "Z/");
    reported.release().await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    let log = finish(&isolated, &host, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_before_the_order_is_finalized() {
    let (isolated, operator) = isolated("before-finalize").await;
    let stop = isolated.ca.hold_request(Method::POST, "/finalize-order/");
    let log = crash(&isolated, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

/// The CA has signed the key of an operator that is gone: the next one has that key.
#[tokio::test]
async fn killed_when_the_order_is_finalized_and_the_answer_lost() {
    let (isolated, operator) = isolated("finalized").await;
    let stop = isolated.ca.hold_answer(Method::POST, "/finalize-order/");
    let log = crash(&isolated, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_before_the_certificate_is_fetched() {
    let (isolated, operator) = isolated("before-fetch").await;
    let stop = isolated.ca.hold_request(Method::POST, "/certZ/");
    let log = crash(&isolated, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_before_the_secret_is_written() {
    let (isolated, operator) = isolated("before-secret").await;
    let stop = isolated.api.hold_request(Method::PATCH, "/secrets/web-tls");
    let log = crash(&isolated, operator, stop, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn killed_when_the_secret_is_written_and_the_answer_lost() {
    let (isolated, operator) = isolated("secret").await;
    let stop = isolated.api.hold_answer(Method::PATCH, "/secrets/web-tls");
    crash(&isolated, operator, stop, 1).await;
}

/// The Secret speaks for itself: no second order, and the status says when the certificate was issued.
#[tokio::test]
async fn killed_between_the_secret_and_the_status() {
    let (isolated, mut operator) = isolated("before-status").await;
    let mut written = isolated.api.hold_answer(Method::PATCH, "/secrets/web-tls");
    let host = ask(&isolated).await;
    written.reached(SOON).await;
    let mut stop = isolated.api.hold_request(Method::PATCH, "/certificates/web/status");
    written.release().await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    finish(&isolated, &host, 1).await;
}

/// A request that was answered before the crash is not answered again after it.
#[tokio::test]
async fn killed_between_the_secret_and_the_status_of_a_renewal_on_request() {
    let (isolated, mut operator) = isolated("renewal").await;
    let host = ask(&isolated).await;
    let first = isolated.verified("web", &[&host]).await;
    let mut written = isolated.api.hold_answer(Method::PATCH, "/secrets/web-tls");
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
    isolated.apply(&request).await;
    written.reached(SOON).await;
    let mut stop = isolated.api.hold_request(Method::PATCH, "/certificates/web/status");
    written.release().await;
    stop.reached(SOON).await;
    operator.kill9();
    drop(stop);
    let _next = isolated.operator().await;
    isolated
        .cluster
        .wait(&isolated.certificates(), "web", "renewed", SOON, |certificate| {
            certificate.status.as_ref().and_then(|status| status.revision) == Some(2)
        })
        .await;
    let second = isolated.verified("web", &[&host]).await;
    assert_ne!(first.serial, second.serial);
    // Nothing happens any more: the next look at the Certificate comes within this time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        (isolated.orders(), isolated.finalized()),
        (2, 2),
        "{:#?}",
        isolated.ca.seen()
    );
}

#[tokio::test]
async fn killed_before_the_orders_key_is_deleted() {
    let (isolated, operator) = isolated("before-clean-up").await;
    let stop = isolated.api.hold_request(Method::DELETE, "/secrets/gatehouse-order-");
    crash(&isolated, operator, stop, 1).await;
}

/// The DNS server is silent while the record is on its way there.
#[tokio::test]
async fn killed_while_the_dns_server_does_not_answer() {
    let test_cluster = TestCluster::shared().await;
    let isolated = IsolatedOperator::new(&test_cluster, "propagation").await;
    let mut operator = isolated.operator().await;
    // A Knot of its own: that of the world answers the others.
    let knot = gatehouse_tests::Knot::start(isolated.test_cluster.folder(), &["example.test"])
        .await
        .unwrap();
    let pebble = test_cluster
        .another_pebble(gatehouse_tests::pebble::Options {
            dns: Some(knot.address()),
            ..gatehouse_tests::pebble::Options::default()
        })
        .await;
    let yaml = manifests::acme_dns01("acme", &pebble.directory(), pebble.ca_pem(), &knot);
    isolated.apply(&yaml).await;
    let issuers = isolated
        .cluster
        .api::<gatehouse_crds::issuer::Issuer>(&isolated.namespace);
    isolated
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
    knot.freeze();
    let host = ask(&isolated).await;
    isolated
        .cluster
        .wait(&isolated.certificates(), "web", "ordered", SOON, |certificate| {
            order_url(certificate).is_some()
        })
        .await;
    operator.kill9();
    knot.thaw();
    let next = isolated.operator().await;
    let root = pebble.root().await.unwrap();
    isolated.verified_by("web", &[&host], &root, SOON).await;
    assert_eq!((pebble.orders(), pebble.issued()), (1, 1));
    assert!(next.log().contains(TAKEN_UP), "{}", next.log());
}

#[tokio::test]
async fn asked_to_end_in_mid_order_it_finishes_the_step_and_the_next_goes_on() {
    let (isolated, mut operator) = isolated("graceful").await;
    let mut stop = isolated.ca.hold_request(Method::POST, "/chalZ/");
    let host = ask(&isolated).await;
    stop.reached(SOON).await;
    let url = order_url(&isolated.certificates().get("web").await.unwrap()).map(str::to_owned);
    assert!(url.is_some(), "the order's URL is kept before anything else");
    let began = Instant::now();
    let (status, ()) = tokio::join!(operator.terminate(Duration::from_secs(30)), async {
        // Long enough that the signal comes first.
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.release().await;
    });
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let reported = isolated.ca.successes(&Method::POST, "/chalZ/");
    assert_eq!(reported, 1, "the step in progress was finished");
    let log = finish(&isolated, &host, 1).await;
    assert!(log.contains(&url.unwrap()) && log.contains(TAKEN_UP), "{log}");
}

#[tokio::test]
async fn asked_to_end_while_the_ca_hangs_it_ends_within_thirty_seconds() {
    let (isolated, mut operator) = isolated("hanging").await;
    let mut stop = isolated.ca.hold_request(Method::POST, "/finalize-order/");
    let host = ask(&isolated).await;
    stop.reached(SOON).await;
    let status = operator.terminate(Duration::from_secs(30)).await;
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    drop(stop);
    let log = finish(&isolated, &host, 1).await;
    assert!(log.contains(TAKEN_UP), "{log}");
}

/// Nothing is in progress yet, so there is nothing to wait for.
#[tokio::test]
async fn asked_to_end_before_it_has_listed_anything_it_ends_at_once() {
    for list in ["/certificates?", "/issuers?", "/secrets?"] {
        let isolated = IsolatedOperator::new(&TestCluster::shared().await, "early").await;
        isolated
            .apply(&manifests::certificate("web", "absent", &["www.example.test"]))
            .await;
        let mut stop = isolated.api.hold_request(Method::GET, list);
        let mut operator = isolated.operator().await;
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

/// The list of Secrets may be the last to arrive: all that waited for it continue.
#[tokio::test]
async fn certificates_that_are_there_before_the_list_of_secrets_all_go_on() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "late-list").await;
    let ca = gatehouse_tests::pki::Ca::new("late").unwrap();
    isolated.apply(&manifests::ca("internal", &ca)).await;
    let names: Vec<String> = (0..10).map(|number| format!("c{number}")).collect();
    for name in &names {
        isolated
            .apply(&manifests::certificate(name, "internal", &["www.example.test"]))
            .await;
    }
    let mut stop = isolated.api.hold_request(Method::GET, "/secrets?");
    let operator = isolated.operator().await;
    stop.reached(SOON).await;
    // All of them are waiting when the first has been reconciled: only the log of the API shows that.
    eventually("the issuer is ready", SOON, || async {
        let issuers = isolated
            .cluster
            .api::<gatehouse_crds::issuer::Issuer>(&isolated.namespace);
        let issuer = issuers.get("internal").await.unwrap();
        gatehouse_tests::cluster::condition_is(&issuer, "Ready", "True").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.release().await;
    for name in &names {
        isolated.verified_by(name, &["www.example.test"], &ca.pem(), SOON).await;
    }
    drop(operator);
}
