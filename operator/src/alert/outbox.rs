//! Puts messages into the receivers' queues, and resolves there what a receiver does not get any more.

use std::sync::Arc;

use gatehouse_crds::alert::{AlertKind, Format};
use gatehouse_crds::certificate::SigningIssuer;
use jiff::Timestamp;

use super::{
    batch::BATCH,
    destination::{Destination, DestinationSet, Id},
    message::{Alert, Content, Group, Message, Status, Subject, fingerprint},
    state::{Firing, GroupKey, Key, Name, Open, State},
};

/// Returns the facts about an object; `None` when it was deleted.
pub(super) type Look<'a> = &'a dyn Fn(AlertKind, &Name) -> Option<Arc<Subject>>;

/// Queues of one policy, at one moment.
pub(super) struct Outbox<'a> {
    /// The policy's name, as receivers read it.
    policy: String,
    look: Look<'a>,
    /// For how many seconds an Alertmanager is to believe what fires.
    valid_seconds: u64,
    now: Timestamp,
    /// Number of dropped deliveries, by receiver.
    pub(super) dropped: Vec<(String, usize)>,
}

impl<'a> Outbox<'a> {
    /// For the policy of that name, at `now`.
    pub(super) fn new(policy: String, look: Look<'a>, valid_seconds: u64, now: Timestamp) -> Self {
        Self {
            policy,
            look,
            valid_seconds,
            now,
            dropped: Vec::new(),
        }
    }

    /// Resolves what a receiver got and does not get any more: since it left the policy, became another service, or wants
    /// higher severities only. Sends to the successor of another receiver what that one got.
    pub(super) fn withdraw(&mut self, state: &mut State) {
        for place in 0..state.destinations.len() {
            let Some(destination) = state.destinations.get_mut(place) else {
                continue;
            };
            if let Some(before) = destination.succeeds.take() {
                let destination = destination.clone();
                self.catch_up(state, &destination, before);
            }
        }
        let destinations = state.destinations.clone();
        for destination in &destinations {
            self.end(state, destination, &destinations);
        }
        state.fires_elsewhere.clear();
    }

    fn catch_up(&mut self, state: &mut State, destination: &Destination, before: Id) {
        let (id, least) = (destination.id, destination.receiver.least);
        let known = |set: DestinationSet| set.has(before);
        let alerts = state.firing.iter().filter(|(_, firing)| known(firing.delivered_to));
        let alerts = alerts.filter(|(_, firing)| firing.severity >= least);
        let alerts: Vec<Alert> = alerts.map(|(key, firing)| self.firing(key, firing, None)).collect();
        let groups = state.groups.iter().filter(|(_, group)| known(group.delivered_to));
        let groups = groups.filter(|(_, group)| group.severity >= least);
        let groups: Vec<Content> = groups.map(|(key, group)| self.group(key, group, None)).collect();
        self.push_all(state, id, destination.receiver.format(), alerts, groups);
    }

    fn end(&mut self, state: &mut State, destination: &Destination, all: &[Destination]) {
        let (id, least, retired) = (destination.id, destination.receiver.least, destination.is_retired());
        let sending = destination.queue.announced(true);
        let unwanted = |severity| retired || severity < least;
        let now = Some(self.now);
        let elsewhere = state.fires_elsewhere.get(&id);
        let same: Vec<&Destination> = all
            .iter()
            .filter(|other| is_same_incident(destination, other))
            .collect();
        let mut alerts = Vec::new();
        for (key, firing) in &mut state.firing {
            if !unwanted(firing.severity) {
                continue;
            }
            let over = self.firing(key, firing, now);
            if firing.delivered_to.has(id) || sending.has(&Content::Alert(over.clone())) {
                firing.delivered_to.remove(id);
                let goes_on =
                    |other: &&Destination| firing.severity >= other.receiver.least && firing.delivered_to.has(other.id);
                if !same.iter().any(goes_on) && elsewhere.is_none_or(|keys| !keys.contains(key)) {
                    alerts.push(over);
                }
            }
        }
        let mut groups = Vec::new();
        for (key, group) in &mut state.groups {
            if !unwanted(group.severity) {
                continue;
            }
            let over = self.group(key, group, now);
            if group.delivered_to.has(id) || sending.has(&over) {
                group.delivered_to.remove(id);
                groups.push(over);
            }
        }
        self.push_all(state, id, destination.receiver.format(), alerts, groups);
    }

    fn push_all(&mut self, state: &mut State, id: Id, format: Format, alerts: Vec<Alert>, groups: Vec<Content>) {
        if format == Format::Alertmanager {
            self.push_batches(state, id, &alerts);
            return;
        }
        for content in alerts.into_iter().map(Content::Alert).chain(groups) {
            self.push(state, id, content);
        }
    }

    /// Puts alerts for an Alertmanager into its queue.
    pub(super) fn push_batches(&mut self, state: &mut State, id: Id, alerts: &[Alert]) {
        for alerts in alerts.chunks(BATCH) {
            let content = Content::Batch {
                alerts: alerts.to_vec(),
                valid_seconds: self.valid_seconds,
            };
            self.push(state, id, content);
        }
    }

    /// Puts `content` into the queue of a receiver.
    pub(super) fn push(&mut self, state: &mut State, id: Id, content: Content) {
        state.changed();
        let message = Message {
            id: message_id(),
            time: self.now,
            policy: self.policy.clone(),
            content,
        };
        let revision = state.revision;
        let Some(destination) = state.destination_mut(id) else {
            return;
        };
        let dropped = destination.queue.push(message, revision, self.now);
        if dropped > 0 {
            self.dropped.push((destination.receiver.name.clone(), dropped));
        }
    }

    /// The group of `key`: it is open, or has `ended`.
    pub(super) fn group(&self, key: &GroupKey, group: &Open, ended: Option<Timestamp>) -> Content {
        Content::Group(Group {
            status: ended.map_or(Status::Firing, |_| Status::Resolved),
            severity: group.severity,
            rule: key.rule,
            fingerprint: group.fingerprint.clone(),
            since: group.since,
            ended,
            issuer: group.issuer.clone(),
            count: if ended.is_some() { group.most } else { group.count },
            first: group
                .first
                .iter()
                .map(|name| self.subject(key.rule.kind(), name))
                .collect(),
        })
    }

    /// Returns the facts about an object.
    pub(super) fn subject(&self, kind: AlertKind, name: &Name) -> Arc<Subject> {
        subject(self.look, kind, name)
    }

    fn firing(&self, key: &Key, firing: &Firing, ended: Option<Timestamp>) -> Alert {
        alert(key, firing, self.subject(key.rule.kind(), &key.name), ended)
    }
}

/// Returns the facts about a Certificate; of a deleted one, its name.
fn subject(look: Look<'_>, kind: AlertKind, name: &Name) -> Arc<Subject> {
    look(kind, name).unwrap_or_else(|| {
        Arc::new(Subject {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            issuer: None::<SigningIssuer>,
            ..Subject::default()
        })
    })
}

/// Whether `other` reports to the same PagerDuty service, in which both have the same incidents.
fn is_same_incident(destination: &Destination, other: &Destination) -> bool {
    destination.receiver.format() == Format::PagerDuty
        && other.id != destination.id
        && !other.is_retired()
        && other.receiver.same_destination(&destination.receiver)
}

/// The alert of `key`: it fires, or has `ended`.
pub(super) fn alert(key: &Key, firing: &Firing, subject: Arc<Subject>, ended: Option<Timestamp>) -> Alert {
    Alert {
        status: ended.map_or(Status::Firing, |_| Status::Resolved),
        severity: firing.severity,
        rule: key.rule,
        fingerprint: fingerprint(&key.name.uid, key.rule),
        since: firing.since,
        ended,
        subject,
        clears: false,
    }
}

/// A new `webhook-id`.
pub(super) fn message_id() -> String {
    format!("msg_{:032x}", rand::random::<u128>())
}
