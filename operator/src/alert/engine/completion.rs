//! Completions of background tasks, and their consequences.

use gatehouse_crds::alert::{AlertPolicyStatus, TestStatus};

use super::{Engine, given_up};
use crate::alert::{
    policy::PolicyKey,
    policy_state::{Delivery, PolicyState, subjects},
    ports::{ClusterView, Effects},
    queue::{Outcome, Verdict},
};

/// Completion of a background task.
pub(super) enum Completion {
    Saved(PolicyKey, String, u64, bool, Result<(), String>),
    Status(PolicyKey, String, Box<AlertPolicyStatus>, Result<(), String>),
    Sent(PolicyKey, u64, Box<Delivery>, Outcome),
    Tested(PolicyKey, String, TestStatus),
}

impl<S: ClusterView, H: Effects> Engine<S, H> {
    pub(super) fn finish(&mut self, done: Completion) {
        let now = self.effects.now();
        match done {
            Completion::Saved(key, uid, revision, removed, result) => {
                if let Some(entry) = self.entry(&key, &uid) {
                    entry.saved(revision, removed, result, now);
                    self.touched.insert(key);
                }
            }
            Completion::Status(key, uid, status, result) => {
                if let Some(entry) = self.entry(&key, &uid) {
                    entry.written(*status, result, now);
                    self.touched.insert(key);
                }
            }
            Completion::Tested(key, uid, test) => {
                if let Some(entry) = self.entry(&key, &uid) {
                    entry.tested(test);
                    self.touched.insert(key);
                }
            }
            Completion::Sent(key, number, delivery, outcome) => self.sent(key, number, &delivery, outcome),
        }
    }

    fn sent(&mut self, key: PolicyKey, number: u64, delivery: &Delivery, outcome: Outcome) {
        let now = self.effects.now();
        if let Some(count) = self.in_flight.get_mut(&key.namespace) {
            *count = count.saturating_sub(1);
        }
        self.touched.append(&mut self.starved);
        let Some(entry) = self.policies.get_mut(&key).filter(|entry| entry.number == number) else {
            return;
        };
        let receiver = &delivery.receiver.name;
        let result = match &outcome {
            Outcome::Accepted => Some("success"),
            Outcome::NotSent => None,
            _ => Some("failure"),
        };
        if let Some(result) = result {
            self.metrics.alert_delivery(key.labels(), receiver, result, 1);
        }
        let failed = outcome.failure().map(str::to_owned);
        let message = &delivery.message;
        let verdict = entry.sent(delivery.destination, message, outcome, now);
        if let (Verdict::Again { first: true } | Verdict::Dropped(_), Some(failed)) = (&verdict, failed) {
            let note = format!(
                "Receiver {receiver} of {} {key} did not take an alert: {failed}",
                key.kind()
            );
            for subject in subjects(&message.content) {
                self.effects.undelivered(&subject, &note);
            }
        }
        if let Verdict::Dropped(count) | Verdict::Delivered { dropped: count } = verdict {
            given_up(&self.metrics, &key, "dropped", vec![(receiver.clone(), count)]);
        }
        self.touched.insert(key);
    }

    fn entry(&mut self, key: &PolicyKey, uid: &str) -> Option<&mut PolicyState> {
        self.policies.get_mut(key).filter(|entry| entry.uid == uid)
    }
}
