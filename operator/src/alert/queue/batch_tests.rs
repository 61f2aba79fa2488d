//! Alerts for an Alertmanager: what waits is merged, what is refused is split.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use gatehouse_crds::alert::Rule;

use super::*;
use crate::alert::message::Subject;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn word(name: &str, status: Status, severity: Severity) -> Alert {
    Alert {
        status,
        severity,
        rule: Rule::RenewalFailed,
        // As after a restart.
        fingerprint: String::new(),
        since: at(0),
        ended: None,
        subject: Subject {
            namespace: "app".into(),
            name: name.into(),
            ..Subject::default()
        }
        .into(),
        clears: false,
    }
}

fn fires(name: &str) -> Alert {
    word(name, Status::Firing, Severity::Warning)
}

fn push(queue: &mut Queue, id: &str, alerts: Vec<Alert>, now: i64) {
    let message = Message {
        id: id.into(),
        time: at(0),
        policy: "app/ops".into(),
        content: Content::Batch {
            alerts,
            valid_seconds: 60,
        },
    };
    assert_eq!(queue.push(message, 0, at(now)), 0);
}

/// Returns the next deliveries, as `<id>: <names>`.
fn next(queue: &mut Queue, now: i64) -> Option<(String, Vec<String>)> {
    let message = queue.start(0, at(now))?;
    let Content::Batch { alerts, .. } = message.content else {
        panic!("no batch");
    };
    let names = alerts.iter().map(|alert| alert.subject.name.clone());
    Some((message.id, names.collect()))
}

fn unavailable() -> Outcome {
    Outcome::Unavailable {
        message: "no connection".into(),
        after: None,
    }
}

fn refused(content: bool) -> Outcome {
    Outcome::Refused {
        message: "it answered 400".into(),
        after: None,
        content,
    }
}

#[test]
fn a_new_alert_is_tried_at_once_together_with_what_an_outage_left_waiting() {
    let mut queue = Queue::default();
    push(&mut queue, "1", vec![fires("web")], 0);
    for now in [0, 5, 305, 2_105, 9_305] {
        assert!(next(&mut queue, now).is_some(), "{now}");
        queue.ended("1", unavailable(), 1, 0.0, at(now));
    }
    // Down for three hours; on its own it would be tried again after 7.6 hours.
    assert_eq!(queue.due(0), Some(at(27_305)));
    let critical = word("api", Status::Firing, Severity::Critical);
    push(&mut queue, "2", vec![critical], 10_800);
    let (id, names) = next(&mut queue, 10_800).unwrap();
    assert_eq!((id.as_str(), names), ("2", vec!["web".to_owned(), "api".into()]));
    queue.ended("2", Outcome::Accepted, 1, 0.0, at(10_800));
    assert!(queue.is_empty());
}

#[test]
fn a_new_alert_does_not_wait_behind_full_batches_and_its_success_sends_them() {
    let mut queue = Queue::default();
    let many = |from: usize| (from..from + BATCH).map(|number| fires(&number.to_string())).collect();
    for (id, from) in [("1", 0), ("2", 1_000)] {
        push(&mut queue, id, many(from), 0);
        assert_eq!(next(&mut queue, 0).unwrap().0, id);
        queue.ended(id, unavailable(), 1, 0.0, at(0));
    }
    push(&mut queue, "3", vec![fires("api")], 1);
    assert_eq!(next(&mut queue, 1).unwrap().0, "3");
    queue.ended("3", Outcome::Accepted, 1, 0.0, at(1));
    assert_eq!(next(&mut queue, 1).unwrap().0, "1");
    queue.ended("1", Outcome::Accepted, 1, 0.0, at(1));
    assert_eq!(next(&mut queue, 1).unwrap().0, "2");
}

#[test]
fn a_newer_word_replaces_the_one_that_waits_also_one_that_was_under_way_and_failed() {
    let mut queue = Queue::default();
    push(&mut queue, "1", vec![fires("web"), fires("api")], 0);
    next(&mut queue, 0);
    push(
        &mut queue,
        "2",
        vec![word("web", Status::Resolved, Severity::Warning)],
        1,
    );
    queue.ended("1", unavailable(), 1, 0.0, at(1));
    push(&mut queue, "3", vec![word("db", Status::Firing, Severity::Warning)], 2);
    let (id, names) = next(&mut queue, 2).unwrap();
    assert_eq!(
        (id.as_str(), names),
        ("3", vec!["web".to_owned(), "api".into(), "db".into()])
    );
    let entry = &queue.entries[0];
    let Content::Batch { alerts, .. } = &entry.message.content else {
        panic!("no batch");
    };
    let statuses: Vec<Status> = alerts.iter().map(|alert| alert.status).collect();
    assert_eq!(statuses, [Status::Resolved, Status::Firing, Status::Firing]);
}

#[test]
fn a_lower_severity_that_replaces_a_higher_one_ends_it() {
    let mut queue = Queue::default();
    push(
        &mut queue,
        "1",
        vec![word("web", Status::Resolved, Severity::Critical), fires("web")],
        0,
    );
    let Content::Batch { alerts, .. } = &queue.entries[0].message.content else {
        panic!("no batch");
    };
    assert_eq!(
        (alerts.len(), alerts[0].status, alerts[0].clears),
        (1, Status::Firing, true)
    );
}

#[test]
fn a_refused_batch_is_split_until_the_bad_alert_is_found_which_alone_is_given_up() {
    let mut queue = Queue::default();
    let names: Vec<String> = (0..BATCH).map(|number| format!("web-{number}")).collect();
    push(&mut queue, "1", names.iter().map(|name| fires(name)).collect(), 0);
    let (mut taken, mut dropped, mut requests) = (Vec::new(), 0, 0);
    while let Some((id, batch)) = next(&mut queue, 0) {
        requests += 1;
        let bad = batch.contains(&"web-77".to_owned());
        let outcome = if bad { refused(true) } else { Outcome::Accepted };
        match queue.ended(&id, outcome, 1, 0.0, at(0)) {
            Verdict::Delivered { .. } => taken.extend(batch),
            Verdict::Dropped(count) => {
                dropped += count;
                assert_eq!(batch, ["web-77"]);
            }
            Verdict::Split => assert!(batch.len() > 1),
            Verdict::Again { .. } => assert_eq!(batch, ["web-77"]),
        }
    }
    taken.sort();
    let mut expected: Vec<String> = names.into_iter().filter(|name| name != "web-77").collect();
    expected.sort();
    assert_eq!((taken, dropped), (expected, 1));
    assert!(requests <= 20, "{requests}");
    let message = queue.message.clone().unwrap();
    assert_eq!(message, "it answered 400 (gave up renewalFailed of app/web-77)");
    assert!(queue.is_empty());
}

#[test]
fn a_receiver_that_refuses_everything_is_not_asked_for_each_alert_and_loses_none() {
    for content in [true, false] {
        let mut queue = Queue::default();
        push(
            &mut queue,
            "1",
            (0..BATCH).map(|number| fires(&number.to_string())).collect(),
            0,
        );
        let mut requests = 0;
        while let Some((id, _)) = next(&mut queue, 0) {
            requests += 1;
            queue.ended(&id, refused(content), 1, 0.0, at(0));
        }
        assert!(requests <= 25, "{requests}");
        let left: usize = queue
            .entries
            .iter()
            .map(|entry| match &entry.message.content {
                Content::Batch { alerts, .. } => alerts.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(left, BATCH);
        // It has learned to take them.
        let mut taken = 0;
        while let Some(due) = queue.due(0) {
            let message = queue.start(0, due).unwrap();
            let Content::Batch { alerts, .. } = &message.content else {
                panic!("no batch");
            };
            taken += alerts.len();
            queue.ended(&message.id, Outcome::Accepted, 1, 0.0, due);
        }
        assert_eq!(taken, BATCH);
    }
}

#[test]
fn what_some_addresses_took_is_tried_every_five_minutes_for_a_day() {
    let mut queue = Queue::default();
    push(&mut queue, "1", vec![fires("web")], 0);
    let partial = || Outcome::Partial {
        message: "1 of 2".into(),
    };
    let (mut now, mut tries) = (0, 0);
    loop {
        assert!(next(&mut queue, now).is_some());
        tries += 1;
        match queue.ended("1", partial(), 1, 0.0, at(now)) {
            Verdict::Again { .. } => {}
            verdict => {
                assert_eq!(verdict, Verdict::Dropped(1));
                break;
            }
        }
        let due = queue.due(0).unwrap();
        let pause = due.as_second() - at(now).as_second();
        assert_eq!(pause, if tries == 1 { 5 } else { 300 });
        now += pause;
    }
    assert_eq!((tries, queue.last_success), (290, None));
}
