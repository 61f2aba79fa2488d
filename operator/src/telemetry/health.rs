//! State behind `/healthz` and `/readyz`.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

/// Interval at which the reconcile runtime shows that it runs.
const BEAT_EVERY: Duration = Duration::from_secs(10);

/// A runtime silent for longer than this hangs, and the process is to be restarted.
pub const SILENCE: Duration = Duration::from_mins(1);

/// The pulse of the reconcile runtime. Clones share it.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    origin: Instant,
    /// Milliseconds from `origin` to the last beat.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            last: Arc::default(),
        }
    }
}

impl Heartbeat {
    /// Beats until `stop`. Spawn it on the runtime that is watched, and serve health on another.
    pub async fn keep(self, stop: CancellationToken) {
        let mut beats = interval(BEAT_EVERY);
        while stop.run_until_cancelled(beats.tick()).await.is_some() {
            let elapsed = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last.store(elapsed, Ordering::Relaxed);
        }
    }

    /// Time since the last beat.
    pub fn silence(&self) -> Duration {
        self.origin
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// Conditions for the process to be ready. Clones share them.
///
/// Leadership is not among it: a standby with synced caches is ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    missing: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Readiness {
    /// Nothing is ready before every one of `what` is.
    pub fn awaiting(what: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            missing: Arc::new(Mutex::new(what.into_iter().collect())),
        }
    }

    /// Records that `what` is reached.
    pub fn reached(&self, what: &str) {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }

    /// Returns the missing conditions, in alphabetical order.
    pub fn missing(&self) -> Vec<&'static str> {
        self.missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_runs_is_never_silent_for_long_and_one_that_stops_is() {
        let (pulse, stop) = (Heartbeat::default(), CancellationToken::new());
        tokio::spawn(pulse.clone().keep(stop.clone()));
        sleep(Duration::from_secs(305)).await;
        assert_eq!(pulse.silence(), Duration::from_secs(5));
        stop.cancel();
        sleep(Duration::from_secs(1)).await;
        advance(SILENCE).await;
        assert_eq!(pulse.silence(), Duration::from_secs(66));
    }

    #[test]
    fn readiness_names_what_is_missing_until_all_is_reached() {
        let readiness = Readiness::awaiting(["secrets", "certificates"]);
        let clone = readiness.clone();
        assert_eq!(readiness.missing(), ["certificates", "secrets"]);
        clone.reached("secrets");
        clone.reached("secrets");
        assert_eq!(readiness.missing(), ["certificates"]);
        clone.reached("certificates");
        assert_eq!(readiness.missing(), Vec::<&str>::new());
    }
}
