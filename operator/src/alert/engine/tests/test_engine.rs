//! A cluster in memory, a clock that is paused while nothing sleeps, and receivers that answer as a test wants.

use std::sync::Mutex;

use async_trait::async_trait;
use gatehouse_crds::alert::{AlertPolicy, AlertPolicyStatus};
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::super::*;
use crate::alert::{
    durable,
    message::{Content, Message, Subject},
    policy::{Policy, Receiver},
    queue::Outcome,
};
use crate::{certificate::cache::Guarded, gateway::cache::Guarded as GuardedGateway};

/// Delay and answer of a receiver, by its name.
pub(super) type Answer = Box<dyn FnMut(&str) -> (Duration, Outcome) + Send>;

/// A cluster in memory, a paused clock, and receivers that answer as the test sets.
pub(super) struct TestEngine {
    pub(super) began: Instant,
    pub(super) certificates: Mutex<BTreeMap<(String, String), Arc<Guarded>>>,
    pub(super) gateways: Mutex<BTreeMap<(String, String), Arc<GuardedGateway>>>,
    pub(super) saved: Mutex<BTreeMap<String, (PolicyKey, Vec<u8>)>>,
    pub(super) saves: Mutex<usize>,
    pub(super) statuses: Mutex<BTreeMap<String, AlertPolicyStatus>>,
    /// Attempts: seconds since the beginning, receiver, id, and content.
    pub(super) tries: Mutex<Vec<(u64, String, String, Content)>>,
    pub(super) undelivered: Mutex<Vec<String>>,
    pub(super) answer: Mutex<Answer>,
    /// Saving fails while it is true.
    pub(super) broken: Mutex<bool>,
    /// The Certificates have not arrived yet.
    pub(super) unlisted: Mutex<bool>,
    pub(super) metrics: Metrics,
    /// Offset of the clock.
    pub(super) skew: Mutex<jiff::SignedDuration>,
}

pub(super) fn start() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

impl TestEngine {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            certificates: Mutex::default(),
            gateways: Mutex::default(),
            saved: Mutex::default(),
            saves: Mutex::default(),
            statuses: Mutex::default(),
            tries: Mutex::default(),
            undelivered: Mutex::default(),
            answer: Mutex::new(Box::new(|_| (Duration::ZERO, Outcome::Accepted))),
            broken: Mutex::default(),
            unlisted: Mutex::default(),
            metrics: Metrics::default(),
            skew: Mutex::default(),
        })
    }

    pub(super) fn answer(&self, answer: impl FnMut(&str) -> (Duration, Outcome) + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    /// `app/<name>` that failed so often, and runs out in `hours` of a hundred.
    pub(super) fn put(&self, name: &str, attempts: i32, hours: i64) -> Trigger {
        let end = self.now() + jiff::SignedDuration::from_hours(hours);
        let begin = end - jiff::SignedDuration::from_hours(100);
        let object = serde_json::from_value(json!({
            "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Certificate",
            "metadata": {"name": name, "namespace": "app", "uid": format!("uid-{name}")},
            "spec": {"secretName": name, "issuerRef": {"name": "ca"}, "dnsNames": ["www.example.com"]},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "reason": "Issued", "message": "", "lastTransitionTime": begin}],
                "notBefore": begin, "notAfter": end, "renewalTime": begin, "failedAttempts": attempts
            }
        }));
        let object = Arc::new(DeserializeGuard(Ok(object.unwrap())));
        self.certificates
            .lock()
            .unwrap()
            .insert(("app".into(), name.into()), object);
        Trigger::Changed((AlertKind::Certificate, "app".into(), name.into()))
    }

    /// The Gateway `app/<name>`, which is Internal, and what was found of its address.
    pub(super) fn put_gateway(&self, name: &str, verified: &str, reason: &str) -> Trigger {
        let object = serde_json::from_value(json!({
            "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway",
            "metadata": {"name": name, "namespace": "app", "uid": format!("gateway-{name}")},
            "spec": {"service": {"scope": "Internal"}, "target": {"selector": {"app": "web"}}, "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}]},
            "status": {
                "conditions": [{"type": "ExposureVerified", "status": verified, "reason": reason, "message": "203.0.113.7 is public", "lastTransitionTime": self.now()}],
                "addresses": [{"type": "IPAddress", "value": "203.0.113.7"}]
            }
        }));
        let object = Arc::new(DeserializeGuard(Ok(object.unwrap())));
        self.gateways
            .lock()
            .unwrap()
            .insert(("app".into(), name.into()), object);
        Trigger::Changed((AlertKind::Gateway, "app".into(), name.into()))
    }

    pub(super) fn delete(&self, name: &str) -> Trigger {
        self.certificates
            .lock()
            .unwrap()
            .remove(&("app".to_owned(), name.to_owned()));
        Trigger::Changed((AlertKind::Certificate, "app".into(), name.into()))
    }

    /// Returns the attempts, as `<seconds> <receiver> <content>`.
    pub(super) fn sent(&self) -> Vec<String> {
        let tries = self.tries.lock().unwrap();
        tries
            .iter()
            .map(|(at, receiver, _, content)| format!("{at} {receiver} {}", line(content)))
            .collect()
    }

    pub(super) fn status(&self, policy: &str) -> AlertPolicyStatus {
        self.statuses.lock().unwrap().get(policy).cloned().unwrap_or_default()
    }
}

pub(super) fn line(content: &Content) -> String {
    match content {
        Content::Alert(alert) => format!(
            "{} {} {}",
            alert.status.as_str(),
            alert.rule.as_str(),
            alert.subject.name
        ),
        Content::Group(group) => format!("{} {} {}", group.status.as_str(), group.count, group.rule.as_str()),
        Content::Batch { alerts, .. } => format!("{} alerts", alerts.len()),
        Content::Heartbeat { .. } => "alive".into(),
        Content::Test => "test".into(),
    }
}

impl ClusterView for TestEngine {
    fn knows(&self, _: AlertKind, _: &str) -> bool {
        !*self.unlisted.lock().unwrap()
    }

    fn certificate(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.certificates.lock().unwrap().get(&key).cloned()
    }

    fn gateway(&self, namespace: &str, name: &str) -> Option<Arc<GuardedGateway>> {
        let gateways = self.gateways.lock().unwrap();
        gateways.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn objects(&self, _: Option<&str>) -> Vec<Object> {
        let certificates = self.certificates.lock().unwrap();
        let gateways = self.gateways.lock().unwrap();
        let named = |kind, (namespace, name): &(String, String)| (kind, namespace.clone(), name.clone());
        let certificates = certificates.keys().map(|key| named(AlertKind::Certificate, key));
        certificates
            .chain(gateways.keys().map(|key| named(AlertKind::Gateway, key)))
            .collect()
    }

    fn labels(&self, _: &str) -> Option<BTreeMap<String, String>> {
        None
    }
}

#[async_trait]
impl Effects for TestEngine {
    async fn save(&self, key: &PolicyKey, uid: &str, state: Option<Vec<u8>>) -> Result<(), String> {
        sleep(Duration::from_millis(5)).await;
        if *self.broken.lock().unwrap() {
            return Err("no".into());
        }
        *self.saves.lock().unwrap() += 1;
        let mut saved = self.saved.lock().unwrap();
        match state {
            Some(state) => drop(saved.insert(uid.into(), (key.clone(), state))),
            None => drop(saved.remove(uid)),
        }
        Ok(())
    }

    async fn write_status(&self, policy: &PolicyKey, _: &str, status: &AlertPolicyStatus) -> Result<(), String> {
        self.statuses
            .lock()
            .unwrap()
            .insert(policy.name.clone(), status.clone());
        Ok(())
    }

    async fn send(&self, _: &PolicyKey, receiver: &Receiver, message: &Message, _: bool) -> Outcome {
        let at = self.began.elapsed().as_secs();
        let tried = (at, receiver.name.clone(), message.id.clone(), message.content.clone());
        self.tries.lock().unwrap().push(tried);
        let (pause, outcome) = (self.answer.lock().unwrap())(&receiver.name);
        sleep(pause).await;
        outcome
    }

    fn follow_secrets(&self, _: &PolicyKey, _: &[Receiver]) {}

    fn forget(&self, _: &PolicyKey) {}

    fn undelivered(&self, subject: &Subject, note: &str) {
        self.undelivered.lock().unwrap().push(format!("{subject}: {note}"));
    }

    fn now(&self) -> Timestamp {
        start() + jiff::SignedDuration::try_from(self.began.elapsed()).unwrap() + *self.skew.lock().unwrap()
    }
}

pub(super) fn policy(name: &str, uid: &str, generation: i64, more: &Value) -> Trigger {
    let mut spec = json!({"rules": {"renewalFailed": {}, "expired": {}}, "receivers": [{"name": "ops", "webhook": {"url": "https://hooks.example.com"}}]});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let mut object: AlertPolicy = serde_json::from_value(json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "AlertPolicy",
        "metadata": {"name": name, "namespace": "app", "uid": uid, "generation": generation}, "spec": spec
    }))
    .unwrap();
    if let Some(asked) = more.get("test") {
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert("gatehouse.dev/test-requested-at".into(), asked.as_str().unwrap().into());
    }
    let key = crate::alert::policy::key(&object);
    let spec = Spec {
        uid: uid.into(),
        generation: Some(generation),
        created: Some(start()),
        status: AlertPolicyStatus::default(),
        policy: Policy::parse(&object).map_err(|message| crate::alert::status::Inactive {
            reason: "Invalid",
            message,
        }),
    };
    Trigger::Policy(key, Some(Box::new(spec)))
}

/// An engine at work.
pub(super) struct Running {
    pub(super) news: mpsc::UnboundedSender<Trigger>,
    pub(super) stop: CancellationToken,
    pub(super) task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(super) fn over(engine_under_test: &Arc<TestEngine>) -> Self {
        let saved = engine_under_test.saved.lock().unwrap().clone();
        let stored = saved
            .into_iter()
            .map(|(uid, (key, bytes))| (uid, (key, durable::unpack(&bytes).unwrap())))
            .collect();
        let engine = Engine::new(
            engine_under_test.clone(),
            engine_under_test.clone(),
            engine_under_test.metrics.clone(),
            stored,
        );
        let (news, news_out) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let task = tokio::spawn(engine.run(news_out, stop.clone()));
        Self { news, stop, task }
    }

    pub(super) async fn hears(&self, news: impl IntoIterator<Item = Trigger>) {
        for news in news {
            self.news.send(news).unwrap();
        }
        seconds(1).await;
    }

    pub(super) async fn ends(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

pub(super) async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

pub(super) fn down() -> (Duration, Outcome) {
    let outcome = Outcome::Unavailable {
        message: "no connection".into(),
        after: None,
    };
    (Duration::from_secs(1), outcome)
}

impl Running {
    pub(super) fn hears_now(&self, news: Trigger) {
        self.news.send(news).unwrap();
    }
}
