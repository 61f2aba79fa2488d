//! The Certificates' controllers: one for each scope.

use std::{collections::HashSet, sync::Arc};

use futures::{Stream, StreamExt, stream};
use gatehouse_crds::certificate::Certificate;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    core::PartialObjectMeta,
    runtime::controller::{Config, Controller},
};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinSet,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::to_the_end;
use crate::{
    certificate::{
        cache::{Cache, Change, Guarded, Ref, StoreWriters},
        context::Context,
        controller::{Scope, reconcile},
        issue, order_key,
    },
    issuer::{records::sweep, registry::Key},
    kubernetes::client::Recovery,
};

/// Certificates worked on at once: more than there are slots for steps at CAs, so that some are left when CAs hang.
const MAX_CONCURRENT: u16 = 2_048;

/// Starts them. `secrets` is told of each TLS Secret that changes, for the CAs among them. Gives what changes of the
/// Certificates, scope by scope.
pub(super) fn spawn(
    work: &mut JoinSet<()>,
    context: &Arc<Context>,
    inlets: Vec<StoreWriters>,
    scopes: &[Option<String>],
    secrets: &mpsc::UnboundedSender<(String, String)>,
    recovery: &Recovery,
    stop: &CancellationToken,
) -> Vec<mpsc::UnboundedReceiver<Change>> {
    let mut all_changes = Vec::new();
    let (gone, mut gone_out) = mpsc::unbounded_channel::<String>();
    let forgetting = context.clone();
    work.spawn(async move {
        while let Some(key) = gone_out.recv().await {
            issue::gone(&forgetting, &key);
        }
    });
    let certificates = context.clone();
    let orders = move || {
        let caches = &certificates.caches;
        caches
            .iter()
            .all(|cache| cache.has_certificates())
            .then(|| caches.iter().flat_map(|cache| cache.orders()).collect())
    };
    let removals = sweep(context.registry.clone(), orders, context.now);
    let stopped = stop.clone();
    work.spawn(async move {
        stopped.run_until_cancelled(removals).await;
    });
    for ((cache, inlets), scope) in context.caches.iter().zip(inlets).zip(scopes) {
        let client = context.client.clone();
        let (certificates, metadata): (Api<Guarded>, Api<PartialObjectMeta<Secret>>) = match scope {
            Some(namespace) => (
                Api::namespaced(client.clone(), namespace),
                Api::namespaced(client, namespace),
            ),
            None => (Api::all(client.clone()), Api::all(client)),
        };
        let (into_certificates, into_secrets, touched, changes) = inlets.split();
        all_changes.push(changes);
        let watch = cache
            .clone()
            .watch_secrets(metadata, into_secrets, secrets.clone(), recovery.clone());
        let stopped = stop.clone();
        work.spawn(async move {
            stopped.run_until_cancelled(watch).await;
        });
        let (sweeping, swept, namespace) = (context.clone(), cache.clone(), scope.clone());
        let stopped = stop.clone();
        work.spawn(async move {
            let sweep = order_key::sweep(&sweeping, &swept, namespace.as_deref());
            stopped.run_until_cancelled(sweep).await;
        });
        let trigger = cache.watch_certificates(certificates, into_certificates, gone.clone(), recovery);
        let controller = Controller::for_stream(trigger, cache.certificates())
            .with_config(Config::default().concurrency(MAX_CONCURRENT))
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .reconcile_on(UnboundedReceiverStream::new(touched))
            .reconcile_on(concerned(cache.clone(), context.registry.changes()))
            .run(
                reconcile,
                |_, never, _| match *never {},
                Arc::new(Scope::new(context.clone(), cache.clone())),
            );
        let controller = controller.for_each(|result| async {
            if let Err(error) = result {
                tracing::debug!(%error, "a Certificate was not looked at");
            }
        });
        work.spawn(to_the_end(controller, cache.certificates(), stop.clone()));
    }
    all_changes
}

/// Certificates that a changed issuer is of interest to.
fn concerned(cache: Arc<Cache>, changes: broadcast::Receiver<Key>) -> impl Stream<Item = Ref> + Send {
    stream::unfold(changes, |mut changes| async move {
        let mut keys = HashSet::new();
        match changes.recv().await {
            Ok(key) => drop(keys.insert(key)),
            // Too many at once to be told one by one: everybody is concerned.
            Err(broadcast::error::RecvError::Lagged(_)) => return Some((None, changes)),
            Err(broadcast::error::RecvError::Closed) => return None,
        }
        while let Ok(key) = changes.try_recv() {
            keys.insert(key);
        }
        Some((Some(keys), changes))
    })
    .flat_map(move |keys| {
        let refs: Vec<Ref> = cache
            .certificates()
            .state()
            .iter()
            .filter(|object| {
                object
                    .0
                    .as_ref()
                    .is_ok_and(|certificate| keys.as_ref().is_none_or(|keys| asks(certificate, keys)))
            })
            .map(|object| Ref::from_obj(object.as_ref()))
            .collect();
        stream::iter(refs)
    })
}

fn asks(certificate: &Certificate, keys: &HashSet<Key>) -> bool {
    let namespace = certificate.metadata.namespace.as_deref().unwrap_or_default();
    issue::issuers(certificate).any(|reference| keys.contains(&Key::of(reference, namespace)))
}
