//! Deliveries that wait for one receiver: pure, and the same after a restart.
//!
//! Each delivery has the schedule of Standard Webhooks, and its first try at once, however the
//! receiver does otherwise; one that is taken shows that the receiver lives, so everything that
//! waits is tried again. Of one alert the earlier word goes before the later one, unless the receiver
//! refuses the earlier one. What is new goes first, the most severe before others.

mod outcome;

use std::{
    cmp::Reverse,
    collections::{HashSet, VecDeque},
    time::Duration,
};

use gatehouse_crds::alert::Severity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    batch::{self, BATCH},
    message::{Alert, Content, Message, Status},
};

pub use outcome::{Outcome, Verdict};

/// So many wait at most, as long as some of them may be dropped: critical ones never are.
pub const MAX_QUEUED: usize = 1_000;

/// A delivery waits as long as the receiver asks. What comes after it waits for so long at most: a receiver that asks for a
/// day of silence gets one request in this time, and only when there is something new.
const MAX_HOLD: Duration = Duration::from_mins(15);

/// The longest pause between two tries, `Retry-After` and jitter included.
const MAX_PAUSE: Duration = Duration::from_hours(29);

/// One delivery that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueuedDelivery {
    pub message: Message,
    #[serde(default)]
    attempts: u32,
    /// When it is tried.
    next: Timestamp,
    /// The receiver refused it: nothing waits for it, and nothing new is put into its request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
    /// Number of deliveries that had been accepted when its one alert was first refused.
    #[serde(skip)]
    refused_after: Option<u64>,
    /// The write of the durable state that has it; it is not sent before.
    #[serde(skip)]
    pub revision: u64,
}

/// The queue of one receiver, and how it does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    #[serde(default)]
    entries: VecDeque<QueuedDelivery>,
    #[serde(default)]
    pub failures: i64,
    #[serde(default)]
    pub last_success: Option<Timestamp>,
    #[serde(default)]
    pub last_failure: Option<Timestamp>,
    #[serde(default)]
    pub message: Option<String>,
    /// The generation of the policy whose receiver answered 410.
    #[serde(default)]
    pub stopped: Option<i64>,
    /// The receiver asked for silence until then.
    #[serde(default)]
    hold: Option<Timestamp>,
    /// The id of what is being sent.
    #[serde(skip)]
    in_flight: Option<String>,
    /// Deliveries that were accepted, and refusals since.
    #[serde(skip)]
    accepted: u64,
    #[serde(skip)]
    refusals: u32,
}

impl Queue {
    /// Puts `message` at the end; gives the number of those that had to go for it.
    pub fn push(&mut self, mut message: Message, revision: u64, now: Timestamp) -> usize {
        if self.stopped.is_some() {
            return 1;
        }
        if self.is_said(&message) {
            return 0;
        }
        if let Content::Batch { alerts, valid_seconds } = &mut message.content {
            self.merge(alerts, valid_seconds);
        } else {
            self.expedite(&message.content, now);
        }
        self.entries.push_back(QueuedDelivery {
            message,
            attempts: 0,
            next: now,
            refused: false,
            refused_after: None,
            revision,
        });
        let mut dropped = 0;
        while self.entries.len() > MAX_QUEUED {
            let Some(position) = self.least() else { break };
            self.entries.remove(position);
            dropped += 1;
        }
        dropped
    }

    /// Whether the same still waits: a repeat says nothing new then, nor does another heartbeat.
    fn is_said(&self, message: &Message) -> bool {
        let last = |key: &str| {
            self.entries
                .iter()
                .rev()
                .find(|entry| concerns(&entry.message.content, key))
        };
        match &message.content {
            Content::Alert(alert) => last(&alert.fingerprint).is_some_and(|entry| match &entry.message.content {
                Content::Alert(waiting) => {
                    (waiting.status, waiting.severity) == (alert.status, alert.severity) && waiting.since == alert.since
                }
                _ => false,
            }),
            Content::Group(group) => last(&group.fingerprint).is_some_and(|entry| match &entry.message.content {
                Content::Group(waiting) => {
                    (waiting.status, waiting.severity, waiting.count) == (group.status, group.severity, group.count)
                }
                _ => false,
            }),
            Content::Heartbeat { .. } => self
                .entries
                .iter()
                .any(|entry| matches!(entry.message.content, Content::Heartbeat { .. })),
            Content::Batch { .. } | Content::Test => false,
        }
    }

    /// Replaces what waits about `alerts`, and takes up other alerts that wait as long as the request has room.
    fn merge(&mut self, alerts: &mut Vec<Alert>, valid_seconds: &mut u64) {
        batch::latest(alerts);
        let in_flight = self.in_flight.clone();
        for entry in &mut self.entries {
            if in_flight.as_ref() == Some(&entry.message.id) {
                continue;
            }
            let Content::Batch {
                alerts: waiting,
                valid_seconds: valid,
            } = &mut entry.message.content
            else {
                continue;
            };
            batch::supersede(waiting, alerts);
            if !entry.refused && waiting.len() + alerts.len() <= BATCH {
                alerts.splice(0..0, waiting.drain(..));
                *valid_seconds = (*valid_seconds).max(*valid);
            }
        }
        self.entries.retain(|entry| !is_empty(&entry.message.content));
    }

    /// A newer word about an alert or a group does not wait for the back-off of older ones: those are tried at once, and the last
    /// of them is given up where the newer one says more.
    fn expedite(&mut self, newer: &Content, now: Timestamp) {
        let Some(line) = line(newer) else { return };
        let of_line = |entry: &QueuedDelivery| concerns(&entry.message.content, line);
        let last = self.entries.iter().rposition(of_line);
        let replaced = last.filter(|place| {
            self.entries.get(*place).is_some_and(|entry| {
                let severities = firing(&entry.message.content).zip(firing(newer));
                let says_more = severities.is_some_and(|(before, now)| now >= before);
                says_more && entry.attempts > 0 && self.in_flight.as_ref() != Some(&entry.message.id)
            })
        });
        if let Some(place) = replaced {
            self.entries.remove(place);
        }
        for entry in self.entries.iter_mut().filter(|entry| of_line(entry)) {
            entry.attempts = 0;
            entry.next = entry.next.min(now);
        }
    }

    /// The oldest of the least important ones; none when all are critical.
    fn least(&self) -> Option<usize> {
        let sendable = |entry: &QueuedDelivery| self.in_flight.as_ref() != Some(&entry.message.id);
        [Severity::Info, Severity::Warning].into_iter().find_map(|severity| {
            self.entries
                .iter()
                .position(|entry| self::severity(&entry.message.content) == severity && sendable(entry))
        })
    }

    /// Returns what is to be sent now, of what the durable state has up to `saved`. Marks it as being sent.
    pub fn start(&mut self, saved: u64, now: Timestamp) -> Option<Message> {
        let position = self.ready(saved, now)?;
        let message = self.entries.get(position)?.message.clone();
        self.in_flight = Some(message.id.clone());
        Some(message)
    }

    /// New deliveries go first: a receiver that takes its time to fail must not delay them.
    fn ready(&self, saved: u64, now: Timestamp) -> Option<usize> {
        if self.in_flight.is_some() || self.hold.is_some_and(|hold| hold > now) {
            return None;
        }
        let due = self.sendable(saved).filter(|(_, entry)| entry.next <= now);
        let first = due
            .min_by_key(|(position, entry)| (entry.attempts > 0, Reverse(severity(&entry.message.content)), *position));
        first.map(|(position, _)| position)
    }

    /// Returns when something is to be sent next; none while a delivery is in progress.
    pub fn due(&self, saved: u64) -> Option<Timestamp> {
        if self.in_flight.is_some() {
            return None;
        }
        let first = self.sendable(saved).map(|(_, entry)| entry.next).min()?;
        Some(self.hold.map_or(first, |hold| hold.max(first)))
    }

    /// Returns those that the durable state has, and before which nothing waits that concerns the same alert.
    fn sendable(&self, saved: u64) -> impl Iterator<Item = (usize, &QueuedDelivery)> {
        let mut blocked = HashSet::new();
        self.entries
            .iter()
            .enumerate()
            .filter(move |(_, entry)| {
                let Some(line) = line(&entry.message.content) else {
                    return true;
                };
                let free = !blocked.contains(line);
                if !entry.refused {
                    blocked.insert(line);
                }
                free
            })
            .filter(move |(_, entry)| entry.revision <= saved)
    }

    /// The policy's spec has changed: a receiver that was gone may be another one now, and one that failed repaired.
    pub fn spec_changed(&mut self, generation: i64, now: Timestamp) {
        if self.stopped.is_some_and(|stopped| stopped != generation) {
            self.restart();
        }
        self.hold = None;
        self.retry_now(now);
    }

    /// A Secret that the receiver needs has changed.
    pub fn secret_changed(&mut self, now: Timestamp) {
        self.restart();
        self.retry_now(now);
    }

    fn restart(&mut self) {
        if self.stopped.take().is_some() {
            self.failures = 0;
            self.message = None;
        }
    }

    fn retry_now(&mut self, now: Timestamp) {
        for entry in &mut self.entries {
            entry.next = entry.next.min(now);
        }
    }

    /// No wait is longer than one that starts now: the clock may have been ahead when it was written.
    pub fn clamp(&mut self, now: Timestamp) {
        let latest = |most: Duration| now.checked_add(most).unwrap_or(Timestamp::MAX);
        for entry in &mut self.entries {
            entry.next = entry.next.min(latest(MAX_PAUSE));
        }
        self.hold = self.hold.map(|hold| hold.min(latest(MAX_HOLD)));
        self.last_success = self.last_success.map(|time| time.min(now));
        self.last_failure = self.last_failure.map(|time| time.min(now));
    }

    /// Gives up what waits and is not above `least`. Gives how many that were.
    pub fn shed(&mut self, least: Severity) -> usize {
        let mut dropped = 0;
        self.entries.retain_mut(|entry| match &mut entry.message.content {
            Content::Batch { alerts, .. } => {
                let before = alerts.len();
                alerts.retain(|alert| alert.severity > least);
                dropped += before - alerts.len();
                !alerts.is_empty()
            }
            content => {
                let keep = severity(content) > least;
                dropped += usize::from(!keep);
                keep
            }
        });
        dropped
    }

    /// Keeps the ends of alerts, which are sent at once; what else waits is not sent any more.
    pub(super) fn retire(&mut self, now: Timestamp) {
        let in_flight = self.in_flight.clone();
        self.entries.retain_mut(|entry| {
            if in_flight.as_ref() == Some(&entry.message.id) {
                return true;
            }
            if let Content::Batch { alerts, .. } = &mut entry.message.content {
                alerts.retain(|alert| alert.status == Status::Resolved);
            }
            is_end(&entry.message.content) && !is_empty(&entry.message.content)
        });
        self.stopped = None;
        self.hold = None;
        self.retry_now(now);
    }

    /// Returns what another receiver gets in the place of this one: what was not sent yet, with its end.
    pub(super) fn undelivered(&self) -> Vec<Message> {
        let announced = self.announced(false);
        let wanted = |content: &Content| match content {
            Content::Heartbeat { .. } | Content::Test => false,
            content => !is_end(content) || announced.has(content),
        };
        let messages = self.entries.iter().map(|entry| &entry.message);
        messages.filter(|message| wanted(&message.content)).cloned().collect()
    }

    /// Takes out all that is not being sent and that `keep` does not want.
    pub fn take_waiting(&mut self, keep: impl Fn(&Content) -> bool) -> Vec<Message> {
        let in_flight = self.in_flight.clone();
        let mut taken = Vec::new();
        self.entries.retain_mut(|entry| {
            let stays = in_flight.as_ref() == Some(&entry.message.id) || keep(&entry.message.content);
            if !stays {
                taken.push(entry.message.clone());
            }
            stays
        });
        taken
    }

    /// Returns what is said to fire in what waits or, with `sending`, in what is being sent.
    pub fn announced(&self, sending: bool) -> Announced {
        let mut found = Announced::default();
        for entry in &self.entries {
            if sending && self.in_flight.as_ref() != Some(&entry.message.id) {
                continue;
            }
            match &entry.message.content {
                Content::Batch { alerts, .. } => found.alerts.extend(alerts.iter().map(batch::identity)),
                content if firing(content).is_some() => found.lines.extend(line(content).map(str::to_owned)),
                _ => {}
            }
        }
        found
    }

    /// Returns the number of deliveries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Deliveries that keep their order: of one alert, of one group.
fn line(content: &Content) -> Option<&str> {
    match content {
        Content::Alert(alert) => Some(&alert.fingerprint),
        Content::Group(group) => Some(&group.fingerprint),
        Content::Batch { .. } | Content::Heartbeat { .. } | Content::Test => None,
    }
}

/// Whether this is about the alert or group `fingerprint`.
fn concerns(content: &Content, fingerprint: &str) -> bool {
    line(content) == Some(fingerprint)
}

/// The severity of one that fires.
fn firing(content: &Content) -> Option<Severity> {
    match content {
        Content::Alert(alert) => (alert.status == Status::Firing).then_some(alert.severity),
        Content::Group(group) => (group.status == Status::Firing).then_some(group.severity),
        Content::Batch { .. } | Content::Heartbeat { .. } | Content::Test => None,
    }
}

/// Alerts and groups in queued deliveries.
#[derive(Default)]
pub struct Announced {
    lines: HashSet<String>,
    /// To an Alertmanager.
    alerts: HashSet<batch::Identity>,
}

impl Announced {
    /// Whether the alert or group of `content` is among them.
    pub fn has(&self, content: &Content) -> bool {
        let alert = match content {
            Content::Alert(alert) => self.alerts.contains(&batch::identity(alert)),
            _ => false,
        };
        alert || line(content).is_some_and(|line| self.lines.contains(line))
    }
}

/// Whether it ends something, and nothing else. A batch may do both: then it counts as news.
fn is_end(content: &Content) -> bool {
    match content {
        Content::Alert(alert) => alert.status == Status::Resolved,
        Content::Group(group) => group.status == Status::Resolved,
        Content::Batch { alerts, .. } => alerts.iter().all(|alert| alert.status == Status::Resolved),
        Content::Heartbeat { .. } | Content::Test => false,
    }
}

fn is_empty(content: &Content) -> bool {
    matches!(content, Content::Batch { alerts, .. } if alerts.is_empty())
}

/// Returns its severity.
fn severity(content: &Content) -> Severity {
    match content {
        Content::Alert(alert) => alert.severity,
        Content::Group(group) => group.severity,
        Content::Batch { alerts, .. } => {
            let worst = alerts.iter().map(|alert| alert.severity).max();
            worst.unwrap_or(Severity::Info)
        }
        Content::Heartbeat { .. } | Content::Test => Severity::Info,
    }
}

#[cfg(test)]
mod batch_tests;
#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
