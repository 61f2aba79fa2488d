//! Which zone a challenge's record belongs to, and which servers the CA will ask for it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use gatehouse_crds::solver::CnameStrategy;
use hickory_proto::{
    op::Message,
    rr::{Name, RData, RecordType},
};

use super::{super::SolverError, Lookup, Record, cache::Cache, plain};

/// As many as the CA's resolver would follow.
const MAX_CNAMES: usize = 8;
/// Name servers of a zone that are asked. Zones have two to six, rarely thirteen.
const MAX_AUTHORITIES: usize = 16;

/// Which CNAMEs are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Aliases {
    /// None: the record is written at the name itself.
    Ignored,
    /// CNAMEs that are written for the name; not those of a wildcard.
    Explicit,
    /// All: where they lead is compared with what the user gave.
    All,
}

impl From<CnameStrategy> for Aliases {
    fn from(strategy: CnameStrategy) -> Self {
        match strategy {
            CnameStrategy::None => Self::Ignored,
            CnameStrategy::Follow => Self::Explicit,
        }
    }
}

/// A server that is asked for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) name: String,
    /// Never empty. One of them suffices: a family that the cluster has no route for says nothing.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Finds zones, and remembers them for minutes.
#[derive(Debug)]
pub(super) struct Zones {
    records: Cache<(String, Name, Aliases), Record>,
    authorities: Cache<(String, Name), Arc<[Authority]>>,
}

impl Default for Zones {
    fn default() -> Self {
        Self {
            records: Cache::new(8192, Duration::from_mins(5)),
            authorities: Cache::new(1024, Duration::from_mins(5)),
        }
    }
}

impl Zones {
    /// Returns the location of the TXT record for `_acme-challenge.<domain>`.
    pub(super) async fn record(&self, lookup: &Lookup, name: &Name, aliases: Aliases) -> Result<Record, SolverError> {
        let key = (lookup.key(), name.clone(), aliases);
        if let Some(record) = self.records.get(&key) {
            return Ok(record);
        }
        let record = discover(lookup, name, aliases).await?;
        self.records.put(key, record.clone());
        Ok(record)
    }

    /// Forgets what was found, when a server says that it is wrong.
    pub(super) fn forget(&self, lookup: &Lookup, name: &Name, record: &Record) {
        for aliases in [Aliases::Ignored, Aliases::Explicit, Aliases::All] {
            self.records.forget(&(lookup.key(), name.clone(), aliases));
        }
        self.authorities.forget(&(lookup.key(), record.zone.clone()));
    }

    /// The servers that the CA will ask.
    pub(super) async fn authorities(&self, lookup: &Lookup, zone: &Name) -> Result<Arc<[Authority]>, SolverError> {
        let key = (lookup.key(), zone.clone());
        if let Some(found) = self.authorities.get(&key) {
            return Ok(found);
        }
        let found: Arc<[Authority]> = find_authorities(lookup, zone).await?.into();
        self.authorities.put(key, found.clone());
        Ok(found)
    }
}

/// Meaning of an answer to a SOA query.
#[derive(Debug, PartialEq, Eq)]
enum SoaAnswer {
    Apex(Name),
    Cname(Name),
    Nothing,
}

/// The target of the CNAME at this very name.
pub(super) fn cname(message: &Message, name: &Name) -> Option<Name> {
    message.answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => Some(target.0.to_lowercase()),
        _ => None,
    })
}

fn read(message: &Message, name: &Name) -> SoaAnswer {
    if let Some(target) = cname(message, name) {
        return SoaAnswer::Cname(target);
    }
    message
        .answers
        .iter()
        .chain(&message.authorities)
        .find(|record| record.record_type() == RecordType::SOA && record.name.zone_of(name))
        .map_or(SoaAnswer::Nothing, |record| SoaAnswer::Apex(record.name.clone()))
}

/// Asks for the SOA of the name. A server gives the zone's in the authority section when the name itself has
/// none (RFC 2308, section 2), so that one question mostly does.
async fn ask(lookup: &Lookup, name: &Name) -> Result<SoaAnswer, SolverError> {
    let message = lookup.ask(name, RecordType::SOA).await?;
    Ok(message.map_or(SoaAnswer::Nothing, |message| read(&message, name)))
}

/// Finds the name to write at, and its zone.
async fn discover(lookup: &Lookup, name: &Name, aliases: Aliases) -> Result<Record, SolverError> {
    let mut path = vec![name.clone()];
    let mut owner = name.clone();
    loop {
        let answer = ask(lookup, &owner).await?;
        let target = match answer {
            SoaAnswer::Apex(zone) if !zone.is_root() => return Ok(Record { name: owner, zone }),
            SoaAnswer::Cname(target) if follows(lookup, &owner, &target, aliases).await? => target,
            SoaAnswer::Apex(_) | SoaAnswer::Cname(_) | SoaAnswer::Nothing => {
                let zone = zone_above(lookup, &owner).await?;
                return Ok(Record { name: owner, zone });
            }
        };
        if path.contains(&target) || path.len() > MAX_CNAMES {
            return Err(SolverError::CnameLoop {
                name: plain(name),
                limit: MAX_CNAMES,
            });
        }
        path.push(target.clone());
        owner = target;
    }
}

async fn follows(lookup: &Lookup, owner: &Name, target: &Name, aliases: Aliases) -> Result<bool, SolverError> {
    match aliases {
        Aliases::Ignored => Ok(false),
        Aliases::All => Ok(true),
        Aliases::Explicit => Ok(!of_wildcard(lookup, owner, target).await?),
    }
}

/// Returns true when a wildcard made the CNAME: then a name beside it that does not exist has the same (RFC 4592,
/// section 3.3).
/// A record at the name itself ends what the wildcard makes there. The CNAME that a DNAME makes has another target
/// for each name, and is followed: below a DNAME nothing can be written.
async fn of_wildcard(lookup: &Lookup, owner: &Name, target: &Name) -> Result<bool, SolverError> {
    let label = format!("{:015x}", rand::random::<u64>() >> 4);
    let Ok(beside) = owner.base_name().prepend_label(label) else {
        // Too long to ask: not followed, which harms no other zone.
        return Ok(true);
    };
    let message = lookup.ask(&beside, RecordType::CNAME).await?;
    let made = message.and_then(|message| cname(&message, &beside));
    Ok(made.as_ref() == Some(target))
}

/// The zone that holds the name: the first apex above it.
async fn zone_above(lookup: &Lookup, owner: &Name) -> Result<Name, SolverError> {
    let mut at = owner.base_name();
    while !at.is_root() {
        match ask(lookup, &at).await? {
            SoaAnswer::Apex(zone) if !zone.is_root() => return Ok(zone),
            // The SOA behind a CNAME is of the target's zone.
            SoaAnswer::Apex(_) | SoaAnswer::Cname(_) | SoaAnswer::Nothing => at = at.base_name(),
        }
    }
    Err(not_found(lookup, owner))
}

fn not_found(lookup: &Lookup, owner: &Name) -> SolverError {
    let asked = match (lookup.given(), lookup.primary()) {
        ([], Some(primary)) => format!("neither {primary} nor the system's resolver knows one"),
        ([], None) => "the system's resolver knows none".to_owned(),
        (given, _) => {
            let given: Vec<_> = given.iter().map(ToString::to_string).collect();
            format!("{} (propagation.nameservers) know none", given.join(", "))
        }
    };
    SolverError::DnsZoneNotFound {
        name: plain(owner),
        detail: format!("{asked}; check the name, its delegation, and the solver's selector"),
    }
}

async fn find_authorities(lookup: &Lookup, zone: &Name) -> Result<Vec<Authority>, SolverError> {
    let mut found = Vec::new();
    let mut refused = None;
    if !lookup.given().is_empty() {
        for server in lookup.given() {
            match server.addresses(lookup.reach()).await {
                Ok(addresses) => found.push(Authority {
                    name: server.to_string(),
                    addresses,
                }),
                Err(error) => refused = Some(error),
            }
        }
        return match refused {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        };
    }
    // The addresses of the primary, first: it has the record as soon as it took it.
    let primary = match lookup.primary() {
        Some(server) => {
            let addresses = server.addresses(lookup.reach()).await?;
            found.push(Authority {
                name: server.to_string(),
                addresses: addresses.clone(),
            });
            addresses
        }
        None => Vec::new(),
    };
    let message = lookup.ask(zone, RecordType::NS).await?;
    let hosts = message.map(|message| name_servers(&message, zone)).unwrap_or_default();
    let addresses = join_all(hosts.iter().map(|host| lookup.addresses(host))).await;
    for (host, addresses) in hosts.iter().zip(addresses) {
        let addresses = addresses.unwrap_or_default();
        // The same address is the same server, at the port that the issuer gives.
        if addresses
            .iter()
            .any(|address| primary.iter().any(|known| known.ip() == *address))
        {
            continue;
        }
        match reachable(lookup, host, &addresses) {
            Ok(addresses) if addresses.is_empty() => {}
            Ok(addresses) => found.push(Authority {
                name: plain(host),
                addresses,
            }),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        _ if !found.is_empty() => Ok(found),
        Some(error) => Err(error),
        None => Err(SolverError::DnsZoneNotFound {
            name: plain(zone),
            detail: "none of its name servers has an address".into(),
        }),
    }
}

fn name_servers(message: &Message, zone: &Name) -> Vec<Name> {
    message
        .answers
        .iter()
        .filter(|record| record.name == *zone)
        .filter_map(|record| match &record.data {
            RData::NS(host) => Some(host.0.clone()),
            _ => None,
        })
        .take(MAX_AUTHORITIES)
        .collect()
}

fn reachable(lookup: &Lookup, host: &Name, addresses: &[IpAddr]) -> Result<Vec<SocketAddr>, SolverError> {
    let mut allowed = Vec::new();
    let mut refused = None;
    for address in addresses {
        match lookup.reach().check(&plain(host), *address) {
            Ok(()) => allowed.push(SocketAddr::new(*address, 53)),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if allowed.is_empty() => Err(error),
        _ => Ok(allowed),
    }
}
