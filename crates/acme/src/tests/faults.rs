#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::fake_ca::{FakeCa, Fault, Quiet, options, problem};
use super::orders::{drive, for_names};
use crate::*;

async fn begin(ca: &FakeCa, fault: Fault) -> AcmeError {
    let account = ca.account().await;
    ca.fail(Endpoint::NewOrder, fault);
    let error = OrderSession::begin(&account, &for_names(&["a.test"]))
        .await
        .unwrap_err();
    assert_eq!(ca.asked(), ["newOrder"], "nothing is tried again here");
    // And the server is as good as before once it answers.
    OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    error
}

#[tokio::test]
async fn three_of_ten_bad_nonces_break_nothing() {
    let ca = FakeCa::start().await;
    ca.script().bad_nonce_percent = 30;
    let account = ca.account().await;
    for _ in 0..50 {
        let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
        drive(&mut order).await.unwrap();
    }
    let asked = ca.asked();
    assert!(!asked.contains(&"newNonce"), "the refusals bring nonces");
    // 7 / 0.7 = 10, with some luck either way.
    assert!((450..=570).contains(&asked.len()), "{} requests", asked.len());
}

#[tokio::test]
async fn a_server_that_refuses_every_nonce_is_given_up() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    ca.script().bad_nonce_percent = 100;
    let error = OrderSession::begin(&account, &for_names(&["a.test"]))
        .await
        .unwrap_err();
    assert_eq!(error, AcmeError::BadNonce { attempts: 9 });
    assert_eq!(ca.asked().len(), 9);
}

#[tokio::test]
async fn a_limit_says_when_to_come_again() {
    let body = json!({"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many new orders (300) from this account"});
    let date = ("retry-after", "Sat, 21 Nov 2026 10:01:30 GMT");
    for (headers, seconds) in [
        (vec![("retry-after", "90")], 90),
        (vec![date, ("date", "Sat, 21 Nov 2026 10:00:00 GMT")], 90),
    ] {
        let ca = FakeCa::start().await;
        let error = begin(&ca, Fault::Answer(429, headers, body.to_string())).await;
        assert_eq!(error.reason(), "RateLimited");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(seconds)));
        assert!(error.to_string().contains("too many new orders"), "{error}");
    }
}

#[tokio::test]
async fn a_server_in_trouble_is_unavailable_whatever_it_sends() {
    let page = "<html><body>\r\n  Bad Gateway </body>".to_owned();
    let ca = FakeCa::start().await;
    let error = begin(&ca, Fault::Answer(502, vec![], page)).await;
    assert_eq!(
        error,
        AcmeError::Unavailable {
            status: 502,
            retry_after: None,
            detail: "<html><body> Bad Gateway </body>".to_owned(),
        }
    );
    let ca = FakeCa::start().await;
    let error = begin(&ca, Fault::Answer(503, vec![("retry-after", "30")], String::new())).await;
    assert_eq!(
        (error.reason(), error.retry_after()),
        ("Network", Some(Duration::from_secs(30)))
    );
}

#[tokio::test]
async fn a_page_that_says_all_is_well_is_no_order() {
    let ca = FakeCa::start().await;
    let error = begin(
        &ca,
        Fault::Answer(200, vec![("location", "/order/0")], "<html>login".to_owned()),
    )
    .await;
    let AcmeError::Malformed {
        status: 200, detail, ..
    } = error
    else {
        panic!("an HTML page is malformed: {error}");
    };
    assert!(detail.ends_with("<html>login"), "{detail}");
    let ca = FakeCa::start().await;
    let error = begin(
        &ca,
        Fault::Answer(302, vec![("location", "http://169.254.169.254/")], String::new()),
    )
    .await;
    assert!(
        matches!(error, AcmeError::Malformed { status: 302, .. }),
        "no redirect is followed: {error}"
    );
}

#[tokio::test]
async fn a_body_of_ten_megabytes_is_not_read() {
    let ca = FakeCa::start().await;
    let error = begin(&ca, Fault::Answer(200, vec![], "x".repeat(10_000_000))).await;
    assert!(
        error
            .to_string()
            .ends_with("newOrder with a body of more than 131072 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_broken_connection_is_a_fault_of_the_network() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    ca.fail(Endpoint::NewOrder, Fault::Cut);
    let error = OrderSession::begin(&account, &for_names(&["a.test"]))
        .await
        .unwrap_err();
    assert!(matches!(error, AcmeError::Network { .. }), "{error}");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_a_fault_of_the_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/directory", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&url, true).directory().await.unwrap_err();
    assert!(matches!(error, AcmeError::Network { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_after_thirty_seconds() {
    let ca = FakeCa::start().await;
    ca.fail(Endpoint::Directory, Fault::Hang);
    let started = tokio::time::Instant::now();
    let error = ca.client().directory().await.unwrap_err();
    let AcmeError::Timeout { after, .. } = &error else {
        panic!("a timeout: {error}");
    };
    assert_eq!(*after, Duration::from_secs(30));
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn a_failed_step_leaves_the_order_as_it_was() {
    let ca = FakeCa::start().await;
    let account = ca.account().await;
    let mut order = OrderSession::begin(&account, &for_names(&["a.test"])).await.unwrap();
    ca.fail(Endpoint::Authz, problem(500, "serverInternal"));
    let before = order.view().clone();
    order.refresh().await.unwrap_err();
    assert_eq!(*order.view(), before);
    order.refresh().await.unwrap();
    let url = order.view().authorizations[0].challenges[0].url.clone();
    ca.fail(Endpoint::Challenge, Fault::Cut);
    let before = order.view().clone();
    order.challenge_ready(&url).await.unwrap_err();
    assert_eq!(*order.view(), before);
    drive(&mut order).await.unwrap();
}

fn client(url: &str, allow_loopback: bool) -> AcmeClient {
    let http = HttpClient::new(&options(allow_loopback), Arc::new(Quiet)).unwrap();
    AcmeClient::new(http, url)
}

#[tokio::test]
async fn addresses_that_no_server_may_have_are_refused_also_behind_a_name() {
    for (url, loopback) in [
        ("https://169.254.169.254/directory", true),
        ("https://[fe80::1]/directory", true),
        ("https://[fd00:ec2::254]:8443/directory", true),
        ("https://127.0.0.1:14000/dir", false),
        ("https://[::1]/dir", false),
        ("https://localhost:14000/dir", false),
    ] {
        let error = client(url, loopback).directory().await.unwrap_err();
        assert!(matches!(error, AcmeError::AddressRefused { .. }), "{url}: {error}");
        assert_eq!(error.reason(), "Invalid");
    }
}

#[tokio::test]
async fn only_https_is_spoken() {
    for url in ["http://ca.test/directory", "ftp://ca.test/", "ca.test", "", "https://"] {
        let error = client(url, false).directory().await.unwrap_err();
        assert!(matches!(error, AcmeError::InsecureUrl { .. }), "{url}: {error}");
    }
}

/// Whether it passes by itself, and names both.
fn is_of_the_answer(error: &AcmeError, url: &str) {
    let AcmeError::InsecureAnswer { host, .. } = error else {
        panic!("{error}");
    };
    assert!(host.starts_with("127.0.0.1:"), "{error}");
    assert!(
        error.to_string().contains(url) && error.to_string().contains(host),
        "{error}"
    );
    assert!(!error.is_permanent_for_spec(), "{error}");
    assert_eq!(error.reason(), "Network");
}

#[tokio::test]
async fn a_url_without_tls_in_an_answer_is_the_servers_fault_and_passes() {
    let ca = FakeCa::start().await;
    let redirect = Fault::Answer(302, vec![("location", "http://ca.test/directory")], String::new());
    ca.fail(Endpoint::Directory, redirect);
    let client = ca.client();
    is_of_the_answer(&client.directory().await.unwrap_err(), "http://ca.test/directory");
    client.directory().await.unwrap();

    ca.script().rewrite = Some(Box::new(|endpoint, object| {
        if endpoint == "directory" {
            object["newOrder"] = json!("http://ca.test/new-order");
        }
    }));
    let account = ca.account().await;
    let error = OrderSession::begin(&account, &for_names(&["a.test"]))
        .await
        .unwrap_err();
    is_of_the_answer(&error, "http://ca.test/new-order");
}

#[test]
fn a_bundle_must_hold_certificates() {
    for bundle in [
        "",
        "junk",
        "-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n",
    ] {
        let options = HttpOptions {
            ca_bundle: Some(bundle.as_bytes().to_vec()),
            ..HttpOptions::default()
        };
        let result = HttpClient::new(&options, Arc::new(Quiet));
        assert_eq!(result.err().unwrap().reason(), "Invalid", "{bundle}");
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<(String, &'static str, u16)>>);

impl RequestObserver for Seen {
    fn request(&self, host: &str, endpoint: Endpoint, code: u16, _: Duration) {
        let seen = (host.to_owned(), endpoint.as_str(), code);
        self.0.lock().unwrap().push(seen);
    }
}

#[tokio::test]
async fn every_request_is_counted_with_host_endpoint_and_code() {
    let ca = FakeCa::start().await;
    let seen = Arc::new(Seen::default());
    let http = HttpClient::new(&options(true), seen.clone()).unwrap();
    let client = AcmeClient::new(http, &ca.url("/directory"));
    ca.fail(Endpoint::Directory, problem(503, "serverInternal"));
    ca.fail(Endpoint::Directory, Fault::Cut);
    client.directory().await.unwrap_err();
    client.directory().await.unwrap_err();
    client.directory().await.unwrap();
    let host = ca.url("").trim_start_matches("http://").to_owned();
    let expected = [503, 0, 200].map(|code| (host.clone(), "directory", code));
    assert_eq!(*seen.0.lock().unwrap(), expected);
    let agent = concat!("gatehouse/", env!("CARGO_PKG_VERSION")).to_owned();
    assert_eq!(ca.script().user_agents.iter().collect::<Vec<_>>(), [&agent]);
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_told_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/directory", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let page = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        socket.write_all(page).await.unwrap();
        // Stays open: a reset would hide what was sent.
        std::future::pending::<()>().await;
    });
    let error = client(&url, true).directory().await.unwrap_err();
    assert!(matches!(error, AcmeError::Tls { .. }), "{error}");
}
