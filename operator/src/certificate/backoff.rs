//! When a failed attempt is made again (`lessons.md` 2, 5): by the class of the failure, never a
//! fixed hour, and always before a certificate that is still good runs out.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::failure::Class;

/// Steps between attempts that the CA refuses, in seconds; the last one repeats. 1 m, 10 m, 100 m, then daily: what
/// public CAs ask of their clients, and under their limit of five failures an hour for a name.
const REFUSED: [u64; 4] = [60, 600, 6_000, 86_400];
/// Steps between attempts that failed on the way: at most 15 minutes apart with the tenth that is added.
const TRANSIENT: [u64; 3] = [60, 300, 810];
/// A step of a day, for what only a changed spec helps.
const DAILY: u64 = 86_400;
/// No attempt sooner than this, whatever is left of the lifetime.
const MIN_SECONDS: u64 = 5;
/// A server that asks for more than a week is asked again after a week.
const MAX_SECONDS: u64 = 7 * 86_400;

/// When to try again after `attempts` failures in a row (1 for the first) at `now`.
///
/// `not_after` is the end of the certificate that serves meanwhile: as it comes near, attempts
/// come closer, a tenth of what is left apart, so that short-lived certificates are not lost to a
/// pause made for long ones. A wait that a CA requested is never shortened.
/// `seed` spreads the attempts of many over a tenth of the pause.
pub fn next_attempt(class: Class, attempts: u32, not_after: Option<Timestamp>, seed: u64, now: Timestamp) -> Timestamp {
    let pause = match class {
        Class::RetryAfter(wait) => return after(now, wait.as_secs().clamp(1, MAX_SECONDS) * 1000 + seed % 1000),
        // Its server's outage, or its account's queue, has reckoned with everything.
        Class::Away(pause) | Class::Held(pause) => {
            let millis = pause.as_secs().clamp(1, MAX_SECONDS) * 1000;
            return after(now, millis + seed % (millis / 10).max(1));
        }
        Class::Waiting(pause) => pause.as_secs(),
        Class::Spec => DAILY,
        Class::Transient => step(&TRANSIENT, attempts),
        Class::Refused => step(&REFUSED, attempts),
    };
    let pause = match class {
        Class::Transient | Class::Waiting(_) => {
            urgency(not_after, now).map_or(pause, |urgency| pause.min(urgency.as_secs().max(MIN_SECONDS)))
        }
        _ => pause,
    };
    let millis = pause.max(1) * 1000;
    after(now, millis + seed % (millis / 10).max(1))
}

/// Returns the pause that a certificate which ends at `not_after` can spare between two attempts; `None` after its end.
pub fn urgency(not_after: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let left = not_after?.duration_since(now);
    (left > SignedDuration::ZERO).then(|| left.unsigned_abs() / 10)
}

fn step(steps: &[u64], attempts: u32) -> u64 {
    let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    steps.get(index).or(steps.last()).copied().unwrap_or(DAILY)
}

fn after(now: Timestamp, millis: u64) -> Timestamp {
    now.checked_add(Duration::from_millis(millis)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn pause(class: Class, attempts: u32, not_after: Option<&str>) -> i64 {
        let end = not_after.map(|end| end.parse().unwrap());
        next_attempt(class, attempts, end, 0, now())
            .duration_since(now())
            .as_secs()
    }

    #[test]
    fn the_pause_grows_from_a_minute_to_a_day() {
        for (attempts, seconds) in [(0, 60), (1, 60), (2, 600), (3, 6_000), (4, 86_400), (90, 86_400)] {
            assert_eq!(pause(Class::Refused, attempts, None), seconds, "after {attempts}");
        }
    }

    #[test]
    fn what_failed_on_the_way_is_tried_again_within_a_quarter_of_an_hour() {
        for (attempts, seconds) in [(0, 60), (1, 60), (2, 300), (3, 810), (90, 810)] {
            assert_eq!(pause(Class::Transient, attempts, None), seconds, "after {attempts}");
        }
        for class in [Class::Transient, Class::Away(Duration::from_secs(810))] {
            for seed in [0, 1, 80_999, u64::MAX] {
                let wait = next_attempt(class, 90, None, seed, now()).duration_since(now());
                assert!(wait <= SignedDuration::from_mins(15), "{class:?} {seed}: {wait}");
            }
        }
    }

    #[test]
    fn what_a_ca_told_us_is_kept() {
        let wait = Class::RetryAfter(Duration::from_secs(1234));
        assert_eq!(pause(wait, 1, None), 1234);
        assert_eq!(pause(wait, 9, Some("2026-11-21T10:00:30Z")), 1234);
    }

    #[test]
    fn a_certificate_about_to_run_out_is_tried_more_often() {
        assert_eq!(pause(Class::Transient, 4, Some("2026-11-21T11:00:00Z")), 360);
        assert_eq!(pause(Class::Transient, 4, Some("2026-11-21T10:00:10Z")), 5);
        // Once it has run out the plain pauses are back.
        assert_eq!(pause(Class::Transient, 2, Some("2026-11-21T09:00:00Z")), 300);
        // A CA that said no is not asked more often for that.
        assert_eq!(pause(Class::Refused, 4, Some("2026-11-21T11:00:00Z")), 86_400);
    }

    proptest! {
        #[test]
        fn the_next_attempt_is_always_ahead_and_within_a_week(attempts in 0u32..100, seed: u64, wait in 0u64..u64::MAX / 2000, left in -100_000i64..100_000) {
            let end = now().checked_add(SignedDuration::from_secs(left)).unwrap();
            for class in [Class::Waiting(Duration::from_secs(300)), Class::Transient, Class::Away(Duration::from_secs(wait)), Class::Held(Duration::from_secs(wait)), Class::RetryAfter(Duration::from_secs(wait)), Class::Refused, Class::Spec] {
                let wait = next_attempt(class, attempts, Some(end), seed, now()).duration_since(now());
                prop_assert!(wait >= SignedDuration::from_secs(1), "{class:?}: {wait:?}");
                prop_assert!(wait <= SignedDuration::from_secs(8 * 86_400), "{class:?}: {wait:?}");
            }
        }
    }
}
