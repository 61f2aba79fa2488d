//! The CA, the API server and the objects themselves misbehave: what is wrong is told where the user looks, nothing else
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
use gatehouse_tests::pki::Ca;
use gatehouse_tests::process::eventually;
use gatehouse_tests::scene::SOON;
use gatehouse_tests::{Pebble, Proxy, Scene, World, control_plane, manifests, pebble, world};
use http::Method;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::{Mutex, OnceCell};

/// The Issuer `acme` at another Pebble.
async fn acme_at(scene: &Scene, directory: &str, pebble: &Pebble) {
    let yaml = manifests::acme_dns01("acme", directory, pebble.ca_pem(), scene.world.knot());
    scene.apply(&yaml).await;
    let issuers = scene.cluster.api::<Issuer>(&scene.namespace);
    scene
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
}

#[tokio::test]
async fn a_ca_that_is_down_for_a_while_costs_a_minute_or_a_request() {
    let scene = Scene::new(&World::shared().await, "down").await;
    let _operator = scene.operator().await;
    let pebble = scene.world.pebble();
    let proxy = Proxy::start(pebble.address()).unwrap();
    acme_at(&scene, &pebble.directory_through(&proxy), pebble).await;
    proxy.cut();
    let [patient, hasty] = ["patient", "hasty"].map(|name| scene.host(name));
    scene
        .apply(&manifests::certificate("patient", "acme", &[&patient]))
        .await;
    scene.apply(&manifests::certificate("hasty", "acme", &[&hasty])).await;
    for name in ["patient", "hasty"] {
        let status = scene.failed(name, "Network").await.status.unwrap();
        let pause = status
            .next_attempt_time
            .unwrap()
            .duration_since(status.last_failure.unwrap().time);
        // A minute, and up to a tenth more, so that many do not come at once.
        assert!((59..=68).contains(&pause.as_secs()), "{pause}");
        let note = scene.event("Certificate", name, "IssuanceFailed").await;
        assert!(note.contains("cannot reach"), "{note}");
    }
    proxy.heal();
    let began = Instant::now();
    scene.request_renewal("hasty").await;
    scene.verified("hasty", &[&hasty]).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let root = pebble.root().await.unwrap();
    scene
        .verified_by("patient", &[&patient], &root, Duration::from_secs(90))
        .await;
}

/// One Certificate of six is the failure; all wait, and the first answer wakes them.
#[tokio::test]
async fn one_outage_of_a_ca_is_one_failure_and_its_first_answer_wakes_all() {
    const NAMES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
    let scene = Scene::new(&World::shared().await, "outage").await;
    let _operator = scene.operator().await;
    let pebble = scene.world.pebble();
    let proxy = Proxy::start(pebble.address()).unwrap();
    acme_at(&scene, &pebble.directory_through(&proxy), pebble).await;
    proxy.cut();
    for name in NAMES {
        let host = scene.host(name);
        scene.apply(&manifests::certificate(name, "acme", &[&host])).await;
    }
    let mut counted = 0;
    for name in NAMES {
        let status = scene.failed(name, "Network").await.status.unwrap();
        assert!(status.last_failure.unwrap().message.contains("cannot reach"), "{name}");
        counted += status.failed_attempts.unwrap_or_default();
    }
    assert_eq!(counted, 1, "one outage, one failure");
    proxy.heal();
    // The owner of one does not wait for the next try.
    let began = Instant::now();
    scene.request_renewal("six").await;
    for name in NAMES {
        scene.verified(name, &[&scene.host(name)]).await;
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// A fallback is for a CA that cannot: with most of the lifetime left a moment is waited for.
#[tokio::test]
async fn a_ca_that_is_busy_for_a_second_keeps_its_order_though_there_is_a_fallback() {
    let scene = Scene::new(&World::shared().await, "patient").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    let other = Ca::new("other").unwrap();
    scene.apply(&manifests::ca("other", &other)).await;
    let host = scene.host("www");
    let yaml = manifests::certificate("web", "acme", &[&host]);
    scene
        .apply(&format!(
            "{}\n  fallbackIssuerRefs: [{{name: other}}]\n",
            yaml.trim_end()
        ))
        .await;
    scene.verified("web", &[&host]).await;
    for (path, status) in [("/finalize-order/", 503), ("/authZ/", 503), ("/order-plz", 503)] {
        scene.ca.answer(Method::POST, path, 1, page(status, Some("1")));
        let before = scene.certificates().get("web").await.unwrap().status.unwrap().revision;
        scene.request_renewal("web").await;
        let renewed = scene
            .cluster
            .wait(&scene.certificates(), "web", "renewed", SOON, |certificate| {
                certificate
                    .status
                    .as_ref()
                    .is_some_and(|status| status.revision > before)
            })
            .await;
        assert_eq!(renewed.status.unwrap().issuer.unwrap().name, "acme", "{path}");
    }
    let events = scene.cluster.events("Certificate", &scene.namespace, "web").await;
    assert!(
        events
            .iter()
            .all(|event| event.reason.as_deref() != Some("FallbackIssuer")),
        "{events:#?}"
    );
    assert_eq!(scene.orders(), 4, "one order each");
}

/// A limit of one step of one order is that order's own.
#[tokio::test]
async fn a_limit_at_the_finalize_of_one_order_holds_no_other_certificate() {
    let scene = Scene::new(&World::shared().await, "finalize").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    scene.ca.answer(
        Method::POST,
        "/finalize-order/",
        1,
        Reply::busy(429, "3600", "rateLimited"),
    );
    let (one, other) = (scene.host("one"), scene.host("other"));
    scene.apply(&manifests::certificate("one", "acme", &[&one])).await;
    scene.failed("one", "RateLimited").await;
    scene.apply(&manifests::certificate("other", "acme", &[&other])).await;
    scene.verified("other", &[&other]).await;
    let status = scene.certificates().get("other").await.unwrap().status.unwrap();
    assert_eq!(status.failed_attempts, Some(0));
}

#[tokio::test]
async fn a_slow_ca_is_waited_for() {
    let scene = Scene::new(&World::shared().await, "slow").await;
    let _operator = scene.operator().await;
    let pebble = scene.world.pebble();
    let proxy = Proxy::start(pebble.address()).unwrap();
    acme_at(&scene, &pebble.directory_through(&proxy), pebble).await;
    proxy.slow(Duration::from_millis(400));
    let host = scene.host("www");
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    scene.verified("web", &[&host]).await;
    let status = scene.certificates().get("web").await.unwrap().status.unwrap();
    assert_eq!(status.failed_attempts, Some(0), "{status:?}");
}

#[tokio::test]
async fn of_ten_nonces_three_are_refused_and_nobody_notices() {
    let scene = Scene::new(&World::shared().await, "nonces").await;
    let _operator = scene.operator().await;
    let options = pebble::Options {
        nonce_reject: 30,
        dns: Some(scene.world.knot().address()),
        ..pebble::Options::default()
    };
    let pebble = scene.world.another_pebble(options).await;
    acme_at(&scene, &pebble.directory(), &pebble).await;
    let root = pebble.root().await.unwrap();
    for number in 0..8 {
        let host = scene.host(&format!("n{number}"));
        scene
            .apply(&manifests::certificate(&format!("n{number}"), "acme", &[&host]))
            .await;
    }
    for number in 0..8 {
        let name = format!("n{number}");
        scene.verified_by(&name, &[&scene.host(&name)], &root, SOON).await;
        let status = scene.certificates().get(&name).await.unwrap().status.unwrap();
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
    let scene = Scene::new(&World::shared().await, "limited").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    scene
        .ca
        .answer(Method::POST, "/order-plz", 1, Reply::busy(429, "4", "rateLimited"));
    let (host, began) = (scene.host("www"), Instant::now());
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let status = scene.failed("web", "RateLimited").await.status.unwrap();
    let pause = status
        .next_attempt_time
        .unwrap()
        .duration_since(status.last_failure.unwrap().time);
    assert!((4..=7).contains(&pause.as_secs()), "{pause}");
    scene.event("Certificate", "web", "RateLimited").await;
    scene.verified("web", &[&host]).await;
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(scene.orders(), 1);
}

/// The order that was interrupted is the one that is finished.
#[tokio::test]
async fn a_busy_ca_is_asked_again_when_it_said_and_the_order_is_kept() {
    let scene = Scene::new(&World::shared().await, "busy").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    scene.ca.answer(Method::POST, "/authZ/", 1, page(503, Some("3")));
    let (host, began) = (scene.host("www"), Instant::now());
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    scene.failed("web", "Network").await;
    scene.verified("web", &[&host]).await;
    let took = began.elapsed();
    assert!(
        (Duration::from_secs(3)..Duration::from_secs(30)).contains(&took),
        "{took:?}"
    );
    assert_eq!((scene.orders(), scene.finalized()), (1, 1), "{:#?}", scene.ca.seen());
}

#[tokio::test]
async fn a_pause_that_the_ca_asks_for_in_mid_order_is_kept_by_all_of_the_account() {
    const PAUSE: Duration = Duration::from_secs(6);
    let scene = Scene::new(&World::shared().await, "pause").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    let (one, other) = (scene.host("one"), scene.host("other"));
    scene.ca.answer(Method::POST, "/authZ/", 1, page(503, Some("6")));
    scene.apply(&manifests::certificate("one", "acme", &[&one])).await;
    scene.failed("one", "Network").await;
    scene.apply(&manifests::certificate("other", "acme", &[&other])).await;
    let told = scene.failed("other", "RateLimited").await;
    let message = condition(&told, "Ready").unwrap()["message"].to_string();
    assert!(message.contains("takes no orders before"), "{message}");
    scene.verified("one", &[&one]).await;
    scene.verified("other", &[&other]).await;
    let seen = scene.ca.seen();
    let busy = seen.iter().position(|seen| seen.status == 503).unwrap();
    let next = seen[busy + 1..]
        .iter()
        .find(|seen| seen.method == Method::POST)
        .unwrap();
    let pause = next.at.duration_since(seen[busy].at);
    assert!(pause >= PAUSE, "{pause:?}: {seen:#?}");
    assert_eq!((scene.orders(), scene.finalized()), (2, 2));
}

#[tokio::test]
async fn an_html_page_in_place_of_an_answer_is_told_and_survived() {
    let scene = Scene::new(&World::shared().await, "html").await;
    // The directory itself first: the issuer says so, and heals.
    scene.ca.answer(Method::GET, "/dir", 1, page(200, None));
    let _operator = scene.operator().await;
    let directory = format!("https://{}/dir", scene.ca.address());
    scene
        .apply(&manifests::acme_dns01(
            "acme",
            &directory,
            scene.ca.ca_pem(),
            scene.world.knot(),
        ))
        .await;
    let issuers = scene.cluster.api::<Issuer>(&scene.namespace);
    let issuer = scene
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "False", SOON)
        .await;
    assert_eq!(condition(&issuer, "Ready").unwrap()["reason"], "Network");
    scene.event("Issuer", "acme", "Network").await;
    scene
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
    // Without a pause: a failure in the second in which the issuer became ready is a failure like others.
    for (path, status) in [("/order-plz", 502), ("/finalize-order/", 200)] {
        scene.ca.answer(Method::POST, path, 1, page(status, None));
        let name = format!("web{status}");
        let host = scene.host(&name);
        scene.apply(&manifests::certificate(&name, "acme", &[&host])).await;
        let certificate = scene.failed(&name, "Network").await;
        let message = condition(&certificate, "Ready").unwrap()["message"].to_string();
        assert!(message.contains(&status.to_string()), "{message}");
        scene.request_renewal(&name).await;
        scene.verified(&name, &[&host]).await;
    }
    assert_eq!((scene.orders(), scene.finalized()), (2, 2), "{:#?}", scene.ca.seen());
}

#[tokio::test]
async fn a_validation_that_fails_is_told_and_a_later_order_succeeds() {
    let scene = Scene::new(&World::shared().await, "validation").await;
    // Stands where Pebble looks at HTTP-01.
    let door = Proxy::start(scene.world.plane.address()).unwrap();
    let options = pebble::Options {
        http_port: Some(door.address().port()),
        dns: Some(scene.world.knot().address()),
        ..pebble::Options::default()
    };
    let pebble = scene.world.another_pebble(options).await;
    let operator = scene.operator().await;
    door.redirect(operator.address_of("http01").unwrap());
    door.cut();
    let yaml = manifests::acme_dns01("acme", &pebble.directory(), pebble.ca_pem(), scene.world.knot());
    let solvers = yaml.find("    solvers:").unwrap();
    let yaml = format!(
        "{}    solvers: [{{http01: {{ingress: {{ingressClassName: nginx}}}}}}]\n",
        &yaml[..solvers]
    );
    scene.apply(&yaml).await;
    let host = scene.host("www");
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let certificate = scene.failed("web", "ChallengeFailed").await;
    let message = condition(&certificate, "Ready").unwrap()["message"].to_string();
    assert!(message.contains(&host), "which name: {message}");
    scene.event("Certificate", "web", "ChallengeFailed").await;
    assert!(
        certificate
            .status
            .unwrap()
            .acme
            .is_none_or(|acme| acme.order_url.is_none())
    );
    assert_eq!((pebble.orders(), pebble.issued()), (1, 0));

    door.heal();
    scene.request_renewal("web").await;
    let root = pebble.root().await.unwrap();
    scene.verified_by("web", &[&host], &root, SOON).await;
    assert_eq!((pebble.orders(), pebble.issued()), (2, 1));
}

#[tokio::test]
async fn a_certificate_deleted_in_mid_order_leaves_nothing_behind() {
    let scene = Scene::new(&World::shared().await, "deleted").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    let host = scene.host("www");
    let record = format!("_acme-challenge.{host}");
    let mut stop = scene.ca.hold_request(Method::POST, "/chalZ/");
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    stop.reached(SOON).await;
    assert_eq!(scene.world.knot().txt(&record).await.unwrap().len(), 1);
    scene
        .certificates()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    scene
        .cluster
        .wait_gone(&scene.certificates(), "web", Duration::from_secs(5))
        .await;
    stop.release().await;
    eventually("the record and the order's key are taken away", SOON, || async {
        let record = scene.world.knot().txt(&record).await.unwrap();
        (record.is_empty() && scene.order_keys().await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(scene.finalized(), 0, "nothing is issued for nobody");
    // The queue's place is free again, and the same name may come back.
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    scene.verified("web", &[&host]).await;
}

#[tokio::test]
async fn a_certificate_suspended_in_mid_order_says_so_and_orders_anew_when_it_goes_on() {
    let scene = Scene::new(&World::shared().await, "suspended").await;
    let _operator = scene.operator().await;
    scene.acme_issuer().await;
    let host = scene.host("www");
    let mut stop = scene.ca.hold_request(Method::POST, "/chalZ/");
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    stop.reached(SOON).await;
    let suspend = async |value: bool| {
        let patch = Patch::Merge(json!({"spec": {"suspend": value}}));
        let certificates = scene.certificates();
        certificates
            .patch("web", &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    suspend(true).await;
    stop.release().await;
    let suspended = scene
        .cluster
        .wait(&scene.certificates(), "web", "suspended", SOON, |it| {
            condition(it, "Issuing").is_some_and(|issuing| issuing["reason"] == "Suspended")
        })
        .await;
    assert_eq!(condition(&suspended, "Issuing").unwrap()["status"], "False");
    assert_eq!(condition(&suspended, "Ready").unwrap()["reason"], "Suspended");
    let status = suspended.status.unwrap();
    assert_eq!((status.acme, status.next_attempt_time), (None, None));
    eventually("the record and the order's key are taken away", SOON, || async {
        let record = scene
            .world
            .knot()
            .txt(&format!("_acme-challenge.{host}"))
            .await
            .unwrap();
        (record.is_empty() && scene.order_keys().await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(scene.finalized(), 0);
    suspend(false).await;
    scene.verified("web", &[&host]).await;
}

#[tokio::test]
async fn a_namespace_deleted_in_mid_order_is_gone_in_seconds_and_the_operator_goes_on() {
    let scene = Scene::new(&World::shared().await, "going").await;
    let other = scene.cluster.namespace("staying").await;
    let operator = scene
        .world
        .operator(&scene.options().arg(format!("--namespace={other}")))
        .await;
    scene.acme_issuer().await;
    let host = scene.host("www");
    let mut stop = scene.ca.hold_request(Method::POST, "/chalZ/");
    scene.apply(&manifests::certificate("web", "acme", &[&host])).await;
    stop.reached(SOON).await;
    let namespaces = Api::<Namespace>::all(scene.cluster.client());
    namespaces
        .delete(&scene.namespace, &DeleteParams::default())
        .await
        .unwrap();
    // The namespace controller looks again after some seconds; nothing of ours holds it.
    scene
        .cluster
        .wait_gone(&namespaces, &scene.namespace, Duration::from_secs(20))
        .await;
    stop.release().await;
    eventually("the record is taken away", SOON, || async {
        let records = scene
            .world
            .knot()
            .txt(&format!("_acme-challenge.{host}"))
            .await
            .unwrap();
        records.is_empty().then_some(())
    })
    .await;
    let ca = Ca::new("staying").unwrap();
    scene.cluster.apply(&other, &manifests::ca("internal", &ca)).await;
    let yaml = manifests::certificate("web", "internal", &["www.example.test"]);
    scene.cluster.apply(&other, &yaml).await;
    let certificates = scene.cluster.api::<Certificate>(&other);
    scene
        .cluster
        .wait_condition(&certificates, "web", "Ready", "True", Duration::from_secs(10))
        .await;
    assert!(operator.health("/healthz").await.unwrap().0.is_success());
}

/// Two hundred orders hang at a server that takes connections and says nothing.
#[tokio::test]
async fn a_dead_ca_with_two_hundred_certificates_does_not_slow_another_issuer() {
    let scene = Scene::new(&World::shared().await, "dead").await;
    let _operator = scene.operator().await;
    let pebble = scene.world.pebble();
    let proxy = Proxy::start(pebble.address()).unwrap();
    acme_at(&scene, &pebble.directory_through(&proxy), pebble).await;
    let ca = Ca::new("alive").unwrap();
    scene.apply(&manifests::ca("internal", &ca)).await;
    proxy.hold();
    let many: String = (0..200)
        .map(|number| {
            let host = scene.host(&format!("h{number}"));
            format!(
                "{}---\n",
                manifests::certificate(&format!("h{number}"), "acme", &[&host])
            )
        })
        .collect();
    scene.apply(&many).await;
    for number in 0..5 {
        let (name, began) = (format!("quick{number}"), Instant::now());
        scene
            .apply(&manifests::certificate(&name, "internal", &["www.example.test"]))
            .await;
        scene.verified_by(&name, &["www.example.test"], &ca.pem(), SOON).await;
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{name}: {:?}",
            began.elapsed()
        );
    }
    assert_eq!(scene.orders(), 0);
}

/// A world whose API server and CRDs are broken on purpose, by one test at a time.
async fn breakable() -> (Arc<World>, tokio::sync::MutexGuard<'static, ()>) {
    static WORLD: OnceCell<Arc<World>> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let start = || async {
        let options = world::Options {
            control_plane: control_plane::Options::default(),
            zones: vec!["example.test".to_owned()],
            pebble: Some(pebble::Options::default()),
        };
        Arc::new(World::start(options).await.unwrap())
    };
    let turn = TURN.lock().await;
    (Arc::clone(WORLD.get_or_init(start).await), turn)
}

#[tokio::test]
async fn an_api_server_that_is_restarted_in_mid_work_costs_no_order_and_no_certificate() {
    let (world, _turn) = breakable().await;
    let scene = Scene::new(&world, "restart").await;
    let mut operator = scene.operator().await;
    scene.acme_issuer().await;
    let ca = Ca::new("restart").unwrap();
    scene.apply(&manifests::ca("internal", &ca)).await;
    let mut stop = scene.ca.hold_request(Method::POST, "/chalZ/");
    let hosts: Vec<String> = (0..4).map(|number| scene.host(&format!("a{number}"))).collect();
    for (number, host) in hosts.iter().enumerate() {
        scene
            .apply(&manifests::certificate(&format!("a{number}"), "acme", &[host]))
            .await;
    }
    stop.reached(SOON).await;
    eventually("four orders are placed", SOON, || async {
        (scene.orders() == 4).then_some(())
    })
    .await;
    let many: String = (0..60)
        .map(|number| {
            let yaml = manifests::certificate(&format!("c{number}"), "internal", &["www.example.test"]);
            format!("{yaml}---\n")
        })
        .collect();
    scene.apply(&many).await;
    world.plane.kill_api_server();
    // The CA goes on meanwhile.
    stop.release().await;
    world.plane.start_api_server().await.unwrap();
    let root = world.pebble().root().await.unwrap();
    for (number, host) in hosts.iter().enumerate() {
        scene.verified_by(&format!("a{number}"), &[host], &root, SOON).await;
    }
    for number in 0..60 {
        scene
            .verified_by(&format!("c{number}"), &["www.example.test"], &ca.pem(), SOON)
            .await;
    }
    assert_eq!((scene.orders(), scene.finalized()), (4, 4));
    assert!(operator.exited().is_none());
}

/// What may come past validation: an older CRD, a restored backup, a hand in etcd.
#[tokio::test]
async fn invalid_objects_are_told_and_stop_no_other() {
    let (world, _turn) = breakable().await;
    let scene = Scene::new(&world, "invalid").await;
    let crds = Api::<CustomResourceDefinition>::all(scene.cluster.client());
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
        ("nobody", "{secretName: nobody-tls, issuerRef: {name: internal}}"),
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
        let tried = scene
            .cluster
            .try_apply(&scene.namespace, &garbage("Certificate", "text", "hello"))
            .await;
        let issuer = scene
            .cluster
            .try_apply(&scene.namespace, &garbage("Issuer", "text", "5"))
            .await;
        (tried.is_ok() && issuer.is_ok()).then_some(())
    })
    .await;
    for (name, spec) in certificates {
        scene.apply(&garbage("Certificate", name, spec)).await;
    }
    for (name, spec) in issuers {
        scene.apply(&garbage("Issuer", name, spec)).await;
    }
    let ca = Ca::new("invalid").unwrap();
    // They are there already when the operator starts, and more come while it runs.
    let operator = scene.operator().await;
    scene.apply(&manifests::ca("internal", &ca)).await;
    scene
        .apply(&manifests::certificate("good", "internal", &["www.example.test"]))
        .await;
    scene.verified_by("good", &["www.example.test"], &ca.pem(), SOON).await;
    scene.apply(&garbage("Certificate", "late", "{issuerRef: 3}")).await;
    scene.apply(&garbage("Issuer", "late", "[]")).await;
    scene
        .apply(&manifests::certificate("better", "internal", &["www.example.test"]))
        .await;
    scene
        .verified_by("better", &["www.example.test"], &ca.pem(), SOON)
        .await;

    for (kind, names) in [
        ("Certificate", certificates.map(|(name, _)| name).to_vec()),
        ("Certificate", vec!["late"]),
        ("Issuer", issuers.map(|(name, _)| name).to_vec()),
        ("Issuer", vec!["late"]),
    ] {
        let api = scene
            .cluster
            .dynamic("gatehouse.dev/v1alpha1", kind, &scene.namespace)
            .await
            .unwrap();
        for name in names {
            let object = scene
                .cluster
                .wait(&api, name, "told to be invalid", SOON, |object| {
                    condition_is(object, "Ready", "False")
                })
                .await;
            let ready = condition(&object, "Ready").unwrap();
            assert!(
                ready["message"].as_str().is_some_and(|message| message.len() > 10),
                "{kind} {name}: {ready}"
            );
            let events = eventually(&format!("an event about {kind} {name}"), SOON, || async {
                let events = scene.cluster.events(kind, &scene.namespace, name).await;
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
    let before = scene.certificates().get("good").await.unwrap().status.unwrap();
    scene.apply(&garbage("Certificate", "good", "{issuerRef: 3}")).await;
    let api = scene
        .cluster
        .dynamic("gatehouse.dev/v1alpha1", "Certificate", &scene.namespace)
        .await
        .unwrap();
    let after = scene
        .cluster
        .wait(&api, "good", "told to be invalid", SOON, |object| {
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
