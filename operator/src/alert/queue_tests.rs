#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use gatehouse_crds::alert::Rule;
use proptest::prelude::*;

use super::*;
use crate::alert::message::{Alert, Status, Subject};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn message(id: &str, content: Content) -> Message {
    Message {
        id: id.into(),
        time: at(0),
        policy: "app/ops".into(),
        content,
    }
}

fn alert(name: &str, status: Status, severity: Severity) -> Content {
    Content::Alert(Alert {
        status,
        severity,
        rule: Rule::Expired,
        fingerprint: name.into(),
        since: at(0),
        ended: None,
        subject: Subject::default().into(),
        clears: false,
    })
}

fn firing(id: &str, name: &str) -> Message {
    message(id, alert(name, Status::Firing, Severity::Warning))
}

fn resolved(id: &str, name: &str) -> Message {
    message(id, alert(name, Status::Resolved, Severity::Warning))
}

fn started(queue: &mut Queue, now: i64) -> Option<String> {
    queue.start(0, at(now)).map(|message| message.id)
}

fn unavailable() -> Outcome {
    Outcome::Unavailable {
        message: "no".into(),
        after: None,
    }
}

fn refused(content: bool) -> Outcome {
    Outcome::Refused {
        message: "400".into(),
        after: None,
        content,
    }
}

#[test]
fn one_is_sent_at_a_time_and_in_order() {
    let mut queue = Queue::default();
    queue.push(firing("1", "web"), 0, at(0));
    queue.push(resolved("2", "web"), 0, at(0));
    assert_eq!(started(&mut queue, 0).as_deref(), Some("1"));
    assert_eq!((started(&mut queue, 0), queue.due(0)), (None, None));
    assert_eq!(
        queue.ended("1", Outcome::Accepted, 1, 0.0, at(1)),
        Verdict::Delivered { dropped: 0 }
    );
    assert_eq!(started(&mut queue, 1).as_deref(), Some("2"));
    queue.ended("2", Outcome::Accepted, 1, 0.0, at(2));
    assert_eq!((queue.len(), queue.last_success), (0, Some(at(2))));
}

#[test]
fn nothing_is_sent_before_the_durable_state_has_it() {
    let mut queue = Queue::default();
    queue.push(firing("1", "web"), 7, at(0));
    assert_eq!((queue.start(6, at(0)), queue.due(6)), (None, None));
    assert_eq!(queue.due(7), Some(at(0)));
    assert!(queue.start(7, at(0)).is_some());
}

#[test]
fn a_failed_one_follows_the_schedule_and_then_gives_up_unless_it_is_critical() {
    for (severity, last) in [
        (Severity::Warning, Verdict::Dropped(1)),
        (Severity::Critical, Verdict::Again { first: false }),
    ] {
        let mut queue = Queue::default();
        queue.push(message("1", alert("web", Status::Firing, severity)), 0, at(0));
        let (mut now, mut pauses) = (0, Vec::new());
        for attempt in 0..9 {
            assert_eq!(
                started(&mut queue, now).as_deref(),
                Some("1"),
                "attempt {attempt} at {now}"
            );
            let verdict = queue.ended("1", unavailable(), 1, 0.0, at(now));
            assert_eq!(verdict, Verdict::Again { first: attempt == 0 });
            let due = queue.due(0).unwrap();
            assert_eq!(
                started(&mut queue, due.as_second() - at(0).as_second() - 1),
                None,
                "never early"
            );
            pauses.push(due.as_second() - at(now).as_second());
            now = due.as_second() - at(0).as_second();
        }
        assert_eq!(pauses, [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
        assert!(started(&mut queue, now).is_some());
        assert_eq!(queue.ended("1", unavailable(), 1, 0.0, at(now)), last);
        assert_eq!((queue.failures, queue.last_failure), (10, Some(at(now))));
    }
}

#[test]
fn retry_after_is_obeyed_by_all_that_wait_for_the_receiver() {
    let mut queue = Queue::default();
    queue.push(firing("1", "web"), 0, at(0));
    queue.push(firing("2", "api"), 0, at(0));
    started(&mut queue, 0);
    let outcome = Outcome::Unavailable {
        message: "busy".into(),
        after: Some(Duration::from_secs(60)),
    };
    queue.ended("1", outcome, 1, 0.0, at(0));
    assert_eq!((started(&mut queue, 59), queue.due(0)), (None, Some(at(60))));
    assert!(started(&mut queue, 60).is_some());
}

#[test]
fn a_new_one_is_tried_at_once_though_others_wait_and_its_success_wakes_them() {
    let mut queue = Queue::default();
    queue.push(firing("1", "web"), 0, at(0));
    started(&mut queue, 0);
    queue.ended("1", unavailable(), 1, 0.0, at(0));
    queue.push(firing("2", "api"), 0, at(1));
    assert_eq!(started(&mut queue, 1).as_deref(), Some("2"));
    queue.ended("2", Outcome::Accepted, 1, 0.0, at(1));
    assert_eq!(started(&mut queue, 1).as_deref(), Some("1"));
}

#[test]
fn one_that_is_refused_holds_up_nothing_also_not_the_end_of_its_alert() {
    let mut queue = Queue::default();
    for message in [firing("1", "web"), resolved("2", "web"), firing("3", "api")] {
        queue.push(message, 0, at(0));
    }
    started(&mut queue, 0);
    let refused = refused(false);
    queue.ended("1", refused, 1, 0.0, at(0));
    assert_eq!(started(&mut queue, 0).as_deref(), Some("2"));
    // The end was taken: a beginning that comes after it would never end.
    let taken = queue.ended("2", Outcome::Accepted, 1, 0.0, at(0));
    assert_eq!(taken, Verdict::Delivered { dropped: 1 });
    assert_eq!(started(&mut queue, 0).as_deref(), Some("3"));
    assert_eq!(queue.len(), 1);
}

#[test]
fn a_repeat_that_still_waits_is_not_said_twice() {
    let mut queue = Queue::default();
    queue.push(firing("1", "web"), 0, at(0));
    queue.push(firing("2", "web"), 0, at(9));
    assert_eq!(queue.len(), 1);
    // Firing again after it ended is something new.
    queue.push(resolved("3", "web"), 0, at(10));
    queue.push(firing("4", "web"), 0, at(11));
    assert_eq!(queue.len(), 3);
    queue.push(message("5", Content::Heartbeat { interval_seconds: 60 }), 0, at(12));
    queue.push(message("6", Content::Heartbeat { interval_seconds: 60 }), 0, at(72));
    assert_eq!(queue.len(), 4);
}

#[test]
fn a_rise_takes_the_place_of_a_warning_that_waits_and_an_end_is_tried_at_once() {
    let mut queue = Queue::default();
    queue.push(firing("1", "web"), 0, at(0));
    // Three hours of outage: the next try would be hours away.
    for now in [0, 5, 305, 2_105, 9_305] {
        assert!(started(&mut queue, now).is_some(), "{now}");
        queue.ended("1", unavailable(), 1, 0.0, at(now));
    }
    assert_eq!(queue.due(0), Some(at(27_305)));
    queue.push(
        message("2", alert("web", Status::Firing, Severity::Critical)),
        0,
        at(10_800),
    );
    assert_eq!((queue.len(), started(&mut queue, 10_800).as_deref()), (1, Some("2")));
    queue.ended("2", unavailable(), 1, 0.0, at(10_800));
    started(&mut queue, 10_805);
    queue.ended("2", unavailable(), 1, 0.0, at(10_805));
    queue.push(
        message("3", alert("web", Status::Resolved, Severity::Critical)),
        0,
        at(10_810),
    );
    for id in ["2", "3"] {
        assert_eq!(started(&mut queue, 10_810).as_deref(), Some(id));
        queue.ended(id, Outcome::Accepted, 1, 0.0, at(10_810));
    }
}

#[test]
fn a_new_alert_does_not_wait_behind_a_thousand_that_failed() {
    let mut queue = Queue::default();
    for number in 0..MAX_QUEUED {
        queue.push(firing(&format!("old-{number}"), &number.to_string()), 0, at(0));
    }
    while let Some(id) = started(&mut queue, 0) {
        queue.ended(&id, unavailable(), 1, 0.0, at(0));
    }
    queue.push(firing("new", "api"), 0, at(3_600));
    queue.push(
        message("bad", alert("web", Status::Firing, Severity::Critical)),
        0,
        at(3_600),
    );
    for id in ["bad", "new"] {
        assert_eq!(started(&mut queue, 3_600).as_deref(), Some(id));
        queue.ended(id, unavailable(), 1, 0.0, at(3_600));
    }
}

#[test]
fn a_retry_after_of_a_day_delays_a_new_alert_by_fifteen_minutes() {
    let mut queue = Queue::default();
    queue.push(firing("1", "web"), 0, at(0));
    let day = Duration::from_hours(24);
    let busy = |after| Outcome::Unavailable {
        message: "429".into(),
        after: Some(after),
    };
    started(&mut queue, 0);
    queue.ended("1", busy(day), 1, 0.0, at(0));
    queue.push(firing("2", "api"), 0, at(1));
    assert_eq!((started(&mut queue, 899), queue.due(0)), (None, Some(at(900))));
    assert_eq!(started(&mut queue, 900).as_deref(), Some("2"));
    queue.ended("2", busy(day), 1, 0.0, at(900));
    // Nothing new: queued deliveries keep to the requested pause.
    assert_eq!(queue.due(0), Some(at(86_400)));
}

#[test]
fn what_was_not_sent_is_no_delivery_and_no_failure() {
    let mut queue = Queue::default();
    queue.push(message("1", Content::Heartbeat { interval_seconds: 60 }), 0, at(0));
    queue.push(firing("2", "web"), 0, at(0));
    started(&mut queue, 0);
    queue.ended("2", unavailable(), 1, 0.0, at(0));
    started(&mut queue, 0);
    queue.ended("1", Outcome::NotSent, 1, 0.0, at(0));
    assert_eq!((queue.len(), queue.failures, queue.last_success), (1, 1, None));
    assert_eq!(queue.due(0), Some(at(5)));
}

#[test]
fn a_wait_that_a_clock_ahead_has_written_is_cut_short() {
    let mut queue = Queue::default();
    queue.push(firing("1", "web"), 0, at(0));
    let year = 365 * 86_400;
    started(&mut queue, year);
    let outcome = Outcome::Unavailable {
        message: "no".into(),
        after: Some(Duration::from_mins(10)),
    };
    queue.ended("1", outcome, 1, 0.0, at(year));
    queue.clamp(at(0));
    let due = queue.due(0).unwrap();
    assert!(due <= at(30 * 3_600), "{due}");
    assert_eq!(queue.last_failure, Some(at(0)));
}

#[test]
fn a_receiver_that_is_gone_gets_nothing_until_the_policy_changes() {
    let mut queue = Queue::default();
    queue.push(firing("1", "web"), 0, at(0));
    queue.push(firing("2", "api"), 0, at(0));
    started(&mut queue, 0);
    let gone = Outcome::Gone { message: "410".into() };
    assert_eq!(queue.ended("1", gone, 3, 0.0, at(0)), Verdict::Dropped(2));
    assert_eq!(queue.push(firing("3", "web"), 0, at(1)), 1);
    queue.spec_changed(3, at(2));
    assert_eq!(queue.stopped, Some(3));
    queue.spec_changed(4, at(2));
    assert_eq!(queue.push(firing("4", "web"), 0, at(3)), 0);
    assert_eq!(started(&mut queue, 3).as_deref(), Some("4"));
}

#[test]
fn a_full_queue_loses_its_oldest_info_then_its_oldest_warning_and_never_a_critical() {
    let mut queue = Queue::default();
    let mut push = |number: usize, severity| {
        let name = number.to_string();
        queue.push(message(&name, alert(&name, Status::Firing, severity)), 0, at(0))
    };
    assert_eq!(
        (0..MAX_QUEUED - 2)
            .map(|number| push(number, Severity::Critical))
            .sum::<usize>(),
        0
    );
    assert_eq!(push(5_000, Severity::Warning) + push(5_001, Severity::Info), 0);
    assert_eq!(push(5_002, Severity::Critical), 1);
    assert_eq!(push(5_003, Severity::Critical), 1);
    // Only critical ones are left: all stay.
    assert_eq!(push(5_004, Severity::Critical), 0);
    assert_eq!(push(5_005, Severity::Info), 1);
    let left = queue.entries.iter().map(|entry| severity(&entry.message.content));
    assert!(left.clone().all(|severity| severity == Severity::Critical));
    assert_eq!(left.count(), MAX_QUEUED + 1);
}

#[test]
fn a_queue_survives_being_written_and_read() {
    let mut queue = Queue::default();
    queue.push(firing("1", "web"), 3, at(0));
    started(&mut queue, 0);
    queue.start(3, at(0));
    queue.ended("1", unavailable(), 1, 0.0, at(0));
    let mut read: Queue = serde_json::from_str(&serde_json::to_string(&queue).unwrap()).unwrap();
    // Read back it is in the durable state, whatever revision that was.
    assert_eq!((read.due(0), read.failures), (Some(at(5)), 1));
    assert_eq!(started(&mut read, 5).as_deref(), Some("1"));
}

proptest! {
    /// Whatever fails: what was pushed is delivered at most once, and of each alert in order and to its last word, as long as
    /// nothing is given up. Only what was refused, or what a newer word of the same kind replaces, is left out.
    #[test]
    fn nothing_is_lost_and_nothing_overtakes(steps in prop::collection::vec((0u8..4, 0u8..3, 1i64..400), 1..200)) {
        let mut queue = Queue::default();
        let (mut now, mut pushed, mut taken) = (0, Vec::new(), Vec::new());
        let mut refusals = HashSet::new();
        for (number, (name, outcome, pause)) in steps.iter().enumerate() {
            let status = if number % 2 == 0 { Status::Firing } else { Status::Resolved };
            let name = name.to_string();
            let mut content = alert(&name, status, Severity::Critical);
            if let Content::Alert(alert) = &mut content {
                alert.since = at(i64::try_from(number).unwrap());
            }
            queue.push(message(&number.to_string(), content), 0, at(now));
            pushed.push((name, status));
            if let Some(message) = queue.start(0, at(now)) {
                let end = match outcome {
                    0 => Outcome::Accepted,
                    1 => refused(true),
                    _ => unavailable(),
                };
                let id = message.id.parse::<usize>().unwrap();
                match end {
                    Outcome::Accepted => taken.push(id),
                    Outcome::Refused { .. } => drop(refusals.insert(id)),
                    _ => {}
                }
                queue.ended(&message.id, end, 1, 0.5, at(now));
            }
            now += pause;
        }
        while let Some(due) = queue.due(0) {
            let message = queue.start(0, due).unwrap();
            taken.push(message.id.parse::<usize>().unwrap());
            queue.ended(&message.id, Outcome::Accepted, 1, 0.5, due);
        }
        for name in ["0", "1", "2", "3"] {
            let mine: Vec<usize> = (0..pushed.len()).filter(|number| pushed[*number].0 == name).collect();
            let order: Vec<usize> = taken.iter().filter(|number| mine.contains(number)).copied().collect();
            prop_assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", order);
            prop_assert_eq!(order.last(), mine.last());
            let left_out = mine.iter().filter(|number| !order.contains(number) && !refusals.contains(number));
            for number in left_out {
                let next = mine.iter().find(|next| *next > number).unwrap();
                prop_assert_eq!((pushed[*number].1, pushed[*next].1), (Status::Firing, Status::Firing));
            }
        }
    }
}
