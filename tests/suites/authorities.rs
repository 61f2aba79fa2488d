//! Answers of CAs beyond the RFC, and issuers that change: whatever happens is reported, bounded, and sent to no other server.
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
use gatehouse_tests::isolated_operator::SOON;
use gatehouse_tests::process::eventually;
use gatehouse_tests::{IsolatedOperator, TestCluster, manifests, pebble};
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
fn undecided(isolated: &IsolatedOperator, seconds: i64) {
    for path in ["/finalize-order/", "/my-order/"] {
        let expires = Timestamp::now() + SignedDuration::from_secs(seconds);
        isolated
            .ca
            .edit(Method::POST, path, usize::MAX, move |order: &mut Value| {
                order["status"] = json!("processing");
                order["expires"] = json!(expires.to_string());
                order.as_object_mut().unwrap().remove("certificate");
            });
    }
}

#[tokio::test]
async fn an_order_that_the_ca_never_decides_is_given_up_and_counted() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "undecided").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    let host = isolated.host("www");
    undecided(&isolated, 12);
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let certificate = isolated.failed("web", "OrderTimedOut").await;
    let words = message(&certificate);
    assert!(words.contains("/my-order/") && words.contains("processing"), "{words}");
    let status = certificate.status.unwrap();
    assert_eq!(status.failed_attempts, Some(1));
    assert!(status.acme.is_none_or(|acme| acme.order_url.is_none()));
    isolated.event("Certificate", "web", "IssuanceFailed").await;
    assert_eq!(isolated.finalized(), 1, "one order, one finalize");
    isolated.ca.clear();
    isolated.request_renewal("web").await;
    isolated.verified("web", &[&host]).await;
}

#[tokio::test]
async fn the_wait_for_a_ca_goes_on_after_a_restart() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "longwait").await;
    let operator = isolated.operator().await;
    isolated.acme_issuer().await;
    let host = isolated.host("www");
    undecided(&isolated, 86_400);
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let waiting = |it: &Certificate| {
        let acme = it.status.as_ref().and_then(|status| status.acme.as_ref());
        acme.is_some_and(|acme| acme.waiting_since.is_some())
    };
    let certificates = isolated.certificates();
    isolated
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
    let _operator = isolated.operator().await;
    let words = message(&isolated.failed("web", "OrderTimedOut").await);
    assert!(words.contains(&since.to_string()) && words.contains("120m"), "{words}");
    assert_eq!((isolated.orders(), isolated.finalized()), (1, 1));
}

#[tokio::test]
async fn a_refused_account_is_the_issuers_failure_and_orders_nothing_until_it_is_replaced() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "refused").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    // As CAs answer for a deactivated account: everywhere.
    for path in ["/order-plz", "/my-account/", "/sign-me-up"] {
        isolated
            .ca
            .answer(Method::POST, path, usize::MAX, Reply::problem(403, "unauthorized"));
    }
    let host = isolated.host("www");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let issuers = isolated.cluster.api::<Issuer>(&isolated.namespace);
    let issuer = isolated
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
    let certificate = isolated.failed("web", "IssuerNotReady").await;
    assert_eq!(certificate.status.unwrap().failed_attempts, Some(1));
    let attempts = |isolated: &IsolatedOperator| {
        let seen = isolated.ca.seen();
        seen.iter().filter(|seen| seen.path.contains("/order-plz")).count()
    };
    assert_eq!(attempts(&isolated), 1);
    isolated.request_renewal("web").await;
    let counted = |it: &Certificate| {
        it.status
            .as_ref()
            .is_some_and(|status| status.failed_attempts == Some(2))
    };
    isolated
        .cluster
        .wait(&isolated.certificates(), "web", "counted again", SOON, counted)
        .await;
    assert_eq!(attempts(&isolated), 1, "nothing is ordered");
    // The user does what the message says.
    isolated.ca.clear();
    let secrets: Api<Secret> = isolated.cluster.api(&isolated.namespace);
    secrets.delete("acme-account", &DeleteParams::default()).await.unwrap();
    isolated
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
    isolated.verified("web", &[&host]).await;
}

#[tokio::test]
async fn a_ca_that_wants_a_user_to_act_is_the_issuers_failure_and_orders_nothing() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "terms").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    isolated.ca.answer(
        Method::POST,
        "/order-plz",
        usize::MAX,
        Reply::problem(403, "userActionRequired"),
    );
    let (first, second) = (isolated.host("a"), isolated.host("b"));
    isolated.apply(&manifests::certificate("a", "acme", &[&first])).await;
    let issuers = isolated.cluster.api::<Issuer>(&isolated.namespace);
    let issuer = isolated
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "False", SOON)
        .await;
    let ready = condition(&issuer, "Ready").unwrap();
    assert_eq!(ready["reason"], "UserActionRequired");
    assert!(ready["message"].to_string().contains("so the CA said"), "{ready}");
    isolated.failed("a", "IssuerNotReady").await;
    // Another one is not ordered, although the account answers that it is valid.
    isolated.apply(&manifests::certificate("b", "acme", &[&second])).await;
    isolated.failed("b", "IssuerNotReady").await;
    let orders = isolated
        .ca
        .seen()
        .iter()
        .filter(|seen| seen.path.contains("/order-plz"))
        .count();
    assert_eq!(orders, 1);
    // The account agrees to the terms as they are now, and the Issuer stays as it is until an order is placed.
    let agreed = || isolated.ca.seen().iter().any(|seen| seen.path.contains("/my-account/"));
    eventually("the terms are agreed to", SOON, || async { agreed().then_some(()) }).await;
    let issuer = issuers.get("acme").await.unwrap();
    assert_eq!(condition(&issuer, "Ready").unwrap()["status"], "False");
    let limits = issuer.status.unwrap().acme.unwrap().limits.unwrap();
    assert!(limits.new_order_not_before.is_some(), "kept over a restart");
    // The user has agreed, and does not want to wait: any change of the spec asks at once.
    isolated.ca.clear();
    let change = serde_json::json!({"spec": {"acme": {"email": "ops@example.com"}}});
    issuers
        .patch(
            "acme",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(&change),
        )
        .await
        .unwrap();
    isolated
        .cluster
        .wait_condition(&issuers, "acme", "Ready", "True", SOON)
        .await;
    isolated.verified("a", &[&first]).await;
    isolated.verified("b", &[&second]).await;
}

#[tokio::test]
async fn an_order_that_the_ca_does_not_allow_says_nothing_about_the_account() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "forbidden").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    isolated
        .ca
        .answer(Method::POST, "/order-plz", 1, Reply::problem(403, "unauthorized"));
    let host = isolated.host("www");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let certificate = isolated.failed("web", "Rejected").await;
    assert!(message(&certificate).contains("so the CA said"));
    assert_eq!(certificate.status.unwrap().failed_attempts, Some(1));
    let issuer = isolated
        .cluster
        .api::<Issuer>(&isolated.namespace)
        .get("acme")
        .await
        .unwrap();
    assert_eq!(condition(&issuer, "Ready").unwrap()["status"], "True");
}

#[tokio::test]
async fn an_alternate_chain_that_is_not_found_is_reported_and_costs_no_order() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "alternate").await;
    let _operator = isolated.operator().await;
    let options = pebble::Options {
        dns: Some(isolated.test_cluster.knot().address()),
        alternate_roots: 1,
        ..pebble::Options::default()
    };
    let pebble = isolated.test_cluster.another_pebble(options).await;
    let gate = Gate::start(pebble.address(), pebble.ca_pem()).unwrap();
    let server = format!("https://{}/dir", gate.address());
    let knot = isolated.test_cluster.knot();
    isolated
        .apply(&manifests::acme_dns01("acme", &server, gate.ca_pem(), knot))
        .await;
    let issuers = isolated.cluster.api::<Issuer>(&isolated.namespace);
    let change = json!({"spec": {"acme": {"preferredChain": "a root that no chain has"}}});
    issuers
        .patch("acme", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap();
    gate.answer(
        Method::POST,
        "/alternate/",
        usize::MAX,
        Reply::problem(404, "malformed"),
    );
    let host = isolated.host("www");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    let primary = pebble.alternate_root(0).await.unwrap();
    isolated.verified_by("web", &[&host], &primary, SOON).await;
    let words = isolated.event("Certificate", "web", "AlternateChainUnreadable").await;
    assert!(words.contains("a root that no chain has"), "{words}");
    let asked = |part: &str| gate.seen().iter().filter(|seen| seen.path.contains(part)).count();
    assert_eq!((asked("/order-plz"), asked("/finalize-order/")), (1, 1));
    assert!(asked("/alternate/") > 0, "{:#?}", gate.seen());
}

#[tokio::test]
async fn another_server_under_the_same_name_is_reported_and_gets_no_identifiers() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "moved").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    let host = isolated.host("www");
    isolated.apply(&manifests::certificate("web", "acme", &[&host])).await;
    isolated.verified("web", &[&host]).await;
    let first = isolated.certificates().get("web").await.unwrap().status.unwrap();
    let authority = first.authority.clone().unwrap();
    assert_eq!(authority.kind, AuthorityType::ACME);
    let staging = format!("https://{}/dir", isolated.ca.address());
    assert_eq!(authority.server.as_deref(), Some(staging.as_str()));

    let options = pebble::Options {
        dns: Some(isolated.test_cluster.knot().address()),
        ..pebble::Options::default()
    };
    let other = isolated.test_cluster.another_pebble(options).await;
    let gate = Gate::start(other.address(), other.ca_pem()).unwrap();
    let production = format!("https://{}/dir", gate.address());
    isolated
        .apply(&manifests::acme_dns01(
            "acme",
            &production,
            gate.ca_pem(),
            isolated.test_cluster.knot(),
        ))
        .await;
    let reported = |it: &Certificate| {
        let words = condition(it, "Ready").map(|ready| ready["message"].to_string());
        words.is_some_and(|words| words.contains(&format!("kubectl gatehouse renew -n {} web", isolated.namespace)))
    };
    let certificates = isolated.certificates();
    let certificate = isolated
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
    isolated
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

    isolated.request_renewal("web").await;
    let renewed = |it: &Certificate| it.status.as_ref().is_some_and(|status| status.revision == Some(2));
    let certificate = isolated
        .cluster
        .wait(&certificates, "web", "renewed", SOON, renewed)
        .await;
    assert!(!message(&certificate).contains("kubectl"), "{}", message(&certificate));
    let authority = certificate.status.unwrap().authority.unwrap();
    assert_eq!(authority.server.as_deref(), Some(production.as_str()));
    let root = other.root().await.unwrap();
    isolated.verified_by("web", &[&host], &root, SOON).await;
    assert_eq!(other.orders(), 1);
}

#[tokio::test]
async fn the_duration_is_requested_where_the_issuer_says_so_and_else_the_ca_decides() {
    let isolated = IsolatedOperator::new(&TestCluster::shared().await, "duration").await;
    let _operator = isolated.operator().await;
    isolated.acme_issuer().await;
    let host = isolated.host("www");
    let with_duration = |name: &str| format!("{}  duration: 240h\n", manifests::certificate(name, "acme", &[&host]));
    let lasts = |certificate: &Certificate| {
        let status = certificate.status.as_ref().unwrap();
        status
            .not_after
            .unwrap()
            .duration_since(status.not_before.unwrap())
            .as_hours()
    };
    isolated.apply(&with_duration("plain")).await;
    isolated.verified("plain", &[&host]).await;
    let certificate = isolated.certificates().get("plain").await.unwrap();
    let words = message(&certificate);
    assert!((2158..=2160).contains(&lasts(&certificate)), "{}", lasts(&certificate));
    assert!(
        words.contains("240h") && words.contains("acme.enableDurationFeature: true"),
        "{words}"
    );
    let differences = certificate.status.unwrap().differences;
    assert!(differences.iter().any(|line| line.contains("240h")), "{differences:?}");
    isolated.event("Certificate", "plain", "IssuedDifferently").await;

    let feature = Patch::Merge(json!({"spec": {"acme": {"enableDurationFeature": true}}}));
    let issuers = isolated.cluster.api::<Issuer>(&isolated.namespace);
    issuers.patch("acme", &PatchParams::default(), &feature).await.unwrap();
    let enabled = |it: &Certificate| {
        condition(it, "Ready").is_some_and(|ready| ready["message"].to_string().contains("which decides"))
    };
    let certificates = isolated.certificates();
    isolated
        .cluster
        .wait(&certificates, "plain", "the issuer asks for it now", SOON, enabled)
        .await;
    isolated.apply(&with_duration("asked")).await;
    isolated.verified("asked", &[&host]).await;
    let certificate = certificates.get("asked").await.unwrap();
    assert!((239..=241).contains(&lasts(&certificate)), "{}", lasts(&certificate));
    assert_eq!(certificate.status.as_ref().unwrap().differences, Vec::<String>::new());
    assert!(!message(&certificate).contains("duration"), "{}", message(&certificate));

    // A CA that knows no notAfter, as most.
    isolated
        .ca
        .answer(Method::POST, "/order-plz", 1, Reply::problem(400, "malformed"));
    isolated.apply(&with_duration("refused")).await;
    isolated.verified("refused", &[&host]).await;
    let note = isolated.event("Certificate", "refused", "DurationRefused").await;
    assert!(note.contains("so the CA said"), "{note}");
    let status = certificates.get("refused").await.unwrap().status.unwrap();
    assert_eq!((status.revision, status.failed_attempts), (Some(1), Some(0)));
}
