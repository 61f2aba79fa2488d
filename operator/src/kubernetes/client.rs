//! The client of the API server. Every request has a deadline, and every watch an idle time-out.
//!
//! The limits are in the client's own stack, below every reader and writer, so that no call can be made without them. The
//! first answer after a failure is announced through [`Recovery`] to all that wait for the API server.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, retry::RetryPolicy},
};
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tower::{BoxError, Layer, Service, buffer::BufferLayer, retry::RetryLayer};

/// Longest time for a connection, with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time for one request, its whole answer included.
pub const REQUEST: Duration = Duration::from_secs(10);
/// The same for a page of a list.
pub const LIST: Duration = Duration::from_secs(30);
/// Longest silence of a watch. API servers send a bookmark about each minute.
pub const WATCH_IDLE: Duration = Duration::from_secs(90);

/// A request that is answered 429, 503 or 504 is sent again so often, in some five seconds; `Retry-After` is waited for.
pub const RETRIES: u32 = 8;
/// The shortest and the longest pause before that.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Requests that wait for the connection pool.
const QUEUE: usize = 1024;

/// Returns a client for the cluster of `config`, and the announcements of its recoveries.
///
/// A request that the API server has no time for is sent again `retries` times. Must be called within a runtime.
pub fn connect(mut config: Config, retries: u32) -> Result<(Client, Recovery), kube::Error> {
    config.connect_timeout = Some(CONNECT);
    // Its retries wait for up to a quarter of an hour: ours replace them.
    config.default_retry = false;
    let recovery = Recovery::default();
    let (shortest, longest) = RETRY_PAUSE;
    let retry = RetryPolicy::new(shortest, longest, retries, true).unwrap_or_default();
    let client = ClientBuilder::try_from(config)?
        .with_layer(&BufferLayer::<Request<Body>>::new(QUEUE))
        .with_layer(&RetryLayer::new(retry))
        .with_layer(&Deadlines {
            recovery: recovery.clone(),
        })
        .build();
    Ok((client, recovery))
}

/// Announces when the API server answers again after it did not.
#[derive(Clone, Debug, Default)]
pub struct Recovery(Arc<State>);

#[derive(Debug, Default)]
struct State {
    failing: AtomicBool,
    recoveries: watch::Sender<u64>,
}

impl Recovery {
    /// Subscribes: the receiver changes at each recovery from now on.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.recoveries.subscribe()
    }

    /// Notes that a request was not answered.
    pub fn failed(&self) {
        self.0.failing.store(true, Ordering::Relaxed);
    }

    /// Notes an answer.
    pub fn answered(&self, status: StatusCode) {
        if status.is_server_error() {
            self.failed();
        } else if status != StatusCode::TOO_MANY_REQUESTS && self.0.failing.swap(false, Ordering::Relaxed) {
            self.0.recoveries.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// The API server did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer from the API server within {0:?}")]
pub struct NoAnswer(pub Duration);

/// Time limits of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// Time for the whole answer.
    Whole(Duration),
    /// The answer begins in time, and is never silent for longer.
    Idle(Duration),
}

impl Limit {
    fn of<B>(request: &Request<B>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        if query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1") {
            Self::Idle(WATCH_IDLE)
        } else if request.method() == http::Method::GET && has("limit") {
            Self::Whole(LIST)
        } else {
            Self::Whole(REQUEST)
        }
    }

    fn first(self) -> Duration {
        match self {
            Self::Whole(limit) => limit,
            Self::Idle(_) => REQUEST,
        }
    }
}

/// The layer that sets the limits.
#[derive(Clone, Debug, Default)]
struct Deadlines {
    recovery: Recovery,
}

impl<S> Layer<S> for Deadlines {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline {
            inner,
            recovery: self.recovery.clone(),
        }
    }
}

/// A service whose answers come in time, or fail.
#[derive(Clone, Debug)]
struct Deadline<S> {
    inner: S,
    recovery: Recovery,
}

impl<S, R, B> Service<Request<R>> for Deadline<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<TimedBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let (limit, began) = (Limit::of(&request), Instant::now());
        let answer = self.inner.call(request);
        let recovery = self.recovery.clone();
        Box::pin(async move {
            match timeout(limit.first(), answer).await {
                Ok(Ok(response)) => {
                    recovery.answered(response.status());
                    Ok(response.map(|body| TimedBody::new(body, limit, began)))
                }
                Ok(Err(error)) => {
                    recovery.failed();
                    Err(error.into())
                }
                Err(_) => {
                    recovery.failed();
                    Err(NoAnswer(limit.first()).into())
                }
            }
        })
    }
}

/// A body that is complete in time, or fails; that of a watch ends when it is silent for too long.
#[derive(Debug)]
struct TimedBody<B> {
    body: B,
    limit: Limit,
    clock: Pin<Box<Sleep>>,
    ended: bool,
}

impl<B> TimedBody<B> {
    fn new(body: B, limit: Limit, began: Instant) -> Self {
        let end = match limit {
            Limit::Whole(limit) => began + limit,
            Limit::Idle(limit) => Instant::now() + limit,
        };
        Self {
            body,
            limit,
            clock: Box::pin(sleep_until(end)),
            ended: false,
        }
    }
}

impl<B> HttpBody for TimedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Limit::Idle(limit) = self.limit {
                self.clock.as_mut().reset(Instant::now() + limit);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.clock.as_mut().poll(cx));
        self.ended = true;
        Poll::Ready(match self.limit {
            Limit::Whole(limit) => Some(Err(NoAnswer(limit).into())),
            // Its reader resumes it, as after any other end.
            Limit::Idle(_) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
