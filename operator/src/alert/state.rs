//! What fires under one policy, and what of it is still to be sent: pure, and durable.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use gatehouse_crds::{
    alert::{Rule, Severity},
    certificate::SigningIssuer,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{queue::Queue, rules::Finding};

/// One Certificate that was or is there. Shared by all that fires for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    #[serde(rename = "s")]
    pub namespace: String,
    #[serde(rename = "n")]
    pub name: String,
    /// A Certificate that is deleted and made again is another one.
    #[serde(rename = "u")]
    pub uid: String,
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    #[serde(flatten)]
    pub name: Arc<Name>,
    #[serde(rename = "r")]
    pub rule: Rule,
}

/// It fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    /// The worst that it was since it fires.
    #[serde(rename = "v")]
    pub severity: Severity,
    #[serde(rename = "t")]
    pub since: Timestamp,
    /// When it was last put into the queues.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub last_sent: Option<Timestamp>,
    /// It was told together with others.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Arc<GroupKey>>,
}

/// What alerts are grouped by when they are many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupKey {
    #[serde(rename = "r")]
    pub rule: Rule,
    /// `<kind>/<name>`.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// A group that was told, and of which some still fire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    pub fingerprint: String,
    pub issuer: Option<SigningIssuer>,
    pub severity: Severity,
    pub since: Timestamp,
    /// How many fire, and how many did at most.
    pub count: usize,
    pub most: usize,
    /// How many were told of.
    pub told: usize,
    pub last_sent: Timestamp,
    /// The first of them, whether they still fire or not.
    pub first: Vec<Arc<Name>>,
}

/// What has happened since it was last told.
#[derive(Clone, Debug, Default)]
pub struct News {
    pub begun: Vec<Key>,
    pub worse: Vec<Key>,
    pub ended: Vec<(Key, Firing)>,
}

impl News {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.worse.is_empty() && self.ended.is_empty()
    }
}

/// The state of one policy.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    #[serde(with = "pairs")]
    pub firing: BTreeMap<Key, Firing>,
    #[serde(with = "pairs")]
    pub groups: BTreeMap<Arc<GroupKey>, Open>,
    pub queues: BTreeMap<String, Queue>,
    /// When the last sign of life was sent.
    #[serde(default)]
    pub heartbeat: Option<Timestamp>,
    #[serde(skip)]
    pub news: News,
    /// When alerts began of late, the last few of them: a storm is when they are too many.
    #[serde(skip)]
    pub recent: VecDeque<Timestamp>,
    /// When an alert or a group is to be told again.
    #[serde(skip)]
    pub repeat_at: Option<Timestamp>,
    /// Counts the changes; what is sent has to be durable before.
    #[serde(skip)]
    pub revision: u64,
    /// The last change that is durable.
    #[serde(skip)]
    pub saved: u64,
}

impl State {
    /// Takes what was found of the Certificate `namespace/name`: who it is and what it raises, or that it is none of ours.
    pub fn observe(&mut self, namespace: &str, name: &str, found: Option<(&Arc<Name>, &[Finding])>) {
        let (own, findings) = found.map_or((None, [].as_slice()), |(own, findings)| (Some(own), findings));
        for key in self.of(namespace, name) {
            let holds =
                own.is_some_and(|own| *own == key.name) && findings.iter().any(|finding| finding.rule == key.rule);
            if !holds && let Some(firing) = self.firing.remove(&key) {
                self.end(key, firing);
            }
        }
        let Some(own) = own else { return };
        for finding in findings {
            let key = Key {
                name: own.clone(),
                rule: finding.rule,
            };
            match self.firing.get_mut(&key) {
                Some(firing) if firing.severity < finding.severity => {
                    firing.severity = finding.severity;
                    self.news.worse.push(key);
                }
                Some(_) => {}
                None => {
                    let firing = Firing {
                        severity: finding.severity,
                        since: finding.since,
                        last_sent: None,
                        group: None,
                    };
                    self.firing.insert(key.clone(), firing);
                    self.news.begun.push(key);
                }
            }
        }
    }

    fn end(&mut self, key: Key, firing: Firing) {
        self.news.worse.retain(|worse| *worse != key);
        // What was not told yet needs no end.
        if firing.last_sent.is_none() {
            self.news.begun.retain(|begun| *begun != key);
        } else {
            self.news.ended.push((key, firing));
        }
    }

    /// What fires for the Certificate `namespace/name`, under whatever UID.
    fn of(&self, namespace: &str, name: &str) -> Vec<Key> {
        let from = Key {
            name: Arc::new(Name {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: String::new(),
            }),
            rule: Rule::Expiring,
        };
        let own = |key: &&Key| key.name.namespace == namespace && key.name.name == name;
        self.firing
            .range(from..)
            .map(|(key, _)| key)
            .take_while(own)
            .cloned()
            .collect()
    }

    /// The Certificates that something fires for.
    pub fn names(&self) -> Vec<Arc<Name>> {
        let mut names: Vec<Arc<Name>> = self.firing.keys().map(|key| key.name.clone()).collect();
        names.dedup();
        names
    }

    /// Something is different from what is durable.
    pub fn changed(&mut self) {
        self.revision += 1;
    }

    /// Whether nothing needs to be remembered.
    pub fn is_trivial(&self) -> bool {
        let idle = |queue: &Queue| queue.is_empty() && queue.failures == 0 && queue.stopped.is_none();
        self.firing.is_empty() && self.heartbeat.is_none() && self.queues.values().all(idle)
    }
}

/// Maps whose keys are no strings, as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
