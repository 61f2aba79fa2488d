//! Policies that come, change and go.

use std::collections::{HashMap, HashSet};

use gatehouse_crds::alert::Format;

use super::{Engine, MAX_POLICIES_PER_NAMESPACE, completion::Completion};
use crate::alert::{
    destination::Id,
    policy::{PolicyKey, Scope},
    policy_state::{PolicyState, Spec},
    ports::{ClusterView, Effects},
    state::{Key, State},
};

impl<S: ClusterView, H: Effects> Engine<S, H> {
    /// Removes a policy. Its receivers get the end of the alerts that they received, then it is forgotten.
    pub(super) fn remove(&mut self, key: &PolicyKey) {
        let Some(entry) = self.policies.get_mut(key) else {
            return;
        };
        entry.delete();
        self.touched.insert(key.clone());
        let Some(namespace) = &key.namespace else { return };
        self.crowding.insert(namespace.clone());
        let closing = self.policies.iter().filter(|(other, entry)| {
            entry.is_deleted() && other.namespace.as_ref() == Some(namespace) && *other != key
        });
        let closing: Vec<PolicyKey> = closing.map(|(other, _)| other.clone()).collect();
        if closing.len() >= MAX_POLICIES_PER_NAMESPACE {
            for other in closing {
                self.forget(&other);
            }
        }
    }

    /// Nothing is left to do for a policy that was deleted.
    pub(super) fn forget(&mut self, key: &PolicyKey) {
        let Some(entry) = self.policies.remove(key) else { return };
        self.wake(key, entry.wake, None);
        self.starved.remove(key);
        self.effects.follow_secrets(key, &[]);
        self.effects.forget(key);
        for receiver in entry.counted() {
            self.metrics.alert_receiver_gone(key.labels(), receiver);
        }
        if entry.is_stored() {
            self.erase(key.clone(), entry.uid);
        }
    }

    fn erase(&mut self, key: PolicyKey, uid: String) {
        let effects = self.effects.clone();
        self.work.spawn(async move {
            let result = effects.save(&key, &uid, None).await;
            Completion::Saved(key, uid, 0, true, result)
        });
    }

    /// All policies of `scope` are known: those that the leader before knew and that are not among them were deleted
    /// meanwhile.
    pub(super) fn close_orphans(&mut self, scope: &Scope) {
        let orphans: Vec<String> = self
            .stored
            .iter()
            .filter(|(_, (key, _))| scope.has(key))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in orphans {
            let Some((key, state)) = self.stored.remove(&uid) else {
                continue;
            };
            if self.policies.contains_key(&key) {
                self.erase(key, uid);
                continue;
            }
            let mut entry = self.entry_of(key.clone(), uid, Some(state));
            entry.delete();
            self.policies.insert(key.clone(), entry);
            self.touched.insert(key);
        }
    }

    /// Returns what other policies have reported to the PagerDuty services of a policy that may have to end what it reported there.
    pub(super) fn fires_elsewhere(&self, key: &PolicyKey) -> HashMap<Id, HashSet<Key>> {
        let Some(entry) = self.policies.get(key).filter(|entry| entry.may_withdraw()) else {
            return HashMap::new();
        };
        let destinations = entry.state.destinations.iter();
        let services = destinations.filter(|at| at.receiver.format() == Format::PagerDuty);
        let incidents = |receiver| -> HashSet<Key> {
            let others = self.policies.iter();
            // Its Secrets are in the same namespace, or else their names say nothing.
            let others = others.filter(|(other, _)| *other != key && other.namespace == key.namespace);
            others
                .flat_map(|(_, other)| other.incidents(receiver))
                .cloned()
                .collect()
        };
        services.map(|at| (at.id, incidents(&at.receiver))).collect()
    }

    fn entry_of(&mut self, key: PolicyKey, uid: String, stored: Option<State>) -> PolicyState {
        self.entries += 1;
        PolicyState::new(key, uid, self.entries, stored, self.effects.now())
    }

    /// Takes the previous leader's state of the policy; also when it was deleted meanwhile, and created again.
    fn stored(&mut self, key: &PolicyKey, uid: &str) -> Option<(String, State)> {
        let own = self.stored.contains_key(uid).then(|| uid.to_owned());
        let before = || {
            let mut stored = self.stored.iter();
            stored.find(|(_, (other, _))| other == key).map(|(uid, _)| uid.clone())
        };
        let uid = own.or_else(before)?;
        let (_, state) = self.stored.remove(&uid)?;
        Some((uid, state))
    }

    pub(super) fn policy(&mut self, key: PolicyKey, spec: Spec) {
        let receivers = spec.policy.as_ref().map_or(&[][..], |policy| &policy.receivers);
        self.effects.follow_secrets(&key, receivers);
        let known = self.policies.contains_key(&key);
        if !known {
            let stored = self.stored(&key, &spec.uid);
            let (uid, state) = stored.map_or((spec.uid.clone(), None), |(uid, state)| (uid, Some(state)));
            let entry = self.entry_of(key.clone(), uid, state);
            self.policies.insert(key.clone(), entry);
        }
        let Some(entry) = self.policies.get_mut(&key) else {
            return;
        };
        for receiver in spec.policy.iter().flat_map(|policy| &policy.receivers) {
            self.metrics.alert_receiver(key.labels(), &receiver.name);
            entry.count(&receiver.name);
        }
        let mut before = None;
        if entry.uid != spec.uid {
            before = entry.is_stored().then(|| entry.uid.clone());
            entry.recreated(spec.uid.clone());
        }
        if entry.update(spec) {
            let namespace = key.namespace.as_deref();
            self.dirty.extend(self.view.objects(namespace));
            // What fires for objects that went meanwhile has ended.
            self.dirty.extend(entry.state.objects());
        }
        if let Some(uid) = before {
            self.erase(key.clone(), uid);
        }
        if !known {
            self.crowding.extend(key.namespace.clone());
        }
        self.touched.insert(key);
    }

    /// Says who is one too many in a namespace.
    pub(super) fn enforce_limit(&mut self, namespace: &str) {
        let mut here: Vec<_> = self
            .policies
            .iter()
            .filter(|(key, entry)| key.namespace.as_deref() == Some(namespace) && !entry.is_deleted())
            .map(|(key, entry)| (entry.created, key.clone()))
            .collect();
        here.sort();
        let mut changed = false;
        for (position, (_, key)) in here.into_iter().enumerate() {
            if self
                .policies
                .get_mut(&key)
                .is_some_and(|entry| entry.enforce_limit(position >= MAX_POLICIES_PER_NAMESPACE))
            {
                changed = true;
                self.touched.insert(key);
            }
        }
        if changed {
            self.dirty.extend(self.view.objects(Some(namespace)));
        }
    }
}
