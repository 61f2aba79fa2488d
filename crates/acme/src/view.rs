//! State of an order as callers see it, in our own types.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::key::{AccountKey, thumbprint};
use super::problem::Problem;

/// Subject of a certificate (RFC 8555 §9.7.7, RFC 8738).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// An A-label; in an order it may start with `*.`.
    Dns(String),
    Ip(IpAddr),
}

impl Identifier {
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Dns(name) => json!({"type": "dns", "value": name}),
            Self::Ip(address) => json!({"type": "ip", "value": address}),
        }
    }
}

impl Identifier {
    pub(super) fn for_instant_acme(&self) -> instant_acme::Identifier {
        match self {
            Self::Dns(name) => instant_acme::Identifier::Dns(name.clone()),
            Self::Ip(address) => instant_acme::Identifier::Ip(*address),
        }
    }

    /// As names compare: in lower case, without the dot of the root.
    pub(super) fn canonical(&self) -> Self {
        match self {
            Self::Dns(name) => Self::Dns(name.trim_end_matches('.').to_ascii_lowercase()),
            Self::Ip(address) => Self::Ip(*address),
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// Content of a new order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    pub identifiers: Vec<Identifier>,
    pub profile: Option<String>,
    /// The certificate that is being renewed, as RFC 9773 §4.1 names it.
    pub replaces: Option<String>,
    /// When the certificate should end (RFC 8555 §7.4). A CA that refuses it is asked again without it.
    pub not_after: Option<Timestamp>,
}

/// RFC 8555 §7.1.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderStatus {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
}

/// RFC 8555 §7.1.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationStatus {
    Pending,
    Valid,
    Invalid,
    Expired,
    Deactivated,
    Revoked,
}

/// RFC 8555 §7.1.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeStatus {
    Pending,
    Processing,
    Valid,
    Invalid,
}

/// Types of challenges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChallengeKind {
    Http01,
    Dns01,
    TlsAlpn01,
    /// For example `dns-account-01`.
    Other(String),
}

impl ChallengeKind {
    pub(super) fn of(kind: &str) -> Self {
        match kind {
            "http-01" => Self::Http01,
            "dns-01" => Self::Dns01,
            "tls-alpn-01" => Self::TlsAlpn01,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Other(kind) => kind,
        }
    }

    pub(super) fn has_token(&self) -> bool {
        !matches!(self, Self::Other(_))
    }
}

/// An order as last read from the CA, and what we did since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderView {
    /// URL to keep, by which the order is resumed.
    pub url: String,
    /// `Ready` also as soon as all authorizations are known to be valid, without asking.
    pub status: OrderStatus,
    pub expires: Option<Timestamp>,
    /// The certificate that the CA took the order to replace.
    pub replaces: Option<String>,
    /// Why the CA refused the requested end, so that the order was placed without it. Known only to who placed it.
    pub not_after_refused: Option<String>,
    pub error: Option<Problem>,
    pub authorizations: Vec<AuthorizationView>,
    /// Authorizations not read yet.
    pub unread: Vec<String>,
    /// Polls since the last challenge or finalization: the `attempt` of [`poll_after`](super::poll_after).
    pub polls: u32,
    /// `Retry-After` of the server's last answer.
    pub retry_after: Option<Duration>,
}

/// The issued certificate, in all chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chains {
    /// In PEM, leaf first. The first is the CA's own choice; the others are under other roots.
    pub all: Vec<String>,
    /// URL of each chain.
    pub urls: Vec<String>,
    /// The URL of the first of the others that could not be read, and why. The certificate is as good without them.
    pub unread: Option<String>,
}

/// The CA's view of our right to one identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationView {
    pub url: String,
    /// Without `*.`, also for a wildcard.
    pub identifier: Identifier,
    pub wildcard: bool,
    pub status: AuthorizationStatus,
    pub expires: Option<Timestamp>,
    pub challenges: Vec<ChallengeView>,
}

impl AuthorizationView {
    /// The name as the certificate has it.
    pub fn name(&self) -> String {
        if self.wildcard {
            format!("*.{}", self.identifier)
        } else {
            self.identifier.to_string()
        }
    }

    /// Whether one of the challenges was answered, so that the CA has the next move.
    pub fn is_answered(&self) -> bool {
        self.challenges
            .iter()
            .any(|challenge| challenge.submitted || challenge.status != ChallengeStatus::Pending)
    }
}

/// One way that the CA offers. Its values are public as soon as they are served: no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeView {
    pub kind: ChallengeKind,
    pub url: String,
    pub token: String,
    /// The body of HTTP-01 (RFC 8555 §8.3); its SHA-256 is in the certificate of TLS-ALPN-01.
    pub key_authorization: String,
    /// The TXT value of DNS-01 (§8.4).
    pub dns_txt_value: String,
    pub status: ChallengeStatus,
    /// The challenge was submitted; some CAs leave the status at `pending` until they have validated it.
    pub submitted: bool,
    pub error: Option<Problem>,
}

impl ChallengeView {
    pub(super) fn new(
        kind: ChallengeKind,
        url: String,
        token: &str,
        key: &AccountKey,
        status: ChallengeStatus,
        error: Option<Problem>,
    ) -> Self {
        let key_authorization = key.key_authorization(token);
        Self {
            kind,
            url,
            token: token.to_owned(),
            dns_txt_value: thumbprint(&key_authorization),
            key_authorization,
            status,
            submitted: false,
            error,
        }
    }
}
