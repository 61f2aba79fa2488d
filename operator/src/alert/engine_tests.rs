#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Mutex;

use gatehouse_crds::alert::AlertPolicy;
use kube::core::DeserializeGuard;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::*;
use crate::alert::{durable, message::Content, policy::Policy};

/// How long a receiver takes and what it says, by its name.
type Answer = Box<dyn FnMut(&str) -> (Duration, Outcome) + Send>;

/// A cluster in memory, a clock that stands still while nobody sleeps, and receivers that do as they are told.
struct World {
    began: Instant,
    certificates: Mutex<BTreeMap<(String, String), Arc<Guarded>>>,
    gateways: Mutex<BTreeMap<(String, String), Arc<GuardedGateway>>>,
    saved: Mutex<BTreeMap<String, Vec<u8>>>,
    saves: Mutex<usize>,
    statuses: Mutex<BTreeMap<String, AlertPolicyStatus>>,
    /// What was tried: seconds since the beginning, receiver, id, and what it said.
    tries: Mutex<Vec<(u64, String, String, Content)>>,
    undelivered: Mutex<Vec<String>>,
    answer: Mutex<Answer>,
    /// Saving fails while it is true.
    broken: Mutex<bool>,
    /// The Certificates have not arrived yet.
    unlisted: Mutex<bool>,
}

fn start() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

impl World {
    fn new() -> Arc<Self> {
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
        })
    }

    fn answer(&self, answer: impl FnMut(&str) -> (Duration, Outcome) + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    /// `app/<name>` that failed so often, and runs out in `hours` of a hundred.
    fn put(&self, name: &str, attempts: i32, hours: i64) -> News {
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
        News::Changed((AlertKind::Certificate, "app".into(), name.into()))
    }

    /// The Gateway `app/<name>`, which is Internal, and what was found of its address.
    fn put_gateway(&self, name: &str, verified: &str, reason: &str) -> News {
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
        News::Changed((AlertKind::Gateway, "app".into(), name.into()))
    }

    fn delete(&self, name: &str) -> News {
        self.certificates
            .lock()
            .unwrap()
            .remove(&("app".to_owned(), name.to_owned()));
        News::Changed((AlertKind::Certificate, "app".into(), name.into()))
    }

    /// What was tried, as `<seconds> <receiver> <what>`.
    fn told(&self) -> Vec<String> {
        let tries = self.tries.lock().unwrap();
        tries
            .iter()
            .map(|(at, receiver, _, content)| format!("{at} {receiver} {}", line(content)))
            .collect()
    }

    fn status(&self, policy: &str) -> AlertPolicyStatus {
        self.statuses.lock().unwrap().get(policy).cloned().unwrap_or_default()
    }
}

fn line(content: &Content) -> String {
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

impl Sight for World {
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
impl Hands for World {
    async fn save(&self, _: &PolicyKey, uid: &str, state: Option<Vec<u8>>) -> Result<(), String> {
        sleep(Duration::from_millis(5)).await;
        if *self.broken.lock().unwrap() {
            return Err("no".into());
        }
        *self.saves.lock().unwrap() += 1;
        let mut saved = self.saved.lock().unwrap();
        match state {
            Some(state) => drop(saved.insert(uid.into(), state)),
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

    async fn send(&self, _: &PolicyKey, receiver: &Receiver, message: &Message) -> Outcome {
        let at = self.began.elapsed().as_secs();
        let tried = (at, receiver.name.clone(), message.id.clone(), message.content.clone());
        self.tries.lock().unwrap().push(tried);
        let (pause, outcome) = (self.answer.lock().unwrap())(&receiver.name);
        sleep(pause).await;
        outcome
    }

    fn undelivered(&self, subject: &Subject, note: &str) {
        self.undelivered.lock().unwrap().push(format!("{subject}: {note}"));
    }

    fn follow_secrets(&self, _: &PolicyKey, _: &[Receiver]) {}

    fn now(&self) -> Timestamp {
        start() + jiff::SignedDuration::try_from(self.began.elapsed()).unwrap()
    }
}

fn policy(name: &str, uid: &str, generation: i64, more: &Value) -> News {
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
        policy: Policy::parse(&object).map_err(|message| crate::alert::status::Unfit {
            reason: "Invalid",
            message,
        }),
    };
    News::Policy(key, Some(Box::new(spec)))
}

/// An engine at work.
struct Running {
    news: mpsc::UnboundedSender<News>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn over(world: &Arc<World>) -> Self {
        let saved = world.saved.lock().unwrap().clone();
        let stored = saved
            .into_iter()
            .map(|(uid, bytes)| (uid, durable::unpack(&bytes).unwrap()))
            .collect();
        let engine = Engine::new(world.clone(), world.clone(), Metrics::default(), stored, 1);
        let (news, news_out) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let task = tokio::spawn(engine.run(news_out, stop.clone()));
        Self { news, stop, task }
    }

    async fn hears(&self, news: impl IntoIterator<Item = News>) {
        for news in news {
            self.news.send(news).unwrap();
        }
        seconds(1).await;
    }

    async fn ends(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

fn down() -> (Duration, Outcome) {
    let outcome = Outcome::Unavailable {
        message: "no connection".into(),
        after: None,
    };
    (Duration::from_secs(1), outcome)
}

#[tokio::test(start_paused = true)]
async fn an_alert_leaves_within_a_second_and_what_fires_is_in_the_status() {
    let world = World::new();
    let engine = Running::over(&world);
    engine
        .hears([world.put("web", 0, 1), policy("p", "u", 1, &json!({}))])
        .await;
    assert_eq!((world.told(), world.status("p").firing_count), (vec![], Some(0)));
    // It runs out in an hour: the engine has slept until then.
    seconds(3_597).await;
    assert_eq!(world.told(), Vec::<String>::new());
    seconds(3).await;
    assert_eq!(world.told(), ["3600 ops firing expired web"]);
    let status = world.status("p");
    assert_eq!(
        (status.firing_count, status.firing[0].certificate.as_deref().unwrap()),
        (Some(1), "app/web")
    );
    seconds(2).await;
    assert!(world.status("p").receivers[0].last_success.is_some());
    engine.hears([world.put("web", 0, 90)]).await;
    assert_eq!(world.told().last().unwrap(), "3603 ops resolved expired web");
    seconds(5).await;
    assert_eq!(world.status("p").firing, []);
    // Nothing is left to remember.
    assert!(world.saved.lock().unwrap().is_empty());
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn an_internal_gateway_that_is_public_fires_until_it_is_mended_or_gone_whatever_a_certificate_of_its_name_does() {
    let world = World::new();
    let engine = Running::over(&world);
    let news = [
        world.put("web", 0, 90),
        world.put_gateway("web", "False", "ExposureMismatch"),
        policy("p", "u", 1, &json!({"rules": {"exposureMismatch": {}, "expired": {}}})),
    ];
    engine.hears(news).await;
    assert_eq!(world.told(), ["0 ops firing exposureMismatch web"]);
    let firing = world.status("p").firing;
    assert_eq!(
        (firing[0].certificate.as_deref(), firing[0].gateway.as_deref()),
        (None, Some("app/web"))
    );
    engine.hears([world.delete("web")]).await;
    assert_eq!(world.told().len(), 1, "of the Certificate nothing was told");
    engine.hears([world.put_gateway("web", "True", "Internal")]).await;
    assert_eq!(world.told().last().unwrap(), "2 ops resolved exposureMismatch web");
    engine
        .hears([world.put_gateway("web", "False", "ExposureMismatch")])
        .await;
    world.gateways.lock().unwrap().clear();
    engine
        .hears([News::Changed((AlertKind::Gateway, "app".into(), "web".into()))])
        .await;
    assert_eq!(world.told().len(), 4);
    assert!(
        world
            .told()
            .last()
            .unwrap()
            .ends_with("ops resolved exposureMismatch web")
    );
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_tells_nothing_twice_and_ends_what_went_meanwhile() {
    let world = World::new();
    let engine = Running::over(&world);
    engine
        .hears([
            world.put("web", 1, 50),
            world.put("api", 1, 50),
            policy("p", "u", 1, &json!({})),
        ])
        .await;
    assert_eq!(world.told().len(), 2);
    engine.ends().await;
    let _ = world.delete("web");
    let engine = Running::over(&world);
    engine
        .hears([policy("p", "u", 1, &json!({})), News::Policies(Vec::new())])
        .await;
    seconds(5).await;
    assert_eq!(world.told()[2..], ["1 ops resolved renewalFailed web"]);
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn of_certificates_that_were_not_listed_yet_nothing_is_told_also_not_that_they_are_well() {
    let world = World::new();
    let engine = Running::over(&world);
    engine
        .hears([world.put("web", 1, 50), policy("p", "u", 1, &json!({}))])
        .await;
    engine.ends().await;
    let news = world.delete("web");
    *world.unlisted.lock().unwrap() = true;
    let engine = Running::over(&world);
    engine.hears([policy("p", "u", 1, &json!({})), news]).await;
    seconds(5).await;
    assert_eq!(world.told().len(), 1);
    *world.unlisted.lock().unwrap() = false;
    let _ = world.put("api", 1, 50);
    engine.hears([News::AllChanged]).await;
    seconds(5).await;
    let mut told = world.told()[1..].to_vec();
    told.sort();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].ends_with("firing renewalFailed api"), "{told:?}");
    assert!(told[1].ends_with("resolved renewalFailed web"), "{told:?}");
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_taken_is_sent_by_the_next_leader_under_the_same_id() {
    let world = World::new();
    world.answer(|_| down());
    let engine = Running::over(&world);
    engine
        .hears([world.put("web", 1, 50), policy("p", "u", 1, &json!({}))])
        .await;
    seconds(2).await;
    engine.task.abort();
    world.answer(|_| (Duration::ZERO, Outcome::Accepted));
    let engine = Running::over(&world);
    engine.hears([policy("p", "u", 1, &json!({}))]).await;
    seconds(10).await;
    let tries = world.tries.lock().unwrap().clone();
    assert_eq!((tries.len(), &tries[0].2), (2, &tries[1].2));
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_receiver_delays_no_other_and_is_told_of() {
    let world = World::new();
    world.answer(|receiver| {
        if receiver == "dead" {
            down()
        } else {
            (Duration::ZERO, Outcome::Accepted)
        }
    });
    let both = json!({"receivers": [{"name": "dead", "webhook": {"url": "https://a"}}, {"name": "ops", "webhook": {"url": "https://b"}}]});
    let engine = Running::over(&world);
    engine
        .hears([world.put("web", 1, 50), policy("p", "u", 1, &both)])
        .await;
    engine.hears([world.put("api", 1, 50)]).await;
    let told = world.told();
    assert_eq!(told.iter().filter(|line| line.contains(" ops ")).count(), 2, "{told:?}");
    seconds(20).await;
    let status = world.status("p");
    let delivering = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Delivering")
        .unwrap();
    assert_eq!(
        (delivering.status.as_str(), delivering.reason.as_str()),
        ("False", "DeliveryFailed")
    );
    assert_eq!((status.receivers[0].pending, status.receivers[1].pending), (2, 0));
    assert!(status.receivers[0].consecutive_failures >= 3);
    // Once for each delivery that failed, not for each try.
    assert_eq!(world.undelivered.lock().unwrap().len(), 2);
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_deleted_leaves_nothing_behind() {
    let world = World::new();
    let engine = Running::over(&world);
    engine
        .hears([world.put("web", 1, 50), policy("p", "u", 1, &json!({}))])
        .await;
    assert_eq!(world.saved.lock().unwrap().len(), 1);
    let key = PolicyKey {
        namespace: Some("app".into()),
        name: "p".into(),
    };
    engine.hears([News::Policy(key, None)]).await;
    assert!(world.saved.lock().unwrap().is_empty());
    engine.ends().await;
    // What belongs to a policy that went while nobody looked goes, too.
    world
        .saved
        .lock()
        .unwrap()
        .insert("old".into(), durable::pack(&mut State::default()));
    let engine = Running::over(&world);
    engine.hears([News::Policies(Vec::new())]).await;
    assert!(world.saved.lock().unwrap().is_empty());
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_ten_thousand_ends_without_losing_one() {
    let world = World::new();
    world.answer(|_| (Duration::from_millis(100), Outcome::Accepted));
    let engine = Running::over(&world);
    engine.hears([policy("p", "u", 1, &json!({}))]).await;
    for number in 0..10_000 {
        let news = world.put(&format!("web-{number}"), 1, 50);
        engine.hears_now(news);
    }
    seconds(130).await;
    let tries = world.tries.lock().unwrap().clone();
    let groups = tries.iter().filter_map(|(_, _, _, content)| match content {
        Content::Group(group) => Some(group.count),
        _ => None,
    });
    assert_eq!(groups.max(), Some(10_000));
    assert!(tries.len() < 10, "{}", tries.len());
    assert_eq!(world.status("p").firing_count, Some(10_000));
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn an_alertmanager_is_told_of_each_of_ten_thousand_and_a_large_state_is_saved_seldom() {
    let world = World::new();
    world.answer(|_| (Duration::from_millis(400), Outcome::Accepted));
    let engine = Running::over(&world);
    let receivers = json!([{"name": "am", "webhook": {"url": "https://am.example.com", "format": "Alertmanager"}}]);
    let all: Vec<News> = (0..10_000)
        .map(|number| world.put(&format!("web-{number}"), 1, 50))
        .collect();
    engine.hears(all).await;
    engine
        .hears([policy("p", "u", 1, &json!({"receivers": receivers}))])
        .await;
    seconds(60).await;
    assert_eq!(world.told().len(), 50);
    let told: usize = world
        .tries
        .lock()
        .unwrap()
        .iter()
        .map(|(_, _, _, content)| match content {
            Content::Batch { alerts, .. } => alerts.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(told, 10_000);
    // Fifty deliveries in twenty seconds. A small state would be saved every second.
    let saves = *world.saves.lock().unwrap();
    assert!(saves <= 12, "{saves}");
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_state_cannot_be_made_durable_alerts_leave_all_the_same() {
    let world = World::new();
    *world.broken.lock().unwrap() = true;
    let engine = Running::over(&world);
    engine
        .hears([world.put("web", 1, 50), policy("p", "u", 1, &json!({}))])
        .await;
    seconds(10).await;
    assert_eq!(world.told().len(), 1);
    *world.broken.lock().unwrap() = false;
    seconds(60).await;
    assert_eq!(world.saved.lock().unwrap().len(), 1);
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_test_is_sent_once_through_every_receiver_and_reported() {
    let world = World::new();
    let engine = Running::over(&world);
    let asked = json!({"test": "2026-06-01T11:59:00Z"});
    engine.hears([policy("p", "u", 1, &asked)]).await;
    engine.hears([policy("p", "u", 1, &asked)]).await;
    seconds(5).await;
    assert_eq!(world.told(), ["0 ops test"]);
    let test = world.status("p").test.unwrap();
    assert!(test.receivers[0].delivered, "{test:?}");
    assert_eq!(test.requested_at, "2026-06-01T11:59:00Z".parse().unwrap());
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn of_too_many_policies_the_youngest_are_told_and_not_carried_out() {
    let world = World::new();
    let engine = Running::over(&world);
    let all = (0..=POLICIES).map(|number| policy(&format!("p-{number:03}"), &format!("u-{number}"), 1, &json!({})));
    engine.hears(all.chain([world.put("web", 1, 50)])).await;
    seconds(5).await;
    assert_eq!(world.told().len(), POLICIES);
    let ready = world.status("p-100").conditions[0].clone();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "TooManyPolicies")
    );
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_pushed_out_by_a_policy_of_the_same_second_says_so_and_who_moves_up_again_too() {
    let world = World::new();
    let engine = Running::over(&world);
    let all = (0..POLICIES).map(|number| policy(&format!("p-{number:03}"), &format!("u-{number}"), 1, &json!({})));
    engine.hears(all).await;
    seconds(5).await;
    let reason = |name: &str| world.status(name).conditions[0].reason.clone();
    assert_eq!(reason("p-099"), "Accepted");
    // Made in the same second, as the clock of the API server has no smaller ones; then the name decides.
    engine.hears([policy("a", "u-a", 1, &json!({}))]).await;
    seconds(5).await;
    assert_eq!(
        (reason("a").as_str(), reason("p-099").as_str()),
        ("Accepted", "TooManyPolicies")
    );
    let key = PolicyKey {
        namespace: Some("app".into()),
        name: "p-007".into(),
    };
    engine.hears([News::Policy(key, None)]).await;
    seconds(5).await;
    assert_eq!(reason("p-099"), "Accepted");
    engine.ends().await;
}

#[tokio::test(start_paused = true)]
async fn with_nothing_due_nothing_runs() {
    let world = World::new();
    let engine = Running::over(&world);
    let news: Vec<News> = (0..100)
        .map(|number| world.put(&format!("web-{number}"), 0, 90))
        .collect();
    engine
        .hears(news.into_iter().chain([policy("p", "u", 1, &json!({}))]))
        .await;
    seconds(5).await;
    // With paused time every timer shows as a jump of the clock: the next one is the first expiry.
    let before = world.began.elapsed();
    tokio::time::timeout(Duration::from_secs(80 * 3600), std::future::pending::<()>())
        .await
        .unwrap_err();
    assert_eq!(
        (world.told(), world.began.elapsed().checked_sub(before).unwrap()),
        (vec![], Duration::from_secs(80 * 3600))
    );
    engine.ends().await;
}

impl Running {
    fn hears_now(&self, news: News) {
        self.news.send(news).unwrap();
    }
}
