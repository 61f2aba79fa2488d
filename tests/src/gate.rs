//! A gate in front of a TLS server: it reads every request that passes, and stops, drops or answers those that a test names.
//!
//! [`crate::Proxy`] breaks connections; a gate breaks single requests, so that a process can be ended at exactly one step of
//! a conversation: before the server receives it, or after, and before the answer is back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use crate::error::{Doing as _, Error};
use crate::pki::Ca;
use crate::web;

type Body = BoxBody<Bytes, hyper::Error>;
type Upstream = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A request that passed or was dealt with.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    /// With the query.
    pub path: String,
    pub agent: String,
    /// The server's answer, also when it was held back; the gate's own answer when the server was not asked.
    pub status: StatusCode,
    /// Whether the server received it.
    pub asked: bool,
    /// When the request arrived.
    pub at: Instant,
}

/// Answer of the gate in place of the server.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Reply {
    /// A problem document as ACME servers send it (RFC 8555 section 6.7).
    pub fn problem(status: u16, kind: &str) -> Self {
        let body =
            json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "so the CA said", "status": status});
        Self {
            status,
            headers: vec![("content-type", "application/problem+json".to_owned())],
            body: body.to_string(),
        }
    }

    /// The same with `Retry-After`.
    pub fn busy(status: u16, retry_after: &str, kind: &str) -> Self {
        let mut reply = Self::problem(status, kind);
        reply.headers.push(("retry-after", retry_after.to_owned()));
        reply
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Wait,
    Go,
}

/// Changes the server's JSON answer on its way.
type Edit = Arc<dyn Fn(&mut serde_json::Value) + Send + Sync>;

#[derive(Clone)]
enum Action {
    Answer(Reply),
    Edit(Edit),
    Hold {
        /// The server receives it first, and only the answer waits.
        forwarded: bool,
        reached: Arc<watch::Sender<usize>>,
        verdict: watch::Receiver<Verdict>,
    },
}

struct Rule {
    method: Method,
    part: String,
    left: usize,
    action: Action,
}

impl Rule {
    fn is_hold(&self) -> bool {
        matches!(self.action, Action::Hold { .. })
    }
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
}

impl Shared {
    /// Treatment of a request. A hold whose [`Stop`] is dropped does not count.
    fn action(&self, method: &Method, path: &str) -> Option<Action> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|rule| {
            rule.left > 0
                && match &rule.action {
                    Action::Answer(_) | Action::Edit(_) => true,
                    Action::Hold { verdict, .. } => verdict.has_changed().is_ok(),
                }
        });
        // Nothing is written by one: there is no moment to stop at.
        let is_dry = path.contains("dryRun=All");
        let rule = rules
            .iter_mut()
            .find(|rule| rule.method == *method && path.contains(&rule.part) && !(is_dry && rule.is_hold()))?;
        rule.left -= 1;
        Some(rule.action.clone())
    }

    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }
}

/// Runs on a thread of its own, so that it may be shared by tests on different runtimes. Ends on drop.
pub struct Gate {
    address: SocketAddr,
    ca_pem: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    /// Listens on a port of its own, under a certificate of [`Self::ca_pem`], and passes requests on to the TLS server at
    /// `target`, which `target_ca_pem` vouches for.
    pub fn start(target: SocketAddr, target_ca_pem: &str) -> Result<Self, Error> {
        let ca = Ca::new("gatehouse-tests gate")?;
        let acceptor = ca.acceptor(None)?;
        let listener =
            std::net::TcpListener::bind(("127.0.0.1", crate::ports::free())).doing("opening a gate's port")?;
        listener.set_nonblocking(true).doing("opening a gate's port")?;
        let address = listener.local_addr().doing("opening a gate's port")?;
        let shared = Arc::<Shared>::default();
        let (stop, stopped) = oneshot::channel();
        let (for_thread, roots) = (Arc::clone(&shared), target_ca_pem.to_owned());
        let thread = std::thread::Builder::new()
            .name("gate".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(listener, acceptor, target, &roots, for_thread) => {}
                        _ = stopped => {}
                    }
                });
            })
            .doing("starting a gate")?;
        Ok(Self {
            address,
            ca_pem: ca.pem(),
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Address of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Trusted CA of the server.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Stops requests whose path has `part` in it before the server receives them.
    pub fn hold_request(&self, method: Method, part: &str) -> Stop {
        self.hold(method, part, false)
    }

    /// Lets the server do what such requests ask for, and stops its answers.
    pub fn hold_answer(&self, method: Method, part: &str) -> Stop {
        self.hold(method, part, true)
    }

    fn hold(&self, method: Method, part: &str, forwarded: bool) -> Stop {
        let (reached, watched) = watch::channel(0);
        let (verdict, verdicts) = watch::channel(Verdict::Wait);
        let action = Action::Hold {
            forwarded,
            reached: Arc::new(reached),
            verdict: verdicts,
        };
        self.rule(method, part, usize::MAX, action);
        Stop {
            what: part.to_owned(),
            reached: watched,
            verdict,
        }
    }

    /// Answers the next `times` requests whose path has `part` in it, in the server's place.
    pub fn answer(&self, method: Method, part: &str, times: usize, reply: Reply) {
        self.rule(method, part, times, Action::Answer(reply));
    }

    /// Changes the server's answers, which are JSON, to the next `times` requests whose path has `part` in it.
    pub fn edit(
        &self,
        method: Method,
        part: &str,
        times: usize,
        edit: impl Fn(&mut serde_json::Value) + Send + Sync + 'static,
    ) {
        self.rule(method, part, times, Action::Edit(Arc::new(edit)));
    }

    /// Lets everything pass from now on.
    pub fn clear(&self) {
        let mut rules = self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.clear();
    }

    fn rule(&self, method: Method, part: &str, left: usize, action: Action) {
        let mut rules = self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.push(Rule {
            method,
            part: part.to_owned(),
            left,
            action,
        });
    }

    /// Everything so far, by the time it was done with.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests so far whose path has `part` in it and that the server answered with success.
    pub fn successes(&self, method: &Method, part: &str) -> usize {
        self.seen()
            .iter()
            .filter(|seen| seen.method == method && seen.path.contains(part) && seen.asked && seen.status.is_success())
            .count()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A place where requests are stopped. With its drop those that wait are thrown away (the server never receives them, or
/// no client its answer), and later ones pass.
pub struct Stop {
    what: String,
    reached: watch::Receiver<usize>,
    verdict: watch::Sender<Verdict>,
}

impl Stop {
    /// Waits until a request is stopped here.
    pub async fn reached(&mut self, within: Duration) {
        let reached = tokio::time::timeout(within, self.reached.wait_for(|count| *count > 0)).await;
        assert!(
            matches!(reached, Ok(Ok(_))),
            "no request for {} within {within:?}",
            self.what
        );
    }

    /// Returns the number of requests so far.
    pub fn count(&self) -> usize {
        *self.reached.borrow()
    }

    /// Lets those that wait continue, and later ones pass.
    pub async fn release(self) {
        self.verdict.send_replace(Verdict::Go);
        // Every waiter has its copy of the receiver until it has read the verdict; one copy is the rule's own.
        for _ in 0..100 {
            if self.verdict.receiver_count() <= 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    target: SocketAddr,
    roots: &str,
    shared: Arc<Shared>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let upstream: Upstream = Client::builder(TokioExecutor::new()).build(web::connector(roots));
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            continue;
        };
        let (acceptor, upstream, shared) = (acceptor.clone(), upstream.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let _ = connection.set_nodelay(true);
            let Ok(connection) = acceptor.accept(connection).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request| {
                handle(request, target, upstream.clone(), Arc::clone(&shared))
            });
            // A client that goes away is none of ours.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(connection), service)
                .await;
        });
    }
}

async fn handle(
    request: Request<Incoming>,
    target: SocketAddr,
    upstream: Upstream,
    shared: Arc<Shared>,
) -> Result<Response<Body>, Infallible> {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let agent = head.headers.get("user-agent").and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or_default().to_owned();
    let method = head.method.clone();
    let note = |status: StatusCode, asked: bool| {
        shared.note(Seen {
            method: method.clone(),
            path: path.clone(),
            agent: agent.clone(),
            status,
            asked,
            at,
        });
    };
    let action = shared.action(&method, &path);
    if let Some(Action::Answer(reply)) = &action {
        let response = own(reply);
        note(response.status(), false);
        return Ok(response);
    }
    let edit = match &action {
        Some(Action::Edit(edit)) => Some(edit.clone()),
        _ => None,
    };
    let mut hold = None;
    if let Some(Action::Hold {
        forwarded,
        reached,
        verdict,
    }) = action
    {
        if forwarded {
            hold = Some((reached, verdict));
        } else {
            reached.send_modify(|count| *count += 1);
            if !passes(verdict).await {
                note(StatusCode::GATEWAY_TIMEOUT, false);
                return Ok(failed(StatusCode::GATEWAY_TIMEOUT, "thrown away at the gate"));
            }
        }
    }
    let forwarded = async {
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let uri = format!("https://{target}{path}");
        let mut onward = Request::builder().method(&method).uri(uri);
        if let Some(headers) = onward.headers_mut() {
            *headers = end_to_end(head.headers);
        }
        let onward = onward.body(Full::from(body)).map_err(|error| error.to_string())?;
        upstream.request(onward).await.map_err(|error| error.to_string())
    };
    let response = match forwarded.await {
        Ok(response) => response,
        Err(error) => {
            note(StatusCode::BAD_GATEWAY, true);
            return Ok(failed(StatusCode::BAD_GATEWAY, &error));
        }
    };
    note(response.status(), true);
    if let Some((reached, verdict)) = hold {
        reached.send_modify(|count| *count += 1);
        if !passes(verdict).await {
            return Ok(failed(StatusCode::GATEWAY_TIMEOUT, "thrown away at the gate"));
        }
    }
    let (mut head, body) = response.into_parts();
    head.headers = end_to_end(head.headers);
    if let Some(edit) = edit {
        let whole = body.collect().await.map(http_body_util::Collected::to_bytes);
        let mut value = serde_json::from_slice(&whole.unwrap_or_default()).unwrap_or_default();
        edit(&mut value);
        head.headers.remove("content-length");
        let body = Full::from(value.to_string()).map_err(|never| match never {}).boxed();
        return Ok(Response::from_parts(head, body));
    }
    Ok(Response::from_parts(head, body.boxed()))
}

/// Whether a held request continues.
async fn passes(mut verdict: watch::Receiver<Verdict>) -> bool {
    verdict.wait_for(|verdict| *verdict == Verdict::Go).await.is_ok()
}

/// Without what concerns only one of the two connections (RFC 9110 section 7.6.1).
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
        headers.remove(name);
    }
    headers
}

fn own(reply: &Reply) -> Response<Body> {
    let status = StatusCode::from_u16(reply.status).expect("a status");
    let mut response = failed(status, &reply.body);
    for (name, value) in &reply.headers {
        response
            .headers_mut()
            .insert(*name, value.parse().expect("a header's value"));
    }
    response
}

fn failed(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::from(text.to_owned()).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
