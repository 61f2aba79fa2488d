//! From what has happened to what waits in the receivers' queues.
//!
//! Single alerts are reported at once. When more begin than people can read, they are reported as groups by
//! rule and issuer, each with its first twenty names and the count: once when it opens, again when it
//! has grown or worsened, and once when the last of it has ended. Alerts for a server that is away wait some seconds for
//! others of their kind. An Alertmanager gets every alert, for it groups by itself.
//!
//! The end of an alert goes to the receivers of its beginning, whatever severity they want by then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use gatehouse_crds::alert::{Format, Rule, Severity};
use jiff::Timestamp;

use super::{
    destination::DestinationSet,
    message::{Alert, Content, Group, Status, Subject},
    outbox::{Look, Outbox, alert},
    policy::Policy,
    rules::NETWORK,
    state::{Firing, GroupKey, Key, News, Open, State},
};

/// Number of single alerts that may begin within [`STORM_WINDOW`]; more are reported as groups.
const MAX_SINGLE_ALERTS: usize = 20;
const STORM_WINDOW: Duration = Duration::from_secs(60);
/// Minimal time before a group that has grown is reported again; it doubles each time.
const GROUP_INTERVAL: Duration = Duration::from_secs(60);
/// Alerts about a server that is away wait so long for others: its outage is one message.
const OUTAGE_GROUP_WAIT: Duration = Duration::from_secs(15);

/// Decides what an active policy reports.
pub struct Notifier<'a> {
    policy: &'a Policy,
    now: Timestamp,
    out: Outbox<'a>,
}

/// Messages of one notification.
#[derive(Default)]
struct Words {
    /// For whom people read: with those that took the beginning, when it is an end.
    single: Vec<(Content, DestinationSet)>,
    /// For Alertmanagers: what has ended, and what fires.
    over: Vec<(Alert, DestinationSet)>,
    each: Vec<Alert>,
}

impl Words {
    fn say(&mut self, content: Content) {
        self.single.push((content, DestinationSet::default()));
    }
}

impl<'a> Notifier<'a> {
    /// By `policy`, at `now`.
    pub fn new(policy: &'a Policy, look: Look<'a>, now: Timestamp) -> Self {
        let valid = policy.repeat.saturating_mul(3).as_secs().max(60);
        Self {
            policy,
            now,
            out: Outbox::new(policy.key.to_string(), look, valid, now),
        }
    }

    /// Number of dropped deliveries, by receiver.
    pub fn dropped(self) -> Vec<(String, usize)> {
        self.out.dropped
    }

    /// Queues what is new, what is to be repeated, and the heartbeat.
    pub fn notify(&mut self, state: &mut State) {
        if std::mem::take(&mut state.withdraw_due) {
            self.out.withdraw(state);
        }
        let mut words = Words::default();
        let news = std::mem::take(&mut state.news);
        let repeats = state.repeat_at.is_some_and(|at| at <= self.now);
        if !news.is_empty() || repeats {
            self.begun(state, &news, &mut words);
            self.ended(state, news.ended, &mut words);
            self.grown(state, &mut words);
            self.repeat(state, &mut words);
            state.repeat_at = self.next_repeat(state);
            if !words.each.is_empty() || !words.over.is_empty() {
                state.changed();
            }
        }
        self.queue(state, words);
        self.heartbeat(state);
    }

    fn heartbeat(&mut self, state: &mut State) {
        let due = heartbeat_at(self.policy, state, self.now).is_some_and(|at| at <= self.now);
        let Some(interval) = self.policy.heartbeat.filter(|_| due) else {
            return;
        };
        state.heartbeat = Some(self.now);
        let receivers = state
            .destinations
            .iter()
            .filter(|destination| !destination.is_retired());
        let able = receivers.filter(|destination| destination.receiver.takes_heartbeats());
        for id in able.map(|destination| destination.id).collect::<Vec<_>>() {
            let interval_seconds = interval.as_secs();
            self.out.push(state, id, Content::Heartbeat { interval_seconds });
        }
    }

    fn begun(&mut self, state: &mut State, news: &News, words: &mut Words) {
        while state
            .recent
            .front()
            .is_some_and(|last| last.duration_since(self.now).abs() >= span(STORM_WINDOW))
        {
            state.recent.pop_front();
        }
        let waiting = self.wait_for_others(state, &news.begun);
        let begun = || news.begun.iter().filter(|key| !waiting.contains(*key));
        let storm = state.recent.len() + begun().count() > MAX_SINGLE_ALERTS;
        let mut bundles: BTreeMap<GroupKey, Vec<&Key>> = BTreeMap::new();
        for key in begun() {
            let subject = self.out.subject(key.rule.kind(), &key.name);
            let Some(firing) = state.firing.get_mut(key) else {
                continue;
            };
            firing.last_sent = Some(self.now);
            let alert = alert(key, firing, subject.clone(), None);
            words.each.push(alert.clone());
            state.recent.push_back(self.now);
            if storm || is_outage(key.rule, &subject) {
                bundles.entry(bundle(key, &subject)).or_default().push(key);
            } else {
                words.say(Content::Alert(alert));
            }
        }
        while state.recent.len() > MAX_SINGLE_ALERTS + 1 {
            state.recent.pop_front();
        }
        for (bundle, keys) in bundles {
            match keys.as_slice() {
                // Alone of its kind, and nothing to join: it has a line of its own.
                [key] if !state.groups.contains_key(&bundle) => {
                    if let Some(firing) = state.firing.get(*key) {
                        let subject = self.out.subject(key.rule.kind(), &key.name);
                        words.say(Content::Alert(alert(key, firing, subject, None)));
                    }
                }
                keys => self.join(state, bundle, keys),
            }
        }
        self.worse(state, news, words);
        state.news.begun = waiting.into_iter().collect();
    }

    /// Returns those of `begun` that wait for others: a server is away, and its Certificates find out one after the other.
    fn wait_for_others(&self, state: &mut State, begun: &[Key]) -> BTreeSet<Key> {
        let mut waiting = BTreeSet::new();
        let mut outages = BTreeMap::new();
        for key in begun {
            let subject = self.out.subject(key.rule.kind(), &key.name);
            let bundle = bundle(key, &subject);
            if !is_outage(key.rule, &subject) || state.groups.contains_key(&bundle) {
                continue;
            }
            let since = state
                .outages
                .get(&bundle)
                .map_or(self.now, |since| *since.min(&self.now));
            if since.checked_add(OUTAGE_GROUP_WAIT).is_ok_and(|end| self.now < end) {
                waiting.insert(key.clone());
                outages.insert(bundle, since);
            }
        }
        state.outages = outages;
        waiting
    }

    fn worse(&mut self, state: &mut State, news: &News, words: &mut Words) {
        for key in &news.worse {
            let subject = self.out.subject(key.rule.kind(), &key.name);
            let Some(firing) = state.firing.get_mut(key) else {
                continue;
            };
            // Begun in the same moment: reported above, at its severity.
            if news.begun.contains(key) {
                continue;
            }
            firing.last_sent = Some(self.now);
            let worse = alert(key, firing, subject, None);
            words.each.push(worse.clone());
            match firing.group.as_ref().and_then(|group| state.groups.get_mut(group)) {
                Some(group) if group.severity < worse.severity => {
                    group.severity = worse.severity;
                    // It is reported again at once.
                    group.reported = 0;
                }
                Some(_) => {}
                None => words.say(Content::Alert(worse)),
            }
        }
    }

    /// Makes `keys` members of the group `bundle`, which opens with them if need be.
    fn join(&mut self, state: &mut State, bundle: GroupKey, keys: &[&Key]) {
        let bundle = Arc::new(bundle);
        let issuer = keys
            .first()
            .and_then(|key| self.out.subject(key.rule.kind(), &key.name).issuer.clone());
        let group = state.groups.entry(bundle.clone()).or_insert_with(|| Open {
            fingerprint: format!("{:032x}", rand::random::<u128>()),
            issuer,
            severity: Severity::Info,
            since: self.now,
            count: 0,
            most: 0,
            reported: 0,
            growths: 0,
            last_sent: self.now,
            first: Vec::new(),
            delivered_to: DestinationSet::default(),
        });
        for key in keys {
            let Some(firing) = state.firing.get_mut(*key) else {
                continue;
            };
            firing.group = Some(bundle.clone());
            if group.severity < firing.severity {
                group.severity = firing.severity;
                group.reported = 0;
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
            let over = alert(
                &key,
                &firing,
                self.out.subject(key.rule.kind(), &key.name),
                Some(self.now),
            );
            words.over.push((over.clone(), firing.delivered_to));
            let Some(bundle) = &firing.group else {
                words.single.push((Content::Alert(over), firing.delivered_to));
                continue;
            };
            let Some(group) = state.groups.get_mut(bundle) else {
                continue;
            };
            group.count = group.count.saturating_sub(1);
            if group.count == 0
                && let Some(group) = state.groups.remove(bundle)
            {
                let over = self.out.group(bundle, &group, Some(self.now));
                words.single.push((over, group.delivered_to));
            }
        }
    }

    /// Reports groups that are new or have grown, unless they have ended by now.
    fn grown(&self, state: &mut State, words: &mut Words) {
        let open: Vec<Arc<GroupKey>> = state.groups.keys().cloned().collect();
        for key in open {
            let Some(group) = state.groups.get_mut(&key) else {
                continue;
            };
            let due = group
                .last_sent
                .checked_add(growth(group))
                .is_ok_and(|at| at <= self.now);
            let grown = group.count > group.reported && due;
            if group.reported == 0 || grown {
                group.growths = group.growths.saturating_add(u32::from(grown));
                group.reported = group.count;
                group.last_sent = self.now;
                words.say(self.out.group(&key, group, None));
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
                let alert = alert(key, firing, self.out.subject(key.rule.kind(), &key.name), None);
                words.each.push(alert.clone());
                if firing.group.is_none() {
                    words.say(Content::Alert(alert));
                }
            }
        }
        for (key, group) in &mut state.groups {
            if due(group.last_sent) && group.severity > Severity::Info {
                group.reported = group.count;
                group.last_sent = now;
                words.say(self.out.group(key, group, None));
            }
        }
    }

    fn next_repeat(&self, state: &State) -> Option<Timestamp> {
        let after = |sent: Timestamp, pause: Duration| sent.checked_add(pause).ok();
        let alerts = state.firing.values().filter(|firing| repeats(firing));
        let alerts = alerts.filter_map(|firing| after(firing.last_sent?, self.policy.repeat));
        let groups = state.groups.values().filter_map(|group| {
            let grown = group.count > group.reported;
            let pause = if grown { growth(group) } else { self.policy.repeat };
            after(group.last_sent, pause.min(self.policy.repeat))
        });
        let outages = state
            .outages
            .values()
            .filter_map(|since| after(*since, OUTAGE_GROUP_WAIT));
        alerts.chain(groups).chain(outages).min()
    }

    fn queue(&mut self, state: &mut State, words: Words) {
        let Words { single, over, each } = words;
        if single.is_empty() && over.is_empty() && each.is_empty() {
            return;
        }
        let receivers = state
            .destinations
            .iter()
            .filter(|destination| !destination.is_retired());
        let receivers: Vec<_> = receivers
            .map(|destination| {
                let receiver = &destination.receiver;
                let announced = destination.queue.announced(false);
                (destination.id, receiver.least, receiver.format(), announced)
            })
            .collect();
        for (id, least, format, announced) in receivers {
            // Receivers of the beginning, also of one that is queued, get the end.
            let hears = |content: &Content, delivered_to: DestinationSet| match content {
                Content::Alert(alert) if alert.status == Status::Firing => alert.severity >= least,
                Content::Group(group) if group.status == Status::Firing => group.severity >= least,
                over => delivered_to.has(id) || announced.has(over),
            };
            if format == Format::Alertmanager {
                let firing = each.iter().map(|alert| (alert, DestinationSet::default()));
                let over = over.iter().map(|(alert, delivered_to)| (alert, *delivered_to));
                // What has ended goes first: an object that was made again has the same labels.
                let wanted = over
                    .chain(firing)
                    .filter(|(alert, delivered_to)| hears(&Content::Alert((*alert).clone()), *delivered_to))
                    .map(|(alert, _)| alert.clone());
                self.out.push_batches(state, id, &wanted.collect::<Vec<_>>());
            } else {
                for (content, delivered_to) in &single {
                    if hears(content, *delivered_to) {
                        self.out.push(state, id, content.clone());
                    }
                }
            }
        }
    }
}

/// When the next sign of life is due; at once when there was none yet.
pub fn heartbeat_at(policy: &Policy, state: &State, now: Timestamp) -> Option<Timestamp> {
    let interval = policy.heartbeat?;
    let next = |last: Timestamp| last.checked_add(interval).unwrap_or(Timestamp::MAX);
    Some(state.heartbeat.map_or(now, next))
}

/// Returns the group of `key`.
fn bundle(key: &Key, subject: &Subject) -> GroupKey {
    let issuer = subject.issuer.as_ref();
    GroupKey {
        rule: key.rule,
        issuer: issuer.map(|issuer| format!("{}/{}", issuer.kind, issuer.name)),
    }
}

/// Whether the cause is a server that is away, for which others wait, too.
fn is_outage(rule: Rule, subject: &Subject) -> bool {
    let failure = subject.last_failure.as_ref();
    matches!(rule, Rule::RenewalFailed | Rule::NotReady | Rule::Expiring)
        && failure.is_some_and(|failure| failure.reason == NETWORK)
}

/// Returns when a group that has grown is reported again.
fn growth(group: &Open) -> Duration {
    GROUP_INTERVAL.saturating_mul(1u32.checked_shl(group.growths).unwrap_or(u32::MAX))
}

/// Queues events that have no end, once.
fn repeats(firing: &Firing) -> bool {
    firing.severity > Severity::Info
}

fn span(time: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(time).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
#[path = "notifier_tests.rs"]
mod tests;
