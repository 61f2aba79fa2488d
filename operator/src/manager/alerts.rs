//! Watches AlertPolicies and runs the alert engine.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use gatehouse_crds::alert::{AlertKind, AlertPolicy, ClusterAlertPolicy};
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::{
    Settings,
    component::{Component, Tasks},
    scoped,
};
use crate::{
    alert::{
        cluster::{KubernetesEffects, KubernetesView, Targets, WatchScope},
        engine::{Engine, Trigger},
        policy::Scope,
        send::Sender,
        store::Store as StateStore,
        watch::{NamespaceLabels, follow_namespaces, follow_policies},
    },
    kubernetes::{
        apply::Writer,
        client::Recovery,
        dependency::Dependencies,
        events::Events,
        store::{Projection, Store, StoreEvent},
    },
    telemetry::metrics::Metrics,
};

/// Pause between two attempts to read the state that the previous leader left.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Longest time that the engine waits for the lists of Certificates and Gateways, so that what changed meanwhile is reported
/// together.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// The alert engine, with all that it needs.
pub(super) struct Alerts {
    pub(super) client: Client,
    pub(super) writer: Writer,
    pub(super) events: Events,
    pub(super) metrics: Metrics,
    pub(super) watch_scopes: Vec<WatchScope>,
    pub(super) settings: Settings,
    pub(super) recovery: Recovery,
    pub(super) dependencies: Arc<Dependencies>,
    /// Triggers of the engine; other components send some, too.
    pub(super) triggers: (mpsc::UnboundedSender<Trigger>, mpsc::UnboundedReceiver<Trigger>),
}

impl Component for Alerts {
    fn name(&self) -> &'static str {
        "alerts"
    }

    fn start(self, tasks: &mut Tasks) {
        let (triggers, received) = self.triggers;
        for scope in &self.watch_scopes {
            follow_objects(
                &scope.certificates.certificates,
                AlertKind::Certificate,
                triggers.clone(),
            );
            follow_objects(&scope.gateways.gateways, AlertKind::Gateway, triggers.clone());
        }
        for namespace in self.settings.scopes() {
            let policies = Store::new();
            let api = scoped(&self.client, namespace.as_deref());
            follow_policies::<AlertPolicy>(&policies, Scope::Namespaced(namespace), triggers.clone());
            tasks.until_stopped(policies.watch(api, self.recovery.clone()));
        }
        let namespaces = self.settings.namespaces.is_empty().then(|| {
            let namespaces = Store::<NamespaceLabels>::new();
            follow_namespaces(&namespaces, triggers.clone());
            let watch = namespaces
                .clone()
                .watch(Api::all(self.client.clone()), self.recovery.clone());
            tasks.until_stopped(watch);
            let policies = Store::new();
            follow_policies::<ClusterAlertPolicy>(&policies, Scope::Cluster, triggers);
            let (listed, api, recovery) = (namespaces.clone(), Api::all(self.client.clone()), self.recovery.clone());
            tasks.until_stopped(async move {
                // Without the labels no namespace would match a selector, and what fires would be reported as resolved.
                if listed.listed().await {
                    policies.watch(api, recovery).await;
                }
            });
            namespaces
        });
        let view = Arc::new(KubernetesView {
            watch_scopes: self.watch_scopes.clone(),
            namespaces,
        });
        let own_namespace = self.settings.own_namespace.clone();
        let effects = Arc::new(KubernetesEffects {
            client: self.client.clone(),
            writer: self.writer.clone(),
            events: self.events,
            dependencies: self.dependencies,
            view: view.clone(),
            store: StateStore::new(self.client, &own_namespace, self.writer),
            sender: Sender::new(self.settings.cluster_name, self.settings.allow_loopback),
            own_namespace,
            targets: Targets::default(),
        });
        let (metrics, watch_scopes, stop) = (self.metrics, self.watch_scopes, tasks.stop());
        tasks.until_done(async move {
            let stored = async {
                if !are_listed(&watch_scopes).await {
                    return None;
                }
                loop {
                    match effects.store.load().await {
                        Ok(stored) => return Some(stored),
                        Err(error) => tracing::warn!(%error, "the state of alerts cannot be read; it is read again"),
                    }
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            };
            if let Some(Some(stored)) = stop.run_until_cancelled(stored).await {
                Engine::new(view, effects, metrics, stored).run(received, stop).await;
            }
        });
    }
}

/// Waits for the lists of Certificates and Gateways, for a limited time: those of a namespace without rights never come, and
/// the alerts of the others do not wait for them. Returns false when the process ends.
async fn are_listed(watch_scopes: &[WatchScope]) -> bool {
    let listed = join_all(watch_scopes.iter().map(|scope| async {
        scope.gateways.gateways.listed().await;
        scope.certificates.synced().await
    }));
    let listed = tokio::time::timeout(LIST_TIMEOUT, listed).await;
    listed.map_or(true, |listed| !listed.contains(&false))
}

/// Reports changes of the objects that alerts are about to the engine.
fn follow_objects<P: Projection>(store: &Store<P>, kind: AlertKind, triggers: mpsc::UnboundedSender<Trigger>) {
    store.subscribe(move |_, event| {
        let trigger = match event {
            StoreEvent::Applied { after: object, .. } | StoreEvent::Deleted(object) => {
                let key = object.key();
                Trigger::Changed((kind, key.namespace().to_owned(), key.name().to_owned()))
            }
            StoreEvent::Listed { .. } => Trigger::AllChanged,
        };
        // After the engine has ended nothing receives it.
        let _ = triggers.send(trigger);
    });
}
