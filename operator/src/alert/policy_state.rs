//! One policy in the engine: what it asks for, its state, and which of its errands are under way.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use gatehouse_crds::alert::{AlertKind, AlertPolicyStatus, TestStatus};
use jiff::Timestamp;

use super::{
    destination::{Destination, Id},
    durable,
    message::{Content, Message, Subject},
    notifier::Notifier,
    outbox::Outbox,
    policy::{Policy, PolicyKey, Receiver},
    ports::{ClusterView, Watched},
    queue::{Outcome, Verdict},
    state::{Key, Name, State},
    status::{self, Inactive},
};

/// Minimal interval of writes that nothing waits for, of the durable state and the status.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// A state rests for a millisecond more for each so many bytes: in a storm it is large, and what a crash costs then are
/// repeats of a few more deliveries.
const BYTES_PER_MILLISECOND: usize = 50;
/// After so many failures to make the state durable, deliveries leave all the same.
const MAX_SAVE_FAILURES: u32 = 2;

/// A policy as the API server has it.
#[derive(Debug)]
pub struct Spec {
    pub uid: String,
    pub generation: Option<i64>,
    pub created: Option<Timestamp>,
    pub status: AlertPolicyStatus,
    /// Its policy, or why that is inactive.
    pub policy: Result<Policy, Inactive>,
}

/// One delivery to start.
pub(super) struct Delivery {
    pub(super) destination: Id,
    pub(super) receiver: Receiver,
    /// The receiver gets the end of the alerts that it received, and nothing else.
    pub(super) retired: bool,
    pub(super) message: Message,
}

/// Number of deliveries that were given up, by receiver.
pub(super) type GivenUp = Vec<(String, usize)>;

/// A policy in the engine.
#[allow(
    clippy::struct_excessive_bools,
    reason = "four facts that do not depend on each other"
)]
pub(super) struct PolicyState {
    key: PolicyKey,
    pub(super) uid: String,
    /// The same when the policy is deleted and created again.
    pub(super) number: u64,
    pub(super) created: Option<Timestamp>,
    /// There are too many of them in its namespace.
    crowded: bool,
    /// It was deleted, and is kept as long as its receivers have to be notified.
    deleted: bool,
    /// The receivers of the spec are those of the state.
    synced: bool,
    /// Receivers that have metrics.
    counted: BTreeSet<String>,
    pub(super) state: State,
    /// When the engine looks at it again.
    pub(super) wake: Option<Timestamp>,
    generation: Option<i64>,
    policy: Result<Policy, Inactive>,
    /// The status that the API server has.
    known: AlertPolicyStatus,
    test: Option<TestStatus>,
    testing: bool,
    kept: Kept,
    writes: BackgroundTask,
    /// The status may differ from the one that the API server has.
    stale: bool,
}

/// Progress of the durable state.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    task: BackgroundTask,
    /// The last change that is durable.
    revision: u64,
    /// There is an object that holds it.
    stored: bool,
    /// Something waits for the next save.
    urgent: bool,
    /// Bytes of the last save.
    size: usize,
}

/// Something that is done beside the engine, once at a time.
#[derive(Clone, Copy, Debug, Default)]
struct BackgroundTask {
    under_way: bool,
    failures: u32,
    /// Not before.
    not_before: Option<Timestamp>,
}

impl BackgroundTask {
    fn may(&self, now: Timestamp) -> bool {
        !self.under_way && self.not_before.is_none_or(|time| time <= now)
    }

    fn ended(&mut self, well: bool, now: Timestamp) {
        self.under_way = false;
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
        let pause = SAVE_INTERVAL.saturating_mul(2u32.saturating_pow(self.failures.min(5)));
        self.not_before = now.checked_add(pause).ok();
    }

    /// Waits so much longer.
    fn rests(&mut self, more: Duration) {
        self.not_before = self.not_before.and_then(|time| time.checked_add(more).ok());
    }
}

impl PolicyState {
    pub(super) fn new(key: PolicyKey, uid: String, number: u64, stored: Option<State>, now: Timestamp) -> Self {
        let kept = Kept {
            stored: stored.is_some(),
            ..Kept::default()
        };
        let mut state = stored.unwrap_or_default();
        state.clamp(now);
        // Whether their Secrets have changed while no operator ran is not known: they are tried once more.
        state.secret_changed(now);
        Self {
            key,
            uid,
            number,
            created: None,
            crowded: false,
            deleted: false,
            synced: false,
            counted: state.destinations.iter().map(|at| at.receiver.name.clone()).collect(),
            kept,
            state,
            wake: None,
            generation: None,
            policy: Err(Inactive {
                reason: "Pending",
                message: "It was not looked at yet.".into(),
            }),
            known: AlertPolicyStatus::default(),
            test: None,
            testing: false,
            writes: BackgroundTask::default(),
            stale: true,
        }
    }

    /// Takes the object as it is now. Gives whether the Certificates have to be judged again.
    pub(super) fn update(&mut self, spec: Spec) -> bool {
        let first = self.generation.is_none() && self.created.is_none();
        let revived = std::mem::take(&mut self.deleted);
        let validity = self.policy.is_err() != spec.policy.is_err();
        let changed = first || revived || validity || self.generation != spec.generation;
        self.created = spec.created;
        self.generation = spec.generation;
        if first {
            self.test.clone_from(&spec.status.test);
            // A status that was lost, or written by another writer, comes back.
            self.known = spec.status;
        } else if !self.writes.under_way {
            self.stale |= self.known != spec.status;
            self.known = spec.status;
        }
        self.policy = spec.policy;
        if changed {
            self.stale = true;
            self.synced = false;
        }
        changed
    }

    /// A Secret of a receiver has changed: one that was stopped starts again, and what failed is tried again.
    pub(super) fn secret_changed(&mut self, now: Timestamp) {
        self.stale |= self.state.secret_changed(now);
        self.state.changed();
    }

    /// The policy was deleted and created again: its receivers continue from where they are.
    pub(super) fn recreated(&mut self, uid: String) {
        self.uid = uid;
        self.deleted = false;
        self.created = None;
        self.generation = None;
        self.kept = Kept::default();
        self.writes = BackgroundTask::default();
        self.testing = false;
        self.state.changed();
        self.kept.urgent = true;
    }

    /// The policy was deleted.
    pub(super) fn delete(&mut self) {
        self.deleted = true;
    }

    /// The receiver has metrics.
    pub(super) fn count(&mut self, receiver: &str) {
        if !self.counted.contains(receiver) {
            self.counted.insert(receiver.to_owned());
        }
    }

    /// Receivers that have metrics and that the policy does not have any more.
    pub(super) fn uncounted(&mut self) -> Vec<String> {
        let gone = |name: &String| self.state.destinations.iter().all(|at| at.receiver.name != *name);
        let gone: Vec<String> = self.counted.iter().filter(|name| gone(name)).cloned().collect();
        self.counted.retain(|name| !gone.contains(name));
        gone
    }

    /// Receivers that have metrics.
    pub(super) fn counted(&self) -> impl Iterator<Item = &str> {
        self.counted.iter().map(String::as_str)
    }

    /// Returns whether the next notification may resolve alerts at a receiver.
    pub(super) fn may_withdraw(&self) -> bool {
        let active = self.carried_out().is_some();
        let is_current = active && self.synced;
        !self.state.firing.is_empty() && !is_current
    }

    /// Returns what fires at the PagerDuty service of `receiver`.
    pub(super) fn incidents(&self, receiver: &Receiver) -> impl Iterator<Item = &Key> {
        let active = self.carried_out().is_some();
        let same = move |at: &&Destination| active && !at.is_retired() && at.receiver.same_destination(receiver);
        let ids: Vec<Id> = self.state.destinations.iter().filter(same).map(|at| at.id).collect();
        let firing = self.state.firing.iter();
        let delivered = firing.filter(move |(_, firing)| ids.iter().any(|id| firing.delivered_to.has(*id)));
        delivered.map(|(key, _)| key)
    }

    /// Returns whether it was deleted, and its receivers are notified.
    pub(super) fn is_finished(&self) -> bool {
        self.deleted && self.state.destinations.is_empty() && !self.kept.task.under_way
    }

    /// Whether it was deleted.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Takes whether it is one too many in its namespace. Gives whether that is new.
    pub(super) fn enforce_limit(&mut self, crowded: bool) -> bool {
        let changed = self.crowded != crowded;
        self.crowded = crowded;
        self.stale |= changed;
        changed
    }

    /// Whether there is, or may be in a moment, an object that holds its state.
    pub(super) fn is_stored(&self) -> bool {
        self.kept.stored || self.kept.task.under_way
    }

    fn carried_out(&self) -> Option<&Policy> {
        self.policy.as_ref().ok().filter(|_| !self.crowded && !self.deleted)
    }

    /// Returns the active policy.
    pub(super) fn active(&mut self) -> Option<Active<'_>> {
        let able = !self.crowded && !self.deleted;
        let policy = self.policy.as_ref().ok().filter(|_| able)?;
        Some(Active {
            policy,
            state: &mut self.state,
        })
    }

    pub(super) fn reads_namespaces(&self) -> bool {
        self.policy.as_ref().is_ok_and(Policy::reads_namespaces)
    }

    /// Puts the news into the queues. Gives what was dropped for it.
    pub(super) fn notify(&mut self, view: &impl ClusterView, now: Timestamp) -> GivenUp {
        let look = |kind: AlertKind, name: &Name| {
            let found = Watched::of(view, kind, &name.namespace, &name.name)?;
            let same = found.metadata().uid.as_deref() == Some(&name.uid);
            found.subject().filter(|_| same).map(Arc::new)
        };
        let before = self.state.revision;
        let active = self.policy.as_ref().ok().filter(|_| !self.crowded && !self.deleted);
        let mut dropped = if let Some(policy) = active {
            if !self.synced {
                let generation = policy.generation.unwrap_or_default();
                self.state.sync(&policy.receivers, generation, now);
                // The intervals may be others.
                self.state.repeat_at = Some(now);
                self.synced = true;
            }
            let mut notifier = Notifier::new(policy, &look, now);
            notifier.notify(&mut self.state);
            notifier.dropped()
        } else {
            self.synced = false;
            self.state.retire_all(now);
            let mut outbox = Outbox::new(self.key.to_string(), &look, 0, now);
            outbox.withdraw(&mut self.state);
            self.state.forget_alerts();
            outbox.dropped
        };
        dropped.extend(self.state.forget_retired(now));
        if self.state.revision != before {
            self.kept.urgent = true;
            self.stale = true;
        }
        dropped
    }

    /// The state to be made durable now.
    pub(super) fn next_save(&mut self, now: Timestamp) -> Option<Save> {
        let pressing = self.kept.urgent && self.kept.task.failures == 0 && !self.kept.task.under_way;
        if !pressing && !self.kept.task.may(now) {
            return None;
        }
        self.next_save_now()
    }

    /// The same without regard to how often.
    pub(super) fn next_save_now(&mut self) -> Option<Save> {
        if self.kept.revision == self.state.revision || self.kept.task.under_way {
            return None;
        }
        let revision = self.state.revision;
        self.kept.urgent = false;
        if self.state.is_trivial() {
            if !self.kept.stored {
                self.kept.revision = revision;
                self.state.saved = revision;
                return None;
            }
            self.kept.task.under_way = true;
            return Some(Save {
                revision,
                packed: None,
                shed: Vec::new(),
            });
        }
        self.kept.task.under_way = true;
        let (packed, shed) = durable::pack(&mut self.state);
        self.kept.size = packed.len();
        Some(Save {
            revision,
            packed: Some(packed),
            shed,
        })
    }

    pub(super) fn saved(&mut self, revision: u64, removed: bool, result: Result<(), String>, now: Timestamp) {
        match result {
            Ok(()) => {
                self.kept.task.ended(true, now);
                let weight = u64::try_from(self.kept.size / BYTES_PER_MILLISECOND).unwrap_or(u64::MAX);
                self.kept.task.rests(Duration::from_millis(weight));
                self.kept.stored = !removed;
                self.kept.revision = revision;
                self.state.saved = self.state.saved.max(revision);
            }
            Err(error) => {
                self.kept.task.ended(false, now);
                tracing::warn!(policy = self.uid, error, "state of an alert policy not saved");
                if self.kept.task.failures >= MAX_SAVE_FAILURES {
                    // Better sent twice after a crash than not at all.
                    self.state.saved = self.state.revision;
                }
            }
        }
    }

    /// The next delivery to start.
    pub(super) fn next_delivery(&mut self, view: &impl ClusterView, now: Timestamp) -> Option<Delivery> {
        let saved = self.state.saved;
        let active = self.carried_out().is_some();
        let destinations = self.state.destinations.iter_mut();
        let mut able = destinations.filter(|destination| active || destination.is_retired());
        able.find_map(|destination| {
            let mut message = destination.queue.start(saved, now)?;
            message.content.complete(|kind, namespace, name| {
                let found = Watched::of(view, kind, namespace, name)?;
                Some((found.metadata().uid.clone()?, found.subject()?))
            });
            Some(Delivery {
                destination: destination.id,
                receiver: destination.receiver.clone(),
                retired: destination.is_retired(),
                message,
            })
        })
    }

    pub(super) fn sent(&mut self, destination: Id, message: &Message, outcome: Outcome, now: Timestamp) -> Verdict {
        self.stale = true;
        let how = (self.generation.unwrap_or_default(), rand::random());
        self.state.sent(destination, message, outcome, how, now)
    }

    /// A test that was asked for and not answered.
    pub(super) fn next_test(&mut self) -> Option<(Timestamp, Vec<Receiver>)> {
        let policy = self.policy.as_ref().ok().filter(|_| !self.deleted)?;
        let asked = policy.test?;
        let answered = self.test.as_ref().is_some_and(|test| test.requested_at >= asked);
        if answered || self.testing {
            return None;
        }
        self.testing = true;
        Some((asked, policy.receivers.clone()))
    }

    pub(super) fn tested(&mut self, test: TestStatus) {
        self.test = Some(test);
        self.testing = false;
        self.stale = true;
    }

    /// The status to be written now.
    pub(super) fn next_status(&mut self, now: Timestamp) -> Option<AlertPolicyStatus> {
        if self.deleted || !self.stale || !self.writes.may(now) {
            return None;
        }
        self.stale = false;
        let status = match &self.policy {
            Ok(policy) if !self.crowded => status::status(policy, &self.known, &self.state, self.test.clone(), now),
            Ok(_) => status::inactive(&self.known, &status::crowded(), self.generation, now),
            Err(inactive) => status::inactive(&self.known, inactive, self.generation, now),
        };
        if status == self.known {
            return None;
        }
        self.writes.under_way = true;
        Some(status)
    }

    pub(super) fn written(&mut self, status: AlertPolicyStatus, result: Result<(), String>, now: Timestamp) {
        self.writes.ended(result.is_ok(), now);
        match result {
            Ok(()) => self.known = status,
            Err(error) => {
                tracing::warn!(policy = self.uid, error, "status of an alert policy not written");
                self.stale = true;
            }
        }
    }

    /// When something is to be done for it.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let task =
            |wanted: bool, task: &BackgroundTask| (wanted && !task.under_way).then(|| task.not_before.unwrap_or(now));
        let save = task(self.kept.revision != self.state.revision, &self.kept.task);
        let write = task(self.stale && !self.deleted, &self.writes);
        let carried_out = self.carried_out();
        let repeat = carried_out.and(self.state.repeat_at);
        let heartbeat = carried_out.and_then(|policy| super::notifier::heartbeat_at(policy, &self.state, now));
        let destinations = self.state.destinations.iter();
        let sends = destinations.flat_map(|destination| {
            let able = carried_out.is_some() || destination.is_retired();
            let due = destination.queue.due(self.state.saved).filter(|_| able);
            [due, destination.retired_until]
        });
        let times = [save, write, repeat, heartbeat].into_iter().chain(sends);
        times.flatten().min()
    }
}

/// A state to be made durable.
pub(super) struct Save {
    /// Content of the save.
    pub(super) revision: u64,
    /// None when there is nothing to remember.
    pub(super) packed: Option<Vec<u8>>,
    /// Deliveries that were given up to make it small enough.
    pub(super) shed: GivenUp,
}

/// A policy that is carried out.
pub(super) struct Active<'a> {
    pub(super) policy: &'a Policy,
    pub(super) state: &'a mut State,
}

/// The Certificates that a delivery speaks of, as far as it names them.
pub(super) fn subjects(content: &Content) -> Vec<Arc<Subject>> {
    match content {
        Content::Alert(alert) => vec![alert.subject.clone()],
        Content::Group(group) => group.first.clone(),
        Content::Batch { alerts, .. } => alerts.iter().take(20).map(|alert| alert.subject.clone()).collect(),
        Content::Heartbeat { .. } | Content::Test => Vec::new(),
    }
}
