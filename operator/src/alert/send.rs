//! From a message to the wire: one HTTP POST to a server that a user named.
//!
//! An Alertmanager may be one of a cluster, in which each has to receive each alert: Alertmanagers share what
//! they have notified, not what fires. So every address of its name gets every request.
//!
//! A connection lives as long as its delivery: receivers are notified seldom, and a kept one would be found dead when it
//! matters. Redirects are not followed, and nothing that a receiver answers goes anywhere.

use std::collections::BTreeSet;
use std::future::ready;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use gatehouse_crds::alert::Format;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use tokio::time::{Instant, timeout, timeout_at};
use tower::Service;

use super::failure::{Failure, FailureKind};
use super::format::{self, Body, RequestContext};
use super::message::Message;
use super::target::Target;
use crate::egress::tls::{self, TlsError, Trust};
use crate::egress::{Cause, GuardedResolver, address};

const AGENT: &str = concat!("gatehouse/", env!("CARGO_PKG_VERSION"));

/// Maximum length of an answer that is read, so that the connection can end in good order. It is not used.
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

/// So many addresses of one name are asked.
const MAX_ADDRESSES: usize = 32;

/// Sends messages. One for the whole process.
pub struct Sender {
    /// Name of the cluster in messages; may be empty.
    cluster: String,
    /// `--allow-loopback`, for development.
    allow_loopback: bool,
    /// Read from the disk when first needed.
    platform: OnceLock<Trust>,
    /// Finds the addresses of an Alertmanager.
    lookup: Box<dyn Lookup>,
}

impl Sender {
    /// `cluster` is its name in messages; may be empty.
    pub fn new(cluster: impl Into<String>, allow_loopback: bool) -> Self {
        Self::with_lookup(cluster, allow_loopback, Box::new(GuardedResolver { allow_loopback }))
    }

    /// The same with another way to find the addresses of Alertmanagers.
    pub fn with_lookup(cluster: impl Into<String>, allow_loopback: bool, lookup: Box<dyn Lookup>) -> Self {
        Self {
            cluster: cluster.into(),
            allow_loopback,
            platform: OnceLock::new(),
            lookup,
        }
    }

    /// Sends `message` to `target`. `now` is the time of this attempt.
    ///
    /// A 2xx answer alone is success. The `webhook-id` and the body are the same on every attempt; but an Alertmanager's
    /// body has the time that its alerts are to be believed and, after a restart, what is known of the Certificates then.
    pub async fn send(&self, target: &Target, message: &Message, now: Timestamp) -> Result<Accepted, Failure> {
        let started = Instant::now();
        let context = RequestContext {
            cluster: &self.cluster,
            routing_key: target.routing_key.as_deref().map(String::as_str),
            now,
        };
        let mut status = None;
        for body in format::bodies(target.format, message, &context) {
            status = Some(match target.format {
                Format::Alertmanager => self.post_everywhere(target, body, now).await?,
                _ => self.post(target, body, None, now).await?,
            });
        }
        Ok(Accepted {
            status,
            took: started.elapsed(),
        })
    }

    /// Posts to every address of the name. It is taken when every address of one family took it: the two families are commonly
    /// two ways to the same servers, and one of them may lead nowhere from here.
    async fn post_everywhere(&self, target: &Target, body: Body, now: Timestamp) -> Result<StatusCode, Failure> {
        let addresses = match address::literal(target.host()) {
            Some(_) => Vec::new(),
            // Why a name cannot be looked up is found out by the request.
            None => match timeout(target.timeout, self.lookup.addresses(target.host())).await {
                Ok(Ok(addresses)) => addresses,
                Ok(Err(_)) | Err(_) => Vec::new(),
            },
        };
        let addresses: BTreeSet<IpAddr> = addresses.into_iter().take(MAX_ADDRESSES).collect();
        if addresses.len() < 2 {
            return self.post(target, body, addresses.first().copied(), now).await;
        }
        let posts = addresses.iter().map(|address| async {
            let answer = self.post(target, body.clone(), Some(*address), now).await;
            (*address, answer)
        });
        let answers = join_all(posts).await;
        let taken = |v6: bool| {
            let mut family = answers.iter().filter(|(address, _)| address.is_ipv6() == v6).peekable();
            family.peek().is_some() && family.all(|(_, answer)| answer.is_ok())
        };
        let failed = answers
            .iter()
            .filter_map(|(address, answer)| Some((*address, answer.as_ref().err()?)));
        let failed: Vec<(IpAddr, &Failure)> = failed.collect();
        let status = answers.iter().find_map(|(_, answer)| answer.as_ref().ok().copied());
        match (status, failed.first()) {
            (Some(status), None) => Ok(status),
            (Some(status), Some(_)) if taken(false) || taken(true) => Ok(status),
            (Some(_), Some(first)) => Err(Failure::partial(target, failed.len(), answers.len(), *first)),
            (None, Some((_, first))) => Err((*first).clone()),
            (None, None) => Err(Failure::timed_out(target)),
        }
    }

    /// Posts to the receiver, at `only` where that is given.
    async fn post(
        &self,
        target: &Target,
        body: Body,
        only: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<StatusCode, Failure> {
        // A literal address goes past the resolver.
        if let Some(literal) = address::literal(target.host())
            && address::refused(literal, self.allow_loopback).is_some()
        {
            return Err(Failure::refused_address(target, literal));
        }
        let request = request(target, body, now)?;
        let mut tcp = HttpConnector::new_with_resolver(Route {
            resolver: GuardedResolver {
                allow_loopback: self.allow_loopback,
            },
            only,
        });
        tcp.set_nodelay(true);
        if !target.is_https() {
            return exchange(tcp, target, request, now).await;
        }
        tcp.enforce_http(false);
        let config = self.tls(target).map_err(|error| {
            let message = format!("TLS with {} is not possible: {error}", target.name());
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

/// Finds the addresses of a name that may be connected to.
#[async_trait]
pub trait Lookup: Send + Sync {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

#[async_trait]
impl Lookup for GuardedResolver {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let name: Name = host.parse().map_err(io::Error::other)?;
        let found = self.clone().call(name).await?;
        Ok(found.map(|socket| socket.ip()).collect())
    }
}

/// The way to a receiver: by its name, or to the one address of it that is asked now.
#[derive(Clone)]
struct Route {
    resolver: GuardedResolver,
    only: Option<IpAddr>,
}

impl Service<Name> for Route {
    type Response = <GuardedResolver as Service<Name>>::Response;
    type Error = io::Error;
    type Future = <GuardedResolver as Service<Name>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.resolver.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        match self.only {
            Some(address) => Box::pin(ready(Ok(vec![SocketAddr::new(address, 0)].into_iter()))),
            None => self.resolver.call(name),
        }
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
