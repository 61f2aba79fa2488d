//! Leadership is a guard, not a flag.
//!
//! Several copies of the operator run; one works. They agree through a `coordination.k8s.io/v1`
//! Lease, and no process trusts another's wall clock:
//!
//! - The leader renews every 5 s (every 2 s after a failure). Its guard ([`Leadership::check`])
//!   passes for 10 s from the moment at which it *began* the last renewal that succeeded, on the
//!   monotonic clock. The guard is a comparison with an atomic deadline, so it fails in time even when
//!   the renewing task hangs. A leader whose deadline has passed stays lost: the process ends.
//! - A standby notes, on its own monotonic clock, when it last *saw the Lease change*, and takes it
//!   over when it is unchanged for 15 s, at that very moment. The change it saw happened
//!   after the leader began the request, so at least 5 s lie between the last write that a guard lets
//!   through and the first of the successor.
//! - Every write of the Lease carries the `resourceVersion` it was decided on, so of two candidates
//!   one gets 409 Conflict. The identity is new for each process: none inherits from its own past.
//! - On shutdown the leader empties `holderIdentity`, and a standby takes over within its next look,
//!   a second later at most.
//!
//! A request that the guard let through may still be on its way when the leader is cut off:
//! [`apply`](super::apply) therefore never waits for a response longer than [`Leadership::time_left`].
//!
//! The monotonic clock does not count the time in which a machine is suspended; a leader
//! that wakes from suspension of its whole machine is lost at its next renewal (409 Conflict), and
//! conflicting writes in between are caught by the resource versions they carry.

mod decision;
mod elector;
mod handle;
mod lease;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use decision::{Decision, Observed, decide};
pub use elector::Elector;
pub use handle::{Leadership, NotLeader};
pub use lease::{Identity, KubeLeases, LeaseError, LeaseStore};

/// Name of the Lease, in the operator's own namespace.
pub const LEASE_NAME: &str = "gatehouse-operator";

/// Duration of a Lease after it was last seen to change.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// Time after the start of the last successful renewal for which the guard passes.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// From the start of a renewal that succeeded to the next one.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);

/// From the start of an attempt that failed to the next one.
pub const RETRY_EVERY: Duration = Duration::from_secs(2);

/// Interval at which a standby reads the Lease. A leader killed right after a renewal is replaced
/// after this plus [`LEASE_DURATION`] at the latest.
pub const OBSERVE_EVERY: Duration = Duration::from_secs(1);

/// Longest wait for one request, so that a connection that hangs leaves time for a second one
/// between the first renewal that fails and the deadline.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
