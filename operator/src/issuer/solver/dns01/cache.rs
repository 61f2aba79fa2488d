//! A small map that forgets.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Holds at most `capacity` entries, each for `keep`. When it is full and nothing is stale it starts afresh:
/// what it holds is cheap to find again, and an eviction order would cost more than it saves.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    entries: Mutex<HashMap<K, (V, Instant)>>,
    capacity: usize,
    keep: Duration,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new(capacity: usize, keep: Duration) -> Self {
        Self {
            entries: Mutex::default(),
            capacity,
            keep,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(key)
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(value, _)| value.clone())
    }

    pub(super) fn put(&self, key: K, value: V) {
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.capacity {
            entries.retain(|_, (_, until)| now < *until);
            if entries.len() >= self.capacity {
                entries.clear();
            }
        }
        entries.insert(key, (value, now + self.keep));
    }

    pub(super) fn forget(&self, key: &K) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn entries_are_forgotten_in_time_and_never_exceed_the_capacity() {
        let cache = Cache::new(2, Duration::from_mins(1));
        cache.put("a", 1);
        tokio::time::advance(Duration::from_secs(30)).await;
        cache.put("b", 2);
        tokio::time::advance(Duration::from_millis(29_999)).await;
        assert_eq!((cache.get(&"a"), cache.get(&"b")), (Some(1), Some(2)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((cache.get(&"a"), cache.get(&"b")), (None, Some(2)));
        cache.put("c", 3);
        assert_eq!((cache.get(&"b"), cache.get(&"c")), (Some(2), Some(3)));
        cache.put("d", 4);
        assert_eq!(
            (cache.get(&"b"), cache.get(&"c"), cache.get(&"d")),
            (None, None, Some(4))
        );
        cache.forget(&"d");
        assert_eq!(cache.get(&"d"), None);
    }
}
