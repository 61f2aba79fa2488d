//! Outages of CAs: one outage is one failure, whichever Certificate meets it first.
//!
//! When a CA cannot be reached, or answers 5xx, the first Certificate that meets it has failed. The others wait for its
//! return: one of them at a time asks, at most a quarter of an hour apart, and the first answer wakes all.
//! An outage belongs to one account, so that what one tenant's request does to a server holds up no others; an answer to
//! one account is a hint to all others at the same server, each of which then asks once.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{acme::Endpoint, registry::Key};

/// From one try at a CA that is away to the next, in seconds; the last one repeats. With the tenth that is added for
/// each Certificate, tries are at most 15 minutes apart.
const BACKOFF_SECONDS: [u64; 5] = [60, 120, 240, 480, 810];
/// The same where the CA said when to come again, but is still away then.
const RETRY_AFTER_BACKOFF_SECONDS: [u64; 5] = [1, 10, 30, 120, 810];
/// The most that a CA that is away is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);
/// Minimal time between two attempts, however soon a certificate ends, and whatever hints arrive.
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// A try that has not come back by then is not waited for.
const PROBE_TIMEOUT: Duration = Duration::from_secs(120);
/// Certificates whose own requests a CA cannot serve, of one account: more are forgotten.
const MAX_SUSPECTS: usize = 100;

/// Part of a CA that is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Server,
    Endpoint(Endpoint),
}

impl Scope {
    fn covers(self, endpoint: Endpoint) -> bool {
        match self {
            Self::Server => true,
            Self::Endpoint(own) => own == endpoint,
        }
    }
}

/// A request that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Names the Certificate.
    pub certificate: &'a str,
    pub endpoint: Endpoint,
    /// Time that a certificate which is about to expire can spare until then.
    pub urgency: Option<Duration>,
    /// See [`Unserved::counts`].
    pub counts: bool,
}

/// A request that a CA did not serve.
#[derive(Clone, Debug)]
pub struct Unserved<'a> {
    /// Names the Certificate.
    pub certificate: &'a str,
    pub scope: Scope,
    /// When the CA said to come again.
    pub retry_after: Option<Duration>,
    pub message: &'a str,
    /// Whether it was an attempt at a certificate, which counts as the outage's one failure.
    pub counts: bool,
}

/// The outage as seen by one Certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    /// When it may ask again.
    pub after: Duration,
    /// Tries that failed since the outage began.
    pub failures: u32,
    /// Remaining time.
    pub since: Duration,
    /// Whether this is the outage's one failure.
    pub is_first: bool,
    /// Whether the CA itself said when to come again.
    pub has_retry_after: bool,
    /// Error of the last attempt.
    pub message: String,
}

/// Consequences of an answer for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// Certificates whose CA is back.
    pub released: Vec<String>,
    /// Certificates of other accounts at the same server, one each, that are to ask.
    pub hinted: Vec<String>,
    /// Issuers that could not register at the same server.
    pub issuers: Vec<Key>,
}

#[derive(Debug)]
struct Outage {
    scope: Scope,
    began: Instant,
    failures: u32,
    last: Instant,
    retry_after: Option<Duration>,
    hinted: bool,
    message: String,
    /// Certificate that probes now.
    trying: Option<(String, Instant)>,
    waiting: BTreeSet<String>,
    /// Certificate that met it first, and has the failure.
    met_by: String,
    counted: Option<String>,
}

impl Outage {
    fn begin(scope: Scope, met_by: &str, now: Instant) -> Self {
        Self {
            scope,
            began: now,
            failures: 0,
            last: now,
            retry_after: None,
            hinted: false,
            message: String::new(),
            trying: None,
            waiting: BTreeSet::new(),
            met_by: met_by.to_owned(),
            counted: None,
        }
    }

    fn pause(&self) -> Duration {
        let at = |steps: [u64; 5]| {
            let index = usize::try_from(self.failures.saturating_sub(1)).unwrap_or(usize::MAX);
            Duration::from_secs(steps.get(index).or(steps.last()).copied().unwrap_or_default())
        };
        match self.retry_after {
            Some(retry_after) => at(RETRY_AFTER_BACKOFF_SECONDS).max(retry_after.min(MAX_RETRY_AFTER)),
            None => at(BACKOFF_SECONDS),
        }
    }

    /// When it may be asked again. `urgency` is what a certificate that is about to expire can spare; what the CA said is
    /// never shortened.
    fn due(&self, urgency: Option<Duration>) -> Instant {
        let pause = match (self.hinted, self.retry_after) {
            (true, _) => MIN_INTERVAL,
            (false, Some(_)) => self.pause(),
            (false, None) => urgency.map_or(self.pause(), |urgency| self.pause().min(urgency.max(MIN_INTERVAL))),
        };
        self.last + pause
    }

    fn away(&mut self, after: Duration, is_first: bool, certificate: &str, now: Instant) -> Away {
        if is_first {
            self.counted = Some(certificate.to_owned());
        }
        Away {
            after,
            failures: self.failures,
            since: now.saturating_duration_since(self.began),
            is_first,
            has_retry_after: self.retry_after.is_some(),
            message: self.message.clone(),
        }
    }
}

/// The outages of one account: pure.
#[derive(Debug, Default)]
struct Account {
    /// One for each scope.
    outages: Vec<Outage>,
    /// Certificates that failed while others were served: what they ask for is the trouble, and not the CA.
    suspects: VecDeque<String>,
    /// The Issuer itself could not register.
    unregistered: bool,
}

impl Account {
    /// Checks whether `ask` may be made; else how the CA is away. One at a time may, to see.
    fn ask(&mut self, ask: &Ask<'_>, now: Instant) -> Option<Away> {
        let is_counted = self.is_counted();
        let other = |(who, since): &(String, Instant)| who != ask.certificate && now < *since + PROBE_TIMEOUT;
        // One that is only known from before this process has to be seen first.
        let mut covering = self
            .outages
            .iter_mut()
            .filter(|outage| outage.scope.covers(ask.endpoint) && outage.failures > 0);
        let held = covering.find_map(|outage| {
            let due = outage.due(ask.urgency);
            let tried = outage.trying.as_ref().is_some_and(other);
            // While another tries, what comes of it is waited for.
            let after = if tried {
                outage.pause()
            } else {
                due.saturating_duration_since(now)
            };
            (due > now || tried).then_some((outage, after))
        });
        if let Some((outage, after)) = held {
            outage.waiting.insert(ask.certificate.to_owned());
            return Some(outage.away(after, ask.counts && !is_counted, ask.certificate, now));
        }
        for outage in &mut self.outages {
            if outage.scope.covers(ask.endpoint) {
                outage.trying = Some((ask.certificate.to_owned(), now));
            }
        }
        None
    }

    /// Learns of a request that was not served. None when it is the Certificate's own trouble.
    fn unserved(&mut self, request: &Unserved<'_>, now: Instant) -> Option<Away> {
        let is_counted = self.is_counted();
        let same = |outage: &Outage| outage.scope == request.scope || outage.scope == Scope::Server;
        let index = match self.outages.iter().position(same) {
            Some(index) => index,
            None if self.suspects.iter().any(|suspect| suspect == request.certificate) => return None,
            None => {
                self.outages
                    .push(Outage::begin(request.scope, request.certificate, now));
                self.outages.len() - 1
            }
        };
        let outage = self.outages.get_mut(index)?;
        let tried = outage.trying.take_if(|(who, _)| who == request.certificate).is_some();
        if tried || outage.failures == 0 {
            outage.failures = outage.failures.saturating_add(1);
            outage.last = now;
            outage.hinted = false;
            outage.retry_after = request.retry_after;
            request.message.clone_into(&mut outage.message);
        } else if request.retry_after > outage.retry_after {
            outage.retry_after = request.retry_after;
        }
        outage.waiting.insert(request.certificate.to_owned());
        let after = outage.due(None).saturating_duration_since(now);
        Some(outage.away(after, request.counts && !is_counted, request.certificate, now))
    }

    /// Whether the absence of the CA, in whatever scope, has had its one failure.
    fn is_counted(&self) -> bool {
        self.outages.iter().any(|outage| outage.counted.is_some())
    }

    /// Learns of an answer. Gives those who wait when an outage has ended by it.
    fn answered(&mut self, certificate: &str, endpoint: Endpoint) -> Vec<String> {
        self.suspects.retain(|suspect| suspect != certificate);
        let mut waiting = BTreeSet::new();
        for outage in self.outages.extract_if(.., |outage| outage.scope.covers(endpoint)) {
            if outage.met_by != certificate && !outage.met_by.is_empty() {
                if self.suspects.len() >= MAX_SUSPECTS {
                    self.suspects.pop_front();
                }
                self.suspects.push_back(outage.met_by);
            }
            waiting.extend(outage.waiting);
        }
        waiting.remove(certificate);
        waiting.into_iter().collect()
    }

    /// Forgets a Certificate. Its failure becomes the next one's if the outage continues.
    fn forget(&mut self, certificate: &str) {
        self.suspects.retain(|suspect| suspect != certificate);
        for outage in &mut self.outages {
            outage.waiting.remove(certificate);
            outage.trying.take_if(|(who, _)| who == certificate);
            outage.counted.take_if(|who| who == certificate);
            if outage.met_by == certificate {
                outage.met_by.clear();
            }
        }
    }

    /// Another account at the same server was answered: one of those who wait is to ask.
    fn hint(&mut self) -> Vec<String> {
        let fresh = self.outages.iter_mut().filter(|outage| !outage.hinted);
        fresh
            .filter_map(|outage| {
                outage.hinted = true;
                outage.waiting.first().cloned()
            })
            .collect()
    }

    fn is_idle(&self) -> bool {
        self.outages.is_empty() && self.suspects.is_empty() && !self.unregistered
    }
}

/// All accounts whose CA is away, and the server of each.
#[derive(Debug, Default)]
pub struct Outages(Mutex<HashMap<Key, (String, Account)>>);

impl Outages {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, (String, Account)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks whether a Certificate may ask its issuer's CA; gives how the CA is away when not.
    pub fn ask(&self, issuer: &Key, ask: &Ask<'_>, now: Instant) -> Option<Away> {
        self.lock().get_mut(issuer)?.1.ask(ask, now)
    }

    /// Learns of a request to `server` that was not served. None when it is the Certificate's own trouble.
    pub fn unserved(&self, issuer: &Key, server: &str, request: &Unserved<'_>, now: Instant) -> Option<Away> {
        let mut accounts = self.lock();
        let (known, account) = accounts.entry(issuer.clone()).or_default();
        server.clone_into(known);
        account.unserved(request, now)
    }

    /// Learns of an answer of `server` to a request of a Certificate.
    pub fn answered(&self, issuer: &Key, server: &str, certificate: &str, endpoint: Endpoint) -> Woken {
        let mut accounts = self.lock();
        if accounts.is_empty() {
            return Woken::default();
        }
        let released = accounts
            .get_mut(issuer)
            .map(|(_, account)| account.answered(certificate, endpoint))
            .unwrap_or_default();
        let woken = Woken {
            released,
            ..hint(&mut accounts, issuer, server)
        };
        accounts.retain(|_, (_, account)| !account.is_idle());
        woken
    }

    /// Notes whether an Issuer could register at `server`, and wakes the others there if it could.
    pub fn registered(&self, issuer: &Key, server: &str, is_registered: bool) -> Woken {
        let mut accounts = self.lock();
        if !is_registered {
            let (known, account) = accounts.entry(issuer.clone()).or_default();
            server.clone_into(known);
            account.unregistered = true;
            return Woken::default();
        }
        if let Some((_, account)) = accounts.get_mut(issuer) {
            account.unregistered = false;
        }
        let woken = hint(&mut accounts, issuer, server);
        accounts.retain(|_, (_, account)| !account.is_idle());
        woken
    }

    /// Takes up a Certificate that waits for its CA since before this process. It holds no others; an answer wakes it, and when
    /// the CA is still away, the outage has had its one failure if this one was `counted`.
    pub fn recall(&self, issuer: &Key, certificate: &str, counted: bool, now: Instant) {
        let mut accounts = self.lock();
        let (_, account) = accounts.entry(issuer.clone()).or_default();
        if account.outages.is_empty() {
            account.outages.push(Outage::begin(Scope::Server, "", now));
        }
        let Some(outage) = account.outages.first_mut() else {
            return;
        };
        outage.waiting.insert(certificate.to_owned());
        if counted {
            outage.counted = Some(certificate.to_owned());
        }
    }

    /// Forgets a Certificate that needs nothing any more, or is gone.
    pub fn forget(&self, certificate: &str) {
        let mut accounts = self.lock();
        for (_, account) in accounts.values_mut() {
            account.forget(certificate);
        }
        accounts.retain(|_, (_, account)| !account.is_idle());
    }

    /// Forgets an Issuer that is gone.
    pub fn forget_issuer(&self, issuer: &Key) {
        self.lock().remove(issuer);
    }
}

fn hint(accounts: &mut HashMap<Key, (String, Account)>, issuer: &Key, server: &str) -> Woken {
    let mut woken = Woken::default();
    for (key, (known, account)) in accounts.iter_mut() {
        if key != issuer && known == server {
            woken.hinted.extend(account.hint());
            if account.unregistered {
                woken.issuers.push(key.clone());
            }
        }
    }
    woken
}

#[cfg(test)]
#[path = "outage_tests.rs"]
mod tests;
