//! The CA, the API server and the objects themselves misbehave: the fault is reported where the user looks, nothing else
//! suffers, and when it is over the Certificate becomes Ready by itself.
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

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_crds::certificate::Certificate;
use gatehouse_crds::issuer::Issuer;
use gatehouse_tests::cluster::{condition, condition_is};
use gatehouse_tests::gate::Reply;
use gatehouse_tests::isolated_operator::SOON;
use gatehouse_tests::pki::Ca;
use gatehouse_tests::process::eventually;
use gatehouse_tests::{IsolatedOperator, Pebble, Proxy, TestCluster, control_plane, manifests, pebble, test_cluster};
use http::Method;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{Mutex, OnceCell};

/// The Issuer `acme` at another Pebble.
async fn acme_at(isolated: &IsolatedOperator, directory: &str, pebble: &Pebble) {
    let yaml = manifests::acme_dns01("acme", directory, pebble.ca_pem(), isolated.test_cluster.knot());
    isolated.apply(&yaml).await;
    let issuers = isolated.cluster.api::<Issuer>(&isolated.namespace);
    isolated
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
}

#[tokio::test]
async fn a_ca_that_is_down_for_a_while_costs_a_minute_or_a_request() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "down").await;
    let _operator = isolated.operator().await;
    let pebble = isolated.test_cluster.pebble();
    let proxy = Proxy::start(pebble.address()).unwrap();
    acme_at(&isolated, &pebble.directory_through(&proxy), pebble).await;
    proxy.cut();
    let [patient, hasty] = ["patient", "hasty"].map(|name| isolated.host(name));
    isolated
        .apply(&manifests::certificate("patient", "acme", &[&patient]))
        .await;
    isolated
        .apply(&manifests::certificate("hasty", "acme", &[&hasty]))
        .await;
    for name in ["patient", "hasty"] {
        let status = isolated.failed(name, "Network").await.status.unwrap();
        let pause = status
            .next_attempt_time
            .unwrap()
            .duration_since(status.last_failure.unwrap().time);
        // A minute, and up to a tenth more, so that many do not come at once.
        assert!((59..=68).contains(&pause.as_secs()), "{pause}");
        let note = isolated.event("Certificate", name, "IssuanceFailed").await;
        assert!(note.contains("cannot reach"), "{note}");
    }
    proxy.heal();
    let began = Instant::now();
    isolated.request_renewal("hasty").await;
    isolated.verified("hasty", &[&hasty]).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let root = pebble.root().await.unwrap();
    isolated
        .verified_by("patient", &[&patient], &root, Duration::from_secs(90))
        .await;
}

/// One Certificate of six is the failure; all wait, and the first answer wakes them.
#[tokio::test]
async fn one_outage_of_a_ca_is_one_failure_and_its_first_answer_wakes_all() {
    const NAMES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "outage").await;
    let _operator = isolated.operator().await;
    let pebble = isolated.test_cluster.pebble();
    let proxy = Proxy::start(pebble.address()).unwrap();
    acme_at(&isolated, &pebble.directory_through(&proxy), pebble).await;
    proxy.cut();
    for name in NAMES {
        let host = isolated.host(name);
        isolated.apply(&manifests::certificate(name, "acme", &[&host])).await;
    }
    let mut counted = 0;
    for name in NAMES {
        let status = isolated.failed(name, "Network").await.status.unwrap();
        assert!(status.last_failure.unwrap().message.contains("cannot reach"), "{name}");
        counted += status.failed_attempts.unwrap_or_default();
    }
    assert_eq!(counted, 1, "one outage, one failure");
    proxy.heal();
    // The owner of one does not wait for the next try.
    let began = Instant::now();
    isolated.request_renewal("six").await;
    for name in NAMES {
        isolated.verified(name, &[&isolated.host(name)]).await;
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// A fallback is for a CA that cannot: with most of the lifetime left a moment is waited for.
#[tokio::test]
async fn a_ca_that_is_busy_for_a_second_keeps_its_order_though_there_is_a_fallback() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "patient").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    let other = Ca::new("other").unwrap();
    isolated.apply(&manifests::ca("other", &other)).await;
    let host = isolated.host("www");
    let yaml = manifests::certificate("web", "acme", &[&host]);
    isolated
        .apply(&format!(
            "{}\n  fallbackIssuerRefs: [{{name: other}}]\n",
            yaml.trim_end()
        ))
        .await;
    isolated.verified("web", &[&host]).await;
    for (path, status) in [("/finalize-order/", 503), ("/authZ/", 503), ("/order-plz", 503)] {
        isolated.ca.answer(Method::POST, path, 1, page(status, Some("1")));
        let before = isolated
            .certificates()
            .get("web")
            .await
            .unwrap()
            .status
            .unwrap()
            .revision;
        isolated.request_renewal("web").await;
        let renewed = isolated
            .cluster
            .wait(&isolated.certificates(), "web", "renewed", SOON, |certificate| {
                certificate
                    .status
                    .as_ref()
                    .is_some_and(|status| status.revision > before)
            })
            .await;
        assert_eq!(renewed.status.unwrap().issuer.unwrap().name, "acme", "{path}");
    }
    let events = isolated.cluster.events("Certificate", &isolated.namespace, "web").await;
    assert!(
        events
            .iter()
            .all(|event| event.reason.as_deref() != Some("FallbackIssuer")),
        "{events:#?}"
    );
    assert_eq!(isolated.orders(), 4, "one order each");
}

/// A limit of one step of one order is that order's own.
#[tokio::test]
async fn a_limit_at_the_finalize_of_one_order_holds_no_other_certificate() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "finalize").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    isolated.ca.answer(
        Method::POST,
        "/finalize-order/",
        1,
        Reply::busy(429, "3600", "rateLimited"),
    );
    let (one, other) = (isolated.host("one"), isolated.host("other"));
    isolated.apply(&manifests::certificate("one", "acme", &[&one])).await;
    isolated.failed("one", "RateLimited").await;
    isolated
        .apply(&manifests::certificate("other", "acme", &[&other]))
        .await;
    isolated.verified("other", &[&other]).await;
    let status = isolated.certificates().get("other").await.unwrap().status.unwrap();
    assert_eq!(status.failed_attempts, Some(0));
}

#[tokio::test]
async fn a_slow_ca_is_waited_for() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "slow").await;
    let _operator = isolated.operator().await;
    let pebble = isolated.test_cluster.pebble();
    let proxy = Proxy::start(pebble.address()).unwrap();
    acme_at(&isolated, &pebble.directory_through(&proxy), pebble).await;
    proxy.slow(Duration::from_millis(400));
    let host = isolated.host("www");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    isolated.verified("web", &[&host]).await;
    let status = isolated.certificates().get("web").await.unwrap().status.unwrap();
    assert_eq!(status.failed_attempts, Some(0), "{status:?}");
}

#[tokio::test]
async fn of_ten_nonces_three_are_refused_and_nobody_notices() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "nonces").await;
    let _operator = isolated.operator().await;
    let options = pebble::Options {
        nonce_reject: 30,
        dns: Some(isolated.test_cluster.knot().address()),
        ..pebble::Options::default()
    };
    let pebble = isolated.test_cluster.another_pebble(options).await;
    acme_at(&isolated, &pebble.directory(), &pebble).await;
    let root = pebble.root().await.unwrap();
    for number in 0..8 {
        let host = isolated.host(&format!("n{number}"));
        isolated
            .apply(&manifests::certificate(&format!("n{number}"), "acme", &[&host]))
            .await;
    }
    for number in 0..8 {
        let name = format!("n{number}");
        isolated.verified_by(&name, &[&isolated.host(&name)], &root, SOON).await;
        let status = isolated.certificates().get(&name).await.unwrap().status.unwrap();
        assert_eq!(status.failed_attempts, Some(0), "{status:?}");
    }
    assert_eq!((pebble.orders(), pebble.issued()), (8, 8));
}

fn page(status: u16, retry_after: Option<&str>) -> Reply {
    let mut headers = vec![("content-type", "text/html".to_owned())];
    headers.extend(retry_after.map(|seconds| ("retry-after", seconds.to_owned())));
    Reply {
        status,
        headers,
        body: "<html><body><h1>Something is wrong</h1></body></html>".to_owned(),
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_as_told() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "limited").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    isolated
        .ca
        .answer(Method::POST, "/order-plz", 1, Reply::busy(429, "4", "rateLimited"));
    let (host, began) = (isolated.host("www"), Instant::now());
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let status = isolated.failed("web", "RateLimited").await.status.unwrap();
    let pause = status
        .next_attempt_time
        .unwrap()
        .duration_since(status.last_failure.unwrap().time);
    assert!((4..=7).contains(&pause.as_secs()), "{pause}");
    isolated.event("Certificate", "web", "RateLimited").await;
    isolated.verified("web", &[&host]).await;
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(isolated.orders(), 1);
}

/// The order that was interrupted is the one that is finished.
#[tokio::test]
async fn a_busy_ca_is_asked_again_when_it_said_and_the_order_is_kept() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "busy").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    isolated.ca.answer(Method::POST, "/authZ/", 1, page(503, Some("3")));
    let (host, began) = (isolated.host("www"), Instant::now());
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    isolated.failed("web", "Network").await;
    isolated.verified("web", &[&host]).await;
    let took = began.elapsed();
    assert!(
        (Duration::from_secs(3)..Duration::from_secs(30)).contains(&took),
        "{took:?}"
    );
    assert_eq!(
        (isolated.orders(), isolated.finalized()),
        (1, 1),
        "{:#?}",
        isolated.ca.seen()
    );
}

#[tokio::test]
async fn a_pause_that_the_ca_asks_for_in_mid_order_is_kept_by_all_of_the_account() {
    const PAUSE: Duration = Duration::from_secs(6);
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "pause").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    let (one, other) = (isolated.host("one"), isolated.host("other"));
    isolated.ca.answer(Method::POST, "/authZ/", 1, page(503, Some("6")));
    isolated.apply(&manifests::certificate("one", "acme", &[&one])).await;
    isolated.failed("one", "Network").await;
    isolated
        .apply(&manifests::certificate("other", "acme", &[&other]))
        .await;
    let reported = isolated.failed("other", "RateLimited").await;
    let message = condition(&reported, "Ready").unwrap()["message"].to_string();
    assert!(message.contains("takes no orders before"), "{message}");
    isolated.verified("one", &[&one]).await;
    isolated.verified("other", &[&other]).await;
    let seen = isolated.ca.seen();
    let busy = seen.iter().position(|seen| seen.status == 503).unwrap();
    let next = seen[busy + 1..]
        .iter()
        .find(|seen| seen.method == Method::POST)
        .unwrap();
    let pause = next.at.duration_since(seen[busy].at);
    assert!(pause >= PAUSE, "{pause:?}: {seen:#?}");
    assert_eq!((isolated.orders(), isolated.finalized()), (2, 2));
}

#[tokio::test]
async fn an_html_page_in_place_of_an_answer_is_told_and_survived() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "html").await;
    // The directory itself first: the issuer says so, and heals.
    isolated.ca.answer(Method::GET, "/dir", 1, page(200, None));
    let _operator = isolated.operator().await;
    let directory = format!("https://{}/dir", isolated.ca.address());
    isolated
        .apply(&manifests::acme_dns01(
            "acme",
            &directory,
            isolated.ca.ca_pem(),
            isolated.test_cluster.knot(),
        ))
        .await;
    let issuers = isolated.cluster.api::<Issuer>(&isolated.namespace);
    let issuer = isolated
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "False", SOON)
        .await;
    assert_eq!(condition(&issuer, "Ready").unwrap()["reason"], "Network");
    isolated.event("Issuer", "acme", "Network").await;
    isolated
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
    // Without a pause: a failure in the second in which the issuer became ready is a failure like others.
    for (path, status) in [("/order-plz", 502), ("/finalize-order/", 200)] {
        isolated.ca.answer(Method::POST, path, 1, page(status, None));
        let name = format!("web{status}");
        let host = isolated.host(&name);
        isolated.apply(&manifests::certificate(&name, "acme", &[&host])).await;
        let certificate = isolated.failed(&name, "Network").await;
        let message = condition(&certificate, "Ready").unwrap()["message"].to_string();
        assert!(message.contains(&status.to_string()), "{message}");
        isolated.request_renewal(&name).await;
        isolated.verified(&name, &[&host]).await;
    }
    assert_eq!(
        (isolated.orders(), isolated.finalized()),
        (2, 2),
        "{:#?}",
        isolated.ca.seen()
    );
}

#[tokio::test]
async fn a_validation_that_fails_is_told_and_a_later_order_succeeds() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "validation").await;
    // Listens where Pebble validates HTTP-01.
    let door = Proxy::start(isolated.test_cluster.plane.address()).unwrap();
    let options = pebble::Options {
        http_port: Some(door.address().port()),
        dns: Some(isolated.test_cluster.knot().address()),
        ..pebble::Options::default()
    };
    let pebble = isolated.test_cluster.another_pebble(options).await;
    let operator = isolated.operator().await;
    door.redirect(operator.address_of("http01").unwrap());
    door.cut();
    let yaml = manifests::acme_dns01(
        "acme",
        &pebble.directory(),
        pebble.ca_pem(),
        isolated.test_cluster.knot(),
    );
    let solvers = yaml.find("    solvers:").unwrap();
    let yaml = format!(
        "{}    solvers: [{{http01: {{ingress: {{ingressClassName: nginx}}}}}}]\n",
        &yaml[..solvers]
    );
    isolated.apply(&yaml).await;
    let host = isolated.host("www");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let certificate = isolated.failed("web", "ChallengeFailed").await;
    let message = condition(&certificate, "Ready").unwrap()["message"].to_string();
    assert!(message.contains(&host), "which name: {message}");
    isolated.event("Certificate", "web", "ChallengeFailed").await;
    assert!(
        certificate
            .status
            .unwrap()
            .acme
            .is_none_or(|acme| acme.order_url.is_none())
    );
    assert_eq!((pebble.orders(), pebble.issued()), (1, 0));

    door.heal();
    isolated.request_renewal("web").await;
    let root = pebble.root().await.unwrap();
    isolated.verified_by("web", &[&host], &root, SOON).await;
    assert_eq!((pebble.orders(), pebble.issued()), (2, 1));
}

#[tokio::test]
async fn a_certificate_deleted_in_mid_order_leaves_nothing_behind() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "deleted").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    let host = isolated.host("www");
    let record = format!("_acme-challenge.{host}");
    let mut stop = isolated.ca.hold_request(Method::POST, "/chalZ/");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    stop.reached(SOON).await;
    assert_eq!(isolated.test_cluster.knot().txt(&record).await.unwrap().len(), 1);
    isolated
        .certificates()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    isolated
        .cluster
        .wait_gone(&isolated.certificates(), "web", Duration::from_secs(5))
        .await;
    stop.release().await;
    eventually("the record and the order's key are taken away", SOON, || async {
        let record = isolated.test_cluster.knot().txt(&record).await.unwrap();
        (record.is_empty() && isolated.order_keys().await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(isolated.finalized(), 0, "nothing is issued");
    // The queue's place is free again, and the same name may come back.
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    isolated.verified("web", &[&host]).await;
}

#[tokio::test]
async fn a_certificate_suspended_in_mid_order_says_so_and_orders_anew_when_it_goes_on() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "suspended").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    let host = isolated.host("www");
    let mut stop = isolated.ca.hold_request(Method::POST, "/chalZ/");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    stop.reached(SOON).await;
    let suspend = async |value: bool| {
        let patch = Patch::Merge(json!({"spec": {"suspend": value}}));
        let certificates = isolated.certificates();
        certificates
            .patch("web", &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    suspend(true).await;
    stop.release().await;
    let suspended = isolated
        .cluster
        .wait(&isolated.certificates(), "web", "suspended", SOON, |it| {
            condition(it, "Issuing").is_some_and(|issuing| issuing["reason"] == "Suspended")
        })
        .await;
    assert_eq!(condition(&suspended, "Issuing").unwrap()["status"], "False");
    assert_eq!(condition(&suspended, "Ready").unwrap()["reason"], "Suspended");
    let status = suspended.status.unwrap();
    assert_eq!((status.acme, status.next_attempt_time), (None, None));
    eventually("the record and the order's key are taken away", SOON, || async {
        let record = isolated
            .test_cluster
            .knot()
            .txt(&format!("_acme-challenge.{host}"))
            .await
            .unwrap();
        (record.is_empty() && isolated.order_keys().await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(isolated.finalized(), 0);
    suspend(false).await;
    isolated.verified("web", &[&host]).await;
}

#[tokio::test]
async fn a_namespace_deleted_in_mid_order_is_gone_in_seconds_and_the_operator_goes_on() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "going").await;
    let other = isolated.cluster.namespace("staying").await;
    let operator = isolated
        .test_cluster
        .operator(&isolated.options().arg(format!("--namespace={other}")))
        .await;
    isolated.acme_issuer().await;
    let host = isolated.host("www");
    let mut stop = isolated.ca.hold_request(Method::POST, "/chalZ/");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    stop.reached(SOON).await;
    let namespaces = Api::<Namespace>::all(isolated.cluster.client());
    namespaces
        .delete(&isolated.namespace, &DeleteParams::default())
        .await
        .unwrap();
    // The namespace controller looks again after some seconds; nothing of ours holds it.
    isolated
        .cluster
        .wait_gone(&namespaces, &isolated.namespace, Duration::from_secs(20))
        .await;
    stop.release().await;
    eventually("the record is taken away", SOON, || async {
        let records = isolated
            .test_cluster
            .knot()
            .txt(&format!("_acme-challenge.{host}"))
            .await
            .unwrap();
        records.is_empty().then_some(())
    })
    .await;
    let ca = Ca::new("staying").unwrap();
    isolated.cluster.apply(&other, &manifests::ca("internal", &ca)).await;
    let yaml = manifests::certificate("web", "internal", &["www.example.test"]);
    isolated.cluster.apply(&other, &yaml).await;
    let certificates = isolated.cluster.api::<Certificate>(&other);
    isolated
        .cluster
        .wait_condition(&certificates, "web", "Ready", "True", Duration::from_secs(10))
        .await;
    assert!(operator.health("/healthz").await.unwrap().0.is_success());
}

/// Two hundred orders hang at a server that takes connections and says nothing.
#[tokio::test]
async fn a_dead_ca_with_two_hundred_certificates_does_not_slow_another_issuer() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "dead").await;
    let _operator = isolated.operator().await;
    let pebble = isolated.test_cluster.pebble();
    let proxy = Proxy::start(pebble.address()).unwrap();
    acme_at(&isolated, &pebble.directory_through(&proxy), pebble).await;
    let ca = Ca::new("alive").unwrap();
    isolated.apply(&manifests::ca("internal", &ca)).await;
    proxy.hold();
    let many: String = (0..200)
        .map(|number| {
            let host = isolated.host(&format!("h{number}"));
            format!(
                "{}---\n",
                manifests::certificate(&format!("h{number}"), "acme", &[&host])
            )
        })
        .collect();
    isolated.apply(&many).await;
    for number in 0..5 {
        let (name, began) = (format!("quick{number}"), Instant::now());
        isolated
            .apply(&manifests::certificate(&name, "internal", &["www.example.test"]))
            .await;
        isolated
            .verified_by(&name, &["www.example.test"], &ca.pem(), SOON)
            .await;
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{name}: {:?}",
            began.elapsed()
        );
    }
    assert_eq!(isolated.orders(), 0);
}

/// A world whose API server and CRDs are broken on purpose, by one test at a time.
async fn breakable() -> (Arc<TestCluster>, tokio::sync::MutexGuard<'static, ()>) {
    static WORLD: OnceCell<Arc<TestCluster>> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let start = || async {
        let options = test_cluster::Options {
            control_plane: control_plane::Options::default(),
            zones: vec!["example.test".to_owned()],
            pebble: Some(pebble::Options::default()),
        };
        Arc::new(TestCluster::start(options).await.unwrap())
    };
    let turn = TURN.lock().await;
    (Arc::clone(WORLD.get_or_init(start).await), turn)
}

#[tokio::test]
async fn an_api_server_that_is_restarted_in_mid_work_costs_no_order_and_no_certificate() {
    let (test_cluster, _turn) = breakable().await;
    let isolated = IsolatedOperator::new(&test_cluster, "restart").await;
    let mut operator = isolated.operator().await;
    isolated.acme_issuer().await;
    let ca = Ca::new("restart").unwrap();
    isolated.apply(&manifests::ca("internal", &ca)).await;
    let mut stop = isolated.ca.hold_request(Method::POST, "/chalZ/");
    let hosts: Vec<String> = (0..4).map(|number| isolated.host(&format!("a{number}"))).collect();
    for (number, host) in hosts.iter().enumerate() {
        isolated
            .apply(&manifests::certificate(&format!("a{number}"), "acme", &[host]))
            .await;
    }
    stop.reached(SOON).await;
    eventually("four orders are placed", SOON, || async {
        (isolated.orders() == 4).then_some(())
    })
    .await;
    let many: String = (0..60)
        .map(|number| {
            let yaml = manifests::certificate(&format!("c{number}"), "internal", &["www.example.test"]);
            format!("{yaml}---\n")
        })
        .collect();
    isolated.apply(&many).await;
    test_cluster.plane.kill_api_server();
    // The CA continues meanwhile.
    stop.release().await;
    test_cluster.plane.start_api_server().await.unwrap();
    let root = test_cluster.pebble().root().await.unwrap();
    for (number, host) in hosts.iter().enumerate() {
        isolated.verified_by(&format!("a{number}"), &[host], &root, SOON).await;
    }
    for number in 0..60 {
        isolated
            .verified_by(&format!("c{number}"), &["www.example.test"], &ca.pem(), SOON)
            .await;
    }
    assert_eq!((isolated.orders(), isolated.finalized()), (4, 4));
    assert!(operator.exited().is_none());
}

/// Objects that may come past validation: an older CRD, a restored backup, an edit in etcd.
#[tokio::test]
async fn invalid_objects_are_told_and_stop_no_other() {
    let (test_cluster, _turn) = breakable().await;
    let isolated = IsolatedOperator::new(&test_cluster, "invalid").await;
    let crds = Api::<CustomResourceDefinition>::all(isolated.cluster.client());
    let anything = json!({"x-kubernetes-preserve-unknown-fields": true});
    for crd in crds.list(&ListParams::default()).await.unwrap() {
        let schema = json!({"type": "object", "properties": {"spec": anything, "status": {"type": "object",
            "x-kubernetes-preserve-unknown-fields": true}}});
        let mut loose = crd.clone();
        loose.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema = serde_json::from_value(schema).unwrap();
        crds.replace(&crd.name_any(), &PostParams::default(), &loose)
            .await
            .unwrap();
    }
    let garbage = |kind: &str, name: &str, spec: &str| {
        format!("apiVersion: gatehouse.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let certificates = [
        ("text", "hello"),
        ("empty", "{}"),
        ("types", "{secretName: 5, issuerRef: [], dnsNames: yes}"),
        (
            "enum",
            "{secretName: enum-tls, issuerRef: {name: internal}, dnsNames: [a.test], privateKey: {algorithm: ROT13}}",
        ),
        (
            "names",
            "{secretName: names-tls, issuerRef: {name: internal}, dnsNames: ['not a name']}",
        ),
        (
            "duration",
            "{secretName: duration-tls, issuerRef: {name: internal}, dnsNames: [a.test], duration: soon}",
        ),
        ("absent", "{secretName: absent-tls, issuerRef: {name: internal}}"),
    ];
    let issuers = [
        ("text", "5"),
        ("none", "{}"),
        ("two", "{selfSigned: {}, ca: {secretName: internal-pair}}"),
        ("types", "{acme: {server: [], solvers: {}}}"),
        (
            "address",
            "{acme: {server: 'ftp://nowhere', privateKeySecretRef: {name: k}, solvers: [{http01: {ingress: {ingressClassName: x}}}]}}",
        ),
    ];
    eventually("the CRDs take anything", SOON, || async {
        let tried = isolated
            .cluster
            .try_apply(&isolated.namespace, &garbage("Certificate", "text", "hello"))
            .await;
        let issuer = isolated
            .cluster
            .try_apply(&isolated.namespace, &garbage("Issuer", "text", "5"))
            .await;
        (tried.is_ok() && issuer.is_ok()).then_some(())
    })
    .await;
    for (name, spec) in certificates {
        isolated.apply(&garbage("Certificate", name, spec)).await;
    }
    for (name, spec) in issuers {
        isolated.apply(&garbage("Issuer", name, spec)).await;
    }
    let ca = Ca::new("invalid").unwrap();
    // They exist already when the operator starts, and more come while it runs.
    let operator = isolated.operator().await;
    isolated.apply(&manifests::ca("internal", &ca)).await;
    isolated
        .apply(&manifests::certificate("good", "internal", &["www.example.test"]))
        .await;
    isolated
        .verified_by("good", &["www.example.test"], &ca.pem(), SOON)
        .await;
    isolated.apply(&garbage("Certificate", "late", "{issuerRef: 3}")).await;
    isolated.apply(&garbage("Issuer", "late", "[]")).await;
    isolated
        .apply(&manifests::certificate("better", "internal", &["www.example.test"]))
        .await;
    isolated
        .verified_by("better", &["www.example.test"], &ca.pem(), SOON)
        .await;

    for (kind, names) in [
        ("Certificate", certificates.map(|(name, _)| name).to_vec()),
        ("Certificate", vec!["late"]),
        ("Issuer", issuers.map(|(name, _)| name).to_vec()),
        ("Issuer", vec!["late"]),
    ] {
        let api = isolated
            .cluster
            .dynamic("gatehouse.dev/v1alpha1", kind, &isolated.namespace)
            .await
            .unwrap();
        for name in names {
            let object = isolated
                .cluster
                .wait(&api, name, "reported to be invalid", SOON, |object| {
                    condition_is(object, "Ready", "False")
                })
                .await;
            let ready = condition(&object, "Ready").unwrap();
            assert!(
                ready["message"].as_str().is_some_and(|message| message.len() > 10),
                "{kind} {name}: {ready}"
            );
            let events = eventually(&format!("an event about {kind} {name}"), SOON, || async {
                let events = isolated.cluster.events(kind, &isolated.namespace, name).await;
                (!events.is_empty()).then_some(events)
            })
            .await;
            assert!(
                events.iter().all(|event| event.type_.as_deref() == Some("Warning")),
                "{kind} {name}: {events:?}"
            );
        }
    }
    assert!(operator.health("/healthz").await.unwrap().0.is_success());

    // One that served and cannot be read any more keeps what its status says beside.
    let before = isolated.certificates().get("good").await.unwrap().status.unwrap();
    isolated.apply(&garbage("Certificate", "good", "{issuerRef: 3}")).await;
    let api = isolated
        .cluster
        .dynamic("gatehouse.dev/v1alpha1", "Certificate", &isolated.namespace)
        .await
        .unwrap();
    let after = isolated
        .cluster
        .wait(&api, "good", "reported to be invalid", SOON, |object| {
            condition_is(object, "Ready", "False")
        })
        .await;
    let mut status = after.data["status"].clone();
    let mut expected = json!(before);
    assert_eq!(condition(&after, "Ready").unwrap()["reason"], "Invalid");
    assert_eq!(condition(&after, "Issuing").unwrap()["status"], "False");
    for status in [&mut status, &mut expected] {
        status.as_object_mut().unwrap().remove("conditions");
    }
    assert_eq!(status, expected);
}
