//! Enqueues those whose wait is over: an object that they wait for has changed, or the API server answers again.

use std::{sync::Arc, time::Duration};

use gatehouse_crds::certificate::IssuerKind;
use tokio::sync::mpsc;

use super::component::{Component, Tasks};
use crate::{
    alert::{engine::Trigger, policy::PolicyKey},
    certificate::{context::Context as Certificates, dependencies},
    gateway::{cache::Cache as GatewayCache, controller::Context as Gateways},
    issuer::{controller::Context as Issuers, registry::Key},
    kubernetes::{
        client::Recovery,
        dependency::{Dependencies, Dependent},
        store::ObjectKey,
    },
};

/// Objects that wait for the API server are enqueued in batches, so that it is not met by all at once.
const BATCH: usize = 50;
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Enqueues the objects that wait for another object, or for the API server.
pub(super) struct Wakeups {
    pub(super) queues: Queues,
    pub(super) dependencies: Arc<Dependencies>,
    /// Those whose dependencies have changed.
    pub(super) changed: mpsc::UnboundedReceiver<Dependent>,
    pub(super) recovery: Recovery,
}

/// Queues of the controllers and of the alert engine.
pub(super) struct Queues {
    pub(super) certificates: Arc<Certificates>,
    pub(super) issuers: Arc<Issuers>,
    pub(super) gateways: Arc<Gateways>,
    pub(super) gateway_caches: Vec<Arc<GatewayCache>>,
    pub(super) alerts: mpsc::UnboundedSender<Trigger>,
}

impl Component for Wakeups {
    fn name(&self) -> &'static str {
        "wakeups"
    }

    fn start(self, tasks: &mut Tasks) {
        tasks.until_done(self.dependencies.poll(tasks.stop()));
        let (queues, mut changed, mut recoveries) = (self.queues, self.changed, self.recovery.subscribe());
        tasks.until_stopped(async move {
            loop {
                tokio::select! {
                    Some(dependent) = changed.recv() => queues.enqueue(dependent),
                    Ok(()) = recoveries.changed() => {
                        recoveries.mark_unchanged();
                        queues.recovered().await;
                    }
                }
            }
        });
    }
}

impl Queues {
    fn enqueue(&self, dependent: Dependent) {
        let Dependent { kind, namespace, name } = dependent;
        let issuer = [IssuerKind::Issuer, IssuerKind::ClusterIssuer]
            .into_iter()
            .find(|known| known.as_str() == kind);
        // What cannot be sent is for controllers that have ended.
        if let Some(kind) = issuer {
            let _ = self.issuers.again.send(Key { kind, namespace, name });
        } else if kind == dependencies::KIND {
            self.certificates.enqueue(&ObjectKey::new(&namespace, &name));
        } else {
            let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
            let _ = self.alerts.send(Trigger::SecretChanged(PolicyKey { namespace, name }));
        }
    }

    async fn recovered(&self) {
        self.issuers.recovered();
        for (namespace, name) in self.gateways.take_waiting() {
            for cache in &self.gateway_caches {
                cache.enqueue(&namespace, &name);
            }
        }
        for group in self.certificates.take_waiting().chunks(BATCH) {
            for certificate in group {
                self.certificates.enqueue(certificate);
            }
            tokio::time::sleep(BATCH_INTERVAL).await;
        }
    }
}
