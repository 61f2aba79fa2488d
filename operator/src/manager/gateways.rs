//! The Gateways' controllers: one for each scope.

use std::sync::Arc;

use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::controller::{Config, Controller},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::to_the_end;
use crate::{
    certificate::cache::{Cache as Certificates, Change},
    gateway::{
        cache::{Cache, Guarded, StoreWriters},
        controller::{Context, Scope, reconcile},
    },
    kubernetes::client::Recovery,
};

/// Gateways worked on at once.
const MAX_CONCURRENT: u16 = 64;

/// One scope: its namespace or all, its Gateways, and its Certificates.
pub(super) struct WatchScope {
    pub(super) namespace: Option<String>,
    pub(super) cache: Arc<Cache>,
    pub(super) inlets: StoreWriters,
    pub(super) certificates: Arc<Certificates>,
}

/// Starts them. Gives what changes of the Gateways, scope by scope.
pub(super) fn spawn(
    work: &mut JoinSet<()>,
    context: &Arc<Context>,
    watch_scopes: Vec<WatchScope>,
    recovery: &Recovery,
    stop: &CancellationToken,
) -> Vec<mpsc::UnboundedReceiver<Change>> {
    let mut all_changes = Vec::new();
    for scope in watch_scopes {
        let WatchScope {
            namespace,
            cache,
            inlets,
            certificates,
        } = scope;
        let client = &context.client;
        until(
            work,
            stop,
            cache
                .clone()
                .watch_services(api(client, namespace.as_deref()), recovery.clone()),
        );
        until(
            work,
            stop,
            cache
                .clone()
                .watch_others(api(client, namespace.as_deref()), recovery.clone()),
        );
        until(
            work,
            stop,
            cache
                .clone()
                .watch_slices(api(client, namespace.as_deref()), recovery.clone()),
        );
        until(
            work,
            stop,
            cache
                .clone()
                .watch_policies(api(client, namespace.as_deref()), recovery.clone()),
        );
        let forgetting = context.clone();
        let gone = Box::new(move |object: &Guarded| forgetting.forget(&object.uid().unwrap_or_default()));
        let trigger = cache.watch_gateways(api(client, namespace.as_deref()), inlets.gateways, gone, recovery);
        let scope = Arc::new(Scope {
            ctx: context.clone(),
            cache: cache.clone(),
            certificates,
        });
        let controller = Controller::for_stream(trigger, cache.gateways())
            .with_config(Config::default().concurrency(MAX_CONCURRENT))
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .reconcile_on(UnboundedReceiverStream::new(inlets.touched))
            .run(reconcile, |_, never, _| match *never {}, scope);
        let controller = controller.for_each(|result| async {
            if let Err(error) = result {
                tracing::debug!(%error, "a Gateway was not looked at");
            }
        });
        work.spawn(to_the_end(controller, cache.gateways(), stop.clone()));
        all_changes.push(inlets.changes);
    }
    all_changes
}

/// Has the Gateways looked at whose Certificates or Secrets change.
pub(super) fn follow(
    work: &mut JoinSet<()>,
    caches: Vec<Arc<Cache>>,
    mut changes: mpsc::UnboundedReceiver<Change>,
    stop: &CancellationToken,
) {
    until(work, stop, async move {
        while let Some(change) = changes.recv().await {
            for cache in &caches {
                match &change {
                    Change::All => cache.enqueue_certificates(),
                    Change::One(namespace, name) => cache.enqueue_certificate(namespace, name),
                }
            }
        }
    });
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn until(work: &mut JoinSet<()>, stop: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    work.spawn(async move {
        stop.run_until_cancelled(task).await;
    });
}
