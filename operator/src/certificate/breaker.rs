//! Holds a re-issue of too many certificates at once that nobody asked for.
//!
//! A mishap (Secrets deleted by a script, a restored backup, a bug of ours) must not become
//! thousands of orders: the CA would refuse them, and the certificates that are really due with
//! them. So much may pass at once; the rest is let through slowly, and said aloud.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

/// However few certificates there are, this many may always be re-issued at once.
pub const AT_LEAST: usize = 10;
/// How long it takes until as many again may pass.
const REFILL: Duration = Duration::from_secs(600);

/// What the breaker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
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
    pub fn ask(&mut self, uid: &str, total: usize, now: Timestamp) -> Verdict {
        #[allow(clippy::cast_precision_loss, reason = "counts of certificates are far below 2^52")]
        let size = (total as f64 * self.share).max(AT_LEAST as f64);
        let elapsed = now.duration_since(self.filled).as_secs_f64().max(0.0);
        self.taken = (self.taken - elapsed * size / REFILL.as_secs_f64()).max(0.0);
        self.filled = now;
        match self.held.get(uid) {
            Some(until) if *until <= now => {
                self.held.remove(uid);
                Verdict::Pass
            }
            Some(until) => Verdict::Held { until: *until },
            None => {
                self.taken += 1.0;
                if self.taken <= size {
                    return Verdict::Pass;
                }
                let wait = (self.taken - size) * REFILL.as_secs_f64() / size;
                let until = now.checked_add(Duration::from_secs_f64(wait)).unwrap_or(Timestamp::MAX);
                self.held.insert(uid.to_owned(), until);
                Verdict::Held { until }
            }
        }
    }

    /// It is not to be re-issued any more: it was mended, renewed or deleted. One that was still held gives its place back.
    pub fn forget(&mut self, uid: &str) {
        if self.held.remove(uid).is_some() {
            self.taken = (self.taken - 1.0).max(0.0);
        }
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn storm(breaker: &mut Breaker, count: usize, total: usize, now: Timestamp) -> usize {
        (0..count)
            .filter(|n| breaker.ask(&n.to_string(), total, now) == Verdict::Pass)
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
        assert_eq!(breaker.ask("10", 10, at(59)), Verdict::Held { until: at(60) });
        assert_eq!(breaker.ask("10", 10, at(60)), Verdict::Pass);
        assert_eq!(breaker.ask("11", 10, at(60)), Verdict::Held { until: at(120) });
        assert_eq!(breaker.ask("11", 10, at(120)), Verdict::Pass);
        assert_eq!(breaker.held(), 0);
    }

    #[test]
    fn one_that_was_mended_is_forgotten() {
        let mut breaker = Breaker::new(20, at(0));
        storm(&mut breaker, 11, 10, at(0));
        breaker.forget("10");
        assert_eq!(breaker.held(), 0);
        // Its place is the next one's.
        assert_eq!(breaker.ask("11", 10, at(0)), Verdict::Held { until: at(60) });
    }

    proptest! {
        #[test]
        fn no_more_pass_in_any_time_than_the_bucket_and_its_refill(asks in proptest::collection::vec((0u32..400, 0i64..30), 1..600)) {
            let mut breaker = Breaker::new(20, at(0));
            let (mut now, mut passed) = (0, 0);
            for (uid, pause) in asks {
                now += pause;
                passed += i64::from(breaker.ask(&uid.to_string(), 100, at(now)) == Verdict::Pass);
                // 20 at once, then 20 in 600 s.
                prop_assert!(passed <= 20 + now / 30 + 1, "{passed} after {now} s");
            }
        }
    }
}
