//! Decides what to do about one object that is written: wanted, written, failed, and when again. Values only.

use std::time::Duration;

use tokio::time::Instant;

/// After the first failure, doubled up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Result of a write. The error is text for people.
pub(super) type Outcome = Result<(), String>;

/// The next action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due<T> {
    Apply(T),
    Delete,
    /// It failed a moment ago.
    Later(Instant),
    Nothing,
}

/// The state of one object.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    /// As the API server acknowledged it, and when first.
    written: Option<(T, Instant)>,
    /// It may be there: a write was begun, and its answer may have been lost.
    may_exist: bool,
    busy: bool,
    failures: u32,
    failure: Option<String>,
    not_before: Option<Instant>,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self {
            written: None,
            may_exist: false,
            busy: false,
            failures: 0,
            failure: None,
            not_before: None,
        }
    }
}

impl<T: PartialEq> Schedule<T> {
    /// Decides. One write at a time.
    pub(super) fn due(&self, wanted: Option<T>, now: Instant) -> Due<T> {
        if self.busy {
            return Due::Nothing;
        }
        let due = match wanted {
            Some(wanted) if self.written.as_ref().is_none_or(|(written, _)| *written != wanted) => Due::Apply(wanted),
            None if self.may_exist => Due::Delete,
            Some(_) | None => Due::Nothing,
        };
        match self.not_before {
            Some(at) if at > now && due != Due::Nothing => Due::Later(at),
            _ => due,
        }
    }

    /// A write is on its way: remembered before it is sent.
    pub(super) fn begin(&mut self) {
        self.busy = true;
        self.may_exist = true;
    }

    pub(super) fn applied(&mut self, value: T, outcome: Outcome, now: Instant) {
        self.ended(outcome, now, |schedule| {
            let since = schedule.written.as_ref().map_or(now, |(_, since)| *since);
            schedule.written = Some((value, since));
        });
    }

    pub(super) fn deleted(&mut self, outcome: Outcome, now: Instant) {
        self.ended(outcome, now, |schedule| {
            schedule.written = None;
            schedule.may_exist = false;
        });
    }

    fn ended(&mut self, outcome: Outcome, now: Instant, success: impl FnOnce(&mut Self)) {
        self.busy = false;
        match outcome {
            Ok(()) => {
                self.failures = 0;
                self.failure = None;
                self.not_before = None;
                success(self);
            }
            Err(detail) => {
                let pause = PAUSE.saturating_mul(2u32.saturating_pow(self.failures)).min(MAX_PAUSE);
                self.failures = self.failures.saturating_add(1).min(16);
                self.failure = Some(detail);
                self.not_before = Some(now + pause);
            }
        }
    }

    /// Records that a dependency could not be written.
    pub(super) fn blocked(&mut self, detail: &str) {
        if self.written.is_none() {
            self.failure = Some(detail.to_owned());
        }
    }

    pub(super) fn written_at(&self) -> Option<Instant> {
        self.written.as_ref().map(|(_, at)| *at)
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The object does not exist, and no write is in progress.
    pub(super) const fn is_idle(&self) -> bool {
        !self.may_exist && !self.busy
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_write_at_a_time_and_a_failed_one_later() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(None, now), Due::Nothing);
        assert_eq!(schedule.due(Some(1), now), Due::Apply(1));
        schedule.begin();
        assert_eq!(
            (schedule.due(Some(2), now), schedule.due(None, now)),
            (Due::Nothing, Due::Nothing)
        );
        schedule.applied(1, Err("no".into()), now);
        assert_eq!((schedule.failure(), schedule.written_at()), (Some("no"), None));
        assert_eq!(schedule.due(Some(1), now), Due::Later(now + PAUSE));
        for pause in [2, 4, 8, 16, 30, 30] {
            schedule.begin();
            schedule.applied(1, Err("no".into()), now);
            assert_eq!(schedule.due(Some(1), now), Due::Later(now + Duration::from_secs(pause)));
        }
        assert_eq!(schedule.due(Some(1), now + MAX_PAUSE), Due::Apply(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_written_is_deleted_when_it_is_no_longer_wanted() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.begin();
        schedule.applied(1, Err("the answer was lost".into()), now);
        assert_eq!(schedule.due(None, now + PAUSE), Due::Delete);
        assert!(!schedule.is_idle());
        schedule.begin();
        schedule.deleted(Ok(()), now);
        assert_eq!((schedule.due(None, now), schedule.is_idle()), (Due::Nothing, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_what_is_written_keeps_its_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        let mut schedule = Schedule::default();
        schedule.applied(1, Ok(()), now);
        assert_eq!(schedule.due(Some(2), now), Due::Apply(2));
        schedule.applied(2, Ok(()), later);
        assert_eq!(
            (schedule.written_at(), schedule.due(Some(2), later)),
            (Some(now), Due::Nothing)
        );
    }
}
