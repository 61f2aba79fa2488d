//! One policy in the engine: what it asks for, its state, and which of its errands are under way.

use std::{sync::Arc, time::Duration};

use gatehouse_crds::alert::{AlertKind, AlertPolicyStatus, TestStatus};
use jiff::Timestamp;

use super::{
    durable,
    engine::{Sight, Watched},
    message::{Content, Message, Subject},
    policy::{Policy, Receiver},
    queue::{Outcome, Verdict},
    state::{Name, State},
    status::{self, Unfit},
    tell::Tell,
};
use crate::kubernetes::dependency::secret_names;

/// What nobody waits for is made durable, and told in the status, this often at most.
const LAZY: Duration = Duration::from_secs(1);
/// A state rests for a millisecond more for each so many bytes: in a storm it is large, and what a crash costs then are
/// repeats of a few more deliveries.
const LIGHT: usize = 50;
/// After so many failures to make the state durable, deliveries leave all the same.
const PATIENCE: u32 = 2;

/// A policy as the API server has it.
#[derive(Debug)]
pub struct Spec {
    pub uid: String,
    pub generation: Option<i64>,
    pub created: Option<Timestamp>,
    pub status: AlertPolicyStatus,
    /// What it asks for, or why that cannot be carried out.
    pub policy: Result<Policy, Unfit>,
}

/// A policy in the engine.
pub(super) struct Entry {
    pub(super) uid: String,
    pub(super) created: Option<Timestamp>,
    /// There are too many of them in its namespace.
    crowded: bool,
    pub(super) state: State,
    /// When the engine looks at it again.
    pub(super) wake: Option<Timestamp>,
    generation: Option<i64>,
    policy: Result<Policy, Unfit>,
    /// The status that the API server has.
    known: AlertPolicyStatus,
    test: Option<TestStatus>,
    testing: bool,
    kept: Kept,
    writes: Errand,
    /// The status may differ from the one that the API server has.
    stale: bool,
}

/// How far the state is durable.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    errand: Errand,
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
struct Errand {
    under_way: bool,
    failures: u32,
    /// Not before.
    not_before: Option<Timestamp>,
}

impl Errand {
    fn may(&self, now: Timestamp) -> bool {
        !self.under_way && self.not_before.is_none_or(|time| time <= now)
    }

    fn ended(&mut self, well: bool, now: Timestamp) {
        self.under_way = false;
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
        let pause = LAZY.saturating_mul(2u32.saturating_pow(self.failures.min(5)));
        self.not_before = now.checked_add(pause).ok();
    }

    /// Waits so much longer.
    fn rests(&mut self, more: Duration) {
        self.not_before = self.not_before.and_then(|time| time.checked_add(more).ok());
    }
}

impl Entry {
    pub(super) fn new(uid: String, stored: Option<State>) -> Self {
        Self {
            uid,
            created: None,
            crowded: false,
            kept: Kept {
                stored: stored.is_some(),
                ..Kept::default()
            },
            state: stored.unwrap_or_default(),
            wake: None,
            generation: None,
            policy: Err(Unfit {
                reason: "Pending",
                message: "It was not looked at yet.".into(),
            }),
            known: AlertPolicyStatus::default(),
            test: None,
            testing: false,
            writes: Errand::default(),
            stale: true,
        }
    }

    /// Takes the object as it is now. Gives whether the Certificates have to be judged anew.
    pub(super) fn update(&mut self, spec: Spec, now: Timestamp) -> bool {
        let first = self.generation.is_none() && self.created.is_none();
        let changed = first || self.generation != spec.generation || self.policy.is_err() != spec.policy.is_err();
        self.created = spec.created;
        self.generation = spec.generation;
        if first {
            self.test.clone_from(&spec.status.test);
            // A status that was lost, or written by somebody else, comes back.
            self.known = spec.status;
        } else if !self.writes.under_way {
            self.stale |= self.known != spec.status;
            self.known = spec.status;
        }
        self.policy = spec.policy;
        if changed {
            self.stale = true;
            if let Ok(policy) = &self.policy {
                let named = |name: &String| policy.receivers.iter().any(|receiver| receiver.name == *name);
                self.state.queues.retain(|name, _| named(name));
                for queue in self.state.queues.values_mut() {
                    queue.mended(policy.generation.unwrap_or_default(), now);
                }
                // The intervals may be others.
                self.state.repeat_at = Some(now);
            }
        }
        changed
    }

    /// A Secret of a receiver has changed: what was refused with its content is tried again.
    pub(super) fn secret_changed(&mut self, now: Timestamp) {
        let Ok(policy) = &self.policy else { return };
        for receiver in &policy.receivers {
            if let Some(queue) = self.state.queues.get_mut(&receiver.name)
                && !secret_names(&receiver.webhook).is_empty()
            {
                self.stale |= queue.stopped.is_some();
                queue.secret_changed(now);
            }
        }
    }

    /// Takes whether it is one too many in its namespace. Gives whether that is new.
    pub(super) fn crowd(&mut self, crowded: bool) -> bool {
        let changed = self.crowded != crowded;
        self.crowded = crowded;
        self.stale |= changed;
        changed
    }

    /// Whether there is, or may be in a moment, an object that holds its state.
    pub(super) fn is_stored(&self) -> bool {
        self.kept.stored || self.kept.errand.under_way
    }

    /// What is carried out.
    pub(super) fn active(&mut self) -> Option<Active<'_>> {
        let policy = self.policy.as_ref().ok().filter(|_| !self.crowded)?;
        Some(Active {
            policy,
            state: &mut self.state,
        })
    }

    pub(super) fn reads_namespaces(&self) -> bool {
        self.policy.as_ref().is_ok_and(Policy::reads_namespaces)
    }

    /// Puts the news into the queues. Gives how many deliveries were dropped for it, by receiver.
    pub(super) fn tell(&mut self, sight: &impl Sight, now: Timestamp) -> Vec<(String, usize)> {
        let Ok(policy) = &self.policy else { return Vec::new() };
        if self.crowded {
            return Vec::new();
        }
        let look = |kind: AlertKind, name: &Name| {
            let found = Watched::of(sight, kind, &name.namespace, &name.name)?;
            let same = found.metadata().uid.as_deref() == Some(&name.uid);
            found.subject().filter(|_| same).map(Arc::new)
        };
        let before = self.state.revision;
        let mut tell = Tell::new(policy, &look, now);
        tell.tell(&mut self.state);
        let dropped = tell.dropped();
        if self.state.revision != before {
            self.kept.urgent = true;
            self.stale = true;
        }
        dropped
    }

    /// The state to be made durable now, under its revision; none inside removes it.
    pub(super) fn next_save(&mut self, now: Timestamp) -> Option<(u64, Option<Vec<u8>>)> {
        let pressing = self.kept.urgent && self.kept.errand.failures == 0 && !self.kept.errand.under_way;
        if !pressing && !self.kept.errand.may(now) {
            return None;
        }
        self.next_save_now()
    }

    /// The same without regard to how often.
    pub(super) fn next_save_now(&mut self) -> Option<(u64, Option<Vec<u8>>)> {
        if self.kept.revision == self.state.revision || self.kept.errand.under_way {
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
            self.kept.errand.under_way = true;
            return Some((revision, None));
        }
        self.kept.errand.under_way = true;
        let packed = durable::pack(&mut self.state);
        self.kept.size = packed.len();
        Some((revision, Some(packed)))
    }

    pub(super) fn saved(&mut self, revision: u64, removed: bool, result: Result<(), String>, now: Timestamp) {
        match result {
            Ok(()) => {
                self.kept.errand.ended(true, now);
                let weight = u64::try_from(self.kept.size / LIGHT).unwrap_or(u64::MAX);
                self.kept.errand.rests(Duration::from_millis(weight));
                self.kept.stored = !removed;
                self.kept.revision = revision;
                self.state.saved = self.state.saved.max(revision);
            }
            Err(error) => {
                self.kept.errand.ended(false, now);
                tracing::warn!(policy = self.uid, error, "what is to be sent could not be made durable");
                if self.kept.errand.failures >= PATIENCE {
                    // Better told twice after a crash than not at all.
                    self.state.saved = self.state.revision;
                }
            }
        }
    }

    /// The next delivery to start.
    pub(super) fn next_delivery(&mut self, sight: &impl Sight, now: Timestamp) -> Option<(Receiver, Message)> {
        let policy = self.policy.as_ref().ok().filter(|_| !self.crowded)?;
        let saved = self.state.saved;
        policy.receivers.iter().find_map(|receiver| {
            let mut message = self.state.queues.get_mut(&receiver.name)?.start(saved, now)?;
            message.content.complete(|kind, namespace, name| {
                let found = Watched::of(sight, kind, namespace, name)?;
                Some((found.metadata().uid.clone()?, found.subject()?))
            });
            Some((receiver.clone(), message))
        })
    }

    pub(super) fn sent(&mut self, receiver: &str, id: &str, outcome: Outcome, now: Timestamp) -> Verdict {
        let Some(queue) = self.state.queues.get_mut(receiver) else {
            return Verdict::Delivered;
        };
        let verdict = queue.ended(id, outcome, self.generation.unwrap_or_default(), rand::random(), now);
        self.state.changed();
        self.stale = true;
        verdict
    }

    /// A test that was asked for and not answered.
    pub(super) fn next_test(&mut self) -> Option<(Timestamp, Vec<Receiver>)> {
        let policy = self.policy.as_ref().ok()?;
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
        if !self.stale || !self.writes.may(now) {
            return None;
        }
        self.stale = false;
        let status = match &self.policy {
            Ok(policy) if !self.crowded => status::status(policy, &self.known, &self.state, self.test.clone(), now),
            Ok(_) => status::unfit(&self.known, &status::crowded(), self.generation, now),
            Err(unfit) => status::unfit(&self.known, unfit, self.generation, now),
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
                tracing::warn!(policy = self.uid, error, "the status of a policy could not be written");
                self.stale = true;
            }
        }
    }

    /// When something is to be done for it.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let errand =
            |wanted: bool, errand: &Errand| (wanted && !errand.under_way).then(|| errand.not_before.unwrap_or(now));
        let save = errand(self.kept.revision != self.state.revision, &self.kept.errand);
        let write = errand(self.stale, &self.writes);
        let carried_out = self.policy.as_ref().ok().filter(|_| !self.crowded);
        let told = carried_out.and(self.state.repeat_at);
        let heartbeat = carried_out.and_then(|policy| super::tell::heartbeat_at(policy, &self.state, now));
        let sends = carried_out
            .into_iter()
            .flat_map(|policy| &policy.receivers)
            .filter_map(|receiver| self.state.queues.get(&receiver.name)?.due(self.state.saved));
        [save, write, told, heartbeat].into_iter().flatten().chain(sends).min()
    }
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
