#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
}

fn order(status: OrderStatus, expires: Option<i64>) -> OrderView {
    OrderView {
        url: "https://ca.test/order/7".into(),
        status,
        expires: expires.map(at),
        replaces: None,
        not_after_refused: None,
        error: None,
        authorizations: Vec::new(),
        unread: Vec::new(),
        polls: 9,
        retry_after: None,
    }
}

/// The minute in which an order that waits since minute 0 is given up.
fn given_up(view: &OrderView) -> i64 {
    let waiting = Waiting::continued(None, view, at(0));
    (0..10_000)
        .find(|minute| waiting.overdue(view, at(*minute)).is_some())
        .unwrap()
}

#[test]
fn a_ca_has_an_hour_or_until_the_order_expires() {
    use OrderStatus::{Pending, Processing, Ready, Valid};
    for status in [Pending, Ready, Processing, Valid] {
        for (expires, expected) in [
            (None, 60),
            (Some(10_080), 60),
            (Some(15), 15),
            (Some(-5), 60),
            (Some(60), 60),
        ] {
            assert_eq!(given_up(&order(status, expires)), expected, "{status:?} {expires:?}");
        }
    }
}

#[test]
fn the_failure_names_the_order_and_the_wait() {
    let view = order(OrderStatus::Processing, Some(15));
    let waiting = Waiting::continued(None, &view, at(0));
    assert_eq!(waiting.overdue(&view, at(14)), None);
    assert_eq!(waiting.left(&view, at(14)), Duration::from_secs(60));
    let failure = waiting.overdue(&view, at(16)).unwrap();
    assert_eq!((failure.reason, failure.class), ("OrderTimedOut", Class::Refused));
    for part in ["https://ca.test/order/7", "processing", "16m0s", &at(0).to_string()] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
    assert!(failure.may_fall_back());
}

#[test]
fn a_wait_goes_on_after_a_restart_and_ends_with_its_phase() {
    use OrderStatus::{Pending, Processing, Ready};
    let view = |status| order(status, None);
    let resumed = Waiting::resumed(at(0), &view(Processing));
    let continued = Waiting::continued(Some(resumed), &view(Processing), at(59));
    assert_eq!(continued.since(), at(0));
    assert!(continued.overdue(&view(Processing), at(60)).is_some());
    let validated = Waiting::continued(Some(Waiting::resumed(at(0), &view(Pending))), &view(Ready), at(59));
    assert_eq!(validated.since(), at(59), "the CA has done its part");
    let put_back = Waiting::continued(Some(resumed), &view(Processing), at(-100));
    assert_eq!(put_back.since(), at(-100), "a clock that was put back");
}
