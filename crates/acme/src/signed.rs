//! Our one signed request, for what instant-acme cannot do.
//!
//! That is: a new account with a key that was kept before, a contact and a binding; the same account looked up; another
//! key for it; an order that ends at a given time; the chains beside the first. And its own requests, signed again, where the
//! account's key is not P-256 (RSA: accounts that cert-manager made).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::AcmeClient;
use super::error::AcmeError;
use super::http::{Answer, Endpoint, Outgoing};
use super::key::{AccountKey, encode};

/// Number of replacements for a refused nonce (RFC 8555 §6.5) before giving up: with three
/// of ten refused, one request in fifty thousand still fails.
pub(super) const NONCE_ATTEMPTS: u32 = 9;

/// Signer of a request: a key alone for newAccount, else an account (§6.2).
#[derive(Clone, Copy)]
pub(super) enum Signer<'a> {
    Key(&'a AccountKey),
    Account(&'a AccountKey, &'a str),
}

/// A signed request; without a payload it is a POST-as-GET (§6.3).
pub(super) struct Signed<'a> {
    pub(super) signer: Signer<'a>,
    pub(super) endpoint: Endpoint,
    pub(super) url: &'a str,
    pub(super) payload: Option<&'a Value>,
}

impl AcmeClient {
    /// Signs and sends, again with a new nonce when the server refuses the nonce; gives the answer
    /// when its status is 2xx, else the error.
    pub(super) async fn post(&self, signed: Signed<'_>) -> Result<Answer, AcmeError> {
        for _ in 0..NONCE_ATTEMPTS {
            let nonce = self.nonce().await?;
            let body = jws(signed.signer, Some(&nonce), signed.url, signed.payload)?;
            let body = body.to_string().into_bytes();
            let answer = self.send(Outgoing::post(signed.url, signed.endpoint, body)).await?;
            if answer.is_success() {
                return Ok(answer);
            }
            match AcmeError::from_answer(&answer, signed.endpoint.is_of_order()) {
                AcmeError::BadNonce { .. } => {}
                error => return Err(error),
            }
        }
        Err(AcmeError::BadNonce {
            attempts: NONCE_ATTEMPTS,
        })
    }
}

/// A flattened JWS (§6.2, RFC 7515 §7.2.2).
pub(super) fn jws(
    signer: Signer<'_>,
    nonce: Option<&str>,
    url: &str,
    payload: Option<&Value>,
) -> Result<Value, AcmeError> {
    let payload = payload.map(|payload| encode(payload.to_string().as_bytes()));
    flattened(signer, nonce, url, &payload.unwrap_or_default())
}

fn flattened(signer: Signer<'_>, nonce: Option<&str>, url: &str, payload: &str) -> Result<Value, AcmeError> {
    let (key, (name, identity)) = match signer {
        Signer::Key(key) => (key, ("jwk", key.jwk().clone())),
        Signer::Account(key, uri) => (key, ("kid", json!(uri))),
    };
    let mut header = Map::new();
    header.insert("alg".to_owned(), json!(key.algorithm()));
    header.insert(name.to_owned(), identity);
    header.insert("url".to_owned(), json!(url));
    if let Some(nonce) = nonce {
        header.insert("nonce".to_owned(), json!(nonce));
    }
    let header = Value::from(header);
    let protected = encode(header.to_string().as_bytes());
    let signature = key.sign(format!("{protected}.{payload}").as_bytes())?;
    Ok(json!({"protected": protected, "payload": payload, "signature": encode(&signature)}))
}

/// Signs again with the account's key what instant-acme signed with a substitute.
pub(super) fn sign_again(body: &[u8], key: &AccountKey) -> Result<Vec<u8>, AcmeError> {
    #[derive(Deserialize)]
    struct Jws {
        protected: String,
        payload: String,
    }
    let unknown = || AcmeError::Invalid("instant-acme signs in a form that is not known".to_owned());
    let jws: Jws = serde_json::from_slice(body).map_err(|_| unknown())?;
    let header = BASE64_URL_SAFE_NO_PAD.decode(&jws.protected).map_err(|_| unknown())?;
    let header: Map<String, Value> = serde_json::from_slice(&header).map_err(|_| unknown())?;
    let text = |name| header.get(name).and_then(Value::as_str);
    let (Some(uri), Some(url)) = (text("kid"), text("url")) else {
        return Err(unknown());
    };
    let signed = flattened(Signer::Account(key, uri), text("nonce"), url, &jws.payload)?;
    Ok(signed.to_string().into_bytes())
}
