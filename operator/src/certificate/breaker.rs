//! Holds back an unrequested re-issue of too many certificates at once.
//!
//! A mishap (Secrets deleted by a script, a restored backup, a bug of ours) must not become
//! thousands of orders: the CA would refuse them, and the certificates that are really due with
//! them. So much may pass at once; the rest is let through slowly, and said aloud.

use std::{collections::HashMap, time::Duration};

use gatehouse_crds::certificate::Certificate;
use jiff::{SignedDuration, Timestamp};

use super::{
    decide::IssuanceReason,
    renewal,
    status::{HELD, ISSUING},
};
use crate::{clock::Horizon, kubernetes::conditions};

/// However few certificates there are, this many may always be re-issued at once.
pub const AT_LEAST: usize = 10;
/// Time until as many again may pass.
const REFILL: Duration = Duration::from_secs(600);

/// Decision of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The certificate may be issued.
    Pass,
    /// Not before this time.
    Held { until: Timestamp },
}

/// A bucket of re-issues, with a place in the queue for each one that is held.
#[derive(Debug)]
pub struct Breaker {
    /// Share of all Certificates, 0 to 1.
    share: f64,
    /// Re-issues taken from the bucket and not yet refilled, as of `filled`.
    taken: f64,
    filled: Timestamp,
    held: HashMap<String, Timestamp>,
}

impl Breaker {
    /// A full bucket. `percent`: how many of all Certificates may be re-issued at once.
    pub fn new(percent: u8, now: Timestamp) -> Self {
        Self {
            share: f64::from(percent.min(100)) / 100.0,
            taken: 0.0,
            filled: now,
            held: HashMap::new(),
        }
    }

    /// Asks for `uid`, one of `total` Certificates. Asking again while held gives the same time.
    pub fn ask(&mut self, uid: &str, total: usize, now: Timestamp) -> Admission {
        let size = self.size(total);
        self.taken = drained(self.taken, self.filled, now, size);
        self.filled = now;
        let longest = longest(size, total.max(self.held.len()));
        match self.held.get(uid) {
            // Held by a clock that was wrong: it keeps its place in what was taken, and gets a new time.
            Some(until) if longest.believe(Some(*until), now).is_none() => {
                self.taken = (self.taken - 1.0).max(0.0);
                self.held.remove(uid);
                self.ask(uid, total, now)
            }
            Some(until) if *until <= now => {
                self.held.remove(uid);
                Admission::Pass
            }
            Some(until) => Admission::Held { until: *until },
            None => {
                self.taken += 1.0;
                if self.taken <= size {
                    return Admission::Pass;
                }
                let wait = (self.taken - size) * REFILL.as_secs_f64() / size;
                let until = now.checked_add(Duration::from_secs_f64(wait)).unwrap_or(Timestamp::MAX);
                // As in the status: an operator that reads it there after a restart computes the same time.
                let until = renewal::whole_seconds_up(until);
                self.held.insert(uid.to_owned(), until);
                Admission::Held { until }
            }
        }
    }

    /// Restores the state of the previous operator from the statuses, after a restart or a crash in a
    /// loop, does not fill the bucket.
    pub fn recall(&mut self, traces: Vec<(String, PastReissue)>, total: usize, now: Timestamp) {
        let size = self.size(total);
        let rate = size / REFILL.as_secs_f64();
        let mut passed: Vec<Timestamp> = Vec::new();
        let count = traces.len();
        // The one that is held last has all the others before it.
        let mut ahead: f64 = 0.0;
        for (uid, trace) in traces {
            match trace {
                PastReissue::Passed { at } => passed.push(at.min(now)),
                PastReissue::Held { until } if longest(size, total.max(count)).believe(Some(until), now).is_none() => {}
                PastReissue::Held { until } => {
                    ahead = ahead.max(size + until.duration_since(now).as_secs_f64() * rate);
                    self.held.insert(uid, until);
                }
            }
        }
        passed.sort_unstable();
        let (mut taken, mut filled) = (0.0, now);
        for at in passed {
            taken = drained(taken, filled, at, size) + 1.0;
            filled = at;
        }
        self.taken = drained(self.taken, self.filled, now, size) + drained(taken, filled, now, size);
        self.taken = self.taken.max(ahead);
        self.filled = now;
    }

    fn size(&self, total: usize) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "counts of certificates are far below 2^52")]
        (total as f64 * self.share).max(AT_LEAST as f64)
    }

    /// Forgets a Certificate that was repaired, renewed or deleted. If it was still held, its place becomes free.
    pub fn forget(&mut self, uid: &str) {
        if self.held.remove(uid).is_some() {
            self.taken = (self.taken - 1.0).max(0.0);
        }
    }

    /// Returns the number of held Certificates.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// The longest that one of `total` is held: as if all came at once.
fn longest(size: f64, total: usize) -> Horizon {
    #[allow(clippy::cast_precision_loss, reason = "counts of certificates are far below 2^52")]
    let rounds = (total as f64 / size).ceil() + 1.0;
    Horizon(SignedDuration::try_from_secs_f64(rounds * REFILL.as_secs_f64()).unwrap_or(SignedDuration::MAX))
}

/// Returns the part at `now` of what was taken at `since`.
fn drained(taken: f64, since: Timestamp, now: Timestamp, size: f64) -> f64 {
    let elapsed = now.duration_since(since).as_secs_f64().max(0.0);
    (taken - elapsed * size / REFILL.as_secs_f64()).max(0.0)
}

/// A re-issue of before a restart, as a status records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastReissue {
    /// It was let through, and was issued then or is being issued now.
    Passed { at: Timestamp },
    /// It is held.
    Held { until: Timestamp },
}

impl PastReissue {
    /// Reads it off a Certificate; `cause` is why what is in its Secret was issued. None when it is of no account any more.
    pub fn of(certificate: &Certificate, cause: Option<&str>, now: Timestamp) -> Option<Self> {
        let status = certificate.status.as_ref()?;
        let issuing = conditions::find(&status.conditions, ISSUING)?;
        if issuing.reason == HELD {
            let until = status.next_attempt_time.filter(|until| *until > now)?;
            return Some(Self::Held { until });
        }
        if issuing.status == "True" {
            return is_unrequested(&issuing.reason).then_some(Self::Passed { at: now });
        }
        let at = status
            .issued_at
            .filter(|at| now.duration_since(*at).unsigned_abs() < REFILL)?;
        is_unrequested(cause?).then_some(Self::Passed { at })
    }
}

fn is_unrequested(cause: &str) -> bool {
    [IssuanceReason::SecretMissing, IssuanceReason::SecretDamaged]
        .into_iter()
        .any(|unasked| unasked.as_str() == cause)
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
