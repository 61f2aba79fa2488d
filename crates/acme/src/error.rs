//! Failures of requests to an ACME server, in the classes that a caller acts on.

use std::time::Duration;

use super::http::Answer;
use super::problem::Problem;
use gatehouse_egress::printable;

/// The longest text of a server that we keep, in characters.
pub const MAX_DETAIL: usize = 500;

/// An ACME request that did not give what was asked.
///
/// No variant holds a key, a nonce or a signed body; texts of the server are cut to [`MAX_DETAIL`]
/// printable characters. `Clone`, so that callers who waited for one request share its failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcmeError {
    /// 429, or a problem of type `rateLimited` with any status (RFC 8555 §6.6).
    #[error("the CA limits the rate: {detail}")]
    RateLimited {
        retry_after: Option<Duration>,
        detail: String,
    },
    /// A 5xx: the server answers and cannot serve now.
    #[error("the ACME server answered {status}: {detail}")]
    Unavailable {
        status: u16,
        retry_after: Option<Duration>,
        detail: String,
    },
    /// No connection, or it broke.
    #[error("cannot reach {host}: {detail}")]
    Network { host: String, detail: String },
    /// No complete answer in time.
    #[error("{host} gave no answer within {} s", .after.as_secs_f64())]
    Timeout { host: String, after: Duration },
    /// The handshake failed: most often a private CA that no `caBundle` names.
    #[error("TLS with {host} failed: {detail}")]
    Tls { host: String, detail: String },
    /// Link-local and metadata addresses always, loopback unless allowed.
    #[error(
        "{host} is at {address}, which is refused: link-local and metadata addresses always are, loopback without --allow-loopback"
    )]
    AddressRefused { host: String, address: String },
    /// The server's own URL, as the spec has it, is not `https`.
    #[error("{url} is not an https URL")]
    InsecureUrl { url: String },
    /// A redirect, or a URL in the server's directory or in one of its objects, is not `https`: the server's fault, until it is repaired.
    #[error("{host} answered with {url}, which is not an https URL")]
    InsecureAnswer { host: String, url: String },
    /// The server refused every nonce, also those of its own refusals.
    #[error("the ACME server refused {attempts} nonces in a row")]
    BadNonce { attempts: u32 },
    /// The account is unknown to the server (§7.3.1): establish it again.
    #[error("the ACME server does not know the account: {detail}")]
    AccountDoesNotExist { detail: String },
    /// The CA wants an external account binding (§7.3.4).
    #[error("the CA requires an external account binding: set spec.acme.externalAccountBinding ({detail})")]
    ExternalAccountRequired { detail: String },
    /// The account may not do this: a wrong binding, a deactivated account.
    #[error("the ACME server refuses the account: {detail}")]
    Unauthorized { detail: String },
    /// A refusal that names its type.
    #[error("the CA refuses: {0}")]
    Rejected(Problem),
    /// `orderNotReady` (§7.4): an authorization is not valid yet.
    #[error("the order is not ready: {detail}")]
    OrderNotReady { detail: String },
    /// The order or authorization no longer exists at the server (404 or 410).
    #[error("the order no longer exists at the CA: {detail}")]
    OrderGone { detail: String },
    /// An answer that is no ACME: an HTML page, cut JSON, a missing header.
    #[error("unexpected answer {status} of {host}: {detail}")]
    Malformed { status: u16, host: String, detail: String },
    /// A key, binding or bundle of ours that cannot be used.
    #[error("{0}")]
    Invalid(String),
}

impl AcmeError {
    /// The stable word for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "RateLimited",
            Self::Unavailable { .. }
            | Self::Network { .. }
            | Self::Timeout { .. }
            | Self::Tls { .. }
            | Self::BadNonce { .. }
            | Self::InsecureAnswer { .. }
            | Self::Malformed { .. } => "Network",
            Self::AccountDoesNotExist { .. } | Self::ExternalAccountRequired { .. } | Self::Unauthorized { .. } => {
                "IssuerNotReady"
            }
            Self::Rejected(problem) if problem.requires_user_action() => "IssuerNotReady",
            Self::Rejected(problem) if problem.is_challenge_failure() => "ChallengeFailed",
            Self::Rejected(_) => "Rejected",
            Self::OrderGone { .. } | Self::OrderNotReady { .. } => "OrderGone",
            Self::AddressRefused { .. } | Self::InsecureUrl { .. } | Self::Invalid(_) => "Invalid",
        }
    }

    /// Whether the CA serves the account only after a user has done something there, such as to agree to new terms.
    pub fn requires_user_action(&self) -> bool {
        matches!(self, Self::Rejected(problem) if problem.requires_user_action())
    }

    /// Returns the requested wait of the server, if any.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether asking again for the same names, key and profile can only be refused again, so that
    /// a retry is due when the spec changed and otherwise seldom. A CAA record, for one, may
    /// be fixed without a change of the spec, and is not permanent.
    pub fn is_permanent_for_spec(&self) -> bool {
        match self {
            Self::Rejected(problem) => problem.is_permanent_for_spec(),
            Self::Invalid(_) | Self::InsecureUrl { .. } => true,
            _ => false,
        }
    }

    /// Puts a refusal into its class (RFC 8555 §6.7). `resource_is_ours` is true where the URL
    /// names an order, an authorization, a challenge or a certificate, whose absence means
    /// that the order is gone.
    pub(super) fn from_answer(answer: &Answer, resource_is_ours: bool) -> Self {
        let status = answer.status;
        let Some(mut problem) = Problem::parse(&answer.body) else {
            let detail = answer.excerpt();
            return match status {
                429 => Self::RateLimited {
                    retry_after: answer.retry_after,
                    detail,
                },
                500..=599 => Self::Unavailable {
                    status,
                    retry_after: answer.retry_after,
                    detail,
                },
                404 | 410 if resource_is_ours => Self::OrderGone { detail },
                _ => Self::Malformed {
                    status,
                    host: answer.host.clone(),
                    detail,
                },
            };
        };
        if let Some(terms) = &answer.terms {
            problem.add_page("terms of service:", terms);
        }
        let detail = problem.detail.clone();
        match (problem.kind.as_str(), status) {
            ("rateLimited", _) | (_, 429) => Self::RateLimited {
                retry_after: answer.retry_after,
                detail: problem.to_string(),
            },
            ("badNonce", _) => Self::BadNonce { attempts: 1 },
            ("accountDoesNotExist", _) => Self::AccountDoesNotExist { detail },
            ("externalAccountRequired", _) => Self::ExternalAccountRequired { detail },
            ("orderNotReady", _) => Self::OrderNotReady { detail },
            (_, 500..=599) => Self::Unavailable {
                status,
                retry_after: answer.retry_after,
                detail,
            },
            (_, 404 | 410) if resource_is_ours => Self::OrderGone { detail },
            ("unauthorized", _) => Self::Unauthorized { detail },
            _ => Self::Rejected(problem),
        }
    }

    pub(super) fn malformed(answer: &Answer, what: &str) -> Self {
        Self::Malformed {
            status: answer.status,
            host: answer.host.clone(),
            detail: printable(what, MAX_DETAIL),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let mut answer = Answer::for_test(status, body.as_bytes());
        answer.retry_after = Some(Duration::from_secs(7));
        answer
    }

    fn problem(kind: &str) -> String {
        format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"d"}}"#)
    }

    #[test]
    fn every_refusal_lands_in_its_class() {
        let wait = Some(Duration::from_secs(7));
        // (status, problem type or "" for HTML, is ours) → (reason, retry after, permanent)
        let table = [
            (429, "rateLimited", false, ("RateLimited", wait, false)),
            (503, "rateLimited", false, ("RateLimited", wait, false)),
            (429, "", false, ("RateLimited", wait, false)),
            (503, "", false, ("Network", wait, false)),
            (500, "serverInternal", false, ("Network", wait, false)),
            (502, "", true, ("Network", wait, false)),
            (403, "", false, ("Network", None, false)),
            (400, "badNonce", false, ("Network", None, false)),
            (400, "accountDoesNotExist", false, ("IssuerNotReady", None, false)),
            (403, "externalAccountRequired", false, ("IssuerNotReady", None, false)),
            (403, "unauthorized", false, ("IssuerNotReady", None, false)),
            (403, "orderNotReady", true, ("OrderGone", None, false)),
            (404, "malformed", true, ("OrderGone", None, false)),
            (404, "", true, ("OrderGone", None, false)),
            (400, "rejectedIdentifier", false, ("Rejected", None, true)),
            (400, "badCSR", true, ("Rejected", None, true)),
            (400, "invalidProfile", false, ("Rejected", None, true)),
            (403, "caa", true, ("Rejected", None, false)),
            (400, "connection", true, ("ChallengeFailed", None, false)),
        ];
        for (status, kind, ours, expected) in table {
            let body = if kind.is_empty() {
                "<html>".to_owned()
            } else {
                problem(kind)
            };
            let error = AcmeError::from_answer(&answer(status, &body), ours);
            let got = (error.reason(), error.retry_after(), error.is_permanent_for_spec());
            assert_eq!(got, expected, "{status} {kind}: {error}");
        }
    }

    #[test]
    fn a_garbage_page_shows_its_first_200_printable_characters() {
        let page = format!("<html>\u{1b}[31m\r\n\0{}", "x".repeat(5_000));
        let AcmeError::Malformed { status, detail, .. } = AcmeError::from_answer(&answer(403, &page), false) else {
            panic!("an HTML page must be Malformed");
        };
        assert_eq!(status, 403);
        assert_eq!(detail.chars().count(), 200);
        assert!(detail.starts_with("<html> [31m xxx"), "{detail}");
    }
}
