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

/// Orders in flight for each account.
pub const DEFAULT_IN_FLIGHT: usize = 300;

/// The wait after a refusal that does not say how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// The most that a gate holds when the CA did not say that it is the account which is limited.
const GUESSED_WAIT: Duration = Duration::from_secs(5 * 60);

/// The most that a gate holds in any case; an account's limits last for hours, and a server that
/// says more is asked again after a day.
const MAX_GATE: Duration = Duration::from_secs(24 * 3600);

/// Who asked to order and did not ask again for so long has gone: it gave up, or was deleted.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_mins(30);

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
    /// Others come first. [`FairQueue::done`] tells who is next, so there is nothing to poll for.
    Queued,
}

/// The queue of one account.
#[derive(Debug, Clone)]
pub struct FairQueue {
    state: LimitState,
    cap: usize,
    waiting: BTreeMap<String, (Wanted, Timestamp)>,
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
        let exempt = replaces && !self.state.holds_replacements;
        let order = self
            .state
            .new_order_not_before
            .filter(|_| endpoint == Endpoint::NewOrder && !exempt);
        self.state
            .account_not_before
            .max(order)
            .filter(|until| *until > now)
    }

    /// May `wanted` order now? Asking again refreshes its place and is always allowed; who was
    /// admitted stays so, for example when it goes on with its order after a restart.
    pub fn admit(&mut self, wanted: &Wanted, now: Timestamp) -> Admission {
        if self.in_flight.contains(&wanted.key) {
            return Admission::Go;
        }
        self.waiting
            .insert(wanted.key.clone(), (wanted.clone(), now));
        self.waiting
            .retain(|_, (_, asked)| now.duration_since(*asked) < FORGOTTEN_AFTER);
        if let Some(until) = self.not_before(Endpoint::NewOrder, wanted.replaces, now) {
            return Admission::NotBefore(until);
        }
        if !self.next(now).contains(&wanted.key) {
            return Admission::Queued;
        }
        self.waiting.remove(&wanted.key);
        self.in_flight.insert(wanted.key.clone());
        if self.state.new_order_not_before.is_some() && !wanted.replaces {
            self.probing = Some(wanted.key.clone());
        }
        Admission::Go
    }

    /// Takes up an order that is in flight already, beyond the cap if need be: it was placed before a restart.
    pub fn resume(&mut self, key: &str) {
        self.waiting.remove(key);
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
        self.waiting.remove(key);
        self.in_flight.remove(key);
        self.probing.take_if(|probing| probing == key);
        self.next(now)
    }

    /// Learns from a refusal of a request for `key`; other errors say nothing of limits. True when the state changed and is to be kept.
    pub fn refused(&mut self, key: &str, endpoint: Endpoint, replaces: bool, error: &AcmeError, now: Timestamp) -> bool {
        let before = self.state.clone();
        match error {
            AcmeError::Unavailable {
                retry_after: Some(wait),
                ..
            } => raise(&mut self.state.account_not_before, now, *wait),
            AcmeError::RateLimited {
                retry_after,
                detail,
            } => {
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
        let other_before = self
            .state
            .last_refused
            .as_ref()
            .is_some_and(|last| last != key)
            && self.is_near(now);
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

    /// Who of the waiting may go now: nearest to expiry first; renewals that say `replaces` ahead of the rest while a limit is near.
    fn next(&self, now: Timestamp) -> Vec<String> {
        let near = self.is_near(now) || self.state.new_order_not_before.is_some();
        let mut ranked: Vec<&Wanted> = self
            .waiting
            .values()
            .map(|(wanted, _)| wanted)
            .filter(|wanted| {
                self.not_before(Endpoint::NewOrder, wanted.replaces, now)
                    .is_none()
            })
            .collect();
        ranked.sort_by_key(|wanted| (near && !wanted.replaces, wanted.not_after, &wanted.key));
        let free = self.cap.saturating_sub(self.in_flight.len());
        // After a limit one order goes ahead; only what is exempt may go beside it.
        let mut probes = match (self.state.new_order_not_before, &self.probing) {
            (None, _) => usize::MAX,
            (Some(_), None) => 1,
            (Some(_), Some(_)) => 0,
        };
        ranked
            .into_iter()
            .filter(|wanted| {
                if wanted.replaces && !self.state.holds_replacements {
                    return true;
                }
                let allowed = probes > 0;
                probes = probes.saturating_sub(1);
                allowed
            })
            .take(free)
            .map(|wanted| wanted.key.clone())
            .collect()
    }
}

fn raise(gate: &mut Option<Timestamp>, now: Timestamp, wait: Duration) {
    // A day fits unless time ends.
    let until = now.checked_add(wait.min(MAX_GATE)).unwrap_or(now);
    *gate = (*gate).max(Some(until));
}
