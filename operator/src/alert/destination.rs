//! The receivers of a policy in its state: each with its queue, and with the alerts that were delivered to it.
//!
//! A receiver that left the policy, or that now points elsewhere, is retired: it gets the end of the alerts that it received, and
//! then it is forgotten. What it takes to send that is in the state, so that it works after a restart and after the policy is
//! deleted.

use std::{collections::HashSet, time::Duration};

use gatehouse_crds::alert::Severity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    message::{Content, Message, Status, fingerprint},
    policy::Receiver,
    queue::{Outcome, Queue, Verdict},
    state::State,
};

/// A retired receiver is tried for so long.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_hours(1);

/// A larger CA bundle is not kept for the time after the policy: the state of a policy has to fit into one object.
const LARGE_BUNDLE: usize = 32 * 1024;

/// Identifies a destination of a policy.
pub type Id = u8;

/// So many destinations a policy may have, with those that are retired: twice the receivers that a spec may name.
const MAX_DESTINATIONS: Id = 32;

/// A set of destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DestinationSet(u32);

impl DestinationSet {
    /// Whether `id` is in it.
    pub fn has(self, id: Id) -> bool {
        self.0 & Self::bit(id) != 0
    }

    /// Adds `id`.
    pub fn add(&mut self, id: Id) {
        self.0 |= Self::bit(id);
    }

    /// Removes `id`.
    pub fn remove(&mut self, id: Id) {
        self.0 &= !Self::bit(id);
    }

    /// Whether none is in it.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn bit(id: Id) -> u32 {
        1u32.checked_shl(id.into()).unwrap_or_default()
    }
}

/// One receiver, now or formerly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    pub id: Id,
    #[serde(serialize_with = "compact")]
    pub receiver: Receiver,
    #[serde(default)]
    pub queue: Queue,
    /// It is no receiver of the policy any more, and is tried until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_until: Option<Timestamp>,
    /// It has the name of this one, which is retired for it. The alerts that that one received are to be sent here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeds: Option<Id>,
}

impl Destination {
    /// Whether it is no receiver of the policy any more.
    pub fn is_retired(&self) -> bool {
        self.retired_until.is_some()
    }

    fn retire(&mut self, now: Timestamp) {
        if self.retired_until.is_none() {
            self.retired_until = Some(now.checked_add(RESOLVE_TIMEOUT).unwrap_or(Timestamp::MAX));
            self.succeeds = None;
            self.queue.retire(now);
        }
    }

    /// Limits what was written by a clock that was ahead.
    pub fn clamp(&mut self, now: Timestamp) {
        self.queue.clamp(now);
        let latest = now.checked_add(RESOLVE_TIMEOUT).unwrap_or(Timestamp::MAX);
        self.retired_until = self.retired_until.map(|until| until.min(latest));
    }

    fn is_done(&self, now: Timestamp) -> bool {
        self.retired_until
            .is_some_and(|until| until <= now || self.queue.is_empty())
    }
}

fn compact<S: Serializer>(receiver: &Receiver, serializer: S) -> Result<S::Ok, S::Error> {
    let bundle = receiver.webhook.ca_bundle.as_ref().map_or(0, String::len);
    if bundle <= LARGE_BUNDLE {
        return receiver.serialize(serializer);
    }
    let mut receiver = receiver.clone();
    receiver.webhook.ca_bundle = None;
    receiver.serialize(serializer)
}

impl State {
    /// Returns the destination `id`.
    pub fn destination_mut(&mut self, id: Id) -> Option<&mut Destination> {
        self.destinations.iter_mut().find(|destination| destination.id == id)
    }

    /// Returns the queue of the receiver of that name.
    pub fn queue(&self, name: &str) -> Option<&Queue> {
        let mut current = self.destinations.iter().filter(|destination| !destination.is_retired());
        Some(&current.find(|destination| destination.receiver.name == name)?.queue)
    }

    /// Takes the receivers of the spec. One that was known keeps its queue, also under a new name; one that is not named any
    /// more, or that has become another service, is retired.
    pub fn sync(&mut self, receivers: &[Receiver], generation: i64, now: Timestamp) {
        let known = self.matches(receivers);
        let matched: HashSet<Id> = known.iter().flatten().copied().collect();
        let mut retiring: Vec<(String, Id)> = Vec::new();
        for destination in &mut self.destinations {
            if !matched.contains(&destination.id) && !destination.is_retired() {
                retiring.push((destination.receiver.name.clone(), destination.id));
            }
        }
        for (receiver, known) in receivers.iter().zip(known) {
            if let Some(destination) = known.and_then(|id| self.destination_mut(id)) {
                if destination.receiver.least < receiver.least {
                    let least = receiver.least;
                    destination.queue.take_waiting(|content| !is_below(content, least));
                }
                destination.receiver = receiver.clone();
                destination.retired_until = None;
                destination.queue.spec_changed(generation, now);
            } else {
                let before = retiring.iter().find(|(name, _)| *name == receiver.name);
                self.open(receiver, before.map(|(_, id)| *id), now);
            }
        }
        for (_, id) in retiring {
            if let Some(destination) = self.destination_mut(id) {
                destination.retire(now);
            }
        }
        self.withdraw_due = true;
    }

    /// Finds for each receiver the destination that it is: first by its name, then one that was renamed.
    fn matches(&self, receivers: &[Receiver]) -> Vec<Option<Id>> {
        let mut found: Vec<Option<Id>> = vec![None; receivers.len()];
        for by_name in [true, false] {
            for place in 0..receivers.len() {
                let Some(receiver) = receivers.get(place).filter(|_| found.get(place) == Some(&None)) else {
                    continue;
                };
                let same = self.destinations.iter().find(|destination| {
                    let named = destination.receiver.name == receiver.name;
                    destination.receiver.same_destination(receiver)
                        && (named || !by_name)
                        && !found.contains(&Some(destination.id))
                });
                if let (Some(slot), Some(same)) = (found.get_mut(place), same) {
                    *slot = Some(same.id);
                }
            }
        }
        found
    }

    /// Adds a destination; it takes over what waits for the one that it succeeds.
    fn open(&mut self, receiver: &Receiver, succeeds: Option<Id>, now: Timestamp) {
        let mut id = (0..MAX_DESTINATIONS).find(|id| self.destinations.iter().all(|other| other.id != *id));
        if id.is_none() {
            // Only retired ones can be so many: the one that was retired first goes.
            let retired = self.destinations.iter().filter(|other| other.is_retired());
            id = retired.min_by_key(|other| other.retired_until).map(|other| other.id);
            if let Some(id) = id {
                self.close(id);
            }
        }
        let Some(id) = id else { return };
        let mut queue = Queue::default();
        let waiting = succeeds.and_then(|before| Some(self.destination_mut(before)?.queue.undelivered()));
        self.changed();
        for message in waiting.into_iter().flatten() {
            queue.push(message, self.revision, now);
        }
        self.destinations.push(Destination {
            id,
            receiver: receiver.clone(),
            queue,
            retired_until: None,
            succeeds,
        });
    }

    /// Retires all, since the policy is no longer active.
    pub fn retire_all(&mut self, now: Timestamp) {
        for destination in &mut self.destinations {
            destination.retire(now);
        }
        self.withdraw_due = true;
    }

    /// Forgets the retired ones that have received everything, or whose time is over. Returns how many deliveries each gave up.
    pub fn forget_retired(&mut self, now: Timestamp) -> Vec<(String, usize)> {
        let done: Vec<Id> = self
            .destinations
            .iter()
            .filter(|destination| destination.is_done(now))
            .map(|destination| destination.id)
            .collect();
        done.into_iter().filter_map(|id| self.close(id)).collect()
    }

    fn close(&mut self, id: Id) -> Option<(String, usize)> {
        let place = self.destinations.iter().position(|destination| destination.id == id)?;
        let destination = self.destinations.remove(place);
        for firing in self.firing.values_mut() {
            firing.delivered_to.remove(id);
        }
        for group in self.groups.values_mut() {
            group.delivered_to.remove(id);
        }
        self.changed();
        let left = destination.queue.len();
        (left > 0).then_some((destination.receiver.name, left))
    }

    /// Takes how the try of `message` ended.
    pub fn sent(
        &mut self,
        id: Id,
        message: &Message,
        outcome: Outcome,
        (generation, jitter): (i64, f64),
        now: Timestamp,
    ) -> Verdict {
        let accepted = outcome == Outcome::Accepted;
        let Some(destination) = self.destination_mut(id) else {
            return Verdict::Delivered { dropped: 0 };
        };
        let verdict = destination.queue.ended(&message.id, outcome, generation, jitter, now);
        let (retired, least) = (destination.is_retired(), destination.receiver.least);
        if accepted && !retired {
            self.delivered(id, &message.content, least);
        }
        self.changed();
        verdict
    }

    /// Records that `id` received something that fires.
    fn delivered(&mut self, id: Id, content: &Content, least: Severity) {
        match content {
            Content::Alert(alert) => self.alert_delivered(id, alert, least),
            Content::Batch { alerts, .. } => alerts.iter().for_each(|alert| self.alert_delivered(id, alert, least)),
            Content::Group(sent) if sent.status == Status::Firing && sent.severity >= least => {
                let group = self
                    .groups
                    .values_mut()
                    .find(|group| group.fingerprint == sent.fingerprint);
                if let Some(group) = group {
                    group.delivered_to.add(id);
                }
            }
            Content::Group(_) | Content::Heartbeat { .. } | Content::Test => {}
        }
    }

    fn alert_delivered(&mut self, id: Id, alert: &super::message::Alert, least: Severity) {
        if alert.status != Status::Firing || alert.severity < least {
            return;
        }
        let subject = &alert.subject;
        for key in self.of(alert.rule.kind(), &subject.namespace, &subject.name) {
            if key.rule == alert.rule
                && fingerprint(&key.name.uid, key.rule) == alert.fingerprint
                && let Some(firing) = self.firing.get_mut(&key)
            {
                firing.delivered_to.add(id);
            }
        }
    }
}

fn is_below(content: &Content, least: Severity) -> bool {
    match content {
        Content::Alert(alert) => alert.status == Status::Firing && alert.severity < least,
        Content::Group(group) => group.status == Status::Firing && group.severity < least,
        Content::Batch { .. } | Content::Heartbeat { .. } | Content::Test => false,
    }
}

#[cfg(test)]
#[path = "destination_tests.rs"]
mod tests;
