//! `/metrics`, `/healthz` and `/readyz` over HTTP.

use std::{
    fmt::{self, Write},
    io, mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::stream;
use prometheus_client::{encoding::text, registry::Registry};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::health::{Heartbeat, Readiness, SILENCE};

/// Content type of `encoding::text` (`OpenMetrics` 1.0.0, "Protocol Negotiation").
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Scrapes at the same time; each holds a thread for as long as its client reads.
const SCRAPES: usize = 4;

/// The exposition leaves in pieces of this many bytes: 50,000 Certificates make some 35 MB of text.
const PIECE: usize = 64 * 1024;

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} for {purpose}: {source}")]
pub struct ListenError {
    purpose: &'static str,
    addr: SocketAddr,
    source: io::Error,
}

impl ListenError {
    /// Stable name of the error.
    pub fn reason(&self) -> &'static str {
        "CannotListen"
    }
}

/// Listens on `addr`, where port 0 picks one, and logs the address for `purpose` (`metrics`, `health`).
pub async fn listen(purpose: &'static str, addr: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError { purpose, addr, source };
    let listener = match TcpListener::bind(addr).await {
        // `[::]` means all addresses, also on a node whose kernel has no IPv6.
        Err(source) if addr.ip() == Ipv6Addr::UNSPECIFIED => TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port()))
            .await
            .map_err(|_| failed(source))?,
        bound => bound.map_err(failed)?,
    };
    let local = listener.local_addr().map_err(failed)?;
    info!(addr = %local, "{purpose} listening");
    Ok(listener)
}

/// Serves `/metrics` until `stop`.
pub async fn serve_metrics(listener: TcpListener, registry: Registry, stop: CancellationToken) -> io::Result<()> {
    let scraped = Arc::new(Scraped {
        registry,
        slots: Arc::new(Semaphore::new(SCRAPES)),
    });
    let router = Router::new().route("/metrics", get(metrics)).with_state(scraped);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// Serves `/healthz` and `/readyz` until `stop`. On another runtime than the one that `pulse` is of,
/// or nothing is left to report that it hangs.
pub async fn serve_health(
    listener: TcpListener,
    pulse: Heartbeat,
    readiness: Readiness,
    stop: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(move || async move { healthz(&pulse) }))
        .route("/readyz", get(move || async move { readyz(&readiness) }));
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

fn healthz(pulse: &Heartbeat) -> (StatusCode, String) {
    let silence = pulse.silence();
    if silence <= SILENCE {
        (StatusCode::OK, "ok\n".into())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the reconcile runtime is silent for {} s\n", silence.as_secs()),
        )
    }
}

fn readyz(readiness: &Readiness) -> (StatusCode, String) {
    let missing = readiness.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".into())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for {}\n", missing.join(", ")),
        )
    }
}

#[derive(Debug)]
struct Scraped {
    registry: Registry,
    slots: Arc<Semaphore>,
}

async fn metrics(State(scraped): State<Arc<Scraped>>) -> Response {
    let Ok(slot) = Arc::clone(&scraped.slots).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at the same time\n").into_response();
    };
    let (sender, receiver) = mpsc::channel(2);
    spawn_blocking(move || {
        let _slot = slot;
        let mut pieces = Pieces {
            piece: String::with_capacity(PIECE),
            sender,
        };
        // The only error is that the reader is gone.
        if text::encode(&mut pieces, &scraped.registry).is_ok() {
            pieces.send().ok();
        }
    });
    let pieces = stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<Bytes, io::Error>(piece), receiver))
    });
    ([(CONTENT_TYPE, OPENMETRICS)], Body::from_stream(pieces)).into_response()
}

/// Text on its way to a client, as fast as the client reads.
struct Pieces {
    piece: String,
    sender: mpsc::Sender<Bytes>,
}

impl Pieces {
    fn send(&mut self) -> fmt::Result {
        let piece = mem::replace(&mut self.piece, String::with_capacity(PIECE));
        self.sender.blocking_send(piece.into()).map_err(|_| fmt::Error)
    }
}

impl Write for Pieces {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.piece.len() + text.len() > PIECE && !self.piece.is_empty() {
            self.send()?;
        }
        self.piece.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
