//! The scope of a rate limit, and limits that hold less than the account.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::endpoint::Endpoint;
use super::limits::{GUESSED_WAIT, MAX_GATE, NEAR, believed};

/// Names of which limits are known at once. The oldest are forgotten.
const MAX_NAMES: usize = 1_000;

/// Scope of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// The account, or the address that we come from.
    Account,
    /// Names at or below these domains.
    Names(Vec<String>),
    /// Exactly the set of names that was ordered.
    ThisOrder,
    /// It does not say.
    Unknown,
}

impl Subject {
    /// Reads it from the detail of a 429 for an order of `names`. A domain counts only when it is one of the order's
    /// own or above one: no order can hold names of others.
    ///
    /// Boulder writes: `too many new orders (300) from this account in the last 3h`, `too many certificates (50) already
    /// issued for "example.com" in the last 168h0m0s`, `too many certificates (5) already issued for this exact set of
    /// identifiers`, `too many failed authorizations (5) for "www.example.com" in the last 1h0m0s`.
    pub(super) fn of(detail: &str, names: &[String]) -> Self {
        if detail.contains("exact set") {
            return Self::ThisOrder;
        }
        let quoted = detail.split('"').skip(1).step_by(2).map(str::to_ascii_lowercase);
        let domains: Vec<String> = quoted
            .filter(|domain| names.iter().any(|name| is_below(name, domain)))
            .take(10)
            .collect();
        if !domains.is_empty() {
            return Self::Names(domains);
        }
        let of_account = ["new orders", "this account", "this IP", "IP address", "registrations"];
        if of_account.iter().any(|text| detail.contains(text)) {
            return Self::Account;
        }
        Self::Unknown
    }
}

/// Whether `name`, a wildcard or not, is `domain` or below it.
fn is_below(name: &str, domain: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name).to_ascii_lowercase();
    let domain = domain.strip_prefix("*.").unwrap_or(domain);
    name.strip_suffix(domain)
        .is_some_and(|rest| !domain.is_empty() && (rest.is_empty() || rest.ends_with('.')))
}

/// A limit of one endpoint.
#[derive(Debug, Clone)]
struct Limited {
    key: String,
    at: Timestamp,
    until: Option<Timestamp>,
}

/// Limits of single endpoints and names. They are learned again after a restart, for one request each.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds {
    endpoints: HashMap<Endpoint, Limited>,
    names: VecDeque<(String, Timestamp)>,
}

impl Holds {
    /// Learns that `key` was refused at `endpoint`. The first refusal concerns that certificate alone, which waits by
    /// itself. A second, of another certificate, makes it a limit of the endpoint, for minutes only since it is a guess.
    pub(super) fn endpoint_refused(&mut self, endpoint: Endpoint, key: &str, wait: Duration, now: Timestamp) {
        let other = self
            .endpoints
            .get(&endpoint)
            .is_some_and(|last| last.key != key && now.duration_since(last.at).abs() < NEAR);
        let until = other.then(|| later(now, wait.min(GUESSED_WAIT)));
        let limited = Limited {
            key: key.to_owned(),
            at: now,
            until,
        };
        self.endpoints.insert(endpoint, limited);
    }

    /// Learns that names at or below `domain` are limited.
    pub(super) fn name_refused(&mut self, domain: &str, wait: Duration, now: Timestamp) {
        self.names.retain(|(known, _)| known != domain);
        if self.names.len() >= MAX_NAMES {
            self.names.pop_front();
        }
        self.names.push_back((domain.to_owned(), later(now, wait)));
    }

    /// Learns that orders for these names are taken.
    pub(super) fn names_taken(&mut self, names: &[String]) {
        self.names
            .retain(|(domain, _)| !names.iter().any(|name| is_below(name, domain)));
    }

    /// Until when requests to `endpoint` wait.
    pub(super) fn endpoint(&self, endpoint: Endpoint, now: Timestamp) -> Option<Timestamp> {
        believed(self.endpoints.get(&endpoint)?.until, now)
    }

    /// Until when orders for `names` wait.
    pub(super) fn names(&self, names: &[String], now: Timestamp) -> Option<Timestamp> {
        let held = self.names.iter().filter_map(|(domain, until)| {
            let until = believed(Some(*until), now)?;
            names.iter().any(|name| is_below(name, domain)).then_some(until)
        });
        held.max()
    }
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait.min(MAX_GATE)).unwrap_or(SignedDuration::ZERO);
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_refusal_says_what_it_is_about() {
        let names = ["www.example.com".to_owned(), "*.a.example.com".to_owned()];
        let domains = |all: &[&str]| Subject::Names(all.iter().map(|&name| name.to_owned()).collect());
        for (detail, expected) in [
            (
                "too many new orders (300) from this account in the last 3h",
                Subject::Account,
            ),
            ("too many requests from this IP", Subject::Account),
            (
                "too many certificates (50) already issued for \"example.com\" in the last 168h0m0s",
                domains(&["example.com"]),
            ),
            (
                "too many failed authorizations (5) for \"www.example.com\" in the last 1h0m0s",
                domains(&["www.example.com"]),
            ),
            (
                "too many certificates (50) for \"a.example.com\"",
                domains(&["a.example.com"]),
            ),
            // Names that are none of the order's hold no others.
            ("too many certificates (50) for \"other.org\"", Subject::Unknown),
            ("too many certificates (50) for \"ample.com\"", Subject::Unknown),
            ("too many certificates (50) for \"\"", Subject::Unknown),
            (
                "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s",
                Subject::ThisOrder,
            ),
            ("slow down", Subject::Unknown),
            ("", Subject::Unknown),
        ] {
            assert_eq!(Subject::of(detail, &names), expected, "{detail}");
        }
    }

    #[test]
    fn names_are_below_a_domain_label_by_label() {
        for (name, domain, expected) in [
            ("example.com", "example.com", true),
            ("www.example.com", "example.com", true),
            ("*.example.com", "example.com", true),
            ("WWW.Example.com", "example.com", true),
            ("badexample.com", "example.com", false),
            ("com", "example.com", false),
            ("192.0.2.1", "192.0.2.1", true),
        ] {
            assert_eq!(is_below(name, domain), expected, "{name} {domain}");
        }
    }

    #[test]
    fn no_more_names_are_kept_than_the_bound() {
        let (mut holds, now) = (Holds::default(), Timestamp::UNIX_EPOCH);
        for number in 0..3_000 {
            holds.name_refused(&format!("{number}.test"), Duration::from_secs(60), now);
        }
        assert_eq!(holds.names.len(), MAX_NAMES);
        assert!(holds.names(&["2999.test".to_owned()], now).is_some());
        assert!(holds.names(&["0.test".to_owned()], now).is_none());
    }
}
