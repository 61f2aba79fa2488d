//! The sender against servers on 127.0.0.1 that answer in every way that servers do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod addresses;
mod server;
mod tls;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use self::server::{Ca, Server};
use super::*;
use crate::alert::format::samples::{expiring, message, now};
use crate::alert::message::Content;
use crate::alert::sign::SigningKeys;
use crate::alert::target::tests::read;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn target(webhook: Value) -> Target {
    read(webhook, json!({})).await.unwrap()
}

fn alert() -> Message {
    message(Content::Alert(expiring()))
}

/// Sends an alert to a receiver on this machine.
async fn send(target: &Target) -> Result<Accepted, Failure> {
    Sender::new("prod", true).send(target, &alert(), now()).await
}

async fn refusal(target: &Target) -> Failure {
    send(target).await.unwrap_err()
}

#[tokio::test]
async fn a_delivery_is_one_signed_post_on_a_connection_of_its_own() {
    let server = Server::plain("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let target = read(
        json!({
            "url": server.url(),
            "signingSecretRef": {"name": "hooks", "key": "signing"},
            "headersSecretRef": {"name": "headers"},
        }),
        json!({"hooks": {"signing": KEY}, "headers": {"Authorization": "Bearer hunter2"}}),
    )
    .await
    .unwrap();
    let later = Timestamp::from_second(now().as_second() + 300).unwrap();
    let sender = Sender::new("prod", true);
    for attempt in [now(), later] {
        let accepted = sender.send(&target, &alert(), attempt).await.unwrap();
        assert_eq!(accepted.status, Some(StatusCode::OK));
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for ((head, body), time) in seen.iter().zip([now(), later]) {
        let mut lines: Vec<_> = head.trim_end().lines().map(str::to_owned).collect();
        assert_eq!(lines.remove(0), "POST /hook?token=hunter2 HTTP/1.1");
        lines.sort();
        let signature = SigningKeys::parse(KEY).unwrap().sign(&alert().id, time, body);
        assert_eq!(
            lines,
            [
                "authorization: Bearer hunter2".to_owned(),
                format!("content-length: {}", body.len()),
                "content-type: application/cloudevents+json".into(),
                format!("host: 127.0.0.1:{}", server.port),
                concat!("user-agent: gatehouse/", env!("CARGO_PKG_VERSION")).into(),
                format!("webhook-id: {}", alert().id),
                format!("webhook-signature: {signature}"),
                format!("webhook-timestamp: {}", time.as_second()),
            ]
        );
        let event: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(event["source"], "gatehouse.dev/prod");
    }
    assert_eq!(seen[0].1, seen[1].1, "the body is the same on every attempt");
}

#[tokio::test]
async fn every_answer_lands_in_its_class() {
    use FailureKind::{Gone, Refused, Unavailable};
    let check = "check what it expects in headersSecretRef, signingSecretRef or clientCertificateRef";
    let format = "it does not take this message; check that the format is what it understands";
    let table = [
        ("204 No Content", "", None),
        ("202 Accepted", "", None),
        (
            "301 Moved Permanently",
            "location: http://127.0.0.1:1/\r\n",
            Some((
                Refused,
                "Redirected",
                "redirects are not followed; write the URL that it redirects to",
                None,
            )),
        ),
        ("400 Bad Request", "", Some((Refused, "Rejected", format, None))),
        ("401 Unauthorized", "", Some((Refused, "Unauthorized", check, None))),
        (
            "404 Not Found",
            "",
            Some((Refused, "Rejected", "check the URL's path and the format", None)),
        ),
        ("408 Request Timeout", "", Some((Unavailable, "ServerError", "", None))),
        (
            "410 Gone",
            "",
            Some((
                Gone,
                "Gone",
                "it wants nothing more; remove the receiver, or write its new URL",
                None,
            )),
        ),
        ("413 Payload Too Large", "", Some((Refused, "Rejected", format, None))),
        ("425 Too Early", "", Some((Unavailable, "ServerError", "", None))),
        (
            "429 Too Many Requests",
            "retry-after: 120\r\n",
            Some((Unavailable, "RateLimited", "it receives too much at once", Some(120))),
        ),
        (
            "429 Too Many Requests",
            "retry-after: Sat, 21 Nov 2026 10:00:30 GMT\r\n",
            Some((Unavailable, "RateLimited", "it receives too much at once", Some(30))),
        ),
        (
            "500 Internal Server Error",
            "",
            Some((Unavailable, "ServerError", "see its logs", None)),
        ),
        (
            "503 Service Unavailable",
            "retry-after: 999999999\r\n",
            Some((Unavailable, "ServerError", "see its logs", Some(86_400))),
        ),
    ];
    for (status, headers, expected) in table {
        let server = Server::plain(&format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{}",
            if status.starts_with("204") { 0 } else { 7 },
            if status.starts_with("204") { "" } else { "hunter2" },
        ))
        .await;
        let target = target(json!({"url": server.url()})).await;
        let outcome = send(&target).await;
        assert_eq!(server.seen().len(), 1, "{status}");
        let Some((kind, reason, advice, wait)) = expected else {
            assert_eq!(outcome.unwrap().status.unwrap().as_str(), status.get(..3).unwrap());
            continue;
        };
        let colon = if advice.is_empty() { "" } else { ": " };
        let failure = Failure {
            kind,
            reason,
            message: format!("http://127.0.0.1:{} answered {status}{colon}{advice}", server.port),
            retry_after: wait.map(Duration::from_secs),
            content: status.starts_with("400") || status.starts_with("413"),
        };
        assert_eq!(outcome.unwrap_err(), failure);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = Server::plain("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let location = inner.url();
    let outer = Server::plain(&format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\n\r\n"
    ))
    .await;
    let failure = refusal(&target(json!({"url": outer.url()})).await).await;
    assert_eq!((failure.kind, failure.reason), (FailureKind::Refused, "Redirected"));
    assert!(!failure.message.contains("hunter2"), "{failure}");
    assert_eq!(inner.seen().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_never_answers_fails_when_its_time_is_over() {
    // No server accepts: the connection is open, and nothing comes.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let target = target(json!({"url": url, "timeout": "20s"})).await;
    let started = Instant::now();
    let failure = refusal(&target).await;
    assert_eq!(started.elapsed().as_secs(), 20);
    assert_eq!((failure.kind, failure.reason), (FailureKind::Unavailable, "Timeout"));
    let name = url.trim_end_matches('/');
    assert_eq!(failure.message, format!("{name} gave no answer within 20 s"));
}

#[tokio::test]
async fn nobody_there_is_told_as_such() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let failure = refusal(&target(json!({"url": url})).await).await;
    assert_eq!((failure.kind, failure.reason), (FailureKind::Unavailable, "Network"));
    assert!(
        failure.message.starts_with(&format!("cannot reach {url}: ")),
        "{failure}"
    );
    assert!(failure.message.contains("refused"), "{failure}");
}

/// Starts a server that accepts its one request and continues with `body`; returns its address.
async fn says_yes<B, F>(body: B) -> (String, tokio::task::JoinHandle<F::Output>)
where
    B: FnOnce(TcpStream) -> F + Send + 'static,
    F: Future<Output: Send + 'static> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::new()).await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 268435456\r\n\r\n";
        stream.write_all(head).await.unwrap();
        body(stream).await
    });
    (url, server)
}

#[tokio::test]
async fn of_a_huge_answer_only_the_beginning_is_read() {
    const CHUNK: usize = 64 * 1024;
    let (url, server) = says_yes(async |mut stream: TcpStream| {
        let (mut written, chunk) = (0, vec![b'x'; CHUNK]);
        while written < 4096 * CHUNK && stream.write_all(&chunk).await.is_ok() {
            written += CHUNK;
        }
        written
    })
    .await;
    let accepted = send(&target(json!({"url": url})).await).await.unwrap();
    assert_eq!(accepted.status, Some(StatusCode::OK));
    // What the system's buffers hold was sent, not more.
    let written = server.await.unwrap();
    assert!(written < 1024 * CHUNK, "{written}");
}

#[tokio::test]
async fn a_yes_counts_though_its_body_never_ends() {
    let (url, server) = says_yes(async |stream: TcpStream| {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let target = target(json!({"url": url})).await;
    let accepted = send(&target).await.unwrap();
    assert!(accepted.took < target.timeout, "{accepted:?}");
    server.abort();
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_has_an_endless_head_fails() {
    let endless = format!("HTTP/1.1 200 OK\r\nx-long: {}", "x".repeat(1024 * 1024));
    for answer in ["hunter2 SMTP ready\r\n", endless.as_str()] {
        let server = Server::plain(answer).await;
        let failure = refusal(&target(json!({"url": server.url()})).await).await;
        assert_eq!((failure.kind, failure.reason), (FailureKind::Unavailable, "Network"));
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
}

#[tokio::test]
async fn addresses_that_nobody_may_be_told_at_are_refused_also_behind_a_name() {
    let server = Server::plain("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let port = server.port;
    let hint = " (--allow-loopback permits it, for development)";
    // (host, with --allow-loopback, words)
    let table = [
        (
            "127.0.0.1",
            false,
            format!("127.0.0.1, which is loopback: Gatehouse does not connect there{hint}"),
        ),
        (
            "localhost",
            false,
            format!(", which is loopback: Gatehouse does not connect there{hint}"),
        ),
        (
            "[::1]",
            false,
            format!("::1, which is loopback: Gatehouse does not connect there{hint}"),
        ),
        ("2130706433", false, "loopback".to_owned()),
        (
            "169.254.169.254",
            true,
            "169.254.169.254, which is link-local: Gatehouse does not connect there".to_owned(),
        ),
        (
            "[::ffff:169.254.169.254]",
            true,
            "169.254.169.254, which is link-local".to_owned(),
        ),
        (
            "100.100.100.200",
            true,
            "which is a cloud's metadata service".to_owned(),
        ),
        ("0.0.0.0", true, "which is not the address of a host".to_owned()),
    ];
    for (host, allow_loopback, words) in table {
        for scheme in ["http", "https"] {
            // A name of digits only is none that a certificate could have.
            if (scheme, host) == ("https", "2130706433") {
                continue;
            }
            let target = target(json!({"url": format!("{scheme}://{host}:{port}/")})).await;
            let sender = Sender::new("", allow_loopback);
            // Refused before any root is checked.
            sender
                .platform
                .set(Trust::bundle(Ca::new().pem.as_bytes()).unwrap())
                .unwrap();
            let failure = sender.send(&target, &alert(), now()).await.unwrap_err();
            assert_eq!(
                (failure.kind, failure.reason),
                (FailureKind::Misconfigured, "AddressRefused"),
                "{failure}"
            );
            assert!(failure.message.contains(&words), "{failure}");
        }
    }
    assert_eq!(server.seen().len(), 0);
    let target = target(json!({"url": format!("http://localhost:{port}/")})).await;
    assert!(send(&target).await.is_ok());
}

#[tokio::test]
async fn nothing_of_a_url_from_a_secret_is_in_an_error() {
    let moved = Server::plain("HTTP/1.1 404 Not Found\r\n\r\n").await;
    let urls = [
        (moved.url(), true, "answered 404 Not Found"),
        ("http://127.0.0.1:1/hunter2".into(), true, "cannot reach"),
        ("http://hunter2.invalid/".into(), true, "cannot reach"),
        (
            "http://127.0.0.1:7/hunter2".into(),
            false,
            "is at an address that is loopback",
        ),
        (
            "https://169.254.169.254/hunter2".into(),
            false,
            "is at an address that is link-local",
        ),
    ];
    for (url, allow_loopback, words) in urls {
        let secrets = json!({"hooks": {"url": url}});
        let webhook = json!({"urlSecretRef": {"name": "hooks", "key": "url"}});
        let target = read(webhook, secrets).await.unwrap();
        let failure = Sender::new("", allow_loopback)
            .send(&target, &alert(), now())
            .await
            .unwrap_err();
        assert!(failure.message.contains(words), "{failure}");
        assert!(
            failure.message.contains("the receiver of the Secret hooks, key url"),
            "{failure}"
        );
        for secret in ["hunter2", "127.0.0.1", "169.254"] {
            assert!(!failure.message.contains(secret), "{failure}");
        }
    }
}

#[tokio::test]
async fn pagerduty_is_sent_nothing_for_a_sign_of_life_and_two_requests_for_a_test() {
    let server = Server::plain("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
    let webhook = json!({
        "url": server.url(), "format": "PagerDuty", "routingKeySecretRef": {"name": "pd", "key": "key"},
    });
    let target = read(webhook, json!({"pd": {"key": "R0UT1NGKEY"}})).await.unwrap();
    let sender = Sender::new("prod", true);
    let beat = message(Content::Heartbeat { interval_seconds: 60 });
    assert_eq!(sender.send(&target, &beat, now()).await.unwrap().status, None);
    assert_eq!(server.seen().len(), 0);
    let accepted = sender.send(&target, &message(Content::Test), now()).await.unwrap();
    assert_eq!(accepted.status, Some(StatusCode::ACCEPTED));
    let sent = server.seen().into_iter().map(|(head, body)| {
        let id = head
            .lines()
            .find_map(|line| line.strip_prefix("webhook-id: "))
            .unwrap()
            .to_owned();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["routing_key"], "R0UT1NGKEY");
        (id, body["event_action"].as_str().unwrap().to_owned())
    });
    let id = alert().id;
    assert_eq!(
        sent.collect::<Vec<_>>(),
        [
            (id.clone(), "trigger".to_owned()),
            (format!("{id}-2"), "resolve".to_owned())
        ]
    );
}
