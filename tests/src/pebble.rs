//! Pebble, the ACME server of Let's Encrypt's developers: in memory, strict, and unkind on request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::assets::{Assets, Tool};
use crate::error::{Doing as _, Error};
use crate::pki::{Ca, Pair, write_private};
use crate::ports;
use crate::process::{Process, Signal};
use crate::web::Web;

const START: Duration = Duration::from_secs(30);

/// Behaviour of this Pebble. The default is the kindest: no bad nonces, no pauses, one profile of 90 days.
#[derive(Clone, Debug)]
pub struct Options {
    /// Per cent of good nonces that are refused.
    pub nonce_reject: u8,
    /// Per cent of authorizations that are used again.
    pub authz_reuse: u8,
    /// Challenges pass without being looked at.
    pub always_valid: bool,
    /// Seconds (at most, at random) before a challenge is validated.
    pub sleep: Option<u32>,
    /// Intermediates in a chain.
    pub chain_length: u8,
    /// Roots beside the first, offered as alternate chains.
    pub alternate_roots: u8,
    /// Key ids and base64url MAC keys; external account binding is required when there are any.
    pub external_accounts: Vec<(String, String)>,
    /// Names and validity in seconds. For an order that names none Pebble picks one **at random**, so that a test with
    /// more than one should name it.
    pub profiles: Vec<(String, u64)>,
    /// Domains that are rejected, with those below them.
    pub blocklist: Vec<String>,
    /// Port for the validation of HTTP-01: that of the operator's responder.
    pub http_port: Option<u16>,
    /// Port for the validation of TLS-ALPN-01.
    pub tls_port: Option<u16>,
    /// The DNS server that it asks.
    pub dns: Option<std::net::SocketAddr>,
    /// `Retry-After` of pending authorizations and orders, seconds.
    pub retry_after: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nonce_reject: 0,
            authz_reuse: 0,
            always_valid: false,
            sleep: None,
            chain_length: 1,
            alternate_roots: 0,
            external_accounts: Vec::new(),
            profiles: vec![("default".to_owned(), 90 * 24 * 3600)],
            blocklist: Vec::new(),
            http_port: None,
            tls_port: None,
            dns: None,
            retry_after: 1,
        }
    }
}

/// Pebble's record of a certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "PascalCase")]
pub struct CertificateStatus {
    /// `Valid` or `Revoked`.
    pub status: String,
    /// Hexadecimal, lower case.
    pub serial: String,
    /// PEM.
    pub certificate: String,
}

/// A running Pebble.
pub struct Pebble {
    folder: PathBuf,
    assets: Assets,
    options: Options,
    port: u16,
    management: u16,
    ca_pem: String,
    serving: Pair,
    process: Mutex<Option<Process>>,
}

impl Pebble {
    /// Starts it in a new folder below `folder` and waits until its directory is served.
    pub async fn start(folder: &Path, assets: &Assets, options: Options) -> Result<Self, Error> {
        let port = ports::free();
        let folder = folder.join(format!("pebble-{port}"));
        std::fs::create_dir_all(&folder).doing("making Pebble's folder")?;
        let ca = Ca::new("gatehouse-tests Pebble's own TLS")?;
        let pebble = Self {
            serving: ca.serving(&folder, "pebble")?,
            ca_pem: ca.pem(),
            folder,
            assets: assets.clone(),
            options,
            port,
            management: ports::free(),
            process: Mutex::new(None),
        };
        pebble.restart().await?;
        Ok(pebble)
    }

    /// `https://127.0.0.1:port/dir`
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address())
    }

    /// The directory by way of a [`crate::Proxy`]; Pebble's URLs follow the host that it was asked by.
    pub fn directory_through(&self, proxy: &crate::Proxy) -> String {
        format!("https://{}/dir", proxy.address())
    }

    /// Returns the address of the ACME API.
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The CA of Pebble's HTTPS, PEM: an issuer's `caBundle`. It signs no certificates of users.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Ends it (its memory with it) and starts it again: new roots, no accounts, no orders.
    pub async fn restart(&self) -> Result<(), Error> {
        self.stop();
        let mut process = self.spawn()?;
        let (web, url) = (Web::trusting(&self.ca_pem), self.directory());
        process
            .ready(START, || async {
                web.get(&url).await.ok().filter(|(status, _)| status.is_success())
            })
            .await?;
        *self.locked() = Some(process);
        Ok(())
    }

    /// Ends it at once.
    pub fn stop(&self) {
        self.locked().take();
    }

    /// Connections stay open, nothing answers, nothing is forgotten.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run again.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// The root that issues, PEM.
    pub async fn root(&self) -> Result<String, Error> {
        self.alternate_root(0).await
    }

    /// Root number `index`; 0 is the one that is used unless an alternate chain is asked for.
    pub async fn alternate_root(&self, index: u8) -> Result<String, Error> {
        self.managed(&format!("/roots/{index}")).await
    }

    /// Returns the status of a serial number (hexadecimal); `None` when Pebble never issued it.
    pub async fn status_of(&self, serial: &str) -> Result<Option<CertificateStatus>, Error> {
        let url = self.management_url(&format!("/cert-status-by-serial/{serial}"));
        let (status, body) = Web::trusting(&self.ca_pem).get(&url).await?;
        if status == http::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        serde_json::from_str(&body).map(Some).map_err(|error| Error::Web {
            url,
            message: format!("{error}: {body}"),
        })
    }

    /// Sets the answer of ARI for a certificate (PEM) from now on; `answer` may be any text, also one that is no JSON.
    pub async fn set_renewal_info(&self, certificate: &str, answer: &str) -> Result<(), Error> {
        let url = self.management_url("/set-renewal-info/");
        let body = json!({"Certificate": certificate, "ARIResponse": answer}).to_string();
        let (status, body) = Web::trusting(&self.ca_pem).post(&url, &body).await?;
        if status.is_success() {
            Ok(())
        } else {
            Err(Error::Web {
                url,
                message: format!("{status}: {body}"),
            })
        }
    }

    /// ARI's window for a certificate (PEM) from `start` to `end`.
    pub async fn set_renewal_window(
        &self,
        certificate: &str,
        start: jiff::Timestamp,
        end: jiff::Timestamp,
    ) -> Result<(), Error> {
        let answer = json!({"suggestedWindow": {"start": start.to_string(), "end": end.to_string()}});
        self.set_renewal_info(certificate, &answer.to_string()).await
    }

    /// Everything it said since its folder was made, over restarts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.join("pebble.log")
    }

    /// Requests so far by `METHOD /path`; a path is an endpoint's (`/order-plz`, `/my-order/`, `/chalZ/`).
    pub fn requests(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in self.log().lines() {
            if let Some((request, _)) = line.split_once(" -> calling handler()") {
                let words: Vec<&str> = request.split_whitespace().collect();
                if let [.., method, path] = words.as_slice() {
                    *counts.entry(format!("{method} {path}")).or_default() += 1;
                }
            }
        }
        counts
    }

    /// Orders made so far.
    pub fn orders(&self) -> usize {
        self.log().lines().filter(|line| line.contains("Added order ")).count()
    }

    /// Certificates issued so far.
    pub fn issued(&self) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains("Issued certificate serial "))
            .count()
    }

    async fn managed(&self, path: &str) -> Result<String, Error> {
        let url = self.management_url(path);
        let (status, body) = Web::trusting(&self.ca_pem).get(&url).await?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(Error::Web {
                url,
                message: format!("{status}: {body}"),
            })
        }
    }

    fn management_url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.management)
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = self.locked().as_mut() {
            process.signal(signal);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn spawn(&self) -> Result<Process, Error> {
        let options = &self.options;
        let profiles: serde_json::Map<String, serde_json::Value> = options
            .profiles
            .iter()
            .map(|(name, seconds)| (name.clone(), json!({"description": name, "validityPeriod": seconds})))
            .collect();
        let keys: BTreeMap<_, _> = options.external_accounts.iter().cloned().collect();
        let config = json!({"pebble": {
            "listenAddress": self.address().to_string(),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": self.serving.certificate,
            "privateKey": self.serving.key,
            // Nothing listens on a discarded port; a test that means HTTP-01 or TLS-ALPN-01 names its own.
            "httpPort": options.http_port.unwrap_or(9),
            "tlsPort": options.tls_port.unwrap_or(9),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": !keys.is_empty(),
            "externalAccountMACKeys": keys,
            "domainBlocklist": options.blocklist,
            "retryAfter": {"authz": options.retry_after, "order": options.retry_after},
            "keyAlgorithm": "ecdsa",
            "profiles": profiles,
        }});
        let file = self.folder.join("pebble.json");
        write_private(&file, &config.to_string())?;
        let mut command = Command::new(self.assets.path(Tool::Pebble));
        command.arg("-config").arg(&file);
        if let Some(dns) = options.dns {
            command.args(["-dnsserver", &dns.to_string()]);
        }
        command
            .env("PEBBLE_WFE_NONCEREJECT", options.nonce_reject.to_string())
            .env("PEBBLE_AUTHZREUSE", options.authz_reuse.to_string())
            .env("PEBBLE_CHAIN_LENGTH", options.chain_length.to_string())
            .env("PEBBLE_ALTERNATE_ROOTS", options.alternate_roots.to_string())
            .env("PEBBLE_VA_ALWAYS_VALID", if options.always_valid { "1" } else { "0" });
        match options.sleep {
            Some(seconds) => command.env("PEBBLE_VA_SLEEPTIME", seconds.to_string()),
            None => command.env("PEBBLE_VA_NOSLEEP", "1"),
        };
        Process::spawn("pebble", command, &self.log_file())
    }
}
