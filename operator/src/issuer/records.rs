//! The TXT records of challenges that were written and not removed yet, so that a later process can remove those whose
//! Certificate is gone by then.
//!
//! A record is kept in a ConfigMap of the operator before it is written at a provider. Records that arrive while the ConfigMap
//! is written share the next write. Removals are written later: to remove a record twice does no harm.

mod in_use;
mod store;
mod sweep;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatehouse_crds::certificate::IssuerKind;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

pub use in_use::InUse;
pub use store::Store;
pub use sweep::sweep;

use super::registry::Key;

/// Most records that are kept. They take about 300 bytes each.
const MAX_RECORDS: usize = 2_000;
/// Most bytes that they take: a ConfigMap holds 1 MiB, and names and URLs may be long.
const MAX_BYTES: usize = 900_000;
/// Most records of the Issuers of one namespace, so that a tenant whose provider removes nothing leaves room for others.
const MAX_RECORDS_PER_NAMESPACE: usize = MAX_RECORDS / 4;
/// The longest URL of an order that is kept as it is. A tenant's own CA chooses it.
const MAX_URL_LENGTH: usize = 120;
/// Longest wait for the ConfigMap: an order is worth more than a record that may stay.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// Delay of a write that only removes.
const REMOVAL_DELAY: Duration = Duration::from_secs(5);
/// Pause after a write or read that failed.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// One TXT value at a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// URL of the order that it is for.
    pub order: String,
    pub issuer_kind: IssuerKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub issuer_namespace: String,
    pub issuer: String,
    /// Index of the entry in the issuer's `solvers`.
    pub solver: usize,
    /// The domain, without `_acme-challenge`.
    pub name: String,
    pub value: String,
    pub since: Timestamp,
}

impl Record {
    /// Returns the issuer that wrote it.
    pub fn issuer(&self) -> Key {
        Key {
            kind: self.issuer_kind,
            namespace: self.issuer_namespace.clone(),
            name: self.issuer.clone(),
        }
    }

    fn id(&self) -> Id {
        (self.order.clone(), self.name.clone(), self.value.clone())
    }

    /// Returns at least the bytes that it takes in JSON.
    fn size(&self) -> usize {
        let texts = [
            &self.order,
            &self.issuer_namespace,
            &self.issuer,
            &self.name,
            &self.value,
        ];
        // Keys, quotes, the kind, the index and the time take 183 bytes.
        200 + texts.into_iter().map(String::len).sum::<usize>()
    }
}

/// Returns the identifier of an order's URL: itself, or its hash where it is long. Idempotent.
fn order_id(url: &str) -> String {
    if url.len() <= MAX_URL_LENGTH
        && url
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    {
        return url.to_owned();
    }
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, url.as_bytes());
    let mut id = String::from("sha256:");
    id.extend(hash.as_ref().iter().map(|byte| format!("{byte:02x}")));
    id
}

/// Order, domain and value.
type Id = (String, String, String);

#[derive(Default)]
struct State {
    /// Records of orders in this process.
    live: HashMap<Id, Record>,
    /// Records of earlier processes, and those whose removal failed.
    left: HashMap<Id, Record>,
    revision: u64,
    /// Whether the limit was reported.
    is_full: bool,
}

impl State {
    /// Adds a record; false when there is nothing to write.
    fn add(&mut self, mut record: Record) -> bool {
        record.order = order_id(&record.order);
        let id = record.id();
        let was_left = self.left.remove(&id);
        if self.live.contains_key(&id) {
            return false;
        }
        if was_left.is_none() && !self.has_room_for(&record) {
            if !std::mem::replace(&mut self.is_full, true) {
                tracing::warn!(
                    records = self.live.len() + self.left.len(),
                    issuer = %record.issuer(),
                    "too many DNS records of challenges to keep a list of; some may be left behind by a crash"
                );
            }
            return false;
        }
        self.live.insert(id, record);
        // What was left is in the ConfigMap already.
        if was_left.is_none() {
            self.revision += 1;
        }
        was_left.is_none()
    }

    fn has_room_for(&self, record: &Record) -> bool {
        let (mut count, mut bytes, mut of_namespace) = (0, record.size(), 0);
        for kept in self.live.values().chain(self.left.values()) {
            count += 1;
            bytes += kept.size();
            of_namespace += usize::from(kept.issuer_namespace == record.issuer_namespace);
        }
        // Issuers of the cluster have no namespace, and are the owner's.
        let is_tenants = !record.issuer_namespace.is_empty();
        count < MAX_RECORDS && bytes <= MAX_BYTES && !(is_tenants && of_namespace >= MAX_RECORDS_PER_NAMESPACE)
    }

    fn remove(&mut self, id: &Id) -> bool {
        let live = self.live.remove(id).is_some();
        let removed = self.left.remove(id).is_some() || live;
        if removed {
            self.revision += 1;
            self.is_full = false;
        }
        removed
    }

    /// Hands what is left of an order to the sweep; false when nothing is.
    fn leave(&mut self, order: &str) -> bool {
        let order = order_id(order);
        let ids: Vec<Id> = self.live.keys().filter(|(of, ..)| *of == order).cloned().collect();
        for id in &ids {
            if let Some(record) = self.live.remove(id) {
                self.left.insert(id.clone(), record);
            }
        }
        !ids.is_empty()
    }

    /// Whether an order of this process needs the same value at the same name: CAs may give an authorization to several orders.
    fn needs(&self, record: &Record) -> bool {
        self.live
            .keys()
            .any(|(_, name, value)| (name, value) == (&record.name, &record.value))
    }

    fn all(&self) -> Vec<Record> {
        let mut all: Vec<Record> = self.live.values().chain(self.left.values()).cloned().collect();
        all.sort_by(|one, other| (one.since, &one.name, &one.value).cmp(&(other.since, &other.name, &other.value)));
        all
    }
}

/// The records of this process and of those before it.
pub struct Records {
    state: Mutex<State>,
    added: Notify,
    removed: Notify,
    in_use: InUse,
    /// Wakes the sweep.
    left: Notify,
    /// The revision that the ConfigMap holds; none where no process leads.
    kept: watch::Sender<Option<u64>>,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            added: Notify::new(),
            removed: Notify::new(),
            in_use: InUse::default(),
            left: Notify::new(),
            kept: watch::Sender::new(None),
        }
    }
}

impl Records {
    /// Returns which orders need which answers, of all kinds of challenges.
    pub const fn in_use(&self) -> &InUse {
        &self.in_use
    }

    /// Keeps a record before it is written at its provider. Returns also when it could not be kept in time.
    pub async fn remember(&self, record: Record) {
        let revision = {
            let mut state = self.lock();
            if !state.add(record) {
                return;
            }
            state.revision
        };
        self.added.notify_one();
        let mut kept = self.kept.subscribe();
        let reached = kept.wait_for(|kept| kept.is_none_or(|kept| kept >= revision));
        if tokio::time::timeout(WRITE_TIMEOUT, reached).await.is_err() {
            tracing::warn!("the list of DNS records of challenges is not written in time; the order continues without");
        }
    }

    /// Forgets a record that was removed at its provider.
    pub fn forget(&self, order: &str, name: &str, value: &str) {
        let id = (order_id(order), name.to_owned(), value.to_owned());
        if self.lock().remove(&id) {
            self.removed.notify_one();
        }
    }

    /// Leaves the records of an order that ended to be removed later, after their removal failed.
    pub fn leave(&self, order: &str) {
        if self.lock().leave(order) {
            self.left.notify_one();
        }
    }

    /// Keeps the ConfigMap: to be polled until the process ends. From the call on, records wait for it.
    pub fn keep(self: Arc<Self>, store: Store) -> impl Future<Output = ()> + Send + 'static {
        self.kept.send_replace(Some(0));
        async move {
            let inherited = loop {
                match store.load().await {
                    Ok(records) => break records,
                    Err(error) => tracing::warn!(%error, "the list of DNS records of challenges cannot be read yet"),
                }
                tokio::time::sleep(RETRY_AFTER).await;
            };
            self.inherit(inherited);
            loop {
                tokio::select! {
                    () = self.added.notified() => {}
                    () = async {
                        self.removed.notified().await;
                        tokio::time::sleep(REMOVAL_DELAY).await;
                    } => {}
                }
                let (revision, records) = {
                    let state = self.lock();
                    (state.revision, state.all())
                };
                let written = store.save(&records).await;
                self.kept.send_replace(Some(revision));
                if let Err(error) = written {
                    tracing::warn!(%error, "the list of DNS records of challenges cannot be written; a crash may leave some behind");
                    tokio::time::sleep(RETRY_AFTER).await;
                    self.added.notify_one();
                }
            }
        }
    }

    fn inherit(&self, records: Vec<Record>) {
        let mut state = self.lock();
        for mut record in records.into_iter().take(MAX_RECORDS) {
            record.order = order_id(&record.order);
            let id = record.id();
            if !state.live.contains_key(&id) {
                state.left.insert(id, record);
            }
        }
        drop(state);
        self.left.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
