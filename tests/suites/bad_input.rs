//! Mistakes of users: the condition, the event and the status say what and how to fix it, nothing is lost, and after
//! the fix the certificate exists soon.
//!
//! "Soon" is well under the pause before the next attempt by the clock, a minute at the least, so that a test that passes
//! shows that the fix itself was noticed. Where the operator does not watch what is fixed (Opaque Secrets, quotas), the
//! user asks for a renewal, as the test does.
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

use gatehouse_tests::cluster::condition;
use gatehouse_tests::pki::{Ca, new_key_pems};
use gatehouse_tests::shared_operator::{SOON, base64, http01, text};
use gatehouse_tests::{Pebble, SharedOperator, pebble, ports};
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

const TLS: &str = "kubernetes.io/tls";

async fn own_pebble(shared: &SharedOperator, options: pebble::Options) -> Pebble {
    let options = pebble::Options {
        dns: Some(shared.test_cluster.knot().address()),
        http_port: Some(shared.test_cluster.http01_port),
        ..options
    };
    shared.test_cluster.another_pebble(options).await
}

/// Waits until an Issuer says why it is not ready, with an event about it.
async fn issuer_refused(shared: &SharedOperator, name: &str, reason: &str, words: &[&str]) {
    let issuer = shared
        .cluster
        .wait(&shared.issuers(), name, reason, SOON, |issuer| {
            condition(issuer, "Ready").is_some_and(|ready| {
                ready["status"] == "False"
                    && ready["reason"] == reason
                    && ready["observedGeneration"] == json!(issuer.metadata.generation)
            })
        })
        .await;
    let message = condition(&issuer, "Ready").unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    for word in words {
        assert!(
            message.contains(word),
            "Issuer {name}: the message lacks {word:?}: {message}"
        );
    }
    gatehouse_tests::process::eventually(&format!("an event of Issuer {name}"), SOON, || async {
        let events = shared.cluster.events("Issuer", &shared.namespace, name).await;
        events
            .into_iter()
            .find(|event| event.reason.as_deref() == Some(reason) && event.type_.as_deref() == Some("Warning"))
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_does_not_exist_is_named_and_its_arrival_is_noticed() {
    let shared = SharedOperator::set("unknown").await;
    shared
        .certificate(
            "one",
            json!({"issuerRef": {"name": "absent"}, "dnsNames": ["one.test"]}),
        )
        .await;
    let cluster_wide = json!({"name": format!("absent-{}", shared.namespace), "kind": "ClusterIssuer"});
    shared
        .certificate("two", json!({"issuerRef": cluster_wide, "dnsNames": ["two.test"]}))
        .await;
    let words = [
        "there is no Issuer absent",
        &shared.namespace,
        "make it, or correct spec.issuerRef",
        "kind: ClusterIssuer",
    ];
    shared.refused("one", "IssuerNotReady", &words).await;
    shared
        .refused(
            "two",
            "IssuerNotReady",
            &[
                "there is no ClusterIssuer absent-",
                "make it, or correct spec.issuerRef",
            ],
        )
        .await;

    shared.apply("Issuer", "absent", &json!({"selfSigned": {}})).await;
    let name = cluster_wide["name"].as_str().unwrap();
    shared.apply("ClusterIssuer", name, &json!({"selfSigned": {}})).await;
    for certificate in ["one", "two"] {
        let ready = shared.ready(certificate, 1).await;
        assert_eq!(ready.status.unwrap().last_failure, None);
    }
    shared
        .cluster_issuers()
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
}

/// A CA certificate, and its key, with something the matter.
fn ca(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a CA of a test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - Duration::days(2);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(300);
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_ca_that_may_not_sign_says_why_and_signs_once_it_is_mended() {
    let shared = SharedOperator::set("bad-ca").await;
    let (good, good_key) = ca(|_| {});
    let table: [(&str, &str, (String, String), &str, &[&str]); 6] = [
        (
            "no-ca-bit",
            TLS,
            ca(|params| {
                params.is_ca = IsCa::ExplicitNoCa;
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            }),
            "NotACertificateAuthority",
            &["a CA of a test", "issue it with isCA: true"],
        ),
        (
            "no-cert-sign",
            TLS,
            ca(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
            "MayNotSignCertificates",
            &["a CA of a test", "re-issue it with the usage \"cert sign\""],
        ),
        (
            "expired",
            TLS,
            ca(|params| params.not_after = OffsetDateTime::now_utc() - Duration::days(1)),
            "AuthorityExpired",
            &["expired at", "renew it"],
        ),
        (
            "other-key",
            TLS,
            (good.clone(), new_key_pems().unwrap().0),
            "KeyMismatch",
            &["tls.crt"],
        ),
        (
            "rubbish",
            TLS,
            ("rubbish".to_owned(), good_key.clone()),
            "InvalidCertificate",
            &["tls.crt", "not usable", "BEGIN CERTIFICATE"],
        ),
        (
            "no-key",
            "Opaque",
            (good.clone(), String::new()),
            "SecretMalformed",
            &["has no tls.key"],
        ),
    ];
    for (name, kind, (certificate, key), ..) in &table {
        shared
            .make_secret(
                &format!("{name}-pair"),
                kind,
                &[("tls.crt", certificate), ("tls.key", key)],
            )
            .await;
    }
    let missing: (&str, &str, &[&str]) = (
        "missing",
        "SecretMissing",
        &["missing-pair does not exist", "make one of type kubernetes.io/tls"],
    );
    let all = table.iter().map(|(name, _, _, reason, words)| (*name, *reason, *words));
    let all: Vec<_> = all.chain([missing]).collect();
    for (name, ..) in &all {
        shared
            .apply("Issuer", name, &json!({"ca": {"secretName": format!("{name}-pair")}}))
            .await;
        shared
            .certificate(
                name,
                json!({"issuerRef": {"name": name}, "dnsNames": [format!("{name}.test")]}),
            )
            .await;
    }
    for (name, reason, words) in &all {
        issuer_refused(&shared, name, reason, words).await;
        let issuer = format!("Issuer {name} cannot sign");
        let words: Vec<&str> = std::iter::once(issuer.as_str()).chain(words.iter().copied()).collect();
        shared.refused(name, "IssuerNotReady", &words).await;
        assert!(
            shared
                .cluster
                .secret(&shared.namespace, &format!("{name}-tls"))
                .await
                .is_none()
        );
    }

    shared
        .make_secret("missing-pair", TLS, &[("tls.crt", &good), ("tls.key", &good_key)])
        .await;
    let pair = json!({"data": {"tls.crt": base64(good.as_bytes()), "tls.key": base64(good_key.as_bytes())}});
    for (name, ..) in &table {
        shared.patch(&shared.secrets(), &format!("{name}-pair"), &pair).await;
    }
    // No watch shows Opaque Secrets; a user who fixes one touches what uses it.
    let touch = json!({"metadata": {"annotations": {"example.com/touched": "yes"}}});
    shared.patch(&shared.issuers(), "no-key", &touch).await;
    for (name, ..) in &all {
        shared.outcome(name, 1, &good, &[&format!("{name}.test")]).await;
    }
    shared.operator.assert_no_secret(&[&good_key]);
}

#[tokio::test]
async fn an_acme_server_that_cannot_be_used_says_why_and_is_used_once_it_can() {
    let shared = SharedOperator::set("bad-acme").await;
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let bound = own_pebble(
        &shared,
        pebble::Options {
            external_accounts: vec![("kid-1".to_owned(), key.to_owned())],
            ..pebble::Options::default()
        },
    )
    .await;
    shared
        .make_secret("eab", "Opaque", &[("right", key), ("wrong", &key.replace('z', "y"))])
        .await;
    let good = |name: &str, pebble: &Pebble| shared.acme(pebble, &format!("{name}-account"), json!([http01()]));
    let binding = |key: &str, id: &str| json!({"keyID": id, "keySecretRef": {"name": "eab", "key": key}});

    let mut unreachable = good("unreachable", shared.test_cluster.pebble());
    unreachable["acme"]["server"] = json!(format!("https://127.0.0.1:{}/dir", ports::free()));
    let mut untrusted = good("untrusted", shared.test_cluster.pebble());
    untrusted["acme"]["caBundle"] = json!(base64(Ca::new("another").unwrap().pem().as_bytes()));
    let mut wrong_key = good("wrong-key", &bound);
    wrong_key["acme"]["externalAccountBinding"] = binding("wrong", "kid-1");
    let mut wrong_id = good("wrong-id", &bound);
    wrong_id["acme"]["externalAccountBinding"] = binding("right", "kid-2");
    let mut no_entry = good("no-entry", &bound);
    no_entry["acme"]["externalAccountBinding"] = binding("absent", "kid-1");
    let unbound = good("unbound", &bound);

    let table: [(&str, Value, &str, &[&str], &Pebble); 6] = [
        (
            "unreachable",
            unreachable,
            "Network",
            &["cannot reach 127.0.0.1", "check spec.acme.server"],
            shared.test_cluster.pebble(),
        ),
        (
            "untrusted",
            untrusted,
            "UntrustedServer",
            &["TLS with 127.0.0.1", "UnknownIssuer", "caBundle"],
            shared.test_cluster.pebble(),
        ),
        (
            "wrong-key",
            wrong_key,
            "AccountRefused",
            &["refuses the account", "keyID and the key in Secret eab"],
            &bound,
        ),
        (
            "wrong-id",
            wrong_id,
            "AccountRefused",
            &["refuses the account", "keyID and the key in Secret eab"],
            &bound,
        ),
        (
            "no-entry",
            no_entry,
            "SecretMalformed",
            &["under absent in Secret eab"],
            &bound,
        ),
        (
            "unbound",
            unbound,
            "ExternalAccountRequired",
            &["set spec.acme.externalAccountBinding"],
            &bound,
        ),
    ];
    for (name, spec, ..) in &table {
        shared.apply("Issuer", name, spec).await;
        shared
            .certificate(
                name,
                json!({"issuerRef": {"name": name}, "dnsNames": [format!("{name}.example.test")]}),
            )
            .await;
    }
    for (name, _, reason, words, _) in &table {
        issuer_refused(&shared, name, reason, words).await;
        let issuer = format!("Issuer {name} cannot sign");
        let words: Vec<&str> = std::iter::once(issuer.as_str()).chain(words.iter().copied()).collect();
        shared.refused(name, "IssuerNotReady", &words).await;
    }
    assert_eq!(bound.orders(), 0, "an order was placed without an account");

    for (name, .., pebble) in &table {
        let mut spec = good(name, pebble);
        if std::ptr::eq(*pebble, &bound) {
            spec["acme"]["externalAccountBinding"] = binding("right", "kid-1");
        }
        shared.apply("Issuer", name, &spec).await;
    }
    for (name, .., pebble) in &table {
        let root = pebble.root().await.unwrap();
        shared.outcome(name, 1, &root, &[&format!("{name}.example.test")]).await;
    }
    shared.operator.assert_no_secret(&[key, &key.replace('z', "y")]);
}

#[tokio::test]
async fn a_name_that_the_ca_rejects_is_named_and_another_one_is_taken_at_once() {
    let shared = SharedOperator::set("rejected").await;
    let pebble = own_pebble(
        &shared,
        pebble::Options {
            blocklist: vec!["blocked.example.test".to_owned()],
            ..pebble::Options::default()
        },
    )
    .await;
    shared
        .issuer("strict", shared.acme(&pebble, "account", json!([http01()])))
        .await;
    let spec = |name: &str| json!({"issuerRef": {"name": "strict"}, "dnsNames": ["fine.example.test", name]});
    shared.certificate("one", spec("www.blocked.example.test")).await;
    shared.refused("one", "Rejected", &["www.blocked.example.test"]).await;
    let uid = shared.certificates().get("one").await.unwrap().metadata.uid.unwrap();
    shared
        .cluster
        .wait_gone(&shared.secrets(), &format!("gatehouse-order-{uid}"), SOON)
        .await;

    shared.certificate("one", spec("www.example.test")).await;
    let root = pebble.root().await.unwrap();
    shared
        .outcome("one", 1, &root, &["fine.example.test", "www.example.test"])
        .await;
    assert_eq!(pebble.issued(), 1);
}

#[tokio::test]
async fn a_name_without_a_solver_says_what_to_write_and_waits_for_the_issuer() {
    let shared = SharedOperator::set("no-solver").await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    shared.tsig().await;
    let mut elsewhere = http01();
    elsewhere["selector"] = json!({"dnsZones": ["elsewhere.test"]});
    shared
        .issuer("few", shared.acme(&pebble, "account", json!([elsewhere])))
        .await;
    let spec = |names: Value| json!({"issuerRef": {"name": "few"}, "dnsNames": names});
    shared.certificate("name", spec(json!(["a.example.test"]))).await;
    shared.certificate("wildcard", spec(json!(["*.elsewhere.test"]))).await;
    shared
        .certificate(
            "address",
            json!({"issuerRef": {"name": "few"}, "ipAddresses": ["127.0.0.1"]}),
        )
        .await;
    shared
        .refused(
            "name",
            "NoSolver",
            &["a.example.test", "elsewhere.test", "dnsZones: [a.example.test]"],
        )
        .await;
    shared
        .refused(
            "wildcard",
            "NoSolver",
            &[
                "a wildcard needs dns01",
                "selector: {dnsZones: [elsewhere.test]} with dns01",
            ],
        )
        .await;
    shared
        .refused(
            "address",
            "NoSolver",
            &["an IP address needs http01", "without a selector"],
        )
        .await;
    assert_eq!(pebble.orders(), 0, "an order was placed that cannot be completed");

    shared
        .apply(
            "Issuer",
            "few",
            &shared.acme(&pebble, "account", json!([http01(), shared.dns01()])),
        )
        .await;
    let root = pebble.root().await.unwrap();
    shared.outcome("name", 1, &root, &["a.example.test"]).await;
    shared.outcome("address", 1, &root, &["127.0.0.1"]).await;
    // No zone of the test's DNS server; the solver is found all the same, and the name is what to fix now.
    shared
        .certificate("wildcard", spec(json!(["*.solved.example.test"])))
        .await;
    shared.outcome("wildcard", 1, &root, &["*.solved.example.test"]).await;
}

#[tokio::test]
async fn a_dns_server_that_has_no_zone_or_refuses_the_key_is_named() {
    let shared = SharedOperator::set("bad-dns").await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    shared
        .make_secret("tsig", "Opaque", &[("secret", &base64(&[7; 32]))])
        .await;
    shared
        .issuer("dns", shared.acme(&pebble, "account", json!([shared.dns01()])))
        .await;
    let spec = |name: &str| json!({"issuerRef": {"name": "dns"}, "dnsNames": [name]});
    shared.certificate("zoneless", spec("www.absent.invalid")).await;
    shared.certificate("refused", spec("refused.example.test")).await;
    shared
        .refused(
            "zoneless",
            "ChallengeFailed",
            &["no DNS zone found for", "www.absent.invalid"],
        )
        .await;
    let server = shared.test_cluster.knot().address().to_string();
    shared
        .refused(
            "refused",
            "ChallengeFailed",
            &["refused.example.test", &server, "refused", "tsig"],
        )
        .await;

    // The key's Secret is Opaque: a user who fixes it asks for another attempt. The order that waits is resumed.
    let right = json!({"data": {"secret": base64(shared.test_cluster.knot().secret().as_bytes())}});
    shared.patch(&shared.secrets(), "tsig", &right).await;
    let orders = pebble.orders();
    shared.request_renewal("refused").await;
    let root = pebble.root().await.unwrap();
    shared.outcome("refused", 1, &root, &["refused.example.test"]).await;
    assert_eq!(
        pebble.orders(),
        orders,
        "another order was placed although the first could be finished"
    );
    shared.certificate("zoneless", spec("zoned.example.test")).await;
    shared.outcome("zoneless", 1, &root, &["zoned.example.test"]).await;
    shared
        .operator
        .assert_no_secret(&[&shared.test_cluster.knot().secret(), &base64(&[7; 32])]);
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_not_touched_without_consent() {
    let shared = SharedOperator::set("conflict").await;
    let root = shared.internal_ca("conflict-ca").await;
    let base =
        |secret: &str| json!({"issuerRef": {"name": "conflict-ca"}, "dnsNames": ["own.test"], "secretName": secret});
    let folder = tempfile::tempdir().unwrap();
    let pair = Ca::new("stranger").unwrap().serving(folder.path(), "stranger").unwrap();
    let [certificate, key] = [pair.certificate, pair.key].map(|file| std::fs::read_to_string(file).unwrap());
    shared.make_secret("opaque", "Opaque", &[("precious", "data")]).await;
    shared
        .make_secret("foreign", TLS, &[("tls.crt", &certificate), ("tls.key", &key)])
        .await;
    shared.certificate("first", base("shared")).await;
    let first = shared.outcome("first", 1, &root, &["own.test"]).await;

    for name in ["opaque", "foreign"] {
        shared.certificate(name, base(name)).await;
    }
    shared.certificate("second", base("shared")).await;
    let consent = "gatehouse.dev/adopt=true";
    shared
        .refused(
            "opaque",
            "SecretConflict",
            &["Secret opaque", "it is of type Opaque", consent],
        )
        .await;
    shared
        .refused("foreign", "SecretConflict", &["Secret foreign", "own.test", consent])
        .await;
    shared
        .refused(
            "second",
            "SecretConflict",
            &["Secret shared", "belongs to another Certificate, first"],
        )
        .await;
    for name in ["opaque", "foreign", "second"] {
        shared.event(name, "SecretConflict").await;
    }
    assert_eq!(text(&shared.secret("opaque").await, "precious"), "data");
    assert_eq!(text(&shared.secret("foreign").await, "tls.crt"), certificate);
    assert_eq!(text(&shared.secret("shared").await, "tls.crt"), first.chain.pem);

    let adopt = json!({"metadata": {"annotations": {"gatehouse.dev/adopt": "true"}}});
    shared.patch(&shared.secrets(), "foreign", &adopt).await;
    shared.outcome("foreign", 1, &root, &["own.test"]).await;
    // No watch shows Opaque Secrets.
    shared.patch(&shared.secrets(), "opaque", &adopt).await;
    shared.request_renewal("opaque").await;
    shared.outcome("opaque", 1, &root, &["own.test"]).await;
    shared.certificate("second", base("its-own")).await;
    shared.outcome("second", 1, &root, &["own.test"]).await;
    assert_eq!(
        shared.ready("first", 1).await.status,
        first.certificate.status,
        "the owner was disturbed"
    );
}

#[tokio::test]
async fn a_quota_that_forbids_the_secret_is_told_before_anything_is_ordered() {
    let shared = SharedOperator::set("quota").await;
    let root = shared.internal_ca("quota-ca").await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    shared
        .issuer("acme", shared.acme(&pebble, "account", json!([http01()])))
        .await;
    let count = shared.secrets().list(&ListParams::default()).await.unwrap().items.len();
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
        "spec": {"hard": {"secrets": count.to_string()}}});
    shared.cluster.apply(&shared.namespace, &quota.to_string()).await;
    let quotas = shared.cluster.api::<ResourceQuota>(&shared.namespace);
    shared
        .cluster
        .wait(&quotas, "few", "counted", SOON, |quota| {
            quota.status.as_ref().is_some_and(|s| s.used.is_some())
        })
        .await;
    shared
        .certificate(
            "internal",
            json!({"issuerRef": {"name": "quota-ca"}, "dnsNames": ["internal.test"]}),
        )
        .await;
    shared
        .certificate(
            "public",
            json!({"issuerRef": {"name": "acme"}, "dnsNames": ["public.example.test"]}),
        )
        .await;
    for name in ["internal", "public"] {
        shared
            .refused(name, "SecretWriteFailed", &["exceeded quota: few"])
            .await;
    }
    assert_eq!(
        pebble.orders(),
        0,
        "an order was placed whose certificate cannot be kept"
    );

    quotas.delete("few", &DeleteParams::default()).await.unwrap();
    for name in ["internal", "public"] {
        shared.request_renewal(name).await;
    }
    shared.outcome("internal", 1, &root, &["internal.test"]).await;
    let root = pebble.root().await.unwrap();
    shared.outcome("public", 1, &root, &["public.example.test"]).await;
    assert_eq!(pebble.orders(), 1);
}

/// The order's own key takes the last place.
#[tokio::test]
async fn a_quota_with_room_for_one_secret_is_reported_before_anything_is_ordered() {
    let shared = SharedOperator::set("quota-one").await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    shared
        .issuer("acme", shared.acme(&pebble, "account", json!([http01()])))
        .await;
    let count = shared.secrets().list(&ListParams::default()).await.unwrap().items.len();
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
        "spec": {"hard": {"secrets": (count + 1).to_string()}}});
    shared.cluster.apply(&shared.namespace, &quota.to_string()).await;
    let quotas = shared.cluster.api::<ResourceQuota>(&shared.namespace);
    shared
        .cluster
        .wait(&quotas, "few", "counted", SOON, |quota| {
            quota.status.as_ref().is_some_and(|s| s.used.is_some())
        })
        .await;
    let spec = json!({"issuerRef": {"name": "acme"}, "dnsNames": ["one.example.test"]});
    shared.certificate("one", spec).await;
    shared
        .refused("one", "SecretWriteFailed", &["exceeded quota: few", "Raise the quota"])
        .await;
    assert_eq!(pebble.orders(), 0);
    gatehouse_tests::process::eventually("the order's key is deleted", SOON, || async {
        let left = shared.secrets().list(&ListParams::default()).await.unwrap().items.len();
        (left == count).then_some(())
    })
    .await;

    quotas.delete("few", &DeleteParams::default()).await.unwrap();
    shared.request_renewal("one").await;
    let root = pebble.root().await.unwrap();
    shared.outcome("one", 1, &root, &["one.example.test"]).await;
    assert_eq!(pebble.orders(), 1);
}

#[tokio::test]
async fn a_policy_that_denies_the_secret_is_named_before_anything_is_ordered() {
    let shared = SharedOperator::set("policy").await;
    let root = shared.internal_ca("policy-ca").await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    shared
        .issuer("acme", shared.acme(&pebble, "account", json!([http01()])))
        .await;
    // One that was taken a moment ago says nothing about the next, after the policy has changed.
    shared
        .certificate(
            "before",
            json!({"issuerRef": {"name": "acme"}, "dnsNames": ["before.example.test"]}),
        )
        .await;
    shared.ready("before", 1).await;
    let name = format!("teams-{}", shared.namespace);
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": &name},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}]},
            "matchConditions": [{"name": "tls", "expression": "object.type == 'kubernetes.io/tls'"}],
            "validations": [{"expression": "has(object.metadata.labels) && 'team' in object.metadata.labels",
                "message": "a TLS Secret needs the label team"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": &name},
        "spec": {"policyName": &name, "validationActions": ["Deny"], "matchResources": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": &shared.namespace}}}}});
    for manifest in [&policy, &binding] {
        shared.cluster.apply("", &manifest.to_string()).await;
    }
    let probe: Secret = serde_json::from_value(json!({"metadata": {"name": "probe"}, "type": TLS,
        "data": {"tls.crt": "", "tls.key": ""}}))
    .unwrap();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    gatehouse_tests::process::eventually("the policy is active", SOON, || async {
        shared.secrets().create(&dry_run, &probe).await.err().map(drop)
    })
    .await;
    for (certificate, issuer) in [("internal", "policy-ca"), ("public", "acme")] {
        let spec = json!({"issuerRef": {"name": issuer}, "dnsNames": [format!("{certificate}.example.test")]});
        shared.certificate(certificate, spec).await;
    }
    let words = [
        name.as_str(),
        "a TLS Secret needs the label team",
        "spec.secretTemplate",
    ];
    for certificate in ["internal", "public"] {
        shared.refused(certificate, "SecretWriteFailed", &words).await;
    }
    assert_eq!(
        pebble.orders(),
        1,
        "an order was placed whose certificate cannot be kept"
    );

    let labelled = json!({"spec": {"secretTemplate": {"labels": {"team": "shop"}}}});
    for certificate in ["internal", "public"] {
        shared.patch(&shared.certificates(), certificate, &labelled).await;
    }
    shared.outcome("internal", 1, &root, &["internal.example.test"]).await;
    let root = pebble.root().await.unwrap();
    shared.outcome("public", 1, &root, &["public.example.test"]).await;
    assert_eq!(pebble.orders(), 2);
}

#[tokio::test]
async fn a_secret_that_would_be_too_large_is_reported_before_anything_is_ordered() {
    let shared = SharedOperator::set("large").await;
    let pebble = own_pebble(&shared, pebble::Options::default()).await;
    shared
        .issuer("acme", shared.acme(&pebble, "account", json!([http01()])))
        .await;
    // Just below 1 MiB, so that a pair does not fit beside it.
    let (filler, key) = ("x".repeat(1_047_500), new_key_pems().unwrap().0);
    let data = [("tls.crt", "-"), ("tls.key", key.as_str()), ("filler", filler.as_str())];
    shared.make_secret("big-tls", TLS, &data).await;
    let consent = json!({"metadata": {"annotations": {"gatehouse.dev/adopt": "true"}}});
    shared.patch(&shared.secrets(), "big-tls", &consent).await;
    let spec = json!({"issuerRef": {"name": "acme"}, "dnsNames": ["big.example.test"]});
    shared.certificate("big", spec).await;
    shared
        .refused(
            "big",
            "SecretWriteFailed",
            &["Secret big-tls", "larger than a Secret can be (1 MiB)"],
        )
        .await;
    assert_eq!(pebble.orders(), 0);

    let smaller = json!({"data": {"filler": null}});
    shared.patch(&shared.secrets(), "big-tls", &smaller).await;
    shared.request_renewal("big").await;
    let root = pebble.root().await.unwrap();
    shared.outcome("big", 1, &root, &["big.example.test"]).await;
    assert_eq!(pebble.orders(), 1);
}

#[tokio::test]
async fn a_ca_for_clients_is_named_when_a_server_certificate_is_requested() {
    let shared = SharedOperator::set("client-ca").await;
    let (certificate, key) = ca(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    shared
        .make_secret("clients", TLS, &[("tls.crt", &certificate), ("tls.key", &key)])
        .await;
    shared.issuer("clients", json!({"ca": {"secretName": "clients"}})).await;
    let spec =
        |usages: &[&str]| json!({"issuerRef": {"name": "clients"}, "dnsNames": ["web.example.test"], "usages": usages});
    shared
        .certificate("server", spec(&["digital signature", "server auth"]))
        .await;
    let words = ["a CA of a test", "client auth", "server auth", "spec.usages"];
    shared.refused("server", "Rejected", &words).await;
    assert!(shared.cluster.secret(&shared.namespace, "server-tls").await.is_none());
    shared
        .certificate("client", spec(&["digital signature", "client auth"]))
        .await;
    shared.ready("client", 1).await;
    // Another CA under the same name: nothing else has to be changed.
    let (certificate, key) = ca(|_| {});
    let pair = json!({"data": {"tls.crt": base64(certificate.as_bytes()), "tls.key": base64(key.as_bytes())}});
    shared.patch(&shared.secrets(), "clients", &pair).await;
    shared.outcome("server", 1, &certificate, &["web.example.test"]).await;
}

#[tokio::test]
async fn a_keystore_without_its_password_is_told_with_the_command_that_makes_it() {
    let shared = SharedOperator::set("password").await;
    let root = shared.internal_ca("password-ca").await;
    let store =
        |secret: &str| json!({"pkcs12": {"create": true, "passwordSecretRef": {"name": secret, "key": "password"}}});
    let spec = |secret: &str| json!({"issuerRef": {"name": "password-ca"}, "dnsNames": ["a.test"], "keystores": store(secret)});
    shared.make_secret("empty", "Opaque", &[("other", "x")]).await;
    shared.certificate("absent", spec("absent")).await;
    shared.certificate("empty", spec("empty")).await;
    // One that serves already continues to serve while its new keystore cannot be made.
    shared
        .certificate(
            "serving",
            json!({"issuerRef": {"name": "password-ca"}, "dnsNames": ["a.test"]}),
        )
        .await;
    shared.outcome("serving", 1, &root, &["a.test"]).await;
    shared.certificate("serving", spec("absent")).await;
    for name in ["absent", "empty"] {
        let command = format!("kubectl create secret generic {name} --from-literal=password=");
        shared
            .refused(name, "KeystoreFailed", &["under password in Secret", &command])
            .await;
        assert!(
            shared
                .cluster
                .secret(&shared.namespace, &format!("{name}-tls"))
                .await
                .is_none()
        );
    }
    let serving = shared
        .cluster
        .wait(
            &shared.certificates(),
            "serving",
            "reported of the password",
            SOON,
            |certificate| {
                let last = certificate
                    .status
                    .as_ref()
                    .and_then(|status| status.last_failure.clone());
                last.is_some_and(|last| last.reason == "KeystoreFailed")
            },
        )
        .await;
    assert_eq!(condition(&serving, "Ready").unwrap()["status"], "True");

    shared
        .make_secret("absent", "Opaque", &[("password", "secret-enough")])
        .await;
    shared
        .patch(
            &shared.secrets(),
            "empty",
            &json!({"stringData": {"password": "secret-enough"}}),
        )
        .await;
    for name in ["absent", "empty"] {
        shared.request_renewal(name).await;
        let outcome = shared.outcome(name, 1, &root, &["a.test"]).await;
        assert!(outcome.secret.data.unwrap().contains_key("keystore.p12"));
    }
    shared.request_renewal("serving").await;
    let whole = |secret: &Secret| {
        secret
            .data
            .as_ref()
            .is_some_and(|data| data.contains_key("keystore.p12"))
    };
    shared
        .cluster
        .wait(&shared.secrets(), "serving-tls", "with its keystore", SOON, whole)
        .await;
    shared.operator.assert_no_secret(&["secret-enough"]);
}
