//! The solver: finds the place, writes, asks.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use gatehouse_crds::solver::CnameStrategy;
use hickory_proto::rr::Name;
use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        Challenge, Identifier, Readiness, Solver, SolverError,
        select::{in_zone, normal},
    },
    AcmeDnsAccounts, Lookup, Record, TxtWriter, plain,
    propagation::{self, Deadline},
    zone::{Aliases, Zones},
};

/// Longest search for a zone: a name has many labels, and each question may meet silent servers.
const LOCATE: Duration = Duration::from_secs(30);

/// Parts that all DNS-01 solvers share.
#[derive(Debug, Default)]
pub(in super::super) struct Shared {
    zones: Zones,
}

/// Policy for the record's name and zone.
pub(in super::super) enum Place {
    /// `_acme-challenge.<name>`, in the zone that DNS shows.
    Zone {
        writer: Arc<dyn TxtWriter>,
        cnames: CnameStrategy,
        zone: Option<Name>,
    },
    /// The acme-dns account of the name.
    AcmeDns(AcmeDnsAccounts),
}

/// One `dns01` entry of an Issuer, with its credentials.
pub(in super::super) struct Dns01Solver {
    place: Place,
    lookup: Lookup,
    timeout: SignedDuration,
    /// `selector.dnsZones`: the credentials are not used for anything else.
    zones: Vec<String>,
    shared: Arc<Shared>,
}

impl Dns01Solver {
    pub(in super::super) fn new(
        place: Place,
        lookup: Lookup,
        timeout: SignedDuration,
        zones: &[String],
        shared: Arc<Shared>,
    ) -> Self {
        let zones = zones.iter().map(|zone| normal(zone)).collect();
        Self {
            place,
            lookup,
            timeout,
            zones,
            shared,
        }
    }

    /// The domain of the challenge, when the solver may answer for it.
    fn domain<'a>(&self, challenge: &'a Challenge) -> Result<&'a str, SolverError> {
        let Identifier::Dns(domain) = &challenge.identifier else {
            return Err(SolverError::InvalidSolver {
                field: "dns01".into(),
                detail: format!(
                    "{} is an IP address, which needs http01 (RFC 8738)",
                    challenge.identifier
                ),
            });
        };
        if self.zones.is_empty() || self.zones.iter().any(|zone| in_zone(domain, zone)) {
            return Ok(domain);
        }
        Err(SolverError::OutsideZones {
            name: domain.clone(),
            zones: self.zones.join(", "),
        })
    }

    /// The record's location, and its writer.
    async fn locate(&self, domain: &str) -> Result<(Record, Arc<dyn TxtWriter>), SolverError> {
        let name = challenge_name(domain)?;
        let found = tokio::time::timeout(LOCATE, self.find(domain, &name)).await;
        found.unwrap_or_else(|_| Err(too_slow(domain)))
    }

    async fn find(&self, domain: &str, name: &Name) -> Result<(Record, Arc<dyn TxtWriter>), SolverError> {
        match &self.place {
            Place::Zone { writer, cnames, zone } => {
                let mut record = self.shared.zones.record(&self.lookup, name, (*cnames).into()).await?;
                if let Some(zone) = zone {
                    record.zone = zone.clone();
                }
                Ok((record, writer.clone()))
            }
            Place::AcmeDns(accounts) => {
                let account = accounts.of(domain)?;
                let target = account.record()?;
                let zones = &self.shared.zones;
                let followed = zones.record(&self.lookup, name, Aliases::All).await?;
                if followed.name != target {
                    zones.forget(&self.lookup, name, &followed);
                    return Err(SolverError::DnsZoneNotFound {
                        name: plain(name),
                        detail: format!(
                            "it is not a CNAME to the acme-dns account's name: add {}. CNAME {target}",
                            plain(name)
                        ),
                    });
                }
                Ok((followed, account))
            }
        }
    }

    /// Locates the record again the next time: a user who has fixed a delegation or CNAME does not wait for a cache.
    fn forget(&self, domain: &str, record: &Record) {
        if let Ok(name) = challenge_name(domain) {
            self.shared.zones.forget(&self.lookup, &name, record);
        }
    }
}

fn too_slow(domain: &str) -> SolverError {
    SolverError::DnsUnreachable {
        server: "the DNS".into(),
        detail: format!(
            "the zone of {domain} and its servers were not found within {} s",
            LOCATE.as_secs()
        ),
    }
}

fn challenge_name(domain: &str) -> Result<Name, SolverError> {
    let mut text = String::from("_acme-challenge.");
    let written = write!(text, "{domain}.");
    written
        .ok()
        .and_then(|()| Name::from_ascii(&text).ok())
        .map(|name| name.to_lowercase())
        .ok_or_else(|| SolverError::DnsZoneNotFound {
            name: domain.into(),
            detail: "it is too long or not a DNS name".into(),
        })
}

#[async_trait]
impl Solver for Dns01Solver {
    async fn present(&self, challenge: &Challenge) -> Result<(), SolverError> {
        let domain = self.domain(challenge)?;
        let (record, writer) = self.locate(domain).await?;
        let added = writer.add(&record, &challenge.dns_value).await;
        added.inspect_err(|_| self.forget(domain, &record))
    }

    async fn check(
        &self,
        challenge: &Challenge,
        presented_at: Timestamp,
        now: Timestamp,
    ) -> Result<Readiness, SolverError> {
        let domain = self.domain(challenge)?;
        let deadline = Deadline {
            presented_at,
            now,
            timeout: self.timeout,
        };
        let found = async {
            let (record, _) = self.locate(domain).await?;
            let authorities = self.shared.zones.authorities(&self.lookup, &record.zone).await?;
            Ok((record, authorities))
        };
        let found = tokio::time::timeout(LOCATE, found).await;
        match found.unwrap_or_else(|_| Err(too_slow(domain))) {
            Ok((record, authorities)) => {
                let recursion = !self.lookup.given().is_empty();
                let checked =
                    propagation::check(&authorities, recursion, &record, &challenge.dns_value, deadline).await;
                checked.inspect_err(|_| self.forget(domain, &record))
            }
            // The name servers of the zone may be away for a moment.
            Err(error @ (SolverError::DnsUnreachable { .. } | SolverError::DnsFailed { .. })) => {
                deadline.wait(&error.to_string()).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn clean_up(&self, challenge: &Challenge) -> Result<(), SolverError> {
        let domain = self.domain(challenge)?;
        let (record, writer) = self.locate(domain).await?;
        let removed = writer.remove(&record, &challenge.dns_value).await;
        removed.inspect_err(|_| self.forget(domain, &record))
    }
}
