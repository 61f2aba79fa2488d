//! Outcome of a delivery after an attempt.

use std::time::Duration;

use gatehouse_crds::alert::Severity;
use jiff::Timestamp;

use super::{MAX_HOLD, Queue, QueuedDelivery, concerns, line, severity};
use crate::alert::{batch, message::Content};

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

/// After so many refusals in a row it is not one alert that the receiver refuses, and no request is split any more. Eight
/// halvings lead from [`BATCH`] alerts to one.
const MAX_SPLITS: u32 = 12;

/// Pause and end of deliveries that some addresses of the receiver took and others did not.
const PARTIAL_PAUSE: Duration = Duration::from_mins(5);
const PARTIAL_END: Duration = Duration::from_hours(24);

/// Result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Accepted,
    /// The receiver's format has no message for it: nothing was sent.
    NotSent,
    /// 410: nothing is to be sent there any more.
    Gone { message: String },
    /// It is not taken; others may be. `content` when another body might have been taken.
    Refused {
        message: String,
        after: Option<Duration>,
        content: bool,
    },
    /// The receiver takes nothing now.
    Unavailable { message: String, after: Option<Duration> },
    /// Some of several servers behind one name accepted it.
    Partial { message: String },
}

impl Outcome {
    /// Returns why it was not taken.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Accepted | Self::NotSent => None,
            Self::Gone { message }
            | Self::Refused { message, .. }
            | Self::Unavailable { message, .. }
            | Self::Partial { message } => Some(message),
        }
    }
}

/// State of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken. `dropped` earlier words about the same alert, which the receiver had refused, are out of date.
    Delivered { dropped: usize },
    /// It is tried again; `first` when it had not failed before.
    Again { first: bool },
    /// It is tried again in halves.
    Split,
    /// It is given up, as so many with it.
    Dropped(usize),
}

impl Queue {
    /// The try of `id` has ended. `jitter` is 0 to 1; `generation` is the policy's.
    pub fn ended(&mut self, id: &str, outcome: Outcome, generation: i64, jitter: f64, now: Timestamp) -> Verdict {
        self.in_flight = None;
        let place = |queue: &Self| queue.entries.iter().position(|entry| entry.message.id == id);
        let Some(position) = place(self) else {
            // Dropped with the receiver or for its age while it was under way.
            return Verdict::Delivered { dropped: 0 };
        };
        match outcome {
            Outcome::Accepted => self.accept(position, now),
            Outcome::NotSent => {
                self.entries.remove(position);
                Verdict::Delivered { dropped: 0 }
            }
            Outcome::Gone { message } => {
                self.failed(message, now);
                self.stopped = Some(generation);
                let dropped = self.entries.len();
                self.entries.clear();
                Verdict::Dropped(dropped)
            }
            Outcome::Refused {
                message,
                after,
                content,
            } => {
                self.failed(message, now);
                self.refusals = self.refusals.saturating_add(1);
                if !self.is_current(position) {
                    return Verdict::Again { first: false };
                }
                if let Some(verdict) = self.split(position, now).filter(|_| content) {
                    return verdict;
                }
                if let Some(entry) = self.entries.get_mut(position) {
                    entry.refused = true;
                }
                self.again(position, after, jitter, now)
            }
            Outcome::Unavailable { message, after } => {
                self.failed(message, now);
                self.hold = after.and_then(|after| now.checked_add(after.min(MAX_HOLD)).ok());
                if !self.is_current(position) {
                    return Verdict::Again { first: false };
                }
                self.again(position, after, jitter, now)
            }
            Outcome::Partial { message } => {
                self.failed(message, now);
                if !self.is_current(position) {
                    return Verdict::Again { first: false };
                }
                self.again_soon(position, jitter, now)
            }
        }
    }

    fn accept(&mut self, position: usize, now: Timestamp) -> Verdict {
        let taken = self.entries.remove(position);
        self.failures = 0;
        self.message = None;
        self.hold = None;
        self.last_success = Some(now);
        self.accepted = self.accepted.saturating_add(1);
        self.refusals = 0;
        let before = self.entries.len();
        if let Some(line) = taken.as_ref().and_then(|taken| line(&taken.message.content)) {
            let mut place = 0;
            self.entries.retain(|entry| {
                place += 1;
                place > position || !concerns(&entry.message.content, line)
            });
        }
        let dropped = before - self.entries.len();
        self.retry_now(now);
        Verdict::Delivered { dropped }
    }

    fn failed(&mut self, message: String, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(now);
        self.message = Some(message);
    }

    /// Takes out of a batch what was replaced while it was under way. Gives whether anything is left of it.
    fn is_current(&mut self, position: usize) -> bool {
        let Some(Content::Batch { alerts, .. }) = self.content_mut(position) else {
            return true;
        };
        let mut failed = std::mem::take(alerts);
        for entry in self.entries.iter_mut().skip(position + 1) {
            if let Content::Batch { alerts: newer, .. } = &mut entry.message.content {
                batch::supersede(&mut failed, newer);
            }
        }
        let left = !failed.is_empty();
        if let Some(Content::Batch { alerts, .. }) = self.content_mut(position) {
            *alerts = failed;
        }
        if !left {
            self.entries.remove(position);
        }
        left
    }

    fn content_mut(&mut self, position: usize) -> Option<&mut Content> {
        Some(&mut self.entries.get_mut(position)?.message.content)
    }

    /// Halves a batch that was refused, until the alert is found that the receiver does not take; that one is given up when it
    /// is refused again though others were accepted. None where a batch is refused for another reason.
    fn split(&mut self, position: usize, now: Timestamp) -> Option<Verdict> {
        let (accepted, refusals) = (self.accepted, self.refusals);
        let entry = self.entries.get_mut(position)?;
        let Content::Batch { alerts, valid_seconds } = &mut entry.message.content else {
            return None;
        };
        if alerts.len() > 1 {
            if refusals > MAX_SPLITS {
                return None;
            }
            let valid_seconds = *valid_seconds;
            let alerts = alerts.split_off(alerts.len() / 2);
            entry.attempts = 0;
            entry.next = now;
            entry.refused = true;
            let mut other = entry.clone();
            other.message.content = Content::Batch { alerts, valid_seconds };
            other.message.id.push_str(".2");
            entry.message.id.push_str(".1");
            self.entries.insert(position + 1, other);
            return Some(Verdict::Split);
        }
        let before = *entry.refused_after.get_or_insert(accepted);
        if accepted == before {
            return None;
        }
        if let (Some(alert), Some(message)) = (alerts.first(), &mut self.message) {
            *message = format!("{message} (gave up {} of {})", alert.rule.as_str(), alert.subject);
        }
        self.entries.remove(position);
        Some(Verdict::Dropped(1))
    }

    fn again(&mut self, position: usize, after: Option<Duration>, jitter: f64, now: Timestamp) -> Verdict {
        let Some(entry) = self.entries.get_mut(position) else {
            return Verdict::Delivered { dropped: 0 };
        };
        let tried = usize::try_from(entry.attempts).unwrap_or(usize::MAX);
        let pause = match SCHEDULE.get(tried) {
            Some(pause) => *pause,
            None if severity(&entry.message.content) == Severity::Critical => Duration::from_hours(24),
            None => {
                self.entries.remove(position);
                return Verdict::Dropped(1);
            }
        };
        entry.wait(spread(pause, jitter).max(after.unwrap_or_default()), now)
    }

    /// Some servers have it, so the others are asked more often than the schedule says.
    fn again_soon(&mut self, position: usize, jitter: f64, now: Timestamp) -> Verdict {
        let Some(entry) = self.entries.get_mut(position) else {
            return Verdict::Delivered { dropped: 0 };
        };
        if entry.message.time.checked_add(PARTIAL_END).is_ok_and(|end| end <= now) {
            self.entries.remove(position);
            return Verdict::Dropped(1);
        }
        let first = SCHEDULE.first().copied().unwrap_or_default();
        let pause = if entry.attempts == 0 { first } else { PARTIAL_PAUSE };
        entry.wait(spread(pause, jitter), now)
    }
}

impl QueuedDelivery {
    fn wait(&mut self, pause: Duration, now: Timestamp) -> Verdict {
        let first = self.attempts == 0;
        self.attempts = self.attempts.saturating_add(1);
        self.next = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        Verdict::Again { first }
    }
}

/// Adds up to a fifth, so that what failed together is not tried together.
fn spread(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 5.0)
}
