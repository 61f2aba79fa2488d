//! Reconciles the objects of a [`Store`] with kube's controller.

use std::{
    borrow::Cow,
    convert::Infallible,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{FutureExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    runtime::{
        controller::{Action, Config, Controller},
        reflector::{self, ObjectRef},
        watcher::Event,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::store::{ObjectKey, Projection, Store, StoreEvent};

/// An object that kube's controller and a store share.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "P: DeserializeOwned")]
struct Shared<P>(Arc<P>);

impl<P: Resource + Clone> Resource for Shared<P> {
    type DynamicType = P::DynamicType;
    type Scope = P::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        P::kind(dynamic)
    }
    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        P::group(dynamic)
    }
    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        P::version(dynamic)
    }
    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        P::plural(dynamic)
    }
    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        Arc::make_mut(&mut self.0).meta_mut()
    }
}

/// Enqueues objects of a store to be reconciled, beside those that change.
#[derive(Clone, Debug)]
pub struct Enqueuer(mpsc::UnboundedSender<ObjectKey>);

/// The other end of an [`Enqueuer`].
pub type Enqueued = mpsc::UnboundedReceiver<ObjectKey>;

impl Enqueuer {
    pub fn new() -> (Self, Enqueued) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Enqueues the object of this key. It is ignored when the store does not have it, and after the controller has ended.
    pub fn enqueue(&self, key: ObjectKey) {
        let _ = self.0.send(key);
    }
}

/// Returns a future that reconciles each object of `store` that changes or is enqueued, `concurrency` at a time, until `stop`.
/// Reconciles that have begun are then completed. Call it before the store is watched.
pub fn controller<P, C, R, F>(
    store: &Arc<Store<P>>,
    enqueued: Enqueued,
    concurrency: u16,
    mut reconcile: R,
    context: Arc<C>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<P, C, R, F>
where
    P: Projection + Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    C: Send + Sync + 'static,
    R: FnMut(Arc<P>, Arc<C>) -> F + Send + 'static,
    F: Future<Output = Result<Action, Infallible>> + Send + 'static,
{
    let (reader, writer) = reflector::store::<Shared<P>>();
    let (sender, changes) = mpsc::unbounded_channel();
    let writer = Mutex::new(writer);
    store.subscribe(move |store, event| {
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            StoreEvent::Applied { after, .. } => {
                writer.apply_watcher_event(&Event::Apply(Shared(after.clone())));
                let _ = sender.send(Shared(after.clone()));
            }
            StoreEvent::Deleted(object) => writer.apply_watcher_event(&Event::Delete(Shared(object.clone()))),
            StoreEvent::Listed { .. } => {
                let all = store.state();
                writer.apply_watcher_event(&Event::Init);
                for object in &all {
                    writer.apply_watcher_event(&Event::InitApply(Shared(object.clone())));
                }
                writer.apply_watcher_event(&Event::InitDone);
                for object in all {
                    let _ = sender.send(Shared(object));
                }
            }
        }
    });
    let known = store.clone();
    let enqueued = UnboundedReceiverStream::new(enqueued)
        .filter_map(move |key| std::future::ready(known.get(&key)))
        .map(|object| ObjectRef::from_obj(&Shared(object)));
    let ready = reader.clone();
    let controller = Controller::for_stream(UnboundedReceiverStream::new(changes).map(Ok), reader)
        .with_config(Config::default().concurrency(concurrency))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .reconcile_on(enqueued)
        .run(
            move |object, context| reconcile(object.0.clone(), context),
            |_, never: &Infallible, _| match *never {},
            context,
        );
    async move {
        let ended = controller.for_each(|result| async {
            if let Err(error) = result {
                tracing::debug!(kind = P::KIND, %error, "reconcile skipped");
            }
        });
        // kube holds the first reconciles until the store is filled, also after it was stopped before: then nothing is in
        // progress, and nothing is waited for.
        let idle = async {
            stop.cancelled().await;
            if ready.wait_until_ready().now_or_never().is_some() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = idle => {}
        }
    }
}
