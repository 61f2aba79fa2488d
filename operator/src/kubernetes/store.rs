//! Objects of the API server as the operator keeps them: a [`Store`] for each kind and watch scope.
//!
//! A kind is added by implementing [`Projection`]: which objects are watched, and what is kept of each. The store lists and
//! watches them, detects what a repeated list no longer contains, and reports every change to its subscribers after it is
//! visible to readers. [`Index`] finds objects by what they refer to, [`PendingWrites`] knows which own writes the watch has
//! not shown yet, and [`super::controller`] reconciles the objects of a store.

mod index;
mod key;
mod pending_writes;

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

pub use self::{
    index::Index,
    key::ObjectKey,
    pending_writes::{MAX_STALENESS, PendingWrites},
};
use super::{client::Recovery, watch::watch as watch_all};

/// Objects on one page of a list: few enough that a page takes little memory while it is decoded.
pub const PAGE: u32 = 100;

/// Projection of the objects of a kind.
pub trait Projection: Sized + Send + Sync + 'static {
    /// Type that the API server's objects are decoded into.
    type Object: Resource + Clone + DeserializeOwned + Debug + Send + 'static;
    /// Name of the kind, for logs.
    const KIND: &'static str;

    /// Returns which objects are watched, and how. The default is all of them, in small pages.
    fn config() -> watcher::Config {
        watcher::Config::default().page_size(PAGE)
    }

    /// Returns what is kept of `object`.
    fn of(object: Self::Object) -> Self;

    fn key(&self) -> ObjectKey;

    /// Returns the UID, which distinguishes an object from a later one of the same name; an empty one never does.
    #[allow(clippy::unnecessary_literal_bound, reason = "implementations return a field")]
    fn object_uid(&self) -> &str {
        ""
    }

    /// Returns the resource version; without one every event of the watch is taken as newer.
    #[allow(clippy::unnecessary_literal_bound, reason = "implementations return a field")]
    fn object_version(&self) -> &str {
        ""
    }
}

/// A kind whose objects are kept whole, also those that cannot be decoded: one of them must affect no other.
pub trait Whole: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    const KIND: &'static str;

    /// Drops what nothing reads.
    fn prune(object: &mut DeserializeGuard<Self>) {
        *object.managed_fields_mut() = Vec::new();
    }
}

impl<K: Whole> Projection for DeserializeGuard<K> {
    type Object = Self;
    const KIND: &'static str = K::KIND;

    fn of(mut object: Self) -> Self {
        K::prune(&mut object);
        object
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::of(self)
    }

    fn object_uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    fn object_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or_default()
    }
}

/// A change of a store's objects, reported after it is visible.
#[derive(Debug)]
pub enum StoreEvent<P> {
    /// The object was created or updated.
    Applied {
        before: Option<Arc<P>>,
        after: Arc<P>,
        /// The operator wrote it, and the watch has not shown it yet.
        is_own_write: bool,
    },
    Deleted(Arc<P>),
    /// A list is complete, the first or one after an interruption: any object may have changed. `deleted` are those that
    /// the list no longer contains, also by another object of the same name.
    Listed {
        deleted: Vec<Arc<P>>,
    },
}

impl<P> StoreEvent<P> {
    /// Returns the objects that no longer exist.
    pub fn deleted(&self) -> &[Arc<P>] {
        match self {
            Self::Applied { .. } => &[],
            Self::Deleted(object) => std::slice::from_ref(object),
            Self::Listed { deleted } => deleted,
        }
    }
}

type Subscriber<P> = Box<dyn Fn(&Store<P>, &StoreEvent<P>) + Send + Sync>;

/// Progress of the first list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Listing,
    Listed,
    /// The watch has ended before its first list.
    Stopped,
}

/// The objects of one kind and watch scope.
pub struct Store<P> {
    objects: RwLock<HashMap<ObjectKey, Arc<P>>>,
    /// Objects of the list that is being read.
    listing: RwLock<HashMap<ObjectKey, Arc<P>>>,
    progress: watch::Sender<Progress>,
    subscribers: RwLock<Vec<Subscriber<P>>>,
}

impl<P: Projection> Store<P> {
    /// Returns an empty store.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: RwLock::default(),
            listing: RwLock::default(),
            progress: watch::Sender::default(),
            subscribers: RwLock::default(),
        })
    }

    /// Calls `subscriber` with every later change, in the order of subscription.
    pub fn subscribe(&self, subscriber: impl Fn(&Self, &StoreEvent<P>) + Send + Sync + 'static) {
        write(&self.subscribers).push(Box::new(subscriber));
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<P>> {
        read(&self.objects).get(key).cloned()
    }

    /// Returns the object of that name, unless another with the same name has replaced the one with this UID.
    pub fn get_with_uid(&self, key: &ObjectKey, uid: &str) -> Option<Arc<P>> {
        self.get(key).filter(|object| object.object_uid() == uid)
    }

    /// Returns all objects, in no particular order.
    pub fn state(&self) -> Vec<Arc<P>> {
        read(&self.objects).values().cloned().collect()
    }

    pub fn len(&self) -> usize {
        read(&self.objects).len()
    }

    pub fn is_empty(&self) -> bool {
        read(&self.objects).is_empty()
    }

    /// Returns whether the first list has arrived. Until then an absent object may exist.
    pub fn is_listed(&self) -> bool {
        *self.progress.borrow() == Progress::Listed
    }

    /// Waits until the first list has arrived; returns false when the watch ended before.
    pub async fn listed(&self) -> bool {
        let mut progress = self.progress.subscribe();
        let ended = progress.wait_for(|progress| *progress != Progress::Listing).await;
        ended.is_ok_and(|progress| *progress == Progress::Listed)
    }

    /// Lists and watches forever.
    pub async fn watch(self: Arc<Self>, api: Api<P::Object>, recovery: Recovery) {
        let _stopped = Stopped(&self.progress);
        let mut events = watch_all(api, P::config(), P::KIND, &recovery).boxed();
        while let Some(event) = events.next().await {
            self.take(event);
        }
    }

    /// Takes an event of the watch.
    pub fn take(&self, event: Event<P::Object>) {
        match event {
            Event::Init => write(&self.listing).clear(),
            Event::InitApply(object) => {
                let object = Arc::new(P::of(object));
                write(&self.listing).insert(object.key(), object);
            }
            Event::InitDone => self.replace_all(),
            Event::Apply(object) => {
                self.put(P::of(object), false);
            }
            Event::Delete(object) => {
                let key = P::of(object).key();
                let removed = write(&self.objects).remove(&key);
                if let Some(removed) = removed {
                    self.publish(&StoreEvent::Deleted(removed));
                }
            }
        }
    }

    /// Takes an object that the operator has just written, before the watch shows it.
    pub fn wrote(&self, object: P) {
        self.put(object, true);
    }

    /// Takes `object`, unless a later version of it is known.
    fn put(&self, object: P, is_own_write: bool) {
        let (key, after) = (object.key(), Arc::new(object));
        let before = {
            let mut objects = write(&self.objects);
            let before = objects.get(&key);
            if before.is_some_and(|before| is_later(before.as_ref(), &after)) {
                return;
            }
            objects.insert(key, after.clone())
        };
        self.publish(&StoreEvent::Applied {
            before,
            after,
            is_own_write,
        });
    }

    fn replace_all(&self) {
        let mut new = std::mem::take(&mut *write(&self.listing));
        new.shrink_to_fit();
        let before = std::mem::replace(&mut *write(&self.objects), new);
        let deleted = {
            let now = read(&self.objects);
            let is_gone = |(key, object): &(ObjectKey, Arc<P>)| {
                now.get(key).is_none_or(|now| now.object_uid() != object.object_uid())
            };
            before.into_iter().filter(is_gone).map(|(_, object)| object).collect()
        };
        // Subscribers may wait for nothing that is not visible, so the list counts as arrived first.
        self.progress.send_replace(Progress::Listed);
        self.publish(&StoreEvent::Listed { deleted });
    }

    fn publish(&self, event: &StoreEvent<P>) {
        for subscriber in read(&self.subscribers).iter() {
            subscriber(self, event);
        }
    }
}

/// Returns whether `before` is a later version of the same object than `after`.
fn is_later<P: Projection>(before: &P, after: &P) -> bool {
    before.object_uid() == after.object_uid() && version(before.object_version()) > version(after.object_version())
}

/// Returns a resource version as a number (Kubernetes API concepts, since 1.35; etcd's before).
fn version(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// Marks a store whose watch ended before its first list, so that nothing waits for it any longer.
struct Stopped<'a>(&'a watch::Sender<Progress>);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|progress| {
            let is_listing = *progress == Progress::Listing;
            if is_listing {
                *progress = Progress::Stopped;
            }
            is_listing
        });
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
