//! From a message to the wire: one HTTP POST to a server that a user named.
//!
//! A connection lives as long as its delivery: receivers are told seldom, and a kept one would be found dead when it
//! matters. Redirects are not followed, and nothing that a receiver answers goes anywhere.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::failure::{Failure, FailureKind};
use super::format::{self, Body, Face};
use super::message::Message;
use super::target::Target;
use crate::egress::tls::{self, TlsError, Trust};
use crate::egress::{Cause, GuardedResolver, address};

const AGENT: &str = concat!("gatehouse/", env!("CARGO_PKG_VERSION"));

/// So much of an answer is read, so that the connection can end in good order. Nobody looks at it.
const MAX_ANSWER: usize = 16 * 1024;

/// And for so long.
const DRAIN: Duration = Duration::from_secs(1);

/// For the head of an answer over HTTP/1.1, which is kept in memory.
const MAX_HEAD: usize = 32 * 1024;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A delivery that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// `None` when the format has no word for the message, so that nothing was sent.
    pub status: Option<StatusCode>,
    pub took: Duration,
}

/// Sends messages. One for the whole process.
pub struct Sender {
    /// The cluster's name in what receivers are told; may be empty.
    cluster: String,
    /// `--allow-loopback`, for development.
    allow_loopback: bool,
    /// Read from the disk when first needed.
    platform: OnceLock<Trust>,
}

impl Sender {
    /// `cluster` is its name in what receivers are told; may be empty.
    pub fn new(cluster: impl Into<String>, allow_loopback: bool) -> Self {
        Self {
            cluster: cluster.into(),
            allow_loopback,
            platform: OnceLock::new(),
        }
    }

    /// Tells `target` the `message`. `now` is the moment of this attempt.
    ///
    /// A 2xx answer alone is success. The `webhook-id` and the body are the same on every attempt; but an Alertmanager's
    /// body has the time that its alerts are to be believed and, after a restart, what is known of the Certificates then.
    pub async fn send(&self, target: &Target, message: &Message, now: Timestamp) -> Result<Accepted, Failure> {
        let started = Instant::now();
        let face = Face {
            cluster: &self.cluster,
            routing_key: target.routing_key.as_deref().map(String::as_str),
            now,
        };
        let mut status = None;
        for body in format::bodies(target.format, message, &face) {
            status = Some(self.post(target, body, now).await?);
        }
        Ok(Accepted {
            status,
            took: started.elapsed(),
        })
    }

    async fn post(&self, target: &Target, body: Body, now: Timestamp) -> Result<StatusCode, Failure> {
        // A literal address goes past the resolver.
        if let Some(literal) = address::literal(target.host())
            && address::refused(literal, self.allow_loopback).is_some()
        {
            return Err(Failure::refused_address(target, literal));
        }
        let request = request(target, body, now)?;
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver {
            allow_loopback: self.allow_loopback,
        });
        tcp.set_nodelay(true);
        if !target.is_https() {
            return exchange(tcp, target, request, now).await;
        }
        tcp.enforce_http(false);
        let config = self.tls(target).map_err(|error| {
            let message = format!("TLS with {} cannot be had: {error}", target.name());
            Failure::new(FailureKind::Misconfigured, "Tls", message)
        })?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        exchange(connector, target, request, now).await
    }

    fn tls(&self, target: &Target) -> Result<rustls::ClientConfig, TlsError> {
        let trust = match (&target.trust, self.platform.get()) {
            (Some(trust), _) | (None, Some(trust)) => trust,
            (None, None) => {
                let trust = Trust::platform()?;
                self.platform.get_or_init(|| trust)
            }
        };
        tls::config(trust, target.identity.as_ref())
    }
}

fn request(target: &Target, body: Body, now: Timestamp) -> Result<Request<Full<Bytes>>, Failure> {
    let unusable = |_| {
        let message = format!(
            "the request to {} cannot be written: its id is no header",
            target.name()
        );
        Failure::new(FailureKind::Refused, "Rejected", message)
    };
    let mut request = Request::post(target.url.clone())
        .body(Full::default())
        .map_err(|_| Failure::new(FailureKind::Misconfigured, "InvalidReceiver", "the URL cannot be asked"))?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.extend(target.headers.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(body.content_type));
    if let Some(keys) = &target.signing {
        let signature = keys.sign(&body.id, now, &body.bytes);
        headers.insert(WEBHOOK_SIGNATURE, HeaderValue::try_from(signature).map_err(unusable)?);
    }
    headers.insert(WEBHOOK_ID, HeaderValue::try_from(body.id).map_err(unusable)?);
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(now.as_second()));
    *request.body_mut() = Full::new(Bytes::from(body.bytes));
    Ok(request)
}

async fn exchange<C>(
    connector: C,
    target: &Target,
    request: Request<Full<Bytes>>,
    now: Timestamp,
) -> Result<StatusCode, Failure>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let client: Client<C, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_max_idle_per_host(0)
        .http1_max_buf_size(MAX_HEAD)
        .build(connector);
    let deadline = Instant::now() + target.timeout;
    let response = match timeout_at(deadline, client.request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(Failure::unanswered(target, Cause::of(&error))),
        Err(_) => return Err(Failure::timed_out(target)),
    };
    let (answer, body) = response.into_parts();
    // The status decides. One who says yes and then never comes to an end has still said yes.
    let _ = timeout_at(deadline.min(Instant::now() + DRAIN), drain(body)).await;
    if answer.status.is_success() {
        Ok(answer.status)
    } else {
        Err(Failure::answered(target, answer.status, &answer.headers, now))
    }
}

async fn drain(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_ANSWER {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
