//! Decides the next action of a candidate, as a pure function.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

use super::LEASE_DURATION;

/// The Lease as this process has seen it, on this process's monotonic clock.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Holder; `None` when it was released.
    pub holder: Option<String>,
    /// Duration after a change, as its holder wrote it.
    pub duration: Duration,
    /// When this process first saw this `resourceVersion`.
    pub since: Instant,
    /// The object to replace; `None` after it was deleted.
    pub lease: Option<Lease>,
}

impl Observed {
    /// Returns the observation after a read that returned `lease` at `now`.
    ///
    /// The clock starts again whenever the `resourceVersion` differs: that needs no clock but our
    /// own. A Lease that was deleted still counts until its time is over, because its
    /// holder's guard still passes; only a candidate that never saw one may create it at once.
    pub fn after(previous: Option<Self>, lease: Option<Lease>, now: Instant) -> Option<Self> {
        let Some(lease) = lease else {
            return previous.map(|seen| Self { lease: None, ..seen });
        };
        let since = match &previous {
            Some(seen) if seen.version().is_some() && seen.version() == version(&lease) => seen.since,
            _ => now,
        };
        let spec = lease.spec.as_ref();
        Some(Self {
            holder: holder(&lease).map(str::to_owned),
            duration: spec
                .and_then(|spec| spec.lease_duration_seconds)
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(LEASE_DURATION, Duration::from_secs),
            since,
            lease: Some(lease),
        })
    }

    fn version(&self) -> Option<&str> {
        self.lease.as_ref().and_then(version)
    }
}

/// `metadata.resourceVersion`, compared for equality only.
fn version(lease: &Lease) -> Option<&str> {
    lease.metadata.resource_version.as_deref()
}

/// Returns the holder of a Lease; an empty `holderIdentity` means that it was released.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    let identity = lease.spec.as_ref()?.holder_identity.as_deref()?;
    (!identity.is_empty()).then_some(identity)
}

/// The next step of a candidate that does not lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// There is no Lease: create it with our name.
    Create,
    /// It is free, expired, or already ours (a response was lost): replace what we saw.
    Take,
    /// Another process holds it. Nothing to gain before this moment unless it changes.
    WaitUntil(Instant),
}

/// Decides from what was `observed` (`None`: never saw a Lease), who `me` is and the time `now`.
pub fn decide(observed: Option<&Observed>, me: &str, now: Instant) -> Decision {
    let Some(seen) = observed else {
        return Decision::Create;
    };
    let expires = seen.since + seen.duration;
    let held = match seen.holder.as_deref() {
        None => false,
        Some(holder) if holder == me && seen.lease.is_some() => false,
        Some(_) => now < expires,
    };
    match (&seen.lease, held) {
        (_, true) => Decision::WaitUntil(expires),
        (Some(_), false) => Decision::Take,
        (None, false) => Decision::Create,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use kube::api::ObjectMeta;

    use super::*;

    fn lease(version: &str, holder: Option<&str>, seconds: Option<i32>) -> Lease {
        Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(Into::into),
                lease_duration_seconds: seconds,
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_candidate_decides_by_what_it_saw_and_when() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let seen = |lease| Observed::after(None, Some(lease), start);
        let deleted = |lease| Observed::after(seen(lease), None, at(1));
        let table = [
            ("never a lease", None, 0, Decision::Create),
            (
                "just renewed",
                seen(lease("1", Some("a"), Some(15))),
                0,
                Decision::WaitUntil(at(15)),
            ),
            (
                "nearly expired",
                seen(lease("1", Some("a"), Some(15))),
                14,
                Decision::WaitUntil(at(15)),
            ),
            (
                "expired to the moment",
                seen(lease("1", Some("a"), Some(15))),
                15,
                Decision::Take,
            ),
            (
                "its holder's duration counts",
                seen(lease("1", Some("a"), Some(60))),
                15,
                Decision::WaitUntil(at(60)),
            ),
            (
                "no duration means ours",
                seen(lease("1", Some("a"), None)),
                15,
                Decision::Take,
            ),
            (
                "a nonsensical duration means ours",
                seen(lease("1", Some("a"), Some(-4))),
                3,
                Decision::WaitUntil(at(15)),
            ),
            ("released", seen(lease("1", Some(""), Some(1))), 0, Decision::Take),
            ("no holder", seen(lease("1", None, None)), 0, Decision::Take),
            ("no spec", seen(Lease::default()), 0, Decision::Take),
            (
                "ours by a lost response",
                seen(lease("1", Some("me"), Some(15))),
                0,
                Decision::Take,
            ),
            (
                "deleted under a holder",
                deleted(lease("1", Some("a"), Some(15))),
                14,
                Decision::WaitUntil(at(15)),
            ),
            (
                "deleted and expired",
                deleted(lease("1", Some("a"), Some(15))),
                15,
                Decision::Create,
            ),
            (
                "deleted after release",
                deleted(lease("1", Some(""), Some(1))),
                1,
                Decision::Create,
            ),
        ];
        for (case, observed, now, expected) in table {
            assert_eq!(decide(observed.as_ref(), "me", at(now)), expected, "{case}");
        }
    }

    #[test]
    fn only_a_change_of_the_lease_restarts_its_time() {
        let start = Instant::now();
        let later = start + Duration::from_secs(9);
        let first = Observed::after(None, Some(lease("1", Some("a"), Some(15))), start);
        let same = Observed::after(first.clone(), Some(lease("1", Some("a"), Some(15))), later).unwrap();
        assert_eq!(same.since, start);
        let renewed = Observed::after(first, Some(lease("2", Some("a"), Some(15))), later).unwrap();
        assert_eq!(renewed.since, later);
    }

    #[test]
    fn the_clock_written_into_the_lease_plays_no_part() {
        let start = Instant::now();
        let mut skewed = lease("1", Some("a"), Some(15));
        skewed.spec.as_mut().unwrap().renew_time =
            Some("1970-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().into());
        let observed = Observed::after(None, Some(skewed), start).unwrap();
        assert_eq!(
            decide(Some(&observed), "me", start),
            Decision::WaitUntil(start + LEASE_DURATION)
        );
    }
}
