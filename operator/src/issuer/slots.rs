//! Limits concurrent steps at CAs: a slow issuer costs its own namespace and account only.
//!
//! A step holds a worker as long as the CA and the name servers take. Of all slots, a namespace may hold a quarter as many as
//! are free, and an account as many as are free: so one alone may have many of them, and however many are slow, some are
//! left for the next that comes. One that gets none holds no worker: it is woken when a slot is free, namespaces in turns.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use super::registry::Key;

/// Steps that are under way at once: fewer than the workers that Certificates have, so that some are always left for other issuers.
pub const SLOTS: usize = 1_536;

/// A step and its Certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub issuer: Key,
    pub namespace: String,
    /// Names the Certificate.
    pub certificate: String,
}

/// The slots.
#[derive(Debug)]
pub struct Slots {
    total: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    by_namespace: HashMap<String, usize>,
    by_issuer: HashMap<Key, usize>,
    /// By namespace, who waits; `last` had its turn.
    waiting: BTreeMap<String, VecDeque<Step>>,
    known: HashSet<String>,
    last: String,
}

impl Slots {
    /// Makes `total` slots, all of them free.
    pub fn new(total: usize) -> Self {
        Self {
            total,
            state: Mutex::default(),
        }
    }

    /// Takes a slot, to be given back by [`Slots::give_back`]. When there is none, the Certificate is noted, and named by
    /// a later [`Slots::give_back`].
    pub fn take(&self, step: &Step) -> bool {
        let mut state = self.lock();
        if !self.has_room(&state, step) {
            if state.known.insert(step.certificate.clone()) {
                let line = state.waiting.entry(step.namespace.clone()).or_default();
                line.push_back(step.clone());
            }
            return false;
        }
        state.forget(&step.namespace, &step.certificate);
        state.taken += 1;
        *state.by_namespace.entry(step.namespace.clone()).or_default() += 1;
        *state.by_issuer.entry(step.issuer.clone()).or_default() += 1;
        true
    }

    /// Gives a slot back. Names those who may try now.
    pub fn give_back(&self, step: &Step) -> Vec<String> {
        let mut state = self.lock();
        state.taken = state.taken.saturating_sub(1);
        decrement(&mut state.by_namespace, &step.namespace);
        decrement(&mut state.by_issuer, &step.issuer);
        // One more than the slot that is free, in case that the first does not come.
        (0..2).filter_map(|_| self.next(&mut state)).collect()
    }

    /// Forgets a Certificate that waits.
    pub fn forget(&self, namespace: &str, certificate: &str) {
        self.lock().forget(namespace, certificate);
    }

    fn has_room(&self, state: &State, step: &Step) -> bool {
        let free = self.total.saturating_sub(state.taken);
        let namespace = state.by_namespace.get(&step.namespace).copied().unwrap_or_default();
        let issuer = state.by_issuer.get(&step.issuer).copied().unwrap_or_default();
        free > 0 && namespace < (free / 4).max(1) && issuer < free
    }

    /// The first of the next namespace, in turn, that there is room for.
    fn next(&self, state: &mut State) -> Option<String> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = state
            .waiting
            .range::<str, _>((Excluded(state.last.as_str()), Unbounded));
        let all = after.chain(state.waiting.iter());
        let fits = |(_, line): &(&String, &VecDeque<Step>)| line.front().is_some_and(|step| self.has_room(state, step));
        let step = all.take(state.waiting.len()).find(fits)?.1.front()?.clone();
        state.last.clone_from(&step.namespace);
        state.forget(&step.namespace, &step.certificate);
        Some(step.certificate)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, namespace: &str, certificate: &str) {
        if !self.known.remove(certificate) {
            return;
        }
        if let Some(line) = self.waiting.get_mut(namespace) {
            line.retain(|step| step.certificate != certificate);
            if line.is_empty() {
                self.waiting.remove(namespace);
            }
        }
    }
}

fn decrement<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_crds::certificate::IssuerKind;
    use proptest::prelude::*;

    use super::*;

    fn step(namespace: &str, issuer: &str, number: usize) -> Step {
        Step {
            issuer: Key {
                kind: IssuerKind::ClusterIssuer,
                namespace: String::new(),
                name: issuer.into(),
            },
            namespace: namespace.into(),
            certificate: format!("{namespace}/c{number}/u{number}"),
        }
    }

    fn fill(slots: &Slots, namespace: &str, issuer: &str) -> Vec<Step> {
        let all = (0..2_000).map(|number| step(namespace, issuer, number));
        all.filter(|step| slots.take(step)).collect()
    }

    #[test]
    fn whoever_is_slow_leaves_room_for_the_next() {
        let slots = Slots::new(SLOTS);
        let mut taken = Vec::new();
        for namespace in 0..25 {
            let more = fill(&slots, &format!("n{namespace}"), &format!("i{namespace}"));
            assert!(!more.is_empty(), "namespace {namespace} has none");
            taken.push(more.len());
        }
        assert_eq!(taken.first(), Some(&307));
        assert!(taken.iter().sum::<usize>() < SLOTS);
    }

    #[test]
    fn four_issuers_that_are_slow_stop_nobody_else() {
        let slots = Slots::new(SLOTS);
        for namespace in 0..50 {
            for issuer in 0..4 {
                fill(&slots, &format!("n{namespace}"), &format!("slow{issuer}"));
            }
        }
        assert!(slots.take(&step("n3", "quick", 9_999)) || slots.take(&step("other", "quick", 1)));
        assert!(slots.take(&step("other", "quick", 2)));
    }

    #[test]
    fn a_slot_that_is_given_back_wakes_namespaces_in_turns() {
        let slots = Slots::new(40);
        let all = ["a", "b", "c"].map(|namespace| fill(&slots, namespace, namespace));
        let mut woken = HashSet::new();
        for round in 0..3 {
            for held in &all {
                for name in held.get(round).map(|step| slots.give_back(step)).unwrap_or_default() {
                    woken.insert(name.split('/').next().unwrap_or_default().to_owned());
                }
            }
        }
        assert_eq!(woken.len(), 3, "{woken:?}");
    }

    #[test]
    fn one_that_is_gone_is_not_woken() {
        let slots = Slots::new(1);
        let running = step("a", "i", 1);
        assert!(slots.take(&running));
        assert!(!slots.take(&step("b", "i", 1)));
        slots.forget("b", "b/c1/u1");
        assert_eq!(slots.give_back(&running), Vec::<String>::new());
        let state = slots.lock();
        assert!(state.by_namespace.is_empty() && state.by_issuer.is_empty() && state.waiting.is_empty());
    }

    proptest! {
        #[test]
        fn there_are_never_more_steps_than_slots_and_none_waits_while_all_are_free(
            steps in proptest::collection::vec((0usize..6, 0usize..3, 0usize..20, any::<bool>()), 1..200),
        ) {
            let slots = Slots::new(10);
            let mut held: Vec<Step> = Vec::new();
            for (namespace, issuer, number, gives) in steps {
                if gives && !held.is_empty() {
                    slots.give_back(&held.remove(0));
                }
                let step = step(&format!("n{namespace}"), &format!("i{issuer}"), number);
                if !held.contains(&step) && slots.take(&step) {
                    held.push(step);
                }
                prop_assert!(held.len() <= 10);
                prop_assert!(!held.is_empty());
                prop_assert_eq!(slots.lock().taken, held.len());
            }
        }
    }
}
