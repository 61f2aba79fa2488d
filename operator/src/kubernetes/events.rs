//! Events on the object that the user wrote (`events.k8s.io/v1`).
//!
//! Made by us and not by kube's `Recorder`, which takes two events that differ in their note only for
//! one series and keeps the first note: the second message would be lost.
//!
//! Publishing never waits. A queue of bounded length is between the reconcilers and one worker;
//! when it is full, the oldest Normal event gives way. What was said of an object within the last hour
//! is not said again: the object's status holds how often.

mod queue;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{leadership::Leadership, names, observer::SharedObserver};
use queue::Queue;

/// Longest note in bytes; the API takes 1,024.
const NOTE_BYTES: usize = 1_000;

/// Longest wait for the answer to one event.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for which the worker continues to write queued events after it is stopped.
const FLUSH: Duration = Duration::from_secs(3);

/// Namespace of events of cluster-scoped objects (client-go does the same).
const CLUSTER_SCOPED: &str = "default";

/// Whether an event is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    /// Returns the value in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// An event that waits to be written.
#[derive(Debug, Clone)]
struct Pending {
    type_: EventType,
    namespace: String,
    event: Event,
    /// Under which it is remembered as said.
    fingerprint: u64,
}

/// Why an event was not written, in the words of the API server or the network.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SinkError(String);

/// Destination of events.
#[async_trait]
trait Sink: Send + Sync {
    async fn create(&self, namespace: &str, event: &Event) -> Result<(), SinkError>;
}

#[async_trait]
impl Sink for Client {
    async fn create(&self, namespace: &str, event: &Event) -> Result<(), SinkError> {
        let api = Api::<Event>::namespaced(self.clone(), namespace);
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        match api.create(&params, event).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(SinkError(status.message)),
            Err(other) => Err(SinkError(other.to_string())),
        }
    }
}

/// Publisher of events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    queue: Arc<Queue>,
    observer: SharedObserver,
    /// `reportingInstance`: this process.
    instance: Arc<str>,
    /// The wall clock, for `eventTime`.
    wall: fn() -> Timestamp,
}

/// Writes what was published. Spawn [`EventWorker::run`].
pub struct EventWorker {
    queue: Arc<Queue>,
    observer: SharedObserver,
    leadership: Leadership,
    sink: Box<dyn Sink>,
}

impl fmt::Debug for EventWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWorker")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// Events of this process, `instance` (its Pod), written by the worker while `leadership` lets it.
    pub fn new(
        client: Client,
        leadership: Leadership,
        instance: &str,
        observer: SharedObserver,
    ) -> (Self, EventWorker) {
        Self::into_sink(Box::new(client), leadership, instance, observer, Timestamp::now)
    }

    fn into_sink(
        sink: Box<dyn Sink>,
        leadership: Leadership,
        instance: &str,
        observer: SharedObserver,
        wall: fn() -> Timestamp,
    ) -> (Self, EventWorker) {
        let queue = Arc::new(Queue::default());
        let worker = EventWorker {
            queue: Arc::clone(&queue),
            observer: observer.clone(),
            leadership,
            sink,
        };
        // The API takes 128 bytes and refuses none at all.
        let instance = cut(instance, 128);
        let instance = if instance.is_empty() {
            names::FIELD_MANAGER
        } else {
            instance
        };
        (
            Self {
                queue,
                observer,
                instance: instance.into(),
                wall,
            },
            worker,
        )
    }

    /// Says that `action` on `regarding` came out as `reason`; `note` is for humans and holds no secret.
    /// `reason` and `action` are `CamelCase`.
    pub fn publish(&self, regarding: &ObjectReference, type_: EventType, reason: &str, action: &str, note: &str) {
        let note = cut(note, NOTE_BYTES);
        let namespace = regarding.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let namespace = namespace.unwrap_or(CLUSTER_SCOPED);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name(regarding.name.as_deref().unwrap_or_default(), rand::random())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime((self.wall)())),
            type_: Some(type_.as_str().into()),
            reason: Some(reason.into()),
            action: Some(action.into()),
            note: Some(note.into()),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(names::REPORTING_CONTROLLER.into()),
            reporting_instance: Some(self.instance.to_string()),
            ..Event::default()
        };
        let fingerprint = queue::fingerprint(regarding, type_, reason, note);
        let pending = Pending {
            type_,
            namespace: namespace.to_owned(),
            event,
            fingerprint,
        };
        if self.queue.push(pending, Instant::now()) {
            self.observer.event_dropped();
        }
    }
}

impl EventWorker {
    /// Writes events one after the other until `stop`, then for a little longer what is queued.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            while let Some(pending) = stop.run_until_cancelled(self.queue.pop()).await {
                self.write(pending).await;
            }
            while let Some(pending) = self.queue.try_pop() {
                self.write(pending).await;
            }
        };
        let too_late = async {
            stop.cancelled().await;
            sleep(FLUSH).await;
        };
        tokio::select! {
            () = work => {}
            () = too_late => warn!("the API server is too slow for the last events: they are dropped"),
        }
    }

    async fn write(&self, pending: Pending) {
        let wait = self
            .leadership
            .time_left()
            .map_or(WRITE_TIMEOUT, |left| left.min(WRITE_TIMEOUT));
        let written = match self.leadership.check() {
            Err(error) => Err(SinkError(error.to_string())),
            Ok(()) => timeout(wait, self.sink.create(&pending.namespace, &pending.event))
                .await
                .unwrap_or_else(|_| Err(SinkError(format!("no answer within {wait:?}")))),
        };
        if let Err(error) = written {
            debug!(%error, reason = pending.event.reason, namespace = pending.namespace, "an event is dropped");
            self.observer.event_dropped();
            // It was not said, so it may be said again.
            self.queue.forget(pending.fingerprint);
        }
    }
}

/// `text` cut to at most `bytes`, between two characters.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// A name that no other event has, after the object's; at most 253 bytes, as names are.
fn name(object: &str, random: u64) -> String {
    let object = cut(object, 200).trim_end_matches(['-', '.']);
    format!("{object}.{random:016x}")
}

#[cfg(test)]
mod tests;
