//! One ACME server: its directory, its nonces, and signed requests (RFC 8555 §6, §7.1, §7.2).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use std::sync::Arc;

use super::error::AcmeError;
use super::http::{Answer, Endpoint, HttpClient, Outgoing};
use super::key::{AccountKey, encode};

/// How often a refused nonce is replaced by the one of the refusal (RFC 8555 §6.5) before giving up: with three
/// of ten refused, one request in fifty thousand still fails.
const NONCE_RETRIES: u32 = 8;

/// Nonces kept for later requests: some orders' worth. Older ones are dropped first, since servers forget them.
const MAX_NONCES: usize = 64;

/// A CA may add a profile or change its terms: read the directory anew once a day.
const DIRECTORY_LIFE: Duration = Duration::from_hours(24);

/// RFC 8555 §7.1.1, RFC 9773 §4, and the profiles extension. Fields that we don't use are not here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    pub(super) new_nonce: String,
    pub(super) new_account: String,
    pub(super) new_order: String,
    /// Absent where the CA has no ARI.
    #[serde(default)]
    pub(super) renewal_info: Option<String>,
    #[serde(default)]
    pub meta: DirectoryMeta,
}

/// What a CA says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DirectoryMeta {
    pub terms_of_service: Option<String>,
    pub external_account_required: bool,
    /// Name to description; empty where the CA has no profiles.
    pub profiles: BTreeMap<String, String>,
}

#[derive(Default)]
struct DirectorySlot {
    fresh: Option<(Instant, Arc<Directory>)>,
    failed: Option<(Instant, AcmeError)>,
}

/// A client for one directory URL. Share it: all accounts and orders at a server use its connections and nonces.
pub struct AcmeClient {
    http: HttpClient,
    url: String,
    directory: tokio::sync::Mutex<DirectorySlot>,
    nonces: Mutex<Vec<String>>,
}

impl fmt::Debug for AcmeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AcmeClient").field(&self.url).finish()
    }
}

/// Who signs: a key alone for newAccount, else an account (§6.2).
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
    pub(super) accept: Option<&'static str>,
}

impl Directory {
    /// Whether the CA gives renewal information (RFC 9773).
    pub fn has_renewal_info(&self) -> bool {
        self.renewal_info.is_some()
    }
}

impl AcmeClient {
    /// Sends nothing yet.
    pub fn new(http: HttpClient, directory_url: &str) -> Self {
        Self {
            http,
            url: directory_url.to_owned(),
            directory: tokio::sync::Mutex::default(),
            nonces: Mutex::default(),
        }
    }

    /// The directory, asked for once a day and after a sign that it changed. Callers who come
    /// together share one request, and its failure.
    pub async fn directory(&self) -> Result<Arc<Directory>, AcmeError> {
        let asked = Instant::now();
        let mut slot = self.directory.lock().await;
        if let Some((read, directory)) = &slot.fresh
            && read.elapsed() < DIRECTORY_LIFE
        {
            return Ok(directory.clone());
        }
        if let Some((failed, error)) = &slot.failed
            && *failed >= asked
        {
            return Err(error.clone());
        }
        match self.read_directory().await {
            Ok(directory) => {
                let directory = Arc::new(directory);
                slot.fresh = Some((Instant::now(), directory.clone()));
                slot.failed = None;
                Ok(directory)
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// The directory if it offers `profile`, read anew when the kept one does not.
    pub(super) async fn directory_with_profile(&self, profile: &str) -> Result<Arc<Directory>, AcmeError> {
        let directory = self.directory().await?;
        if directory.meta.profiles.contains_key(profile) {
            return Ok(directory);
        }
        let settled = Duration::from_mins(1);
        let mut slot = self.directory.lock().await;
        slot.fresh.take_if(|(read, _)| read.elapsed() > settled);
        drop(slot);
        self.directory().await
    }

    async fn read_directory(&self) -> Result<Directory, AcmeError> {
        let answer = self.http.send(Outgoing::get(&self.url, Endpoint::Directory)).await?;
        if !answer.is_success() {
            return Err(AcmeError::from_answer(&answer, false));
        }
        answer.json()
    }

    /// An unsigned GET (ARI). Any status.
    pub(super) async fn get(&self, endpoint: Endpoint, url: &str) -> Result<Answer, AcmeError> {
        let result = self.http.send(Outgoing::get(url, endpoint)).await;
        self.doubt_directory(endpoint, &result).await;
        result
    }

    /// Signs and sends, again with a new nonce when the server refuses the nonce; gives the answer
    /// when its status is 2xx, else the error.
    pub(super) async fn post(&self, signed: Signed<'_>) -> Result<Answer, AcmeError> {
        let mut nonce = self.nonces().pop();
        for _ in 0..=NONCE_RETRIES {
            let fresh = match nonce.take() {
                Some(nonce) => nonce,
                None => self.new_nonce().await?,
            };
            let result = self
                .http
                .send(Outgoing {
                    method: Method::POST,
                    url: signed.url,
                    endpoint: signed.endpoint,
                    accept: signed.accept,
                    body: Some(signed.jws(&fresh)?),
                })
                .await;
            self.doubt_directory(signed.endpoint, &result).await;
            let mut answer = result?;
            nonce = answer.nonce.take();
            if !answer.is_success() {
                let error = AcmeError::from_answer(&answer, signed.endpoint.is_of_order());
                if matches!(error, AcmeError::BadNonce { .. }) {
                    continue;
                }
                self.keep(nonce);
                return Err(error);
            }
            self.keep(nonce);
            return Ok(answer);
        }
        Err(AcmeError::BadNonce {
            attempts: NONCE_RETRIES + 1,
        })
    }

    async fn new_nonce(&self) -> Result<String, AcmeError> {
        let directory = self.directory().await?;
        let result = self
            .http
            .send(Outgoing {
                method: Method::HEAD,
                ..Outgoing::get(&directory.new_nonce, Endpoint::NewNonce)
            })
            .await;
        self.doubt_directory(Endpoint::NewNonce, &result).await;
        let mut answer = result?;
        if !answer.is_success() {
            return Err(AcmeError::from_answer(&answer, false));
        }
        answer
            .nonce
            .take()
            .ok_or_else(|| AcmeError::malformed(&answer, "newNonce gave no Replay-Nonce"))
    }

    /// A resource of the directory that is not there, or cannot be reached, may have moved.
    async fn doubt_directory(&self, endpoint: Endpoint, result: &Result<Answer, AcmeError>) {
        let doubtful = match result {
            Ok(answer) => matches!(answer.status, 404 | 410),
            Err(error) => matches!(error, AcmeError::Network { .. } | AcmeError::Tls { .. }),
        };
        if doubtful && endpoint.is_in_directory() {
            self.directory.lock().await.fresh = None;
        }
    }

    fn keep(&self, nonce: Option<String>) {
        let mut nonces = self.nonces();
        nonces.extend(nonce);
        if nonces.len() > MAX_NONCES {
            nonces.remove(0);
        }
    }

    fn nonces(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        // A list of nonces is whole at every moment, whoever panicked with it in hand.
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signed<'_> {
    /// A flattened JWS (§6.2, RFC 7515 §7.2.2).
    fn jws(&self, nonce: &str) -> Result<Vec<u8>, AcmeError> {
        let (key, header) = match self.signer {
            Signer::Key(key) => (
                key,
                json!({"alg": key.algorithm(), "jwk": key.jwk(), "nonce": nonce, "url": self.url}),
            ),
            Signer::Account(key, uri) => (
                key,
                json!({"alg": key.algorithm(), "kid": uri, "nonce": nonce, "url": self.url}),
            ),
        };
        let protected = encode(header.to_string().as_bytes());
        let payload = self
            .payload
            .map(|payload| encode(payload.to_string().as_bytes()))
            .unwrap_or_default();
        let signature = key.sign(format!("{protected}.{payload}").as_bytes())?;
        let jws = json!({
            "protected": protected,
            "payload": payload,
            "signature": encode(&signature),
        });
        Ok(jws.to_string().into_bytes())
    }
}
