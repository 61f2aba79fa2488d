//! What waits to be sent to one receiver: pure, and the same after a restart.
//!
//! Each delivery has the schedule of Standard Webhooks, and its first try at once, however the
//! receiver does otherwise; one that is taken shows that the receiver lives, so everything that
//! waits is tried again. Of one alert the earlier word always goes before the later one.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use gatehouse_crds::alert::Severity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::message::{Content, Message};

/// So many wait at most, as long as some of them may be dropped: critical ones never are.
pub const LIMIT: usize = 1_000;

/// Pauses after the first failure, the second, … (Standard Webhooks 1.0.0, "Deliverability and reliability").
const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Accepted,
    /// 410: nothing is to be sent there any more.
    Gone { message: String },
    /// It is not taken; others may be.
    Refused { message: String, after: Option<Duration> },
    /// The receiver takes nothing now.
    Unavailable { message: String, after: Option<Duration> },
}

/// What became of a delivery that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    /// It is tried again; `first` when it had not failed before.
    Again {
        first: bool,
    },
    /// It is given up, as so many with it.
    Dropped(usize),
}

/// One delivery that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub message: Message,
    #[serde(default)]
    attempts: u32,
    /// When it is tried.
    next: Timestamp,
    /// The write of the durable state that has it; it is not sent before.
    #[serde(skip)]
    pub revision: u64,
}

/// The queue of one receiver, and how it does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    #[serde(default)]
    entries: VecDeque<Entry>,
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
}

impl Queue {
    /// Puts `message` at the end; gives the number of those that had to go for it.
    pub fn push(&mut self, message: Message, revision: u64, now: Timestamp) -> usize {
        if self.stopped.is_some() {
            return 1;
        }
        if self.is_said(&message) {
            return 0;
        }
        self.entries.push_back(Entry {
            message,
            attempts: 0,
            next: now,
            revision,
        });
        let mut dropped = 0;
        while self.entries.len() > LIMIT {
            let Some(position) = self.least() else { break };
            self.entries.remove(position);
            dropped += 1;
        }
        dropped
    }

    /// Whether the same still waits: a repeat says nothing new then, nor does another sign of life.
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

    /// The oldest of the least important ones; none when all are critical.
    fn least(&self) -> Option<usize> {
        let sendable = |entry: &Entry| self.in_flight.as_ref() != Some(&entry.message.id);
        [Severity::Info, Severity::Warning].into_iter().find_map(|severity| {
            self.entries
                .iter()
                .position(|entry| self::severity(&entry.message.content) == severity && sendable(entry))
        })
    }

    /// What is to be sent now, of what the durable state has up to `saved`. Marks it as being sent.
    pub fn start(&mut self, saved: u64, now: Timestamp) -> Option<Message> {
        let position = self.ready(saved, now)?;
        let message = self.entries.get(position)?.message.clone();
        self.in_flight = Some(message.id.clone());
        Some(message)
    }

    fn ready(&self, saved: u64, now: Timestamp) -> Option<usize> {
        if self.in_flight.is_some() || self.hold.is_some_and(|hold| hold > now) {
            return None;
        }
        let (position, _) = self.sendable(saved).find(|(_, entry)| entry.next <= now)?;
        Some(position)
    }

    /// When something is to be sent at the earliest; none while something is under way.
    pub fn due(&self, saved: u64) -> Option<Timestamp> {
        if self.in_flight.is_some() {
            return None;
        }
        let first = self.sendable(saved).map(|(_, entry)| entry.next).min()?;
        Some(self.hold.map_or(first, |hold| hold.max(first)))
    }

    /// Those that the durable state has, and before which nothing waits that concerns the same alert.
    fn sendable(&self, saved: u64) -> impl Iterator<Item = (usize, &Entry)> {
        let mut before = HashSet::new();
        self.entries
            .iter()
            .enumerate()
            .filter(move |(_, entry)| line(&entry.message.content).is_none_or(|line| before.insert(line)))
            .filter(move |(_, entry)| entry.revision <= saved)
    }

    /// The try of `id` has ended. `jitter` is 0 to 1; `generation` is the policy's.
    pub fn ended(&mut self, id: &str, outcome: Outcome, generation: i64, jitter: f64, now: Timestamp) -> Verdict {
        self.in_flight = None;
        let Some(position) = self.entries.iter().position(|entry| entry.message.id == id) else {
            // Dropped with the receiver or for its age while it was under way.
            return Verdict::Delivered;
        };
        match outcome {
            Outcome::Accepted => {
                self.entries.remove(position);
                self.failures = 0;
                self.message = None;
                self.hold = None;
                self.last_success = Some(now);
                for entry in &mut self.entries {
                    entry.next = entry.next.min(now);
                }
                Verdict::Delivered
            }
            Outcome::Gone { message } => {
                self.failed(message, now);
                self.stopped = Some(generation);
                let dropped = self.entries.len();
                self.entries.clear();
                Verdict::Dropped(dropped)
            }
            Outcome::Refused { message, after } => {
                self.failed(message, now);
                self.again(position, after, jitter, now)
            }
            Outcome::Unavailable { message, after } => {
                self.failed(message, now);
                self.hold = after.and_then(|after| now.checked_add(after).ok());
                self.again(position, after, jitter, now)
            }
        }
    }

    fn failed(&mut self, message: String, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(now);
        self.message = Some(message);
    }

    fn again(&mut self, position: usize, after: Option<Duration>, jitter: f64, now: Timestamp) -> Verdict {
        let Some(entry) = self.entries.get_mut(position) else {
            return Verdict::Delivered;
        };
        let tried = usize::try_from(entry.attempts).unwrap_or(usize::MAX);
        let pause = match SCHEDULE.get(tried) {
            Some(pause) => *pause,
            None if severity(&entry.message.content) == Severity::Critical => Duration::from_secs(24 * 3600),
            None => {
                self.entries.remove(position);
                return Verdict::Dropped(1);
            }
        };
        // Spread by up to a fifth, so that what failed together is not tried together.
        let pause = pause
            .mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 5.0)
            .max(after.unwrap_or_default());
        let first = entry.attempts == 0;
        entry.attempts = entry.attempts.saturating_add(1);
        entry.next = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        Verdict::Again { first }
    }

    /// A Secret of the receiver has changed: it may be another one now, and what it lacked may be there.
    pub fn secret_changed(&mut self, now: Timestamp) {
        self.mended(i64::MIN, now);
    }

    /// The policy's spec has changed: a receiver that was gone may be another one now, and one that failed mended.
    pub fn mended(&mut self, generation: i64, now: Timestamp) {
        if self.stopped.is_some_and(|stopped| stopped != generation) {
            self.stopped = None;
            self.failures = 0;
            self.message = None;
        }
        self.hold = None;
        for entry in &mut self.entries {
            entry.next = entry.next.min(now);
        }
    }

    /// Gives up what waits and is not above `least`. Gives how many that were.
    pub fn shed(&mut self, least: Severity) -> usize {
        let before = self.entries.len();
        self.entries.retain(|entry| severity(&entry.message.content) > least);
        before - self.entries.len()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What is said in order: of one alert, of one group, to an Alertmanager.
fn line(content: &Content) -> Option<&str> {
    match content {
        Content::Alert(alert) => Some(&alert.fingerprint),
        Content::Group(group) => Some(&group.fingerprint),
        Content::Batch { .. } => Some("batch"),
        Content::Heartbeat { .. } | Content::Test => None,
    }
}

/// Whether this is about the alert or group `fingerprint`.
fn concerns(content: &Content, fingerprint: &str) -> bool {
    match content {
        Content::Alert(alert) => alert.fingerprint == fingerprint,
        Content::Group(group) => group.fingerprint == fingerprint,
        Content::Batch { .. } | Content::Heartbeat { .. } | Content::Test => false,
    }
}

/// How important it is.
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
#[path = "queue_tests.rs"]
mod tests;
