//! Keys, names, forms and the consequences of their changes: each variant is read by an independent reader.
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

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gatehouse_tests::chain::{assert_chain, entry};
use gatehouse_tests::shared_operator::{SOON, bytes, text};
use gatehouse_tests::{SharedOperator, process::eventually};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::{Value, json};

/// A program's output; it fails when the program does.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {}:\n{text}", args.join(" "));
    text
}

/// Returns openssl's view of a Secret's leaf.
fn leaf(folder: &Path, secret: &Secret) -> String {
    let file = written(folder, secret, "tls.crt");
    run(
        "openssl",
        &[
            "x509",
            "-noout",
            "-text",
            "-nameopt",
            "RFC2253,sep_comma_plus,utf8",
            "-in",
            &file,
        ],
    )
}

/// An entry of a Secret as a file.
fn written(folder: &Path, secret: &Secret, key: &str) -> String {
    let file = folder.join(format!("{}-{key}", secret.metadata.name.as_deref().unwrap()));
    std::fs::write(&file, bytes(secret, key)).unwrap();
    file.to_string_lossy().into_owned()
}

fn with(base: &Value, more: Value) -> Value {
    let mut whole = base.clone();
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    whole
}

#[tokio::test]
async fn each_kind_of_key_is_made_written_and_certified() {
    let shared = SharedOperator::set("keys").await;
    let root = shared.internal_ca("keys-ca").await;
    let folder = tempfile::tempdir().unwrap();
    // Algorithm, size, encoding; the PEM's label, and what openssl says of the key in the certificate.
    let variants = [
        ("RSA", 2048, "PKCS8", "PRIVATE KEY", "Public-Key: (2048 bit)"),
        ("RSA", 3072, "PKCS1", "RSA PRIVATE KEY", "Public-Key: (3072 bit)"),
        ("RSA", 4096, "PKCS8", "PRIVATE KEY", "Public-Key: (4096 bit)"),
        ("ECDSA", 256, "PKCS1", "EC PRIVATE KEY", "NIST CURVE: P-256"),
        ("ECDSA", 384, "PKCS8", "PRIVATE KEY", "NIST CURVE: P-384"),
        ("ECDSA", 521, "PKCS1", "EC PRIVATE KEY", "NIST CURVE: P-521"),
        ("Ed25519", 0, "PKCS8", "PRIVATE KEY", "ED25519 Public-Key"),
    ];
    let name = |algorithm: &str, size: i32| format!("{}-{size}", algorithm.to_lowercase());
    for (algorithm, size, encoding, ..) in variants {
        let mut key = json!({"algorithm": algorithm, "encoding": encoding});
        if size > 0 {
            key["size"] = json!(size);
        }
        let name = name(algorithm, size);
        let spec = json!({"issuerRef": {"name": "keys-ca"}, "dnsNames": [format!("{name}.test")], "privateKey": key});
        shared.certificate(&name, spec).await;
    }
    for (algorithm, size, _, label, words) in variants {
        let name = name(algorithm, size);
        let outcome = shared.outcome(&name, 1, &root, &[&format!("{name}.test")]).await;
        let pem = text(&outcome.secret, "tls.key");
        assert!(
            pem.starts_with(&format!("-----BEGIN {label}-----\n")),
            "{name} is written otherwise"
        );
        let file = written(folder.path(), &outcome.secret, "tls.key");
        run("openssl", &["pkey", "-noout", "-check", "-in", &file]);
        let shown = leaf(folder.path(), &outcome.secret);
        assert!(shown.contains(words), "{name}:\n{shown}");
        shared.operator.assert_no_secret(&[&pem]);
    }
}

#[tokio::test]
async fn a_renewal_changes_the_key_or_keeps_it_as_asked() {
    let shared = SharedOperator::set("rotation").await;
    let root = shared.internal_ca("rotation-ca").await;
    let base = json!({"issuerRef": {"name": "rotation-ca"}, "dnsNames": ["a.test"]});
    for (policy, keeps) in [("Never", true), ("Always", false)] {
        let name = policy.to_lowercase();
        let spec = |size: i32| with(&base, json!({"privateKey": {"size": size, "rotationPolicy": policy}}));
        shared.certificate(&name, spec(256)).await;
        let first = shared.outcome(&name, 1, &root, &["a.test"]).await;
        shared.request_renewal(&name).await;
        let second = shared.outcome(&name, 2, &root, &["a.test"]).await;
        assert_ne!(first.chain.serial, second.chain.serial);
        assert_eq!(first.chain.public_key == second.chain.public_key, keeps, "{policy}");
        shared.event(&name, "Renewed").await;
        // A key that does not fit the spec any more is not kept.
        shared.certificate(&name, spec(384)).await;
        let third = shared.outcome(&name, 3, &root, &["a.test"]).await;
        assert_ne!(second.chain.public_key, third.chain.public_key, "{policy}");
    }
}

#[tokio::test]
async fn subject_usages_and_every_kind_of_name_are_in_the_certificate() {
    let shared = SharedOperator::set("names").await;
    let root = shared.internal_ca("names-ca").await;
    let folder = tempfile::tempdir().unwrap();
    shared
        .certificate(
            "full",
            json!({
                "issuerRef": {"name": "names-ca"},
                "commonName": "full.test",
                "dnsNames": ["full.test", "bücher.full.test"],
                "ipAddresses": ["192.0.2.7", "2001:db8::7"],
                "uris": ["spiffe://cluster.local/ns/app/sa/full"],
                "emailAddresses": ["ops@full.test"],
                "subject": {"organizations": ["First", "Second"], "organizationalUnits": ["Unit"], "countries": ["DE"],
                    "provinces": ["Province"], "localities": ["Place"], "streetAddresses": ["Street 1"],
                    "postalCodes": ["12345"], "serialNumber": "number-7"},
                "usages": ["digital signature", "key agreement", "client auth", "server auth", "code signing"],
                "duration": "48h",
            }),
        )
        .await;
    let names = ["full.test", "xn--bcher-kva.full.test", "192.0.2.7", "2001:db8::7"];
    let outcome = shared.outcome("full", 1, &root, &names).await;
    let shown = leaf(folder.path(), &outcome.secret);
    for words in [
        "CN=full.test",
        "O=First",
        "O=Second",
        "OU=Unit",
        "C=DE",
        "ST=Province",
        "L=Place",
        "street=Street 1",
        "postalCode=12345",
        "serialNumber=number-7",
        "DNS:full.test",
        "DNS:xn--bcher-kva.full.test",
        "IP Address:192.0.2.7",
        "IP Address:2001:DB8:0:0:0:0:0:7",
        "URI:spiffe://cluster.local/ns/app/sa/full",
        "email:ops@full.test",
        "Digital Signature, Key Agreement",
        "TLS Web Client Authentication",
        "TLS Web Server Authentication",
        "Code Signing",
        "X509v3 Authority Key Identifier",
        "X509v3 Subject Key Identifier",
    ] {
        let found = shown.to_lowercase().contains(&words.to_lowercase());
        assert!(found, "{words} is not in:\n{shown}");
    }
    assert!(!shown.contains("Key Encipherment"), "what was not asked for:\n{shown}");
    let seconds = outcome.chain.not_after.as_second() - outcome.chain.not_before.as_second();
    assert!((48 * 3600..49 * 3600).contains(&seconds), "{seconds}");

    shared
        .certificate(
            "only",
            json!({"issuerRef": {"name": "names-ca"}, "commonName": "a person, not a host"}),
        )
        .await;
    let outcome = shared.outcome("only", 1, &root, &[]).await;
    let shown = leaf(folder.path(), &outcome.secret);
    assert!(
        shown.contains("a person") && !shown.contains("Subject Alternative Name"),
        "{shown}"
    );
}

#[tokio::test]
async fn name_constraints_of_a_ca_are_written_and_then_enforced() {
    let shared = SharedOperator::set("constraints").await;
    let root = shared.internal_ca("wide-ca").await;
    let folder = tempfile::tempdir().unwrap();
    shared
        .certificate(
            "narrow",
            json!({"issuerRef": {"name": "wide-ca"}, "isCA": true, "commonName": "narrow", "duration": "2000h",
                "nameConstraints": {"critical": true,
                    "permitted": {"dnsDomains": ["in.test"], "ipRanges": ["10.0.0.0/8"]},
                    "excluded": {"dnsDomains": ["secret.in.test"]}}}),
        )
        .await;
    shared
        .issuer("narrow-ca", json!({"ca": {"secretName": "narrow-tls"}}))
        .await;
    let shown = leaf(folder.path(), &shared.secret("narrow-tls").await);
    for words in [
        "CA:TRUE",
        "Name Constraints: critical",
        "DNS:in.test",
        "IP:10.0.0.0/255.0.0.0",
        "DNS:secret.in.test",
    ] {
        assert!(shown.contains(words), "{words} is not in:\n{shown}");
    }
    let base = json!({"issuerRef": {"name": "narrow-ca"}});
    let spec = |names: Value| with(&base, names);
    shared
        .certificate(
            "inside",
            spec(json!({"dnsNames": ["a.in.test"], "ipAddresses": ["10.1.2.3"]})),
        )
        .await;
    shared.outcome("inside", 1, &root, &["a.in.test", "10.1.2.3"]).await;

    for (name, names, culprit) in [
        (
            "outside",
            json!({"dnsNames": ["a.in.test", "b.out.test"]}),
            "b.out.test",
        ),
        (
            "excluded",
            json!({"dnsNames": ["x.secret.in.test"]}),
            "x.secret.in.test",
        ),
        (
            "address",
            json!({"dnsNames": ["a.in.test"], "ipAddresses": ["192.0.2.7"]}),
            "192.0.2.7",
        ),
    ] {
        shared.certificate(name, spec(names)).await;
        shared.refused(name, "Rejected", &[culprit]).await;
        assert!(
            shared
                .cluster
                .secret(&shared.namespace, &format!("{name}-tls"))
                .await
                .is_none()
        );
    }
    // Fixed in the spec: at once.
    shared
        .certificate("outside", spec(json!({"dnsNames": ["a.in.test", "b.in.test"]})))
        .await;
    shared.outcome("outside", 1, &root, &["b.in.test"]).await;
}

/// The leaf's serial number, which shows whether anything was issued again.
async fn wait_for(shared: &SharedOperator, what: &str, wanted: impl FnMut(&Secret) -> bool) -> Secret {
    shared
        .cluster
        .wait(&shared.secrets(), "forms-tls", what, SOON, wanted)
        .await
}

#[tokio::test]
async fn forms_and_template_come_and_go_without_a_new_certificate() {
    let shared = SharedOperator::set("forms").await;
    let root = shared.internal_ca("forms-ca").await;
    let folder = tempfile::tempdir().unwrap();
    let base = json!({"issuerRef": {"name": "forms-ca"}, "dnsNames": ["forms.test"]});
    shared.certificate("forms", base.clone()).await;
    let first = shared.outcome("forms", 1, &root, &["forms.test"]).await;
    assert_eq!(
        first.secret.data.as_ref().unwrap().keys().collect::<Vec<_>>(),
        ["ca.crt", "tls.crt", "tls.key"]
    );

    let formats = json!({"additionalOutputFormats": [{"type": "CombinedPEM"}, {"type": "DER"}],
        "secretTemplate": {"labels": {"team": "a"}, "annotations": {"example.com/note": "b"}}});
    shared.certificate("forms", with(&base, formats)).await;
    let secret = wait_for(&shared, "in further forms", |secret| {
        entry(secret, "key.der").is_ok() && entry(secret, "tls-combined.pem").is_ok()
    })
    .await;
    assert_eq!(
        text(&secret, "tls-combined.pem"),
        format!("{}{}", text(&secret, "tls.key"), text(&secret, "tls.crt"))
    );
    let der = written(folder.path(), &secret, "key.der");
    let pem = written(folder.path(), &secret, "tls.key");
    assert_eq!(
        run("openssl", &["pkey", "-inform", "DER", "-pubout", "-in", &der]),
        run("openssl", &["pkey", "-pubout", "-in", &pem])
    );
    assert_eq!(secret.metadata.labels.as_ref().unwrap()["team"], "a");
    assert_eq!(secret.metadata.annotations.as_ref().unwrap()["example.com/note"], "b");

    // Another label in place of the first, one form less.
    let fewer = json!({"additionalOutputFormats": [{"type": "DER"}], "secretTemplate": {"labels": {"crew": "c"}}});
    shared.certificate("forms", with(&base, fewer)).await;
    let secret = wait_for(&shared, "in fewer forms", |secret| {
        entry(secret, "tls-combined.pem").is_err()
    })
    .await;
    assert!(entry(&secret, "key.der").is_ok());
    let labels = secret.metadata.labels.clone().unwrap();
    assert_eq!(
        (labels.get("team"), labels.get("crew").map(String::as_str)),
        (None, Some("c"))
    );
    assert!(
        !secret
            .metadata
            .annotations
            .as_ref()
            .unwrap()
            .contains_key("example.com/note")
    );

    // The other encoding of the same key is a change of form, too.
    shared
        .certificate("forms", with(&base, json!({"privateKey": {"encoding": "PKCS1"}})))
        .await;
    wait_for(&shared, "written as SEC 1", |secret| {
        text(secret, "tls.key").starts_with("-----BEGIN EC PRIVATE KEY") && entry(secret, "key.der").is_err()
    })
    .await;
    let last = shared.outcome("forms", 1, &root, &["forms.test"]).await;
    assert_eq!(
        last.chain.pem, first.chain.pem,
        "a certificate was issued for a change of form"
    );
    assert_eq!(last.chain.public_key, first.chain.public_key);
}

const PASSWORD: &str = "a password, with words";

#[tokio::test]
async fn keystores_open_in_openssl_and_keytool_and_come_without_a_new_certificate() {
    let shared = SharedOperator::set("stores").await;
    let root = shared.internal_ca("stores-ca").await;
    let folder = tempfile::tempdir().unwrap();
    shared.make_secret("store", "Opaque", &[("password", PASSWORD)]).await;
    let password = json!({"name": "store", "key": "password"});
    let base = json!({"issuerRef": {"name": "stores-ca"}, "dnsNames": ["stores.test"]});
    let secret_file = folder.path().join("password");
    std::fs::write(&secret_file, PASSWORD).unwrap();
    let pass = format!("file:{}", secret_file.display());

    for profile in [None, Some("Modern2023"), Some("LegacyDES"), Some("LegacyRC2")] {
        let name = profile.map_or_else(|| "default".to_owned(), str::to_lowercase);
        shared.certificate(&name, base.clone()).await;
        let first = shared.outcome(&name, 1, &root, &["stores.test"]).await;
        let mut store = json!({"create": true, "passwordSecretRef": password});
        if let Some(profile) = profile {
            store["profile"] = json!(profile);
        }
        let stores = json!({"keystores": {"pkcs12": store, "jks": {"create": true, "passwordSecretRef": password}}});
        shared.certificate(&name, with(&base, stores)).await;
        let secret = shared
            .cluster
            .wait(
                &shared.secrets(),
                &format!("{name}-tls"),
                "with keystores",
                SOON,
                |secret| {
                    ["keystore.p12", "truststore.p12", "keystore.jks", "truststore.jks"]
                        .iter()
                        .all(|key| entry(secret, key).is_ok())
                },
            )
            .await;
        assert_eq!(
            assert_chain(&secret, &root, &["stores.test"]).pem,
            first.chain.pem,
            "{name} was issued again"
        );

        // PKCS#12: the pair by openssl, the CA by keytool, which needs Java's mark of trust on it.
        let p12 = written(folder.path(), &secret, "keystore.p12");
        let legacy = profile.is_some_and(|profile| profile.starts_with("Legacy"));
        let open = |more: &[&str]| {
            let mut args = vec!["pkcs12", "-in", &p12, "-passin", &pass, "-nodes"];
            if legacy {
                args.push("-legacy");
            }
            args.extend(more);
            run("openssl", &args)
        };
        let key = folder.path().join(format!("{name}.key"));
        std::fs::write(&key, open(&["-nocerts"])).unwrap();
        let pem = written(folder.path(), &secret, "tls.key");
        assert_eq!(
            run("openssl", &["pkey", "-pubout", "-in", &key.to_string_lossy()]),
            run("openssl", &["pkey", "-pubout", "-in", &pem])
        );
        let crt = written(folder.path(), &secret, "tls.crt");
        let own = run("openssl", &["x509", "-in", &crt]);
        assert!(
            open(&["-clcerts", "-nokeys"]).contains(own.trim()),
            "{name}: another certificate"
        );
        let trust = written(folder.path(), &secret, "truststore.p12");
        let file = secret_file.to_string_lossy().into_owned();
        let listed = run(
            "keytool",
            &[
                "-list",
                "-keystore",
                &trust,
                "-storetype",
                "PKCS12",
                "-storepass:file",
                &file,
            ],
        );
        assert!(listed.contains("trustedCertEntry"), "{listed}");

        let jks = written(folder.path(), &secret, "keystore.jks");
        let listed = run(
            "keytool",
            &[
                "-list",
                "-v",
                "-keystore",
                &jks,
                "-storetype",
                "JKS",
                "-storepass:file",
                &file,
            ],
        );
        assert!(
            listed.contains("PrivateKeyEntry") && listed.contains("stores.test"),
            "{listed}"
        );
        let trust = written(folder.path(), &secret, "truststore.jks");
        let listed = run(
            "keytool",
            &[
                "-list",
                "-keystore",
                &trust,
                "-storetype",
                "JKS",
                "-storepass:file",
                &file,
            ],
        );
        assert!(listed.contains("trustedCertEntry"), "{listed}");
    }
    // And go again.
    shared.certificate("default", base).await;
    shared
        .cluster
        .wait(&shared.secrets(), "default-tls", "without keystores", SOON, |secret| {
            entry(secret, "keystore.p12").is_err() && entry(secret, "truststore.jks").is_err()
        })
        .await;
    shared.ready("default", 1).await;
    shared.operator.assert_no_secret(&[PASSWORD]);
}

#[tokio::test]
async fn a_deleted_certificate_takes_its_secret_along_only_when_told_to() {
    let shared = SharedOperator::set("deletion").await;
    let root = shared.internal_ca("deletion-ca").await;
    let base = json!({"issuerRef": {"name": "deletion-ca"}, "dnsNames": ["a.test"]});
    shared
        .certificate("gone", with(&base, json!({"secretDeletionPolicy": "Delete"})))
        .await;
    shared
        .certificate("kept", with(&base, json!({"secretDeletionPolicy": "Retain"})))
        .await;
    shared.certificate("default", base.clone()).await;
    // Reported later, and differently later.
    shared.certificate("later", base.clone()).await;
    shared
        .certificate("spared", with(&base, json!({"secretDeletionPolicy": "Delete"})))
        .await;
    for name in ["gone", "kept", "default", "later", "spared"] {
        shared.outcome(name, 1, &root, &["a.test"]).await;
    }
    shared
        .certificate("later", with(&base, json!({"secretDeletionPolicy": "Delete"})))
        .await;
    shared.certificate("spared", base).await;
    let owned = |secret: &Secret| {
        secret
            .metadata
            .owner_references
            .as_ref()
            .is_some_and(|owners| !owners.is_empty())
    };
    shared
        .cluster
        .wait(&shared.secrets(), "later-tls", "owned", SOON, owned)
        .await;
    shared
        .cluster
        .wait(&shared.secrets(), "spared-tls", "no one's", SOON, |secret| {
            !owned(secret)
        })
        .await;

    for name in ["gone", "kept", "default", "later", "spared"] {
        shared
            .certificates()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    for name in ["gone", "later"] {
        shared
            .cluster
            .wait_gone(&shared.secrets(), &format!("{name}-tls"), SOON)
            .await;
    }
    // The garbage collector has done its work on the others' neighbours; theirs would have been done by then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for name in ["kept", "default", "spared"] {
        assert_chain(&shared.secret(&format!("{name}-tls")).await, &root, &["a.test"]);
    }
}

#[tokio::test]
async fn what_uses_the_secret_is_restarted_on_a_renewal_and_not_before() {
    let shared = SharedOperator::set("rollout").await;
    let root = shared.internal_ca("rollout-ca").await;
    let template = |kind: &str| {
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": kind}},
            "template": {"metadata": {"labels": {"app": kind}, "annotations": {"mine": "stays"}},
                "spec": {"containers": [{"name": "web", "image": "web"}]}}}})
    };
    let kinds = ["Deployment", "StatefulSet", "DaemonSet"];
    for kind in kinds {
        shared
            .cluster
            .apply(&shared.namespace, &template(kind).to_string())
            .await;
    }
    let rollout: Vec<Value> = kinds.iter().map(|kind| json!({"kind": kind, "name": "web"})).collect();
    shared
        .certificate(
            "web",
            json!({"issuerRef": {"name": "rollout-ca"}, "dnsNames": ["web.test"], "rollout": rollout}),
        )
        .await;
    let noted = async |kind: &str| {
        let api = shared
            .cluster
            .dynamic("apps/v1", kind, &shared.namespace)
            .await
            .unwrap();
        let object = api.get("web").await.unwrap();
        let annotations = object.data["spec"]["template"]["metadata"]["annotations"].clone();
        assert_eq!(annotations["mine"], "stays");
        annotations["gatehouse.dev/serial-number.web"]
            .as_str()
            .map(str::to_owned)
    };
    shared.outcome("web", 1, &root, &["web.test"]).await;
    for kind in kinds {
        assert_eq!(
            noted(kind).await,
            None,
            "{kind}: Pods that waited for their first certificate are restarted"
        );
    }
    shared.request_renewal("web").await;
    let second = shared.outcome("web", 2, &root, &["web.test"]).await;
    let serial = second.certificate.status.unwrap().serial_number;
    for kind in kinds {
        assert_eq!(noted(kind).await, serial, "{kind}");
    }
    // A new form is no new pair: no workload is restarted.
    let before = shared
        .cluster
        .api::<Deployment>(&shared.namespace)
        .get("web")
        .await
        .unwrap();
    shared
        .certificate(
            "web",
            json!({"issuerRef": {"name": "rollout-ca"}, "dnsNames": ["web.test"], "rollout": rollout,
                   "secretTemplate": {"labels": {"team": "a"}}}),
        )
        .await;
    eventually("the label is set", SOON, || async {
        let labels = shared.secret("web-tls").await.metadata.labels.unwrap();
        labels.contains_key("team").then_some(())
    })
    .await;
    shared.ready("web", 2).await;
    let after = shared
        .cluster
        .api::<Deployment>(&shared.namespace)
        .get("web")
        .await
        .unwrap();
    assert_eq!(after.metadata.generation, before.metadata.generation);
}
