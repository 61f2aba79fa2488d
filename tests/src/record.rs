//! Every version of an object, as a watch saw it: what held all the time, and not only at the end.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

/// Records until it is dropped.
pub struct Record<K> {
    seen: Arc<Mutex<Vec<K>>>,
    task: JoinHandle<()>,
}

impl<K> Record<K>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Begins with the object as it is; returns once that is seen. The object must exist.
    pub async fn of(api: &Api<K>, name: &str) -> Self {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher(api.clone(), config).boxed();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (begun, beginning) = tokio::sync::oneshot::channel();
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut begun = Some(begun);
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(object);
                    // None waits for the second.
                    let _ = begun.take().map(|begun| begun.send(()));
                }
            }
        });
        beginning.await.expect("the watch begins");
        Self { seen, task }
    }

    /// Returns the objects seen so far, in order.
    pub fn versions(&self) -> Vec<K> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<K> Drop for Record<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
