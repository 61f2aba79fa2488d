#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use proptest::prelude::*;

use crate::*;

const ORDER: Endpoint = Endpoint::NewOrder;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A certificate that expires `days` from now, or is not there yet.
fn wanted(key: &str, days: Option<i64>, replaces: bool) -> OrderRequest {
    OrderRequest {
        key: key.to_owned(),
        namespace: key.split('/').next().unwrap_or_default().to_owned(),
        names: vec![format!("www.{}.test", key.replace('/', "."))],
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
    assert_eq!(queue.admit(&wanted("a", Some(1), true), at(0)), Admission::Go);
    assert_eq!(queue.admit(&wanted("b", Some(2), true), at(0)), Admission::Go);
    assert_eq!(
        queue.admit(&wanted("a", Some(1), true), at(0)),
        Admission::Go,
        "it has its place"
    );
    for (key, days) in [("late", Some(30)), ("soon", Some(3)), ("none", None)] {
        assert_eq!(queue.admit(&wanted(key, days, false), at(0)), Admission::Queued);
    }
    assert_eq!(queue.done("a", at(1)), ["none"]);
    assert_eq!(queue.admit(&wanted("late", Some(30), false), at(1)), Admission::Queued);
    assert_eq!(queue.admit(&wanted("none", None, false), at(1)), Admission::Go);
    assert_eq!(queue.done("b", at(2)), ["soon"]);
    assert_eq!(queue.done("none", at(2)), ["soon", "late"]);
}

#[test]
fn who_does_not_ask_again_loses_the_place() {
    let mut queue = queue(1);
    queue.resume("running");
    assert_eq!(queue.admit(&wanted("gone", None, false), at(0)), Admission::Queued);
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
    assert!(queue.refused(&wanted("a", None, false), ORDER, &limited(Some(600), OF_ACCOUNT), at(0)));
    assert_eq!(
        queue.admit(&wanted("b", None, false), at(1)),
        Admission::NotBefore(at(600))
    );
    assert_eq!(queue.admit(&wanted("r", Some(20), true), at(1)), Admission::Go);
    assert_eq!(
        queue.not_before(Endpoint::Finalize, false, at(1)),
        None,
        "orders in flight continue"
    );
    // Even that was refused: so this CA exempts nothing.
    assert!(queue.refused(&wanted("r", None, true), ORDER, &limited(Some(600), OF_ACCOUNT), at(2)));
    assert_eq!(
        queue.admit(&wanted("s", Some(1), true), at(3)),
        Admission::NotBefore(at(602))
    );
}

#[test]
fn after_a_limit_one_goes_ahead_and_its_success_opens_the_gate() {
    let mut queue = queue(300);
    queue.refused(&wanted("a", None, false), ORDER, &limited(Some(600), OF_ACCOUNT), at(0));
    assert_eq!(queue.admit(&wanted("b", Some(1), false), at(600)), Admission::Go);
    assert_eq!(queue.admit(&wanted("c", Some(2), false), at(600)), Admission::Queued);
    assert_eq!(queue.admit(&wanted("d", Some(3), false), at(600)), Admission::Queued);
    assert_eq!(queue.admit(&wanted("r", Some(9), true), at(600)), Admission::Go);
    assert_eq!(queue.placed("b", &[], false, at(601)), ["c", "d"]);
    assert_eq!(queue.admit(&wanted("d", Some(3), false), at(602)), Admission::Go);
}

#[test]
fn a_limit_of_some_names_holds_nobody_else() {
    let mut queue = queue(300);
    assert!(queue.refused(
        &wanted("a", None, false),
        ORDER,
        &limited(Some(500_000), OF_NAMES),
        at(0)
    ));
    assert_eq!(queue.state().new_order_not_before, None);
    assert_eq!(queue.admit(&wanted("b", None, false), at(1)), Admission::Go);
}

#[test]
fn two_different_refusals_in_a_row_hold_the_rest_for_minutes() {
    let mut queue = queue(300);
    queue.refused(
        &wanted("a", None, false),
        ORDER,
        &limited(Some(500_000), OF_NAMES),
        at(0),
    );
    queue.refused(
        &wanted("b", None, false),
        ORDER,
        &limited(Some(500_000), OF_NAMES),
        at(1),
    );
    assert_eq!(queue.state().new_order_not_before, Some(at(301)));
    // One goes ahead; it is refused like the others, and the next has its turn.
    assert_eq!(queue.admit(&wanted("c", None, false), at(301)), Admission::Go);
    queue.refused(
        &wanted("c", None, false),
        ORDER,
        &limited(Some(500_000), OF_NAMES),
        at(302),
    );
    assert_eq!(
        queue.admit(&wanted("d", None, false), at(303)),
        Admission::NotBefore(at(602))
    );
    assert_eq!(queue.admit(&wanted("d", None, false), at(602)), Admission::Go);
}

#[test]
fn replacements_go_first_while_a_limit_is_near_and_expiry_rules_otherwise() {
    for (near, expected) in [(false, ["new", "renewal"]), (true, ["renewal", "new"])] {
        let mut queue = queue(1);
        if near {
            queue.refused(&wanted("x", None, false), ORDER, &limited(Some(9), OF_NAMES), at(0));
        }
        queue.resume("running");
        queue.admit(&wanted("new", None, false), at(1));
        queue.admit(&wanted("renewal", Some(5), true), at(1));
        assert_eq!(queue.done("running", at(2)), expected[..1]);
    }
}

/// The endpoint of the refusal and its text; until when another order waits, one of the same domain, and a finalize.
type Case = (Endpoint, &'static str, Option<i64>, Option<i64>, Option<i64>);

#[test]
fn a_limit_holds_what_it_is_about() {
    const OF_DOMAIN: &str = "too many certificates (50) already issued for \"a.test\" in the last 168h0m0s";
    const EXACT: &str = "too many certificates (5) already issued for this exact set of identifiers";
    let named = |key: &str, name: &str| OrderRequest {
        names: vec![name.to_owned()],
        ..wanted(key, None, false)
    };
    let table: [Case; 7] = [
        (ORDER, OF_ACCOUNT, Some(600), Some(600), None),
        (ORDER, OF_DOMAIN, None, Some(600), None),
        (ORDER, EXACT, None, None, None),
        (ORDER, "slow down", None, None, None),
        (Endpoint::Finalize, "slow down", None, None, None),
        (Endpoint::Finalize, OF_DOMAIN, None, Some(600), None),
        (
            Endpoint::Finalize,
            "limit of this account",
            Some(600),
            Some(600),
            Some(600),
        ),
    ];
    for (endpoint, detail, other, same_domain, finalize) in table {
        let mut queue = queue(300);
        queue.refused(&named("x", "www.a.test"), endpoint, &limited(Some(600), detail), at(0));
        let mut order = |wanted| match queue.admit(&wanted, at(1)) {
            Admission::NotBefore(until) => Some(until.duration_since(at(0)).as_secs()),
            Admission::Go => None,
            Admission::Queued => panic!("{detail}: queued"),
        };
        assert_eq!(
            order(named("o", "www.b.test")),
            other,
            "{endpoint:?} {detail}: another order"
        );
        assert_eq!(
            order(named("s", "api.a.test")),
            same_domain,
            "{endpoint:?} {detail}: the same domain"
        );
        let held = queue.not_before(Endpoint::Finalize, false, at(1));
        assert_eq!(held, finalize.map(at), "{endpoint:?} {detail}: finalize");
    }
}

#[test]
fn an_endpoint_that_refuses_two_certificates_is_left_alone_for_minutes() {
    let mut queue = queue(300);
    let refuse = |queue: &mut FairQueue, key: &str, second| {
        queue.refused(
            &wanted(key, None, false),
            Endpoint::Finalize,
            &limited(Some(90_000), "slow down"),
            at(second),
        );
    };
    refuse(&mut queue, "a", 0);
    refuse(&mut queue, "a", 1);
    assert_eq!(
        queue.not_before(Endpoint::Finalize, false, at(2)),
        None,
        "its own affair"
    );
    refuse(&mut queue, "b", 2);
    assert_eq!(queue.not_before(Endpoint::Finalize, false, at(3)), Some(at(302)));
    assert_eq!(queue.not_before(Endpoint::Order, false, at(3)), None);
    assert_eq!(queue.admit(&wanted("c", None, false), at(3)), Admission::Go);
}

#[test]
fn a_name_that_is_taken_again_is_not_limited_any_more() {
    let mut queue = queue(300);
    let detail = "too many certificates (50) already issued for \"www.a.test\"";
    queue.refused(&wanted("a", None, false), ORDER, &limited(Some(600), detail), at(0));
    assert_eq!(
        queue.admit(&wanted("a", None, false), at(1)),
        Admission::NotBefore(at(600))
    );
    queue.placed("a", &wanted("a", None, false).names, false, at(2));
    queue.done("a", at(3));
    assert_eq!(queue.admit(&wanted("a", None, false), at(3)), Admission::Go);
}

#[test]
fn a_server_that_is_away_is_no_limit() {
    let mut queue = queue(300);
    for retry_after in [None, Some(Duration::from_secs(40))] {
        let error = AcmeError::Unavailable {
            status: 503,
            retry_after,
            detail: String::new(),
        };
        assert!(!queue.refused(&wanted("a", None, false), Endpoint::Order, &error, at(0)));
        assert_eq!(queue.not_before(Endpoint::Finalize, true, at(1)), None);
    }
}

#[test]
fn a_clock_that_was_a_year_ahead_leaves_no_gate_and_no_ghost() {
    const YEAR: i64 = 365 * 86_400;
    let mut queue = queue(1);
    queue.resume("running");
    assert_eq!(queue.admit(&wanted("ghost", None, false), at(YEAR)), Admission::Queued);
    assert_eq!(queue.admit(&wanted("here", None, false), at(YEAR)), Admission::Queued);
    queue.refused(
        &wanted("x", None, false),
        ORDER,
        &limited(Some(600), OF_ACCOUNT),
        at(YEAR),
    );
    // The clock is right again. An order that is repeated is queued; one from the future is not.
    assert_eq!(queue.admit(&wanted("here", None, false), at(0)), Admission::Queued);
    assert_eq!(queue.done("running", at(1)), ["here"]);
    assert_eq!(queue.not_before(ORDER, false, at(1)), None);
    // The same from what was kept.
    let mut after = FairQueue::new(300, queue.state().clone());
    assert_eq!(after.admit(&wanted("b", None, false), at(1)), Admission::Go);
    let kept = LimitState {
        account_not_before: Some(at(YEAR)),
        ..LimitState::default()
    };
    assert_eq!(
        FairQueue::new(300, kept).not_before(Endpoint::Order, false, at(0)),
        None
    );
}

proptest! {
    #[test]
    fn no_gate_is_ever_believed_for_longer_than_a_day(ahead in -400i64 * 86_400..400 * 86_400) {
        let kept = LimitState {
            account_not_before: Some(at(ahead)),
            new_order_not_before: Some(at(ahead)),
            ..LimitState::default()
        };
        let queue = FairQueue::new(300, kept);
        let held = queue.not_before(ORDER, false, at(0));
        prop_assert_eq!(held.is_some(), ahead > 0 && ahead <= 86_400 + 300);
    }
}

#[test]
fn other_errors_teach_nothing() {
    let mut queue = queue(300);
    let error = AcmeError::OrderGone { detail: String::new() };
    assert!(!queue.refused(&wanted("a", None, false), ORDER, &error, at(0)));
    assert_eq!(*queue.state(), LimitState::default());
}

#[test]
fn the_state_survives_a_restart_in_a_few_bytes() {
    let mut before = queue(300);
    before.refused(&wanted("a", None, false), ORDER, &limited(Some(600), OF_ACCOUNT), at(0));
    let text = serde_json::to_string(before.state()).unwrap();
    assert!(text.len() < 200, "{text}");
    let mut after = FairQueue::new(300, serde_json::from_str(&text).unwrap());
    assert_eq!(
        after.admit(&wanted("b", None, false), at(1)),
        Admission::NotBefore(at(600))
    );
    assert_eq!(serde_json::to_string(&LimitState::default()).unwrap(), "{}");
}

/// `next` and `is_next` are two ways to the same answer.
#[test]
fn whoever_is_told_to_be_next_is_let_in_and_nobody_else() {
    let mut seed = 7_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    for _ in 0..300 {
        let mut queue = queue(usize::try_from(random(6)).unwrap());
        if random(2) == 0 {
            queue.refused(
                &wanted("x", None, random(2) == 0),
                ORDER,
                &limited(Some(5), OF_ACCOUNT),
                at(0),
            );
        }
        queue.resume("running");
        let all: Vec<OrderRequest> = (0..random(12))
            .map(|index| {
                let days = (random(4) > 0).then(|| i64::try_from(random(5)).unwrap());
                wanted(&format!("n{}/c{index}", random(3)), days, random(2) == 0)
            })
            .collect();
        for wanted in &all {
            queue.waiting_for_test(wanted, at(6));
        }
        let freed = queue.done("absent", at(6));
        for wanted in &all {
            let admitted = queue.clone().admit(wanted, at(6)) == Admission::Go;
            assert_eq!(admitted, freed.contains(&wanted.key), "{wanted:?} {freed:?}");
        }
    }
}

#[test]
fn one_of_another_namespace_does_not_wait_for_two_thousand() {
    let mut queue = queue(10);
    let many: Vec<OrderRequest> = (0..2_000)
        .map(|n| wanted(&format!("many/{n:04}"), None, false))
        .collect();
    let admitted = |queue: &mut FairQueue, wanted: &OrderRequest, now| queue.admit(wanted, at(now)) == Admission::Go;
    let went = many.iter().filter(|wanted| admitted(&mut queue, wanted, 0)).count();
    assert_eq!(went, 10);
    assert_eq!(queue.admit(&wanted("one/web", None, false), at(1)), Admission::Queued);
    // They had their turn: the next place that is free is ours.
    assert_eq!(queue.done("many/0000", at(2)), ["one/web"]);
    assert_eq!(queue.admit(&many[10], at(2)), Admission::Queued);
    assert!(admitted(&mut queue, &wanted("one/web", None, false), 2));
    assert_eq!(queue.done("many/0001", at(3)), ["many/0010"]);
}

/// Certificates of several namespaces, equally urgent, before one queue.
struct Crowd {
    queue: FairQueue,
    cap: usize,
    waiting: BTreeMap<String, VecDeque<OrderRequest>>,
    flying: VecDeque<String>,
    /// Places that each got since the last time that a namespace came or its queue became empty.
    places: BTreeMap<String, i64>,
}

impl Crowd {
    fn come(&mut self, namespace: &str, number: usize) {
        if !self.waiting.contains_key(namespace) {
            self.places.clear();
        }
        let one = wanted(&format!("{namespace}/{number:05}"), None, false);
        self.queue.waiting_for_test(&one, at(0));
        self.waiting.entry(namespace.to_owned()).or_default().push_back(one);
    }

    /// One ends when all places are taken, and those go who are freed to.
    fn step(&mut self) {
        let full = self.flying.len() == self.cap;
        let ended = full.then(|| self.flying.pop_front()).flatten().unwrap_or_default();
        for key in self.queue.done(&ended, at(1)) {
            let namespace = key.split('/').next().unwrap().to_owned();
            let line = self.waiting.get_mut(&namespace).unwrap();
            let next = line.pop_front().unwrap();
            assert_eq!(next.key, key, "first come, first served within a namespace");
            assert_eq!(self.queue.admit(&next, at(1)), Admission::Go);
            self.flying.push_back(key);
            *self.places.entry(namespace.clone()).or_default() += 1;
            if line.is_empty() {
                self.waiting.remove(&namespace);
                self.places.clear();
            }
        }
    }

    /// By how many places the luckiest of those who wait is ahead of the unluckiest.
    fn apart(&self) -> i64 {
        let of = |namespace| self.places.get(namespace).copied().unwrap_or_default();
        let (least, most) = (self.waiting.keys().map(of).min(), self.waiting.keys().map(of).max());
        most.unwrap_or_default() - least.unwrap_or_default()
    }
}

proptest! {
    #[test]
    fn none_of_the_namespaces_that_wait_gets_more_than_two_places_more_than_another(
        cap in 1usize..5,
        comes in proptest::collection::vec((0u8..4, 1usize..40), 1..12),
    ) {
        let (queue, waiting, flying, places) = (queue(cap), BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        let mut crowd = Crowd { queue, cap, waiting, flying, places };
        let mut number = 0;
        for (namespace, count) in comes {
            for _ in 0..count {
                number += 1;
                crowd.come(&format!("n{namespace}"), number);
            }
            for _ in 0..7 {
                crowd.step();
                prop_assert!(crowd.apart() <= 2, "{:?}", crowd.places);
            }
        }
    }
}

#[test]
fn until_a_user_has_acted_at_the_ca_one_order_in_a_quarter_of_an_hour_finds_out() {
    let error = AcmeError::Rejected(Problem {
        kind: "userActionRequired".to_owned(),
        ..Problem::default()
    });
    let mut queue = queue(300);
    let (first, second, renewal) = (
        wanted("a", None, false),
        wanted("b", None, false),
        wanted("c", Some(9), true),
    );
    assert_eq!(queue.admit(&first, at(0)), Admission::Go);
    assert!(queue.refused(&first, ORDER, &error, at(0)), "kept over a restart");
    let until = Admission::NotBefore(at(900));
    for request in [&first, &second, &renewal] {
        assert_eq!(queue.admit(request, at(1)), until, "renewals are not exempt");
    }
    let mut queue = FairQueue::new(300, queue.state().clone());
    assert_eq!(queue.admit(&second, at(899)), until, "after a restart");
    assert_eq!(queue.admit(&second, at(900)), Admission::Go);
    assert_eq!(queue.admit(&first, at(900)), Admission::Queued, "one finds out");
    queue.refused(&second, ORDER, &error, at(901));
    assert_eq!(queue.admit(&first, at(902)), Admission::NotBefore(at(1801)));
    assert_eq!(queue.admit(&first, at(1801)), Admission::Go);
    queue.placed("a", &first.names, false, at(1802));
    assert_eq!(queue.admit(&second, at(1802)), Admission::Go);
    assert_eq!(queue.admit(&renewal, at(1802)), Admission::Go);
}
