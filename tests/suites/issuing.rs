//! The first certificate by each issuer and solver, each verified against the CA's own root.
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

use std::time::Duration;

use gatehouse_crds::certificate::Certificate;
use gatehouse_crds::issuer::Issuer;
use gatehouse_tests::chain::verify;
use gatehouse_tests::cluster::condition;
use gatehouse_tests::process::eventually;
use gatehouse_tests::shared_operator::{Outcome, SOON, http01, text};
use gatehouse_tests::{Pebble, SharedOperator, pebble};
use kube::api::DeleteParams;
use serde_json::json;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Another Pebble beside the shared one, which asks the same DNS server and looks at the same responder.
async fn own_pebble(shared: &SharedOperator, options: pebble::Options) -> Pebble {
    let options = pebble::Options {
        dns: Some(shared.test_cluster.knot().address()),
        http_port: Some(shared.test_cluster.http01_port),
        ..options
    };
    shared.test_cluster.another_pebble(options).await
}

/// Further facts about a first certificate: the signer, the event, the metrics.
async fn assert_first(shared: &SharedOperator, name: &str, issuer: &str, outcome: &Outcome) {
    let status = outcome.certificate.status.as_ref().unwrap();
    let by = status.issuer.as_ref().unwrap();
    assert_eq!((by.kind.as_str(), by.name.as_str()), ("Issuer", issuer));
    let ready = condition(&outcome.certificate, "Ready").unwrap();
    assert_eq!(ready["reason"], "Issued");
    let secret = &outcome.certificate.spec.secret_name;
    assert!(ready["message"].as_str().unwrap().contains(secret), "{ready}");
    let note = shared.event(name, "Issued").await;
    assert!(
        note.contains(&format!("Issuer {issuer}")) && note.contains(secret),
        "{note}"
    );

    let labels = format!("namespace=\"{}\",name=\"{name}\"", shared.namespace);
    let end = outcome.chain.not_after.as_second();
    #[allow(clippy::cast_precision_loss, reason = "seconds of this century")]
    for (series, value) in [
        (
            format!("gatehouse_certificate_ready_status{{{labels},condition=\"True\"}}"),
            1.0,
        ),
        (
            format!("gatehouse_certificate_not_after_timestamp_seconds{{{labels}}}"),
            end as f64,
        ),
        (format!("gatehouse_certificate_failed_attempts{{{labels}}}"), 0.0),
    ] {
        let what = format!("{series} {value}");
        eventually(&what, SOON, || async {
            let found = shared.operator.metric(&series).await.unwrap();
            found.filter(|found| (found - value).abs() < 0.5)
        })
        .await;
    }
    let issuances = format!(
        "gatehouse_issuance_total{{issuer_kind=\"Issuer\",issuer=\"{issuer}\",result=\"success\",reason=\"Issued\"}}"
    );
    assert!(
        shared.operator.metric(&issuances).await.unwrap().unwrap() >= 1.0,
        "{issuances}"
    );
}

fn account_uri(issuer: &Issuer) -> String {
    let acme = issuer.status.as_ref().and_then(|status| status.acme.clone()).unwrap();
    acme.account_uri.unwrap()
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_root() {
    let shared = SharedOperator::set("self-signed").await;
    shared.issuer("alone", json!({"selfSigned": {}})).await;
    shared
        .certificate(
            "one",
            json!({"issuerRef": {"name": "alone"}, "dnsNames": ["one.test"], "duration": "24h"}),
        )
        .await;
    shared.ready("one", 1).await;
    let secret = shared.secret("one-tls").await;
    assert_eq!(text(&secret, "ca.crt"), text(&secret, "tls.crt"));
    // webpki takes no end entity for an anchor, so openssl has the word on this chain.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.pem");
    std::fs::write(&file, text(&secret, "tls.crt")).unwrap();
    let output = std::process::Command::new("openssl")
        .args(["verify", "-check_ss_sig", "-verify_hostname", "one.test", "-CAfile"])
        .args([&file, &file])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_ca_signs_and_its_intermediate_sends_the_chain_without_the_root() {
    let shared = SharedOperator::set("ca").await;
    let root = shared.internal_ca("first-ca").await;
    shared
        .certificate(
            "leaf",
            json!({"issuerRef": {"name": "first-ca"}, "dnsNames": ["leaf.test", "*.leaf.test"], "ipAddresses": ["192.0.2.7", "2001:db8::7"]}),
        )
        .await;
    let outcome = shared
        .outcome(
            "leaf",
            1,
            &root,
            &["leaf.test", "*.leaf.test", "192.0.2.7", "2001:db8::7"],
        )
        .await;
    assert_eq!(outcome.chain.certificates.len(), 1);
    assert_eq!(text(&outcome.secret, "ca.crt"), root);
    assert_first(&shared, "leaf", "first-ca", &outcome).await;
    // 90 days by default.
    assert_eq!(
        (outcome.chain.not_after.as_second() - outcome.chain.not_before.as_second() + 43_200) / 86_400,
        90
    );

    shared
        .certificate(
            "middle",
            json!({"issuerRef": {"name": "first-ca"}, "isCA": true, "commonName": "middle", "duration": "4380h"}),
        )
        .await;
    shared
        .issuer("middle-ca", json!({"ca": {"secretName": "middle-tls"}}))
        .await;
    shared
        .certificate(
            "below",
            json!({"issuerRef": {"name": "middle-ca"}, "dnsNames": ["below.test"]}),
        )
        .await;
    let outcome = shared.outcome("below", 1, &root, &["below.test"]).await;
    assert_eq!(
        outcome.chain.certificates.len(),
        2,
        "leaf and intermediate, without the root"
    );
    assert_eq!(
        text(&outcome.secret, "ca.crt"),
        root,
        "ca.crt is the root, not the intermediate"
    );
    let middle = text(&shared.secret("middle-tls").await, "tls.crt");
    assert!(
        outcome.chain.pem.ends_with(&middle),
        "the intermediate follows the leaf"
    );
    assert_first(&shared, "below", "middle-ca", &outcome).await;
}

#[tokio::test]
async fn http_01_proves_several_names_unicode_and_an_ip_address_in_one_order() {
    let shared = SharedOperator::set("http").await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    // Nothing listens on port 80 of the address, as with an address that is not reachable from inside.
    let mut solver = http01();
    solver["http01"]["selfCheck"] = json!({"timeout": "1s"});
    shared
        .issuer("http", shared.acme(&pebble, "account", json!([solver])))
        .await;
    shared
        .certificate(
            "shop",
            json!({"issuerRef": {"name": "http"}, "ipAddresses": ["127.0.0.1"],
                   "dnsNames": ["shop.example.test", "www.shop.example.test", "bücher.example.test"]}),
        )
        .await;
    let names = [
        "shop.example.test",
        "www.shop.example.test",
        "xn--bcher-kva.example.test",
        "127.0.0.1",
    ];
    let outcome = shared.outcome("shop", 1, &pebble.root().await.unwrap(), &names).await;
    assert_first(&shared, "shop", "http", &outcome).await;
    assert_eq!((pebble.orders(), pebble.issued()), (1, 1));
    let log = pebble.log();
    for name in names {
        assert!(
            log.contains(&format!("Attempting to validate w/ HTTP: http://{name}:")),
            "{name} was not looked at over HTTP"
        );
    }
    let host = format!(
        "gatehouse_acme_requests_total{{host=\"{}\",endpoint=\"newOrder\",code=\"201\"}}",
        pebble.address()
    );
    let metrics = shared.operator.metrics().await.unwrap();
    assert!(metrics.contains(&format!("{host} 1")), "{host} 1 is not in:\n{metrics}");
    // The key of an order in flight goes with the order.
    let uid = outcome.certificate.metadata.uid.clone().unwrap();
    shared
        .cluster
        .wait_gone(&shared.secrets(), &format!("gatehouse-order-{uid}"), SOON)
        .await;
    let keys = [
        text(&outcome.secret, "tls.key"),
        text(&shared.secret("account").await, "tls.key"),
    ];
    shared.operator.assert_no_secret(&[&keys[0], &keys[1]]);
}

/// An ingress controller that reads its Ingress late, played on port 80 of an address of loopback.
#[tokio::test]
async fn http_01_asks_the_ca_once_the_path_answers_from_inside() {
    let shared = SharedOperator::set("late").await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    let mut solver = http01();
    solver["http01"]["selfCheck"] = json!({"timeout": "1m"});
    shared
        .issuer("late", shared.acme(&pebble, "account", json!([solver])))
        .await;
    shared
        .certificate(
            "late",
            json!({"issuerRef": {"name": "late"}, "ipAddresses": ["127.0.0.1"]}),
        )
        .await;
    let api = shared.cluster.api::<Certificate>(&shared.namespace);
    let message = |certificate: &Certificate| {
        let acme = certificate.status.as_ref()?.acme.as_ref()?;
        acme.challenges.iter().find_map(|challenge| challenge.message.clone())
    };
    eventually("the status says what is seen from inside", SOON, || async {
        let found = api.get("late").await.unwrap();
        message(&found).filter(|message| message.contains("http://127.0.0.1/") && message.contains("refused"))
    })
    .await;
    assert_eq!(pebble.issued(), 0, "the CA was not asked yet");
    assert!(!pebble.log().contains("Attempting to validate"));

    let responder = format!("127.0.0.1:{}", shared.test_cluster.http01_port);
    let Ok(door) = tokio::net::TcpListener::bind("127.0.0.1:80").await else {
        panic!("port 80 of loopback is taken, or needs root")
    };
    tokio::spawn(async move {
        while let Ok((mut from, _)) = door.accept().await {
            let responder = responder.clone();
            tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(responder).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    let started = std::time::Instant::now();
    shared
        .outcome("late", 1, &pebble.root().await.unwrap(), &["127.0.0.1"])
        .await;
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test]
async fn forbidden_ingress_annotations_of_a_tenant_make_its_issuer_not_ready() {
    let shared = SharedOperator::set("orders").await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    let mut solver = http01();
    solver["http01"]["ingress"]["ingressTemplate"] = json!({"metadata": {"annotations": {
        "nginx.ingress.kubernetes.io/server-snippet": "location /x { return 200; }"}}});
    let spec = shared.acme(&pebble, "account", json!([solver]));
    shared.apply("Issuer", "orders", &spec).await;
    let api = shared.cluster.api::<Issuer>(&shared.namespace);
    let issuer = shared
        .cluster
        .wait_condition(&api, "orders", "Ready", "False", SOON)
        .await;
    let status = issuer.status.unwrap();
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .unwrap();
    assert_eq!(ready.reason, "IngressNotPermitted");
    assert!(
        ready.message.contains("nginx.ingress.kubernetes.io/server-snippet"),
        "{}",
        ready.message
    );
    assert!(
        ready.message.contains("--http01-ingress-annotations"),
        "{}",
        ready.message
    );
}

#[tokio::test]
async fn dns_01_proves_a_wildcard_and_its_apex_in_one_order_and_cleans_up() {
    let shared = SharedOperator::set("dns").await;
    shared.tsig().await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    shared
        .issuer("dns", shared.acme(&pebble, "account", json!([shared.dns01()])))
        .await;
    shared
        .certificate(
            "wild",
            json!({"issuerRef": {"name": "dns"}, "dnsNames": ["*.wild.example.test", "wild.example.test"]}),
        )
        .await;
    let names = ["*.wild.example.test", "wild.example.test"];
    let outcome = shared.outcome("wild", 1, &pebble.root().await.unwrap(), &names).await;
    assert_first(&shared, "wild", "dns", &outcome).await;
    assert_eq!((pebble.orders(), pebble.issued()), (1, 1));
    let knot = shared.test_cluster.knot();
    eventually("the answers are taken away", SOON, || async {
        let left = knot.txt("_acme-challenge.wild.example.test").await.unwrap();
        left.is_empty().then_some(())
    })
    .await;
    shared
        .operator
        .assert_no_secret(&[&knot.secret(), &text(&outcome.secret, "tls.key")]);
}

#[tokio::test]
async fn a_delegated_challenge_is_answered_where_its_cname_points() {
    let shared = SharedOperator::set("cname").await;
    shared.tsig().await;
    let knot = shared.test_cluster.knot();
    // In one zone, since Knot does not follow a CNAME from one of its zones into another as the resolver of a CA does.
    let (alias, target) = ("_acme-challenge.led.example.test", "led.challenges.example.test");
    assert_eq!(
        knot.add_cname("example.test", alias, target).await.unwrap().to_str(),
        "No Error"
    );
    let mut solver = shared.dns01();
    solver["dns01"]["cnameStrategy"] = json!("Follow");
    let spec = shared.acme(shared.test_cluster.pebble(), "account", json!([solver]));
    shared.issuer("delegated", spec).await;
    shared
        .certificate(
            "led",
            json!({"issuerRef": {"name": "delegated"}, "dnsNames": ["led.example.test"]}),
        )
        .await;
    let root = shared.test_cluster.pebble().root().await.unwrap();
    let outcome = shared.outcome("led", 1, &root, &["led.example.test"]).await;
    assert_first(&shared, "led", "delegated", &outcome).await;
    eventually("the answer is taken away", SOON, || async {
        knot.txt(target).await.unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_most_specific_solver_answers() {
    let shared = SharedOperator::set("selector").await;
    shared.tsig().await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    // A validation of one of these fails: nothing listens there.
    let mut broken = shared.dns01();
    broken["dns01"]["rfc2136"]["nameserver"] = json!("127.0.0.1:1");
    broken["dns01"]["propagation"]["nameservers"] = json!(["127.0.0.1:1"]);
    let select = |solver: &serde_json::Value, selector: serde_json::Value| {
        let mut solver = solver.clone();
        solver["selector"] = selector;
        solver
    };
    let solvers = json!([
        broken,
        select(&broken, json!({"dnsZones": ["example.test"]})),
        select(&http01(), json!({"dnsZones": ["web.example.test"]})),
        select(&shared.dns01(), json!({"dnsNames": ["exact.example.test"]})),
        select(&broken, json!({"matchLabels": {"team": "other"}})),
        select(&http01(), json!({"matchLabels": {"team": "web"}})),
    ]);
    shared.issuer("choosy", shared.acme(&pebble, "account", solvers)).await;
    let names = ["web.example.test", "exact.example.test", "label.delegated.test"];
    let object = json!({"apiVersion": "gatehouse.dev/v1alpha1", "kind": "Certificate",
        "metadata": {"name": "chosen", "labels": {"team": "web"}},
        "spec": {"secretName": "chosen-tls", "issuerRef": {"name": "choosy"}, "dnsNames": names}});
    shared.cluster.apply(&shared.namespace, &object.to_string()).await;
    let outcome = shared.outcome("chosen", 1, &pebble.root().await.unwrap(), &names).await;
    assert_first(&shared, "chosen", "choosy", &outcome).await;
    let log = pebble.log();
    let over_http = |name: &str| log.contains(&format!("Attempting to validate w/ HTTP: http://{name}:"));
    assert_eq!(
        names.map(over_http),
        [true, false, true],
        "only the exact name is proven by DNS"
    );
}

#[tokio::test]
async fn a_profile_and_a_preferred_chain_are_asked_for() {
    let shared = SharedOperator::set("profile").await;
    let day = 24 * 3600;
    let pebble = own_pebble(
        &shared,
        pebble::Options {
            alternate_roots: 2,
            chain_length: 2,
            profiles: vec![("classic".to_owned(), 90 * day), ("shortlived".to_owned(), 6 * day)],
            ..pebble::Options::default()
        },
    )
    .await;
    let mut spec = shared.acme(&pebble, "account", json!([http01()]));
    spec["acme"]["profile"] = json!("shortlived");
    shared.issuer("plain-chain", spec.clone()).await;
    let other_root = pebble.alternate_root(2).await.unwrap();
    spec["acme"]["preferredChain"] = json!(common_name(&other_root));
    spec["acme"]["profile"] = json!("classic");
    shared.issuer("other-chain", spec).await;

    for (name, issuer, days) in [("short", "plain-chain", 6), ("other", "other-chain", 90)] {
        let host = format!("{name}.profile.example.test");
        shared
            .certificate(name, json!({"issuerRef": {"name": issuer}, "dnsNames": [host]}))
            .await;
        let (wanted, unwanted) = if name == "short" { (0, 2) } else { (2, 0) };
        let root = pebble.alternate_root(wanted).await.unwrap();
        let outcome = shared.outcome(name, 1, &root, &[&host]).await;
        let unwanted = pebble.alternate_root(unwanted).await.unwrap();
        assert!(
            verify(&outcome.secret, &unwanted, &[]).is_err(),
            "{name} leads to the other root, too"
        );
        assert_eq!(outcome.chain.certificates.len(), 3, "leaf and two intermediates");
        let lifetime = outcome.chain.not_after.as_second() - outcome.chain.not_before.as_second();
        assert_eq!((lifetime + 43_200) / 86_400, days, "{name} lives for {lifetime} s");
        assert_first(&shared, name, issuer, &outcome).await;
    }
}

fn common_name(pem: &str) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
    let name = certificate.subject().iter_common_name().next().unwrap();
    name.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_external_account_binding_lets_in_and_only_the_right_one() {
    let shared = SharedOperator::set("eab").await;
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let pebble = own_pebble(
        &shared,
        pebble::Options {
            external_accounts: vec![("kid-1".to_owned(), key.to_owned())],
            ..pebble::Options::default()
        },
    )
    .await;
    let mut spec = shared.acme(&pebble, "account", json!([http01()]));
    shared.apply("Issuer", "bound", &spec).await;
    let refused = |reason: &'static str| {
        let shared = &shared;
        async move {
            let issuer = shared
                .cluster
                .wait(&shared.issuers(), "bound", reason, SOON, |issuer| {
                    condition(issuer, "Ready").is_some_and(|ready| ready["reason"] == reason)
                })
                .await;
            condition(&issuer, "Ready").unwrap()["message"]
                .as_str()
                .unwrap()
                .to_owned()
        }
    };
    let message = refused("ExternalAccountRequired").await;
    assert!(message.contains("set spec.acme.externalAccountBinding"), "{message}");

    let wrong = "AAAAZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    shared
        .make_secret("eab", "Opaque", &[("wrong", wrong), ("right", key)])
        .await;
    spec["acme"]["externalAccountBinding"] = json!({"keyID": "kid-1", "keySecretRef": {"name": "eab", "key": "wrong"}});
    shared.apply("Issuer", "bound", &spec).await;
    let message = refused("AccountRefused").await;
    assert!(!message.contains("AAAAZM6"), "the key is shown");

    spec["acme"]["externalAccountBinding"]["keySecretRef"]["key"] = json!("right");
    shared.issuer("bound", spec).await;
    shared
        .certificate(
            "inside",
            json!({"issuerRef": {"name": "bound"}, "dnsNames": ["inside.example.test"]}),
        )
        .await;
    let outcome = shared
        .outcome("inside", 1, &pebble.root().await.unwrap(), &["inside.example.test"])
        .await;
    assert_first(&shared, "inside", "bound", &outcome).await;
    shared.operator.assert_no_secret(&[key, wrong]);
}

#[tokio::test]
async fn an_account_keeps_its_name_over_a_new_contact_and_a_new_issuer() {
    let shared = SharedOperator::set("account").await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    shared
        .make_secret("bundle", "Opaque", &[("ca.pem", pebble.ca_pem())])
        .await;
    let mut spec = shared.acme(&pebble, "kept-account", json!([http01()]));
    let block = spec["acme"].as_object_mut().unwrap();
    block.remove("caBundle");
    block.insert(
        "caBundleSecretRef".to_owned(),
        json!({"name": "bundle", "key": "ca.pem"}),
    );
    block.insert("email".to_owned(), json!("first@example.test"));
    let first = account_uri(&shared.issuer("kept", spec.clone()).await);
    let key = text(&shared.secret("kept-account").await, "tls.key");

    spec["acme"]["email"] = json!("second@example.test");
    shared.apply("Issuer", "kept", &spec).await;
    let updated = shared
        .cluster
        .wait(&shared.issuers(), "kept", "at its new contact", SOON, |issuer| {
            let acme = issuer.status.as_ref().and_then(|status| status.acme.as_ref());
            acme.and_then(|acme| acme.last_registered_email.as_deref()) == Some("second@example.test")
        })
        .await;
    assert_eq!(account_uri(&updated), first);
    let reported = pebble.requests();
    assert!(
        reported
            .iter()
            .any(|(request, count)| request.starts_with("POST /my-account/") && *count > 0),
        "the challenge was not submitted: {reported:?}"
    );

    shared.issuers().delete("kept", &DeleteParams::default()).await.unwrap();
    shared.cluster.wait_gone(&shared.issuers(), "kept", SOON).await;
    let again = shared.issuer("kept", spec).await;
    assert_eq!(account_uri(&again), first, "the account is found again by its key");
    assert_eq!(
        text(&shared.secret("kept-account").await, "tls.key"),
        key,
        "the key was replaced"
    );
    shared
        .certificate(
            "still",
            json!({"issuerRef": {"name": "kept"}, "dnsNames": ["still.example.test"]}),
        )
        .await;
    let outcome = shared
        .outcome("still", 1, &pebble.root().await.unwrap(), &["still.example.test"])
        .await;
    assert_first(&shared, "still", "kept", &outcome).await;
}
