//! Which issuers there are, and whether they can sign: what Certificates ask at each step.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use gatehouse_crds::certificate::{AuthorityType, IssuerKind, IssuerRef, SigningAuthority, SigningIssuer};
use tokio::sync::broadcast;

use super::{records::Records, signer::AcmeSigner};
use crate::pki::{Authority, Extras};

/// Names an issuer, seen from the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub kind: IssuerKind,
    /// Empty for a `ClusterIssuer`.
    pub namespace: String,
    pub name: String,
}

impl Key {
    /// Returns the issuer that `reference` names in a Certificate of `namespace`.
    pub fn of(reference: &IssuerRef, namespace: &str) -> Self {
        let kind = reference.kind();
        Self {
            kind,
            namespace: if kind == IssuerKind::Issuer {
                namespace.to_owned()
            } else {
                String::new()
            },
            name: reference.name.clone(),
        }
    }

    /// Returns the issuer that the status of a Certificate in `namespace` names.
    pub fn of_signing(issuer: &SigningIssuer, namespace: &str) -> Self {
        let reference = IssuerRef {
            name: issuer.name.clone(),
            kind: Some(issuer.kind),
        };
        Self::of(&reference, namespace)
    }

    /// As a Certificate's status has it.
    pub fn signing(&self) -> SigningIssuer {
        SigningIssuer {
            kind: self.kind,
            name: self.name.clone(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A signing issuer.
#[derive(Clone)]
pub enum Signer {
    Ca(Arc<CaSigner>),
    SelfSigned,
    Acme(Arc<AcmeSigner>),
}

/// A CA that was checked, and what it writes into certificates.
#[derive(Debug)]
pub struct CaSigner {
    pub authority: Authority,
    pub extras: Extras,
}

/// State of an issuer.
#[derive(Clone)]
pub enum State {
    /// It exists, and is being looked at for the first time.
    Examining,
    /// It cannot sign: why, for humans.
    NotReady(String),
    /// Its CA refuses the account, which a user has to change: attempts at it count as failed.
    Refused(String),
    Ready(Signer),
}

impl State {
    fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }
}

impl Signer {
    /// Returns what it signs with, as a Certificate's status has it.
    pub fn authority(&self) -> SigningAuthority {
        let authority = |kind| SigningAuthority {
            kind,
            server: None,
            key_id: None,
        };
        match self {
            Self::Acme(signer) => SigningAuthority {
                server: Some(signer.spec.server.clone()),
                ..authority(AuthorityType::ACME)
            },
            Self::Ca(ca) => SigningAuthority {
                key_id: ca.authority.certificate().key_id_hex(),
                ..authority(AuthorityType::CA)
            },
            Self::SelfSigned => authority(AuthorityType::SelfSigned),
        }
    }

    /// Whether a Certificate's `duration` reaches it.
    pub fn takes_duration(&self) -> bool {
        match self {
            Self::Acme(signer) => signer.spec.enable_duration_feature == Some(true),
            Self::Ca(_) | Self::SelfSigned => true,
        }
    }

    /// Whether `other` would sign no differently.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ca(one), Self::Ca(other)) => {
                one.authority.path() == other.authority.path() && one.extras == other.extras
            }
            (Self::SelfSigned, Self::SelfSigned) => true,
            (Self::Acme(one), Self::Acme(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// At which revision of the registry something last changed for the better, for those who failed before; 0 is never.
///
/// Revisions and not times: two things that happen in one tick of the clock have an order all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// It was examined for the first time: Certificates that found it missing before try again.
    pub examined: u64,
    /// It became ready.
    pub ready: u64,
    /// It was refreshed or replaced while we watched: a restart, which finds it ready, does not count.
    pub refreshed: u64,
}

struct Entry {
    state: State,
    since: Since,
}

/// All issuers that exist.
pub struct Registry {
    states: RwLock<HashMap<Key, Entry>>,
    /// Counts what becomes known of issuers.
    revision: AtomicU64,
    changed: broadcast::Sender<Key>,
    records: Arc<Records>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            states: RwLock::default(),
            revision: AtomicU64::new(0),
            changed: broadcast::channel(1024).0,
            records: Arc::default(),
        }
    }
}

impl Registry {
    /// Returns the list of TXT records that their solvers wrote.
    pub fn records(&self) -> &Arc<Records> {
        &self.records
    }

    /// Returns the state of `key`; `None` when it does not exist or has not been examined yet.
    pub fn get(&self, key: &Key) -> Option<State> {
        self.states
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .map(|entry| entry.state.clone())
    }

    /// Returns the revision: what becomes known later has a higher one.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Since when `key` is as it is.
    pub fn since(&self, key: &Key) -> Since {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        states.get(key).map(|entry| entry.since).unwrap_or_default()
    }

    /// Records the state, and enqueues the Certificates that wait for it if it is new to them. One that was
    /// deleted while it was examined stays deleted.
    pub fn set(&self, key: &Key, state: State) {
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = states.get_mut(key) else { return };
        let is_news = match (&entry.state, &state) {
            (State::Ready(before), State::Ready(after)) => !before.is_same(after),
            (State::Examining, _) | (_, State::Ready(_)) => true,
            _ => false,
        };
        let now = self.revision.fetch_add(1, Ordering::AcqRel) + 1;
        let first = |revision: u64| if revision == 0 { now } else { revision };
        let examined = first(entry.since.examined);
        if !state.is_ready() {
            entry.since = Since {
                examined,
                ..Since::default()
            };
        } else if is_news {
            let seen = !matches!(entry.state, State::Examining);
            entry.since = Since {
                examined,
                ready: first(entry.since.ready),
                refreshed: if seen { now } else { 0 },
            };
        }
        entry.state = state;
        drop(states);
        if is_news {
            // No receiver, nothing to enqueue.
            let _ = self.changed.send(key.clone());
        }
    }

    /// Records that the credentials of a ready issuer were renewed: Certificates that failed at it try again.
    pub fn refreshed(&self, key: &Key) {
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = states.get_mut(key).filter(|entry| entry.state.is_ready()) else {
            return;
        };
        entry.since.refreshed = self.revision.fetch_add(1, Ordering::AcqRel) + 1;
        drop(states);
        let _ = self.changed.send(key.clone());
    }

    /// It exists.
    pub fn found(&self, key: &Key) {
        self.states
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key.clone())
            .or_insert(Entry {
                state: State::Examining,
                since: Since::default(),
            });
    }

    /// It is gone.
    pub fn remove(&self, key: &Key) {
        if self
            .states
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key)
            .is_some()
        {
            let _ = self.changed.send(key.clone());
        }
    }

    /// Every change from now on.
    pub fn changes(&self) -> broadcast::Receiver<Key> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key {
            kind: IssuerKind::Issuer,
            namespace: "app".into(),
            name: "ca".into(),
        }
    }

    #[test]
    fn only_news_wakes_those_who_wait() {
        let registry = Registry::default();
        let mut changes = registry.changes();
        let mut news = || changes.try_recv().is_ok();
        let not_ready = || State::NotReady("no".into());
        let ready = || State::Ready(Signer::SelfSigned);
        registry.found(&key());
        assert!(!news());
        registry.set(&key(), not_ready());
        assert!(news());
        registry.set(&key(), not_ready());
        assert!(!news());
        registry.set(&key(), ready());
        assert!(news());
        registry.set(&key(), ready());
        assert!(!news(), "looked at again, it is the same");
        let since = Since {
            examined: 1,
            ready: 3,
            refreshed: 3,
        };
        assert_eq!(registry.since(&key()), since);
        registry.remove(&key());
        assert!(news());
    }

    #[test]
    fn renewed_credentials_wake_those_who_failed() {
        let registry = Registry::default();
        let mut changes = registry.changes();
        registry.found(&key());
        registry.refreshed(&key());
        assert!(
            changes.try_recv().is_err(),
            "nothing can be solved with one that is not ready"
        );
        registry.set(&key(), State::Ready(Signer::SelfSigned));
        assert!(changes.try_recv().is_ok());
        registry.refreshed(&key());
        assert_eq!(changes.try_recv().ok(), Some(key()));
        assert_eq!(registry.since(&key()).refreshed, 2);
        assert_eq!(registry.since(&key()).ready, 1);
    }

    #[test]
    fn a_restart_mends_nothing() {
        let registry = Registry::default();
        registry.found(&key());
        registry.set(&key(), State::Ready(Signer::SelfSigned));
        assert_eq!(registry.since(&key()).ready, 1);
        assert_eq!(registry.since(&key()).refreshed, 0);
    }

    #[test]
    fn an_issuer_deleted_while_it_was_looked_at_stays_deleted() {
        let registry = Registry::default();
        registry.found(&key());
        registry.remove(&key());
        registry.set(&key(), State::Ready(Signer::SelfSigned));
        assert!(registry.get(&key()).is_none());
    }
}
