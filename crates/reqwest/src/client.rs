//! Requests, as dns-update makes them.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{ACCEPT, HOST},
};
use url::Url;

use super::{Error, Response, redirect::Policy, transport};

/// Longest wait for one answer when the caller sets none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes requests.
#[derive(Clone, Debug)]
pub struct Client {
    timeout: Duration,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

/// Makes a [`Client`].
#[derive(Debug, Default)]
pub struct ClientBuilder {
    client: Client,
}

impl ClientBuilder {
    /// Accepts the only policy there is.
    #[must_use]
    pub fn redirect(self, _: Policy) -> Self {
        self
    }

    /// Bounds the wait for each answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.client.timeout = timeout;
        self
    }

    /// Never fails; the caller expects that it may.
    pub fn build(self) -> Result<Client, Error> {
        Ok(self.client)
    }
}

impl Client {
    /// Starts with the defaults.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A request to `url`.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder {
            timeout: self.timeout,
            method,
            url: url.as_ref().to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            invalid: None,
        }
    }

    /// A POST to `url`.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, url)
    }
}

/// A request in the making.
pub struct RequestBuilder {
    timeout: Duration,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
    invalid: Option<String>,
}

/// Headers and URLs hold credentials.
impl fmt::Debug for RequestBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RequestBuilder").finish_non_exhaustive()
    }
}

impl RequestBuilder {
    /// Adds headers; those that are set already under the same names go.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// Adds one header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        match (name.parse::<HeaderName>(), HeaderValue::from_str(value.as_ref())) {
            (Ok(name), Ok(value)) => {
                self.headers.append(name, value);
            }
            _ => self.invalid = Some(format!("the header {name} cannot be sent")),
        }
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it through the transport in scope.
    pub async fn send(self) -> Result<Response, Error> {
        let timeout = self.timeout;
        let request = self.finish()?;
        let transport = transport()?;
        let response = tokio::time::timeout(timeout, transport.send(request))
            .await
            .map_err(|_| Error::TimedOut(timeout))?;
        response.map(Response::new).map_err(Error::Transport)
    }

    fn finish(mut self) -> Result<Request<Bytes>, Error> {
        if let Some(invalid) = self.invalid {
            return Err(Error::Request(invalid));
        }
        let url = Url::parse(&self.url).map_err(|error| Error::Url(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(Error::Url("it is neither http nor https".into()));
        }
        // A host that a credential or setting could move: `https://api.example@elsewhere/`.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Url("it holds a user name".into()));
        }
        if !self.headers.contains_key(ACCEPT) {
            self.headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        }
        // The transport sets it from the URL.
        self.headers.remove(HOST);
        let mut request = Request::builder()
            .method(self.method)
            .uri(url.as_str())
            .body(self.body)
            .map_err(|error| Error::Request(error.to_string()))?;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}
