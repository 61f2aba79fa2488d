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
    pub fn not_before(
        &self,
        endpoint: Endpoint,
        replaces: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
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

    fn refused_order(
        &mut self,
        key: &str,
        replaces: bool,
        wait: Duration,
        detail: &str,
        now: Timestamp,
    ) {
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
            let wait = if of_account {
                wait
            } else {
                wait.min(GUESSED_WAIT)
            };
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

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::*;

    const ORDER: Endpoint = Endpoint::NewOrder;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// A certificate that expires `days` from now, or is not there yet.
    fn wanted(key: &str, days: Option<i64>, replaces: bool) -> Wanted {
        Wanted {
            key: key.to_owned(),
            not_after: days.map(|days| at(days * 86_400)),
            replaces,
        }
    }

    fn limited(seconds: Option<u64>, detail: &str) -> AcmeError {
        AcmeError::RateLimited {
            retry_after: seconds.map(Duration::from_secs),
            detail: detail.to_owned(),
        }
    }

    const OF_ACCOUNT: &str = "too many new orders (300) from this account in the last 3h";
    const OF_NAMES: &str = "too many certificates (50) already issued for a.test";

    fn queue(cap: usize) -> FairQueue {
        FairQueue::new(cap, LimitState::default())
    }

    #[test]
    fn no_more_than_the_cap_are_in_flight_and_the_most_urgent_is_next() {
        let mut queue = queue(2);
        assert_eq!(
            queue.admit(&wanted("a", Some(1), true), at(0)),
            Admission::Go
        );
        assert_eq!(
            queue.admit(&wanted("b", Some(2), true), at(0)),
            Admission::Go
        );
        assert_eq!(
            queue.admit(&wanted("a", Some(1), true), at(0)),
            Admission::Go,
            "it has its place"
        );
        for (key, days) in [("late", Some(30)), ("soon", Some(3)), ("none", None)] {
            assert_eq!(
                queue.admit(&wanted(key, days, false), at(0)),
                Admission::Queued
            );
        }
        assert_eq!(queue.done("a", at(1)), ["none"]);
        assert_eq!(
            queue.admit(&wanted("late", Some(30), false), at(1)),
            Admission::Queued
        );
        assert_eq!(
            queue.admit(&wanted("none", None, false), at(1)),
            Admission::Go
        );
        assert_eq!(queue.done("b", at(2)), ["soon"]);
        assert_eq!(queue.done("none", at(2)), ["soon", "late"]);
    }

    #[test]
    fn who_does_not_ask_again_loses_the_place() {
        let mut queue = queue(1);
        queue.resume("running");
        assert_eq!(
            queue.admit(&wanted("gone", None, false), at(0)),
            Admission::Queued
        );
        assert_eq!(
            queue.admit(&wanted("here", Some(9), false), at(3_600)),
            Admission::Queued
        );
        assert_eq!(queue.done("running", at(3_600)), ["here"]);
    }

    #[test]
    fn a_limit_of_the_account_holds_new_orders_but_not_replacements() {
        let mut queue = queue(300);
        assert_eq!(queue.admit(&wanted("a", None, false), at(0)), Admission::Go);
        assert!(queue.refused("a", ORDER, false, &limited(Some(600), OF_ACCOUNT), at(0)));
        assert_eq!(
            queue.admit(&wanted("b", None, false), at(1)),
            Admission::NotBefore(at(600))
        );
        assert_eq!(
            queue.admit(&wanted("r", Some(20), true), at(1)),
            Admission::Go
        );
        assert_eq!(
            queue.not_before(Endpoint::Finalize, false, at(1)),
            None,
            "orders in flight go on"
        );
        // Even that was refused: so this CA exempts nothing.
        assert!(queue.refused("r", ORDER, true, &limited(Some(600), OF_ACCOUNT), at(2)));
        assert_eq!(
            queue.admit(&wanted("s", Some(1), true), at(3)),
            Admission::NotBefore(at(602))
        );
    }

    #[test]
    fn after_a_limit_one_goes_ahead_and_its_success_opens_the_gate() {
        let mut queue = queue(300);
        queue.refused("a", ORDER, false, &limited(Some(600), OF_ACCOUNT), at(0));
        assert_eq!(
            queue.admit(&wanted("b", Some(1), false), at(600)),
            Admission::Go
        );
        assert_eq!(
            queue.admit(&wanted("c", Some(2), false), at(600)),
            Admission::Queued
        );
        assert_eq!(
            queue.admit(&wanted("d", Some(3), false), at(600)),
            Admission::Queued
        );
        assert_eq!(
            queue.admit(&wanted("r", Some(9), true), at(600)),
            Admission::Go
        );
        assert_eq!(queue.placed("b", false, at(601)), ["c", "d"]);
        assert_eq!(
            queue.admit(&wanted("d", Some(3), false), at(602)),
            Admission::Go
        );
    }

    #[test]
    fn a_limit_of_some_names_holds_nobody_else() {
        let mut queue = queue(300);
        assert!(queue.refused("a", ORDER, false, &limited(Some(500_000), OF_NAMES), at(0)));
        assert_eq!(queue.state().new_order_not_before, None);
        assert_eq!(queue.admit(&wanted("b", None, false), at(1)), Admission::Go);
    }

    #[test]
    fn two_different_refusals_in_a_row_hold_the_rest_for_minutes() {
        let mut queue = queue(300);
        queue.refused("a", ORDER, false, &limited(Some(500_000), OF_NAMES), at(0));
        queue.refused("b", ORDER, false, &limited(Some(500_000), OF_NAMES), at(1));
        assert_eq!(queue.state().new_order_not_before, Some(at(301)));
        // One goes ahead; it is refused like the others, and the next has its turn.
        assert_eq!(
            queue.admit(&wanted("c", None, false), at(301)),
            Admission::Go
        );
        queue.refused(
            "c",
            ORDER,
            false,
            &limited(Some(500_000), OF_NAMES),
            at(302),
        );
        assert_eq!(
            queue.admit(&wanted("d", None, false), at(303)),
            Admission::NotBefore(at(602))
        );
        assert_eq!(
            queue.admit(&wanted("d", None, false), at(602)),
            Admission::Go
        );
    }

    #[test]
    fn replacements_go_first_while_a_limit_is_near_and_expiry_rules_otherwise() {
        for (near, expected) in [(false, ["new", "renewal"]), (true, ["renewal", "new"])] {
            let mut queue = queue(1);
            if near {
                queue.refused("x", ORDER, false, &limited(Some(9), OF_NAMES), at(0));
            }
            queue.resume("running");
            queue.admit(&wanted("new", None, false), at(1));
            queue.admit(&wanted("renewal", Some(5), true), at(1));
            assert_eq!(queue.done("running", at(2)), expected[..1]);
        }
    }

    #[test]
    fn a_server_that_asks_for_a_pause_gets_it_on_everything() {
        let pause = |seconds| AcmeError::Unavailable {
            status: 503,
            retry_after: seconds,
            detail: String::new(),
        };
        let mut queue = queue(300);
        assert!(!queue.refused("a", Endpoint::Order, false, &pause(None), at(0)));
        let wait = Some(Duration::from_secs(40));
        assert!(queue.refused("a", Endpoint::Order, false, &pause(wait), at(0)));
        assert_eq!(
            queue.not_before(Endpoint::Finalize, true, at(1)),
            Some(at(40))
        );
        assert_eq!(
            queue.admit(&wanted("r", None, true), at(1)),
            Admission::NotBefore(at(40))
        );
        assert_eq!(queue.admit(&wanted("r", None, true), at(40)), Admission::Go);
        let for_ever = Some(Duration::from_secs(30 * 86_400));
        queue.refused("a", Endpoint::Order, false, &pause(for_ever), at(100));
        assert_eq!(queue.state().account_not_before, Some(at(100 + 86_400)));
    }

    #[test]
    fn other_errors_teach_nothing() {
        let mut queue = queue(300);
        let error = AcmeError::OrderGone {
            detail: String::new(),
        };
        assert!(!queue.refused("a", ORDER, false, &error, at(0)));
        assert_eq!(*queue.state(), LimitState::default());
    }

    #[test]
    fn the_state_survives_a_restart_in_a_few_bytes() {
        let mut before = queue(300);
        before.refused("a", ORDER, false, &limited(Some(600), OF_ACCOUNT), at(0));
        let text = serde_json::to_string(before.state()).unwrap();
        assert!(text.len() < 200, "{text}");
        let mut after = FairQueue::new(300, serde_json::from_str(&text).unwrap());
        assert_eq!(
            after.admit(&wanted("b", None, false), at(1)),
            Admission::NotBefore(at(600))
        );
        assert_eq!(serde_json::to_string(&LimitState::default()).unwrap(), "{}");
    }
}
