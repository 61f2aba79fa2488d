//! Own writes that the watch has not shown yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{ObjectKey, version};

/// Longest time that a reconcile waits for the watch to show an own write.
pub const MAX_STALENESS: Duration = Duration::from_secs(5);

/// A write that was not seen yet: the kind that was written, its version, and when.
type Write = (&'static str, u64, Instant);

/// Own writes by the object that is reconciled, which may have written several kinds.
#[derive(Default)]
pub struct PendingWrites(Mutex<HashMap<ObjectKey, Vec<Write>>>);

impl PendingWrites {
    /// Records that the reconcile of `owner` wrote `written`, a version of an object of `kind`, while the store has `stored`.
    pub fn expect(&self, owner: ObjectKey, kind: &'static str, stored: &str, written: &str) {
        let Some(written) = version(written) else { return };
        if version(stored).is_some_and(|stored| stored >= written) {
            return;
        }
        let mut all = self.lock();
        let writes = all.entry(owner).or_default();
        writes.retain(|(other, _, _)| *other != kind);
        writes.push((kind, written, Instant::now()));
    }

    /// Records that the watch shows this version of an object of `kind`.
    pub fn seen(&self, owner: &ObjectKey, kind: &'static str, seen: &str) {
        let Some(seen) = version(seen) else { return };
        if let Some(writes) = self.lock().get_mut(owner) {
            writes.retain(|(other, written, _)| *other != kind || seen < *written);
        }
    }

    /// Returns how long to wait until the stores can be trusted about `owner`; `None` when they can.
    pub fn staleness(&self, owner: &ObjectKey) -> Option<Duration> {
        let mut all = self.lock();
        let left = all
            .get(owner)?
            .iter()
            .map(|(_, _, since)| MAX_STALENESS.saturating_sub(since.elapsed()))
            .max()
            .filter(|left| !left.is_zero());
        if left.is_none() {
            all.remove(owner);
        }
        left
    }

    /// Forgets the writes for a deleted object.
    pub fn forget(&self, owner: &ObjectKey) {
        self.lock().remove(owner);
    }

    /// Forgets all writes, since everything was listed again.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Vec<Write>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
