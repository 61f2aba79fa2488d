//! Transport of the library's requests: guarded addresses, bounded answers, public zones.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use dns_update_http::Transport;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header::USER_AGENT};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::{
    super::{
        SolverError,
        http::{Http, Limits},
    },
    redact,
    visibility::Zones,
};

/// Bounds of one request. A zone of some providers is read and written as a whole.
const LIMITS: Limits = Limits {
    body: 2 * 1024 * 1024,
    time: Duration::from_secs(30),
};
/// Bounds of one call: the library follows pages for as long as the other side gives more.
const MAX_REQUESTS: usize = 64;
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The transport of one call.
pub(super) struct Guarded {
    http: Http,
    state: Mutex<State>,
}

struct State {
    zones: Zones,
    requests: usize,
    bytes: usize,
    /// Parts of headers that were sent and may be credentials, such as a token that a login gave.
    sent: Vec<Zeroizing<String>>,
    failure: Option<SolverError>,
}

/// Holds what a call left behind.
pub(super) struct Spent {
    /// Why a request was not sent or its answer not taken: says more than the library's text.
    pub(super) failure: Option<SolverError>,
    pub(super) sent: Vec<Zeroizing<String>>,
    pub(super) zones: Zones,
}

impl Guarded {
    pub(super) fn new(http: Http, zones: Zones) -> Self {
        Self {
            http,
            state: Mutex::new(State {
                zones,
                requests: 0,
                bytes: 0,
                sent: Vec::new(),
                failure: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the call left behind.
    pub(super) fn spent(&self) -> Spent {
        let mut state = self.state();
        Spent {
            failure: state.failure.take(),
            sent: std::mem::take(&mut state.sent),
            zones: std::mem::take(&mut state.zones),
        }
    }

    async fn exchange(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, SolverError> {
        let uri = request.uri().clone();
        let server = uri.host().unwrap_or_default().to_owned();
        let too_much = |what: &str| SolverError::DnsFailed {
            server: server.clone(),
            detail: format!("one change of a record took more than {what}"),
        };
        {
            let mut state = self.state();
            state.requests += 1;
            if state.requests > MAX_REQUESTS {
                return Err(too_much(&format!("{MAX_REQUESTS} requests")));
            }
            if let Some(detail) = state.zones.ambiguous(uri.path()) {
                return Err(SolverError::InvalidSolver {
                    field: "dns01".into(),
                    detail,
                });
            }
            let secrets = redact::of_headers(request.headers());
            state.sent.extend(secrets);
            state.sent.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            state.sent.dedup();
        }
        let agent = HeaderValue::from_static(concat!("gatehouse/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(agent);
        let response = self.http.send(request.map(Full::new), LIMITS).await?;
        let mut state = self.state();
        state.bytes += response.body().len();
        if state.bytes > MAX_BYTES {
            return Err(too_much(&format!("{} MiB of answers", MAX_BYTES / 1024 / 1024)));
        }
        if !response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body = state.zones.filter(uri.path(), body);
        Ok(Response::from_parts(head, body))
    }
}

impl Transport for Guarded {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, String>> {
        Box::pin(async move {
            self.exchange(request).await.map_err(|error| {
                let text = error.to_string();
                self.state().failure = Some(error);
                text
            })
        })
    }
}
