//! [acme-dns](https://github.com/joohoi/acme-dns): a server that does nothing but hold challenges.
//!
//! `_acme-challenge.<name>` is a CNAME to the account's name at the server, once and forever.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use gatehouse_crds::solver::AcmeDns;
use hickory_proto::rr::Name;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    super::{
        SolverError,
        http::{Http, Limits},
        select::{in_zone, normal},
    },
    Record, TxtWriter,
    form::Form,
};

/// acme-dns answers with the value that it was given.
const LIMITS: Limits = Limits {
    body: 64 * 1024,
    time: Duration::from_secs(15),
};

/// As acme-dns's `/register` returns it.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Credentials {
    username: String,
    password: String,
    fulldomain: String,
    subdomain: String,
}

struct Api {
    http: Http,
    update: Uri,
    /// The Secret and its key, for messages.
    secret: (String, String),
}

/// One account.
pub(super) struct AcmeDnsAccount {
    api: Arc<Api>,
    credentials: Credentials,
}

/// The accounts of a solver, by domain.
pub(in super::super) struct AcmeDnsAccounts {
    accounts: BTreeMap<String, Arc<AcmeDnsAccount>>,
    secret: (String, String),
}

impl AcmeDnsAccounts {
    pub(in super::super) fn new(spec: &AcmeDns, json: &Zeroizing<String>, http: Http) -> Result<Self, SolverError> {
        let secret = (
            spec.account_secret_ref.name.clone(),
            spec.account_secret_ref.key.clone(),
        );
        // serde's own message would quote the value that it stumbled over.
        let parsed: BTreeMap<String, Credentials> = serde_json::from_str(json).map_err(|error| {
            malformed(&secret, format!(
                "is not a JSON object from domain to {{username, password, fulldomain, subdomain}} (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        let invalid = |detail: String| SolverError::InvalidSolver {
            field: "acmeDNS.host".into(),
            detail,
        };
        Form::Host.check(&spec.host).map_err(invalid)?;
        let update = format!("{}/update", spec.host.trim_end_matches('/'))
            .parse::<Uri>()
            .map_err(|_| {
                invalid(format!(
                    "{} is not a URL: write for example https://auth.acme-dns.io",
                    spec.host
                ))
            })?;
        let api = Arc::new(Api {
            http,
            update,
            secret: secret.clone(),
        });
        let accounts = parsed
            .into_iter()
            .map(|(domain, credentials)| {
                (
                    normal(&domain),
                    Arc::new(AcmeDnsAccount {
                        api: api.clone(),
                        credentials,
                    }),
                )
            })
            .collect();
        Ok(Self { accounts, secret })
    }

    /// The account of the longest domain that holds the name.
    pub(super) fn of(&self, domain: &str) -> Result<Arc<AcmeDnsAccount>, SolverError> {
        let fitting = self.accounts.iter().filter(|(key, _)| in_zone(domain, key));
        fitting
            .max_by_key(|(key, _)| key.len())
            .map(|(_, account)| account.clone())
            .ok_or_else(|| {
                malformed(
                    &self.secret,
                    format!("has no account for {domain}: register one at the acme-dns server and add it"),
                )
            })
    }
}

fn malformed((name, key): &(String, String), detail: String) -> SolverError {
    SolverError::SecretMalformed {
        name: name.clone(),
        key: key.clone(),
        detail,
    }
}

impl AcmeDnsAccount {
    /// URL of the account's values at the server.
    pub(super) fn record(&self) -> Result<Name, SolverError> {
        Name::from_ascii(format!("{}.", self.credentials.fulldomain.trim_end_matches('.')))
            .map(|name| name.to_lowercase())
            .map_err(|_| malformed(&self.api.secret, "has a fulldomain that is not a DNS name".into()))
    }
}

#[async_trait]
impl TxtWriter for AcmeDnsAccount {
    async fn add(&self, _: &Record, value: &str) -> Result<(), SolverError> {
        let body = serde_json::json!({"subdomain": self.credentials.subdomain, "txt": value});
        let request = Request::post(self.api.update.clone())
            .header("content-type", "application/json")
            .header("x-api-user", &self.credentials.username)
            .header("x-api-key", &self.credentials.password)
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|_| {
                malformed(
                    &self.api.secret,
                    "has a username or password that cannot be sent".into(),
                )
            })?;
        let server = self.api.update.host().unwrap_or_default().to_owned();
        let status = self.api.http.send(request, LIMITS).await?.status();
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(SolverError::DnsRefused {
                server,
                detail: format!(
                    "it does not take the account in the Secret {}, key {} (HTTP {})",
                    self.api.secret.0,
                    self.api.secret.1,
                    status.as_u16()
                ),
            }),
            status => Err(SolverError::DnsFailed {
                server,
                detail: format!("HTTP {}", status.as_u16()),
            }),
        }
    }

    /// acme-dns keeps the last two values and drops the older one itself: there is nothing to call.
    async fn remove(&self, _: &Record, _: &str) -> Result<(), SolverError> {
        Ok(())
    }
}
