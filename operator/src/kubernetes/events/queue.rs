//! The queue of events, and the memory of what was said.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::{sync::Notify, time::Instant};

use super::{EventType, Pending};

/// Events that wait to be written.
pub(super) const QUEUED: usize = 1_024;

/// Events remembered as said; beyond this many the oldest may be repeated early.
pub(super) const REMEMBERED: usize = 16_384;

/// Time for which a published event is not repeated.
pub(super) const MEMORY: Duration = Duration::from_hours(1);

/// Identity of an event: its object and its text.
pub(super) fn fingerprint(regarding: &ObjectReference, type_: EventType, reason: &str, note: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&regarding.kind, &regarding.namespace, &regarding.name, &regarding.uid).hash(&mut hasher);
    (type_, reason, note).hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Pending>,
    /// When each was said last.
    said: HashMap<u64, Instant>,
    /// The same, oldest first; an entry that `said` does not confirm is void.
    order: VecDeque<(Instant, u64)>,
}

/// Bounded; pushing never waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    arrived: Notify,
}

impl Queue {
    /// Queues an event unless it was said within [`MEMORY`] of `now`. True when one was dropped for
    /// want of room: the oldest Normal one, or else the oldest; a Normal one never displaces a Warning.
    pub(super) fn push(&self, pending: Pending, now: Instant) -> bool {
        let mut inner = self.lock();
        if !inner.remember(pending.fingerprint, now) {
            return false;
        }
        let full = inner.waiting.len() >= QUEUED;
        if full {
            let oldest_normal = inner
                .waiting
                .iter()
                .position(|waiting| waiting.type_ == EventType::Normal);
            let dropped = match (oldest_normal, pending.type_) {
                (Some(index), _) => inner.waiting.remove(index),
                (None, EventType::Warning) => inner.waiting.pop_front(),
                (None, EventType::Normal) => {
                    inner.said.remove(&pending.fingerprint);
                    return true;
                }
            };
            if let Some(dropped) = dropped {
                inner.said.remove(&dropped.fingerprint);
            }
        }
        inner.waiting.push_back(pending);
        drop(inner);
        self.arrived.notify_one();
        full
    }

    /// The oldest event, once there is one.
    pub(super) async fn pop(&self) -> Pending {
        loop {
            if let Some(pending) = self.try_pop() {
                return pending;
            }
            self.arrived.notified().await;
        }
    }

    /// The oldest event, if there is one.
    pub(super) fn try_pop(&self) -> Option<Pending> {
        self.lock().waiting.pop_front()
    }

    /// It was not said after all.
    pub(super) fn forget(&self, fingerprint: u64) {
        self.lock().said.remove(&fingerprint);
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Notes that something is said at `now`; false when it was said within [`MEMORY`] already.
    fn remember(&mut self, fingerprint: u64, now: Instant) -> bool {
        if self
            .said
            .get(&fingerprint)
            .is_some_and(|said| now.duration_since(*said) < MEMORY)
        {
            return false;
        }
        self.said.insert(fingerprint, now);
        self.order.push_back((now, fingerprint));
        while self.order.len() > REMEMBERED
            || self
                .order
                .front()
                .is_some_and(|(said, _)| now.duration_since(*said) >= MEMORY)
        {
            let Some((said, oldest)) = self.order.pop_front() else {
                break;
            };
            if self.said.get(&oldest) == Some(&said) {
                self.said.remove(&oldest);
            }
        }
        true
    }
}
