//! Servers of every replica, whether it leads or not: metrics, health, and answers to HTTP-01 challenges.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    Settings,
    component::{Component, Tasks},
    snapshot,
};
use crate::{
    issuer::solver::http01::{Answers, router},
    kubernetes::leadership::Leadership,
    telemetry::{
        health::{Heartbeat, Readiness},
        metrics::{self, Metrics},
        server::{self, ListenError},
    },
};

/// Bound addresses, before anything is served.
pub(super) struct Listeners {
    http01: TcpListener,
    metrics: TcpListener,
    health: TcpListener,
}

impl Listeners {
    pub(super) async fn bind(settings: &Settings) -> Result<Self, ListenError> {
        Ok(Self {
            http01: server::listen("http01", settings.http01_addr).await?,
            metrics: server::listen("metrics", settings.metrics_addr).await?,
            health: server::listen("health", settings.health_addr).await?,
        })
    }

    /// Returns the address at which the cluster reaches the HTTP-01 responder: the one that is set, else of the Pod, else of
    /// this machine.
    pub(super) fn advertised(&self, settings: &Settings) -> SocketAddr {
        let listening = self.http01.local_addr().unwrap_or(settings.http01_addr);
        let pod = || std::env::var("POD_IP").ok()?.parse::<IpAddr>().ok();
        let specific = || Some(listening.ip()).filter(|ip| !ip.is_unspecified());
        settings.http01_advertise.unwrap_or_else(|| {
            let ip = pod().or_else(specific).or_else(outward).unwrap_or(listening.ip());
            SocketAddr::new(ip, listening.port())
        })
    }
}

/// Returns the address from which this machine would reach others (a documentation address; nothing is sent).
fn outward() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The servers, with all that they need.
pub(super) struct Servers {
    pub(super) listeners: Listeners,
    pub(super) metrics: Metrics,
    pub(super) leadership: Leadership,
    pub(super) state: snapshot::State,
    pub(super) answers: Arc<Answers>,
}

impl Component for Servers {
    fn name(&self) -> &'static str {
        "servers"
    }

    fn start(self, tasks: &mut Tasks) {
        let (heartbeat, readiness) = (Heartbeat::default(), Readiness::awaiting(["start"]));
        let leadership = self.leadership;
        let scraped = metrics::registry(&self.metrics, move || leadership.is_leader(), self.state);
        serve_health(
            self.listeners.health,
            heartbeat.clone(),
            readiness.clone(),
            tasks.stop(),
        );
        tasks.until_done(heartbeat.keep(tasks.stop()));
        let (listener, stop) = (self.listeners.metrics, tasks.stop());
        tasks.until_done(async move {
            if let Err(error) = server::serve_metrics(listener, scraped, stop).await {
                tracing::error!(%error, "metrics are no longer served");
            }
        });
        let stopped = tasks.stop().cancelled_owned();
        let serve = axum::serve(self.listeners.http01, router(self.answers)).with_graceful_shutdown(stopped);
        tasks.until_done(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "HTTP-01 challenges are no longer answered");
            }
        });
        // A standby is ready: it can take over.
        readiness.reached("start");
    }
}

/// Serves health from a thread of its own, which answers also while the runtime of the others hangs.
fn serve_health(listener: TcpListener, heartbeat: Heartbeat, readiness: Readiness, stop: CancellationToken) {
    std::thread::spawn(move || {
        let serve = || -> std::io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener.into_std()?)?;
                server::serve_health(listener, heartbeat, readiness, stop).await
            })
        };
        if let Err(error) = serve() {
            tracing::error!(%error, "health is no longer served");
        }
    });
}
