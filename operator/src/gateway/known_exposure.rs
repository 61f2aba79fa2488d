//! Keeps a Gateway's exposure from one check to the next, across restarts: only an answer replaces a previous one.

use std::time::Duration;

use gatehouse_crds::gateway::{ExposureResult, GatewayExposure, GatewayStatus};
use jiff::Timestamp;

use super::{
    exposure::{self, Verdict},
    observed_service::{Ingress, ObservedService},
    status::{EXPOSURE_MISMATCH, EXPOSURE_VERIFIED},
};
use crate::kubernetes::conditions::{self, ConditionUpdate as Condition, Status};

/// For so long an address that was private counts as private while it cannot be checked.
const BELIEVED: Duration = Duration::from_secs(3600);

/// So many addresses, names and ports are remembered.
const MOST: usize = 128;
/// Prefix of a node port among them.
const NODE_PORT: &str = "node port ";

/// Returns what Services are reached at, as it is remembered: addresses, names, `externalIPs` and node ports.
pub fn addresses<'a>(services: impl IntoIterator<Item = &'a ObservedService>) -> Vec<String> {
    let of = |live: &'a ObservedService| {
        let ingress = live.ingress.iter().map(|ingress| match ingress {
            Ingress::Address(address) => address.to_string(),
            Ingress::Name(name) => name.clone(),
        });
        let external = live.external_ips().map(str::to_owned);
        let ports = live.node_ports().into_iter().map(|port| format!("{NODE_PORT}{port}"));
        ingress.chain(external).chain(ports)
    };
    let mut all: Vec<String> = services.into_iter().flat_map(of).collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(MOST);
    all
}

/// Returns the exposure to act on: without an answer, a Service that was found public and still exists is public.
pub fn acted_on(verdict: &Verdict, before: Option<&GatewayStatus>, addresses: &[String]) -> Verdict {
    let known = before.and_then(known);
    match known {
        Some(known) if !verdict.is_verified() && is_there(&known, addresses) => Verdict::Public(subject(&known)),
        _ => verdict.clone(),
    }
}

/// Whether what was found public is among these.
fn is_there(known: &GatewayExposure, addresses: &[String]) -> bool {
    let was_public = |exposed: &String| match &known.public {
        Some(public) if exposed.starts_with(NODE_PORT) => exposure::is_about_node_ports(public),
        Some(public) => exposure::is_about(public, exposed),
        // An older version has not written which.
        None => true,
    };
    let remembered = known.addresses.iter().filter(|exposed| was_public(exposed));
    known.result == ExposureResult::Public && remembered.into_iter().any(|exposed| addresses.contains(exposed))
}

/// Returns the condition and what is remembered, of an Internal Gateway that has Services.
pub fn conclude(
    verdict: &Verdict,
    before: Option<&GatewayStatus>,
    addresses: &[String],
    now: Timestamp,
) -> (Condition, Option<GatewayExposure>) {
    let condition = |status, reason, message: String| Condition {
        type_: EXPOSURE_VERIFIED,
        status,
        reason,
        message,
    };
    let answer = |result, public: Option<&String>| GatewayExposure {
        result,
        addresses: addresses.to_vec(),
        public: public.cloned(),
        unverified_since: None,
    };
    let (why, awaited) = match verdict {
        Verdict::Private => {
            let message = "All addresses are of private networks";
            return (
                condition(Status::True, "Internal", message.into()),
                Some(answer(ExposureResult::Private, None)),
            );
        }
        Verdict::PrivateThoughGlobal(why) => {
            let message = format!("All addresses are reachable from private networks only. {why}");
            return (
                condition(Status::True, "Internal", message),
                Some(answer(ExposureResult::Private, None)),
            );
        }
        Verdict::Public(which) => {
            let message = format!(
                "The scope is Internal, but {which} is a public address. See who else writes to the Service, and whether the provider is the right one"
            );
            return (
                condition(Status::False, EXPOSURE_MISMATCH, message),
                Some(answer(ExposureResult::Public, Some(which))),
            );
        }
        Verdict::Awaited(why) => (why, true),
        Verdict::Unknown(why) => (why, false),
    };
    let not_verified = |known| (condition(Status::Unknown, "NotVerified", why.clone()), known);
    let Some(mut known) = before.and_then(known) else {
        return not_verified(None);
    };
    let is_private = known.result == ExposureResult::Private;
    if is_private && known.addresses != addresses {
        // Nothing is known of these.
        return not_verified(None);
    }
    if awaited {
        // An answer is on its way: what was said is said on, word by word.
        let said = before.and_then(|before| conditions::find(&before.conditions, EXPOSURE_VERIFIED));
        let (status, reason) = if is_private {
            (Status::True, "Internal")
        } else {
            (Status::False, EXPOSURE_MISMATCH)
        };
        return match said.filter(|said| said.reason == reason) {
            Some(said) => (condition(status, reason, said.message.clone()), Some(known)),
            None => not_verified(Some(known)),
        };
    }
    // A clock that was ahead for a moment leaves nothing behind.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let since = known.unverified_since.map_or(now, |since| since.min(now));
    known.unverified_since = Some(since);
    if is_private && now.duration_since(since).unsigned_abs() > BELIEVED {
        let message = format!("The addresses were private when they were last checked. Unknown since {since}: {why}");
        return (condition(Status::Unknown, "NotVerified", message), Some(known));
    }
    let (status, reason, message) = if is_private {
        let message = format!("All addresses were private when they were last checked. Unknown since {since}: {why}");
        (Status::True, "Internal", message)
    } else {
        let message = format!(
            "The scope is Internal, but {} was a public address when it was last checked. Unknown since {since}: {why}",
            subject(&known)
        );
        (Status::False, EXPOSURE_MISMATCH, message)
    };
    (condition(status, reason, message), Some(known))
}

fn subject(known: &GatewayExposure) -> String {
    known.public.clone().unwrap_or_else(|| "one of its addresses".into())
}

/// The last answer; of a status that an older version has written, what its condition says.
fn known(before: &GatewayStatus) -> Option<GatewayExposure> {
    before.exposure.clone().or_else(|| {
        let said = conditions::find(&before.conditions, EXPOSURE_VERIFIED)?;
        let result = match (said.status.as_str(), said.reason.as_str()) {
            ("False", EXPOSURE_MISMATCH) => ExposureResult::Public,
            ("True", "Internal") => ExposureResult::Private,
            _ => return None,
        };
        let addresses = before.addresses.iter().map(|address| address.value.clone());
        let mut addresses: Vec<String> = addresses.collect();
        addresses.sort_unstable();
        Some(GatewayExposure {
            result,
            addresses,
            public: None,
            unverified_since: None,
        })
    })
}

#[cfg(test)]
#[path = "known_exposure_tests.rs"]
mod tests;
