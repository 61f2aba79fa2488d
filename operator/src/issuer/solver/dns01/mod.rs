//! DNS-01: a TXT record at `_acme-challenge.<name>` (RFC 8555, section 8.4).
//!
//! [`zone`] finds where the record belongs, a [`TxtWriter`] puts it there and takes it away, value by value, so
//! that several certificates can be proved at one name at once; [`propagation`] asks the servers that the CA
//! will ask.

mod acme_dns;
#[cfg(test)]
mod against_knot;
mod cache;
mod catalogue;
mod fields;
mod form;
mod library;
mod locks;
mod lookup;
mod named;
mod propagation;
mod redact;
mod rfc2136;
mod server;
mod solver;
mod transport;
mod visibility;
mod wire;
mod zone;

use async_trait::async_trait;
use hickory_proto::rr::Name;

use super::SolverError;

pub(super) use acme_dns::AcmeDnsAccounts;
pub(super) use fields::{check_config, known_fields};
pub(super) use library::{Library, Origin};
pub(super) use locks::RecordLocks;
pub(super) use lookup::Lookup;
pub use lookup::SystemServers;
pub(super) use named::{Source, fields_of};
pub(super) use rfc2136::Rfc2136Writer;
pub(super) use server::Server;
pub(super) use solver::{Dns01Solver, Place, Shared};

/// Name and zone of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The owner, fully qualified.
    pub(super) name: Name,
    /// The zone's apex.
    pub(super) zone: Name,
}

/// Adds and removes one value of a TXT record set. Both are idempotent.
#[async_trait]
pub(super) trait TxtWriter: Send + Sync {
    async fn add(&self, record: &Record, value: &str) -> Result<(), SolverError>;
    async fn remove(&self, record: &Record, value: &str) -> Result<(), SolverError>;
}

/// A name as people write it: no dot at the end.
fn plain(name: &Name) -> String {
    let mut text = name.to_ascii();
    if text.len() > 1 && text.ends_with('.') {
        text.pop();
    }
    text
}
