#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};

use super::{super::super::Reach, *};

fn host() -> Identifier {
    Identifier::Dns("a.test".into())
}

#[test]
fn the_ca_is_asked_once_the_answer_was_seen_or_the_time_is_over() {
    let bound = Duration::from_secs(30);
    let other = Sight::Other {
        status: 404,
        text: "default backend".into(),
        address: Some("10.0.0.1:80".parse().unwrap()),
    };
    let saw = "http://a.test/.well-known/acme-challenge/ seen from inside the cluster: HTTP 404 from 10.0.0.1:80 (default \
               backend) in place of the answer";
    let wait = |millis, message: &str| Readiness::Wait {
        after: Duration::from_millis(millis),
        message: message.into(),
    };
    let unseen = |message: String| Readiness::Unseen { message };
    let refused = Sight::Failed("a.test cannot be reached: connection refused".into());
    let not_yet = "http://a.test/.well-known/acme-challenge/ seen from inside the cluster: no answer yet";
    for (seen, open_for, expected) in [
        (Some(&Sight::Answer), 0, Readiness::Ready),
        (Some(&Sight::Answer), 300, Readiness::Ready),
        (None, 0, wait(100, not_yet)),
        (Some(&other), 4, wait(1000, saw)),
        (Some(&other), 29, wait(2000, saw)),
        (
            Some(&other),
            30,
            unseen(format!("{saw}; the CA was asked all the same after 30 s")),
        ),
        (
            None,
            30,
            unseen(format!("{not_yet}; the CA was asked all the same after 30 s")),
        ),
        (
            Some(&refused),
            0,
            wait(
                100,
                "http://a.test/.well-known/acme-challenge/ seen from inside the cluster: a.test cannot be reached: \
                 connection refused",
            ),
        ),
        (
            Some(&Sight::Blind("its name has no address".into())),
            0,
            unseen("http://a.test/ cannot be tried from inside the cluster: its name has no address".into()),
        ),
    ] {
        assert_eq!(decide(&host(), seen, Duration::from_secs(open_for), bound), expected);
    }
    assert_eq!(
        decide(&host(), None, Duration::ZERO, Duration::ZERO),
        Readiness::Ready,
        "0s does not try"
    );
}

#[test]
fn the_expected_body_alone_is_the_answer_and_what_else_is_seen_is_fit_to_show() {
    let answer = |status: u16, body: &str, location: Option<&str>| {
        let mut response = http::Response::builder().status(status);
        if let Some(location) = location {
            response = response.header(LOCATION, location);
        }
        sight(&response.body(Bytes::from(body.to_owned())).unwrap(), "token.thumb")
    };
    let other = |status, text: &str| Sight::Other {
        status,
        text: text.into(),
        address: None,
    };
    assert_eq!(answer(200, "token.thumb", None), Sight::Answer);
    assert_eq!(answer(200, "token.thumb\r\n", None), Sight::Answer);
    assert_eq!(answer(200, "token.other", None), other(200, "token.other"));
    assert_eq!(answer(404, "token.thumb", None), other(404, "token.thumb"));
    assert_eq!(
        answer(308, "moved", Some("https://a.test/x")),
        other(308, "a redirect to https://a.test/x")
    );
    let Sight::Other { text, .. } = answer(200, &"<p>\u{1b}[31m\n".repeat(100), None) else {
        panic!("not the answer");
    };
    assert!(
        text.chars().count() <= MAX_SHOWN && !text.contains(['\u{1b}', '\n']),
        "{text}"
    );
}

fn challenge(identifier: Identifier, token: &str) -> Challenge {
    Challenge {
        kind: super::super::super::ChallengeKind::Http01,
        identifier,
        wildcard: false,
        token: token.into(),
        key_authorization: format!("{token}.thumb"),
        dns_value: String::new(),
    }
}

fn prober(allow_loopback: bool) -> Prober {
    Prober::new(Http::new(Reach { allow_loopback }).unwrap(), together())
}

#[tokio::test]
async fn addresses_that_are_refused_and_tokens_that_leave_the_path_are_never_tried() {
    for address in ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "100.100.100.200"] {
        let address: IpAddr = address.parse().unwrap();
        let sight = prober(false).look(&challenge(Identifier::Ip(address), "t")).await;
        assert!(
            matches!(&sight, Sight::Blind(detail) if detail.contains("does not connect")),
            "{sight:?}"
        );
    }
    let loopback = Identifier::Ip("127.0.0.1".parse().unwrap());
    for token in ["../../metrics", "a/b", "a?b", "a#b", "a b", "a%2f"] {
        let sight = prober(true).look(&challenge(loopback.clone(), token)).await;
        assert!(
            matches!(&sight, Sight::Blind(detail) if detail.contains("base64url")),
            "{token}: {sight:?}"
        );
    }
    let sight = prober(true)
        .look(&challenge(Identifier::Dns("nowhere.invalid".into()), "t"))
        .await;
    assert!(matches!(sight, Sight::Blind(_)), "{sight:?}");
}

#[tokio::test]
async fn the_way_is_tried_until_it_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let late = get(move || async move {
        if count.fetch_add(1, Ordering::SeqCst) < 2 {
            (StatusCode::NOT_FOUND, "default backend").into_response()
        } else {
            "tok.thumb".into_response()
        }
    });
    let router = Router::new().route("/.well-known/acme-challenge/tok", late);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let one = challenge(Identifier::Ip(address.ip()), "tok");
    let prober = Prober {
        port: address.port(),
        ..prober(true)
    };
    let probe = prober.start(&one, Duration::from_secs(30));
    let mut sights = Vec::new();
    while sights.last() != Some(&Sight::Answer) {
        if let Some(sight) = probe.seen()
            && sights.last() != Some(&sight)
        {
            sights.push(sight);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let other = Sight::Other {
        status: 404,
        text: "default backend".into(),
        address: Some(address),
    };
    assert_eq!((sights, asked.load(Ordering::SeqCst)), (vec![other, Sight::Answer], 3));
}

#[test]
fn nothing_is_shown_of_what_a_server_of_a_private_network_says() {
    let at = |address: &str| may_show(Some(SocketAddr::new(address.parse().unwrap(), 80)));
    assert!(!at("10.0.0.7") && !at("fd00::7") && !at("::ffff:192.168.0.7"));
    assert!(at("203.0.113.7") && at("2001:db8::7"));
}
