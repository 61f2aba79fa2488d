#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::telemetry::metrics::{CertificateSample, GatewaySample, Metrics, Snapshot, registry};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// As many Certificates as it says.
#[derive(Debug)]
struct Many(usize);

impl Snapshot for Many {
    fn certificates(&self, visit: &mut dyn FnMut(&CertificateSample<'_>)) {
        for number in 0..self.0 {
            let name = format!("certificate-{number}");
            visit(&CertificateSample {
                namespace: "app",
                name: &name,
                ready: Some(true),
                not_before: None,
                not_after: None,
                renewal: None,
                failed_attempts: 0,
            });
        }
    }

    fn gateways(&self, _: &mut dyn FnMut(&GatewaySample<'_>)) {}

    fn challenges_in_flight(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Status, headers and body of one answer; the body is de-chunked.
async fn fetch(addr: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: gatehouse\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = if head.contains("transfer-encoding: chunked") {
        dechunk(body)
    } else {
        body.to_owned()
    };
    (status, head.to_owned(), body)
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
}

async fn metrics_of(certificates: usize) -> (SocketAddr, CancellationToken, JoinHandle<io::Result<()>>) {
    let listener = listen("metrics", LOOPBACK).await.unwrap();
    let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let registry = registry(&Metrics::default(), || true, Many(certificates));
    (
        addr,
        stop.clone(),
        tokio::spawn(serve_metrics(listener, registry, stop)),
    )
}

#[tokio::test]
async fn metrics_come_whole_as_openmetrics_however_many_there_are() {
    let (addr, stop, server) = metrics_of(5_000).await;
    let (status, head, body) = fetch(addr, "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(body.len() > 4 * PIECE && body.ends_with("# EOF\n"));
    let ready = body
        .lines()
        .filter(|line| line.starts_with("gatehouse_certificate_ready_status{"))
        .count();
    assert_eq!(ready, 15_000);
    assert!(body.contains("\ngatehouse_leader 1\n"));
    assert_eq!(fetch(addr, "/").await.0, 404);
    stop.cancel();
    timeout(Duration::from_secs(10), server)
        .await
        .expect("ends when stopped")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_gives_its_place_back() {
    let (addr, _stop, _server) = metrics_of(20_000).await;
    for _ in 0..3 * SCRAPES {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: gatehouse\r\n\r\n")
            .await
            .unwrap();
        stream.read_exact(&mut [0; 15]).await.unwrap();
    }
    let answered = async {
        while fetch(addr, "/metrics").await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), answered)
        .await
        .expect("a place is free again");
}

#[tokio::test]
async fn a_standby_is_ready_once_its_caches_are_synced() {
    let listener = listen("health", LOOPBACK).await.unwrap();
    let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let readiness = Readiness::awaiting(["certificates", "secrets"]);
    let server = tokio::spawn(serve_health(
        listener,
        Heartbeat::default(),
        readiness.clone(),
        stop.clone(),
    ));
    let (status, _, body) = fetch(addr, "/readyz").await;
    assert_eq!((status, body.as_str()), (503, "waiting for certificates, secrets\n"));
    readiness.reached("certificates");
    readiness.reached("secrets");
    let (status, _, body) = fetch(addr, "/readyz").await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    let (status, _, body) = fetch(addr, "/healthz").await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn health_fails_when_the_runtime_is_silent_for_longer_than_a_minute() {
    let pulse = Heartbeat::default();
    tokio::time::advance(SILENCE).await;
    assert_eq!(healthz(&pulse).0, StatusCode::OK);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(
        healthz(&pulse),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the reconcile runtime is silent for 61 s\n".to_owned()
        )
    );
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_in_the_error() {
    let taken = listen("metrics", LOOPBACK).await.unwrap().local_addr().unwrap();
    // The listener above is dropped; hold the port again to be sure that it is taken.
    let _held = TcpListener::bind(taken).await.unwrap();
    let error = listen("metrics", taken).await.unwrap_err();
    assert_eq!(error.reason(), "CannotListen");
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {taken} for metrics: ")),
        "{error}"
    );
}
