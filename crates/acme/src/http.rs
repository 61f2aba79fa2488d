//! The way out to an ACME server: TLS, timeouts, limits and counting, once for every request.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use super::error::{AcmeError, MAX_DETAIL};
use gatehouse_egress::tls::{self, Trust};
use gatehouse_egress::{Cause, GuardedResolver, address, printable};

pub(super) use super::answer::Answer;

/// The most that we read of an answer, in bytes: chains are some 10 KiB, so 1 MiB is a bad server.
const MAX_BODY: usize = 1024 * 1024;

const AGENT: &str = concat!("gatehouse/", env!("CARGO_PKG_VERSION"));

/// What a request was for: the `endpoint` label of `gatehouse_acme_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Directory,
    NewNonce,
    NewAccount,
    Account,
    NewOrder,
    Order,
    Authz,
    Challenge,
    Finalize,
    Certificate,
    RenewalInfo,
}

impl Endpoint {
    /// The name of the directory's field or of the resource (RFC 8555 §7.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::NewNonce => "newNonce",
            Self::NewAccount => "newAccount",
            Self::Account => "account",
            Self::NewOrder => "newOrder",
            Self::Order => "order",
            Self::Authz => "authz",
            Self::Challenge => "challenge",
            Self::Finalize => "finalize",
            Self::Certificate => "certificate",
            Self::RenewalInfo => "renewalInfo",
        }
    }

    /// Whether the URL comes from the directory, so that a 404 says that the directory is stale.
    pub(super) fn is_in_directory(self) -> bool {
        matches!(
            self,
            Self::NewNonce | Self::NewAccount | Self::NewOrder | Self::RenewalInfo
        )
    }

    /// Whether the URL is a part of one order, so that a 404 says that the order is gone.
    pub(super) fn is_of_order(self) -> bool {
        matches!(
            self,
            Self::Order | Self::Authz | Self::Challenge | Self::Finalize | Self::Certificate
        )
    }
}

/// Is told about every request, also those that got no answer.
pub trait RequestObserver: Send + Sync + 'static {
    /// `host` is the server's name or address with a port that is not 443; `code` the HTTP status, 0 when there was no answer.
    fn request(&self, host: &str, endpoint: Endpoint, code: u16, duration: Duration);
}

/// How to reach one ACME server.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// PEM of the only roots to trust; `None` trusts those of the platform.
    pub ca_bundle: Option<Vec<u8>>,
    /// For a whole request, from the name look-up to the last byte of the body.
    pub timeout: Duration,
    /// For the TCP connection alone.
    pub connect_timeout: Duration,
    /// For development: a server on this machine.
    pub allow_loopback: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            ca_bundle: None,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            allow_loopback: false,
        }
    }
}

/// One request.
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) endpoint: Endpoint,
    pub(super) accept: Option<&'static str>,
    /// A JWS in its flattened JSON form.
    pub(super) body: Option<Vec<u8>>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn get(url: &'a str, endpoint: Endpoint) -> Self {
        Self {
            method: Method::GET,
            url,
            endpoint,
            accept: None,
            body: None,
        }
    }
}

/// A client with its own connections; a clone shares them. It follows no redirects.
#[derive(Clone)]
pub struct HttpClient {
    inner: Client<HttpsConnector<HttpConnector<GuardedResolver>>, Full<Bytes>>,
    timeout: Duration,
    allow_loopback: bool,
    observer: Arc<dyn RequestObserver>,
}

impl HttpClient {
    /// Fails with [`AcmeError::Invalid`] when the bundle holds no certificate that can be a root, or the platform has no roots.
    pub fn new(options: &HttpOptions, observer: Arc<dyn RequestObserver>) -> Result<Self, AcmeError> {
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver {
            allow_loopback: options.allow_loopback,
        });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(options.connect_timeout));
        // The scheme is checked for each request, in `send`: only tests may speak without TLS.
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls_of(options.ca_bundle.as_deref())?)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let inner = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_mins(1))
            .pool_max_idle_per_host(8)
            // A peer that died silently is found out before requests pile up on its connection.
            .http2_keep_alive_interval(Duration::from_secs(15))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .build(connector);
        Ok(Self {
            inner,
            timeout: options.timeout,
            allow_loopback: options.allow_loopback,
            observer,
        })
    }

    /// Sends one request and reads the whole answer, whatever its status.
    pub(super) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Answer, AcmeError> {
        let uri = self.checked(outgoing.url)?;
        let host = authority(&uri);
        let endpoint = outgoing.endpoint;
        let started = Instant::now();
        let result = match tokio::time::timeout(self.timeout, self.exchange(uri, &host, outgoing)).await {
            Ok(result) => result,
            Err(_) => Err(AcmeError::Timeout {
                host: host.clone(),
                after: self.timeout,
            }),
        };
        let code = result.as_ref().map_or(0, |answer| answer.status);
        self.observer.request(&host, endpoint, code, started.elapsed());
        tracing::debug!(host, endpoint = endpoint.as_str(), code, "ACME request");
        result
    }

    /// The URL, when it may be asked. A name's addresses are checked when they are known, by the resolver; addresses in the URL never pass through it.
    fn checked(&self, url: &str) -> Result<Uri, AcmeError> {
        let insecure = || AcmeError::InsecureUrl {
            url: printable(url, MAX_DETAIL),
        };
        let uri: Uri = url.parse().map_err(|_| insecure())?;
        let test_only = cfg!(test) && self.allow_loopback;
        match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(_)) => {}
            (Some("http"), Some(_)) if test_only => {}
            _ => return Err(insecure()),
        }
        let host = uri.host().unwrap_or_default();
        if let Some(literal) = address::literal(host)
            && address::refused(literal, self.allow_loopback).is_some()
        {
            return Err(AcmeError::AddressRefused {
                host: authority(&uri),
                address: literal.to_string(),
            });
        }
        Ok(uri)
    }

    async fn exchange(&self, uri: Uri, host: &str, outgoing: Outgoing<'_>) -> Result<Answer, AcmeError> {
        let mut request = Request::builder()
            .method(outgoing.method)
            .uri(uri.clone())
            .header(USER_AGENT, AGENT);
        if let Some(accept) = outgoing.accept {
            request = request.header(ACCEPT, accept);
        }
        if outgoing.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/jose+json");
        }
        let body = Full::new(Bytes::from(outgoing.body.unwrap_or_default()));
        let request = request
            .body(body)
            .map_err(|error| AcmeError::Invalid(format!("cannot ask {host}: {error}")))?;
        let response = self
            .inner
            .request(request)
            .await
            .map_err(|error| self.failure(host, &error))?;
        self.read(uri, host, response).await
    }

    async fn read(&self, uri: Uri, host: &str, response: Response<Incoming>) -> Result<Answer, AcmeError> {
        let (parts, body) = response.into_parts();
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(AcmeError::Malformed {
                    status: parts.status.as_u16(),
                    host: host.to_owned(),
                    detail: format!("a body of more than {MAX_BODY} bytes"),
                });
            }
            Err(error) => return Err(self.failure(host, &*error)),
        };
        Ok(Answer::new(&uri, host, &parts, body))
    }

    fn failure(&self, host: &str, error: &(dyn StdError + 'static)) -> AcmeError {
        let host = host.to_owned();
        match Cause::of(error) {
            Cause::Refused(address) => AcmeError::AddressRefused {
                host,
                address: address.to_string(),
            },
            Cause::Tls(error) => AcmeError::Tls {
                host,
                detail: printable(&error.to_string(), MAX_DETAIL),
            },
            Cause::TimedOut => AcmeError::Timeout {
                host,
                after: self.timeout,
            },
            Cause::Other(detail) => AcmeError::Network {
                host,
                detail: printable(&detail, MAX_DETAIL),
            },
        }
    }
}

fn tls_of(ca_bundle: Option<&[u8]>) -> Result<rustls::ClientConfig, AcmeError> {
    let trust = match ca_bundle {
        None => Trust::platform().map_err(|error| AcmeError::Invalid(error.to_string()))?,
        Some(bundle) => Trust::bundle(bundle).map_err(|error| AcmeError::Invalid(format!("caBundle: {error}")))?,
    };
    tls::config(&trust, None).map_err(|error| AcmeError::Invalid(error.to_string()))
}

/// Host and port, the port left out where it is 443.
fn authority(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    match uri.port_u16() {
        Some(port) if port != 443 => format!("{host}:{port}"),
        _ => host,
    }
}
