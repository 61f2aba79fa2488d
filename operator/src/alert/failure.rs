//! Why a delivery failed, in the classes that a queue acts on and in words for people.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError};

use super::target::{Target, TargetError};
use crate::egress::{Cause, address, printable, retry_after};

/// The longest wait that a receiver may ask for.
const MAX_WAIT: Duration = Duration::from_hours(24);

/// The wait after a 429 that names none.
const RATE_LIMITED: Duration = Duration::from_secs(30);

/// The longest text of others in a message, in characters.
const MAX_DETAIL: usize = 200;

/// Kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// 410: the receiver wants nothing more, ever.
    Gone,
    /// The receiver does not take this message: any other 3xx or 4xx.
    Refused,
    /// The receiver cannot be reached, or cannot take anything now. Also when a Secret could not be read.
    Unavailable,
    /// Nothing can be sent with this policy and its Secrets.
    Misconfigured,
    /// Some of several servers behind one name accepted it.
    Partial,
}

/// A delivery that was not taken. Holds nothing that the receiver wrote, and no part of a secret URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    /// Stable `CamelCase` word for conditions and metrics.
    pub reason: &'static str,
    /// For people: what failed, and what to do.
    pub message: String,
    /// Requested wait of the receiver; a day at most.
    pub retry_after: Option<Duration>,
    /// Another body might have been taken: it is neither the URL nor the credentials.
    pub content: bool,
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        let kind = match error {
            TargetError::SecretUnreadable { .. } => FailureKind::Unavailable,
            _ => FailureKind::Misconfigured,
        };
        Self::new(kind, error.reason(), error.to_string())
    }
}

impl Failure {
    pub(super) fn new(kind: FailureKind, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            reason,
            message: message.into(),
            retry_after: None,
            content: false,
        }
    }

    /// An answer that is no 2xx.
    pub(super) fn answered(target: &Target, status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Self {
        let (kind, reason, advice) = class(target, status);
        let answer = match status.canonical_reason() {
            Some(words) => format!("{} {words}", status.as_u16()),
            None => status.as_u16().to_string(),
        };
        let unsaid = (status == StatusCode::TOO_MANY_REQUESTS).then_some(RATE_LIMITED);
        Self {
            retry_after: retry_after(headers, now).map(|wait| wait.min(MAX_WAIT)).or(unsaid),
            content: kind == FailureKind::Refused && reason == "Rejected" && !matches!(status.as_u16(), 404 | 405),
            ..Self::new(kind, reason, format!("{} answered {answer}{advice}", target.name()))
        }
    }

    /// `failed` of the `all` addresses of the receiver did not take it; the first of them, and why.
    pub(super) fn partial(target: &Target, failed: usize, all: usize, (address, first): (IpAddr, &Self)) -> Self {
        let at = if target.is_public() {
            format!("{}: ", address.to_canonical())
        } else {
            String::new()
        };
        let message = format!(
            "{failed} of the {all} addresses of {} did not take it, the others did; {at}{}",
            target.name(),
            first.message
        );
        Self::new(FailureKind::Partial, "Partial", message)
    }

    pub(super) fn timed_out(target: &Target) -> Self {
        let message = format!(
            "{} gave no answer within {} s",
            target.name(),
            target.timeout.as_secs_f64()
        );
        Self::new(FailureKind::Unavailable, "Timeout", message)
    }

    /// No answer came.
    pub(super) fn unanswered(target: &Target, cause: Cause) -> Self {
        let name = target.name();
        match cause {
            Cause::Refused(address) => Self::refused_address(target, address),
            Cause::TimedOut => Self::timed_out(target),
            Cause::Tls(error) => {
                let message = format!("TLS with {name} failed: {}", tls_words(target, &error));
                Self::new(FailureKind::Unavailable, "Tls", message)
            }
            Cause::Other(detail) => {
                let hint = closed_hint(target, &detail);
                let message = format!("cannot reach {name}: {}{hint}", printable(&detail, MAX_DETAIL));
                Self::new(FailureKind::Unavailable, "Network", message)
            }
        }
    }

    pub(super) fn refused_address(target: &Target, address: IpAddr) -> Self {
        // Only the words for it: loopback is refused, or we would not be here.
        let kind = address::refused(address, false).unwrap_or("refused");
        let at = if target.is_public() {
            format!("at {}, which is {kind}", address.to_canonical())
        } else {
            format!("at an address that is {kind}")
        };
        let hint = match kind {
            "loopback" => " (--allow-loopback permits it, for development)",
            _ => "",
        };
        let message = format!("{} is {at}: Gatehouse does not connect there{hint}", target.name());
        Self::new(FailureKind::Misconfigured, "AddressRefused", message)
    }
}

/// Returns the meaning of an answer and, after the status, the remedy.
fn class(target: &Target, status: StatusCode) -> (FailureKind, &'static str, &'static str) {
    match status.as_u16() {
        410 => (
            FailureKind::Gone,
            "Gone",
            ": it wants nothing more; remove the receiver, or write its new URL",
        ),
        300..=399 => (
            FailureKind::Refused,
            "Redirected",
            ": redirects are not followed; write the URL that it redirects to",
        ),
        401 | 403 => (
            FailureKind::Refused,
            "Unauthorized",
            match (&target.signing, target.headers.is_empty()) {
                (Some(_), true) => ": check that signingSecretRef holds the key that it expects",
                (Some(_), false) => ": check the keys and headers in signingSecretRef and headersSecretRef",
                (None, _) => ": check what it expects in headersSecretRef, signingSecretRef or clientCertificateRef",
            },
        ),
        404 | 405 => (
            FailureKind::Refused,
            "Rejected",
            ": check the URL's path and the format",
        ),
        408 | 425 => (FailureKind::Unavailable, "ServerError", ""),
        429 => (
            FailureKind::Unavailable,
            "RateLimited",
            ": it receives too much at once",
        ),
        500..=599 => (FailureKind::Unavailable, "ServerError", ": see its logs"),
        _ => (
            FailureKind::Refused,
            "Rejected",
            ": it does not take this message; check that the format is what it understands",
        ),
    }
}

/// Returns what to check after a connection was closed before the request: a server that refuses the client's certificate may
/// close it before its TLS alert is read.
fn closed_hint(target: &Target, detail: &str) -> &'static str {
    let is_closed = ["not ready", "closed before", "reset"]
        .iter()
        .any(|word| detail.contains(word));
    match &target.identity {
        _ if !is_closed || !target.is_https() => "",
        Some(_) => "; check that it knows the certificate of clientCertificateRef",
        None => "; if it demands a client certificate, name a Secret with tls.crt and tls.key in clientCertificateRef",
    }
}

fn tls_words(target: &Target, error: &rustls::Error) -> String {
    let words = match error {
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            // A bad signature: the CA has the same name and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature if target.trust.is_some() => {
                "its certificate does not chain to a certificate of caBundle"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is of a CA that is not trusted here; write that CA's certificate into caBundle"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for other names than the URL's host"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has run out",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet, or a clock is wrong"
            }
            other => return printable(&format!("its certificate cannot be used: {other}"), MAX_DETAIL),
        },
        rustls::Error::AlertReceived(alert) => match (alert, &target.identity) {
            (AlertDescription::CertificateRequired, None) => {
                "it demands a client certificate; name a Secret with tls.crt and tls.key in clientCertificateRef"
            }
            (_, Some(_)) => "it ended the handshake; check that it knows the certificate of clientCertificateRef",
            (AlertDescription::HandshakeFailure | AlertDescription::BadCertificate, None) => {
                "it ended the handshake; when it demands a client certificate, name one in clientCertificateRef"
            }
            _ => "it ended the handshake",
        },
        rustls::Error::InvalidMessage(_) => "no TLS is spoken there; write http://, or another port",
        other => return printable(&other.to_string(), MAX_DETAIL),
    };
    words.to_owned()
}
