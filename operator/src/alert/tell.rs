//! From what has happened to what waits in the receivers' queues.
//!
//! Single alerts are told at once. When more begin than people can read, they are told as groups by
//! rule and issuer, each with its first twenty names and the count: once when it opens, again when it
//! has grown or worsened, and once when the last of it has ended. An Alertmanager gets every alert, for it
//! groups by itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gatehouse_crds::alert::{AlertKind, Format, Severity};
use gatehouse_crds::certificate::SigningIssuer;
use jiff::Timestamp;

use super::{
    message::{Alert, Content, Group, Message, Status, Subject, fingerprint},
    policy::{Policy, Receiver},
    state::{Firing, GroupKey, Key, Name, News, Open, State},
};

/// So many single alerts may begin within [`WINDOW`]; more are told as groups.
const SINGLE: usize = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// A group that has grown is told again no sooner.
const GROWTH: Duration = Duration::from_secs(60);
/// Alerts in one request to an Alertmanager.
const BATCH: usize = 200;

/// What is known of an object; none when it is gone.
type Look<'a> = &'a dyn Fn(AlertKind, &Name) -> Option<Arc<Subject>>;

/// What telling needs to know of the world.
pub struct Tell<'a> {
    policy: &'a Policy,
    look: Look<'a>,
    now: Timestamp,
    dropped: Vec<(String, usize)>,
}

/// What the receivers of one telling get, before their least severity is asked.
#[derive(Default)]
struct Words {
    /// For whom people read.
    single: Vec<Content>,
    /// For Alertmanagers.
    each: Vec<Alert>,
}

impl<'a> Tell<'a> {
    /// By `policy`, at `now`.
    pub fn new(policy: &'a Policy, look: Look<'a>, now: Timestamp) -> Self {
        Self {
            policy,
            look,
            now,
            dropped: Vec::new(),
        }
    }

    /// How many deliveries were dropped, by receiver.
    pub fn dropped(self) -> Vec<(String, usize)> {
        self.dropped
    }

    /// Tells the news, what is to be repeated, and the sign of life.
    pub fn tell(&mut self, state: &mut State) {
        let mut words = Words::default();
        let news = std::mem::take(&mut state.news);
        let repeats = state.repeat_at.is_some_and(|at| at <= self.now);
        if !news.is_empty() || repeats {
            self.begun(state, &news, &mut words);
            self.ended(state, news.ended, &mut words);
            self.repeat(state, &mut words);
            state.repeat_at = self.next_repeat(state);
            if !words.each.is_empty() {
                state.changed();
            }
        }
        self.queue(state, &words);
        if heartbeat_at(self.policy, state, self.now).is_some_and(|at| at <= self.now)
            && let Some(interval) = self.policy.heartbeat
        {
            state.heartbeat = Some(self.now);
            let content = Content::Heartbeat {
                interval_seconds: interval.as_secs(),
            };
            for receiver in &self.policy.receivers {
                self.push(state, receiver, content.clone());
            }
        }
    }

    fn begun(&mut self, state: &mut State, news: &News, words: &mut Words) {
        while state
            .recent
            .front()
            .is_some_and(|told| told.duration_since(self.now).abs() >= span(WINDOW))
        {
            state.recent.pop_front();
        }
        let storm = state.recent.len() + news.begun.len() > SINGLE;
        let mut bundles: BTreeMap<GroupKey, Vec<&Key>> = BTreeMap::new();
        for key in &news.begun {
            let subject = self.subject(key.rule.kind(), &key.name);
            let Some(firing) = state.firing.get_mut(key) else {
                continue;
            };
            firing.last_sent = Some(self.now);
            let alert = alert(key, firing, subject.clone(), None);
            words.each.push(alert.clone());
            state.recent.push_back(self.now);
            if storm {
                let issuer = subject
                    .issuer
                    .as_ref()
                    .map(|issuer| format!("{}/{}", issuer.kind, issuer.name));
                let bundle = GroupKey { rule: key.rule, issuer };
                bundles.entry(bundle).or_default().push(key);
            } else {
                words.single.push(Content::Alert(alert));
            }
        }
        while state.recent.len() > SINGLE + 1 {
            state.recent.pop_front();
        }
        for (bundle, keys) in bundles {
            match keys.as_slice() {
                // Alone of its kind, and nothing to join: it has a line of its own.
                [key] if !state.groups.contains_key(&bundle) => {
                    if let Some(firing) = state.firing.get(*key) {
                        words.single.push(Content::Alert(alert(
                            key,
                            firing,
                            self.subject(key.rule.kind(), &key.name),
                            None,
                        )));
                    }
                }
                keys => self.join(state, bundle, keys),
            }
        }
        for key in &news.worse {
            let subject = self.subject(key.rule.kind(), &key.name);
            let Some(firing) = state.firing.get_mut(key) else {
                continue;
            };
            // Begun in the same breath: told above, as bad as it is.
            if news.begun.contains(key) {
                continue;
            }
            firing.last_sent = Some(self.now);
            let worse = alert(key, firing, subject, None);
            words.each.push(worse.clone());
            match firing.group.as_ref().and_then(|group| state.groups.get_mut(group)) {
                Some(group) if group.severity < worse.severity => {
                    group.severity = worse.severity;
                    // It is told again at once.
                    group.told = 0;
                }
                Some(_) => {}
                None => words.single.push(Content::Alert(worse)),
            }
        }
        let open: Vec<Arc<GroupKey>> = state.groups.keys().cloned().collect();
        for key in open {
            let Some(group) = state.groups.get_mut(&key) else {
                continue;
            };
            let grown = group.count > group.told && group.last_sent.checked_add(GROWTH).is_ok_and(|at| at <= self.now);
            if group.told == 0 || grown {
                group.told = group.count;
                group.last_sent = self.now;
                words.single.push(self.group(&key, group, None));
            }
        }
    }

    /// Makes `keys` members of the group `bundle`, which opens with them if need be.
    fn join(&mut self, state: &mut State, bundle: GroupKey, keys: &[&Key]) {
        let bundle = Arc::new(bundle);
        let issuer = keys
            .first()
            .and_then(|key| self.subject(key.rule.kind(), &key.name).issuer.clone());
        let group = state.groups.entry(bundle.clone()).or_insert_with(|| Open {
            fingerprint: format!("{:032x}", rand::random::<u128>()),
            issuer,
            severity: Severity::Info,
            since: self.now,
            count: 0,
            most: 0,
            told: 0,
            last_sent: self.now,
            first: Vec::new(),
        });
        for key in keys {
            let Some(firing) = state.firing.get_mut(*key) else {
                continue;
            };
            firing.group = Some(bundle.clone());
            if group.severity < firing.severity {
                group.severity = firing.severity;
                group.told = 0;
            }
            group.count += 1;
            if group.first.len() < Group::NAMED {
                group.first.push(key.name.clone());
            }
        }
        group.most = group.most.max(group.count);
    }

    fn ended(&mut self, state: &mut State, ended: Vec<(Key, Firing)>, words: &mut Words) {
        for (key, firing) in ended {
            let over = alert(&key, &firing, self.subject(key.rule.kind(), &key.name), Some(self.now));
            words.each.push(over.clone());
            let Some(bundle) = &firing.group else {
                words.single.push(Content::Alert(over));
                continue;
            };
            let Some(group) = state.groups.get_mut(bundle) else {
                continue;
            };
            group.count = group.count.saturating_sub(1);
            if group.count == 0
                && let Some(group) = state.groups.remove(bundle)
            {
                words.single.push(self.group(bundle, &group, Some(self.now)));
            }
        }
    }

    fn repeat(&mut self, state: &mut State, words: &mut Words) {
        let repeat = self.policy.repeat;
        let now = self.now;
        let due = |sent: Timestamp| sent.checked_add(repeat).is_ok_and(|at| at <= now);
        for (key, firing) in &mut state.firing {
            if repeats(firing) && firing.last_sent.is_some_and(due) {
                firing.last_sent = Some(now);
                let alert = alert(key, firing, subject(self.look, key.rule.kind(), &key.name), None);
                words.each.push(alert.clone());
                if firing.group.is_none() {
                    words.single.push(Content::Alert(alert));
                }
            }
        }
        for (key, group) in &mut state.groups {
            if due(group.last_sent) && group.severity > Severity::Info {
                group.told = group.count;
                group.last_sent = now;
                words.single.push(self.group(key, group, None));
            }
        }
    }

    fn next_repeat(&self, state: &State) -> Option<Timestamp> {
        let after = |sent: Timestamp, pause: Duration| sent.checked_add(pause).ok();
        let alerts = state.firing.values().filter(|firing| repeats(firing));
        let alerts = alerts.filter_map(|firing| after(firing.last_sent?, self.policy.repeat));
        let groups = state.groups.values().filter_map(|group| {
            let grown = group.count > group.told;
            after(
                group.last_sent,
                if grown {
                    GROWTH.min(self.policy.repeat)
                } else {
                    self.policy.repeat
                },
            )
        });
        alerts.chain(groups).min()
    }

    fn queue(&mut self, state: &mut State, words: &Words) {
        for receiver in &self.policy.receivers {
            if receiver.format() == Format::Alertmanager {
                let wanted: Vec<Alert> = words
                    .each
                    .iter()
                    .filter(|alert| alert.severity >= receiver.least)
                    .cloned()
                    .collect();
                for alerts in wanted.chunks(BATCH) {
                    let content = Content::Batch {
                        alerts: alerts.to_vec(),
                        valid_seconds: self.policy.repeat.saturating_mul(3).as_secs().max(60),
                    };
                    self.push(state, receiver, content);
                }
            } else {
                for content in &words.single {
                    let severity = match content {
                        Content::Alert(alert) => alert.severity,
                        Content::Group(group) => group.severity,
                        _ => continue,
                    };
                    if severity >= receiver.least {
                        self.push(state, receiver, content.clone());
                    }
                }
            }
        }
    }

    fn push(&mut self, state: &mut State, receiver: &Receiver, content: Content) {
        state.changed();
        let message = Message {
            id: message_id(),
            time: self.now,
            policy: self.policy.key.to_string(),
            content,
        };
        let queue = state.queues.entry(receiver.name.clone()).or_default();
        let dropped = queue.push(message, state.revision, self.now);
        if dropped > 0 {
            self.dropped.push((receiver.name.clone(), dropped));
        }
    }

    fn group(&self, key: &GroupKey, group: &Open, ended: Option<Timestamp>) -> Content {
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

    fn subject(&self, kind: AlertKind, name: &Name) -> Arc<Subject> {
        subject(self.look, kind, name)
    }
}

/// When the next sign of life is due; at once when there was none yet.
pub fn heartbeat_at(policy: &Policy, state: &State, now: Timestamp) -> Option<Timestamp> {
    let interval = policy.heartbeat?;
    let next = |last: Timestamp| last.checked_add(interval).unwrap_or(Timestamp::MAX);
    Some(state.heartbeat.map_or(now, next))
}

/// What is told of a Certificate; of one that is gone, its name.
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

fn alert(key: &Key, firing: &Firing, subject: Arc<Subject>, ended: Option<Timestamp>) -> Alert {
    Alert {
        status: ended.map_or(Status::Firing, |_| Status::Resolved),
        severity: firing.severity,
        rule: key.rule,
        fingerprint: fingerprint(&key.name.uid, key.rule),
        since: firing.since,
        ended,
        subject,
    }
}

/// News are told once.
fn repeats(firing: &Firing) -> bool {
    firing.severity > Severity::Info
}

/// A new `webhook-id`.
pub fn message_id() -> String {
    format!("msg_{:032x}", rand::random::<u128>())
}

fn span(time: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(time).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
#[path = "tell_tests.rs"]
mod tests;
