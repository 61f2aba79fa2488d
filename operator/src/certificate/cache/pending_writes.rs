//! Our own writes that the watch has not shown yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long a reconcile waits for the watch to catch up with our own write.
pub(super) const MAX_STALENESS: Duration = Duration::from_secs(5);

/// Namespace and name of the Certificate that a write was for.
type Key = (String, String);

/// One of the writes for a Certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Of its status.
    Certificate,
    Secret,
}

/// What is awaited for a Certificate: the version, and since when.
#[derive(Default)]
struct Writes {
    certificate: Option<(u64, Instant)>,
    secret: Option<(u64, Instant)>,
}

impl Writes {
    fn part(&mut self, part: Part) -> &mut Option<(u64, Instant)> {
        match part {
            Part::Certificate => &mut self.certificate,
            Part::Secret => &mut self.secret,
        }
    }
}

/// What we wrote and have not yet seen come back.
#[derive(Default)]
pub(super) struct PendingWrites(Mutex<HashMap<Key, Writes>>);

impl PendingWrites {
    /// We wrote this version while the cache has `stored`.
    pub fn expect(&self, key: Key, part: Part, stored: Option<&str>, written: Option<&str>) {
        let Some(written) = version(written) else { return };
        if version(stored).is_some_and(|stored| stored >= written) {
            return;
        }
        *self.lock().entry(key).or_default().part(part) = Some((written, Instant::now()));
    }

    /// The watch shows this version.
    pub fn seen(&self, namespace: &str, name: &str, part: Part, seen: Option<&str>) {
        let Some(seen) = version(seen) else { return };
        if let Some(writes) = self.lock().get_mut(&(namespace.to_owned(), name.to_owned())) {
            writes.part(part).take_if(|(awaited, _)| seen >= *awaited);
        }
    }

    /// How long to wait before the caches can be trusted about a Certificate; none when they can.
    pub fn staleness(&self, namespace: &str, name: &str) -> Option<Duration> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut all = self.lock();
        let writes = all.get(&key)?;
        let left = [writes.certificate, writes.secret]
            .iter()
            .flatten()
            .map(|(_, since)| MAX_STALENESS.saturating_sub(since.elapsed()))
            .max()
            .filter(|left| !left.is_zero());
        if left.is_none() {
            all.remove(&key);
        }
        left
    }

    /// The Certificate is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Everything was listed anew.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Writes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resource versions can be compared as numbers (Kubernetes API concepts, since 1.35; etcd's before).
fn version(text: Option<&str>) -> Option<u64> {
    text?.parse().ok()
}
