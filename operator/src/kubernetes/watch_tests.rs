#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, ResourceExt, client::Body};
use serde_json::{Value, json};
use tower::BoxError;

use super::*;

/// Answers of the API server to a list and a watch, by the number of the request and the time since the start.
type Script = Arc<dyn Fn(&Seen) -> Does + Send + Sync>;

#[derive(Clone, Copy, Debug)]
struct Seen {
    is_watch: bool,
    /// Number among those of its kind, from 0.
    number: usize,
    at: Duration,
}

#[derive(Clone, Debug)]
enum Does {
    Lists,
    /// The watch stays open.
    Watches,
    /// The watch has these events and stays open.
    Sends(Vec<Value>),
    /// The watch ends after this time.
    WatchesFor(Duration),
    Refuses(u16),
    Breaks,
}

/// The requests so far.
type Log = Arc<Mutex<Vec<Seen>>>;

fn server(script: Script) -> (Client, Log) {
    let (log, began) = (Log::default(), Instant::now());
    let seen = log.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
        let mut log = log.lock().unwrap();
        let seen = Seen {
            is_watch,
            number: log.iter().filter(|seen| seen.is_watch == is_watch).count(),
            at: began.elapsed(),
        };
        log.push(seen);
        let does = script(&seen);
        async move {
            let body = |value: &Value| closed(value);
            Ok(match does {
                Does::Breaks => return Err(BoxError::from("connection refused")),
                Does::Refuses(code) => Response::builder().status(code).body(body(&status(code))).unwrap(),
                Does::Lists => Response::new(body(&json!({
                    "apiVersion": "v1", "kind": "SecretList", "metadata": {"resourceVersion": "7"},
                    "items": [{"metadata": {"name": "a", "resourceVersion": "5"}}],
                }))),
                Does::Watches => Response::new(open(Vec::new())),
                Does::WatchesFor(time) => Response::new(StreamBody::new(
                    stream::once(sleep(time))
                        .filter_map(|()| std::future::ready(None))
                        .boxed(),
                )),
                Does::Sends(events) => Response::new(open(events)),
            })
        }
    });
    (Client::new(service, "default"), seen)
}

type Frames = BoxStream<'static, Result<hyper::body::Frame<bytes::Bytes>, Infallible>>;

fn closed(value: &Value) -> StreamBody<Frames> {
    let frame = hyper::body::Frame::data(serde_json::to_vec(value).unwrap().into());
    StreamBody::new(stream::iter([Ok(frame)]).boxed())
}

fn open(events: Vec<Value>) -> StreamBody<Frames> {
    let lines = events.into_iter().map(|event| {
        let mut line = serde_json::to_vec(&event).unwrap();
        line.push(b'\n');
        Ok::<_, Infallible>(hyper::body::Frame::data(bytes::Bytes::from(line)))
    });
    let lines = stream::iter(lines.collect::<Vec<_>>()).chain(stream::pending());
    StreamBody::new(lines.boxed())
}

fn status(code: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": "Expired", "message": "no"})
}

fn error(code: u16) -> Value {
    json!({"type": "ERROR", "object": status(code)})
}

fn follow(client: Client, recovery: &Recovery) -> BoxStream<'static, Event<Secret>> {
    watch(
        Api::<Secret>::namespaced(client, "app"),
        watcher::Config::default(),
        "Secret",
        recovery,
    )
    .boxed()
}

async fn listed(events: &mut BoxStream<'static, Event<Secret>>) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        match events.next().await.expect("a watch never ends") {
            Event::Init => names.clear(),
            Event::InitApply(secret) => names.push(secret.name_any()),
            Event::InitDone => return names,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_is_listed_again_at_once() {
    for answer in [Does::Sends(vec![error(410)]), Does::Refuses(410)] {
        let first = answer.clone();
        let (client, log) = server(Arc::new(move |seen| match (seen.is_watch, seen.number) {
            (false, _) => Does::Lists,
            (true, 0) => first.clone(),
            (true, _) => Does::Watches,
        }));
        let mut events = follow(client, &Recovery::default());
        let began = Instant::now();
        assert_eq!(listed(&mut events).await, ["a"]);
        assert_eq!(listed(&mut events).await, ["a"], "{answer:?}");
        assert!(
            began.elapsed() < Duration::from_millis(10),
            "{answer:?}: {:?}",
            began.elapsed()
        );
        assert_eq!(log.lock().unwrap().iter().filter(|seen| !seen.is_watch).count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_calls_every_version_too_old_is_not_flooded() {
    let (client, log) = server(Arc::new(|_| Does::Refuses(410)));
    let mut events = follow(client, &Recovery::default());
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !matches!(events.next().await, Some(Event::InitDone)) {}
    });
    assert!(waited.await.is_err());
    let requests = log.lock().unwrap().len();
    assert!((40..120).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn what_happened_while_the_api_server_was_away_is_seen_within_two_seconds() {
    for outage in [1, 4, 30, 600] {
        for (answer, down) in [
            ("breaks", Does::Breaks),
            ("503", Does::Refuses(503)),
            ("500", Does::Refuses(500)),
        ] {
            let (from, to) = (Duration::from_secs(5), Duration::from_secs(5 + outage));
            let (client, log) = server(Arc::new(move |seen| {
                if (from..to).contains(&seen.at) {
                    return down.clone();
                }
                match (seen.is_watch, seen.at < from) {
                    (false, _) => Does::Lists,
                    // The API server goes at five seconds.
                    (true, true) => Does::WatchesFor(from.checked_sub(seen.at).unwrap()),
                    (true, false) => Does::Watches,
                }
            }));
            let recovery = Recovery::default();
            let mut events = follow(client, &recovery);
            let reader = async { while events.next().await.is_some() {} };
            drop(tokio::time::timeout(to + Duration::from_secs(3), reader).await);
            let back = log.lock().unwrap().iter().find(|seen| seen.at >= to).copied();
            let back = back.expect("it is asked again").at.checked_sub(to).unwrap();
            assert!(
                back <= Duration::from_secs(2),
                "{answer} for {outage} s: seen after {back:?}"
            );
            let asked = log
                .lock()
                .unwrap()
                .iter()
                .filter(|seen| (from..to).contains(&seen.at))
                .count();
            let most = usize::try_from(outage * 2 + 8).unwrap();
            assert!(asked <= most, "{answer} for {outage} s: asked {asked} times");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_anybody_wakes_a_watch_that_waits() {
    let (client, log) = server(Arc::new(|_| Does::Breaks));
    let recovery = Recovery::default();
    let mut events = follow(client, &recovery);
    let mut asked = Vec::new();
    let reader = async { while events.next().await.is_some() {} };
    let others = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        for _ in 0..50 {
            let before = log.lock().unwrap().len();
            recovery.failed();
            recovery.answered(http::StatusCode::OK);
            tokio::time::sleep(WAKE + Duration::from_millis(1)).await;
            asked.push(log.lock().unwrap().len() - before);
        }
    };
    tokio::select! {
        () = reader => {}
        () = others => {}
    }
    assert_eq!(asked.len(), 50);
    assert!(asked.iter().all(|asked| (1..=2).contains(asked)), "{asked:?}");
}

#[test]
fn the_pause_grows_to_its_bound_and_is_spread() {
    let all = |trouble, count| {
        let at = |random| u64::try_from(pause(trouble, count, random).as_millis()).unwrap();
        (at(0.0), at(1.0))
    };
    for (trouble, count, expected) in [
        (Trouble::Gone, 1, (0, 0)),
        (Trouble::Gone, 2, (100, 200)),
        (Trouble::Unavailable, 1, (50, 100)),
        (Trouble::Unavailable, 4, (400, 800)),
        (Trouble::Unavailable, 5, (750, 1_500)),
        (Trouble::Unavailable, u32::MAX, (750, 1_500)),
        (Trouble::Refused, 5, (800, 1_600)),
        (Trouble::Refused, u32::MAX, (5_000, 10_000)),
    ] {
        assert_eq!(all(trouble, count), expected, "{trouble:?} {count}");
    }
    let mut pauses = Pauses::default();
    assert!(pauses.by_ref().take(100).all(|pause| pause <= MAX_BACKOFF));
    pauses.reset();
    assert!(pauses.next().unwrap() <= MIN_BACKOFF);
}
