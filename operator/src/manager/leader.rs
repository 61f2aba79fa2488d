//! The leader's components: the controllers, the alert engine, events and HTTP-01 routes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    alerts::Alerts,
    certificates::Certificates,
    component::Tasks,
    gateways::{Gateways, WatchScope},
    issuers::Issuers,
    replica::Replica,
    wakeups::{Queues, Wakeups},
};
use crate::{
    alert::cluster,
    gateway::{cluster_reader::ClusterReader, controller as gateway_controller, lookup::Lookup},
    issuer::{
        acme::{Endpoint, RequestObserver},
        controller as issuer_controller, records,
        solver::http01::ClusterRoutes,
    },
    telemetry::metrics::Metrics,
};

/// Time for reconciles in progress after the process is asked to stop. What takes longer, such as a CA that does not answer, is
/// abandoned as in a crash, so that the successor leads within three seconds.
const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(1);

/// The running parts of the leader.
pub(super) struct Leader {
    tasks: Tasks,
    /// Cancelled when nothing may be written any more.
    ended: CancellationToken,
}

impl Leader {
    /// Starts everything. A process leads once: `replica` is used up.
    pub(super) fn start(replica: Replica) -> Self {
        let (mut tasks, ended) = (Tasks::default(), CancellationToken::new());
        let (again, again_received) = mpsc::unbounded_channel();
        let (triggers, triggers_received) = mpsc::unbounded_channel();
        let issuers = Arc::new(issuer_context(&replica, again, ended.clone()));
        let gateways = Arc::new(gateway_context(&replica));
        let Replica {
            settings,
            client,
            writer,
            events,
            event_worker,
            metrics,
            recovery,
            certificates,
            enqueued_certificates,
            gateway_scopes,
            dependencies,
            dependents,
            http01_router,
            responder_service,
            ..
        } = replica;
        let gateway_caches: Vec<_> = gateway_scopes.iter().map(|scope| scope.cache.clone()).collect();
        let watch_scopes = gateway_scopes.iter().map(watch_scope).collect();

        tasks.until_done(event_worker.run(tasks.stop()));
        let (routes, stop) = (
            ClusterRoutes::new(&client, writer.clone(), &responder_service),
            tasks.stop(),
        );
        tasks.until_done(async move { http01_router.run(&routes, stop).await });
        tasks.start(Issuers {
            context: issuers.clone(),
            scopes: settings.scopes(),
            records: records::Store::new(
                client.clone(),
                &settings.own_namespace,
                &settings.namespaces,
                writer.clone(),
            ),
            again: again_received,
            certificates: certificates.caches.clone(),
            recovery: recovery.clone(),
        });
        // Those that follow the stores of others start before the others' watches.
        tasks.start(Alerts {
            client,
            writer,
            events,
            metrics,
            watch_scopes,
            settings: settings.clone(),
            recovery: recovery.clone(),
            dependencies: dependencies.clone(),
            triggers: (triggers.clone(), triggers_received),
        });
        tasks.start(Gateways {
            context: gateways.clone(),
            scopes: gateway_scopes,
            recovery: recovery.clone(),
        });
        tasks.start(Certificates {
            context: certificates.clone(),
            enqueued: enqueued_certificates,
            scopes: settings.scopes(),
            recovery: recovery.clone(),
        });
        tasks.start(Wakeups {
            queues: Queues {
                certificates,
                issuers,
                gateways,
                gateway_caches,
                alerts: triggers,
            },
            dependencies,
            changed: dependents,
            recovery,
        });
        Self { tasks, ended }
    }

    /// Stops after a signal: reconciles in progress get a moment, then `close` waits for the writes that have begun, so that
    /// nothing is written after the Lease is released.
    pub(super) async fn stop(mut self, close: impl Future<Output = ()>) {
        if !self.tasks.stop_within(SHUTDOWN_GRACE_PERIOD).await {
            tracing::info!("some reconciles take longer; the next leader resumes them");
        }
        close.await;
        self.abort().await;
    }

    /// Drops everything at once, after leadership was lost.
    pub(super) async fn abort(mut self) {
        self.ended.cancel();
        self.tasks.abort().await;
    }
}

fn watch_scope(scope: &WatchScope) -> cluster::WatchScope {
    cluster::WatchScope {
        namespace: scope.namespace.clone(),
        certificates: scope.certificates.clone(),
        gateways: scope.cache.clone(),
    }
}

fn issuer_context(
    replica: &Replica,
    again: mpsc::UnboundedSender<crate::issuer::registry::Key>,
    ended: CancellationToken,
) -> issuer_controller::Context {
    issuer_controller::Context {
        client: replica.client.clone(),
        writer: replica.writer.clone(),
        events: replica.events.clone(),
        metrics: replica.metrics.clone(),
        registry: replica.certificates.registry.clone(),
        outages: replica.certificates.outages.clone(),
        solver_factory: replica.solver_factory.clone(),
        observer: Arc::new(AcmeRequests(replica.metrics.clone())),
        cluster_namespace: replica.settings.own_namespace.clone(),
        allow_loopback: replica.settings.allow_loopback,
        failures: Mutex::default(),
        dependencies: replica.dependencies.clone(),
        credentials: Mutex::default(),
        waiting: Mutex::default(),
        unreadable: Mutex::default(),
        again,
        ended,
        now: Timestamp::now,
    }
}

fn gateway_context(replica: &Replica) -> gateway_controller::Context {
    gateway_controller::Context {
        client: replica.client.clone(),
        writer: replica.writer.clone(),
        events: replica.events.clone(),
        metrics: replica.metrics.clone(),
        lookup: Lookup::from_system(),
        cluster_reader: ClusterReader::new(replica.client.clone()),
        now: Timestamp::now,
        attempts: Mutex::default(),
        waiting: Mutex::default(),
        creating: gateway_controller::Creating::default(),
    }
}

/// Counts requests to ACME servers.
struct AcmeRequests(Metrics);

impl RequestObserver for AcmeRequests {
    fn request(&self, host: &str, endpoint: Endpoint, code: u16, duration: Duration) {
        self.0
            .acme_request(host, endpoint.as_str(), (code != 0).then_some(code), duration);
    }
}
