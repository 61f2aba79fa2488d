//! Times that were kept, in a status or in memory, and how far they are believed.
//!
//! A clock that was wrong for a moment leaves times behind that lie where no right clock would have put them. They count
//! as never written: clamped to the farthest that is possible, they would be put off again at each look.

use jiff::{SignedDuration, Timestamp};

/// Clocks of two machines may differ by this much.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The next attempt: a week at most, and a tenth to spread many.
pub const ATTEMPT: Horizon = Horizon(SignedDuration::from_hours(8 * 24));

/// The next question for renewal information: a day at most, and a tenth to spread many.
pub const RENEWAL_INFO: Horizon = Horizon(SignedDuration::from_hours(27));

/// Longest time that a kept time can lie ahead of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon(pub SignedDuration);

impl Horizon {
    /// Returns `time`, unless it lies farther ahead than its writer can have meant.
    pub fn believe(self, time: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let most = now.checked_add(self.0).and_then(|most| most.checked_add(SKEW));
        time.filter(|time| most.is_err() || most.is_ok_and(|most| *time <= most))
    }
}

/// Returns the time at which something happened, unless it is yet to come.
pub fn past(time: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    Horizon(SignedDuration::ZERO).believe(time, now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn ahead(seconds: i64) -> Option<Timestamp> {
        now().checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    #[test]
    fn a_time_is_believed_as_far_as_it_can_have_been_meant() {
        const DAY: i64 = 86_400;
        for (seconds, attempt, advice, happened) in [
            (-400 * DAY, true, true, true),
            (0, true, true, true),
            (200, true, true, true),
            (400, true, true, false),
            (DAY, true, true, false),
            (2 * DAY, true, false, false),
            (8 * DAY, true, false, false),
            (9 * DAY, false, false, false),
            (365 * DAY, false, false, false),
        ] {
            let time = ahead(seconds);
            assert_eq!(ATTEMPT.believe(time, now()).is_some(), attempt, "attempt {seconds}");
            assert_eq!(RENEWAL_INFO.believe(time, now()).is_some(), advice, "advice {seconds}");
            assert_eq!(past(time, now()).is_some(), happened, "past {seconds}");
        }
        assert_eq!(ATTEMPT.believe(None, now()), None);
    }

    proptest! {
        #[test]
        fn what_is_believed_is_unchanged_and_near(second in -62_135_596_800i64..253_402_207_200, bound in 0i64..1_000_000) {
            let time = Timestamp::from_second(second).unwrap();
            let horizon = Horizon(SignedDuration::from_secs(bound));
            match horizon.believe(Some(time), now()) {
                Some(same) => {
                    prop_assert_eq!(same, time);
                    prop_assert!(time.duration_since(now()).as_secs() <= bound + SKEW.as_secs());
                }
                None => prop_assert!(time.duration_since(now()).as_secs() > bound),
            }
        }

        #[test]
        fn a_jump_of_the_clock_delays_nothing_by_more_than_the_horizon(jump in -400i64 * 86_400..400 * 86_400, pause in 1i64..604_800) {
            // Written while the clock was wrong by `jump`.
            let failed = ahead(jump);
            let next = ahead(jump + pause);
            // An attempt is held only when its failure is past and its time can be meant.
            let held = past(failed, now()).and(ATTEMPT.believe(next, now())).filter(|next| *next > now());
            if let Some(next) = held {
                prop_assert!(next.duration_since(now()).as_secs() <= pause + SKEW.as_secs());
            }
        }
    }
}
