//! The way out to an ACME server: TLS, timeouts, limits and counting, once for every request.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
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
pub use super::endpoint::{Endpoint, RequestObserver};

/// Redirects of one unsigned request.
const MAX_REDIRECTS: usize = 5;

/// All header lines of an answer, in bytes: a chain with ten alternates has some 2 KiB.
const MAX_HEADERS: u32 = 64 * 1024;

const AGENT: &str = concat!("gatehouse/", env!("CARGO_PKG_VERSION"));

/// Options of the connection to an ACME server.
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
#[derive(Clone)]
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) endpoint: Endpoint,
    /// A JWS in its flattened JSON form.
    pub(super) body: Option<Bytes>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn get(url: &'a str, endpoint: Endpoint) -> Self {
        Self {
            method: Method::GET,
            url,
            endpoint,
            body: None,
        }
    }

    pub(super) fn post(url: &'a str, endpoint: Endpoint, body: Vec<u8>) -> Self {
        Self {
            method: Method::POST,
            url,
            endpoint,
            body: Some(body.into()),
        }
    }
}

/// A client with its own connections; a clone shares them.
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
            .http1_max_buf_size(MAX_HEADERS as usize)
            .http2_max_header_list_size(MAX_HEADERS)
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

    /// Sends one request and reads the whole answer, whatever its status. A redirect is followed where nothing is signed:
    /// a signature names the URL that it is for.
    pub(super) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Answer, AcmeError> {
        let mut answer = self.send_once(&outgoing, outgoing.url).await?;
        if outgoing.body.is_some() {
            return Ok(answer);
        }
        for _ in 0..MAX_REDIRECTS {
            let Some(target) = answer.redirect().map(str::to_owned) else {
                return Ok(answer);
            };
            if !self.may_use(&target) {
                return Err(AcmeError::InsecureAnswer {
                    host: answer.host.clone(),
                    url: printable(&format!("a redirect from {} to {target}", answer.url), MAX_DETAIL),
                });
            }
            answer = self.send_once(&outgoing, &target).await?;
        }
        match answer.redirect() {
            Some(_) => Err(AcmeError::malformed(
                &answer,
                &format!("more than {MAX_REDIRECTS} redirects, the last from {}", answer.url),
            )),
            None => Ok(answer),
        }
    }

    async fn send_once(&self, outgoing: &Outgoing<'_>, url: &str) -> Result<Answer, AcmeError> {
        let uri = self.checked(url)?;
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

    /// Returns the URL, when it may be asked. A name's addresses are checked when they are known, by the resolver; addresses in the URL never pass through it.
    fn checked(&self, url: &str) -> Result<Uri, AcmeError> {
        let insecure = || AcmeError::InsecureUrl {
            url: printable(url, MAX_DETAIL),
        };
        if !self.may_use(url) {
            return Err(insecure());
        }
        let uri: Uri = url.parse().map_err(|_| insecure())?;
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

    /// Whether the URL is one with TLS. Tests speak without, to this machine.
    fn may_use(&self, url: &str) -> bool {
        let test_only = cfg!(test) && self.allow_loopback;
        let Ok(uri) = url.parse::<Uri>() else { return false };
        match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(_)) => true,
            (Some("http"), Some(host)) => test_only && address::literal(host).is_some(),
            _ => false,
        }
    }

    async fn exchange(&self, uri: Uri, host: &str, outgoing: &Outgoing<'_>) -> Result<Answer, AcmeError> {
        let mut request = Request::builder()
            .method(outgoing.method.clone())
            .uri(uri.clone())
            .header(USER_AGENT, AGENT);
        if let Some(accept) = outgoing.endpoint.accept() {
            request = request.header(ACCEPT, accept);
        }
        if outgoing.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/jose+json");
        }
        let body = Full::new(outgoing.body.clone().unwrap_or_default());
        let request = request
            .body(body)
            .map_err(|error| AcmeError::Invalid(format!("cannot ask {host}: {error}")))?;
        let response = self
            .inner
            .request(request)
            .await
            .map_err(|error| self.failure(host, &error))?;
        self.read(&uri, host, outgoing.endpoint, response).await
    }

    /// Reads the body up to the endpoint's limit. A longer one is no ACME; the first part of an error's page is enough.
    async fn read(
        &self,
        uri: &Uri,
        host: &str,
        endpoint: Endpoint,
        response: Response<Incoming>,
    ) -> Result<Answer, AcmeError> {
        let (parts, mut incoming) = response.into_parts();
        let limit = endpoint.max_body();
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| self.failure(host, &error))?;
            let Ok(data) = frame.into_data() else { continue };
            if body.len() + data.len() > limit {
                if parts.status.is_success() {
                    return Err(AcmeError::Malformed {
                        status: parts.status.as_u16(),
                        host: host.to_owned(),
                        detail: format!("{} with a body of more than {limit} bytes", endpoint.as_str()),
                    });
                }
                break;
            }
            body.extend_from_slice(&data);
        }
        Ok(Answer::new(uri, host, &parts, body.freeze()))
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
pub(super) fn authority(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    match uri.port_u16() {
        Some(port) if port != 443 => format!("{host}:{port}"),
        _ => host,
    }
}
