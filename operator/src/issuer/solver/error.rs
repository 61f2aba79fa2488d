//! Failures of answering a challenge.

use std::net::IpAddr;

/// An error of a solver. Messages are for people and hold no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SolverError {
    #[error("no DNS zone found for {name}: {detail}")]
    DnsZoneNotFound { name: String, detail: String },
    #[error("{server} refused: {detail}")]
    DnsRefused { server: String, detail: String },
    #[error("{server} cannot be reached: {detail}")]
    DnsUnreachable { server: String, detail: String },
    #[error("{server} failed: {detail}")]
    DnsFailed { server: String, detail: String },
    #[error(
        "{name} is a CNAME to {target}, so that a record at the name itself is not seen: set cnameStrategy: Follow, or \
         remove the CNAME"
    )]
    DnsDelegated { name: String, target: String },
    #[error("the CNAMEs at {name} continue for more than {limit} steps: let {name} point straight to its target")]
    CnameLoop { name: String, limit: usize },
    #[error("{record} was not seen within {timeout}: {missing}")]
    PropagationTimeout {
        record: String,
        timeout: String,
        missing: String,
    },
    #[error(
        "{what} is at {address}, which is {kind}: Gatehouse does not connect there{}",
        if *.kind == "loopback" { " (--allow-loopback permits it, for development)" } else { "" }
    )]
    AddressRefused {
        what: String,
        address: IpAddr,
        kind: &'static str,
    },
    #[error("the Secret {name} does not exist, or Gatehouse may not see it there")]
    SecretMissing { name: String },
    #[error("the Secret {name} has no key {key}")]
    SecretKeyMissing { name: String, key: String },
    #[error("the Secret {name}, key {key}: {detail}")]
    SecretMalformed { name: String, key: String, detail: String },
    #[error("the Secret {name} cannot be read: {detail}")]
    SecretUnreadable { name: String, detail: String },
    #[error("{field}: {detail}")]
    InvalidSolver { field: String, detail: String },
    #[error("{name} is outside the dnsZones of the solver ({zones})")]
    OutsideZones { name: String, zones: String },
    #[error("the Ingress {ingress} for the HTTP-01 challenge of {host} could not be written: {detail}")]
    IngressWriteFailed {
        host: String,
        ingress: String,
        detail: String,
    },
    #[error("{field} {value} is not permitted on an Ingress in the operator's namespace: {remedy}")]
    IngressNotPermitted {
        field: &'static str,
        value: String,
        remedy: String,
    },
}

impl SolverError {
    /// Stable name for conditions, events and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::DnsZoneNotFound { .. } => "DnsZoneNotFound",
            Self::DnsRefused { .. } => "DnsRefused",
            Self::DnsUnreachable { .. } => "DnsUnreachable",
            Self::DnsFailed { .. } => "DnsFailed",
            Self::DnsDelegated { .. } => "DnsDelegated",
            Self::CnameLoop { .. } => "CnameLoop",
            Self::PropagationTimeout { .. } => "PropagationTimeout",
            Self::AddressRefused { .. } => "AddressRefused",
            Self::SecretMissing { .. } => "SecretMissing",
            Self::SecretKeyMissing { .. } => "SecretKeyMissing",
            Self::SecretMalformed { .. } => "SecretMalformed",
            Self::SecretUnreadable { .. } => "SecretUnreadable",
            Self::InvalidSolver { .. } => "InvalidSolver",
            Self::OutsideZones { .. } => "OutsideZones",
            Self::IngressWriteFailed { .. } => "IngressWriteFailed",
            Self::IngressNotPermitted { .. } => "IngressNotPermitted",
        }
    }
}
