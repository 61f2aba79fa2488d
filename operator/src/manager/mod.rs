//! The control plane, put together: who watches what, who tells whom, and in which order it
//! starts and ends.
//!
//! Before leadership only health, metrics and the HTTP-01 responder are there. The leader then
//! starts everything else, and ends with its leadership: a process never leads twice.

mod alerts;
mod certificates;
mod gateways;
mod issuers;
mod snapshot;
mod wakeups;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use gatehouse_crds::alert::AlertKind;
use jiff::Timestamp;
use kube::runtime::reflector::{Lookup, Store};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    alert::cluster::WatchScope,
    certificate::{
        breaker::Breaker,
        cache::{Cache, Change},
        context::Context,
        order::Orders,
    },
    gateway::{
        cache::Cache as GatewayCache, cluster_reader::ClusterReader, controller as gateway_controller,
        lookup::Lookup as Names,
    },
    issuer::{
        acme::{Endpoint, RequestObserver},
        controller as issuer_controller,
        outage::Outages,
        registry::Registry,
        slots::{SLOTS, Slots},
        solver::{
            Reach, SolverFactory,
            dns01::SystemServers,
            http01::{Answers, ClusterRoutes, Http01Router, IngressPolicy, ResponderService, router},
        },
    },
    kubernetes::{
        apply::Writer,
        client,
        dependency::{Cluster, Dependencies},
        events::Events,
        leadership::{Elector, Identity, KubeLeases, Leadership},
    },
    telemetry::{
        health::{Heartbeat, Readiness},
        metrics::{self, Metrics},
        server::{self, ListenError},
    },
};

/// After a route was written: what ingress controllers take to read it.
const INGRESS_GRACE_PERIOD: Duration = Duration::from_secs(1);
/// How long steps in progress may take when the process is asked to end. What takes longer, such as a CA that hangs, is left
/// as after a crash, so that the successor leads within three seconds.
const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(1);

/// How the operator is to run.
#[derive(Clone, Debug)]
pub struct Settings {
    pub leader_elect: bool,
    /// Empty means all.
    pub namespaces: Vec<String>,
    /// Of the Lease, the HTTP-01 objects and the Secrets of ClusterIssuers.
    pub own_namespace: String,
    pub metrics_addr: SocketAddr,
    pub health_addr: SocketAddr,
    pub http01_addr: SocketAddr,
    pub http01_advertise: Option<SocketAddr>,
    /// Limits what tenants' Issuers may put on Ingresses in `own_namespace`.
    pub http01_ingress: IngressPolicy,
    pub max_reissue_percent: u8,
    pub allow_loopback: bool,
    /// What alerts call this cluster.
    pub cluster_name: String,
}

impl Settings {
    /// What is watched: each namespace, or once all of them.
    fn scopes(&self) -> Vec<Option<String>> {
        if self.namespaces.is_empty() {
            vec![None]
        } else {
            self.namespaces.iter().cloned().map(Some).collect()
        }
    }
}

/// Why the operator ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("the client for the API server cannot be made: {0}")]
    Client(#[source] kube::Error),
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Somebody else leads now, or may: this process must not write any more.
    #[error("leadership is lost")]
    LeadershipLost,
    #[error("signals cannot be waited for: {0}")]
    Signals(#[source] std::io::Error),
}

/// Runs until a signal, or until leadership is lost.
#[allow(clippy::too_many_lines, reason = "what starts when is read in one place")]
pub async fn run(config: kube::Config, settings: Settings) -> Result<(), OperatorError> {
    let stop = CancellationToken::new();
    let signalled = signals().map_err(OperatorError::Signals)?;
    let (client, recovery) = client::connect(config, client::RETRIES).map_err(OperatorError::Client)?;
    let me = Identity::of_this_process();
    let (elector, leadership) = if settings.leader_elect {
        let (elector, leadership) = Elector::new(KubeLeases::new(client.clone(), &settings.own_namespace), me.clone());
        (Some(elector), leadership)
    } else {
        (None, Leadership::always())
    };
    let metrics = Metrics::default();
    let writer = Writer::new(leadership.clone(), metrics.clone());
    let (events, event_worker) = Events::new(client.clone(), leadership.clone(), me.as_str(), metrics.clone());
    let registry = Arc::new(Registry::default());
    let outages = Arc::new(Outages::default());

    let http01 = server::listen("http01", settings.http01_addr).await?;
    let responder = advertised(&settings, http01.local_addr().unwrap_or(settings.http01_addr));
    let answers = Arc::new(Answers::default());
    let responder_service = ResponderService {
        namespace: settings.own_namespace.clone(),
        responder,
    };
    let policy = settings.http01_ingress.clone();
    let http01_router = Arc::new(Http01Router::new(
        responder_service.clone(),
        answers.clone(),
        policy,
        INGRESS_GRACE_PERIOD,
    ));
    let reach = Reach {
        allow_loopback: settings.allow_loopback,
    };
    let solver_factory = Arc::new(SolverFactory::new(
        reach,
        SystemServers::from_system(),
        http01_router.clone(),
    ));

    let (dependencies, dependents) = Dependencies::new(Cluster::new(client.clone(), recovery.clone()));
    let (caches, inlets): (Vec<_>, Vec<_>) = settings.scopes().iter().map(|_| Cache::new()).unzip();
    let context = Arc::new(Context {
        client: client.clone(),
        writer: writer.clone(),
        events: events.clone(),
        metrics: metrics.clone(),
        registry: registry.clone(),
        dependencies: dependencies.clone(),
        outages: outages.clone(),
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

    let gateway_scopes: Vec<_> = settings
        .scopes()
        .into_iter()
        .zip(&context.caches)
        .map(|(namespace, certificates)| {
            let (cache, inlets) = GatewayCache::new();
            gateways::WatchScope {
                namespace,
                cache,
                inlets,
                certificates: certificates.clone(),
            }
        })
        .collect();

    let gateway_caches: Vec<_> = gateway_scopes.iter().map(|scope| scope.cache.clone()).collect();

    let heartbeat = Heartbeat::default();
    let readiness = Readiness::awaiting(["start"]);
    let metrics_at = server::listen("metrics", settings.metrics_addr).await?;
    let health_at = server::listen("health", settings.health_addr).await?;
    let scraped = metrics::registry(
        &metrics,
        leadership.clone(),
        snapshot::State {
            context: context.clone(),
            gateways: gateway_caches.clone(),
        },
    );
    serve_health_apart(health_at, heartbeat.clone(), readiness.clone(), &stop);

    let mut servers = JoinSet::new();
    servers.spawn(heartbeat.keep(stop.clone()));
    let stopped = stop.clone();
    servers.spawn(async move {
        if let Err(error) = server::serve_metrics(metrics_at, scraped, stopped).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    let stopped = stop.clone();
    servers.spawn(async move {
        let serve = axum::serve(http01, router(answers)).with_graceful_shutdown(stopped.cancelled_owned());
        if let Err(error) = serve.await {
            tracing::error!(%error, "HTTP-01 challenges are not answered any more");
        }
    });
    // A standby is ready: it can take over.
    readiness.reached("start");

    let release = CancellationToken::new();
    let election = elector.map(|elector| tokio::spawn(elector.run(release.clone())));
    tokio::pin!(signalled);
    let led = tokio::select! {
        () = leadership.wait_until_leader() => true,
        () = &mut signalled => false,
    };
    let mut outcome = Ok(());
    let ended = CancellationToken::new();
    if led {
        tracing::info!(identity = %me, "leading");
        let (again, again_out) = mpsc::unbounded_channel();
        let issuers = Arc::new(issuer_controller::Context {
            client: client.clone(),
            writer: writer.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
            registry,
            outages,
            solver_factory,
            observer: Arc::new(AcmeRequests(metrics.clone())),
            cluster_namespace: settings.own_namespace.clone(),
            allow_loopback: settings.allow_loopback,
            failures: Mutex::default(),
            dependencies: dependencies.clone(),
            credentials: Mutex::default(),
            waiting: Mutex::default(),
            unreadable: Mutex::default(),
            again,
            ended: ended.clone(),
            now: Timestamp::now,
        });
        let mut work = JoinSet::new();
        work.spawn(event_worker.run(stop.clone()));
        let routes = ClusterRoutes::new(&client, writer.clone(), &responder_service);
        let stopped = stop.clone();
        work.spawn(async move { http01_router.run(&routes, stopped).await });
        let (secrets, secrets_out) = mpsc::unbounded_channel();
        let (to_gateways, for_gateways) = mpsc::unbounded_channel();
        let tell = to_gateways.clone();
        let secrets_out = shared(&mut work, secrets_out, &stop, move |(namespace, name)| {
            // Who has ended needs no news.
            let _ = tell.send(Change::One(namespace, name));
        });
        issuers::spawn(&mut work, &issuers, &settings, again_out, secrets_out, &recovery, &stop);
        let changes = certificates::spawn(
            &mut work,
            &context,
            inlets,
            &settings.scopes(),
            &secrets,
            &recovery,
            &stop,
        );
        let changes = changes.into_iter().map(|changes| {
            let tell = to_gateways.clone();
            shared(&mut work, changes, &stop, move |change| {
                let _ = tell.send(change);
            })
        });
        let mut changes: Vec<_> = changes.map(|changes| (AlertKind::Certificate, changes)).collect();
        let gateways = Arc::new(gateway_controller::Context {
            client: client.clone(),
            writer: writer.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
            lookup: Names::from_system(),
            cluster_reader: ClusterReader::new(client.clone()),
            now: Timestamp::now,
            attempts: Mutex::default(),
            waiting: Mutex::default(),
            creating: gateway_controller::Creating::default(),
        });
        let gateway_changes = gateways::spawn(&mut work, &gateways, gateway_scopes, &recovery, &stop);
        changes.extend(gateway_changes.into_iter().map(|changes| (AlertKind::Gateway, changes)));
        gateways::follow(&mut work, gateway_caches.clone(), for_gateways, &stop);
        let (news, news_out) = mpsc::unbounded_channel();
        let queues = wakeups::Queues {
            certificates: context.clone(),
            issuers: issuers.clone(),
            gateways: gateways.clone(),
            gateway_caches: gateway_caches.clone(),
            alerts: news.clone(),
        };
        wakeups::spawn(&mut work, queues, dependencies.clone(), dependents, &recovery, &stop);
        let watch_scopes: Vec<_> = settings
            .scopes()
            .into_iter()
            .zip(context.caches.iter().cloned().zip(gateway_caches))
            .map(|(namespace, (certificates, gateways))| WatchScope {
                namespace,
                certificates,
                gateways,
            })
            .collect();
        let deps = alerts::AlertDeps {
            client: &client,
            writer: &writer,
            events: &events,
            metrics: &metrics,
            watch_scopes: &watch_scopes,
            settings: &settings,
            recovery: &recovery,
            dependencies: &dependencies,
        };
        alerts::spawn(&mut work, &deps, changes, (news, news_out), &stop);
        tokio::select! {
            () = &mut signalled => tracing::info!("asked to end: finishing the steps in hand"),
            () = leadership.lost() => outcome = Err(OperatorError::LeadershipLost),
        }
        stop.cancel();
        let mut in_time = true;
        if outcome.is_ok() {
            let finished = async { while work.join_next().await.is_some() {} };
            in_time = tokio::time::timeout(SHUTDOWN_GRACE_PERIOD, finished).await.is_ok();
        }
        if !in_time {
            tracing::info!("some steps take longer; the next leader resumes them");
        }
        // What was begun at the API server is waited for; all else is left, so that nothing is written once the Lease is free.
        if outcome.is_ok() {
            writer.close().await;
        }
        ended.cancel();
        work.shutdown().await;
    }
    stop.cancel();
    // Only now: from here on the guard lets nothing through, and a successor may start.
    release.cancel();
    if let Some(election) = election {
        let _ = tokio::time::timeout(Duration::from_secs(5), election).await;
    }
    outcome
}

/// What comes out is what comes in, and `tell` hears of it, too.
fn shared<T: Clone + Send + 'static>(
    work: &mut JoinSet<()>,
    mut source: mpsc::UnboundedReceiver<T>,
    stop: &CancellationToken,
    tell: impl Fn(T) + Send + 'static,
) -> mpsc::UnboundedReceiver<T> {
    let (again, again_out) = mpsc::unbounded_channel();
    let stop = stop.clone();
    work.spawn(async move {
        while let Some(Some(news)) = stop.run_until_cancelled(source.recv()).await {
            tell(news.clone());
            // Who has ended needs no news.
            let _ = again.send(news);
        }
    });
    again_out
}

/// Runs a controller to its end. kube holds the first reconciles until `store` is filled, also when it was asked to end
/// before: then there is nothing in hand, and nothing to wait for.
async fn to_the_end<K>(controller: impl Future<Output = ()>, store: Store<K>, stop: CancellationToken)
where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    let idle = async {
        stop.cancelled().await;
        if store.wait_until_ready().now_or_never().is_some() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = controller => {}
        () = idle => {}
    }
}

/// SIGTERM or Ctrl-C.
fn signals() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Where the cluster reaches the responder.
fn advertised(settings: &Settings, listening: SocketAddr) -> SocketAddr {
    let pod = || std::env::var("POD_IP").ok()?.parse::<IpAddr>().ok();
    let specific = || Some(listening.ip()).filter(|ip| !ip.is_unspecified());
    settings.http01_advertise.unwrap_or_else(|| {
        let ip = pod().or_else(specific).or_else(outward).unwrap_or(listening.ip());
        SocketAddr::new(ip, listening.port())
    })
}

/// The address from which this machine would reach others (a documentation address; nothing is sent).
fn outward() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((std::net::Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Health is served from a thread of its own, so that somebody is left to say that the others hang.
fn serve_health_apart(
    listener: tokio::net::TcpListener,
    pulse: Heartbeat,
    readiness: Readiness,
    stop: &CancellationToken,
) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        let serve = || -> std::io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener.into_std()?)?;
                server::serve_health(listener, pulse, readiness, stop).await
            })
        };
        if let Err(error) = serve() {
            tracing::error!(%error, "health is not served any more");
        }
    });
}

/// Requests to ACME servers, into the metrics.
struct AcmeRequests(Metrics);

impl RequestObserver for AcmeRequests {
    fn request(&self, host: &str, endpoint: Endpoint, code: u16, duration: Duration) {
        self.0
            .acme_request(host, endpoint.as_str(), (code != 0).then_some(code), duration);
    }
}
