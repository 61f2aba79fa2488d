//! Providers that the dns-update library speaks to.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use dns_update::{DnsRecord, DnsRecordType, DnsUpdater};
use gatehouse_crds::solver::ProviderType;
use hickory_proto::rr::Name;
use zeroize::Zeroizing;

use super::{
    super::{SolverError, http::Http},
    Record, TxtWriter, catalogue,
    fields::Fields,
    locks::{AccountId, RecordLocks},
    plain,
    redact::strike_out,
    transport::{Guarded, Spent},
    visibility::{Visibility, Zones},
};

/// Longest wait for one call, and for its turn. The library waits up to a minute when a server asks for it by
/// `Retry-After`; we ask again later instead.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);

/// A provider with its credentials.
pub(in super::super) struct Library {
    kind: ProviderType,
    updater: DnsUpdater,
    ttl: u32,
    /// To strike them out of messages.
    secrets: Vec<Zeroizing<String>>,
    account: AccountId,
    visibility: Visibility,
    http: Http,
    locks: Arc<RecordLocks>,
}

/// Holds a provider's fields and their source.
pub(in super::super) struct Origin {
    pub(in super::super) fields: HashMap<String, Zeroizing<String>>,
    /// Names the Secret in messages.
    pub(in super::super) source: String,
}

impl Library {
    pub(in super::super) fn new(
        kind: ProviderType,
        origin: Origin,
        http: Http,
        locks: Arc<RecordLocks>,
    ) -> Result<Self, SolverError> {
        let entry = catalogue::entry(kind);
        let fields = Fields::new(kind, &entry, origin.fields, &origin.source)?;
        let secrets = fields.secrets();
        let invalid = |error: &dns_update::Error| SolverError::InvalidSolver {
            field: kind.as_str().into(),
            detail: strike_out(&text(error), &secrets),
        };
        let updater = (entry.build)(&fields).map_err(|error| invalid(&error))?;
        let private = fields
            .flag("privateZoneOnly")
            .and_then(|route53| Ok(route53 || fields.flag("privateZone")?));
        let visibility = if private.map_err(|error| invalid(&error))? {
            Visibility::Private
        } else {
            Visibility::Public
        };
        Ok(Self {
            kind,
            updater,
            ttl: entry.ttl,
            account: fields.account(kind),
            visibility,
            secrets,
            http,
            locks,
        })
    }

    /// The account, to keep what is found out with it apart from others.
    pub(in super::super) const fn account(&self) -> &AccountId {
        &self.account
    }

    async fn call(
        &self,
        record: &Record,
        call: impl Future<Output = dns_update::Result<()>> + Send,
    ) -> Result<(), SolverError> {
        let unreachable = |detail: String| SolverError::DnsUnreachable {
            server: self.kind.as_str().to_owned(),
            detail,
        };
        let lock = self.locks.of(&self.account, self.unit(record));
        let turn = tokio::time::timeout(CALL_TIMEOUT, lock.lock()).await;
        let _held = turn.map_err(|_| unreachable("other changes of the same records take too long".into()))?;
        let zones = Zones::new(self.kind, &plain(&record.name), self.visibility);
        let guarded = Arc::new(Guarded::new(self.http.clone(), zones));
        let outcome = tokio::time::timeout(CALL_TIMEOUT, dns_update_http::scope(guarded.clone(), call)).await;
        let spent = guarded.spent();
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.explain(record, error, spent)),
            Err(_) => Err(spent
                .failure
                .unwrap_or_else(|| unreachable(format!("no answer within {} s", CALL_TIMEOUT.as_secs())))),
        }
    }

    /// Unit that the API reads and writes at once, so that two concurrent writers would lose a value: mostly a record
    /// set, and with a few the whole zone.
    fn unit<'a>(&self, record: &'a Record) -> &'a Name {
        match self.kind {
            ProviderType::Cpanel | ProviderType::Joker | ProviderType::Namecheap => &record.zone,
            _ => &record.name,
        }
    }

    fn explain(&self, record: &Record, error: dns_update::Error, spent: Spent) -> SolverError {
        if let Some(failure) = spent.failure {
            return failure;
        }
        let server = self.kind.as_str().to_owned();
        let detail = strike_out(&text(&error), self.secrets.iter().chain(&spent.sent));
        let with_hint = |detail: String| match spent.zones.hint() {
            Some(hint) => format!("{detail}; {hint}"),
            None => detail,
        };
        match error {
            dns_update::Error::Unauthorized => SolverError::DnsRefused {
                server,
                detail: "it does not accept the credentials".into(),
            },
            dns_update::Error::Api(message) if message.starts_with("HTTP 403") => {
                SolverError::DnsRefused { server, detail }
            }
            dns_update::Error::NotFound => SolverError::DnsZoneNotFound {
                name: plain(&record.name),
                detail: with_hint(format!(
                    "{server} has no zone {} under these credentials",
                    plain(&record.zone)
                )),
            },
            dns_update::Error::Api(message) if message.starts_with("No ") && message.contains("zone") => {
                SolverError::DnsZoneNotFound {
                    name: plain(&record.name),
                    detail: with_hint(detail),
                }
            }
            dns_update::Error::Api(message) if message.starts_with("Failed to send request") => {
                SolverError::DnsUnreachable { server, detail }
            }
            _ => SolverError::DnsFailed { server, detail },
        }
    }
}

#[async_trait]
impl TxtWriter for Library {
    async fn add(&self, record: &Record, value: &str) -> Result<(), SolverError> {
        let (name, zone) = (plain(&record.name), plain(&record.zone));
        let values = vec![DnsRecord::TXT(value.to_owned())];
        let call = self
            .updater
            .add_to_rrset(name.as_str(), DnsRecordType::TXT, self.ttl, values, zone.as_str());
        self.call(record, call).await
    }

    async fn remove(&self, record: &Record, value: &str) -> Result<(), SolverError> {
        let (name, zone) = (plain(&record.name), plain(&record.zone));
        let values = vec![DnsRecord::TXT(value.to_owned())];
        let call = self
            .updater
            .remove_from_rrset(name.as_str(), DnsRecordType::TXT, values, zone.as_str());
        self.call(record, call).await
    }
}

fn text(error: &dns_update::Error) -> String {
    match error {
        dns_update::Error::Protocol(detail)
        | dns_update::Error::Parse(detail)
        | dns_update::Error::Client(detail)
        | dns_update::Error::Response(detail)
        | dns_update::Error::Api(detail)
        | dns_update::Error::Serialize(detail)
        | dns_update::Error::Unsupported(detail) => detail.clone(),
        other => format!("{other:?}"),
    }
}
