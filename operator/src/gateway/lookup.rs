//! Addresses of the names that load balancers are given.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hickory_resolver::{TokioResolver, lookup::Lookup as Records, net::NetError};
use jiff::Timestamp;

use super::exposure::{self, Known, Reach};

/// Validity of an answer.
pub const CACHE_TTL: Duration = Duration::from_secs(5 * 60);
/// After a look-up failed.
pub const RETRY_AFTER: Duration = Duration::from_secs(20);
/// Longest wait for an answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

struct Answer {
    at: Timestamp,
    found: Result<Vec<IpAddr>, String>,
}

/// Asks the system's resolvers. A look-up runs beside the reconciles.
pub struct Lookup {
    resolver: Result<TokioResolver, String>,
    /// None while it is being asked for the first time.
    answers: Mutex<HashMap<String, Option<Answer>>>,
}

impl Lookup {
    pub fn from_system() -> Arc<Self> {
        let resolver = TokioResolver::builder_tokio()
            .and_then(hickory_resolver::ResolverBuilder::build)
            .map_err(|error| format!("no resolver is configured on this system: {error}"));
        Arc::new(Self {
            resolver,
            answers: Mutex::default(),
        })
    }

    /// Returns the known answer for a name. If it is to be looked up, `done` is called once there is an answer.
    pub fn get(self: &Arc<Self>, name: &str, now: Timestamp, done: impl FnOnce() + Send + 'static) -> Known {
        let mut answers = self.lock();
        let (known, ask) = match answers.get(name) {
            None => (Known::Unasked(name.to_owned()), true),
            Some(None) => (Known::Unasked(name.to_owned()), false),
            Some(Some(answer)) => {
                let age = now.duration_since(answer.at);
                let (known, fresh) = match &answer.found {
                    Ok(found) => (Known::Name(name.to_owned(), found.clone()), CACHE_TTL),
                    Err(error) => (Known::Unresolved(name.to_owned(), error.clone()), RETRY_AFTER),
                };
                (known, age.unsigned_abs() >= fresh)
            }
        };
        if ask {
            if matches!(known, Known::Unasked(_)) {
                answers.insert(name.to_owned(), None);
            } else if let Some(Some(answer)) = answers.get_mut(name) {
                // No other look-up starts meanwhile.
                answer.at = now;
            }
            let (lookup, name) = (self.clone(), name.to_owned());
            tokio::spawn(async move {
                let found = lookup.ask(&name).await;
                lookup.lock().insert(name, Some(Answer { at: now, found }));
                done();
            });
        }
        known
    }

    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let resolver = self.resolver.as_ref().map_err(Clone::clone)?;
        // A name from outside is no name of a search domain of ours, where anyone may have a wildcard.
        let name = absolute(name);
        // Each on its own: one that is silent takes nothing from the other's answer.
        let (v4, v6) = tokio::join!(
            half(resolver.ipv4_lookup(name.as_str())),
            half(resolver.ipv6_lookup(name.as_str()))
        );
        together(v4, v6)
    }

    /// Forgets the names that were not asked for since long.
    pub fn forget_older(&self, now: Timestamp) {
        self.lock().retain(|_, answer| {
            answer
                .as_ref()
                .is_none_or(|answer| now.duration_since(answer.at).unsigned_abs() < CACHE_TTL.saturating_mul(4))
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<Answer>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of one family.
#[derive(Clone, Debug)]
enum Half {
    Found(Vec<IpAddr>),
    /// A name server says that there are none: how it says it.
    None(String),
    Failed(String),
}

async fn half(asked: impl Future<Output = Result<Records, NetError>>) -> Half {
    match tokio::time::timeout(LOOKUP_TIMEOUT, asked).await {
        Ok(Ok(found)) => {
            let records = found.answers().iter();
            Half::Found(records.filter_map(|record| record.data.ip_addr()).collect())
        }
        Ok(Err(error)) if error.is_no_records_found() => Half::None(error.to_string()),
        Ok(Err(error)) => Half::Failed(error.to_string()),
        Err(_) => Half::Failed(format!("no answer within {LOOKUP_TIMEOUT:?}")),
    }
}

/// Joins both families. While one has no answer, private addresses of the other prove nothing; a public one is enough.
fn together(v4: Half, v6: Half) -> Result<Vec<IpAddr>, String> {
    let (mut found, mut none, mut failed) = (Vec::new(), None, None);
    for half in [v4, v6] {
        match half {
            Half::Found(addresses) => found.extend(addresses),
            Half::None(why) => none = Some(why),
            Half::Failed(why) => failed = Some(why),
        }
    }
    let is_public = found.iter().any(|address| exposure::of(*address) == Reach::Public);
    match (failed, none) {
        (Some(why), _) if !is_public => Err(why),
        (None, Some(why)) if found.is_empty() => Err(why),
        _ => Ok(found),
    }
}

/// The name with the dot at its end that keeps search domains out.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::{Half, IpAddr, together};

    #[test]
    fn private_addresses_of_one_family_prove_nothing_without_the_other() {
        let found = |text: &str| Half::Found(text.parse::<IpAddr>().into_iter().collect());
        let none = || Half::None("no record".into());
        let failed = || Half::Failed("SERVFAIL".into());
        let ok = |texts: &[&str]| Ok(texts.iter().filter_map(|text| text.parse().ok()).collect());
        assert_eq!(together(found("10.0.0.1"), none()), ok(&["10.0.0.1"]));
        assert_eq!(together(found("10.0.0.1"), failed()), Err("SERVFAIL".into()));
        assert_eq!(together(failed(), found("fd00::1")), Err("SERVFAIL".into()));
        assert_eq!(together(found("203.0.113.1"), failed()), ok(&["203.0.113.1"]));
        assert_eq!(
            together(found("10.0.0.1"), found("2600::1")),
            ok(&["10.0.0.1", "2600::1"])
        );
        assert_eq!(together(none(), none()), Err("no record".into()));
        assert_eq!(together(none(), failed()), Err("SERVFAIL".into()));
    }

    #[test]
    fn a_name_is_asked_for_as_it_is_and_never_below_a_search_domain() {
        assert_eq!(super::absolute("lb.example.com"), "lb.example.com.");
        assert_eq!(super::absolute("lb.example.com."), "lb.example.com.");
        assert_eq!(super::absolute("lb"), "lb.");
    }
}
