#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use gatehouse_crds::alert::{AlertKind, Rule};
use serde_json::json;

use super::*;
use crate::alert::{
    durable,
    message::Subject,
    outbox::{Look, Outbox, alert},
    rules::Finding,
    state::Name,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn receiver(name: &str, url: &str, least: Severity) -> Receiver {
    let webhook = json!({"url": format!("https://{url}"), "format": "Slack"});
    Receiver {
        name: name.into(),
        least,
        webhook: serde_json::from_value(webhook).unwrap(),
    }
}

fn ops(url: &str) -> Receiver {
    receiver("ops", url, Severity::Warning)
}

/// Returns a state in which `web` fires, delivered to these receivers or, for `pending`, waiting for them.
fn firing(receivers: &[Receiver], pending: bool) -> State {
    let mut state = State::default();
    state.sync(receivers, 1, at(0));
    let name = Arc::new(Name {
        namespace: "app".into(),
        name: "web".into(),
        uid: "1".into(),
    });
    let finding = Finding {
        rule: Rule::RenewalFailed,
        severity: Severity::Warning,
        since: at(0),
    };
    state.observe(AlertKind::Certificate, "app", "web", Some((&name, &[finding])));
    state.news.begun.clear();
    let (key, fires) = state.firing.iter().next().unwrap();
    let content = Content::Alert(alert(key, fires, subject(&name), None));
    let ids: Vec<Id> = state.destinations.iter().map(|at| at.id).collect();
    for id in ids {
        let message = Message {
            id: format!("m{id}"),
            time: at(0),
            policy: "app/ops".into(),
            content: content.clone(),
        };
        let queue = &mut state.destination_mut(id).unwrap().queue;
        queue.push(message.clone(), 0, at(0));
        if !pending {
            queue.start(u64::MAX, at(0)).unwrap();
            state.sent(id, &message, Outcome::Accepted, (1, 0.0), at(0));
        }
    }
    state
}

fn subject(name: &Name) -> Arc<Subject> {
    Arc::new(Subject {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        ..Subject::default()
    })
}

/// Returns the queued messages, as `<receiver's host> <receiver> <status>`.
fn waiting(state: &mut State, now: i64) -> Vec<String> {
    let look: Look<'_> = &|_, name| Some(subject(name));
    Outbox::new("app/ops".into(), look, 60, at(now)).withdraw(state);
    let mut lines = Vec::new();
    for id in state.destinations.iter().map(|at| at.id).collect::<Vec<_>>() {
        while let Some(message) = state.destination_mut(id).unwrap().queue.start(u64::MAX, at(now)) {
            let status = match &message.content {
                Content::Alert(alert) => alert.status.as_str(),
                other => panic!("{other:?}"),
            };
            let receiver = &state.destination_mut(id).unwrap().receiver;
            let host = receiver.webhook.url.clone().unwrap().replace("https://", "");
            lines.push(format!("{host} {} {status}", receiver.name));
            state.sent(id, &message, Outcome::Accepted, (1, 0.0), at(now));
        }
    }
    lines
}

#[test]
fn a_receiver_that_is_removed_is_told_the_end_and_then_forgotten() {
    let mut state = firing(&[ops("a"), receiver("other", "b", Severity::Warning)], false);
    state.sync(&[ops("a")], 2, at(10));
    assert_eq!(waiting(&mut state, 10), ["b other resolved"]);
    assert_eq!(waiting(&mut state, 11), Vec::<String>::new());
    assert_eq!(state.forget_retired(at(11)), []);
    assert_eq!(state.destinations.len(), 1);
}

#[test]
fn a_receiver_that_is_renamed_goes_on_where_it_was() {
    let mut state = firing(&[ops("a")], false);
    state.sync(&[receiver("pager", "a", Severity::Warning)], 2, at(10));
    assert_eq!(waiting(&mut state, 10), Vec::<String>::new());
    let known = state.firing.values().next().unwrap().delivered_to;
    assert!(known.has(state.destinations[0].id) && state.destinations.len() == 1);
    assert!(state.queue("pager").unwrap().last_success.is_some());
}

#[test]
fn a_receiver_that_moves_gets_what_fires_and_the_old_one_gets_the_end() {
    let mut state = firing(&[ops("a")], false);
    // The spec changes while no operator runs.
    let mut state = durable::unpack(&durable::pack(&mut state).0).unwrap();
    state.sync(&[ops("b")], 2, at(10));
    assert_eq!(waiting(&mut state, 10), ["a ops resolved", "b ops firing"]);
    state.forget_retired(at(10));
    let known = state.firing.values().next().unwrap().delivered_to;
    assert!(known.has(state.destinations[0].id));
}

#[test]
fn what_waits_for_a_receiver_goes_to_its_new_host_alone() {
    let mut state = firing(&[ops("a")], true);
    state.sync(&[ops("b")], 2, at(10));
    assert_eq!(waiting(&mut state, 10), ["b ops firing"]);
}

#[test]
fn a_receiver_that_wants_higher_severities_only_is_told_the_end_of_lower_ones() {
    let critical = receiver("ops", "a", Severity::Critical);
    let mut state = firing(&[ops("a")], false);
    state.sync(std::slice::from_ref(&critical), 2, at(10));
    assert_eq!(waiting(&mut state, 10), ["a ops resolved"]);
    // What was not delivered is not sent any more.
    let mut state = firing(&[ops("a")], true);
    state.sync(&[critical], 2, at(10));
    assert_eq!(waiting(&mut state, 10), Vec::<String>::new());
}

#[test]
fn what_is_under_way_when_its_receiver_is_removed_is_ended_too() {
    let mut state = firing(&[ops("a")], true);
    let message = state.destination_mut(0).unwrap().queue.start(u64::MAX, at(0)).unwrap();
    state.retire_all(at(1));
    let look: Look<'_> = &|_, name| Some(subject(name));
    Outbox::new("app/ops".into(), look, 60, at(1)).withdraw(&mut state);
    state.forget_alerts();
    state.sent(0, &message, Outcome::Accepted, (1, 0.0), at(2));
    assert_eq!(waiting(&mut state, 2), ["a ops resolved"]);
}

#[test]
fn a_retired_receiver_that_is_dead_is_given_up_after_an_hour() {
    let mut state = firing(&[ops("a")], false);
    state.retire_all(at(0));
    let look: Look<'_> = &|_, name| Some(subject(name));
    Outbox::new("app/ops".into(), look, 60, at(0)).withdraw(&mut state);
    assert_eq!(state.forget_retired(at(3_599)), []);
    assert_eq!(state.forget_retired(at(3_600)), [("ops".to_owned(), 1)]);
    assert!(state.destinations.is_empty());
    // A clock that was a year ahead has not made it an hour and a year.
    let mut state = firing(&[ops("a")], false);
    state.retire_all(at(365 * 86_400));
    Outbox::new("app/ops".into(), look, 60, at(0)).withdraw(&mut state);
    state.clamp(at(0));
    assert_eq!(state.forget_retired(at(3_600)), [("ops".to_owned(), 1)]);
}

#[test]
fn an_incident_that_another_receiver_or_policy_goes_on_with_is_not_resolved() {
    let pager = |name: &str, least| Receiver {
        webhook: serde_json::from_value(json!({
            "format": "PagerDuty", "url": "https://a", "routingKeySecretRef": {"name": "pd", "key": "key"}
        }))
        .unwrap(),
        ..receiver(name, "a", least)
    };
    let both = [pager("one", Severity::Warning), pager("two", Severity::Warning)];
    let mut state = firing(&both, false);
    state.sync(&both[..1], 2, at(10));
    assert_eq!(waiting(&mut state, 10), Vec::<String>::new());
    state.forget_retired(at(10));
    // Then the policy goes, and another one has reported the same.
    let key = state.firing.keys().next().unwrap().clone();
    state.fires_elsewhere = [(state.destinations[0].id, [key].into())].into();
    let mut alone = state.clone();
    state.retire_all(at(20));
    assert_eq!(waiting(&mut state, 20), Vec::<String>::new());
    alone.fires_elsewhere.clear();
    alone.retire_all(at(20));
    assert_eq!(waiting(&mut alone, 20), ["a one resolved"]);
}

#[test]
fn destinations_are_bounded_however_often_a_spec_changes() {
    let mut state = State::default();
    for number in 0..200 {
        let mut receivers: Vec<Receiver> = (0..16).map(|place| ops(&format!("{number}-{place}"))).collect();
        for (place, receiver) in receivers.iter_mut().enumerate() {
            receiver.name = format!("ops-{place}");
        }
        state.sync(&receivers, number, at(number));
        let current = state.destinations.iter().filter(|at| !at.is_retired()).count();
        assert_eq!(current, 16);
        assert!(state.destinations.len() <= usize::from(MAX_DESTINATIONS));
    }
}
