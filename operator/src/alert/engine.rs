//! Everything that happens about alerts, one thing after the other: an actor that owns the states.
//!
//! It runs only when something has changed or is due. What takes time (writes, deliveries) runs beside
//! it, through [`Hands`], and comes back as [`Done`]. A delivery leaves only when the state that
//! knows of it is durable, so that after a crash it is sent again under the same id, and never forgotten.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use gatehouse_crds::alert::{AlertKind, AlertPolicyStatus, Severity, TestStatus};
use jiff::Timestamp;
use kube::{Resource, api::ObjectMeta};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    entry::{Active, Entry, Spec, subjects},
    message::{Message, Subject},
    policy::{PolicyKey, Receiver},
    queue::{Outcome, Verdict},
    rules::{Judgement, RuleSet, judge, judge_gateway},
    state::{Key, Name, Object, State},
};
use crate::{
    certificate::{cache::Guarded, context::until},
    gateway::cache::Guarded as GuardedGateway,
    telemetry::metrics::Metrics,
};

/// News are gathered for so long, so that what happens together is told together.
const GATHER: Duration = Duration::from_millis(100);
/// Deliveries under way for one namespace's policies.
const AT_ONCE: usize = 32;
/// Policies of one namespace that are carried out; the youngest beyond are told so.
pub const POLICIES: usize = 100;

/// What the engine sees of the cluster.
pub trait Sight: Send + Sync + 'static {
    /// Whether the objects of a namespace have been listed: else nothing can be said of them, also not that they are gone.
    fn knows(&self, kind: AlertKind, namespace: &str) -> bool;
    /// The Certificate of that name, when it is there.
    fn certificate(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>>;
    /// The Gateway of that name, when it is there.
    fn gateway(&self, namespace: &str, name: &str) -> Option<Arc<GuardedGateway>>;
    /// All Certificates and Gateways, or those of one namespace.
    fn objects(&self, namespace: Option<&str>) -> Vec<Object>;
    /// The labels of a namespace.
    fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>>;
}

/// What the engine does in the world.
#[async_trait]
pub trait Hands: Send + Sync + 'static {
    /// Makes the state durable; none removes it.
    async fn save(&self, policy: &PolicyKey, uid: &str, state: Option<Vec<u8>>) -> Result<(), String>;
    async fn write_status(&self, policy: &PolicyKey, uid: &str, status: &AlertPolicyStatus) -> Result<(), String>;
    async fn send(&self, policy: &PolicyKey, receiver: &Receiver, message: &Message) -> Outcome;
    /// Says on the object that an alert about it has not arrived.
    fn undelivered(&self, subject: &Subject, note: &str);
    /// Has [`News::SecretChanged`] sent when a Secret of these receivers changes; none when the policy is gone.
    fn follow_secrets(&self, policy: &PolicyKey, receivers: &[Receiver]);
    fn now(&self) -> Timestamp;
}

/// What alerts are about.
pub(super) enum Watched {
    Certificate(Arc<Guarded>),
    Gateway(Arc<GuardedGateway>),
}

impl Watched {
    /// The object of that name, when it is there.
    pub(super) fn of(sight: &impl Sight, kind: AlertKind, namespace: &str, name: &str) -> Option<Self> {
        match kind {
            AlertKind::Certificate => sight.certificate(namespace, name).map(Self::Certificate),
            AlertKind::Gateway => sight.gateway(namespace, name).map(Self::Gateway),
        }
    }

    fn is_readable(&self) -> bool {
        match self {
            Self::Certificate(object) => object.0.is_ok(),
            Self::Gateway(object) => object.0.is_ok(),
        }
    }

    pub(super) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Certificate(object) => object.meta(),
            Self::Gateway(object) => object.meta(),
        }
    }

    fn judge(&self, rules: &RuleSet, now: Timestamp) -> Judgement {
        match self {
            Self::Certificate(object) => object.0.as_ref().map(|object| judge(object, rules, now)),
            Self::Gateway(object) => object.0.as_ref().map(|object| judge_gateway(object, rules, now)),
        }
        .unwrap_or_default()
    }

    /// What is told of it; nothing of one that cannot be read.
    pub(super) fn subject(&self) -> Option<Subject> {
        match self {
            Self::Certificate(object) => Some(Subject::of(object.0.as_ref().ok()?)),
            Self::Gateway(object) => Some(Subject::of_gateway(object.0.as_ref().ok()?)),
        }
    }
}

/// What the engine is told.
#[derive(Debug)]
pub enum News {
    /// A Certificate or a Gateway was made, changed or deleted.
    Changed(Object),
    /// Any of them may have changed.
    AllChanged,
    /// A policy is there, or why it cannot be carried out; none when it is gone.
    Policy(PolicyKey, Option<Box<Spec>>),
    /// All policies of a scope: together, since of too many in a namespace only the oldest work.
    Policies(Vec<(PolicyKey, Box<Spec>)>),
    /// The labels of a namespace have changed.
    Namespace(String),
    /// A Secret that a receiver of a policy refers to has changed.
    SecretChanged(PolicyKey),
}

/// What has ended beside the engine.
#[derive(Debug)]
pub(super) enum Done {
    Saved(PolicyKey, String, u64, bool, Result<(), String>),
    Status(PolicyKey, String, Box<AlertPolicyStatus>, Result<(), String>),
    Sent(PolicyKey, String, String, Box<Message>, Outcome),
    Tested(PolicyKey, String, TestStatus),
}

/// The actor.
pub struct Engine<S, H> {
    sight: Arc<S>,
    hands: Arc<H>,
    metrics: Metrics,
    policies: BTreeMap<PolicyKey, Entry>,
    /// When a Certificate is to be judged again.
    timers: BTreeSet<(Timestamp, Arc<Name>)>,
    timer_of: HashMap<Arc<Name>, Timestamp>,
    wakes: BTreeSet<(Timestamp, PolicyKey)>,
    dirty: HashSet<Object>,
    touched: BTreeSet<PolicyKey>,
    /// Namespaces that policies came to or went from.
    crowding: BTreeSet<String>,
    in_flight: HashMap<Option<String>, usize>,
    /// Policies that have to wait for others of their namespace.
    starved: BTreeSet<PolicyKey>,
    work: JoinSet<Done>,
    /// What the leader before has left, by the UID of its policy, as long as that was not seen.
    stored: HashMap<String, State>,
    /// Lists of policies that have not arrived.
    lists: usize,
}

impl<S: Sight, H: Hands> Engine<S, H> {
    /// One that takes up `stored`: what the leader before has left, by the UID of its policy. Policies come in so many `lists`.
    pub fn new(sight: Arc<S>, hands: Arc<H>, metrics: Metrics, stored: HashMap<String, State>, lists: usize) -> Self {
        Self {
            sight,
            hands,
            metrics,
            policies: BTreeMap::new(),
            timers: BTreeSet::new(),
            timer_of: HashMap::new(),
            wakes: BTreeSet::new(),
            dirty: HashSet::new(),
            touched: BTreeSet::new(),
            crowding: BTreeSet::new(),
            in_flight: HashMap::new(),
            starved: BTreeSet::new(),
            work: JoinSet::new(),
            stored,
            lists,
        }
    }

    /// Works until `stop`, then until what was sent or saved has ended.
    pub async fn run(mut self, mut news: mpsc::UnboundedReceiver<News>, stop: CancellationToken) {
        loop {
            let wait = self.next().map(|next| until(next, self.hands.now()));
            let timer = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(first) = news.recv() => {
                    self.take(first);
                    tokio::time::sleep(GATHER).await;
                    while let Ok(more) = news.try_recv() {
                        self.take(more);
                    }
                }
                Some(done) = self.work.join_next() => {
                    self.finish_all(done);
                }
                () = timer => {}
            }
            self.judge_all();
            self.settle_all();
        }
        // The last word is kept: what was taken is not sent again by the next leader.
        self.save_all();
        while let Some(done) = self.work.join_next().await {
            self.finish_all(done);
            self.save_all();
        }
    }

    fn finish_all(&mut self, first: Result<Done, tokio::task::JoinError>) {
        let mut next = Some(first);
        while let Some(done) = next {
            if let Ok(done) = done {
                self.finish(done);
            }
            next = self.work.try_join_next();
        }
    }

    fn next(&self) -> Option<Timestamp> {
        let certificates = self.timers.first().map(|(time, _)| *time);
        let policies = self.wakes.first().map(|(time, _)| *time);
        certificates.into_iter().chain(policies).min()
    }

    fn take(&mut self, news: News) {
        match news {
            News::Changed(object) => {
                self.dirty.insert(object);
            }
            News::AllChanged => {
                self.dirty.extend(self.sight.objects(None));
                self.dirty
                    .extend(self.policies.values().flat_map(|entry| entry.state.objects()));
            }
            News::Namespace(namespace) => {
                if self.policies.values().any(Entry::reads_namespaces) {
                    self.dirty.extend(self.sight.objects(Some(&namespace)));
                }
            }
            News::Policies(all) => {
                for (key, spec) in all {
                    self.policy(key, *spec);
                }
                self.lists = self.lists.saturating_sub(1);
                if self.lists == 0 {
                    self.forget_orphans();
                }
            }
            News::SecretChanged(key) => {
                let now = self.hands.now();
                if let Some(entry) = self.policies.get_mut(&key) {
                    entry.secret_changed(now);
                    self.touched.insert(key);
                }
            }
            News::Policy(key, None) => self.remove(&key),
            News::Policy(key, Some(spec)) => self.policy(key, *spec),
        }
    }

    fn remove(&mut self, key: &PolicyKey) {
        if let Some(entry) = self.policies.remove(key) {
            self.hands.follow_secrets(key, &[]);
            self.wake(key, entry.wake, None);
            self.starved.remove(key);
            // It is counted no more.
            self.touched.insert(key.clone());
            if entry.is_stored() {
                self.erase(key.clone(), entry.uid);
            }
            self.crowding.extend(key.namespace.clone());
        }
    }

    fn erase(&mut self, key: PolicyKey, uid: String) {
        let hands = self.hands.clone();
        self.work.spawn(async move {
            let result = hands.save(&key, &uid, None).await;
            Done::Saved(key, uid, 0, true, result)
        });
    }

    /// What belongs to policies that went while nobody looked.
    fn forget_orphans(&mut self) {
        for uid in std::mem::take(&mut self.stored).into_keys() {
            let key = PolicyKey {
                namespace: None,
                name: uid.clone(),
            };
            self.erase(key, uid);
        }
    }

    fn policy(&mut self, key: PolicyKey, spec: Spec) {
        let now = self.hands.now();
        for receiver in spec.policy.iter().flat_map(|policy| &policy.receivers) {
            self.metrics.alert_receiver(&receiver.name);
        }
        if self.policies.get(&key).is_some_and(|entry| entry.uid != spec.uid) {
            self.remove(&key);
        }
        let receivers = spec.policy.as_ref().map_or(&[][..], |policy| &policy.receivers);
        self.hands.follow_secrets(&key, receivers);
        let known = self.policies.contains_key(&key);
        let entry = self
            .policies
            .entry(key.clone())
            .or_insert_with(|| Entry::new(spec.uid.clone(), self.stored.remove(&spec.uid)));
        if entry.update(spec, now) {
            let namespace = key.namespace.as_deref();
            self.dirty.extend(self.sight.objects(namespace));
            // What fires for objects that went meanwhile has ended.
            self.dirty.extend(entry.state.objects());
        }
        if !known {
            self.crowding.extend(key.namespace.clone());
        }
        self.touched.insert(key);
    }

    /// Says who is one too many in a namespace.
    fn crowd(&mut self, namespace: &str) {
        let mut here: Vec<_> = self
            .policies
            .iter()
            .filter(|(key, _)| key.namespace.as_deref() == Some(namespace))
            .map(|(key, entry)| (entry.created, key.clone()))
            .collect();
        here.sort();
        let mut changed = false;
        for (position, (_, key)) in here.into_iter().enumerate() {
            if self
                .policies
                .get_mut(&key)
                .is_some_and(|entry| entry.crowd(position >= POLICIES))
            {
                changed = true;
                self.touched.insert(key);
            }
        }
        if changed {
            self.dirty.extend(self.sight.objects(Some(namespace)));
        }
    }

    fn judge_all(&mut self) {
        for namespace in std::mem::take(&mut self.crowding) {
            self.crowd(&namespace);
        }
        let now = self.hands.now();
        while let Some((time, name)) = self.timers.first().cloned() {
            if time > now {
                break;
            }
            self.timers.pop_first();
            self.timer_of.remove(&name);
            // Only what is about Certificates comes by time alone.
            self.dirty
                .insert((AlertKind::Certificate, name.namespace.clone(), name.name.clone()));
        }
        for (kind, namespace, name) in std::mem::take(&mut self.dirty) {
            self.judge(kind, &namespace, &name, now);
        }
    }

    fn judge(&mut self, kind: AlertKind, namespace: &str, name: &str, now: Timestamp) {
        if !self.sight.knows(kind, namespace) {
            return;
        }
        let found = Watched::of(&*self.sight, kind, namespace, name);
        // It cannot be read: nothing new is known of it.
        if found.as_ref().is_some_and(|object| !object.is_readable()) {
            return;
        }
        let known = found.as_ref().map(|object| {
            Arc::new(Name {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: object.metadata().uid.clone().unwrap_or_default(),
            })
        });
        let mut next: Option<Timestamp> = None;
        let labels = found
            .as_ref()
            .and_then(|object| object.metadata().labels.clone())
            .unwrap_or_default();
        for (key, entry) in &mut self.policies {
            if key.namespace.as_deref().is_some_and(|own| own != namespace) {
                continue;
            }
            let Some(Active { policy, state }) = entry.active() else {
                continue;
            };
            let covered = found
                .as_ref()
                .filter(|_| policy.covers(namespace, &labels, |namespace| self.sight.labels(namespace)));
            let judgement = covered.map(|object| object.judge(&policy.rules, now));
            let observed = known
                .as_ref()
                .zip(judgement.as_ref().map(|judgement| judgement.findings.as_slice()));
            state.observe(kind, namespace, name, observed);
            next = judgement
                .and_then(|judgement| judgement.next)
                .into_iter()
                .chain(next)
                .min();
            if !state.news.is_empty() {
                self.touched.insert(key.clone());
            }
        }
        if let Some(name) = known.filter(|_| kind == AlertKind::Certificate) {
            self.set_timer(name, next);
        }
    }

    fn set_timer(&mut self, name: Arc<Name>, next: Option<Timestamp>) {
        if let Some(before) = self.timer_of.get(&name).copied() {
            if Some(before) == next {
                return;
            }
            self.timers.remove(&(before, name.clone()));
            self.timer_of.remove(&name);
        }
        if let Some(next) = next {
            self.timers.insert((next, name.clone()));
            self.timer_of.insert(name, next);
        }
    }

    fn settle_all(&mut self) {
        let now = self.hands.now();
        while let Some((time, key)) = self.wakes.first().cloned() {
            if time > now {
                break;
            }
            self.wakes.pop_first();
            if let Some(entry) = self.policies.get_mut(&key) {
                entry.wake = None;
            }
            self.touched.insert(key);
        }
        let mut changed = false;
        for key in std::mem::take(&mut self.touched) {
            changed |= self.settle(&key, now);
        }
        if changed {
            self.count_firing();
        }
    }

    /// Does for one policy what is to be done now. Gives whether other alerts fire than before.
    fn settle(&mut self, key: &PolicyKey, now: Timestamp) -> bool {
        let Some(entry) = self.policies.get_mut(key) else {
            return true;
        };
        let changed = !entry.state.news.is_empty();
        let dropped = entry.tell(&*self.sight, now);
        for (receiver, count) in dropped {
            self.metrics.alert_delivery(&receiver, "dropped", count);
        }
        if let Some((revision, packed)) = entry.next_save(now) {
            let (hands, key, uid) = (self.hands.clone(), key.clone(), entry.uid.clone());
            let removed = packed.is_none();
            self.work.spawn(async move {
                let result = hands.save(&key, &uid, packed).await;
                Done::Saved(key, uid, revision, removed, result)
            });
        }
        while self.in_flight.get(&key.namespace).is_none_or(|count| *count < AT_ONCE) {
            let Some((receiver, message)) = entry.next_delivery(&*self.sight, now) else {
                break;
            };
            *self.in_flight.entry(key.namespace.clone()).or_default() += 1;
            let (hands, key, uid) = (self.hands.clone(), key.clone(), entry.uid.clone());
            self.work.spawn(async move {
                let outcome = hands.send(&key, &receiver, &message).await;
                Done::Sent(key, uid, receiver.name, Box::new(message), outcome)
            });
        }
        if let Some((requested_at, receivers)) = entry.next_test() {
            let (hands, key, uid) = (self.hands.clone(), key.clone(), entry.uid.clone());
            self.work.spawn(async move {
                let test = super::test::run(&*hands, &key, requested_at, receivers).await;
                Done::Tested(key, uid, test)
            });
        }
        if let Some(status) = entry.next_status(now) {
            let (hands, key, uid) = (self.hands.clone(), key.clone(), entry.uid.clone());
            self.work.spawn(async move {
                let result = hands.write_status(&key, &uid, &status).await;
                Done::Status(key, uid, Box::new(status), result)
            });
        }
        let before = entry.wake;
        let mut next = entry.next(now);
        if next.is_some_and(|next| next <= now) {
            // Due, but others of the namespace are at it: their end wakes it.
            self.starved.insert(key.clone());
            let alone = self.in_flight.get(&key.namespace).is_none_or(|count| *count == 0);
            next = alone.then(|| now.checked_add(Duration::from_secs(1)).unwrap_or(now));
        }
        entry.wake = next;
        self.wake(key, before, next);
        changed
    }

    fn wake(&mut self, key: &PolicyKey, before: Option<Timestamp>, next: Option<Timestamp>) {
        if let Some(before) = before {
            self.wakes.remove(&(before, key.clone()));
        }
        if let Some(next) = next {
            self.wakes.insert((next, key.clone()));
        }
    }

    fn finish(&mut self, done: Done) {
        let now = self.hands.now();
        match done {
            Done::Saved(key, uid, revision, removed, result) => {
                if let Some(entry) = self.entry(&key, &uid) {
                    entry.saved(revision, removed, result, now);
                    self.touched.insert(key);
                }
            }
            Done::Status(key, uid, status, result) => {
                if let Some(entry) = self.entry(&key, &uid) {
                    entry.written(*status, result, now);
                    self.touched.insert(key);
                }
            }
            Done::Tested(key, uid, test) => {
                if let Some(entry) = self.entry(&key, &uid) {
                    entry.tested(test);
                    self.touched.insert(key);
                }
            }
            Done::Sent(key, uid, receiver, message, outcome) => {
                if let Some(count) = self.in_flight.get_mut(&key.namespace) {
                    *count = count.saturating_sub(1);
                }
                self.touched.append(&mut self.starved);
                let result = if outcome == Outcome::Accepted {
                    "success"
                } else {
                    "failure"
                };
                self.metrics.alert_delivery(&receiver, result, 1);
                let Some(entry) = self.policies.get_mut(&key).filter(|entry| entry.uid == uid) else {
                    return;
                };
                let failed = match &outcome {
                    Outcome::Accepted => None,
                    Outcome::Gone { message }
                    | Outcome::Refused { message, .. }
                    | Outcome::Unavailable { message, .. } => Some(message.clone()),
                };
                let verdict = entry.sent(&receiver, &message.id, outcome, now);
                if let (Verdict::Again { first: true } | Verdict::Dropped(_), Some(failed)) = (&verdict, failed) {
                    let note = format!(
                        "Receiver {receiver} of {} {key} did not take an alert: {failed}",
                        key.kind()
                    );
                    for subject in subjects(&message.content) {
                        self.hands.undelivered(&subject, &note);
                    }
                }
                if let Verdict::Dropped(count) = verdict {
                    self.metrics.alert_delivery(&receiver, "dropped", count);
                }
                self.touched.insert(key);
            }
        }
    }

    /// What fires is counted once, however many policies say so.
    fn count_firing(&self) {
        let mut worst: HashMap<&Key, Severity> = HashMap::new();
        for (key, firing) in self.policies.values().flat_map(|entry| &entry.state.firing) {
            let severity = worst.entry(key).or_insert(firing.severity);
            *severity = firing.severity.max(*severity);
        }
        let mut counts = BTreeMap::new();
        for (key, severity) in worst {
            *counts.entry((key.rule, severity)).or_default() += 1;
        }
        self.metrics.alerts_firing(&counts);
    }

    fn entry(&mut self, key: &PolicyKey, uid: &str) -> Option<&mut Entry> {
        self.policies.get_mut(key).filter(|entry| entry.uid == uid)
    }

    /// On the way out: saves what is not durable yet.
    fn save_all(&mut self) {
        for (key, entry) in &mut self.policies {
            if let Some((revision, packed)) = entry.next_save_now() {
                let (hands, key, uid) = (self.hands.clone(), key.clone(), entry.uid.clone());
                let removed = packed.is_none();
                self.work.spawn(async move {
                    let result = hands.save(&key, &uid, packed).await;
                    Done::Saved(key, uid, revision, removed, result)
                });
            }
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
