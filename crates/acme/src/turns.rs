//! The order in which those who wait may go: the nearest to expiry first, and namespaces in turns.
//!
//! Each waits with a deadline: the end of its certificate, or a day and a half after it first asked where there is none
//! yet. From that the order follows:
//!
//! 1. Certificates whose deadline is within [`URGENT`] go first. So a new name never delays a renewal that is about to be
//!    too late, and becomes urgent itself after a day.
//! 2. Every [`SHARE`]th place goes to one that is not urgent, so that a namespace whose certificates always are (they
//!    live for an hour) cannot keep the others waiting.
//! 3. Among both, namespaces take turns, however many certificates wait in one.
//! 4. Within a namespace the nearest deadline goes first.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, btree_set};

use jiff::{SignedDuration, Timestamp};

/// A deadline this near is urgent.
pub(super) const URGENT: SignedDuration = SignedDuration::from_hours(12);

/// The deadline of a name without a certificate, from the moment at which it first asked.
pub(super) const NEW_NAME: SignedDuration = SignedDuration::from_hours(36);

/// One place in so many goes to one that is not urgent.
const SHARE: u64 = 4;

/// A place: the deadline, and the certificate's key.
type Place = (Timestamp, String);

/// Waiting orders by namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines {
    by_namespace: HashMap<String, Line>,
    /// The highest round that was served.
    round: u64,
    /// Number of orders served.
    served: u64,
}

#[derive(Debug, Clone, Default)]
struct Line {
    waiting: BTreeSet<Place>,
    /// The round in which its first is served.
    next: u64,
}

impl Lines {
    /// Adds one of `namespace`.
    pub fn join(&mut self, namespace: &str, deadline: Timestamp, key: &str) {
        let line = self.by_namespace.entry(namespace.to_owned()).or_default();
        if line.waiting.is_empty() {
            line.next = line.next.max(self.round);
        }
        line.waiting.insert((deadline, key.to_owned()));
    }

    /// Removes one that does not wait any more.
    pub fn leave(&mut self, namespace: &str, deadline: Timestamp, key: &str) {
        let Some(line) = self.by_namespace.get_mut(namespace) else {
            return;
        };
        line.waiting.remove(&(deadline, key.to_owned()));
        // One that was served in this round is remembered, or it would be served again with the next that comes.
        if line.waiting.is_empty() && line.next <= self.round {
            self.by_namespace.remove(namespace);
        }
    }

    /// Counts the turn of `namespace`: one of its certificates goes.
    pub fn serve(&mut self, namespace: &str) {
        self.served += 1;
        if let Some(line) = self.by_namespace.get_mut(namespace) {
            let before = self.round;
            self.round = self.round.max(line.next);
            line.next += 1;
            if self.round > before {
                let round = self.round;
                self.by_namespace
                    .retain(|_, line| !line.waiting.is_empty() || line.next > round);
            }
        }
    }

    /// The keys of all who wait, the next first.
    pub fn order(&self, now: Timestamp) -> Order<'_> {
        let soon = now.checked_add(URGENT).unwrap_or(Timestamp::MAX);
        let mut order = Order {
            urgent: Merge::default(),
            others: Merge::default(),
            served: self.served,
        };
        // The first key after all of that deadline.
        let bound = (
            soon.checked_add(SignedDuration::from_nanos(1)).unwrap_or(soon),
            String::new(),
        );
        for line in self.by_namespace.values() {
            order.urgent.add(line.waiting.range(..bound.clone()), line.next);
            order.others.add(line.waiting.range(bound.clone()..), line.next);
        }
        order
    }
}

/// See [`Lines::order`].
pub(super) struct Order<'a> {
    urgent: Merge<'a>,
    others: Merge<'a>,
    served: u64,
}

impl<'a> Iterator for Order<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.served += 1;
        let (first, second) = if self.served.is_multiple_of(SHARE) {
            (&mut self.others, &mut self.urgent)
        } else {
            (&mut self.urgent, &mut self.others)
        };
        first.pop().or_else(|| second.pop())
    }
}

/// Several lines, round by round.
#[derive(Default)]
struct Merge<'a> {
    heads: BinaryHeap<Reverse<(u64, &'a Place, usize)>>,
    rest: Vec<btree_set::Range<'a, Place>>,
}

impl<'a> Merge<'a> {
    fn add(&mut self, mut line: btree_set::Range<'a, Place>, round: u64) {
        if let Some(head) = line.next() {
            self.heads.push(Reverse((round, head, self.rest.len())));
            self.rest.push(line);
        }
    }

    fn pop(&mut self) -> Option<&'a str> {
        let Reverse((round, (_, key), index)) = self.heads.pop()?;
        if let Some(head) = self.rest.get_mut(index).and_then(Iterator::next) {
            self.heads.push(Reverse((round + 1, head, index)));
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3_600).unwrap()
    }

    /// Waiting orders as `namespace/name`, with their deadlines in hours.
    fn lines(waiting: &[(&str, i64)]) -> Lines {
        let mut lines = Lines::default();
        for (key, deadline) in waiting {
            lines.join(namespace(key), at(*deadline), key);
        }
        lines
    }

    fn namespace(key: &str) -> &str {
        key.split('/').next().unwrap()
    }

    /// Serves `count` as the queue does.
    fn serve(lines: &mut Lines, deadlines: &BTreeMap<String, i64>, count: usize) -> Vec<String> {
        (0..count)
            .filter_map(|_| {
                let key = lines.order(at(0)).next()?.to_owned();
                lines.serve(namespace(&key));
                lines.leave(namespace(&key), at(deadlines[&key]), &key);
                Some(key)
            })
            .collect()
    }

    /// The name, the places with the hours until their deadlines, and the expected order.
    type Case = (&'static str, &'static [(&'static str, i64)], &'static [&'static str]);

    #[test]
    fn the_order_is_by_urgency_then_by_turns_then_by_deadline() {
        let table: [Case; 5] = [
            (
                "nearest to expiry",
                &[("a/1", 900), ("b/1", 700), ("c/1", 36)],
                &["c/1", "b/1", "a/1"],
            ),
            (
                "within a namespace",
                &[("a/1", 900), ("a/2", 36), ("a/3", 700)],
                &["a/2", "a/3", "a/1"],
            ),
            (
                "new names of one namespace, a renewal of another",
                &[("a/1", 36), ("a/2", 36), ("a/3", 36), ("b/1", 700)],
                &["a/1", "b/1", "a/2", "a/3"],
            ),
            (
                "about to expire",
                &[("a/1", 36), ("b/1", 700), ("c/1", 11), ("c/2", 1), ("d/1", -5)],
                &["d/1", "c/2", "c/1", "a/1", "b/1"],
            ),
            (
                "one of four places is for those who are not urgent",
                &[("a/1", 1), ("a/2", 1), ("a/3", 1), ("a/4", 1), ("a/5", 1), ("b/1", 700)],
                &["a/1", "a/2", "a/3", "b/1", "a/4", "a/5"],
            ),
        ];
        for (case, waiting, expected) in table {
            let lines = lines(waiting);
            assert_eq!(lines.order(at(0)).collect::<Vec<_>>(), expected, "{case}");
        }
    }

    #[test]
    fn a_namespace_that_comes_back_at_once_is_not_served_twice_in_a_round() {
        let mut lines = lines(&[("a/1", 100), ("b/1", 900), ("c/1", 900)]);
        let mut went = Vec::new();
        for number in 2..5 {
            let key = lines.order(at(0)).next().unwrap().to_owned();
            let deadline = if namespace(&key) == "a" { 100 } else { 900 };
            lines.serve(namespace(&key));
            lines.leave(namespace(&key), at(deadline), &key);
            went.push(key.clone());
            if namespace(&key) == "a" {
                lines.join("a", at(100), &format!("a/{number}"));
            }
        }
        assert_eq!(went, ["a/1", "b/1", "c/1"]);
        assert_eq!(lines.order(at(0)).next(), Some("a/2"));
    }

    #[test]
    fn who_left_leaves_nothing_behind() {
        let mut lines = lines(&[("a/1", 1), ("a/2", 2)]);
        lines.leave("a", at(1), "a/1");
        lines.leave("a", at(2), "a/2");
        lines.leave("a", at(2), "a/2");
        assert_eq!(lines.order(at(0)).next(), None);
        assert!(lines.by_namespace.is_empty(), "{lines:?}");
    }

    proptest! {
        #[test]
        fn no_one_waits_longer_than_four_turns_of_all_namespaces(
            places in proptest::collection::vec((0u8..5, -10i64..2_000), 1..60),
        ) {
            let deadlines: BTreeMap<String, i64> = places
                .iter()
                .enumerate()
                .map(|(index, (namespace, deadline))| (format!("n{namespace}/{index}"), *deadline))
                .collect();
            let waiting: Vec<(&str, i64)> = deadlines.iter().map(|(key, hours)| (key.as_str(), *hours)).collect();
            let mut lines = lines(&waiting);
            let namespaces = places.iter().map(|(namespace, _)| namespace).collect::<BTreeSet<_>>().len();
            let whole: Vec<String> = lines.order(at(0)).map(str::to_owned).collect();
            let went = serve(&mut lines, &deadlines, places.len());
            // Each is served once.
            prop_assert_eq!(went.iter().collect::<BTreeSet<_>>().len(), places.len());
            prop_assert_eq!(whole.len(), places.len());
            // The first of each namespace goes within so many places, whatever the others have.
            let mut firsts: BTreeMap<&str, usize> = BTreeMap::new();
            for (position, key) in went.iter().enumerate() {
                firsts.entry(namespace(key)).or_insert(position);
            }
            for (namespace, position) in firsts {
                prop_assert!(position < 4 * (namespaces + 1), "{namespace} at {position} of {went:?}");
            }
            // Within a namespace, the nearest goes first among those who are urgent, and among the others.
            for (index, key) in went.iter().enumerate() {
                for later in went.iter().skip(index + 1) {
                    let (one, other) = (deadlines.get(key), deadlines.get(later));
                    if namespace(key) == namespace(later) && (one <= Some(&12)) == (other <= Some(&12)) {
                        prop_assert!(one <= other, "{key} before {later}");
                    }
                }
            }
        }
    }
}
