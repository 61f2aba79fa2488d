//! Firing alerts under one policy, and what of them is still to be sent: pure, and durable.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use gatehouse_crds::{
    alert::{AlertKind, Rule, Severity},
    certificate::SigningIssuer,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    destination::{Destination, DestinationSet, Id},
    rules::Finding,
};

/// Names what an alert is about: kind, namespace and name.
pub type Object = (AlertKind, String, String);

/// A present or deleted object. Shared by all that fires for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    #[serde(rename = "s")]
    pub namespace: String,
    #[serde(rename = "n")]
    pub name: String,
    /// An object that is deleted and created again is another one.
    #[serde(rename = "u")]
    pub uid: String,
}

impl Name {
    /// `<namespace>/<name>`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    #[serde(flatten)]
    pub name: Arc<Name>,
    #[serde(rename = "r")]
    pub rule: Rule,
}

impl Key {
    /// Object of the alert.
    pub fn object(&self) -> Object {
        (self.rule.kind(), self.name.namespace.clone(), self.name.name.clone())
    }
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
    /// It was reported together with others.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Arc<GroupKey>>,
    /// Which receivers have taken it.
    #[serde(rename = "d", default, skip_serializing_if = "DestinationSet::is_empty")]
    pub delivered_to: DestinationSet,
}

/// Key of a group of many alerts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupKey {
    #[serde(rename = "r")]
    pub rule: Rule,
    /// `<kind>/<name>`.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// A reported group, of which some still fire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    pub fingerprint: String,
    pub issuer: Option<SigningIssuer>,
    pub severity: Severity,
    pub since: Timestamp,
    /// Number of firing alerts, and their highest number.
    pub count: usize,
    pub most: usize,
    /// Number of alerts at the last report.
    #[serde(rename = "told")]
    pub reported: usize,
    /// Number of reports that they have become more.
    #[serde(default)]
    pub growths: u32,
    pub last_sent: Timestamp,
    /// The first of them, whether they still fire or not.
    pub first: Vec<Arc<Name>>,
    /// Which receivers have taken it.
    #[serde(default, skip_serializing_if = "DestinationSet::is_empty")]
    pub delivered_to: DestinationSet,
}

/// Changes since the last report.
#[derive(Clone, Debug, Default)]
pub struct News {
    pub begun: Vec<Key>,
    pub worse: Vec<Key>,
    pub ended: Vec<(Key, Firing)>,
}

impl News {
    /// Returns whether there is nothing to report.
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
    pub destinations: Vec<Destination>,
    /// When the last heartbeat was sent.
    #[serde(default)]
    pub heartbeat: Option<Timestamp>,
    #[serde(skip)]
    pub news: News,
    /// Receivers have left, or want less than before: alerts that they received may have to be resolved there.
    #[serde(skip)]
    pub withdraw_due: bool,
    /// When alerts began of late, the last few of them: a storm is when they are too many.
    #[serde(skip)]
    pub recent: VecDeque<Timestamp>,
    /// Reports of another policy to the same PagerDuty service, where an alert is one incident for all that report it.
    #[serde(skip)]
    pub fires_elsewhere: HashMap<Id, HashSet<Key>>,
    /// Since when alerts of an outage wait for others.
    #[serde(skip)]
    pub outages: BTreeMap<GroupKey, Timestamp>,
    /// Returns when an alert or a group is to be reported again.
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
    /// Takes what was found of the object `namespace/name`: who it is and what it raises, or that it is none of ours.
    pub fn observe(&mut self, kind: AlertKind, namespace: &str, name: &str, found: Option<(&Arc<Name>, &[Finding])>) {
        let (own, findings) = found.map_or((None, [].as_slice()), |(own, findings)| (Some(own), findings));
        for key in self.of(kind, namespace, name) {
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
                        delivered_to: DestinationSet::default(),
                    };
                    self.firing.insert(key.clone(), firing);
                    self.news.begun.push(key);
                }
            }
        }
    }

    fn end(&mut self, key: Key, firing: Firing) {
        self.news.worse.retain(|worse| *worse != key);
        // An alert that was not reported yet needs no end.
        if firing.last_sent.is_none() {
            self.news.begun.retain(|begun| *begun != key);
        } else {
            self.news.ended.push((key, firing));
        }
    }

    /// Returns what fires for the object `namespace/name`, under any UID.
    pub(super) fn of(&self, kind: AlertKind, namespace: &str, name: &str) -> Vec<Key> {
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
            .filter(|key| key.rule.kind() == kind)
            .cloned()
            .collect()
    }

    /// The objects that something fires for.
    pub fn objects(&self) -> Vec<Object> {
        let mut objects: Vec<Object> = self.firing.keys().map(Key::object).collect();
        objects.dedup();
        objects
    }

    /// Nothing fires any more, as the policy is not carried out.
    pub fn forget_alerts(&mut self) {
        if !self.firing.is_empty() {
            self.changed();
        }
        self.firing.clear();
        self.groups.clear();
        self.news = News::default();
        self.outages.clear();
        self.heartbeat = None;
        self.repeat_at = None;
    }

    /// Limits what was written by a clock that was ahead: nothing waits longer than if it began now.
    pub fn clamp(&mut self, now: Timestamp) {
        for firing in self.firing.values_mut() {
            firing.last_sent = firing.last_sent.map(|time| time.min(now));
        }
        for group in self.groups.values_mut() {
            group.last_sent = group.last_sent.min(now);
        }
        for destination in &mut self.destinations {
            destination.clamp(now);
        }
        self.heartbeat = self.heartbeat.map(|time| time.min(now));
        self.recent.retain(|began| *began <= now);
        self.repeat_at = self.repeat_at.map(|_| now);
    }

    /// Starts the receivers with Secrets that were stopped, and tries what failed at them again. Returns whether one was stopped.
    pub fn secret_changed(&mut self, now: Timestamp) -> bool {
        let mut was_stopped = false;
        for destination in &mut self.destinations {
            if destination.receiver.has_secrets() {
                was_stopped |= destination.queue.stopped.is_some();
                destination.queue.secret_changed(now);
            }
        }
        was_stopped
    }

    /// Something is different from what is durable.
    pub fn changed(&mut self) {
        self.revision += 1;
    }

    /// Whether nothing needs to be remembered.
    pub fn is_trivial(&self) -> bool {
        let idle = |destination: &Destination| {
            let queue = &destination.queue;
            !destination.is_retired() && queue.is_empty() && queue.failures == 0 && queue.stopped.is_none()
        };
        self.firing.is_empty() && self.heartbeat.is_none() && self.destinations.iter().all(idle)
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
