//! Tries the way that the CA will take, from inside: advice, and never a gate.
//!
//! An ingress controller takes its time to serve a new Ingress: milliseconds, or minutes where it makes a load
//! balancer. So the shared path is requested until it gives the answer, up to a bound. What a CA sees may differ (NAT
//! hairpins, split DNS), so that the CA is asked all the same when the time is over, and the status says what was seen.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header::LOCATION};
use http_body_util::Full;
use hyper_util::client::legacy::connect::HttpInfo;
use tokio::{sync::Semaphore, time::Instant};

use super::super::{
    Challenge, Identifier, Readiness, SolverError,
    http::{Http, Limits},
};
use crate::egress::{address, printable};

/// Bounds of one try. The answer is a token and a thumbprint.
const LIMITS: Limits = Limits {
    body: 4 * 1024,
    time: Duration::from_secs(3),
};
/// Tries at once, in all orders together.
const MAX_CONCURRENT_PROBES: usize = 128;
/// Characters of what was seen that are shown.
const MAX_SHOWN: usize = 80;

/// The result of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// The expected body.
    Answer,
    /// Another answer.
    Other {
        status: u16,
        /// Start of the body, or where a redirect leads.
        text: String,
        address: Option<SocketAddr>,
    },
    /// No answer.
    Failed(String),
    /// The name has no address that can be tried from here.
    Blind(String),
}

/// Decides: a function of values. `open_for` counts from the write of the Ingress.
pub(super) fn decide(host: &Identifier, seen: Option<&Sight>, open_for: Duration, bound: Duration) -> Readiness {
    if bound.is_zero() || seen == Some(&Sight::Answer) {
        return Readiness::Ready;
    }
    let saw = match seen {
        None | Some(Sight::Answer) => "no answer yet".to_owned(),
        Some(Sight::Other { status, text, address }) => {
            let from = address.map(|address| format!(" from {address}")).unwrap_or_default();
            let text = if text.is_empty() {
                String::new()
            } else {
                format!(" ({text})")
            };
            format!("HTTP {status}{from}{text} in place of the answer")
        }
        Some(Sight::Failed(detail)) => detail.clone(),
        Some(Sight::Blind(detail)) => {
            return Readiness::Unseen {
                message: format!(
                    "http://{}/ cannot be tried from inside the cluster: {detail}",
                    authority(host)
                ),
            };
        }
    };
    let saw = format!(
        "http://{}/.well-known/acme-challenge/ seen from inside the cluster: {saw}",
        authority(host)
    );
    if open_for < bound {
        Readiness::Wait {
            after: (open_for / 4).clamp(Duration::from_millis(100), Duration::from_secs(2)),
            message: saw,
        }
    } else {
        Readiness::Unseen {
            message: format!("{saw}; the CA was asked all the same after {} s", bound.as_secs()),
        }
    }
}

/// The host as a URL has it.
fn authority(host: &Identifier) -> String {
    match host {
        Identifier::Dns(name) => name.clone(),
        Identifier::Ip(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        Identifier::Ip(address) => address.to_string(),
    }
}

/// Port of HTTP-01 (RFC 8555, section 8.3).
const PORT: u16 = 80;

/// Makes tries.
#[derive(Clone)]
pub(super) struct Prober {
    http: Http,
    port: u16,
    together: Arc<Semaphore>,
}

/// The latest sight of one challenge. The tries end when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Probe(Mutex<Option<Sight>>);

impl Probe {
    pub(super) fn seen(&self) -> Option<Sight> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, sight: Sight) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sight);
    }
}

/// Tries that may run at once.
pub(super) fn together() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONCURRENT_PROBES))
}

impl Prober {
    pub(super) const fn new(http: Http, together: Arc<Semaphore>) -> Self {
        Self {
            http,
            port: PORT,
            together,
        }
    }

    /// Tries until the answer was seen, the time is over, or the probe is dropped.
    pub(super) fn start(&self, challenge: &Challenge, bound: Duration) -> Arc<Probe> {
        let probe = Arc::new(Probe::default());
        let (watched, prober, challenge) = (Arc::downgrade(&probe), self.clone(), challenge.clone());
        tokio::spawn(async move {
            let started = Instant::now();
            while let Some(probe) = watched.upgrade() {
                let sight = prober.look(&challenge).await;
                let ended = matches!(sight, Sight::Answer | Sight::Blind(_)) || started.elapsed() >= bound;
                probe.set(sight);
                if ended {
                    return;
                }
                drop(probe);
                let pause = (started.elapsed() / 4).clamp(Duration::from_millis(100), Duration::from_secs(2));
                tokio::time::sleep(pause).await;
            }
        });
        probe
    }

    async fn look(&self, challenge: &Challenge) -> Sight {
        let Ok(_turn) = self.together.acquire().await else {
            return Sight::Blind("Gatehouse is ending".into());
        };
        let host = match &challenge.identifier {
            Identifier::Dns(name) => name.clone(),
            Identifier::Ip(address) => address.to_string(),
        };
        let resolved = tokio::time::timeout(LIMITS.time, self.http.reach().resolve(&host, self.port)).await;
        match resolved {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Sight::Blind(error.to_string()),
            Err(_) => return Sight::Blind(format!("{host} was not resolved within {} s", LIMITS.time.as_secs())),
        }
        // The CA chose it, and a tenant may have chosen the CA.
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !challenge.token.bytes().all(fine) {
            return Sight::Blind("the CA's token is not base64url (RFC 8555, section 8.3)".into());
        }
        let url = format!(
            "http://{}:{}/.well-known/acme-challenge/{}",
            authority(&challenge.identifier),
            self.port,
            challenge.token
        );
        let Ok(request) = Request::get(url).body(Full::<Bytes>::default()) else {
            return Sight::Blind("its name is not the host of a URL".into());
        };
        match self.http.send(request, LIMITS).await {
            Ok(response) => sight(&response, &challenge.key_authorization),
            Err(error @ SolverError::AddressRefused { .. }) => Sight::Blind(error.to_string()),
            Err(error) => Sight::Failed(error.to_string()),
        }
    }
}

/// Classifies an answer. White space at its end does no harm (RFC 8555, section 8.3).
fn sight(response: &http::Response<Bytes>, expected: &str) -> Sight {
    let body = String::from_utf8_lossy(response.body());
    if response.status().is_success() && body.trim_end() == expected {
        return Sight::Answer;
    }
    let address = response.extensions().get::<HttpInfo>().map(HttpInfo::remote_addr);
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let text = match location.filter(|_| response.status().is_redirection()) {
        Some(location) => format!("a redirect to {}", printable(location, MAX_SHOWN)),
        None => printable(&body, MAX_SHOWN),
    };
    Sight::Other {
        status: response.status().as_u16(),
        text: if may_show(address) { text } else { String::new() },
        address,
    }
}

/// Whether the words of an answer may be shown. A tenant chooses the name, and its address may be of a server that a
/// NetworkPolicy keeps from the tenant: of that, no more is said than that it answers.
fn may_show(address: Option<SocketAddr>) -> bool {
    // Loopback is tried in development only.
    address.is_none_or(|address| !address::is_private(address.ip()) || address.ip().is_loopback())
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
