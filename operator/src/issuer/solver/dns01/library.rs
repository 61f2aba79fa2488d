//! Providers that the dns-update library speaks to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use dns_update::{DnsRecord, DnsRecordType, DnsUpdater};
use gatehouse_crds::solver::ProviderType;
use hickory_proto::rr::Name;
use http::Uri;
use zeroize::Zeroizing;

use super::{
    super::{Reach, SolverError},
    Record, TxtWriter, catalogue,
    fields::Fields,
    plain,
};

/// For one call. The library waits up to a minute when it is told `Retry-After`; we ask again later instead.
const PATIENCE: Duration = Duration::from_secs(45);

/// A provider with its credentials.
pub(in super::super) struct Library {
    kind: ProviderType,
    updater: DnsUpdater,
    ttl: u32,
    /// To strike them out of messages.
    secrets: Vec<Zeroizing<String>>,
    /// Hosts that the user wrote: checked before each call.
    hosts: Vec<(String, u16)>,
    reach: Reach,
    locks: Arc<RecordLocks>,
}

impl Library {
    /// `source` names the Secret in messages.
    pub(in super::super) async fn new(
        kind: ProviderType,
        fields: HashMap<String, Zeroizing<String>>,
        source: &str,
        reach: Reach,
        locks: Arc<RecordLocks>,
    ) -> Result<Self, SolverError> {
        let entry = catalogue::entry(kind);
        let fields = Fields::new(kind, &entry, fields, source)?;
        let hosts = fields.hosts(kind)?;
        for (host, port) in &hosts {
            reach.resolve(host, *port).await?;
        }
        let secrets = fields.secrets();
        let updater = (entry.build)(&fields).map_err(|error| SolverError::InvalidSolver {
            field: kind.as_str().into(),
            detail: strike_out(&text(&error), &secrets),
        })?;
        Ok(Self {
            kind,
            updater,
            ttl: entry.ttl,
            secrets,
            hosts,
            reach,
            locks,
        })
    }

    async fn call(
        &self,
        record: &Record,
        call: impl Future<Output = dns_update::Result<()>> + Send,
    ) -> Result<(), SolverError> {
        for (host, port) in &self.hosts {
            self.reach.resolve(host, *port).await?;
        }
        let lock = self.locks.of(self.unit(record));
        let _held = lock.lock().await;
        let server = self.kind.as_str().to_owned();
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.explain(record, error)),
            Err(_) => Err(SolverError::DnsUnreachable {
                server,
                detail: format!("no answer within {} s", PATIENCE.as_secs()),
            }),
        }
    }

    /// What the API reads and writes as one, so that two writers at once would lose a value: mostly a record
    /// set, and with a few the whole zone.
    fn unit<'a>(&self, record: &'a Record) -> &'a Name {
        match self.kind {
            ProviderType::Cpanel | ProviderType::Joker | ProviderType::Namecheap => &record.zone,
            _ => &record.name,
        }
    }

    fn explain(&self, record: &Record, error: dns_update::Error) -> SolverError {
        let server = self.kind.as_str().to_owned();
        let detail = strike_out(&text(&error), &self.secrets);
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
                detail: format!("{server} has no zone {} under these credentials", plain(&record.zone)),
            },
            dns_update::Error::Api(message) if message.starts_with("No ") && message.contains("zone found") => {
                SolverError::DnsZoneNotFound {
                    name: plain(&record.name),
                    detail,
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

/// Some APIs take their token in the URL, and some answer with what they were sent: queries and credentials go.
fn strike_out(message: &str, secrets: &[Zeroizing<String>]) -> String {
    let mut message = message.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        message = message.replace(secret.as_str(), "…");
    }
    let words = message.split(' ').map(|word| match word.split_once('?') {
        Some((start, _)) if word.contains("://") => format!("{start}?…"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Host and port of an endpoint that is written with or without a scheme.
pub(super) fn host_port(endpoint: &str) -> Option<(String, u16)> {
    let with_scheme = if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!("https://{endpoint}")
    };
    let uri: Uri = with_scheme.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']);
    let port = uri
        .port_u16()
        .unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// One writer at a time for each record set or zone, in all Issuers together.
#[derive(Debug, Default)]
pub(in super::super) struct RecordLocks(Mutex<HashMap<Name, Weak<tokio::sync::Mutex<()>>>>);

impl RecordLocks {
    fn of(&self, name: &Name) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(name.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn credentials_and_queries_are_struck_out_of_messages() {
        let secrets = [
            Zeroizing::new("s3cret-token".to_owned()),
            Zeroizing::new("no".to_owned()),
        ];
        assert_eq!(
            strike_out(
                "Failed to send request to https://api.test/update?key=a%20b: not with s3cret-token",
                &secrets
            ),
            "Failed to send request to https://api.test/update?… not with …"
        );
    }

    #[test]
    fn endpoints_are_read_with_and_without_a_scheme() {
        for (endpoint, expected) in [
            ("https://a.test", Some(("a.test", 443))),
            ("http://a.test/x", Some(("a.test", 80))),
            ("a.test:8443", Some(("a.test", 8443))),
            ("http://[::1]:81", Some(("::1", 81))),
            ("http://", None),
        ] {
            let read = host_port(endpoint);
            assert_eq!(
                read.as_ref().map(|(host, port)| (host.as_str(), *port)),
                expected,
                "{endpoint}"
            );
        }
    }

    #[test]
    fn locks_are_shared_while_they_are_held_and_then_forgotten() {
        let locks = RecordLocks::default();
        let [a, b] = ["a.test.", "b.test."].map(|name| Name::from_ascii(name).unwrap());
        let first = locks.of(&a);
        assert!(Arc::ptr_eq(&first, &locks.of(&a)));
        drop(first);
        let _b = locks.of(&b);
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
