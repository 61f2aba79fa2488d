//! Which issuers there are, and whether they can sign: what Certificates ask at each step.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use gatehouse_crds::certificate::{IssuerKind, IssuerRef, SigningIssuer};
use tokio::sync::broadcast;

use super::signer::AcmeSigner;
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
    /// What a Certificate in `namespace` means by `reference`.
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

/// What signs.
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

/// How an issuer stands.
#[derive(Clone)]
pub enum State {
    /// It exists, and is being looked at for the first time.
    Examining,
    /// It cannot sign: why, for humans.
    NotReady(String),
    Ready(Signer),
}

/// All issuers that have been looked at.
pub struct Registry {
    states: RwLock<HashMap<Key, State>>,
    changed: broadcast::Sender<Key>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            states: RwLock::default(),
            changed: broadcast::channel(1024).0,
        }
    }
}

impl Registry {
    /// How `key` stands; none when it does not exist or has not been looked at yet.
    pub fn get(&self, key: &Key) -> Option<State> {
        self.states
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    /// Notes how it stands and wakes whoever waits for it.
    pub fn set(&self, key: Key, state: State) {
        self.states
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), state);
        // No receiver, nobody to wake.
        let _ = self.changed.send(key);
    }

    /// It exists.
    pub fn found(&self, key: &Key) {
        self.states
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key.clone())
            .or_insert(State::Examining);
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
