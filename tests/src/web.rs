//! A small HTTP client that trusts one root.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::error::Error;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Belongs to the runtime that uses it first; make one where it is needed.
#[derive(Clone)]
pub struct Web {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Web {
    /// Trusts the certificates of `roots_pem` and nothing else; plain HTTP works too.
    pub fn trusting(roots_pem: &str) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector(roots_pem)),
        }
    }

    /// For plain HTTP.
    pub fn plain() -> Self {
        Self::trusting("")
    }

    pub async fn get(&self, url: &str) -> Result<(StatusCode, String), Error> {
        let response = self.exchange(Method::GET, url, "", "").await?;
        Ok((response.status, response.body))
    }

    /// Posts JSON.
    pub async fn post(&self, url: &str, body: &str) -> Result<(StatusCode, String), Error> {
        let response = self.exchange(Method::POST, url, "application/json", body).await?;
        Ok((response.status, response.body))
    }

    /// Any request; fails only when there is no answer.
    pub async fn exchange(&self, method: Method, url: &str, content_type: &str, body: &str) -> Result<Response, Error> {
        let failed = |message: String| Error::Web {
            url: url.to_owned(),
            message,
        };
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("user-agent", "gatehouse-tests")
            .header("content-type", content_type)
            .body(Full::from(body.to_owned()))
            .map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| failed(format!("{error:?}")))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| failed(error.to_string()))?;
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Ok(Response {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(failed(format!("no answer in {TIMEOUT:?}"))))
    }
}

/// The way to servers that the certificates of `roots_pem` vouch for.
pub(crate) fn connector(roots_pem: &str) -> HttpsConnector<HttpConnector> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()).flatten() {
        roots.add(root).expect("a root certificate");
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .build()
}

/// Answer of a server.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}
