//! Whose turn it is among namespaces whose certificates are equally urgent: each in its turn, however many wait in one.
//!
//! Everybody who comes draws a number: one more than the last of the same namespace, or than the number that is up, whichever is
//! higher. The lowest number goes first. So thousands of one namespace stand in a line of their own, and one of another
//! is up after the next of theirs at the latest.

use std::collections::HashMap;

use jiff::Timestamp;

/// Numbers, by urgency: the end of the certificate that is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(HashMap<Option<Timestamp>, Counter>);

#[derive(Debug, Clone, Default)]
struct Counter {
    /// The highest number that was up.
    up: u64,
    /// By namespace; those with nobody in them are forgotten.
    lines: HashMap<String, Line>,
}

#[derive(Debug, Clone, Default)]
struct Line {
    waiting: usize,
    last: u64,
}

impl Turns {
    /// Somebody of `namespace` comes, and gets a number.
    pub fn draw(&mut self, urgency: Option<Timestamp>, namespace: &str) -> u64 {
        let counter = self.0.entry(urgency).or_default();
        let line = counter.lines.entry(namespace.to_owned()).or_default();
        line.waiting += 1;
        line.last = line.last.max(counter.up) + 1;
        line.last
    }

    /// This number is up.
    pub fn up(&mut self, urgency: Option<Timestamp>, number: u64) {
        if let Some(counter) = self.0.get_mut(&urgency) {
            counter.up = counter.up.max(number);
        }
    }

    /// Somebody of `namespace` does not wait any more.
    pub fn left(&mut self, urgency: Option<Timestamp>, namespace: &str) {
        let Some(counter) = self.0.get_mut(&urgency) else {
            return;
        };
        if let Some(line) = counter.lines.get_mut(namespace) {
            line.waiting -= 1;
            if line.waiting == 0 {
                counter.lines.remove(namespace);
            }
        }
        if counter.lines.is_empty() {
            self.0.remove(&urgency);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_of_one_namespace_is_crossed_by_another() {
        let mut turns = Turns::default();
        let many: Vec<u64> = (0..5).map(|_| turns.draw(None, "many")).collect();
        assert_eq!(many, [1, 2, 3, 4, 5]);
        turns.up(None, 2);
        assert_eq!((turns.draw(None, "one"), turns.draw(None, "one")), (3, 4));
        assert_eq!(turns.draw(Some(Timestamp::UNIX_EPOCH), "one"), 1, "another urgency");
    }

    #[test]
    fn who_left_counts_no_more() {
        let mut turns = Turns::default();
        for _ in 0..9 {
            turns.draw(None, "many");
        }
        turns.draw(None, "one");
        turns.up(None, 1);
        for _ in 0..9 {
            turns.left(None, "many");
        }
        assert_eq!(turns.draw(None, "many"), 2);
        turns.left(None, "many");
        turns.left(None, "one");
        assert!(turns.0.is_empty(), "{turns:?}");
    }
}
