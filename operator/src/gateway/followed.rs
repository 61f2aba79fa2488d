//! Watches that run while a Gateway needs what they show: nodes, the Pods of a namespace, the warnings about its Services.
//!
//! Nothing is asked twice: who has read is woken by the next change. A watch that has had no reader for a while ends.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use crate::kubernetes::watch::Pauses;

/// Time after its start for which readers wait for the first list of a watch before they continue without.
const FIRST_LIST: Duration = Duration::from_secs(1);
/// A watch without a reader for so long ends.
const UNUSED: Duration = Duration::from_secs(60);
/// Events that are taken in before readers are woken.
const BATCH: usize = 256;
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// A watch that the API server refuses is tried again after this.
const REFUSED: Duration = Duration::from_secs(600);

/// Why something cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unreadable {
    /// The operator has no right to.
    pub forbidden: bool,
    pub why: String,
}

impl Unreadable {
    fn of(error: &watcher::Error) -> Self {
        let status = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status))
            | watcher::Error::WatchError(status) => Some(status.code),
            _ => None,
        };
        Self {
            forbidden: status == Some(403),
            why: error.to_string(),
        }
    }
}

/// Wakes a reader.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Watches of objects of kind `K`, one for each namespace that is read, kept as projections `T`.
pub struct Followed<K, T> {
    client: Client,
    api: fn(Client, &str) -> Api<K>,
    config: watcher::Config,
    project: fn(&K) -> T,
    runs: Arc<Mutex<Runs<T>>>,
}

type Runs<T> = HashMap<String, (Arc<Run<T>>, AbortHandle)>;

/// One watch.
struct Run<T> {
    began: Instant,
    state: Mutex<State<T>>,
    progress: watch::Sender<Progress>,
}

/// Answers of the API server so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Nothing,
    /// No list yet, but an error.
    Error,
    List,
}

struct State<T> {
    /// By namespace and name.
    objects: BTreeMap<(String, String), T>,
    /// All of them, as they were last read.
    view: Option<Arc<Vec<T>>>,
    /// By reader.
    waiting: HashMap<String, Waker>,
    used: Instant,
    /// Why there is no list.
    failed: Option<Unreadable>,
}

impl<T> Default for Run<T> {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            state: Mutex::new(State {
                objects: BTreeMap::new(),
                view: None,
                waiting: HashMap::new(),
                used: Instant::now(),
                failed: None,
            }),
            progress: watch::Sender::new(Progress::Nothing),
        }
    }
}

impl<K, T> Followed<K, T>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    T: Clone + PartialEq + Send + Sync + 'static,
{
    /// Watches nothing yet. `api` is given the namespace of the reader.
    pub fn new(client: Client, api: fn(Client, &str) -> Api<K>, config: watcher::Config, project: fn(&K) -> T) -> Self {
        Self {
            client,
            api,
            config: config.page_size(PAGE),
            project,
            runs: Arc::default(),
        }
    }

    /// Returns the objects, and has `wake` called once when they change, or when those that could not be read can be. A reader's
    /// later call takes the place of its earlier one.
    ///
    /// # Errors
    /// Why it cannot be read now.
    pub async fn read(&self, namespace: &str, reader: &str, wake: Waker) -> Result<Arc<Vec<T>>, Unreadable> {
        let run = self.run(namespace);
        {
            let mut state = run.lock();
            state.used = Instant::now();
            // Before it is read: a change in between is not missed.
            state.waiting.insert(reader.to_owned(), wake);
        }
        let mut progress = run.progress.subscribe();
        // Only at the beginning: later no reader waits for a list that is slow, and all are woken when it comes.
        let left = FIRST_LIST.saturating_sub(run.began.elapsed());
        // The sender lives as long as the run.
        let _ = tokio::time::timeout(left, progress.wait_for(|progress| *progress != Progress::Nothing)).await;
        run.view()
    }

    fn run(&self, namespace: &str) -> Arc<Run<T>> {
        let mut runs = locked(&self.runs);
        if let Some((run, _)) = runs.get(namespace) {
            return run.clone();
        }
        let run = Arc::new(Run::default());
        let api = (self.api)(self.client.clone(), namespace);
        let task = tokio::spawn(follow(
            namespace.to_owned(),
            run.clone(),
            self.runs.clone(),
            watcher(api, self.config.clone()),
            self.project,
        ));
        runs.insert(namespace.to_owned(), (run.clone(), task.abort_handle()));
        run
    }
}

impl<K, T> Drop for Followed<K, T> {
    fn drop(&mut self) {
        for (_, task) in locked(&self.runs).values() {
            task.abort();
        }
    }
}

impl<T: Clone + PartialEq> Run<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> Result<Arc<Vec<T>>, Unreadable> {
        let progress = *self.progress.borrow();
        let mut state = self.lock();
        if progress != Progress::List {
            return Err(state.failed.clone().unwrap_or_else(|| Unreadable {
                forbidden: false,
                why: format!("no answer from the API server within {FIRST_LIST:?}"),
            }));
        }
        if state.view.is_none() {
            state.view = Some(Arc::new(state.objects.values().cloned().collect()));
        }
        Ok(state.view.clone().unwrap_or_default())
    }

    /// Takes in one event; `list` gathers the objects of a list that is under way. Returns whether readers see a difference.
    fn take<K: Resource<DynamicType = ()>>(
        &self,
        event: Result<Event<K>, watcher::Error>,
        list: &mut BTreeMap<(String, String), T>,
        project: fn(&K) -> T,
    ) -> bool {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        let mut state = self.lock();
        let changed = match event {
            Ok(Event::Init) => {
                list.clear();
                false
            }
            Ok(Event::InitApply(object)) => {
                list.insert(key(&object), project(&object));
                false
            }
            Ok(Event::InitDone) => {
                let new = std::mem::take(list);
                state.failed = None;
                let first = self.progress.send_replace(Progress::List) != Progress::List;
                std::mem::replace(&mut state.objects, new) != state.objects || first
            }
            Ok(Event::Apply(object)) => {
                let new = project(&object);
                state.objects.insert(key(&object), new.clone()) != Some(new)
            }
            Ok(Event::Delete(object)) => state.objects.remove(&key(&object)).is_some(),
            Err(error) => {
                // With a list that has arrived readers continue; without one they learn why.
                let why = Unreadable::of(&error);
                let is_listed = *self.progress.borrow() == Progress::List;
                let is_news = !is_listed && state.failed.as_ref() != Some(&why);
                state.failed = Some(why);
                if !is_listed {
                    self.progress.send_replace(Progress::Error);
                }
                is_news
            }
        };
        if changed {
            state.view = None;
        }
        changed
    }

    /// Wakes all readers; each reads again if it still needs to.
    fn enqueue(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        for wake in waiting.into_values() {
            wake();
        }
    }

    fn is_refused(&self) -> bool {
        self.lock().failed.as_ref().is_some_and(|failed| failed.forbidden)
    }

    fn is_unused(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && state.used.elapsed() >= UNUSED
    }
}

async fn follow<K, T>(
    namespace: String,
    run: Arc<Run<T>>,
    runs: Arc<Mutex<Runs<T>>>,
    events: impl futures::Stream<Item = Result<Event<K>, watcher::Error>> + Send,
    project: fn(&K) -> T,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    T: Clone + PartialEq,
{
    let mut events = events.backoff(Pauses::default()).ready_chunks(BATCH).boxed();
    let mut list = BTreeMap::new();
    let mut ticks = tokio::time::interval(UNUSED);
    loop {
        tokio::select! {
            batch = events.next() => {
                let Some(batch) = batch else { return };
                let mut changed = false;
                for event in batch {
                    if let Err(error) = &event {
                        tracing::warn!(%error, namespace, kind = %K::kind(&()), "watch interrupted; it is resumed");
                    }
                    changed |= run.take(event, &mut list, project);
                }
                if changed {
                    run.enqueue();
                }
                if run.is_refused() {
                    tokio::time::sleep(REFUSED).await;
                }
            }
            _ = ticks.tick() => {
                let mut runs = locked(&runs);
                // Readers hold this lock to find the run.
                if run.is_unused() && Arc::strong_count(&run) <= 2 {
                    runs.remove(&namespace);
                    return;
                }
            }
        }
    }
}

fn locked<T>(runs: &Mutex<T>) -> MutexGuard<'_, T> {
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "followed_tests.rs"]
mod tests;
