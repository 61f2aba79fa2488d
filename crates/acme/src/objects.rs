//! The objects of RFC 8555 §7.1 as servers send them, and in the form that instant-acme reads.
//!
//! Our reading is the one that counts; instant-acme gets a form of it that it cannot refuse: whole URLs, no nulls, the
//! words that it knows.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Answer, absolute};
use super::error::AcmeError;
use super::fields::Fields;
use super::key::AccountKey;
use super::problem::Problem;
use super::view::{
    AuthorizationStatus, AuthorizationView, ChallengeKind, ChallengeStatus, ChallengeView, Identifier, OrderStatus,
};

/// Authorizations of one order; public CAs sign 100 names.
const MAX_AUTHORIZATIONS: usize = 1_000;

/// Challenges of one authorization; Pebble offers five.
const MAX_CHALLENGES: usize = 20;

/// The longest token, in bytes. Those of 128 bits, the least that §8.1 allows, have 22.
const MAX_TOKEN: usize = 256;

/// A place for instant-acme where an order names no such URL; never asked.
const NOWHERE: &str = "https://invalid/";

/// The order object (§7.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawOrder {
    pub(super) status: OrderStatus,
    pub(super) expires: Option<Timestamp>,
    pub(super) replaces: Option<String>,
    pub(super) error: Option<Problem>,
    pub(super) authorizations: Vec<String>,
    pub(super) finalize: Option<String>,
    pub(super) certificate: Option<String>,
}

impl RawOrder {
    pub(super) fn read(answer: &Answer) -> Result<Self, AcmeError> {
        let mut fields = Fields::read(answer, "the order")?;
        let known = ["status", "authorizations", "finalize", "certificate"];
        if !known.iter().any(|name| fields.has(name)) {
            return Err(fields.wrong("status", "is missing"));
        }
        let certificate = fields.url("certificate")?;
        let mut seen = BTreeSet::new();
        let mut authorizations = Vec::new();
        for entry in fields.list("authorizations", MAX_AUTHORIZATIONS)? {
            let url = entry
                .as_str()
                .and_then(|reference| absolute(&answer.url, reference))
                .ok_or_else(|| fields.wrong("authorizations", &format!("names {entry}, which is no URL")))?;
            if seen.insert(url.clone()) {
                authorizations.push(url);
            }
        }
        Ok(Self {
            status: order_status(fields.word("status").as_deref(), certificate.is_some()),
            expires: fields.timestamp("expires"),
            replaces: fields.text("replaces").map(str::to_owned),
            error: fields.take("error").and_then(Problem::from_value),
            authorizations,
            finalize: fields.url("finalize")?,
            certificate,
        })
    }

    /// `replaces` is what was sent: instant-acme drops an order whose server does not repeat it.
    pub(super) fn normal(&self, replaces: Option<&str>) -> Value {
        json!({
            "status": match self.status {
                OrderStatus::Pending => "pending",
                OrderStatus::Ready => "ready",
                OrderStatus::Processing => "processing",
                OrderStatus::Valid => "valid",
                OrderStatus::Invalid => "invalid",
            },
            "authorizations": self.authorizations,
            "finalize": self.finalize.as_deref().unwrap_or(NOWHERE),
            "certificate": self.certificate,
            "replaces": replaces,
        })
    }
}

/// A word that the RFC does not know is the server's own for an end, or for something that it is busy with.
fn order_status(word: Option<&str>, has_certificate: bool) -> OrderStatus {
    match word {
        Some("ready") => OrderStatus::Ready,
        Some("valid") => OrderStatus::Valid,
        Some("invalid" | "expired" | "revoked" | "deactivated" | "canceled" | "cancelled" | "failed" | "rejected") => {
            OrderStatus::Invalid
        }
        None if has_certificate => OrderStatus::Valid,
        Some("pending") | None => OrderStatus::Pending,
        Some(_) => OrderStatus::Processing,
    }
}

/// An order of which nothing matters but one authorization.
pub(super) fn order_of(authorization: &str) -> Value {
    json!({"status": "pending", "authorizations": [authorization], "finalize": NOWHERE})
}

/// The authorization object (§7.1.4), with what challenges are made of.
pub(super) fn authorization(answer: &Answer, url: &str, key: &AccountKey) -> Result<AuthorizationView, AcmeError> {
    let what = "the authorization";
    let mut fields = Fields::read(answer, what)?;
    let Some(Value::Object(identifier)) = fields.take("identifier") else {
        return Err(fields.wrong("identifier", "is missing"));
    };
    let identifier = Fields::within(answer, what, identifier);
    let value = identifier
        .text("value")
        .filter(|value| value.len() <= 255)
        .ok_or_else(|| identifier.wrong("value", "is no name"))?;
    let (identifier, wildcard) = match identifier.word("type").as_deref() {
        Some("ip") => {
            let address = value.parse().map_err(|_| identifier.wrong("value", "is no address"))?;
            (Identifier::Ip(address), false)
        }
        Some("dns") | None => {
            let name = value.trim_end_matches('.').to_ascii_lowercase();
            // Some servers send the name of a wildcard with its star.
            match name.strip_prefix("*.") {
                Some(base) => (Identifier::Dns(base.to_owned()), true),
                None => (Identifier::Dns(name), fields.flag("wildcard")),
            }
        }
        Some(_) => return Err(identifier.wrong("type", "is none that was ordered")),
    };
    let status = match fields.word("status").as_deref() {
        Some("valid") => AuthorizationStatus::Valid,
        Some("invalid") => AuthorizationStatus::Invalid,
        Some("expired") => AuthorizationStatus::Expired,
        Some("deactivated") => AuthorizationStatus::Deactivated,
        Some("revoked") => AuthorizationStatus::Revoked,
        _ => AuthorizationStatus::Pending,
    };
    let mut challenges: Vec<ChallengeView> = Vec::new();
    let mut unfit = None;
    for entry in fields.list("challenges", MAX_CHALLENGES)? {
        let Value::Object(entry) = entry else { continue };
        match challenge(&Fields::within(answer, "a challenge", entry), key) {
            // One of a kind is enough, and all that instant-acme can choose from.
            Ok(Some(new)) if challenges.iter().any(|known| known.kind == new.kind) => {}
            Ok(Some(new)) => challenges.push(new),
            Ok(None) => {}
            Err(error) => unfit = unfit.or(Some(error)),
        }
    }
    match unfit {
        Some(error) if challenges.is_empty() && status == AuthorizationStatus::Pending => return Err(error),
        _ => {}
    }
    Ok(AuthorizationView {
        url: url.to_owned(),
        identifier,
        wildcard,
        status,
        expires: fields.timestamp("expires"),
        challenges,
    })
}

/// One challenge (§7.1.5); none where it has no type. A token is written into names and paths: it must be base64url.
fn challenge(fields: &Fields<'_>, key: &AccountKey) -> Result<Option<ChallengeView>, AcmeError> {
    let Some(kind) = fields.text("type").filter(|kind| kind.len() <= 64) else {
        return Ok(None);
    };
    let kind = ChallengeKind::of(kind);
    let url = match (&kind, fields.url("url")) {
        // Of what we never answer nothing matters.
        (ChallengeKind::Other(_), url) => url.ok().flatten().unwrap_or_default(),
        (_, url) => url?.ok_or_else(|| fields.wrong("url", "is missing"))?,
    };
    let token = fields.text("token").unwrap_or_default();
    if !kind.has_token() {
        let (status, error) = (challenge_status(fields), problem(fields));
        return Ok(Some(ChallengeView::new(kind, url, "", key, status, error)));
    }
    let is_token = (1..=MAX_TOKEN).contains(&token.len())
        && token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !is_token {
        return Err(fields.wrong("token", "is not base64url of at most 256 characters"));
    }
    Ok(Some(ChallengeView::new(
        kind,
        url,
        token,
        key,
        challenge_status(fields),
        problem(fields),
    )))
}

fn challenge_status(fields: &Fields<'_>) -> ChallengeStatus {
    match fields.word("status").as_deref() {
        Some("processing") => ChallengeStatus::Processing,
        Some("valid") => ChallengeStatus::Valid,
        Some("invalid") => ChallengeStatus::Invalid,
        _ => ChallengeStatus::Pending,
    }
}

fn problem(fields: &Fields<'_>) -> Option<Problem> {
    fields.get("error").cloned().and_then(Problem::from_value)
}

/// Reads the server's answer about a submitted challenge. It has accepted: a body without a status changes nothing.
pub(super) fn submitted(answer: &Answer) -> (ChallengeStatus, Option<Problem>) {
    match Fields::read(answer, "the challenge") {
        Ok(fields) => (challenge_status(&fields), problem(&fields)),
        Err(_) => (ChallengeStatus::Pending, None),
    }
}

/// A challenge for instant-acme, which asks for its own status and nothing else.
pub(super) fn normal_challenge(answer: &Answer) -> Value {
    json!({"type": "submitted", "url": answer.url, "token": "", "status": "pending"})
}

/// An authorization for instant-acme.
pub(super) fn normal_authorization(view: &AuthorizationView) -> Value {
    let challenges: Vec<Value> = view
        .challenges
        .iter()
        .map(|challenge| {
            json!({
                "type": challenge.kind.as_str(),
                "url": challenge.url,
                "token": challenge.token,
                "status": "pending",
            })
        })
        .collect();
    json!({"identifier": view.identifier.json(), "status": "pending", "challenges": challenges})
}

/// Refuses an account that is no longer in use (§7.1.2). Other fields do not matter.
pub(super) fn account(answer: &Answer) -> Result<Value, AcmeError> {
    let status = Fields::read(answer, "the account")
        .ok()
        .and_then(|fields| fields.word("status"));
    match status.as_deref() {
        Some(ended @ ("deactivated" | "revoked")) => Err(AcmeError::Unauthorized {
            detail: format!("it is {ended}"),
        }),
        _ => Ok(json!({"status": "valid"})),
    }
}

/// Returns the chain in its plain form: certificates and nothing else, as §11.4 wants it checked before it
/// is written to where keys are.
pub(super) fn chain(answer: &Answer) -> Result<String, AcmeError> {
    const MOST: usize = 20;
    let no_pem = || AcmeError::malformed(answer, &format!("the chain from {} is not PEM", answer.url));
    // Some servers write one certificate straight after another.
    let text = String::from_utf8_lossy(&answer.body).replace("----------BEGIN", "-----\n-----BEGIN");
    let blocks = pem::parse_many(&text).map_err(|_| no_pem())?;
    if blocks.len() != text.matches("-----BEGIN ").count() {
        return Err(no_pem());
    }
    if blocks.is_empty() || blocks.len() > MOST || blocks.iter().any(|block| block.tag() != "CERTIFICATE") {
        return Err(AcmeError::malformed(
            answer,
            &format!(
                "the chain from {} must be at most {MOST} certificates in PEM, and nothing else",
                answer.url
            ),
        ));
    }
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(pem::encode_many_config(&blocks, config))
}
