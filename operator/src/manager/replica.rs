//! State of every replica, also before it leads: the client, the stores, and the answers to challenges.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc;

use super::{OperatorError, Settings, gateways::WatchScope, servers::Listeners, snapshot};
use crate::{
    certificate::{breaker::Breaker, cache::Cache, context::Context, order::Orders},
    gateway::cache::Cache as GatewayCache,
    issuer::{
        outage::Outages,
        registry::Registry,
        slots::{SLOTS, Slots},
        solver::{
            Reach, SolverFactory,
            dns01::SystemServers,
            http01::{Answers, Http01Router, ResponderService},
        },
    },
    kubernetes::{
        apply::Writer,
        client::{self, Recovery},
        controller::Enqueued,
        dependency::{Cluster, Dependencies, Dependent},
        events::{EventWorker, Events},
        leadership::{Elector, Identity, KubeLeases, Leadership},
        observer::{SharedObserver, WriteObserver, WriteOutcome},
    },
    telemetry::metrics::Metrics,
};

/// Time that ingress controllers take to read a route after it was written.
const INGRESS_GRACE_PERIOD: Duration = Duration::from_secs(1);

/// State of a replica.
pub(super) struct Replica {
    pub(super) settings: Settings,
    pub(super) client: Client,
    pub(super) recovery: Recovery,
    pub(super) leadership: Leadership,
    pub(super) metrics: Metrics,
    pub(super) writer: Writer,
    pub(super) events: Events,
    pub(super) event_worker: EventWorker,
    pub(super) dependencies: Arc<Dependencies>,
    pub(super) dependents: mpsc::UnboundedReceiver<Dependent>,
    pub(super) certificates: Arc<Context>,
    pub(super) enqueued_certificates: Vec<Enqueued>,
    pub(super) gateway_scopes: Vec<WatchScope>,
    pub(super) solver_factory: Arc<SolverFactory>,
    pub(super) http01_router: Arc<Http01Router>,
    pub(super) responder_service: ResponderService,
    pub(super) answers: Arc<Answers>,
}

impl Replica {
    /// Connects to the API server and creates everything, empty. The elector is returned when leaders are elected.
    pub(super) fn new(
        config: kube::Config,
        settings: Settings,
        listeners: &Listeners,
    ) -> Result<(Self, Option<Elector>), OperatorError> {
        let (client, recovery) = client::connect(config, client::RETRIES).map_err(OperatorError::Client)?;
        let identity = Identity::of_this_process();
        let (elector, leadership) = if settings.leader_elect {
            let leases = KubeLeases::new(client.clone(), &settings.own_namespace);
            let (elector, leadership) = Elector::new(leases, identity.clone());
            (Some(elector), leadership)
        } else {
            (None, Leadership::always())
        };
        let metrics = Metrics::default();
        let observer: SharedObserver = Arc::new(WriteMetrics(metrics.clone()));
        let writer = Writer::new(leadership.clone(), observer.clone());
        let (events, event_worker) = Events::new(client.clone(), leadership.clone(), identity.as_str(), observer);
        let answers = Arc::new(Answers::default());
        let responder_service = ResponderService {
            namespace: settings.own_namespace.clone(),
            responder: listeners.advertised(&settings),
        };
        let http01_router = Arc::new(Http01Router::new(
            responder_service.clone(),
            answers.clone(),
            settings.http01_ingress.clone(),
            INGRESS_GRACE_PERIOD,
        ));
        let reach = Reach {
            allow_loopback: settings.allow_loopback,
        };
        let solver_factory = SolverFactory::new(reach, SystemServers::from_system(), http01_router.clone());
        let (dependencies, dependents) = Dependencies::new(Cluster::new(client.clone(), recovery.clone()));
        let (caches, enqueued_certificates): (Vec<_>, Vec<_>) = settings.scopes().iter().map(|_| Cache::new()).unzip();
        let certificates = Arc::new(Context {
            client: client.clone(),
            writer: writer.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
            registry: Arc::new(Registry::default()),
            dependencies: dependencies.clone(),
            outages: Arc::new(Outages::default()),
            slots: Slots::new(SLOTS),
            orders: Orders::default(),
            writes: Context::write_permits(),
            passwords: Mutex::default(),
            breaker: Mutex::new(Breaker::new(settings.max_reissue_percent, Timestamp::now())),
            caches,
            cluster_issuers: settings.namespaces.is_empty(),
            rehearsed: Mutex::default(),
            attempts: Mutex::default(),
            waiting: Mutex::default(),
            rollouts: Mutex::default(),
            pauses: Mutex::default(),
            now: Timestamp::now,
        });
        let gateway_scopes = settings.scopes().into_iter().zip(&certificates.caches);
        let gateway_scopes = gateway_scopes.map(|(namespace, certificates)| {
            let (cache, enqueued) = GatewayCache::new();
            WatchScope {
                namespace,
                cache,
                enqueued,
                certificates: certificates.clone(),
            }
        });
        let replica = Self {
            gateway_scopes: gateway_scopes.collect(),
            settings,
            client,
            recovery,
            leadership,
            metrics,
            writer,
            events,
            event_worker,
            dependencies,
            dependents,
            certificates,
            enqueued_certificates,
            solver_factory: Arc::new(solver_factory),
            http01_router,
            responder_service,
            answers,
        };
        Ok((replica, elector))
    }

    /// Returns what metrics read.
    pub(super) fn state(&self) -> snapshot::State {
        snapshot::State {
            context: self.certificates.clone(),
            gateways: self.gateway_scopes.iter().map(|scope| scope.cache.clone()).collect(),
        }
    }
}

/// Counts writes to the API server.
#[derive(Debug)]
struct WriteMetrics(Metrics);

impl WriteObserver for WriteMetrics {
    fn written(&self, outcome: WriteOutcome<'_>) {
        self.0.kubernetes_write(outcome.verb, outcome.kind, outcome.result);
    }

    fn event_dropped(&self) {
        self.0.event_dropped();
    }
}
