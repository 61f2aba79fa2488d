//! The alarm: policies, the engine, and what both see of the cluster.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all};
use gatehouse_crds::alert::{AlertKind, AlertPolicy, ClusterAlertPolicy};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        reflector::{self, store::Writer as Inlet},
        watcher::{self, Event},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::Settings;
use crate::{
    alert::{
        cluster::{KubernetesEffects, KubernetesView, Targets, WatchScope},
        engine::{Engine, Trigger},
        policy::Scope,
        send::Sender,
        store::Store,
        watch::policies,
    },
    certificate::cache::Change,
    kubernetes::{
        apply::Writer, client::Recovery, dependency::Dependencies, events::Events, watch::watch as watch_all,
    },
    telemetry::metrics::Metrics,
};

/// Between two tries to read what the leader before has left.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// So long the alarm waits for the lists of Certificates, so that what happened meanwhile is told together.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the alarm works with.
pub(super) struct AlertDeps<'a> {
    pub(super) client: &'a Client,
    pub(super) writer: &'a Writer,
    pub(super) events: &'a Events,
    pub(super) metrics: &'a Metrics,
    pub(super) watch_scopes: &'a [WatchScope],
    pub(super) settings: &'a Settings,
    pub(super) recovery: &'a Recovery,
    pub(super) dependencies: &'a Arc<Dependencies>,
}

/// Starts it. `changes` are those of the Certificates and the Gateways.
pub(super) fn spawn(
    work: &mut JoinSet<()>,
    deps: &AlertDeps<'_>,
    changes: Vec<(AlertKind, mpsc::UnboundedReceiver<Change>)>,
    (news, news_out): (mpsc::UnboundedSender<Trigger>, mpsc::UnboundedReceiver<Trigger>),
    stop: &CancellationToken,
) {
    for (kind, mut changes) in changes {
        let news = news.clone();
        spawn_until(work, stop, async move {
            while let Some(change) = changes.recv().await {
                let told = match change {
                    Change::One(namespace, name) => Trigger::Changed((kind, namespace, name)),
                    Change::All => Trigger::AllChanged,
                };
                if news.send(told).is_err() {
                    return;
                }
            }
        });
    }
    for scope in deps.settings.scopes() {
        let api = match &scope {
            Some(namespace) => Api::namespaced(deps.client.clone(), namespace),
            None => Api::all(deps.client.clone()),
        };
        let scope = Scope::Namespaced(scope);
        let policies = policies::<AlertPolicy>(api, scope, news.clone(), deps.recovery.clone());
        spawn_until(work, stop, policies);
    }
    let namespaces = deps.settings.namespaces.is_empty().then(|| {
        let inlet = Inlet::<PartialObjectMeta<Namespace>>::default();
        let reader = inlet.as_reader();
        let (listed, mut is_listed) = watch::channel(false);
        spawn_until(
            work,
            stop,
            watch_namespaces(deps.client.clone(), inlet, news.clone(), listed, deps.recovery.clone()),
        );
        let (client, news, recovery) = (deps.client.clone(), news.clone(), deps.recovery.clone());
        spawn_until(work, stop, async move {
            // Without the labels it would seem that nothing is covered, and what fires would be said to have ended.
            if is_listed.wait_for(|listed| *listed).await.is_ok() {
                policies::<ClusterAlertPolicy>(Api::all(client), Scope::Cluster, news, recovery).await;
            }
        });
        reader
    });
    let view = Arc::new(KubernetesView {
        watch_scopes: deps.watch_scopes.to_vec(),
        namespaces,
    });
    let own = deps.settings.own_namespace.clone();
    let effects = Arc::new(KubernetesEffects {
        client: deps.client.clone(),
        writer: deps.writer.clone(),
        events: deps.events.clone(),
        dependencies: deps.dependencies.clone(),
        view: view.clone(),
        store: Store::new(deps.client.clone(), &own, deps.writer.clone()),
        sender: Sender::new(deps.settings.cluster_name.clone(), deps.settings.allow_loopback),
        own_namespace: own,
        targets: Targets::default(),
    });
    let (metrics, stop) = (deps.metrics.clone(), stop.clone());
    let watch_scopes = deps.watch_scopes.to_vec();
    work.spawn(async move {
        let ready = async {
            let listed = join_all(watch_scopes.iter().map(|scope| async {
                scope.gateways.listed().await;
                scope.certificates.synced().await
            }));
            // Those of a namespace without its rights may never come, and the others' alarm does not wait for that.
            if let Ok(listed) = tokio::time::timeout(LIST_TIMEOUT, listed).await
                && listed.contains(&false)
            {
                return None;
            }
            loop {
                match effects.store.load().await {
                    Ok(stored) => return Some(stored),
                    Err(error) => tracing::warn!(%error, "what fired and what was to be sent cannot be read yet"),
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        };
        if let Some(Some(stored)) = stop.run_until_cancelled(ready).await {
            Engine::new(view, effects, metrics, stored).run(news_out, stop).await;
        }
    });
}

fn spawn_until(work: &mut JoinSet<()>, stop: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    work.spawn(async move {
        stop.run_until_cancelled(task).await;
    });
}

/// Keeps the labels of namespaces, and nothing else of them.
async fn watch_namespaces(
    client: Client,
    mut inlet: Inlet<PartialObjectMeta<Namespace>>,
    news: mpsc::UnboundedSender<Trigger>,
    listed: watch::Sender<bool>,
    recovery: Recovery,
) {
    let reader = inlet.as_reader();
    let prune = |object: &mut PartialObjectMeta<Namespace>| {
        object.managed_fields_mut().clear();
        object.annotations_mut().clear();
    };
    let api = Api::<PartialObjectMeta<Namespace>>::all(client);
    let mut events = watch_all(api, watcher::Config::default(), "Namespace", &recovery).boxed();
    while let Some(event) = events.next().await {
        let event = event.modify(prune);
        let told = match &event {
            Event::Apply(object) => {
                let before = reader.get(&reflector::ObjectRef::from_obj(object));
                let differs = before.is_none_or(|before| before.metadata.labels != object.metadata.labels);
                differs.then(|| Trigger::Namespace(object.name_any()))
            }
            Event::InitDone => Some(Trigger::AllChanged),
            Event::Delete(_) | Event::Init | Event::InitApply(_) => None,
        };
        let is_list = matches!(event, Event::InitDone);
        inlet.apply_watcher_event(&event);
        if is_list {
            listed.send_replace(true);
        }
        if told.is_some_and(|told| news.send(told).is_err()) {
            return;
        }
    }
}
