//! Finds the objects of a store by what they refer to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{ObjectKey, Projection, Store, StoreEvent};

/// Objects of a store by the keys of the objects that they refer to. Up to date before subscribers that come later.
pub struct Index<P> {
    references: fn(&P) -> Vec<ObjectKey>,
    referrers: Mutex<HashMap<ObjectKey, Vec<ObjectKey>>>,
}

impl<P: Projection> Index<P> {
    /// Returns an index of `store` that it keeps up to date. `references` returns the keys that an object refers to.
    pub fn of(store: &Store<P>, references: fn(&P) -> Vec<ObjectKey>) -> Arc<Self> {
        let index = Arc::new(Self {
            references,
            referrers: Mutex::default(),
        });
        let updated = index.clone();
        store.subscribe(move |store, event| updated.update(store, event));
        index
    }

    /// Returns the keys of the objects that refer to `key`.
    pub fn get(&self, key: &ObjectKey) -> Vec<ObjectKey> {
        self.lock().get(key).cloned().unwrap_or_default()
    }

    /// Returns the keys of all objects that refer to any.
    pub fn referrers(&self) -> Vec<ObjectKey> {
        let mut all: Vec<_> = self.lock().values().flatten().cloned().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn update(&self, store: &Store<P>, event: &StoreEvent<P>) {
        match event {
            StoreEvent::Applied { before, after, .. } => {
                let mut referrers = self.lock();
                if let Some(before) = before {
                    self.remove(&mut referrers, before);
                }
                self.add(&mut referrers, after);
            }
            StoreEvent::Deleted(object) => self.remove(&mut self.lock(), object),
            StoreEvent::Listed { .. } => {
                let mut referrers = HashMap::new();
                for object in store.state() {
                    self.add(&mut referrers, &object);
                }
                *self.lock() = referrers;
            }
        }
    }

    fn add(&self, referrers: &mut HashMap<ObjectKey, Vec<ObjectKey>>, object: &P) {
        let key = object.key();
        for reference in (self.references)(object) {
            // Nearly always there is one.
            let keys = referrers.entry(reference).or_insert_with(|| Vec::with_capacity(1));
            if !keys.contains(&key) {
                keys.push(key.clone());
            }
        }
    }

    fn remove(&self, referrers: &mut HashMap<ObjectKey, Vec<ObjectKey>>, object: &P) {
        let key = object.key();
        for reference in (self.references)(object) {
            if let Some(keys) = referrers.get_mut(&reference) {
                keys.retain(|known| *known != key);
                if keys.is_empty() {
                    referrers.remove(&reference);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Vec<ObjectKey>>> {
        self.referrers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
