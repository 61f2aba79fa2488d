//! What a caller sees of an order, in our own types.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::key::{AccountKey, thumbprint};
use super::problem::{Problem, RawProblem};

/// What a certificate is for (RFC 8555 §9.7.7, RFC 8738).
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

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// What to order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    pub identifiers: Vec<Identifier>,
    pub profile: Option<String>,
    /// The certificate that is being renewed, as RFC 9773 §4.1 names it.
    pub replaces: Option<String>,
}

/// RFC 8555 §7.1.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
}

/// RFC 8555 §7.1.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorizationStatus {
    Pending,
    Valid,
    Invalid,
    Expired,
    Deactivated,
    Revoked,
}

/// RFC 8555 §7.1.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChallengeStatus {
    Pending,
    Processing,
    Valid,
    Invalid,
}

/// How to prove control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChallengeKind {
    Http01,
    Dns01,
    TlsAlpn01,
    /// For example `dns-account-01`.
    Other(String),
}

/// An order as the CA last told it, and what we did since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderView {
    /// What to keep to resume the order.
    pub url: String,
    /// `Ready` also as soon as all authorizations are known to be valid, without asking.
    pub status: OrderStatus,
    pub expires: Option<Timestamp>,
    /// The certificate that the CA took the order to replace.
    pub replaces: Option<String>,
    pub error: Option<Problem>,
    pub authorizations: Vec<AuthorizationView>,
    /// Authorizations not read yet.
    pub unread: Vec<String>,
    /// Polls since the last challenge or finalization: the `attempt` of [`poll_after`](super::poll_after).
    pub polls: u32,
    /// What the server said to wait, in its last answer.
    pub retry_after: Option<Duration>,
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
            .any(|challenge| challenge.told || challenge.status != ChallengeStatus::Pending)
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
    /// We told the CA to look; some CAs leave the status at `pending` until they have.
    pub told: bool,
    pub error: Option<Problem>,
}

/// The order object on the wire (§7.1.3).
#[derive(Deserialize)]
pub(super) struct RawOrder {
    pub(super) status: OrderStatus,
    #[serde(default)]
    pub(super) expires: Option<String>,
    #[serde(default)]
    pub(super) replaces: Option<String>,
    #[serde(default)]
    pub(super) error: Option<RawProblem>,
    #[serde(default)]
    pub(super) authorizations: Vec<String>,
    pub(super) finalize: String,
    #[serde(default)]
    pub(super) certificate: Option<String>,
}

/// The authorization object (§7.1.4).
#[derive(Deserialize)]
pub(super) struct RawAuthorization {
    identifier: RawIdentifier,
    #[serde(default)]
    wildcard: bool,
    status: AuthorizationStatus,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    challenges: Vec<RawChallenge>,
}

#[derive(Deserialize)]
struct RawIdentifier {
    r#type: String,
    value: String,
}

/// The challenge object (§7.1.5).
#[derive(Deserialize)]
pub(super) struct RawChallenge {
    r#type: String,
    url: String,
    #[serde(default)]
    token: String,
    pub(super) status: ChallengeStatus,
    #[serde(default)]
    pub(super) error: Option<RawProblem>,
}

/// A date that cannot be read is as good as none: it is only a hint.
pub(super) fn timestamp(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

impl RawAuthorization {
    /// `None` for an identifier of a type that we never order.
    pub(super) fn view(self, url: &str, key: &AccountKey) -> Option<AuthorizationView> {
        let value = self.identifier.value;
        let (identifier, wildcard) = match self.identifier.r#type.as_str() {
            // Some servers send the name of a wildcard with its star.
            "dns" => match value.strip_prefix("*.") {
                Some(base) => (Identifier::Dns(base.to_owned()), true),
                None => (Identifier::Dns(value), self.wildcard),
            },
            "ip" => (Identifier::Ip(value.parse().ok()?), false),
            _ => return None,
        };
        Some(AuthorizationView {
            url: url.to_owned(),
            identifier,
            wildcard,
            status: self.status,
            expires: timestamp(self.expires.as_deref()),
            challenges: self.challenges.into_iter().map(|c| c.view(key)).collect(),
        })
    }
}

impl RawChallenge {
    fn view(self, key: &AccountKey) -> ChallengeView {
        let key_authorization = key.key_authorization(&self.token);
        ChallengeView {
            kind: match self.r#type.as_str() {
                "http-01" => ChallengeKind::Http01,
                "dns-01" => ChallengeKind::Dns01,
                "tls-alpn-01" => ChallengeKind::TlsAlpn01,
                _ => ChallengeKind::Other(self.r#type),
            },
            url: self.url,
            token: self.token,
            dns_txt_value: thumbprint(&key_authorization),
            key_authorization,
            status: self.status,
            told: false,
            error: self.error.map(Problem::from),
        }
    }
}
