//! Everything that happens about alerts, one thing after the other: an actor that owns the states.
//!
//! It runs only when something has changed or is due. What takes time (writes, deliveries) runs beside
//! it, through [`Effects`], and comes back as [`Completion`]. A delivery leaves only when the state that
//! knows of it is durable, so that after a crash it is sent again under the same id, and never forgotten.

mod completion;
mod policies;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use gatehouse_crds::alert::{AlertKind, Severity};
use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::completion::Completion;
use super::{
    policy::{PolicyKey, Scope},
    policy_state::{Active, GivenUp, PolicyState, Spec},
    ports::{ClusterView, Effects, Watched},
    state::{Key, Name, Object, State},
};
use crate::{certificate::context::until, telemetry::metrics::Metrics};

/// Triggers are gathered for this time, so that what happens together is reported together.
const BATCH_WINDOW: Duration = Duration::from_millis(100);
/// Deliveries under way for one namespace's policies.
const MAX_DELIVERIES_PER_NAMESPACE: usize = 32;
/// Active policies of one namespace; the youngest beyond are inactive, which their status says. As many deleted ones are kept until
/// their receivers are notified.
pub const MAX_POLICIES_PER_NAMESPACE: usize = 100;
/// A clock that is set back by less is not worth a look.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(1);
/// Interval at which the clock is checked: a jump must not delay anything.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_mins(10);

/// Triggers of the engine.
#[derive(Debug)]
pub enum Trigger {
    /// A Certificate or a Gateway was made, changed or deleted.
    Changed(Object),
    /// Any of them may have changed.
    AllChanged,
    /// A policy exists, or why it is inactive; `None` when it was deleted.
    Policy(PolicyKey, Option<Box<Spec>>),
    /// All policies of a scope: together, since of too many in a namespace only the oldest work.
    Policies(Scope, Vec<(PolicyKey, Box<Spec>)>),
    /// The labels of a namespace have changed.
    Namespace(String),
    /// A Secret that a receiver of a policy refers to has changed.
    SecretChanged(PolicyKey),
}

/// The state that a leader has left: of which policy, and by its UID.
pub type Stored = HashMap<String, (PolicyKey, State)>;

/// The actor.
pub struct Engine<S, H> {
    view: Arc<S>,
    effects: Arc<H>,
    metrics: Metrics,
    policies: BTreeMap<PolicyKey, PolicyState>,
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
    work: JoinSet<Completion>,
    /// States of the previous leader, as long as their policies were not seen.
    stored: Stored,
    /// Entries are numbered.
    entries: u64,
    /// The latest time that was seen.
    latest: Timestamp,
}

impl<S: ClusterView, H: Effects> Engine<S, H> {
    /// Makes one that takes up `stored`.
    pub fn new(view: Arc<S>, effects: Arc<H>, metrics: Metrics, stored: Stored) -> Self {
        Self {
            latest: effects.now(),
            view,
            effects,
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
            entries: 0,
        }
    }

    /// Works until `stop`, then until what was sent or saved has ended.
    pub async fn run(mut self, mut news: mpsc::UnboundedReceiver<Trigger>, stop: CancellationToken) {
        loop {
            let wait = self
                .next()
                .map(|next| until(next, self.effects.now()).min(CLOCK_CHECK_INTERVAL));
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
                    tokio::time::sleep(BATCH_WINDOW).await;
                    while let Ok(more) = news.try_recv() {
                        self.take(more);
                    }
                }
                Some(done) = self.work.join_next() => {
                    self.finish_all(done);
                }
                () = timer => {}
            }
            self.check_clock();
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

    fn finish_all(&mut self, first: Result<Completion, tokio::task::JoinError>) {
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

    fn take(&mut self, news: Trigger) {
        match news {
            Trigger::Changed(object) => {
                self.dirty.insert(object);
            }
            Trigger::AllChanged => {
                self.dirty.extend(self.view.objects(None));
                self.dirty
                    .extend(self.policies.values().flat_map(|entry| entry.state.objects()));
            }
            Trigger::Namespace(namespace) => {
                if self.policies.values().any(PolicyState::reads_namespaces) {
                    self.dirty.extend(self.view.objects(Some(&namespace)));
                }
            }
            Trigger::Policies(scope, all) => {
                for (key, spec) in all {
                    self.policy(key, *spec);
                }
                self.close_orphans(&scope);
            }
            Trigger::SecretChanged(key) => {
                let now = self.effects.now();
                if let Some(entry) = self.policies.get_mut(&key) {
                    entry.secret_changed(now);
                    self.touched.insert(key);
                }
            }
            Trigger::Policy(key, None) => self.remove(&key),
            Trigger::Policy(key, Some(spec)) => self.policy(key, *spec),
        }
    }

    /// The clock was set back: what was planned by the later time must not wait for it.
    fn check_clock(&mut self) {
        let now = self.effects.now();
        if until(self.latest, now) > MAX_CLOCK_SKEW {
            for (key, entry) in &mut self.policies {
                entry.state.clamp(now);
                self.touched.insert(key.clone());
            }
            self.dirty.extend(self.view.objects(None));
        }
        self.latest = now;
    }

    fn judge_all(&mut self) {
        for namespace in std::mem::take(&mut self.crowding) {
            self.enforce_limit(&namespace);
        }
        let now = self.effects.now();
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
        if !self.view.knows(kind, namespace) {
            return;
        }
        let found = Watched::of(&*self.view, kind, namespace, name);
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
                .filter(|_| policy.covers(namespace, &labels, |namespace| self.view.labels(namespace)));
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
        let now = self.effects.now();
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
        let elsewhere = self.fires_elsewhere(key);
        let Some(entry) = self.policies.get_mut(key) else {
            return true;
        };
        entry.state.fires_elsewhere = elsewhere;
        let changed = !entry.state.news.is_empty() || entry.is_deleted();
        let dropped = entry.notify(&*self.view, now);
        given_up(&self.metrics, key, "dropped", dropped);
        for receiver in entry.uncounted() {
            self.metrics.alert_receiver_gone(key.labels(), &receiver);
        }
        if entry.is_finished() {
            self.forget(key);
            return true;
        }
        if let Some(save) = entry.next_save(now) {
            given_up(&self.metrics, key, "shed", save.shed);
            let (effects, key, uid) = (self.effects.clone(), key.clone(), entry.uid.clone());
            let removed = save.packed.is_none();
            self.work.spawn(async move {
                let result = effects.save(&key, &uid, save.packed).await;
                Completion::Saved(key, uid, save.revision, removed, result)
            });
        }
        while self
            .in_flight
            .get(&key.namespace)
            .is_none_or(|count| *count < MAX_DELIVERIES_PER_NAMESPACE)
        {
            let Some(delivery) = entry.next_delivery(&*self.view, now) else {
                break;
            };
            *self.in_flight.entry(key.namespace.clone()).or_default() += 1;
            let (effects, key, number) = (self.effects.clone(), key.clone(), entry.number);
            self.work.spawn(async move {
                let outcome = effects
                    .send(&key, &delivery.receiver, &delivery.message, delivery.retired)
                    .await;
                Completion::Sent(key, number, Box::new(delivery), outcome)
            });
        }
        if let Some((requested_at, receivers)) = entry.next_test() {
            let (effects, key, uid) = (self.effects.clone(), key.clone(), entry.uid.clone());
            self.work.spawn(async move {
                let test = super::test_alert::run(&*effects, &key, requested_at, receivers).await;
                Completion::Tested(key, uid, test)
            });
        }
        if let Some(status) = entry.next_status(now) {
            let (effects, key, uid) = (self.effects.clone(), key.clone(), entry.uid.clone());
            self.work.spawn(async move {
                let result = effects.write_status(&key, &uid, &status).await;
                Completion::Status(key, uid, Box::new(status), result)
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

    /// Counts what fires once, however many policies report it.
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

    /// On the way out: saves what is not durable yet.
    fn save_all(&mut self) {
        for (key, entry) in &mut self.policies {
            if let Some(save) = entry.next_save_now() {
                given_up(&self.metrics, key, "shed", save.shed);
                let (effects, key, uid) = (self.effects.clone(), key.clone(), entry.uid.clone());
                let removed = save.packed.is_none();
                self.work.spawn(async move {
                    let result = effects.save(&key, &uid, save.packed).await;
                    Completion::Saved(key, uid, save.revision, removed, result)
                });
            }
        }
    }
}

/// Counts deliveries that were given up.
fn given_up(metrics: &Metrics, policy: &PolicyKey, result: &'static str, given_up: GivenUp) {
    for (receiver, count) in given_up {
        metrics.alert_delivery(policy.labels(), &receiver, result, count);
    }
}

#[cfg(test)]
mod tests;
