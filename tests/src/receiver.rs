//! A receiver of webhooks that keeps the requests, and answers as a test sets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::pki::Ca;
use crate::process::eventually;

/// Ends when it is dropped.
pub struct Receiver {
    scheme: &'static str,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    answer: Answer,
}

/// Summary of the message.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    pub after: Duration,
}

impl Default for Answer {
    fn default() -> Self {
        Self::of(204)
    }
}

impl Answer {
    /// With this status, at once.
    pub fn of(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: Vec::new(),
            body: Bytes::new(),
            after: Duration::ZERO,
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Status of the answer.
    pub answered: StatusCode,
    /// When it had come whole.
    pub at: Timestamp,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no header {name}"));
        value.to_str().expect("text")
    }
}

impl Receiver {
    /// On a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::listening(None).await
    }

    /// By TLS: under a certificate of `ca`, and only for those who show one of `clients`.
    pub async fn start_tls(ca: &Ca, clients: &Ca) -> Self {
        Self::listening(Some(ca.acceptor(Some(clients)).expect("an acceptor"))).await
    }

    async fn listening(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<Mutex<State>>::default();
        let (scheme, shared) = (if acceptor.is_some() { "https" } else { "http" }, Arc::clone(&state));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (Arc::clone(&shared), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => converse(stream, state).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                converse(stream, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            scheme,
            address,
            state,
            task,
        }
    }

    /// `http://127.0.0.1:<port><path>`, or `https://…`.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// From now on.
    pub fn answer(&self, answer: Answer) {
        self.lock().answer = answer;
    }

    /// Everything that came, in order.
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// `<status> <rule> <name>` of each CloudEvent that came and was answered by 2xx.
    pub fn reported(&self) -> Vec<String> {
        let taken = self
            .received()
            .into_iter()
            .filter(|received| received.answered.is_success());
        let line = |received: Received| {
            let data = &received.json()["data"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {}",
                text(&data["status"]),
                text(&data["rule"]),
                text(&data["certificate"]["name"])
            )
        };
        taken.map(line).collect()
    }

    /// Waits until something that came fits.
    pub async fn wait(&self, what: &str, within: Duration, fits: impl Fn(&Received) -> bool) -> Received {
        eventually(what, within, || async {
            self.received().into_iter().find(|received| fits(received))
        })
        .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request| serve(request, Arc::clone(&state)));
    // A sender that went away is its own affair.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn serve(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let answer = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = state.answer.clone();
        state.received.push(Received {
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            body,
            answered: answer.status,
            at: Timestamp::now(),
        });
        answer
    };
    tokio::time::sleep(answer.after).await;
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    for (name, value) in answer.headers {
        response
            .headers_mut()
            .insert(name, value.parse().expect("a header's value"));
    }
    Ok(response)
}
