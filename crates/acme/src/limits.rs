//! The fair queue before a CA account: who may order next, and who waits until when. Pure.
//!
//! Limits are learned, not configured: CAs change theirs, and grant exceptions. A refusal of one
//! order may be about its names (the CA's limit per domain) or about the account. It
//! holds the whole account only when the CA says so, or when two different certificates in a row
//! are refused; else only the one that was refused waits, on its own `nextAttemptTime`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::error::AcmeError;
use super::http::Endpoint;
use super::turns::Turns;

/// Orders in flight for each account.
pub const DEFAULT_IN_FLIGHT: usize = 300;

/// The wait after a refusal that does not say how long.
const DEFAULT_WAIT: Duration = Duration::from_mins(1);

/// The most that a gate holds when the CA did not say that it is the account which is limited.
const GUESSED_WAIT: Duration = Duration::from_mins(5);

/// The most that a gate holds in any case; an account's limits last for hours, and a server that
/// says more is asked again after a day.
const MAX_GATE: Duration = Duration::from_hours(24);

/// Who asked to order and did not ask again for so long has gone: it gave up, or was deleted.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// So long after a refusal, a limit counts as near.
const NEAR: SignedDuration = SignedDuration::from_hours(1);

/// What survives a restart. Small: keep it with the issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitState {
    /// Nothing goes to the CA before (503, or 429 on something else than newOrder).
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
pub struct Wanted {
    /// Stable and unique, for example the uid.
    pub key: String,
    /// Among certificates that are equally urgent, namespaces take turns.
    pub namespace: String,
    /// Of the certificate that is there; `None` where there is none, which is the most urgent.
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
    /// Others come first. [`FairQueue::done`] and [`FairQueue::placed`] tell who is next; ask
    /// again within ten minutes all the same, to keep the place.
    Queued,
}

/// A certificate in the queue.
#[derive(Debug, Clone)]
struct Waiting {
    wanted: Wanted,
    /// When it last asked.
    asked: Timestamp,
    /// Its number among those who are as urgent.
    turn: u64,
}

/// The queue of one account.
#[derive(Debug, Clone)]
pub struct FairQueue {
    state: LimitState,
    cap: usize,
    waiting: BTreeMap<String, Waiting>,
    turns: Turns,
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
            turns: Turns::default(),
            in_flight: BTreeSet::new(),
            probing: None,
        }
    }

    /// What to keep.
    pub fn state(&self) -> &LimitState {
        &self.state
    }

    /// When requests of this kind may go out, if not at once.
    pub fn not_before(&self, endpoint: Endpoint, replaces: bool, now: Timestamp) -> Option<Timestamp> {
        let exempt = self.is_exempt(replaces);
        let order = self
            .state
            .new_order_not_before
            .filter(|_| endpoint == Endpoint::NewOrder && !exempt);
        self.state.account_not_before.max(order).filter(|until| *until > now)
    }

    /// May `wanted` order now? Asking again refreshes its place and is always allowed; who was
    /// admitted stays so, for example when it goes on with its order after a restart.
    pub fn admit(&mut self, wanted: &Wanted, now: Timestamp) -> Admission {
        if self.in_flight.contains(&wanted.key) {
            return Admission::Go;
        }
        self.wait(wanted, now);
        if let Some(until) = self.not_before(Endpoint::NewOrder, wanted.replaces, now) {
            return Admission::NotBefore(until);
        }
        if !self.is_next(&wanted.key, now) {
            return Admission::Queued;
        }
        if let Some(waiting) = self.waiting.get(&wanted.key) {
            self.turns.up(waiting.wanted.not_after, waiting.turn);
        }
        self.leave(&wanted.key);
        self.in_flight.insert(wanted.key.clone());
        if self.state.new_order_not_before.is_some() && !wanted.replaces {
            self.probing = Some(wanted.key.clone());
        }
        Admission::Go
    }

    #[cfg(test)]
    pub(super) fn waiting_for_test(&mut self, wanted: &Wanted, now: Timestamp) {
        self.wait(wanted, now);
    }

    /// Into the queue. Who is there already keeps the place, unless it is more or less urgent than before.
    fn wait(&mut self, wanted: &Wanted, now: Timestamp) {
        if let Some(waiting) = self.waiting.get_mut(&wanted.key)
            && waiting.wanted.not_after == wanted.not_after
        {
            waiting.wanted.replaces = wanted.replaces;
            waiting.asked = now;
            return;
        }
        self.leave(&wanted.key);
        let waiting = Waiting {
            wanted: wanted.clone(),
            asked: now,
            turn: self.turns.draw(wanted.not_after, &wanted.namespace),
        };
        self.waiting.insert(wanted.key.clone(), waiting);
    }

    fn leave(&mut self, key: &str) {
        if let Some(Waiting { wanted, .. }) = self.waiting.remove(key) {
            self.turns.left(wanted.not_after, &wanted.namespace);
        }
    }

    /// Takes up an order that is in flight already, beyond the cap if need be: it was placed before a restart.
    pub fn resume(&mut self, key: &str) {
        self.leave(key);
        self.in_flight.insert(key.to_owned());
    }

    /// The order was placed: no limit holds orders now. Gives who may go next.
    pub fn placed(&mut self, key: &str, replaces: bool, now: Timestamp) -> Vec<String> {
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

    /// Learns from a refusal of a request for `key`; other errors say nothing of limits. True when the state changed and is to be kept.
    pub fn refused(
        &mut self,
        key: &str,
        endpoint: Endpoint,
        replaces: bool,
        error: &AcmeError,
        now: Timestamp,
    ) -> bool {
        let before = self.state.clone();
        match error {
            AcmeError::Unavailable {
                retry_after: Some(wait),
                ..
            } => raise(&mut self.state.account_not_before, now, *wait),
            AcmeError::RateLimited { retry_after, detail } => {
                let wait = retry_after.unwrap_or(DEFAULT_WAIT);
                if endpoint == Endpoint::NewOrder {
                    self.refused_order(key, replaces, wait, detail, now);
                } else {
                    raise(&mut self.state.account_not_before, now, wait);
                }
            }
            _ => {}
        }
        if endpoint == Endpoint::NewOrder {
            self.in_flight.remove(key);
            self.probing.take_if(|probing| probing == key);
        }
        self.state != before
    }

    fn refused_order(&mut self, key: &str, replaces: bool, wait: Duration, detail: &str, now: Timestamp) {
        let other_before = self.state.last_refused.as_ref().is_some_and(|last| last != key) && self.is_near(now);
        // Boulder: "too many new orders (300) from this account in the last 3h".
        let of_account = detail.contains("new orders") || detail.contains("this account");
        let guessed = other_before || self.probing.as_deref() == Some(key);
        if of_account || guessed {
            // Two certificates below one domain may be refused in a row for a week: a guess holds
            // the others for minutes only, and then one of them goes ahead to see.
            let wait = if of_account { wait } else { wait.min(GUESSED_WAIT) };
            raise(&mut self.state.new_order_not_before, now, wait);
            self.state.holds_replacements |= replaces;
        }
        self.state.last_refusal = Some(now);
        self.state.last_refused = Some(key.to_owned());
    }

    fn is_near(&self, now: Timestamp) -> bool {
        self.state
            .last_refusal
            .is_some_and(|refusal| now.duration_since(refusal) < NEAR)
    }

    /// Who of the waiting may go now, the first in rank first.
    fn next(&mut self, now: Timestamp) -> Vec<String> {
        let free = self.cap.saturating_sub(self.in_flight.len());
        if free == 0 {
            return Vec::new();
        }
        let turns = &mut self.turns;
        self.waiting.retain(|_, Waiting { wanted, asked, .. }| {
            let stays = is_here(*asked, now);
            if !stays {
                turns.left(wanted.not_after, &wanted.namespace);
            }
            stays
        });
        let gated = self.state.new_order_not_before.is_some();
        let mut ranked: Vec<&Waiting> = self.candidates(now).collect();
        if gated {
            // After a limit one goes ahead; only what is exempt may go beside it.
            let first = match self.probing {
                Some(_) => None,
                None => ranked
                    .iter()
                    .filter(|waiting| !self.is_exempt(waiting.wanted.replaces))
                    .min_by_key(|waiting| self.rank(waiting, now))
                    .map(|waiting| waiting.wanted.key.clone()),
            };
            ranked.retain(|Waiting { wanted, .. }| {
                self.is_exempt(wanted.replaces) || first.as_ref() == Some(&wanted.key)
            });
        }
        // Thousands may wait while a few go: rank no more than go.
        if free < ranked.len() {
            ranked.select_nth_unstable_by_key(free, |waiting| self.rank(waiting, now));
            ranked.truncate(free);
        }
        ranked.sort_unstable_by_key(|waiting| self.rank(waiting, now));
        ranked.into_iter().map(|waiting| waiting.wanted.key.clone()).collect()
    }

    /// Whether one that waits is among [`next`](Self::next), in one pass.
    fn is_next(&self, key: &str, now: Timestamp) -> bool {
        let free = self.cap.saturating_sub(self.in_flight.len());
        // Thousands may wait: most of them find this and look no further.
        if free == 0 {
            return false;
        }
        let Some(waiting) = self.waiting.get(key) else {
            return false;
        };
        let mine = self.rank(waiting, now);
        let ahead = || self.candidates(now).filter(|w| self.rank(w, now) < mine);
        if self.state.new_order_not_before.is_none() {
            return ahead().count() < free;
        }
        let exempt_ahead = ahead().filter(|w| self.is_exempt(w.wanted.replaces)).count();
        let other_ahead = ahead().any(|w| !self.is_exempt(w.wanted.replaces));
        if self.is_exempt(waiting.wanted.replaces) {
            let probe = usize::from(other_ahead && self.probing.is_none());
            exempt_ahead + probe < free
        } else {
            self.probing.is_none() && !other_ahead && exempt_ahead < free
        }
    }

    /// Those who wait and whom no gate holds.
    fn candidates(&self, now: Timestamp) -> impl Iterator<Item = &Waiting> {
        self.waiting.values().filter(move |Waiting { wanted, asked, .. }| {
            is_here(*asked, now) && self.not_before(Endpoint::NewOrder, wanted.replaces, now).is_none()
        })
    }

    /// Nearest to expiry first, and among equals each namespace in its turn; renewals that say `replaces` ahead of the rest
    /// while a limit is near.
    fn rank<'a>(&self, waiting: &'a Waiting, now: Timestamp) -> (bool, Option<Timestamp>, u64, &'a str) {
        let Waiting { wanted, turn, .. } = waiting;
        let near = self.is_near(now) || self.state.new_order_not_before.is_some();
        (near && !wanted.replaces, wanted.not_after, *turn, &wanted.key)
    }

    fn is_exempt(&self, replaces: bool) -> bool {
        replaces && !self.state.holds_replacements
    }
}

fn is_here(asked: Timestamp, now: Timestamp) -> bool {
    now.duration_since(asked) < FORGOTTEN_AFTER
}

fn raise(gate: &mut Option<Timestamp>, now: Timestamp, wait: Duration) {
    // A day fits unless time ends.
    let until = now.checked_add(wait.min(MAX_GATE)).unwrap_or(now);
    *gate = (*gate).max(Some(until));
}
