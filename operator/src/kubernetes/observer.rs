//! Observes what is written to the API server.

use std::{borrow::Cow, fmt::Debug, sync::Arc};

/// Result of one write.
#[derive(Debug, Clone, Copy)]
pub struct WriteOutcome<'a> {
    /// `apply`, `apply_status`, `create`, `delete`.
    pub verb: &'static str,
    pub kind: &'a Cow<'static, str>,
    /// `Ok`, or the reason of the error.
    pub result: &'static str,
}

/// Is informed of writes and of events that were dropped.
pub trait WriteObserver: Debug + Send + Sync {
    fn written(&self, outcome: WriteOutcome<'_>);
    /// An event was not written: too many were waiting, or the API server did not take it.
    fn event_dropped(&self);
}

/// An observer that many parts share.
pub type SharedObserver = Arc<dyn WriteObserver>;

/// Counts for tests.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Counts {
    writes: std::sync::Mutex<Vec<(&'static str, String, &'static str)>>,
    dropped: std::sync::atomic::AtomicU64,
}

#[cfg(test)]
impl WriteObserver for Counts {
    fn written(&self, outcome: WriteOutcome<'_>) {
        let WriteOutcome { verb, kind, result } = outcome;
        let mut writes = self.writes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writes.push((verb, kind.to_string(), result));
    }

    fn event_dropped(&self) {
        self.dropped.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Counts {
    pub(super) fn writes(&self, verb: &str, kind: &str, result: &str) -> usize {
        let writes = self.writes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let same = |(known, of, ended): &&(&str, String, &str)| *known == verb && of == kind && *ended == result;
        writes.iter().filter(same).count()
    }

    pub(super) fn events_dropped(&self) -> u64 {
        self.dropped.load(std::sync::atomic::Ordering::SeqCst)
    }
}
