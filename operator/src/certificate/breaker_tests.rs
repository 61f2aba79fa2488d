#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use proptest::prelude::*;

use crate::certificate::{samples, status::StatusBuilder};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn storm(breaker: &mut Breaker, count: usize, total: usize, now: Timestamp) -> usize {
    (0..count)
        .filter(|n| breaker.ask(&n.to_string(), total, now) == Admission::Pass)
        .count()
}

#[test]
fn a_fifth_may_pass_and_never_fewer_than_ten() {
    for (total, passes) in [(1, 10), (40, 10), (50, 10), (100, 20), (5_000, 1_000)] {
        let mut breaker = Breaker::new(20, at(0));
        assert_eq!(storm(&mut breaker, 2_000, total, at(0)), passes, "of {total}");
        assert_eq!(breaker.held(), 2_000 - passes);
    }
}

#[test]
fn the_held_are_let_through_one_by_one() {
    let mut breaker = Breaker::new(20, at(0));
    storm(&mut breaker, 12, 10, at(0));
    // Ten in ten minutes: one a minute.
    assert_eq!(breaker.ask("10", 10, at(59)), Admission::Held { until: at(60) });
    assert_eq!(breaker.ask("10", 10, at(60)), Admission::Pass);
    assert_eq!(breaker.ask("11", 10, at(60)), Admission::Held { until: at(120) });
    assert_eq!(breaker.ask("11", 10, at(120)), Admission::Pass);
    assert_eq!(breaker.held(), 0);
}

#[test]
fn one_that_was_mended_is_forgotten() {
    let mut breaker = Breaker::new(20, at(0));
    storm(&mut breaker, 11, 10, at(0));
    breaker.forget("10");
    assert_eq!(breaker.held(), 0);
    // Its place is the next one's.
    assert_eq!(breaker.ask("11", 10, at(0)), Admission::Held { until: at(60) });
}

/// Returns the statuses after `count` re-issues were requested at `now`.
fn traces(breaker: &mut Breaker, count: usize, now: Timestamp) -> Vec<(String, PastReissue)> {
    (0..count)
        .map(|n| {
            let trace = match breaker.ask(&n.to_string(), 10, now) {
                Admission::Pass => PastReissue::Passed { at: now },
                Admission::Held { until } => PastReissue::Held { until },
            };
            (n.to_string(), trace)
        })
        .collect()
}

#[test]
fn a_restart_fills_no_bucket_and_frees_nobody() {
    let traces = traces(&mut Breaker::new(20, at(0)), 13, at(0));
    let mut breaker = Breaker::new(20, at(30));
    breaker.recall(traces.clone(), 10, at(30));
    assert_eq!(breaker.held(), 3);
    for (uid, seconds) in [("10", 60), ("11", 120), ("12", 180)] {
        assert_eq!(
            breaker.ask(uid, 10, at(30)),
            Admission::Held { until: at(seconds) },
            "{uid}"
        );
    }
    // Who comes new comes last.
    assert_eq!(breaker.ask("new", 10, at(30)), Admission::Held { until: at(240) });
    assert_eq!(breaker.ask("10", 10, at(60)), Admission::Pass);

    // None was held, but the bucket is empty all the same.
    let mut breaker = Breaker::new(20, at(60));
    breaker.recall(traces.into_iter().take(10).collect(), 10, at(60));
    assert_eq!(
        breaker.ask("new", 10, at(60)),
        Admission::Pass,
        "one place was refilled"
    );
    assert_eq!(breaker.ask("newer", 10, at(60)), Admission::Held { until: at(120) });
}

#[test]
fn operators_that_crash_again_and_again_let_no_more_through_than_one() {
    let (mut past, mut passed) = (Vec::new(), 0);
    for crash in 0..20 {
        let now = at(crash * 3);
        let mut breaker = Breaker::new(20, now);
        breaker.recall(past.clone(), 10, now);
        for n in 0..10 {
            let uid = format!("{crash}-{n}");
            if breaker.ask(&uid, 10, now) == Admission::Pass {
                passed += 1;
                past.push((uid, PastReissue::Passed { at: now }));
            }
        }
    }
    assert_eq!(passed, 10, "and one more for each minute");
}

#[test]
fn a_trace_is_what_the_status_and_the_secret_tell() {
    let now = samples::issued_at();
    let held = samples::pair(&samples::certificate(""), now);
    let issued = samples::with_issued(samples::certificate(""), &held, now);
    let missing = Some(IssuanceReason::SecretMissing.as_str());
    let soon = samples::after(Duration::from_secs(599));
    assert_eq!(
        PastReissue::of(&issued, missing, soon),
        Some(PastReissue::Passed { at: now })
    );
    assert_eq!(PastReissue::of(&issued, Some("Due"), soon), None);
    assert_eq!(PastReissue::of(&issued, None, soon), None);
    assert_eq!(
        PastReissue::of(&issued, missing, samples::after(Duration::from_secs(600))),
        None
    );

    let before = StatusBuilder {
        certificate: &issued,
        now,
    };
    let with = |status| {
        let mut certificate = issued.clone();
        certificate.status = Some(status);
        certificate
    };
    let until = samples::after(Duration::from_secs(90));
    let held = with(before.held(IssuanceReason::SecretMissing, until));
    assert_eq!(PastReissue::of(&held, None, now), Some(PastReissue::Held { until }));
    assert_eq!(PastReissue::of(&held, missing, until), None, "its time has come");
    for (cause, trace) in [
        (IssuanceReason::SecretDamaged, Some(PastReissue::Passed { at: soon })),
        (IssuanceReason::Due, None),
    ] {
        let ordering = with(before.issuing(cause, &samples::ca(), None));
        assert_eq!(PastReissue::of(&ordering, missing, soon), trace, "{cause:?}");
    }
    assert_eq!(PastReissue::of(&samples::certificate(""), missing, now), None);
}

proptest! {
    #[test]
    fn no_more_pass_in_any_time_than_the_bucket_and_its_refill(asks in proptest::collection::vec((0u32..400, 0i64..30), 1..600)) {
        let mut breaker = Breaker::new(20, at(0));
        let (mut now, mut passed) = (0, 0);
        for (uid, pause) in asks {
            now += pause;
            passed += i64::from(breaker.ask(&uid.to_string(), 100, at(now)) == Admission::Pass);
            // 20 at once, then 20 in 600 s.
            prop_assert!(passed <= 20 + now / 30 + 1, "{passed} after {now} s");
        }
    }
}

#[test]
fn a_clock_that_was_a_year_ahead_holds_nobody_for_a_year() {
    let year = SignedDuration::from_hours(365 * 24);
    let (now, then) = (at(0), at(0).checked_add(year).unwrap());
    let mut breaker = Breaker::new(1, now);
    let held = (0..30).filter(|uid| breaker.ask(&uid.to_string(), 30, then) != Admission::Pass);
    assert_eq!(held.count(), 20);
    // Asked by the right clock, all have a time within what thirty can take.
    for uid in 0..30 {
        if let Admission::Held { until } = breaker.ask(&uid.to_string(), 30, now) {
            assert!(
                until.duration_since(now) <= SignedDuration::from_hours(1),
                "{uid}: {until}"
            );
        }
    }
    // The same from the statuses, after a restart.
    let mut after = Breaker::new(1, now);
    after.recall(vec![("a".into(), PastReissue::Held { until: then })], 30, now);
    assert_eq!(after.ask("a", 30, now), Admission::Pass);
}
