//! Objects that others wait for, each watched by its name.
//!
//! A Certificate waits for the password of its keystore, an Issuer for its credentials, a policy for the URL of its receiver. A
//! watch of all Secrets would cost memory for each Secret of the cluster, and a look every minute keeps people waiting who have
//! just corrected something. So every dependent names its objects ([`Dependencies::set`]), and is enqueued when one of
//! them is made, changed or deleted. All who wait for an object share one watch of its metadata, which ends with the last of them.
//!
//! At most [`MAX_WATCHES`] objects are watched, and [`MAX_WATCHES_PER_NAMESPACE`] of one namespace. Objects beyond that are polled in turn,
//! [`POLL_TICK`] apart and each at most every [`MIN_POLL_INTERVAL`]; namespaces take turns.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{Stream, StreamExt, stream::BoxStream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        core::v1::Secret,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{client::Recovery, watch::watch};

/// Watches at once. Each costs a connection.
pub const MAX_WATCHES: usize = 256;
/// Watches at once for the objects of one namespace.
pub const MAX_WATCHES_PER_NAMESPACE: usize = 64;
/// Between two looks at objects that are not watched.
pub const POLL_TICK: Duration = Duration::from_millis(200);
/// Minimal time between two polls of such an object.
pub const MIN_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Kinds of objects to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Secret,
    Deployment,
    StatefulSet,
    DaemonSet,
}

impl Kind {
    /// As the API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

/// An object that is waited for. Namespaces come first, so that those of one are next to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    pub namespace: String,
    pub name: String,
    pub kind: Kind,
}

impl Dependency {
    /// Names a Secret.
    pub fn secret(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            kind: Kind::Secret,
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// Returns the names of all Secrets that a spec refers to, by fields such as `tokenSecretRef`, however deep they are.
pub fn secret_names(spec: &impl Serialize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut left = vec![serde_json::to_value(spec).unwrap_or_default()];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                for (field, value) in fields {
                    let refers = field.ends_with("SecretRef") || field == "clientCertificateRef";
                    match value.get("name").and_then(Value::as_str).filter(|_| refers) {
                        Some(name) => drop(names.insert(name.to_owned())),
                        None => left.push(value),
                    }
                }
            }
            Value::Array(values) => left.extend(values),
            _ => {}
        }
    }
    names
}

/// A dependent: an object of one of our kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependent {
    pub kind: &'static str,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
}

impl Dependent {
    /// Names one.
    pub fn new(kind: &'static str, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// The version of an object; none when it does not exist.
pub type Version = Option<String>;

/// Source of objects.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The versions of an object from now on, the first of them at once.
    fn versions(&self, dependency: &Dependency) -> BoxStream<'static, Version>;
    /// The version now; none when it cannot be read.
    async fn version(&self, dependency: &Dependency) -> Option<Version>;
}

/// Version that a dependent has read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    /// It is not known: the first that is seen is news.
    Unknown,
    /// The one that is seen first, whichever it is.
    First,
    Version(Version),
}

/// An object that is waited for.
#[derive(Default)]
struct Entry {
    dependents: BTreeMap<Dependent, Read>,
    /// `None` while it is polled.
    watch: Option<AbortOnDropHandle<()>>,
    seen: Option<Version>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Dependency, Entry>,
    /// Those of the entries that have no watch.
    polled: BTreeSet<Dependency>,
    of: BTreeMap<Dependent, BTreeSet<Dependency>>,
    changed: BTreeSet<Dependent>,
    watches: usize,
    in_namespace: BTreeMap<String, usize>,
}

/// The registry. One for the process.
pub struct Dependencies {
    source: Box<dyn Source>,
    state: Mutex<State>,
    changes: mpsc::UnboundedSender<Dependent>,
    too_many: Notify,
}

impl Dependencies {
    /// An empty registry, and those whose objects have changed.
    pub fn new(source: impl Source) -> (Arc<Self>, mpsc::UnboundedReceiver<Dependent>) {
        let (changes, receiver) = mpsc::unbounded_channel();
        let registry = Self {
            source: Box::new(source),
            state: Mutex::default(),
            changes,
            too_many: Notify::new(),
        };
        (Arc::new(registry), receiver)
    }

    /// Says which objects `dependent` waits for from now on. Call it before they are read, so that no change is missed.
    pub fn set(self: &Arc<Self>, dependent: &Dependent, wanted: BTreeSet<Dependency>) {
        self.replace(dependent, wanted, &Read::Unknown);
    }

    /// Like [`set`](Self::set), for a dependent that reads the objects later: their versions when the watch begins are no change to it.
    pub fn set_from_now(self: &Arc<Self>, dependent: &Dependent, wanted: BTreeSet<Dependency>) {
        self.replace(dependent, wanted, &Read::First);
    }

    fn replace(self: &Arc<Self>, dependent: &Dependent, wanted: BTreeSet<Dependency>, read: &Read) {
        let mut state = self.lock();
        let before = state.of.get(dependent).cloned().unwrap_or_default();
        if before == wanted {
            return;
        }
        for gone in before.difference(&wanted) {
            if state.leave(gone, dependent)
                && let Some(next) = state.next_to_watch(&gone.namespace)
            {
                self.start(&mut state, &next);
            }
        }
        for new in wanted.difference(&before) {
            let is_new = !state.entries.contains_key(new);
            let entry = state.entries.entry(new.clone()).or_default();
            let read = match (read, &entry.seen) {
                (Read::First, Some(seen)) => Read::Version(seen.clone()),
                _ => read.clone(),
            };
            entry.dependents.insert(dependent.clone(), read);
            if is_new {
                self.start(&mut state, new);
            }
        }
        if wanted.is_empty() {
            state.of.remove(dependent);
            state.changed.remove(dependent);
        } else {
            state.of.insert(dependent.clone(), wanted);
        }
    }

    /// Forgets `dependent`, which is gone.
    pub fn forget(self: &Arc<Self>, dependent: &Dependent) {
        self.set(dependent, BTreeSet::new());
    }

    /// Records the version that `dependent` has read: the watch reports the same one as no change.
    pub fn note_read(&self, dependent: &Dependent, dependency: &Dependency, version: Version) {
        let mut state = self.lock();
        let entry = state.entries.get_mut(dependency);
        if let Some(read) = entry.and_then(|entry| entry.dependents.get_mut(dependent)) {
            *read = Read::Version(version);
        }
    }

    /// Returns once for each change whether something that `dependent` waits for has changed.
    pub fn take_change(&self, dependent: &Dependent) -> bool {
        self.lock().changed.remove(dependent)
    }

    /// Returns whether something has changed that was not taken yet.
    pub fn has_change(&self, dependent: &Dependent) -> bool {
        self.lock().changed.contains(dependent)
    }

    /// Takes a change back that could not be acted on.
    pub fn put_back_change(&self, dependent: Dependent) {
        let mut state = self.lock();
        if state.of.contains_key(&dependent) {
            state.changed.insert(dependent);
        }
    }

    /// Looks at the objects that are not watched, until `stop`.
    pub async fn poll(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            loop {
                let (began, turns) = (Instant::now(), self.turns());
                if turns.is_empty() {
                    self.too_many.notified().await;
                    continue;
                }
                for next in turns {
                    if let Some(version) = self.source.version(&next).await {
                        self.see(&next, version);
                    }
                    sleep(POLL_TICK).await;
                }
                sleep_until(began + MIN_POLL_INTERVAL).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// The objects that are not watched: one of each namespace, then the second of each.
    fn turns(&self) -> Vec<Dependency> {
        let state = self.lock();
        let mut turns: BTreeMap<(usize, &str), &Dependency> = BTreeMap::new();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for dependency in &state.polled {
            let count = counts.entry(&dependency.namespace).or_default();
            turns.insert((*count, &dependency.namespace), dependency);
            *count += 1;
        }
        turns.into_values().cloned().collect()
    }

    /// Watches an object, or has it polled.
    fn start(self: &Arc<Self>, state: &mut State, dependency: &Dependency) {
        if !state.has_room(&dependency.namespace) {
            tracing::debug!(%dependency, watches = state.watches, "too many objects are waited for: this one is polled");
            state.polled.insert(dependency.clone());
            self.too_many.notify_one();
            return;
        }
        let Some(entry) = state.entries.get_mut(dependency) else {
            return;
        };
        let (registry, mut versions) = (Arc::downgrade(self), self.source.versions(dependency));
        let watched = dependency.clone();
        entry.watch = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(version) = versions.next().await {
                let Some(registry) = registry.upgrade() else { return };
                registry.see(&watched, version);
            }
        })));
        state.polled.remove(dependency);
        state.watches += 1;
        *state.in_namespace.entry(dependency.namespace.clone()).or_default() += 1;
    }

    /// An object has this version: those who have read another are enqueued.
    fn see(&self, dependency: &Dependency, version: Version) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(dependency) else {
            return;
        };
        if entry.seen.as_ref() == Some(&version) {
            return;
        }
        let mut concerned = Vec::new();
        for (dependent, read) in &mut entry.dependents {
            match read {
                Read::First => *read = Read::Version(version.clone()),
                Read::Version(read) if is_old(&version, read) => {}
                Read::Version(_) | Read::Unknown => {
                    // What it reads next is not known before it says so.
                    *read = Read::Unknown;
                    concerned.push(dependent.clone());
                }
            }
        }
        entry.seen = Some(version);
        state.changed.extend(concerned.iter().cloned());
        drop(state);
        for dependent in concerned {
            // The receiver is gone: the process ends.
            let _ = self.changes.send(dependent);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, namespace: &str) -> bool {
        let here = self.in_namespace.get(namespace).copied().unwrap_or_default();
        self.watches < MAX_WATCHES && here < MAX_WATCHES_PER_NAMESPACE
    }

    /// Takes `dependent` off an object. Returns whether a watch has ended with it.
    fn leave(&mut self, dependency: &Dependency, dependent: &Dependent) -> bool {
        let Some(entry) = self.entries.get_mut(dependency) else {
            return false;
        };
        entry.dependents.remove(dependent);
        if !entry.dependents.is_empty() {
            return false;
        }
        let was_watched = self
            .entries
            .remove(dependency)
            .is_some_and(|entry| entry.watch.is_some());
        self.polled.remove(dependency);
        if was_watched {
            self.watches = self.watches.saturating_sub(1);
            let here = self.in_namespace.get_mut(&dependency.namespace);
            if here.is_some_and(|count| {
                *count = count.saturating_sub(1);
                *count == 0
            }) {
                self.in_namespace.remove(&dependency.namespace);
            }
        }
        was_watched
    }

    /// The object that gets the watch that has become free: one of the same namespace, or of another with room.
    fn next_to_watch(&self, namespace: &str) -> Option<Dependency> {
        let same = |dependency: &&Dependency| dependency.namespace == namespace;
        let fits = |dependency: &&Dependency| self.has_room(&dependency.namespace);
        let own = self.polled.iter().find(same).filter(fits);
        own.or_else(|| self.polled.iter().find(fits)).cloned()
    }
}

/// Whether a version that is seen was read already, or is older than what was read.
fn is_old(seen: &Version, read: &Version) -> bool {
    let number = |version: &Version| version.as_ref().and_then(|version| version.parse::<u64>().ok());
    match (number(seen), number(read)) {
        (Some(seen), Some(read)) => seen <= read,
        _ => seen == read,
    }
}

/// The API server.
pub struct Cluster {
    client: Client,
    recovery: Recovery,
}

impl Cluster {
    /// Watches through `client`.
    pub fn new(client: Client, recovery: Recovery) -> Self {
        Self { client, recovery }
    }

    fn watch<K: Watched>(&self, dependency: &Dependency) -> BoxStream<'static, Version> {
        let config = watcher::Config::default().fields(&by_name(dependency));
        let api = Api::<PartialObjectMeta<K>>::namespaced(self.client.clone(), &dependency.namespace);
        versions(watch(api, config, dependency.kind.as_str(), &self.recovery)).boxed()
    }

    async fn read<K: Watched>(&self, dependency: &Dependency) -> Option<Version> {
        let api = Api::<PartialObjectMeta<K>>::namespaced(self.client.clone(), &dependency.namespace);
        // A list of one: to get it would be a right that is needed for nothing else.
        let one = ListParams::default().fields(&by_name(dependency)).limit(1);
        let found = api.list(&one).await.ok()?.items.into_iter().next();
        Some(found.and_then(|object| object.resource_version()))
    }
}

/// Objects that [`Cluster`] can watch.
trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + fmt::Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl Watched for Secret {}
impl Watched for Deployment {}
impl Watched for StatefulSet {}
impl Watched for DaemonSet {}

fn by_name(dependency: &Dependency) -> String {
    format!("metadata.name={}", dependency.name)
}

/// Returns the versions in the events of one object.
fn versions<K: ResourceExt + Send + 'static>(
    events: impl Stream<Item = Event<K>> + Send + 'static,
) -> impl Stream<Item = Version> + Send + 'static {
    let mut listed = None;
    events.filter_map(move |event| {
        let version = match event {
            Event::Init => {
                listed = None;
                None
            }
            Event::InitApply(object) => {
                listed = object.resource_version();
                None
            }
            Event::InitDone => Some(listed.take()),
            Event::Apply(object) => Some(object.resource_version()),
            Event::Delete(_) => Some(None),
        };
        std::future::ready(version)
    })
}

#[async_trait]
impl Source for Cluster {
    fn versions(&self, dependency: &Dependency) -> BoxStream<'static, Version> {
        match dependency.kind {
            Kind::Secret => self.watch::<Secret>(dependency),
            Kind::Deployment => self.watch::<Deployment>(dependency),
            Kind::StatefulSet => self.watch::<StatefulSet>(dependency),
            Kind::DaemonSet => self.watch::<DaemonSet>(dependency),
        }
    }

    async fn version(&self, dependency: &Dependency) -> Option<Version> {
        match dependency.kind {
            Kind::Secret => self.read::<Secret>(dependency).await,
            Kind::Deployment => self.read::<Deployment>(dependency).await,
            Kind::StatefulSet => self.read::<StatefulSet>(dependency).await,
            Kind::DaemonSet => self.read::<DaemonSet>(dependency).await,
        }
    }
}

#[cfg(test)]
#[path = "dependency_tests.rs"]
mod tests;
