//! Pebble's challenge test server: a DNS server with set answers, which remembers its queries.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::assets::{Assets, Tool};
use crate::error::Error;
use crate::ports;
use crate::process::Process;
use crate::web::Web;

/// Only its DNS is used; HTTP-01 and TLS-ALPN-01 are answered by what is tested.
pub struct ChallengeServer {
    dns: SocketAddr,
    management: u16,
    _process: Process,
}

impl ChallengeServer {
    /// Starts it; every name has the address 127.0.0.1 until it is set.
    pub async fn start(folder: &Path, assets: &Assets) -> Result<Self, Error> {
        let (dns_port, management) = (ports::free(), ports::free());
        let mut command = Command::new(assets.path(Tool::PebbleChalltestsrv));
        command.args([
            "-http01=",
            "-https01=",
            "-tlsalpn01=",
            "-doh=",
            &format!("-dnsserver=127.0.0.1:{dns_port}"),
            &format!("-management=127.0.0.1:{management}"),
            "-defaultIPv4=127.0.0.1",
            "-defaultIPv6=",
        ]);
        let mut process = Process::spawn(
            "pebble-challtestsrv",
            command,
            &folder.join(format!("challtestsrv-{dns_port}.log")),
        )?;
        let web = Web::plain();
        let url = format!("http://127.0.0.1:{management}/dns-request-history");
        let probe = json!({"host": "probe.invalid"}).to_string();
        process
            .ready(Duration::from_secs(20), || async {
                web.post(&url, &probe)
                    .await
                    .ok()
                    .filter(|(status, _)| status.is_success())
            })
            .await?;
        Ok(Self {
            dns: ([127, 0, 0, 1], dns_port).into(),
            management,
            _process: process,
        })
    }

    /// Its DNS server.
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// The IPv4 or IPv6 address of a name.
    pub async fn set_address(&self, host: &str, address: IpAddr) -> Result<(), Error> {
        let path = if address.is_ipv4() { "/add-a" } else { "/add-aaaa" };
        self.post(path, &json!({"host": dotted(host), "addresses": [address.to_string()]}))
            .await
            .map(drop)
    }

    /// Forgets what [`Self::set_address`] said.
    pub async fn clear_addresses(&self, host: &str) -> Result<(), Error> {
        for path in ["/clear-a", "/clear-aaaa"] {
            self.post(path, &json!({"host": dotted(host)})).await?;
        }
        Ok(())
    }

    /// Adds a TXT record.
    pub async fn set_txt(&self, host: &str, value: &str) -> Result<(), Error> {
        self.post("/set-txt", &json!({"host": dotted(host), "value": value}))
            .await
            .map(drop)
    }

    /// Removes all TXT records of a name.
    pub async fn clear_txt(&self, host: &str) -> Result<(), Error> {
        self.post("/clear-txt", &json!({"host": dotted(host)})).await.map(drop)
    }

    /// Lets a name lead to another.
    pub async fn set_cname(&self, host: &str, target: &str) -> Result<(), Error> {
        self.post("/set-cname", &json!({"host": dotted(host), "target": dotted(target)}))
            .await
            .map(drop)
    }

    /// Every question about a name fails.
    pub async fn set_servfail(&self, host: &str) -> Result<(), Error> {
        self.post("/set-servfail", &json!({"host": dotted(host)}))
            .await
            .map(drop)
    }

    /// Heals [`Self::set_servfail`].
    pub async fn clear_servfail(&self, host: &str) -> Result<(), Error> {
        self.post("/clear-servfail", &json!({"host": dotted(host)}))
            .await
            .map(drop)
    }

    /// The questions about a name so far.
    pub async fn questions(&self, host: &str) -> Result<Vec<Value>, Error> {
        let body = self
            .post("/dns-request-history", &json!({"host": dotted(host)}))
            .await?;
        Ok(serde_json::from_str::<Option<Vec<Value>>>(&body)
            .ok()
            .flatten()
            .unwrap_or_default())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<String, Error> {
        let url = format!("http://127.0.0.1:{}{path}", self.management);
        let (status, answer) = Web::plain().post(&url, &body.to_string()).await?;
        if status.is_success() {
            Ok(answer)
        } else {
            Err(Error::Web {
                url,
                message: format!("{status}: {answer}"),
            })
        }
    }
}

/// The server compares names as they are in a query, with their last dot.
fn dotted(host: &str) -> String {
    format!("{}.", host.trim_end_matches('.'))
}
