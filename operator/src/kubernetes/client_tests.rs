#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::convert::Infallible;

use futures::{StreamExt, TryStreamExt};
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::json;

use super::*;

/// Behaviour of a server.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// Answers with this status and nothing in it.
    Answers(u16),
    /// Takes the request and never answers.
    Hangs,
    /// Sends the head of an answer, and never its end.
    Trails,
    /// Refuses the connection.
    Refuses,
}

type Frames = std::pin::Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

fn frames(body: &'static str, ends: bool) -> StreamBody<Frames> {
    let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(body.as_bytes())))]);
    StreamBody::new(if ends {
        first.boxed()
    } else {
        first.chain(futures::stream::pending()).boxed()
    })
}

fn client(does: Does) -> (Client, Recovery) {
    let service = tower::service_fn(move |_: Request<Body>| async move {
        let (status, body) = match does {
            Does::Answers(status) => (status, frames("{}", true)),
            Does::Hangs => std::future::pending().await,
            Does::Trails => (200, frames("{", false)),
            Does::Refuses => return Err(BoxError::from("connection refused")),
        };
        Ok(Response::builder().status(status).body(body).unwrap())
    });
    let recovery = Recovery::default();
    let layer = Deadlines {
        recovery: recovery.clone(),
    };
    (Client::new(layer.layer(service), "default"), recovery)
}

fn secrets(client: Client) -> Api<Secret> {
    Api::namespaced(client, "app")
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_for_an_answer_that_does_not_come() {
    for does in [Does::Hangs, Does::Trails] {
        let api = secrets(client(does).0);
        let began = Instant::now();
        let error = api.get("web-tls").await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), REQUEST.as_secs(), "{does:?}: {error}");

        let began = Instant::now();
        api.patch("web-tls", &PatchParams::default(), &Patch::Merge(json!({})))
            .await
            .unwrap_err();
        assert_eq!(began.elapsed().as_secs(), REQUEST.as_secs(), "{does:?}: a write");

        let began = Instant::now();
        api.list(&ListParams::default().limit(100)).await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), LIST.as_secs(), "{does:?}: a page");

        let began = Instant::now();
        api.list_metadata(&ListParams::default().limit(100)).await.unwrap_err();
        assert_eq!(
            began.elapsed().as_secs(),
            LIST.as_secs(),
            "{does:?}: a page of metadata"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_says_what_was_waited_for_and_how_long() {
    let error = secrets(client(Does::Hangs).0).get("web-tls").await.unwrap_err();
    assert!(
        error.to_string().contains("no answer from the API server within 10s"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_never_answered_fails_and_a_silent_one_ends() {
    let began = Instant::now();
    let hanging = secrets(client(Does::Hangs).0);
    assert!(hanging.watch(&WatchParams::default(), "1").await.is_err());
    assert_eq!(began.elapsed().as_secs(), REQUEST.as_secs());

    let began = Instant::now();
    let silent = secrets(client(Does::Trails).0);
    let mut events = silent.watch(&WatchParams::default(), "1").await.unwrap().boxed();
    assert!(
        events.try_next().await.unwrap().is_none(),
        "it ends, so that it is resumed"
    );
    assert_eq!(began.elapsed().as_secs(), WATCH_IDLE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_watch_lives_as_long_as_something_comes() {
    let bookmark = "{\"type\":\"BOOKMARK\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"resourceVersion\":\"7\"}}}\n";
    let service = tower::service_fn(move |_: Request<Body>| async move {
        let each_minute = futures::stream::unfold((), move |()| async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Some((
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(bookmark.as_bytes()))),
                (),
            ))
        });
        Ok::<_, BoxError>(Response::new(StreamBody::new(each_minute.boxed())))
    });
    let client = Client::new(Deadlines::default().layer(service), "default");
    let mut events = secrets(client)
        .watch(&WatchParams::default(), "1")
        .await
        .unwrap()
        .boxed();
    for _ in 0..30 {
        let event = events.try_next().await.unwrap();
        assert!(matches!(event, Some(WatchEvent::Bookmark(_))), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_after_a_failure_is_announced_once() {
    let recovery = Recovery::default();
    let mut news = recovery.subscribe();
    let mut is_news = || {
        let changed = news.has_changed().unwrap();
        news.mark_unchanged();
        changed
    };
    recovery.answered(StatusCode::OK);
    assert!(!is_news(), "nothing had failed");
    recovery.failed();
    assert!(!is_news());
    recovery.answered(StatusCode::SERVICE_UNAVAILABLE);
    recovery.answered(StatusCode::TOO_MANY_REQUESTS);
    assert!(!is_news(), "an API server that sends us away does not serve");
    recovery.answered(StatusCode::NOT_FOUND);
    assert!(is_news());
    recovery.answered(StatusCode::OK);
    assert!(!is_news());
}

#[tokio::test(start_paused = true)]
async fn what_the_client_meets_is_noted() {
    for (does, failing) in [
        (Does::Refuses, true),
        (Does::Hangs, true),
        (Does::Answers(503), true),
        (Does::Answers(200), false),
        (Does::Answers(404), false),
    ] {
        let (client, recovery) = client(does);
        drop(secrets(client).get("web-tls").await);
        let mut news = recovery.subscribe();
        recovery.answered(StatusCode::OK);
        assert_eq!(news.has_changed().unwrap(), failing, "{does:?}");
        news.mark_unchanged();
    }
}

#[test]
fn requests_are_told_apart_by_their_query() {
    let limit = |method: &str, uri: &str| {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        Limit::of(&request)
    };
    for (method, uri, expected) in [
        (
            "GET",
            "/api/v1/secrets?&watch=true&timeoutSeconds=290",
            Limit::Idle(WATCH_IDLE),
        ),
        ("GET", "/api/v1/secrets?&limit=100", Limit::Whole(LIST)),
        (
            "GET",
            "/api/v1/namespaces/limit/secrets/watch=true",
            Limit::Whole(REQUEST),
        ),
        (
            "PATCH",
            "/api/v1/namespaces/a/secrets/b?&fieldManager=limit",
            Limit::Whole(REQUEST),
        ),
        ("DELETE", "/api/v1/namespaces/a/secrets?&limit=1", Limit::Whole(REQUEST)),
    ] {
        assert_eq!(limit(method, uri), expected, "{method} {uri}");
    }
}
