//! Restraint of the operator: it does not issue everything again after an accident, an upgrade or a restart.
//!
//! Each scenario has an operator of its own that stays within its namespace.
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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_crds::certificate::Certificate;
use gatehouse_tests::cluster::condition;
use gatehouse_tests::isolated_operator::IsolatedOperator;
use gatehouse_tests::process::eventually;
use gatehouse_tests::shared_operator::{SOON, text};
use gatehouse_tests::{SharedOperator, TestCluster};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

/// A namespace with an operator of its own.
async fn alone(name: &str) -> (IsolatedOperator, SharedOperator) {
    let test_cluster = TestCluster::shared().await;
    let isolated = IsolatedOperator::new(&test_cluster, name).await;
    let shared = SharedOperator {
        operator: Arc::new(isolated.operator().await),
        cluster: test_cluster.cluster().await,
        namespace: isolated.namespace.clone(),
        test_cluster,
    };
    (isolated, shared)
}

async fn certificates(shared: &SharedOperator) -> BTreeMap<String, Certificate> {
    let list = shared.certificates().list(&ListParams::default()).await.unwrap();
    let ours = list.items.into_iter().filter(|it| !it.name_any().ends_with("-root"));
    ours.map(|it| (it.name_any(), it)).collect()
}

fn revision(certificate: &Certificate) -> i64 {
    let status = certificate.status.as_ref();
    status.and_then(|status| status.revision).unwrap_or_default()
}

fn is_held(certificate: &Certificate) -> bool {
    condition(certificate, "Issuing").is_some_and(|issuing| issuing["reason"] == "ReissueHeld")
}

#[tokio::test]
async fn when_all_secrets_vanish_ten_come_back_at_once_and_the_rest_slowly() {
    const COUNT: usize = 30;
    let (_scene, shared) = alone("storm").await;
    let root = shared.internal_ca("ca").await;
    let manifest = |number| {
        format!(
            "apiVersion: gatehouse.dev/v1alpha1\nkind: Certificate\nmetadata: {{name: web-{number}}}\n\
             spec: {{secretName: web-{number}-tls, issuerRef: {{name: ca}}, dnsNames: [web-{number}.test]}}\n---\n"
        )
    };
    let yaml: Vec<String> = (0..COUNT).map(manifest).collect();
    shared.cluster.apply(&shared.namespace, &yaml.concat()).await;
    for number in 0..COUNT {
        shared.ready(&format!("web-{number}"), 1).await;
    }

    let everything = ListParams::default().fields("type=kubernetes.io/tls,metadata.name!=ca-root");
    shared
        .secrets()
        .delete_collection(&DeleteParams::default(), &everything)
        .await
        .unwrap();
    let sorted = eventually("ten issued and the rest held", SOON, || async {
        let all = certificates(&shared).await;
        let (held, issued) = (
            all.values().filter(|it| is_held(it)).count(),
            all.values().filter(|it| revision(it) == 2).count(),
        );
        (held + issued == COUNT).then_some((all, held, issued))
    });
    let (all, held, issued) = sorted.await;
    assert_eq!((issued, held), (10, COUNT - 10));
    assert_eq!(
        shared.operator.metric("gatehouse_reissue_held").await.unwrap(),
        Some(20.0)
    );

    let mut times: Vec<_> = all
        .values()
        .filter(|it| is_held(it))
        .map(|it| it.status.as_ref().unwrap().next_attempt_time.expect("a time"))
        .collect();
    times.sort_unstable();
    // Ten more in ten minutes.
    for pair in times.windows(2) {
        let apart = pair[1].as_second() - pair[0].as_second();
        assert!((58..=62).contains(&apart), "{apart} s apart");
    }
    let soonest = times[0];
    let mut held: Vec<_> = all.values().filter(|it| is_held(it)).collect();
    held.sort_by_key(|it| it.status.as_ref().unwrap().next_attempt_time);
    let (next, last) = (held[0].name_any(), held[held.len() - 1].name_any());
    let ready = condition(held[0], "Ready").unwrap();
    assert_eq!(
        (ready["status"].as_str(), ready["reason"].as_str()),
        (Some("False"), Some("ReissueHeld"))
    );
    assert!(
        ready["message"]
            .as_str()
            .unwrap()
            .contains("gatehouse.dev/renew-requested-at"),
        "{ready}"
    );
    let note = shared.event(&next, "IssuanceFailed").await;
    assert!(note.starts_with("Held until"), "{note}");

    // Its owner wants it now.
    shared.request_renewal(&last).await;
    shared.outcome(&last, 2, &root, &[&format!("{last}.test")]).await;
    eventually("one less is held", SOON, || async {
        let held = shared.operator.metric("gatehouse_reissue_held").await.unwrap();
        held.filter(|held| *held <= 19.0)
    })
    .await;

    // The next comes by itself, at its time.
    let within = Duration::from_secs(100);
    let through = shared
        .cluster
        .wait(&shared.certificates(), &next, "let through", within, |it| {
            revision(it) == 2
        })
        .await;
    assert!(through.status.unwrap().issued_at.unwrap() >= soonest);
    shared.outcome(&next, 2, &root, &[&format!("{next}.test")]).await;
    let all = certificates(&shared).await;
    assert!(
        all.values().filter(|it| is_held(it)).count() >= COUNT - 14,
        "the others wait"
    );
}

#[tokio::test]
async fn who_is_held_stays_held_through_a_restart_and_nobody_slips_through() {
    const COUNT: usize = 13;
    let (isolated, mut shared) = alone("held").await;
    shared.internal_ca("ca").await;
    let manifest = |number| {
        format!(
            "apiVersion: gatehouse.dev/v1alpha1\nkind: Certificate\nmetadata: {{name: web-{number}}}\n\
             spec: {{secretName: web-{number}-tls, issuerRef: {{name: ca}}, dnsNames: [web-{number}.test]}}\n---\n"
        )
    };
    let yaml: Vec<String> = (0..COUNT).map(manifest).collect();
    shared.cluster.apply(&shared.namespace, &yaml.concat()).await;
    for number in 0..COUNT {
        shared.ready(&format!("web-{number}"), 1).await;
    }
    // Two are left for later.
    for number in 2..COUNT {
        let secret = format!("web-{number}-tls");
        shared
            .secrets()
            .delete(&secret, &DeleteParams::default())
            .await
            .unwrap();
    }
    let held = |all: &BTreeMap<String, Certificate>| -> BTreeMap<String, Value> {
        let held = all.iter().filter(|(_, it)| is_held(it));
        held.map(|(name, it)| (name.clone(), json!(it.status))).collect()
    };
    let before = eventually("ten issued and one held", SOON, || async {
        let all = certificates(&shared).await;
        let issued = all.values().filter(|it| revision(it) == 2).count();
        (issued == 10 && held(&all).len() == 1).then(|| held(&all))
    })
    .await;

    for secret in ["web-0-tls", "web-1-tls"] {
        Arc::get_mut(&mut shared.operator).unwrap().kill9();
        shared.secrets().delete(secret, &DeleteParams::default()).await.unwrap();
        shared.operator = Arc::new(isolated.operator().await);
        let name = secret.trim_end_matches("-tls");
        shared
            .cluster
            .wait(&shared.certificates(), name, "held like the others", SOON, is_held)
            .await;
        // None is waited for: the first may go after a minute.
        let all = certificates(&shared).await;
        let now = held(&all);
        assert!(now.len() <= 3, "{now:#?}");
        for (name, status) in &before {
            assert!(
                now.get(name).is_none_or(|now| now == status),
                "{name} was held, and its status says something else: {now:#?}"
            );
        }
        let first = before.values().next().unwrap()["nextAttemptTime"].as_str().unwrap();
        if jiff::Timestamp::now() < first.parse::<jiff::Timestamp>().unwrap() {
            assert!(before.keys().all(|name| now.contains_key(name)), "{now:#?}");
        }
    }
    let held = shared.operator.metric("gatehouse_reissue_held").await.unwrap();
    assert!(held.is_some_and(|held| held >= 2.0), "{held:?}");
}

#[tokio::test]
async fn an_upgraded_operator_issues_nothing_again() {
    let (isolated, mut shared) = alone("upgrade").await;
    let root = shared.internal_ca("ca").await;
    let names = ["recipe", "bare", "bookless"];
    let mut before = BTreeMap::new();
    for name in names {
        let spec = json!({"issuerRef": {"name": "ca"}, "dnsNames": [format!("{name}.test")]});
        shared.certificate(name, spec).await;
        let outcome = shared.outcome(name, 1, &root, &[&format!("{name}.test")]).await;
        before.insert(name, outcome.secret);
    }
    Arc::get_mut(&mut shared.operator)
        .unwrap()
        .terminate(SOON)
        .await
        .expect("it ends by itself");

    // As another version wrote it: other recipes of the fingerprints; no notes at all; no fingerprint of the chain.
    let all: Vec<&String> = before["bare"].metadata.annotations.as_ref().unwrap().keys().collect();
    let bare: serde_json::Map<String, Value> = all.into_iter().map(|key| (key.clone(), Value::Null)).collect();
    let note = |key: &str, value: Value| json!({format!("gatehouse.dev/{key}"): value});
    let mut recipes = note("request-hash", "0-5eed".into());
    for key in ["output-hash", "chain-hash"] {
        recipes[format!("gatehouse.dev/{key}")] = "0-5eed".into();
    }
    for (name, annotations) in [
        ("recipe", recipes),
        ("bare", bare.into()),
        ("bookless", note("chain-hash", Value::Null)),
    ] {
        let patch = json!({"metadata": {"annotations": annotations}});
        shared.patch(&shared.secrets(), &format!("{name}-tls"), &patch).await;
    }
    shared.operator = Arc::new(isolated.operator().await);
    for name in names {
        let kept = &before[name];
        // Why it was once issued is known from its notes only.
        let reported = |secret: &Secret| {
            let mut reported = secret.metadata.annotations.clone().unwrap_or_default();
            reported.remove("gatehouse.dev/cause");
            reported
        };
        let restored = |secret: &Secret| reported(secret) == reported(kept);
        let secret = format!("{name}-tls");
        // One whose fingerprint of the chain alone is missing is not even written.
        if name != "bookless" {
            shared
                .cluster
                .wait(&shared.secrets(), &secret, "as we write it", SOON, restored)
                .await;
        }
        let after = shared.outcome(name, 1, &root, &[&format!("{name}.test")]).await;
        assert_eq!(after.secret.data, kept.data, "{name}");
    }
    let log = shared.operator.log();
    assert!(
        !log.contains("\"cause\":\"Secret") && !log.contains("\"cause\":\"Spec"),
        "nothing was issued"
    );
    assert_eq!(text(&before["recipe"], "ca.crt"), root);
}
