//! The fair queue before a CA account: who may order next, and who waits until when. Pure.
//!
//! Limits are learned, not configured: CAs change theirs, and grant exceptions. A limit holds what
//! it is about: the names that the CA says, the endpoint that refused, or the account. It
//! holds all orders of the account only when the CA says so, or when two different certificates in a row
//! are refused without a reason; else only the one that was refused waits, on its own `nextAttemptTime`.
//! Which of those who wait goes first is the matter of [`turns`](super::turns).
//!
//! A server that cannot be reached or answers 5xx is no limit: see the operator's outages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use super::error::AcmeError;
use super::holds::{Holds, Subject};
use super::turns::{Lines, NEW_NAME};

/// Orders in flight for each account.
pub const DEFAULT_IN_FLIGHT: usize = 300;

/// The wait after a refusal that does not say how long.
const DEFAULT_WAIT: Duration = Duration::from_mins(1);

/// The most that a gate holds when the CA did not say that it is the account which is limited.
pub(super) const GUESSED_WAIT: Duration = Duration::from_mins(5);

/// The most that a gate holds in any case; an account's limits last for hours, and a server that
/// says more is asked again after a day.
pub(super) const MAX_GATE: Duration = Duration::from_hours(24);

/// Wait after a CA demanded that a user acts there, before one order finds out whether that is done.
pub(super) const USER_ACTION_WAIT: Duration = Duration::from_mins(15);

/// Clocks of two machines may differ by this much.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// An entry that was not repeated for so long is dropped: its Certificate gave up, or was deleted.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// So long after a refusal, a limit counts as near.
pub(super) const NEAR: SignedDuration = SignedDuration::from_hours(1);

/// State that survives a restart. Small: keep it with the issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitState {
    /// Nothing goes to the CA before (429 for the account on something else than newOrder).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_not_before: Option<Timestamp>,
    /// No new order before (429).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_order_not_before: Option<Timestamp>,
    /// Whether even an order that replaces a certificate was refused: CAs exempt those (RFC 9773 §5), and they
    /// pass the gate otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub holds_replacements: bool,
    /// The last 429 for an order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<Timestamp>,
    /// Which certificate it was for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refused: Option<String>,
}

/// A certificate that wants to order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRequest {
    /// Stable and unique, for example the uid.
    pub key: String,
    /// Namespaces take turns.
    pub namespace: String,
    /// Names and addresses that are ordered.
    pub names: Vec<String>,
    /// End of the present certificate; `None` without one.
    pub not_after: Option<Timestamp>,
    /// The order will say `replaces`.
    pub replaces: bool,
}

/// The answer to [`FairQueue::admit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Order now; [`FairQueue::done`] when the order has ended.
    Go,
    /// The CA asks to wait until then.
    NotBefore(Timestamp),
    /// Others come first. [`FairQueue::done`] and [`FairQueue::placed`] return the next; ask
    /// again within ten minutes all the same, to keep the place.
    Queued,
}

/// A certificate in the queue.
#[derive(Debug, Clone)]
struct Waiting {
    wanted: OrderRequest,
    /// When it first asked, and when it last did.
    since: Timestamp,
    asked: Timestamp,
}

impl Waiting {
    /// When it will be too late, or, for a new name, has waited long enough.
    fn deadline(&self) -> Timestamp {
        self.wanted
            .not_after
            .unwrap_or_else(|| self.since.checked_add(NEW_NAME).unwrap_or(Timestamp::MAX))
    }
}

/// The queue of one account.
#[derive(Debug, Clone)]
pub struct FairQueue {
    state: LimitState,
    cap: usize,
    waiting: BTreeMap<String, Waiting>,
    lines: Lines,
    holds: Holds,
    in_flight: BTreeSet<String>,
    /// A limit ran out and one order goes ahead to see.
    probing: Option<String>,
}

impl FairQueue {
    /// `cap` orders at most are in flight.
    pub fn new(cap: usize, state: LimitState) -> Self {
        Self {
            state,
            cap: cap.max(1),
            waiting: BTreeMap::new(),
            lines: Lines::default(),
            holds: Holds::default(),
            in_flight: BTreeSet::new(),
            probing: None,
        }
    }

    /// Returns the state to keep.
    pub fn state(&self) -> &LimitState {
        &self.state
    }

    /// When requests of this kind may go out, if not at once.
    pub fn not_before(&self, endpoint: Endpoint, replaces: bool, now: Timestamp) -> Option<Timestamp> {
        let exempt = self.is_exempt(replaces);
        let order = self
            .state
            .new_order_not_before
            .filter(|_| endpoint == Endpoint::NewOrder && !exempt)
            // Set while the clock was ahead.
            .filter(|_| self.state.last_refusal.is_none_or(|at| at.duration_since(now) <= SKEW));
        let account = believed(self.state.account_not_before, now);
        account
            .max(believed(order, now))
            .max(self.holds.endpoint(endpoint, now))
    }

    /// When `wanted` may order, if not at once.
    fn held(&self, wanted: &OrderRequest, now: Timestamp) -> Option<Timestamp> {
        self.not_before(Endpoint::NewOrder, wanted.replaces, now)
            .max(self.holds.names(&wanted.names, now))
    }

    /// May `wanted` order now? Asking again refreshes its place and is always allowed; who was
    /// admitted stays so, for example when it continues its order after a restart.
    pub fn admit(&mut self, wanted: &OrderRequest, now: Timestamp) -> Admission {
        if self.in_flight.contains(&wanted.key) {
            return Admission::Go;
        }
        self.wait(wanted, now);
        if let Some(until) = self.held(wanted, now) {
            return Admission::NotBefore(until);
        }
        if !self.is_next(&wanted.key, now) {
            return Admission::Queued;
        }
        self.lines.serve(&wanted.namespace);
        self.leave(&wanted.key);
        self.in_flight.insert(wanted.key.clone());
        if self.state.new_order_not_before.is_some() && !wanted.replaces {
            self.probing = Some(wanted.key.clone());
        }
        Admission::Go
    }

    #[cfg(test)]
    pub(super) fn waiting_for_test(&mut self, wanted: &OrderRequest, now: Timestamp) {
        self.wait(wanted, now);
    }

    /// Adds an order to the queue. One that waits already keeps its place, unless its urgency has changed.
    fn wait(&mut self, wanted: &OrderRequest, now: Timestamp) {
        if let Some(waiting) = self.waiting.get_mut(&wanted.key)
            && waiting.wanted.not_after == wanted.not_after
            && waiting.since <= now
        {
            waiting.wanted = wanted.clone();
            waiting.asked = now;
            return;
        }
        self.leave(&wanted.key);
        let waiting = Waiting {
            wanted: wanted.clone(),
            since: now,
            asked: now,
        };
        self.lines.join(&wanted.namespace, waiting.deadline(), &wanted.key);
        self.waiting.insert(wanted.key.clone(), waiting);
    }

    fn leave(&mut self, key: &str) {
        if let Some(waiting) = self.waiting.remove(key) {
            self.lines.leave(&waiting.wanted.namespace, waiting.deadline(), key);
        }
    }

    /// Takes up an order that is in flight already, beyond the cap if need be: it was placed before a restart.
    pub fn resume(&mut self, key: &str) {
        self.leave(key);
        self.in_flight.insert(key.to_owned());
    }

    /// The order for `names` was placed: no limit holds such orders now. Gives who may go next.
    pub fn placed(&mut self, key: &str, names: &[String], replaces: bool, now: Timestamp) -> Vec<String> {
        self.holds.names_taken(names);
        if !replaces {
            // What is exempt proves nothing for the others.
            self.state.new_order_not_before = None;
            self.state.last_refused = None;
            self.probing = None;
        }
        self.state.holds_replacements = false;
        self.in_flight.insert(key.to_owned());
        self.next(now)
    }

    /// The order has ended, or was given up. Gives who may go next.
    pub fn done(&mut self, key: &str, now: Timestamp) -> Vec<String> {
        self.leave(key);
        self.in_flight.remove(key);
        self.probing.take_if(|probing| probing == key);
        self.next(now)
    }

    /// Learns from a refusal of a request for `wanted`; other errors say nothing of limits. True when the state changed and is to be kept.
    pub fn refused(&mut self, wanted: &OrderRequest, endpoint: Endpoint, error: &AcmeError, now: Timestamp) -> bool {
        let before = self.state.clone();
        if let AcmeError::RateLimited { retry_after, detail } = error {
            let wait = retry_after.unwrap_or(DEFAULT_WAIT);
            match (Subject::of(detail, &wanted.names), endpoint) {
                (Subject::Names(domains), _) => {
                    for domain in domains {
                        self.holds.name_refused(&domain, wait, now);
                    }
                }
                (Subject::ThisOrder, _) => {}
                (subject, Endpoint::NewOrder) => {
                    self.refused_order(wanted, subject == Subject::Account, wait, now);
                }
                (Subject::Account, _) => raise(&mut self.state.account_not_before, now, wait),
                (Subject::Unknown, _) => self.holds.endpoint_refused(endpoint, &wanted.key, wait, now),
            }
            if endpoint == Endpoint::NewOrder {
                self.state.last_refusal = Some(now);
                self.state.last_refused = Some(wanted.key.clone());
            }
        }
        // Until a user has acted at the CA, one order finds out whether that is done, as after a limit.
        if error.requires_user_action() && endpoint == Endpoint::NewOrder {
            raise(&mut self.state.new_order_not_before, now, USER_ACTION_WAIT);
            self.state.holds_replacements = true;
            self.state.last_refusal = Some(now);
            self.state.last_refused = Some(wanted.key.clone());
        }
        if endpoint == Endpoint::NewOrder {
            self.in_flight.remove(&wanted.key);
            self.probing.take_if(|probing| *probing == wanted.key);
        }
        self.state != before
    }

    fn refused_order(&mut self, wanted: &OrderRequest, of_account: bool, wait: Duration, now: Timestamp) {
        let last = self.state.last_refused.as_ref();
        let other_before = last.is_some_and(|last| *last != wanted.key) && self.is_near(now);
        let guessed = other_before || self.probing.as_ref() == Some(&wanted.key);
        if of_account || guessed {
            // Two certificates below one domain may be refused in a row for a week: a guess holds
            // the others for minutes only, and then one of them goes ahead to see.
            let wait = if of_account { wait } else { wait.min(GUESSED_WAIT) };
            raise(&mut self.state.new_order_not_before, now, wait);
            self.state.holds_replacements |= wanted.replaces;
        }
    }

    fn is_near(&self, now: Timestamp) -> bool {
        self.state
            .last_refusal
            .is_some_and(|refusal| now.duration_since(refusal).abs() < NEAR)
    }

    /// Returns the waiting orders that may be placed now, the next first.
    fn next(&mut self, now: Timestamp) -> Vec<String> {
        if self.free() == 0 {
            return Vec::new();
        }
        let gone = self.waiting.iter().filter(|(_, waiting)| !is_here(waiting.asked, now));
        let gone: Vec<String> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.leave(&key);
        }
        self.up(now).into_iter().map(str::to_owned).collect()
    }

    /// Whether one that waits is among [`next`](Self::next).
    fn is_next(&self, key: &str, now: Timestamp) -> bool {
        // Thousands may wait: most of them find this and look no further.
        if self.free() == 0 {
            return false;
        }
        let replaces = self.waiting.get(key).is_some_and(|waiting| waiting.wanted.replaces);
        let probed = self.state.new_order_not_before.is_some() && self.probing.is_some();
        if probed && !self.is_exempt(replaces) {
            return false;
        }
        self.up(now).contains(&key)
    }

    fn free(&self) -> usize {
        self.cap.saturating_sub(self.in_flight.len())
    }

    /// As many as there are places for, in the order of [`turns`](super::turns); those that say `replaces` ahead of the rest while a
    /// limit is near, since CAs exempt them.
    fn up(&self, now: Timestamp) -> Vec<&str> {
        let gated = self.state.new_order_not_before.is_some();
        // After a limit one goes ahead; only what is exempt may go beside it.
        let mut may_probe = self.probing.is_none();
        let passes: &[Option<bool>] = if gated || self.is_near(now) {
            &[Some(true), Some(false)]
        } else {
            &[None]
        };
        let mut up = Vec::new();
        for pass in passes {
            for key in self.lines.order(now) {
                if up.len() == self.free() {
                    return up;
                }
                let Some(Waiting { wanted, asked, .. }) = self.waiting.get(key) else {
                    continue;
                };
                let other = pass.is_some_and(|replaces| replaces != wanted.replaces);
                if other || !is_here(*asked, now) || self.held(wanted, now).is_some() {
                    continue;
                }
                if gated && !self.is_exempt(wanted.replaces) && !std::mem::take(&mut may_probe) {
                    continue;
                }
                up.push(key);
            }
        }
        up
    }

    fn is_exempt(&self, replaces: bool) -> bool {
        replaces && !self.state.holds_replacements
    }
}

/// One whose time lies ahead asked by a clock that was wrong: it counts as gone, and asks again.
fn is_here(asked: Timestamp, now: Timestamp) -> bool {
    now.duration_since(asked).abs() < FORGOTTEN_AFTER
}

/// A gate that is ahead, unless it is farther ahead than any gate is set: then a clock was wrong.
pub(super) fn believed(gate: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let most = SignedDuration::try_from(MAX_GATE).unwrap_or(SignedDuration::MAX) + SKEW;
    gate.filter(|until| *until > now && until.duration_since(now) <= most)
}

fn raise(gate: &mut Option<Timestamp>, now: Timestamp, wait: Duration) {
    // A day fits unless time ends.
    let until = now.checked_add(wait.min(MAX_GATE)).unwrap_or(now);
    *gate = believed(*gate, now).max(Some(until));
}
