//! Bounds how long an order waits for its CA.
//!
//! An order that is never decided would otherwise be polled forever, without a failure, an alert or a fallback.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    certificate::failure::{Class, Failure},
    issuer::acme::{OrderStatus, OrderView},
};

/// The longest time that a CA has for one phase of an order.
const PHASE_TIMEOUT: SignedDuration = SignedDuration::from_hours(1);

/// Since when the CA has had the next move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    since: Timestamp,
    phase: Phase,
}

/// Next action of the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Validation,
    Issuance,
}

impl Phase {
    fn of(view: &OrderView) -> Self {
        if view.status == OrderStatus::Pending {
            Self::Validation
        } else {
            Self::Issuance
        }
    }
}

impl Waiting {
    /// Takes up a wait of before a restart, which the status records.
    pub(super) fn resumed(since: Timestamp, view: &OrderView) -> Self {
        Self {
            since,
            phase: Phase::of(view),
        }
    }

    /// Continues the wait, or begins another when the order has come to another phase.
    pub(super) fn continued(known: Option<Self>, view: &OrderView, now: Timestamp) -> Self {
        let phase = Phase::of(view);
        let since = known.filter(|known| known.phase == phase).map(|known| known.since);
        Self {
            // A clock that was put back does not lengthen it.
            since: since.map_or(now, |since| since.min(now)),
            phase,
        }
    }

    /// Returns since when it lasts.
    pub(super) fn since(self) -> Timestamp {
        self.since
    }

    /// Returns how long the CA still has: an hour, or until the order expires.
    pub(super) fn left(self, view: &OrderView, now: Timestamp) -> Duration {
        let end = self.since.checked_add(PHASE_TIMEOUT).unwrap_or(Timestamp::MAX);
        // One that expired before the wait began is by a clock that is wrong.
        let end = view
            .expires
            .filter(|expires| *expires > self.since)
            .map_or(end, |expires| expires.min(end));
        Duration::try_from(end.duration_since(now)).unwrap_or_default()
    }

    /// Returns the failure, once the time is over.
    pub(super) fn overdue(self, view: &OrderView, now: Timestamp) -> Option<Failure> {
        self.left(view, now).is_zero().then(|| {
            let waited = now.duration_since(self.since).as_secs().max(0);
            let (minutes, seconds) = (waited / 60, waited % 60);
            let status = match view.status {
                OrderStatus::Pending => "pending, though every challenge was answered",
                OrderStatus::Ready => "ready, though the certificate was requested",
                OrderStatus::Processing => "processing",
                OrderStatus::Valid => "valid, without a certificate",
                OrderStatus::Invalid => "invalid",
            };
            Failure::new(
                Class::Refused,
                "OrderTimedOut",
                format!(
                    "the order {} is still {status}: the CA did nothing about it for {minutes}m{seconds}s (since {}). It is \
                     given up, and the next attempt places another; ask the CA about this one",
                    view.url, self.since
                ),
            )
        })
    }
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
