//! Watches that recover quickly, all in the same way.
//!
//! A watch that fails is resumed after a pause of at most [`MAX_BACKOFF`], and sooner when the API server answers another
//! else ([`Recovery`]). One whose version is too old (410) is listed again at once.

use std::{fmt::Debug, time::Duration};

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use kube::{
    Api, Resource,
    runtime::{
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::client::Recovery;

/// Longest pause while the API server cannot be reached, or fails.
pub const MAX_BACKOFF: Duration = Duration::from_millis(1_500);
/// The same while it refuses: a right is missing, which no hurry brings.
const MAX_REFUSED_BACKOFF: Duration = Duration::from_secs(10);
/// The first pause; it doubles.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// Watches that a recovery wakes come back within this time, spread over its second half.
const WAKE: Duration = Duration::from_millis(250);
/// A failure this long after the one before begins a new series.
const SERIES: Duration = Duration::from_secs(30);
/// A failing watch is logged again after this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Cause of an interrupted watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its version is too old: the list has to be read again.
    Gone,
    /// The API server does not answer, or fails.
    Unavailable,
    /// The API server says no.
    Refused,
}

impl Trouble {
    /// Sorts an error.
    pub fn of(error: &watcher::Error) -> Self {
        use watcher::Error as E;
        let code = match error {
            E::WatchError(status)
            | E::InitialListFailed(kube::Error::Api(status))
            | E::WatchStartFailed(kube::Error::Api(status))
            | E::WatchFailed(kube::Error::Api(status)) => status.code,
            _ => return Self::Unavailable,
        };
        match code {
            410 => Self::Gone,
            401 | 403 => Self::Refused,
            _ => Self::Unavailable,
        }
    }
}

/// Returns the pause after `count` failures of the same kind in a row (1 for the first); `random` is within 0 and 1.
pub fn pause(trouble: Trouble, count: u32, random: f64) -> Duration {
    let longest = match trouble {
        Trouble::Gone if count <= 1 => return Duration::ZERO,
        Trouble::Gone | Trouble::Unavailable => MAX_BACKOFF,
        Trouble::Refused => MAX_REFUSED_BACKOFF,
    };
    let grown = MIN_BACKOFF
        .saturating_mul(2u32.saturating_pow(count.saturating_sub(1)))
        .min(longest);
    grown.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

/// Pauses of a watch that nothing wakes: a command's.
#[derive(Debug, Default)]
pub struct Pauses(u32);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0 = self.0.saturating_add(1);
        Some(pause(Trouble::Unavailable, self.0, rand::random()))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Watches forever. `kind` is for the log.
pub fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    kind: &'static str,
    recovery: &Recovery,
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    lasting(move || watcher(api.clone(), config.clone()).boxed(), kind, recovery)
}

type Results<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// The failures of one watch that have not ended.
#[derive(Debug, Default)]
struct Series {
    kind: Option<Trouble>,
    count: u32,
    last: Option<Instant>,
    logged: Option<Instant>,
}

impl Series {
    /// Counts a failure. Returns its number among those of its kind in a row.
    fn note(&mut self, trouble: Trouble) -> u32 {
        let now = Instant::now();
        let is_old = self.last.is_none_or(|last| now.duration_since(last) > SERIES);
        if is_old || self.kind != Some(trouble) {
            self.count = 0;
        }
        self.kind = Some(trouble);
        self.last = Some(now);
        self.count = self.count.saturating_add(1);
        self.count
    }

    fn is_to_be_logged(&mut self) -> bool {
        let now = Instant::now();
        let due = self
            .logged
            .is_none_or(|logged| now.duration_since(logged) >= LOG_INTERVAL);
        if due {
            self.logged = Some(now);
        }
        due
    }
}

fn lasting<K: Send + 'static>(
    make: impl Fn() -> Results<K> + Send + 'static,
    kind: &'static str,
    recovery: &Recovery,
) -> BoxStream<'static, Event<K>> {
    let (events, series, news) = (make(), Series::default(), recovery.subscribe());
    stream::unfold((make, events, series, news), move |(make, mut events, mut series, mut news)| async move {
        loop {
            match events.next().await {
                Some(Ok(event)) => {
                    // To begin a list is no answer yet.
                    if series.count > 0 && !matches!(event, Event::Init) {
                        tracing::info!(kind, failures = series.count, "watch resumed");
                        series = Series::default();
                    }
                    return Some((event, (make, events, series, news)));
                }
                Some(Err(error)) => {
                    news.mark_unchanged();
                    let trouble = Trouble::of(&error);
                    let count = series.note(trouble);
                    let pause = pause(trouble, count, rand::random());
                    if trouble == Trouble::Gone {
                        tracing::debug!(kind, %error, "watch is too old and is listed again");
                        // kube repeats the same version when the watch itself was answered 410.
                        events = make();
                    } else if series.is_to_be_logged() {
                        tracing::warn!(kind, %error, "watch interrupted; it is resumed when the API server answers");
                    }
                    tokio::select! {
                        () = sleep(pause) => {}
                        // A refusal is an answer: another's answer changes nothing about it.
                        Ok(()) = news.changed(), if trouble != Trouble::Refused => {
                            sleep(pause.min(WAKE.mul_f64(0.5 + rand::random::<f64>() / 2.0))).await;
                        }
                    }
                }
                None => events = make(),
            }
        }
    })
    .boxed()
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
