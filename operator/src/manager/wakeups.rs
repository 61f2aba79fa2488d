//! Enqueues those whose wait is over: an object that they wait for has changed, or the API server answers again.

use std::{sync::Arc, time::Duration};

use gatehouse_crds::certificate::IssuerKind;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    alert::{engine::Trigger, policy::PolicyKey},
    certificate::{cache::Ref, context::Context as Certificates, dependencies},
    gateway::{cache::Cache as GatewayCache, controller::Context as Gateways},
    issuer::{controller::Context as Issuers, registry::Key},
    kubernetes::{
        client::Recovery,
        dependency::{Dependencies, Dependent},
    },
};

/// Those that wait for the API server are enqueued in groups, this far apart, so that it is not met by all at once.
const BATCH: usize = 50;
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Who can be enqueued.
pub(super) struct Queues {
    pub(super) certificates: Arc<Certificates>,
    pub(super) issuers: Arc<Issuers>,
    pub(super) gateways: Arc<Gateways>,
    pub(super) gateway_caches: Vec<Arc<GatewayCache>>,
    pub(super) alerts: mpsc::UnboundedSender<Trigger>,
}

/// Starts it. `changed` are those of `dependencies`.
pub(super) fn spawn(
    work: &mut JoinSet<()>,
    queues: Queues,
    dependencies: Arc<Dependencies>,
    mut changed: mpsc::UnboundedReceiver<Dependent>,
    recovery: &Recovery,
    stop: &CancellationToken,
) {
    work.spawn(dependencies.poll(stop.clone()));
    let mut recoveries = recovery.subscribe();
    let stop = stop.clone();
    work.spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(dependent) = changed.recv() => queues.enqueue(dependent),
                Ok(()) = recoveries.changed() => {
                    recoveries.mark_unchanged();
                    if stop.run_until_cancelled(queues.recovered()).await.is_none() {
                        return;
                    }
                }
            }
        }
    });
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
            self.certificates.enqueue(&Ref::new(&name).within(&namespace));
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
