//! HTTP to hosts that an Issuer or a provider names: no redirects, nothing out of [`Reach`], every answer and wait bounded.

use std::{net::SocketAddr, sync::Arc, time::Duration, vec};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::TokioExecutor,
};
use rustls_platform_verifier::BuilderVerifierExt;

use super::{Reach, SolverError};
use crate::egress::address;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of the answer's body.
    pub(super) body: usize,
    /// From the request to the end of the answer.
    pub(super) time: Duration,
}

/// Shared by all solvers.
#[derive(Clone)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    reach: Reach,
}

/// Resolves names to addresses that may be connected to, at the moment of connecting: a name that changes its
/// address in between gains nothing.
#[derive(Clone)]
struct Resolver(Reach);

impl tower::Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = SolverError;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, SolverError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), SolverError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reach = self.0;
        Box::pin(async move { reach.resolve(name.as_str(), 0).await.map(Vec::into_iter) })
    }
}

impl Http {
    pub(super) fn new(reach: Reach) -> Result<Self, SolverError> {
        let failed = |error: rustls::Error| SolverError::DnsFailed {
            server: "TLS".into(),
            detail: format!("the system's certificates cannot be used: {error}"),
        };
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(failed)?
            .with_no_client_auth();
        let mut connector = HttpConnector::new_with_resolver(Resolver(reach));
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(connector);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            reach,
        })
    }

    /// Returns where it may connect to.
    pub(super) const fn reach(&self) -> Reach {
        self.reach
    }

    /// Sends one request, and reads the whole answer. An answer that is larger or later than the limits is an error.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        limits: Limits,
    ) -> Result<Response<Bytes>, SolverError> {
        let server = host_of(request.uri());
        // A literal address does not pass through the resolver.
        if let Some(address) = address::literal(&server) {
            self.reach.check(&server, address)?;
        }
        let unreachable = |detail: String| SolverError::DnsUnreachable {
            server: server.clone(),
            detail,
        };
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                let cause = std::iter::successors(std::error::Error::source(&error), |error| error.source()).last();
                cause
                    .and_then(|cause| cause.downcast_ref::<SolverError>())
                    .cloned()
                    .unwrap_or_else(|| unreachable(cause.map_or_else(|| error.to_string(), ToString::to_string)))
            })?;
            let (head, body) = response.into_parts();
            match Limited::new(body, limits.body).collect().await {
                Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => Err(SolverError::DnsFailed {
                    server: server.clone(),
                    detail: format!("its answer is larger than {} KiB", limits.body / 1024),
                }),
                Err(error) => Err(unreachable(error.to_string())),
            }
        };
        tokio::time::timeout(limits.time, exchange)
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", limits.time.as_secs())))?
    }
}

fn host_of(uri: &Uri) -> String {
    uri.host().unwrap_or_default().to_owned()
}
