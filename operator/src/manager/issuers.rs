//! The issuers' controllers: one for ClusterIssuers, one for the Issuers of each scope.

use std::sync::Arc;

use futures::StreamExt;
use gatehouse_crds::{
    certificate::IssuerKind,
    issuer::{ClusterIssuer, Issuer, IssuerConfig},
};
use kube::{
    Api, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        controller::Controller,
        reflector::{self, ObjectRef, Store as Reflected},
        watcher::{self, Event},
    },
};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinSet,
};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tokio_util::sync::CancellationToken;

use super::{Settings, to_the_end};
use crate::{
    issuer::{
        controller::{AnyIssuer, Context, key, reconcile},
        records::Store,
        registry::Key,
    },
    kubernetes::{client::Recovery, watch::watch},
};

/// What the issuers' controllers are told out of turn.
#[derive(Clone, Debug)]
enum Trigger {
    /// This issuer.
    Issuer(Key),
    /// Whoever uses this Secret: namespace and name.
    Secret(String, String),
    All,
}

/// Starts them.
pub(super) fn spawn(
    work: &mut JoinSet<()>,
    context: &Arc<Context>,
    settings: &Settings,
    mut again: mpsc::UnboundedReceiver<Key>,
    mut secrets: mpsc::UnboundedReceiver<(String, String)>,
    recovery: &Recovery,
    stop: &CancellationToken,
) {
    let store = Store::new(
        context.client.clone(),
        &settings.own_namespace,
        &settings.namespaces,
        context.writer.clone(),
    );
    let keep = context.registry.records().clone().keep(store);
    let stopped = stop.clone();
    work.spawn(async move {
        stopped.run_until_cancelled(keep).await;
    });
    let (triggers_out, _) = broadcast::channel(1024);
    if settings.namespaces.is_empty() {
        controller::<ClusterIssuer>(
            work,
            context,
            Api::all(context.client.clone()),
            &triggers_out,
            recovery,
            stop,
        );
    }
    for scope in settings.scopes() {
        let api = match scope {
            Some(namespace) => Api::namespaced(context.client.clone(), &namespace),
            None => Api::all(context.client.clone()),
        };
        controller::<Issuer>(work, context, api, &triggers_out, recovery, stop);
    }
    let stopped = stop.clone();
    work.spawn(async move {
        loop {
            let news = tokio::select! {
                Some(key) = again.recv() => Trigger::Issuer(key),
                Some((namespace, name)) = secrets.recv() => Trigger::Secret(namespace, name),
                () = stopped.cancelled() => return,
            };
            // Nobody listens: there are no controllers left.
            let _ = triggers_out.send(news);
        }
    });
}

fn controller<K: AnyIssuer>(
    work: &mut JoinSet<()>,
    context: &Arc<Context>,
    api: Api<DeserializeGuard<K>>,
    triggers_out: &broadcast::Sender<Trigger>,
    recovery: &Recovery,
    stop: &CancellationToken,
) {
    let (reader, mut writer) = reflector::store();
    let (known, listed, store) = (reader.clone(), reader.clone(), reader.clone());
    let ctx = context.clone();
    let gone = move |object: &DeserializeGuard<K>| {
        let key = key::<K>(object);
        ctx.registry.remove(&key);
        ctx.forget(&key, &object.uid().unwrap_or_default());
    };
    let registry = context.registry.clone();
    let trigger = watch(api, watcher::Config::default(), K::KIND.as_str(), recovery)
        .map(move |event| {
            let event = event.modify(|object| object.managed_fields_mut().clear());
            let mut before = Vec::new();
            match &event {
                Event::Apply(object) | Event::InitApply(object) => registry.found(&key::<K>(object)),
                Event::Delete(object) => gone(object),
                // What went while the watch was interrupted is told by nobody.
                Event::InitDone => before = listed.state(),
                Event::Init => {}
            }
            writer.apply_watcher_event(&event);
            for object in before {
                if listed.get(&ObjectRef::from_obj(object.as_ref())).is_none() {
                    gone(&object);
                }
            }
            Ok(event)
        })
        .applied_objects();
    let cluster_namespace = context.cluster_namespace.clone();
    let triggers = BroadcastStream::new(triggers_out.subscribe())
        .map(|news| match news {
            Ok(news) => news,
            // Too many at once to be told one by one: everybody is concerned.
            Err(BroadcastStreamRecvError::Lagged(_)) => Trigger::All,
        })
        .map(move |news| futures::stream::iter(answering(&known, &news, &cluster_namespace)))
        .flatten();
    let controller = Controller::for_stream(trigger, reader)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .reconcile_on(triggers)
        .run(reconcile::<K>, |_, never, _| match *never {}, context.clone());
    let controller = controller.for_each(|result| async {
        if let Err(error) = result {
            tracing::debug!(%error, "an issuer was not looked at");
        }
    });
    work.spawn(to_the_end(controller, store, stop.clone()));
}

/// The issuers here that the news is for.
fn answering<K: AnyIssuer>(
    known: &Reflected<DeserializeGuard<K>>,
    news: &Trigger,
    cluster_namespace: &str,
) -> Vec<ObjectRef<DeserializeGuard<K>>> {
    let concerns = |object: &DeserializeGuard<K>| match news {
        Trigger::All => true,
        Trigger::Issuer(wanted) => key::<K>(object) == *wanted,
        Trigger::Secret(namespace, name) => {
            let own = if K::KIND == IssuerKind::ClusterIssuer {
                cluster_namespace.to_owned()
            } else {
                object.namespace().unwrap_or_default()
            };
            own == *namespace
                && object.0.as_ref().is_ok_and(
                    |issuer| matches!(issuer.config(), Some(IssuerConfig::Ca(ca)) if ca.secret_name == *name),
                )
        }
    };
    known
        .state_filter(concerns)
        .iter()
        .map(|object| ObjectRef::from_obj(object.as_ref()))
        .collect()
}
