//! The Secret: repaired when it is damaged, adopted when it fits, never overwritten when it belongs to another owner.
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

use std::collections::BTreeSet;
use std::time::Duration;

use gatehouse_tests::chain::verify;
use gatehouse_tests::cluster::condition;
use gatehouse_tests::shared_operator::{SOON, base64, http01, text};
use gatehouse_tests::{Record, SharedOperator, pebble};
use kube::api::DeleteParams;
use serde_json::{Value, json};

/// As long as a non-event is watched: many times what the operator needs for a write here.
const A_WHILE: Duration = Duration::from_secs(2);

/// A Certificate by the Issuer `ca`, with a second form of the pair.
async fn first(shared: &SharedOperator, root: &str, name: &str) -> gatehouse_tests::shared_operator::Outcome {
    let host = format!("{name}.test");
    let spec =
        json!({"issuerRef": {"name": "ca"}, "dnsNames": [host], "additionalOutputFormats": [{"type": "CombinedPEM"}]});
    shared.certificate(name, spec).await;
    shared.outcome(name, 1, root, &[&host]).await
}

/// A pair as another tool would make one.
fn by_openssl(host: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let [key, certificate] = ["key", "crt"].map(|name| folder.path().join(name));
    let output = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-days", "90", "-subj"])
        .arg(format!("/CN={host}"))
        .args(["-addext", &format!("subjectAltName=DNS:{host}")])
        .args(["-addext", "keyUsage=critical,digitalSignature,keyEncipherment"])
        .args([
            "-addext",
            "extendedKeyUsage=serverAuth",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |file| std::fs::read_to_string(file).unwrap();
    (read(certificate), read(key))
}

#[tokio::test]
async fn a_pair_that_is_lost_or_broken_is_made_anew() {
    let shared = SharedOperator::set("broken").await;
    let root = shared.internal_ca("ca").await;
    let data = |key: &str, value: Value| json!({"data": {key: value}});
    let junk = Value::from(base64(b"junk"));
    for (name, patch) in [
        ("deleted", None),
        ("certificate", Some(data("tls.crt", junk.clone()))),
        ("key", Some(data("tls.key", junk.clone()))),
    ] {
        let before = first(&shared, &root, name).await;
        let secret = format!("{name}-tls");
        match patch {
            Some(patch) => drop(shared.patch(&shared.secrets(), &secret, &patch).await),
            None => drop(
                shared
                    .secrets()
                    .delete(&secret, &DeleteParams::default())
                    .await
                    .unwrap(),
            ),
        }
        let after = shared.outcome(name, 2, &root, &[&format!("{name}.test")]).await;
        assert_ne!(before.chain.serial, after.chain.serial, "{name}");
        assert_eq!(text(&after.secret, "ca.crt"), root, "{name}");
        let cause = if name == "deleted" {
            "SecretMissing"
        } else {
            "SecretDamaged"
        };
        assert_eq!(
            after.secret.metadata.annotations.unwrap()["gatehouse.dev/cause"],
            cause,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_chain_or_ca_that_is_damaged_is_put_back_without_another_certificate() {
    let shared = SharedOperator::set("put-back").await;
    let root = shared.internal_ca("ca").await;
    let middle = json!({"issuerRef": {"name": "ca"}, "isCA": true, "commonName": "Middle", "duration": "2000h"});
    shared.certificate("middle", middle).await;
    shared
        .issuer("middle", json!({"ca": {"secretName": "middle-tls"}}))
        .await;
    let spec = json!({"issuerRef": {"name": "middle"}, "dnsNames": ["web.test"]});
    shared.certificate("web", spec).await;
    let before = shared.outcome("web", 1, &root, &["web.test"]).await;
    assert_eq!(before.chain.certificates.len(), 2);
    let whole = text(&before.secret, "tls.crt");
    let end = "-----END CERTIFICATE-----\n";
    let leaf = format!("{}{end}", whole.split_once(end).unwrap().0);
    let (stranger, _) = by_openssl("stranger.test");
    let data = |key: &str, value: &str| json!({"data": {key: base64(value.as_bytes())}});
    let note = |key: &str| json!({"metadata": {"annotations": {key: "1-00"}}});
    for (what, patch) in [
        ("no ca.crt", json!({"data": {"ca.crt": null}})),
        ("another ca.crt", data("ca.crt", &stranger)),
        ("junk in ca.crt", data("ca.crt", "junk")),
        ("the leaf alone", data("tls.crt", &leaf)),
        ("another intermediate", data("tls.crt", &format!("{leaf}{stranger}"))),
        ("the root first", data("tls.crt", &format!("{root}{whole}"))),
        ("the fingerprint of the chain", note("gatehouse.dev/chain-hash")),
        ("the fingerprint of the request", note("gatehouse.dev/request-hash")),
    ] {
        let broken = shared.patch(&shared.secrets(), "web-tls", &patch).await;
        let version = broken.metadata.resource_version.unwrap();
        shared
            .cluster
            .wait(&shared.secrets(), "web-tls", what, SOON, |secret| {
                secret.metadata.resource_version.as_ref() != Some(&version)
                    && secret.data == before.secret.data
                    && secret.metadata.annotations == before.secret.metadata.annotations
            })
            .await;
        let after = shared.outcome("web", 1, &root, &["web.test"]).await;
        assert_eq!(after.chain.serial, before.chain.serial, "{what}");
    }
}

#[tokio::test]
async fn the_chain_of_an_acme_certificate_is_put_back_without_another_order() {
    let shared = SharedOperator::set("put-back-acme").await;
    let options = pebble::Options {
        dns: Some(shared.test_cluster.knot().address()),
        http_port: Some(shared.test_cluster.http01_port),
        chain_length: 2,
        ..pebble::Options::default()
    };
    let pebble = shared.test_cluster.another_pebble(options).await;
    shared
        .issuer("acme", shared.acme(&pebble, "account", json!([http01()])))
        .await;
    let spec = json!({"issuerRef": {"name": "acme"}, "dnsNames": ["web.example.test"]});
    shared.certificate("web", spec).await;
    let root = pebble.root().await.unwrap();
    let before = shared.outcome("web", 1, &root, &["web.example.test"]).await;
    let whole = text(&before.secret, "tls.crt");
    let end = "-----END CERTIFICATE-----\n";
    let leaf = format!("{}{end}", whole.split_once(end).unwrap().0);
    assert!(leaf.len() < whole.len(), "there are intermediates");
    for (what, tls_crt) in [("the leaf alone", leaf.as_str()), ("no certificate at all", "junk")] {
        let patch = json!({"data": {"tls.crt": base64(tls_crt.as_bytes())}});
        shared.patch(&shared.secrets(), "web-tls", &patch).await;
        shared
            .cluster
            .wait(&shared.secrets(), "web-tls", what, SOON, |secret| {
                secret.data == before.secret.data
            })
            .await;
        let after = shared.outcome("web", 1, &root, &["web.example.test"]).await;
        assert_eq!(after.chain.serial, before.chain.serial, "{what}");
    }
    assert_eq!(pebble.orders(), 1);
}

#[tokio::test]
async fn an_immutable_secret_is_named_before_anything_is_ordered() {
    let shared = SharedOperator::set("immutable").await;
    let pebble = shared.test_cluster.another_pebble(pebble::Options::default()).await;
    shared
        .issuer("acme", shared.acme(&pebble, "account", json!([http01()])))
        .await;
    let (certificate, key) = by_openssl("web.example.test");
    let data = [("tls.crt", certificate.as_str()), ("tls.key", &key)];
    shared.make_secret("web-tls", "kubernetes.io/tls", &data).await;
    let spec = json!({"issuerRef": {"name": "acme"}, "dnsNames": ["web.example.test"]});
    shared.certificate("web", spec).await;
    shared.ready("web", 1).await;
    shared
        .patch(&shared.secrets(), "web-tls", &json!({"immutable": true}))
        .await;
    shared.request_renewal("web").await;
    let words = "Secret web-tls is immutable; delete it so that it can be recreated.";
    let refused = shared
        .cluster
        .wait(
            &shared.certificates(),
            "web",
            "refused as immutable",
            SOON,
            |certificate| {
                condition(certificate, "Issuing").is_some_and(|issuing| issuing["reason"] == "SecretImmutable")
            },
        )
        .await;
    assert_eq!(condition(&refused, "Issuing").unwrap()["message"], words);
    assert_eq!(
        condition(&refused, "Ready").unwrap()["status"],
        "True",
        "the present one serves"
    );
    assert_eq!(pebble.orders(), 0, "nothing was ordered");
    shared
        .secrets()
        .delete("web-tls", &DeleteParams::default())
        .await
        .unwrap();
    // The CA's answer to the challenge is another test's: it was ordered, at once.
    gatehouse_tests::process::eventually("an order", SOON, || async { (pebble.orders() > 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_restored_backup_is_adopted_without_another_certificate() {
    let shared = SharedOperator::set("restored").await;
    let root = shared.internal_ca("ca").await;
    first(&shared, &root, "web").await;
    shared.request_renewal("web").await;
    let before = shared.outcome("web", 2, &root, &["web.test"]).await;
    let (uid, name) = (before.certificate.metadata.uid.clone().unwrap(), "web-tls");
    shared
        .certificates()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    shared.secrets().delete(name, &DeleteParams::default()).await.unwrap();
    // As tools for backups restore: names, labels, annotations and content, and no status.
    let mut secret = before.secret.clone();
    secret.metadata = kube::api::ObjectMeta {
        name: Some(name.into()),
        labels: secret.metadata.labels,
        annotations: secret.metadata.annotations,
        ..kube::api::ObjectMeta::default()
    };
    shared
        .secrets()
        .create(&kube::api::PostParams::default(), &secret)
        .await
        .unwrap();
    let mut certificate = before.certificate.clone();
    certificate.status = None;
    certificate.metadata = kube::api::ObjectMeta {
        name: Some("web".into()),
        annotations: certificate.metadata.annotations,
        ..kube::api::ObjectMeta::default()
    };
    shared
        .certificates()
        .create(&kube::api::PostParams::default(), &certificate)
        .await
        .unwrap();
    let after = shared.outcome("web", 1, &root, &["web.test"]).await;
    assert_eq!(condition(&after.certificate, "Ready").unwrap()["reason"], "Adopted");
    assert_ne!(after.certificate.metadata.uid, Some(uid));
    let issued_at =
        |certificate: &gatehouse_crds::certificate::Certificate| certificate.status.as_ref().unwrap().issued_at;
    assert_eq!(issued_at(&after.certificate), issued_at(&before.certificate));
    // A non-event: the old request for a renewal is not answered again.
    tokio::time::sleep(A_WHILE).await;
    let later = shared.outcome("web", 1, &root, &["web.test"]).await;
    assert_eq!(later.chain.serial, before.chain.serial);
    assert_eq!(later.secret.data, before.secret.data);
}

#[tokio::test]
async fn keystores_are_rewritten_for_another_password_without_another_certificate() {
    let shared = SharedOperator::set("password").await;
    let root = shared.internal_ca("ca").await;
    shared.make_secret("ks", "Opaque", &[("password", "changeit")]).await;
    let reference = json!({"create": true, "passwordSecretRef": {"name": "ks", "key": "password"}});
    let spec = json!({"issuerRef": {"name": "ca"}, "dnsNames": ["web.test"],
        "keystores": {"pkcs12": reference, "jks": reference}});
    shared.certificate("web", spec).await;
    let before = shared.outcome("web", 1, &root, &["web.test"]).await;
    let look_again = |value: &'static str| {
        let patch = json!({"metadata": {"labels": {"look": value}}});
        let shared = &shared;
        async move { shared.patch(&shared.certificates(), "web", &patch).await }
    };
    let opens = |secret: &k8s_openapi::api::core::v1::Secret, password: &str| {
        gatehouse::pki::keystore::pkcs12_opens(
            gatehouse_tests::shared_operator::bytes(secret, "keystore.p12"),
            password,
        ) && gatehouse::pki::keystore::jks_opens(
            gatehouse_tests::shared_operator::bytes(secret, "keystore.jks"),
            password,
        )
    };
    assert!(opens(&before.secret, "changeit"));
    // Another version of the Secret with the same password changes nothing.
    shared
        .patch(
            &shared.secrets(),
            "ks",
            &json!({"metadata": {"labels": {"team": "shop"}}}),
        )
        .await;
    look_again("once").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(shared.secret("web-tls").await, before.secret);

    let other = json!({"data": {"password": base64(b"changed!")}});
    shared.patch(&shared.secrets(), "ks", &other).await;
    look_again("twice").await;
    shared
        .cluster
        .wait(
            &shared.secrets(),
            "web-tls",
            "with the other password",
            SOON,
            |secret| opens(secret, "changed!"),
        )
        .await;
    let after = shared.outcome("web", 1, &root, &["web.test"]).await;
    assert_eq!(after.chain.serial, before.chain.serial);
    shared.operator.assert_no_secret(&["changeit", "changed!"]);
}

#[tokio::test]
async fn what_does_not_touch_the_pair_is_mended_without_another_certificate() {
    let shared = SharedOperator::set("repaired").await;
    let root = shared.internal_ca("ca").await;
    let before = first(&shared, &root, "web").await;
    let metadata = |kind: &str, key: &str, value: Value| json!({"metadata": {kind: {key: value}}});
    for (what, patch) in [
        ("the other form", json!({"data": {"tls-combined.pem": base64(b"junk")}})),
        ("a label", metadata("labels", "gatehouse.dev/managed", Value::Null)),
        (
            "an annotation",
            metadata("annotations", "gatehouse.dev/serial-number", Value::Null),
        ),
        (
            "whose it is",
            metadata("annotations", "gatehouse.dev/certificate", Value::Null),
        ),
        (
            "a changed annotation",
            metadata("annotations", "gatehouse.dev/not-after", "2020-01-01T00:00:00Z".into()),
        ),
    ] {
        let broken = shared.patch(&shared.secrets(), "web-tls", &patch).await;
        let version = broken.metadata.resource_version.unwrap();
        shared
            .cluster
            .wait(&shared.secrets(), "web-tls", what, SOON, |secret| {
                let same = |of: fn(&k8s_openapi::api::core::v1::Secret) -> Value| of(secret) == of(&before.secret);
                secret.metadata.resource_version.as_ref() != Some(&version)
                    && same(|secret| json!(secret.data))
                    && same(|secret| json!(secret.metadata.labels))
                    && same(|secret| json!(secret.metadata.annotations))
            })
            .await;
        let after = shared.outcome("web", 1, &root, &["web.test"]).await;
        assert_eq!(after.chain.serial, before.chain.serial, "{what}");
        assert_eq!(
            condition(&after.certificate, "Ready").unwrap()["reason"],
            "Issued",
            "{what}"
        );
    }
}

#[tokio::test]
async fn what_the_template_adds_is_put_back_and_what_others_add_stays() {
    let shared = SharedOperator::set("template").await;
    let root = shared.internal_ca("ca").await;
    let template = json!({"labels": {"team": "shop"}, "annotations": {"note": "ours"}});
    let spec = json!({"issuerRef": {"name": "ca"}, "dnsNames": ["web.test"], "secretTemplate": template});
    shared.certificate("web", spec).await;
    let before = shared.outcome("web", 1, &root, &["web.test"]).await;
    let theirs = json!({"metadata": {"labels": {"theirs": "too"}, "annotations": {"theirs": "too"}}});
    shared.patch(&shared.secrets(), "web-tls", &theirs).await;
    for (kind, key, value) in [
        ("labels", "team", Value::Null),
        ("labels", "team", "hijacked".into()),
        ("annotations", "note", Value::Null),
        ("annotations", "note", "theirs".into()),
        ("labels", "app.kubernetes.io/managed-by", "helm".into()),
        ("annotations", "gatehouse.dev/issuer", "Issuer/other".into()),
    ] {
        let what = format!("{key} in {kind}, after it was made {value}");
        let patch = json!({"metadata": {kind: {key: value}}});
        shared.patch(&shared.secrets(), "web-tls", &patch).await;
        let healed = shared
            .cluster
            .wait(&shared.secrets(), "web-tls", &what, SOON, |secret| {
                let mut secret = secret.clone();
                let labels = secret.metadata.labels.get_or_insert_default();
                let notes = secret.metadata.annotations.get_or_insert_default();
                let theirs = [labels.remove("theirs"), notes.remove("theirs")];
                theirs == [Some("too".into()), Some("too".into())]
                    && secret.metadata.labels == before.secret.metadata.labels
                    && secret.metadata.annotations == before.secret.metadata.annotations
            })
            .await;
        assert_eq!(healed.data, before.secret.data, "{what}");
    }
    let after = shared.outcome("web", 1, &root, &["web.test"]).await;
    assert_eq!(after.chain.serial, before.chain.serial);
    assert_eq!(after.certificate.status, before.certificate.status);
}

#[tokio::test]
async fn pairs_that_were_swapped_are_made_anew() {
    let shared = SharedOperator::set("swapped").await;
    let root = shared.internal_ca("ca").await;
    let (a, b) = (first(&shared, &root, "a").await, first(&shared, &root, "b").await);
    for (into, from) in [("a-tls", &b), ("b-tls", &a)] {
        let data = json!({"data": from.secret.data});
        shared.patch(&shared.secrets(), into, &data).await;
    }
    for name in ["a", "b"] {
        shared.outcome(name, 2, &root, &[&format!("{name}.test")]).await;
    }
}

#[tokio::test]
async fn a_foreign_pair_that_fits_is_adopted_without_an_order() {
    let shared = SharedOperator::set("adopted").await;
    let pebble = shared.test_cluster.another_pebble(pebble::Options::default()).await;
    shared
        .issuer("acme", shared.acme(&pebble, "account", json!([http01()])))
        .await;
    let (certificate, key) = by_openssl("fits.example.test");
    shared
        .make_secret(
            "fits-tls",
            "kubernetes.io/tls",
            &[("tls.crt", &certificate), ("tls.key", &key)],
        )
        .await;
    shared
        .certificate(
            "fits",
            json!({"issuerRef": {"name": "acme"}, "dnsNames": ["fits.example.test"]}),
        )
        .await;
    let adopted = shared.ready("fits", 1).await;
    assert_eq!(condition(&adopted, "Ready").unwrap()["reason"], "Adopted");
    let secret = shared.secret("fits-tls").await;
    assert_eq!((text(&secret, "tls.crt"), text(&secret, "tls.key")), (certificate, key));
    assert_eq!(secret.metadata.labels.unwrap()["gatehouse.dev/managed"], "true");
    assert_eq!(
        secret.metadata.annotations.unwrap()["gatehouse.dev/certificate"],
        "fits"
    );
    assert_eq!(pebble.orders(), 0, "nothing was ordered");
}

#[tokio::test]
async fn a_foreign_pair_that_does_not_fit_is_left_alone_until_its_owner_consents() {
    let shared = SharedOperator::set("conflict").await;
    let root = shared.internal_ca("ca").await;
    let (certificate, key) = by_openssl("other.test");
    let data = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
    shared.make_secret("pair-tls", "kubernetes.io/tls", &data).await;
    shared
        .make_secret("opaque-tls", "Opaque", &[("password", "theirs")])
        .await;
    for name in ["pair", "opaque"] {
        let (secret, host) = (format!("{name}-tls"), format!("{name}.test"));
        let theirs = shared.secret(&secret).await;
        shared
            .certificate(name, json!({"issuerRef": {"name": "ca"}, "dnsNames": [host]}))
            .await;
        let words = [secret.as_str(), "gatehouse.dev/adopt=true"];
        shared.refused(name, "SecretConflict", &words).await;
        assert_eq!(
            shared.secret(&secret).await,
            theirs,
            "{name}: not a field of it was touched"
        );

        let consent = json!({"metadata": {"annotations": {"gatehouse.dev/adopt": "true"}}});
        shared.patch(&shared.secrets(), &secret, &consent).await;
        if name == "opaque" {
            // Only TLS Secrets are watched; its owner need not wait for the minute to pass.
            shared.request_renewal(name).await;
        }
        shared.ready(name, 1).await;
        verify(&shared.secret(&secret).await, &root, &[&host]).unwrap();
    }
}

#[tokio::test]
async fn of_two_certificates_with_one_secret_the_second_is_told_and_the_first_undisturbed() {
    let shared = SharedOperator::set("two").await;
    let root = shared.internal_ca("ca").await;
    let one = |name: &str| {
        json!({"apiVersion": "gatehouse.dev/v1alpha1", "kind": "Certificate", "metadata": {"name": name},
               "spec": {"secretName": "shared", "issuerRef": {"name": "ca"}, "dnsNames": [format!("{name}.test")]}})
    };
    // Together, so that neither finds a Secret.
    let both = format!("{}\n---\n{}\n", one("a"), one("b"));
    shared.cluster.apply(&shared.namespace, &both).await;
    let first = shared.outcome("a", 1, &root, &["a.test"]).await;
    shared
        .refused("b", "SecretConflict", &["shared", "another secretName"])
        .await;
    // A non-event: they do not take it from each other.
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(shared.secret("shared").await, first.secret);
    assert_eq!(
        shared.certificates().get("a").await.unwrap().status,
        first.certificate.status
    );
    // When the first goes, the second may have what is left: not its pair, so its owner has to say so.
    shared
        .certificates()
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    shared
        .secrets()
        .delete("shared", &DeleteParams::default())
        .await
        .unwrap();
    shared.outcome("b", 1, &root, &["b.test"]).await;
}

#[tokio::test]
async fn three_rotations_never_show_half_a_pair_nor_lose_what_others_added() {
    let shared = SharedOperator::set("rotations").await;
    let root = shared.internal_ca("ca").await;
    first(&shared, &root, "web").await;
    let theirs = json!({"metadata": {"labels": {"team": "shop"}, "annotations": {"note": "theirs"}},
                        "data": {"extra": base64(b"theirs")}});
    shared.patch(&shared.secrets(), "web-tls", &theirs).await;
    let record = Record::of(&shared.secrets(), "web-tls").await;
    for revision in 2..=4 {
        shared.request_renewal("web").await;
        shared.outcome("web", revision, &root, &["web.test"]).await;
    }
    let versions = record.versions();
    let mut serials = BTreeSet::new();
    for secret in &versions {
        let chain = verify(secret, &root, &["web.test"]).expect("a whole pair at every moment");
        assert!(
            text(secret, "tls-combined.pem").ends_with(&chain.pem),
            "every form is of one pair"
        );
        serials.insert(chain.serial);
        assert_eq!(text(secret, "extra"), "theirs");
        assert_eq!(secret.metadata.labels.as_ref().unwrap()["team"], "shop");
        assert_eq!(secret.metadata.annotations.as_ref().unwrap()["note"], "theirs");
    }
    assert_eq!(serials.len(), 4, "{} versions", versions.len());
    assert_eq!(versions.len(), 4, "one write a rotation");
}
