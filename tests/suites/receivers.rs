//! Other people's receivers, and what becomes of an alert when the operator goes while it is undelivered: Prometheus'
//! Alertmanager, the Python library of Standard Webhooks, Microsoft's schema of cards, TLS that asks back.
//!
//! Each scenario has an operator of its own that stays within its namespace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: to panic is how it reports"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use gatehouse::alert::message::{Alert, Content, Message, Status, Subject};
use gatehouse::alert::send::{Lookup, Sender};
use gatehouse::alert::target::Target;
use gatehouse::issuer::solver::{SecretData, SecretReadError, SecretReader};
use gatehouse_crds::alert::{AlertPolicy, ReceiverStatus, Rule, Severity};
use gatehouse_tests::cluster::condition;
use gatehouse_tests::isolated_operator::SOON;
use gatehouse_tests::manifests::{self, alert_policy, orphan, self_signed};
use gatehouse_tests::pki::Ca;
use gatehouse_tests::process::eventually;
use gatehouse_tests::receiver::{Answer, Received};
use gatehouse_tests::shared_operator::base64;
use gatehouse_tests::{Alertmanager, IsolatedOperator, Operator, Receiver, TestCluster, Verifier, python};
use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

/// Keys of Standard Webhooks: 24 bytes, and others.
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT_KEY: &str = "whsec_bmV4dC1rZXktb2YtdGhlLXJlY2VpdmVyLTAx";
const OTHER_KEY: &str = "whsec_b3RoZXIta2V5LXRoYXQtbm9ib2R5LWtub3dz";

async fn isolated(name: &str) -> IsolatedOperator {
    IsolatedOperator::new(&TestCluster::shared().await, name).await
}

/// Reports at once what is not ready.
fn at_once() -> Value {
    json!({"notReady": {"after": "1s"}})
}

/// An existing Issuer in place of the absent one.
async fn fix(isolated: &IsolatedOperator, name: &str) {
    isolated.apply(&self_signed("own")).await;
    isolated.apply(&orphan(name).replace("absent", "own")).await;
}

fn policies(isolated: &IsolatedOperator) -> Api<AlertPolicy> {
    isolated.cluster.api(&isolated.namespace)
}

/// Waits until a receiver in the status of the policy `ops` is such.
async fn status_of(
    isolated: &IsolatedOperator,
    name: &str,
    what: &str,
    fits: impl Fn(&ReceiverStatus) -> bool,
) -> ReceiverStatus {
    let found = |policy: &AlertPolicy| {
        let receivers = policy.status.iter().flat_map(|status| &status.receivers);
        receivers
            .into_iter()
            .find(|status| status.name == name && fits(status))
            .cloned()
    };
    let fits = |policy: &AlertPolicy| found(policy).is_some();
    let policy = isolated
        .cluster
        .wait(&policies(isolated), "ops", what, SOON, fits)
        .await;
    found(&policy).unwrap()
}

async fn failure_of(isolated: &IsolatedOperator, name: &str) -> String {
    let failed = |status: &ReceiverStatus| status.consecutive_failures > 0;
    let status = status_of(isolated, name, "failing", failed).await;
    let message = status.message.unwrap();
    assert!(message.len() < 500, "{message}");
    message
}

/// Waits for so many alerts.
async fn active(alertmanager: &Alertmanager, expected: usize) -> Vec<Value> {
    eventually(&format!("{expected} active"), SOON, || async {
        let active = alertmanager.active().await;
        (active.len() == expected).then_some(active)
    })
    .await
}

#[tokio::test]
async fn an_alertmanager_shows_what_fires_with_its_labels_and_silences_it_and_sees_it_end() {
    let isolated = isolated("alertmanager").await;
    let alertmanager = Alertmanager::start(isolated.test_cluster.folder()).await.unwrap();
    let _operator = isolated.operator().await;
    let receivers = json!([{"name": "am", "webhook": {"url": alertmanager.url(), "format": "Alertmanager"}}]);
    isolated.apply(&alert_policy("ops", &at_once(), &receivers)).await;
    isolated.apply(&orphan("web")).await;
    let alert = active(&alertmanager, 1).await.remove(0);
    let labels = json!({
        "alertname": "GatehouseCertificateNotReady", "severity": "critical", "certificate": "web",
        "namespace": isolated.namespace, "policy": format!("{}/ops", isolated.namespace)
    });
    let mut shown = alert["labels"].clone();
    // A name for the cluster may be there, or none.
    shown.as_object_mut().unwrap().remove("cluster");
    assert_eq!(shown, labels);
    assert_eq!(alert["status"]["state"], "active");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    assert!(text(&alert["annotations"]["summary"]).contains("web"), "{alert:#}");
    assert!(
        text(&alert["annotations"]["runbook_url"]).starts_with("https://"),
        "{alert:#}"
    );
    let moment = |name: &str| -> Timestamp { text(&alert[name]).parse().unwrap() };
    // It is believed for three times the default repeatInterval of four hours, then it ends by itself.
    let believed = moment("endsAt").duration_since(moment("updatedAt")).as_hours();
    assert!((11..=12).contains(&believed), "{alert:#}");
    assert!(moment("startsAt") <= Timestamp::now());

    let silence = alertmanager.silence("certificate", "web").await.unwrap();
    let silenced = eventually("silenced", SOON, || async {
        let active = alertmanager.active().await;
        active
            .into_iter()
            .find(|alert| alert["status"]["state"] == "suppressed")
    })
    .await;
    assert_eq!(silenced["status"]["silencedBy"], json!([silence]));
    assert_eq!(silenced["fingerprint"], alert["fingerprint"]);

    fix(&isolated, "web").await;
    active(&alertmanager, 0).await;
    let taken = |status: &ReceiverStatus| status.pending == 0 && status.consecutive_failures == 0;
    status_of(&isolated, "am", "idle", taken).await;
}

#[tokio::test]
async fn an_alertmanager_that_was_away_and_forgot_learns_all_again() {
    const COUNT: usize = 30;
    let isolated = isolated("forgetful").await;
    let mut alertmanager = Alertmanager::start(isolated.test_cluster.folder()).await.unwrap();
    let _operator = isolated.operator().await;
    let receivers = json!([{"name": "am", "webhook": {"url": alertmanager.url(), "format": "Alertmanager"}}]);
    let mut policy: Value = serde_json::from_str(&alert_policy("ops", &at_once(), &receivers)).unwrap();
    policy["spec"]["repeatInterval"] = json!("4s");
    isolated.apply(&policy.to_string()).await;
    // More than people get one by one: an Alertmanager groups by itself, so it gets each.
    let yaml: Vec<String> = (0..COUNT).map(|number| orphan(&format!("web-{number}"))).collect();
    isolated.apply(&yaml.join("---\n")).await;
    active(&alertmanager, COUNT).await;
    alertmanager.stop();
    let message = failure_of(&isolated, "am").await;
    assert!(message.contains("cannot reach"), "{message}");
    alertmanager.again().await.unwrap();
    let all = active(&alertmanager, COUNT).await;
    let names: BTreeSet<String> = all
        .iter()
        .map(|alert| alert["labels"]["certificate"].to_string())
        .collect();
    assert_eq!(names.len(), COUNT);
}

#[tokio::test]
async fn after_an_outage_a_new_alert_reaches_an_alertmanager_at_once_with_what_waited() {
    let isolated = isolated("outage").await;
    let mut alertmanager = Alertmanager::start(isolated.test_cluster.folder()).await.unwrap();
    alertmanager.stop();
    let _operator = isolated.operator().await;
    let receivers = json!([{"name": "am", "webhook": {"url": alertmanager.url(), "format": "Alertmanager"}}]);
    isolated.apply(&alert_policy("ops", &at_once(), &receivers)).await;
    isolated.apply(&orphan("web")).await;
    // The next try of this one is five minutes away.
    let twice = |status: &ReceiverStatus| status.consecutive_failures >= 2;
    status_of(&isolated, "am", "tried twice", twice).await;
    alertmanager.again().await.unwrap();
    isolated.apply(&orphan("api")).await;
    let names: Vec<Value> = active(&alertmanager, 2)
        .await
        .iter()
        .map(|alert| alert["labels"]["certificate"].clone())
        .collect();
    assert_eq!(names, ["api", "web"]);
}

/// A name whose addresses are these.
struct Headless(Vec<IpAddr>);

#[async_trait]
impl Lookup for Headless {
    async fn addresses(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(self.0.clone())
    }
}

/// A namespace without Secrets.
struct NoSecrets;

#[async_trait]
impl SecretReader for NoSecrets {
    async fn read(&self, _: &str) -> Result<SecretData, SecretReadError> {
        Err(SecretReadError::NotFound)
    }
}

#[tokio::test]
async fn an_alert_fires_and_ends_at_both_of_two_clustered_alertmanagers_behind_one_name() {
    let test_cluster = TestCluster::shared().await;
    let pair = Alertmanager::pair(test_cluster.folder()).await.unwrap();
    let addresses = pair.iter().map(|one| one.address().0).collect();
    let sender = Sender::with_lookup("", true, Box::new(Headless(addresses)));
    let webhook = json!({"url": format!("http://alertmanager.test:{}", pair[0].address().1), "format": "Alertmanager"});
    let target = Target::read(&serde_json::from_value(webhook).unwrap(), &NoSecrets)
        .await
        .unwrap();
    let now = Timestamp::now();
    let message = |status| {
        let alert = Alert {
            status,
            severity: Severity::Critical,
            rule: Rule::NotReady,
            fingerprint: "web".into(),
            since: now,
            ended: (status == Status::Resolved).then_some(now),
            subject: Subject {
                namespace: "app".into(),
                name: "web".into(),
                ..Subject::default()
            }
            .into(),
            clears: false,
        };
        Message {
            id: "msg_1".into(),
            time: now,
            policy: "app/ops".into(),
            content: Content::Batch {
                alerts: vec![alert],
                valid_seconds: 43_200,
            },
        }
    };
    for (status, expected) in [(Status::Firing, 1), (Status::Resolved, 0)] {
        sender.send(&target, &message(status), Timestamp::now()).await.unwrap();
        for one in &pair {
            active(one, expected).await;
        }
    }
    // The same at one of them alone: the other continues with what it received.
    sender
        .send(&target, &message(Status::Firing), Timestamp::now())
        .await
        .unwrap();
    let alone = Sender::with_lookup("", true, Box::new(Headless(vec![pair[0].address().0])));
    alone
        .send(&target, &message(Status::Resolved), Timestamp::now())
        .await
        .unwrap();
    active(&pair[0], 0).await;
    active(&pair[1], 1).await;
}

#[tokio::test]
async fn a_pagerduty_receiver_gets_no_heartbeats_and_they_count_as_no_delivery() {
    let (isolated, receiver) = (isolated("silent").await, Receiver::start().await);
    let operator = isolated.operator().await;
    let key =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pd"}, "stringData": {"key": "R0UT1NGKEY"}});
    isolated.apply(&key.to_string()).await;
    let receivers = json!([
        {"name": "pager", "webhook": {"url": receiver.url("/pager"), "format": "PagerDuty", "routingKeySecretRef": {"name": "pd", "key": "key"}}},
        {"name": "chat", "webhook": {"url": receiver.url("/chat"), "format": "Slack"}}
    ]);
    let mut policy: Value = serde_json::from_str(&alert_policy("ops", &at_once(), &receivers)).unwrap();
    policy["spec"]["heartbeatInterval"] = json!("1s");
    isolated.apply(&policy.to_string()).await;
    let alive = |status: &ReceiverStatus| status.last_success.is_some();
    status_of(&isolated, "chat", "a heartbeat", alive).await;
    let policies = policies(&isolated);
    isolated
        .cluster
        .wait_condition(&policies, "ops", "Heartbeat", "False", SOON)
        .await;
    let found = policies.get("ops").await.unwrap();
    let heartbeat = condition(&found, "Heartbeat").unwrap();
    assert_eq!(heartbeat["reason"], "NotSupported");
    assert!(
        heartbeat["message"].as_str().unwrap().contains("pager"),
        "{heartbeat:#}"
    );
    let pager = found.status.unwrap().receivers.remove(0);
    assert_eq!((pager.last_success, pager.pending), (None, 0));
    let labels = format!(
        "policy_kind=\"AlertPolicy\",namespace=\"{}\",policy=\"ops\"",
        isolated.namespace
    );
    let series = format!("gatehouse_alert_deliveries_total{{{labels},receiver=\"pager\",result=\"success\"}}");
    assert_eq!(operator.metric(&series).await.unwrap(), Some(0.0));
    assert!(receiver.received().iter().all(|received| received.path == "/chat"));
}

#[tokio::test]
async fn in_an_alertmanager_the_critical_alert_takes_the_place_of_the_warning() {
    let isolated = isolated("rising").await;
    let alertmanager = Alertmanager::start(isolated.test_cluster.folder()).await.unwrap();
    let _operator = isolated.operator().await;
    isolated.apply(&self_signed("own")).await;
    let yaml = orphan("web")
        .replace("absent", "own")
        .replace("dnsNames", "duration: 60s, dnsNames");
    isolated.apply(&yaml).await;
    let certificates = isolated.certificates();
    isolated
        .cluster
        .wait_condition(&certificates, "web", "Ready", "True", SOON)
        .await;
    isolated
        .apply(&yaml.replace("duration", "suspend: true, duration"))
        .await;
    let receivers = json!([{"name": "am", "webhook": {"url": alertmanager.url(), "format": "Alertmanager"}}]);
    let rules = json!({"expiring": {"warning": "50s", "critical": "40s"}});
    isolated.apply(&alert_policy("ops", &rules, &receivers)).await;
    for severity in ["warning", "critical"] {
        let of = |alerts: &[Value]| {
            alerts
                .iter()
                .map(|alert| alert["labels"]["severity"].clone())
                .collect::<Vec<_>>()
        };
        eventually(&format!("{severity} alone"), SOON, || async {
            (of(&alertmanager.active().await) == [severity]).then_some(())
        })
        .await;
    }
}

/// A Secret with what signs.
fn signing(keys: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hooks"}, "stringData": {"signing": keys}})
        .to_string()
}

#[tokio::test]
async fn signatures_verify_with_the_library_of_standard_webhooks() {
    let isolated = isolated("signed").await;
    let paths = ["/old", "/new", "/late", "/wrong"];
    let keys = json!({"/old": KEY, "/new": NEXT_KEY, "/late": NEXT_KEY, "/wrong": OTHER_KEY});
    let verifier = Verifier::start(isolated.test_cluster.folder(), &keys).await.unwrap();
    let operator = isolated.operator().await;
    // As an editor may leave it.
    isolated.apply(&signing(&format!("{KEY}\n {NEXT_KEY}\n"))).await;
    let receivers: Vec<Value> = paths
        .iter()
        .map(|path| {
            json!({"name": path.trim_start_matches('/'), "webhook":
                {"url": verifier.url(path), "signingSecretRef": {"name": "hooks", "key": "signing"}}})
        })
        .collect();
    isolated
        .apply(&alert_policy("ops", &at_once(), &json!(receivers)))
        .await;
    isolated.apply(&orphan("web")).await;

    let taken = |path: &'static str, count: usize| {
        let verifier = &verifier;
        eventually(format!("{count} taken at {path}").leak(), SOON, move || async move {
            let mut taken = verifier.received(path);
            taken.retain(|request| request.status == 204);
            (taken.len() == count).then_some(taken)
        })
    };
    for path in ["/old", "/new"] {
        let first = taken(path, 1).await.remove(0);
        let event: Value = serde_json::from_str(&first.body).unwrap();
        assert_eq!(event["id"], first.id.as_str());
        assert_eq!(event["data"]["certificate"]["name"], "web");
    }
    // Tried again: the same id and body, signed again for the time of the attempt.
    let late = taken("/late", 1).await.remove(0);
    let tries = verifier.received("/late");
    assert_eq!(tries.len(), 2, "{tries:#?}");
    assert_eq!((&tries[0].id, &tries[0].body), (&late.id, &late.body));
    assert!(tries[0].timestamp + 5 <= late.timestamp, "{tries:#?}");
    for request in &tries {
        #[allow(clippy::cast_precision_loss, reason = "seconds")]
        let skew = request.at - request.timestamp as f64;
        assert!((0.0..3.0).contains(&skew), "{request:#?}");
    }
    // A key that the receiver does not have.
    let wrong = failure_of(&isolated, "wrong").await;
    assert!(wrong.contains("401") && wrong.contains("signingSecretRef"), "{wrong}");
    assert!(
        verifier
            .received("/wrong")
            .iter()
            .all(|request| request.error.is_some())
    );

    // The rotation ends: the Secret is read for every delivery.
    isolated.apply(&signing(NEXT_KEY)).await;
    fix(&isolated, "web").await;
    let resolved: Value = serde_json::from_str(&taken("/new", 2).await[1].body).unwrap();
    assert_eq!(resolved["data"]["status"], "resolved");
    let refused = failure_of(&isolated, "old").await;
    assert!(refused.contains("401"), "{refused}");
    operator.assert_no_secret(&[KEY, NEXT_KEY, OTHER_KEY].map(|key| key.trim_start_matches("whsec_")));
}

#[tokio::test]
async fn what_teams_gets_is_a_card_by_the_schema_of_microsoft() {
    let (isolated, receiver) = (isolated("cards").await, Receiver::start().await);
    let _operator = isolated.operator().await;
    let receivers = json!([{"name": "teams", "webhook": {"url": receiver.url("/hook"), "format": "Teams"}}]);
    let mut policy: Value = serde_json::from_str(&alert_policy("ops", &at_once(), &receivers)).unwrap();
    policy["spec"]["heartbeatInterval"] = json!("10s");
    policy["metadata"]["annotations"] = json!({"gatehouse.dev/test-requested-at": Timestamp::now()});
    isolated.apply(&policy.to_string()).await;
    isolated.apply(&orphan("web")).await;
    // The sign of life, the test, the alert, its end.
    let came = |count: usize| {
        let receiver = &receiver;
        eventually("a card", SOON, move || async move {
            (receiver.received().len() >= count).then_some(())
        })
    };
    came(3).await;
    fix(&isolated, "web").await;
    came(4).await;
    for received in receiver.received() {
        let message = received.json();
        assert_eq!(message["type"], "message");
        let attachment = &message["attachments"][0];
        assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
        let card = attachment["content"].clone();
        let verdict = tokio::task::spawn_blocking(move || python::adaptive_card(&card))
            .await
            .unwrap();
        assert_eq!(verdict, Ok(()), "{message:#}");
    }
    let refused = python::adaptive_card(&json!({"type": "AdaptiveCard", "version": "1.4", "body": [{"type": "Text"}]}));
    assert!(refused.is_err(), "the schema finds what is wrong");
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one receiver after the other")]
async fn client_certificates_are_shown_and_tls_that_does_not_verify_is_reported() {
    let isolated = isolated("mutual").await;
    let [ca, clients, strangers] = ["receiver", "clients", "strangers"].map(|name| Ca::new(name).unwrap());
    let receiver = Receiver::start_tls(&ca, &clients).await;
    let operator = isolated.operator().await;
    // The client certificates are Gatehouse's own: a Certificate's Secret is what a receiver refers to.
    for (name, ca) in [("clients", &clients), ("strangers", &strangers)] {
        isolated.apply(&manifests::ca(name, ca)).await;
        let own = manifests::certificate(&format!("of-{name}"), name, &["gatehouse.test"]);
        isolated
            .apply(&format!("{own}  usages: [digital signature, client auth]\n"))
            .await;
        let (certificates, of) = (isolated.certificates(), format!("of-{name}"));
        isolated
            .cluster
            .wait_condition(&certificates, &of, "Ready", "True", SOON)
            .await;
    }
    let (bundle, other) = (base64(ca.pem().as_bytes()), base64(strangers.pem().as_bytes()));
    let (url, own) = (receiver.url("/hook"), json!({"name": "of-clients-tls"}));
    let webhooks = [
        (
            "known",
            json!({"url": url, "caBundle": bundle, "clientCertificateRef": own}),
        ),
        ("untrusted", json!({"url": url, "clientCertificateRef": own})),
        (
            "elsewhere",
            json!({"url": url, "caBundle": other, "clientCertificateRef": own}),
        ),
        ("nameless", json!({"url": url, "caBundle": bundle})),
        (
            "stranger",
            json!({"url": url, "caBundle": bundle, "clientCertificateRef": {"name": "of-strangers-tls"}}),
        ),
        (
            "garbled",
            json!({"url": url, "caBundle": base64(b"no certificate"), "clientCertificateRef": own}),
        ),
        (
            "plain",
            json!({"url": url.replace("https", "http"), "caBundle": bundle}),
        ),
        (
            "missing",
            json!({"url": url, "caBundle": bundle, "clientCertificateRef": {"name": "nowhere"}}),
        ),
    ];
    let all = |webhooks: &[(&str, Value)]| -> Value {
        webhooks
            .iter()
            .map(|(name, webhook)| json!({"name": name, "webhook": webhook}))
            .collect()
    };
    isolated.apply(&alert_policy("ops", &at_once(), &all(&webhooks))).await;
    isolated.apply(&orphan("web")).await;
    receiver.wait("an alert", SOON, |_| true).await;
    let words = [
        ("untrusted", "write that CA's certificate into caBundle"),
        ("elsewhere", "does not chain to a certificate of caBundle"),
        ("nameless", "clientCertificateRef"),
        (
            "stranger",
            "check that it knows the certificate of clientCertificateRef",
        ),
        ("garbled", "caBundle cannot be used"),
        ("plain", "write https://"),
        ("missing", "there is no Secret nowhere"),
    ];
    for (name, words) in words {
        let message = failure_of(&isolated, name).await;
        assert!(message.contains(words), "{name} lacks {words:?}: {message}");
        let policy = format!(
            "policy_kind=\"AlertPolicy\",namespace=\"{}\",policy=\"ops\"",
            isolated.namespace
        );
        let series = format!("gatehouse_alert_deliveries_total{{{policy},receiver=\"{name}\",result=\"failure\"}}");
        assert!(operator.metric(&series).await.unwrap() >= Some(1.0), "{series}");
    }
    let policy = policies(&isolated).get("ops").await.unwrap();
    let delivering = condition(&policy, "Delivering").unwrap();
    assert_eq!(
        (&delivering["status"], &delivering["reason"]),
        (&json!("False"), &json!("DeliveryFailed"))
    );
    assert!(
        delivering["message"].as_str().unwrap().contains("nameless: TLS with"),
        "{delivering:#}"
    );
    assert_eq!(receiver.reported(), ["firing notReady web"]);

    // One that is fixed gets what waited for it, at once.
    let fixed: Vec<_> = webhooks
        .iter()
        .map(|(name, _)| (*name, webhooks[0].1.clone()))
        .collect();
    isolated.apply(&alert_policy("ops", &at_once(), &all(&fixed))).await;
    eventually("all are reported", SOON, || async {
        (receiver.reported().len() >= webhooks.len()).then_some(())
    })
    .await;
    let policies = policies(&isolated);
    isolated
        .cluster
        .wait_condition(&policies, "ops", "Delivering", "True", SOON)
        .await;
    assert_eq!(receiver.reported(), ["firing notReady web"; 8]);
}

/// Two replicas: the one that leads, and the other.
async fn pair(isolated: &IsolatedOperator) -> (Operator, Operator) {
    let options = isolated.options().arg("--leader-elect");
    let leader = isolated.test_cluster.operator(&options).await;
    eventually("the first replica leads", SOON, || async {
        let leads = leader.metric("gatehouse_leader").await;
        leads.is_ok_and(|leads| leads == Some(1.0)).then_some(())
    })
    .await;
    (leader, isolated.test_cluster.operator(&options).await)
}

/// Returns the accepted messages, once each.
fn ids(received: &[Received]) -> BTreeSet<&str> {
    received.iter().map(|received| received.header("webhook-id")).collect()
}

async fn survives_a_change_of_leader(name: &str, end: impl AsyncFnOnce(&mut Operator)) {
    let (isolated, receiver) = (isolated(name).await, Receiver::start().await);
    receiver.answer(Answer::of(503));
    let (mut leader, standby) = pair(&isolated).await;
    let receivers = json!([{"name": "ops", "webhook": {"url": receiver.url("/hook")}}]);
    isolated.apply(&alert_policy("ops", &at_once(), &receivers)).await;
    isolated.apply(&orphan("web")).await;
    let first = receiver.wait("a first try", SOON, |_| true).await;
    let waiting = |status: &ReceiverStatus| status.consecutive_failures > 0 && status.pending == 1;
    status_of(&isolated, "ops", "waiting", waiting).await;

    end(&mut leader).await;
    receiver.answer(Answer::default());
    let reported = receiver
        .wait("reported by the next leader", SOON, |received| {
            received.answered.is_success()
        })
        .await;
    assert_eq!(reported.header("webhook-id"), first.header("webhook-id"));
    assert_eq!(reported.body, first.body);
    let leads = standby.metric("gatehouse_leader").await.unwrap();
    assert_eq!(leads, Some(1.0));
    // The next leader knows what fires: its end is reported, and nothing twice.
    fix(&isolated, "web").await;
    receiver
        .wait("its end", SOON, |received| {
            received.json()["data"]["status"] == "resolved"
        })
        .await;
    assert_eq!(receiver.reported(), ["firing notReady web", "resolved notReady web"]);
}

#[tokio::test]
async fn a_waiting_alert_is_delivered_by_the_next_leader_after_a_kill() {
    survives_a_change_of_leader("killed", async |leader| leader.kill9()).await;
}

#[tokio::test]
async fn a_waiting_alert_is_delivered_by_the_next_leader_after_a_handover() {
    let end = async |leader: &mut Operator| {
        let status = leader.terminate(Duration::from_secs(20)).await;
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    };
    survives_a_change_of_leader("handover", end).await;
}

#[tokio::test]
async fn a_crash_in_mid_delivery_repeats_it_under_its_id() {
    let (isolated, receiver) = (isolated("midway").await, Receiver::start().await);
    // It takes the alert, and the operator is dead before it hears so.
    receiver.answer(Answer {
        after: Duration::from_secs(10),
        ..Answer::default()
    });
    let mut operator = isolated.operator().await;
    let receivers = json!([{"name": "ops", "webhook": {"url": receiver.url("/hook")}}]);
    isolated.apply(&alert_policy("ops", &at_once(), &receivers)).await;
    isolated.apply(&orphan("web")).await;
    receiver.wait("a delivery on its way", SOON, |_| true).await;
    operator.kill9();
    receiver.answer(Answer::default());
    let _operator = isolated.operator().await;
    let idle = |status: &ReceiverStatus| status.last_success.is_some() && status.pending == 0;
    status_of(&isolated, "ops", "reported", idle).await;
    let requests = receiver.received();
    assert_eq!(requests.len(), 2, "once by each");
    assert_eq!(ids(&requests).len(), 1);
}

#[tokio::test]
async fn however_often_it_is_killed_each_alert_arrives_and_always_under_one_id() {
    const ROUNDS: usize = 5;
    let (isolated, receiver) = (isolated("mortal").await, Receiver::start().await);
    receiver.answer(Answer {
        after: Duration::from_millis(200),
        ..Answer::default()
    });
    let receivers = json!([{"name": "ops", "webhook": {"url": receiver.url("/hook")}}]);
    isolated.apply(&alert_policy("ops", &at_once(), &receivers)).await;
    for round in 0..ROUNDS {
        let mut operator = isolated.operator().await;
        let yaml: Vec<String> = (0..3).map(|number| orphan(&format!("web-{round}-{number}"))).collect();
        isolated.apply(&yaml.join("---\n")).await;
        // Each time a little later: before the alerts begin, while they are saved, while they are sent, after.
        tokio::time::sleep(Duration::from_millis(900 + 300 * round as u64)).await;
        operator.kill9();
    }
    let _operator = isolated.operator().await;
    let by_name = || {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for received in receiver.received() {
            let name = received.json()["data"]["certificate"]["name"].to_string();
            found
                .entry(name)
                .or_default()
                .insert(received.header("webhook-id").to_owned());
        }
        found
    };
    eventually("all have arrived", SOON, || async {
        (by_name().len() == 3 * ROUNDS).then_some(())
    })
    .await;
    let idle = |status: &ReceiverStatus| status.pending == 0;
    status_of(&isolated, "ops", "idle", idle).await;
    for (name, ids) in by_name() {
        assert_eq!(ids.len(), 1, "{name}: {ids:?}");
    }
}

#[tokio::test]
async fn of_a_thousand_policies_in_a_namespace_the_oldest_hundred_are_active() {
    const COUNT: usize = 1_000;
    const WORKING: usize = 100;
    let (isolated, receiver) = (isolated("crowd").await, Receiver::start().await);
    let neighbour = isolated.cluster.namespace("neighbour").await;
    let options = isolated.options().arg(format!("--namespace={neighbour}"));
    let mut operator = isolated.test_cluster.operator(&options).await;
    let made = |number: usize| {
        let receivers = json!([{"name": "ops", "webhook": {"url": receiver.url(&format!("/crowd/{number}"))}}]);
        serde_json::from_str::<AlertPolicy>(&alert_policy(&format!("p{number}"), &at_once(), &receivers)).unwrap()
    };
    let (api, parameters) = (policies(&isolated), kube::api::PostParams::default());
    let creating = (0..COUNT).map(|number| {
        let (api, policy, parameters) = (api.clone(), made(number), parameters.clone());
        async move { api.create(&parameters, &policy).await.map(drop) }
    });
    let all = futures::StreamExt::buffer_unordered(futures::stream::iter(creating), 8);
    futures::TryStreamExt::try_collect::<Vec<()>>(all).await.unwrap();

    let judged = || async {
        let list = api.list(&ListParams::default()).await.unwrap().items;
        let ready = |policy: &AlertPolicy| condition(policy, "Ready").map(|ready| ready["reason"].clone());
        let with = |reason: &str| {
            list.iter()
                .filter(|policy| ready(policy) == Some(json!(reason)))
                .count()
        };
        (with("Accepted"), with("TooManyPolicies"), list)
    };
    let expected = (WORKING, COUNT - WORKING);
    let list = eventually("all are judged", Duration::from_mins(3), || async {
        let (accepted, crowded, list) = judged().await;
        ((accepted, crowded) == expected).then_some(list)
    })
    .await;
    let ready = |policy: &AlertPolicy| condition(policy, "Ready").unwrap();
    let born = |policy: &AlertPolicy| policy.metadata.creation_timestamp.clone().unwrap();
    let (working, crowded): (Vec<_>, Vec<_>) = list.iter().partition(|policy| ready(policy)["status"] == "True");
    let (youngest, oldest) = (
        working.iter().map(|p| born(p)).max(),
        crowded.iter().map(|p| born(p)).min(),
    );
    assert!(youngest <= oldest, "the oldest are those that work");
    let message = ready(crowded[0])["message"].to_string();
    assert!(message.contains("more than 100 AlertPolicies"), "{message}");

    let receivers = json!([{"name": "ops", "webhook": {"url": receiver.url("/neighbour")}}]);
    isolated
        .cluster
        .apply(&neighbour, &alert_policy("ops", &at_once(), &receivers))
        .await;
    isolated.cluster.apply(&neighbour, &orphan("next")).await;
    let asked = std::time::Instant::now();
    receiver
        .wait("the neighbour is reported", SOON, |received| {
            received.path == "/neighbour"
        })
        .await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());

    isolated.apply(&orphan("web")).await;
    let paths = || {
        let requests = receiver.received().into_iter();
        requests
            .filter(|received| received.path.starts_with("/crowd/"))
            .map(|received| received.path)
            .collect::<Vec<_>>()
    };
    eventually("the hundred are reported", SOON, || async {
        (paths().len() >= WORKING).then_some(())
    })
    .await;
    // A restart reads them in the order of their names, and still no other receiver gets any, nor one twice.
    operator.terminate(Duration::from_secs(20)).await;
    let _operator = isolated.test_cluster.operator(&options).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let reported: BTreeSet<String> = paths().into_iter().collect();
    let expected: BTreeSet<String> = working
        .iter()
        .map(|policy| {
            format!(
                "/crowd/{}",
                policy.metadata.name.as_ref().unwrap().trim_start_matches('p')
            )
        })
        .collect();
    assert_eq!((reported, paths().len()), (expected, WORKING));

    // Where one goes, the next moves up.
    let gone = working[0].metadata.name.clone().unwrap();
    api.delete(&gone, &DeleteParams::default()).await.unwrap();
    eventually("the next moves up", SOON, || async {
        let (accepted, crowded, _) = judged().await;
        ((accepted, crowded) == (WORKING, COUNT - WORKING - 1)).then_some(())
    })
    .await;
    eventually("and is reported", SOON, || async {
        (paths().len() > WORKING).then_some(())
    })
    .await;
}
