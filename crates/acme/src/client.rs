//! One ACME server: its directory and its nonces (RFC 8555 §6.5, §7.1, §7.2).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::directory::Directory;
use super::error::AcmeError;
use super::http::{Answer, Endpoint, HttpClient, Outgoing, authority};

/// Nonces kept for later requests: some orders' worth. Older ones are dropped first, since servers forget them.
const MAX_NONCES: usize = 64;

/// A CA may add a profile or change its terms: read the directory again once a day.
const DIRECTORY_LIFE: Duration = Duration::from_hours(24);

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

    /// Returns the directory if it offers `profile`; it is read again when the kept one does not.
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
        Directory::read(&answer)
    }

    /// Sends one request; its answer may have any status. The nonce that it brings goes to the pool.
    pub(super) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Answer, AcmeError> {
        let mut answer = self.ask(outgoing).await?;
        self.keep(answer.nonce.take());
        Ok(answer)
    }

    /// A resource of the directory that does not exist, or cannot be reached, makes the directory doubtful: it may have moved.
    async fn ask(&self, outgoing: Outgoing<'_>) -> Result<Answer, AcmeError> {
        let endpoint = outgoing.endpoint;
        let result = match self.http.send(outgoing).await {
            // Only the directory's own URL is of the spec: each other one is the server's.
            Err(AcmeError::InsecureUrl { url }) => Err(AcmeError::InsecureAnswer {
                host: self
                    .url
                    .parse()
                    .map_or_else(|_| self.url.clone(), |url| authority(&url)),
                url,
            }),
            other => other,
        };
        let doubtful = match &result {
            Ok(answer) => matches!(answer.status, 404 | 410),
            Err(error) => matches!(
                error,
                AcmeError::Network { .. } | AcmeError::Tls { .. } | AcmeError::InsecureAnswer { .. }
            ),
        };
        if doubtful && endpoint.is_in_directory() {
            self.directory.lock().await.fresh = None;
        }
        result
    }

    /// Returns a nonce of the pool, the newest, or a new one of the server's.
    pub(super) async fn nonce(&self) -> Result<String, AcmeError> {
        if let Some(nonce) = self.nonces().pop() {
            return Ok(nonce);
        }
        let directory = self.directory().await?;
        let outgoing = Outgoing {
            method: Method::HEAD,
            ..Outgoing::get(&directory.new_nonce, Endpoint::NewNonce)
        };
        let mut answer = self.ask(outgoing).await?;
        if !answer.is_success() {
            return Err(AcmeError::from_answer(&answer, false));
        }
        answer
            .nonce
            .take()
            .ok_or_else(|| AcmeError::malformed(&answer, "newNonce gave no Replay-Nonce"))
    }

    fn keep(&self, nonce: Option<String>) {
        let mut nonces = self.nonces();
        nonces.extend(nonce);
        if nonces.len() > MAX_NONCES {
            nonces.remove(0);
        }
    }

    fn nonces(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        // A list of nonces is complete at every moment, also after a panic elsewhere.
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
