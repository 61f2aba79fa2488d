#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use gatehouse_crds::alert::{AlertKind, AlertPolicy, Rule};
use gatehouse_crds::certificate::{IssuerKind, LastFailure, SigningIssuer};
use serde_json::{Value, json};

use super::*;
use crate::alert::{message::fingerprint, queue::Outcome, rules::Finding, state::Name};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn policy(spec: &Value) -> Policy {
    let object: AlertPolicy = serde_json::from_value(json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "AlertPolicy",
        "metadata": {"name": "ops", "namespace": "app"}, "spec": spec
    }))
    .unwrap();
    Policy::parse(&object).unwrap()
}

fn receiver(name: &str, least: &str, format: &str) -> Value {
    json!({"name": name, "minSeverity": least, "webhook": {"url": "https://hooks.example.com", "format": format}})
}

fn ops() -> Policy {
    policy(&json!({"receivers": [receiver("ops", "info", "CloudEvents")]}))
}

fn name(number: usize) -> Arc<Name> {
    Arc::new(Name {
        namespace: "app".into(),
        name: format!("web-{number}"),
        uid: format!("uid-{number}"),
    })
}

fn known(name: &Name) -> Arc<Subject> {
    Arc::new(Subject {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        issuer: Some(SigningIssuer {
            kind: IssuerKind::Issuer,
            name: "ca".into(),
        }),
        ..Subject::default()
    })
}

fn see(state: &mut State, number: usize, findings: &[(Rule, Severity)], now: i64) {
    let findings: Vec<Finding> = findings
        .iter()
        .map(|(rule, severity)| Finding {
            rule: *rule,
            severity: *severity,
            since: at(now),
        })
        .collect();
    let name = name(number);
    state.observe(AlertKind::Certificate, "app", &name.name, Some((&name, &findings)));
}

/// Notifies, takes everything out of the queues, and returns a line for each message.
fn sent(state: &mut State, policy: &Policy, now: i64) -> Vec<String> {
    told_with(state, policy, now, &|_, name| Some(known(name)))
}

fn told_with(state: &mut State, policy: &Policy, now: i64, look: Look<'_>) -> Vec<String> {
    state.sync(&policy.receivers, 1, at(now));
    let mut notifier = Notifier::new(policy, look, at(now));
    notifier.notify(state);
    assert_eq!(notifier.dropped(), []);
    let mut lines = Vec::new();
    for id in state.destinations.iter().map(|at| at.id).collect::<Vec<_>>() {
        while let Some(message) = state.destination_mut(id).unwrap().queue.start(u64::MAX, at(now)) {
            let retired = state.destination_mut(id).unwrap().is_retired();
            let receiver = &state.destination_mut(id).unwrap().receiver.name;
            let retired = if retired { " (retired)" } else { "" };
            lines.push(format!("{receiver}{retired}: {}", line(&message.content)));
            state.sent(id, &message, Outcome::Accepted, (1, 0.0), at(now));
        }
    }
    state.forget_retired(at(now));
    lines
}

fn line(content: &Content) -> String {
    let one = |alert: &Alert| {
        format!(
            "{} {} {} {}",
            alert.status.as_str(),
            alert.severity.as_str(),
            alert.rule.as_str(),
            alert.subject.name
        )
    };
    match content {
        Content::Alert(alert) => one(alert),
        Content::Group(group) => format!(
            "{} {} {} {} of {:?} naming {}",
            group.status.as_str(),
            group.severity.as_str(),
            group.count,
            group.rule.as_str(),
            group
                .issuer
                .as_ref()
                .map(|issuer| issuer.name.as_str())
                .unwrap_or_default(),
            group.first.len()
        ),
        Content::Batch { alerts, valid_seconds } => {
            let alerts: Vec<String> = alerts.iter().map(one).collect();
            format!("[{}] for {valid_seconds} s", alerts.join(", "))
        }
        Content::Heartbeat { interval_seconds } => format!("alive, again in {interval_seconds} s"),
        Content::Test => "test".into(),
    }
}

const EXPIRED: (Rule, Severity) = (Rule::Expired, Severity::Critical);
const FAILED: (Rule, Severity) = (Rule::RenewalFailed, Severity::Warning);
const FAILED_BADLY: (Rule, Severity) = (Rule::RenewalFailed, Severity::Critical);

#[test]
fn an_alert_is_told_once_again_when_worse_and_when_it_ends() {
    let (mut state, policy) = (State::default(), ops());
    see(&mut state, 1, &[FAILED], 0);
    assert_eq!(
        sent(&mut state, &policy, 0),
        ["ops: firing warning renewalFailed web-1"]
    );
    see(&mut state, 1, &[FAILED], 1);
    assert_eq!(sent(&mut state, &policy, 1), Vec::<String>::new());
    see(&mut state, 1, &[FAILED_BADLY], 2);
    assert_eq!(
        sent(&mut state, &policy, 2),
        ["ops: firing critical renewalFailed web-1"]
    );
    see(&mut state, 1, &[], 3);
    assert_eq!(
        sent(&mut state, &policy, 3),
        ["ops: resolved critical renewalFailed web-1"]
    );
    assert_eq!(state.repeat_at, None);
}

#[test]
fn a_receiver_hears_of_its_severity_and_above_and_of_the_end_of_what_it_heard() {
    let receivers = [
        receiver("all", "info", "Slack"),
        receiver("pager", "critical", "PagerDuty"),
    ];
    let policy = policy(&json!({"receivers": receivers}));
    let mut state = State::default();
    see(&mut state, 1, &[FAILED], 0);
    see(&mut state, 2, &[FAILED], 0);
    assert_eq!(sent(&mut state, &policy, 0).len(), 2);
    see(&mut state, 1, &[FAILED_BADLY], 1);
    let worse = [
        "all: firing critical renewalFailed web-1",
        "pager: firing critical renewalFailed web-1",
    ];
    assert_eq!(sent(&mut state, &policy, 1), worse);
    see(&mut state, 1, &[], 2);
    see(&mut state, 2, &[], 2);
    let over = [
        "all: resolved critical renewalFailed web-1",
        "all: resolved warning renewalFailed web-2",
        "pager: resolved critical renewalFailed web-1",
    ];
    assert_eq!(sent(&mut state, &policy, 2), over);
}

#[test]
fn what_goes_on_is_repeated_at_its_interval_and_news_are_not() {
    let policy = policy(&json!({"repeatInterval": "1h", "receivers": [receiver("ops", "info", "CloudEvents")]}));
    let mut state = State::default();
    see(&mut state, 1, &[EXPIRED, (Rule::Renewed, Severity::Info)], 0);
    assert_eq!(sent(&mut state, &policy, 0).len(), 2);
    assert_eq!(state.repeat_at, Some(at(3_600)));
    assert_eq!(sent(&mut state, &policy, 3_599), Vec::<String>::new());
    assert_eq!(sent(&mut state, &policy, 3_600), ["ops: firing critical expired web-1"]);
    assert_eq!(state.repeat_at, Some(at(7_200)));
}

#[test]
fn a_storm_is_told_as_one_group_and_its_end_once() {
    let (mut state, policy) = (State::default(), ops());
    for number in 0..300 {
        see(&mut state, number, &[EXPIRED], 0);
    }
    assert_eq!(
        sent(&mut state, &policy, 0),
        ["ops: firing critical 300 expired of \"ca\" naming 20"]
    );
    // More of the same join, and are reported a minute later.
    see(&mut state, 300, &[EXPIRED], 10);
    assert_eq!(sent(&mut state, &policy, 10), Vec::<String>::new());
    assert_eq!(state.repeat_at, Some(at(60)));
    assert_eq!(
        sent(&mut state, &policy, 60),
        ["ops: firing critical 301 expired of \"ca\" naming 20"]
    );
    for number in 0..300 {
        see(&mut state, number, &[], 100);
    }
    assert_eq!(sent(&mut state, &policy, 100), Vec::<String>::new());
    see(&mut state, 300, &[], 101);
    assert_eq!(
        sent(&mut state, &policy, 101),
        ["ops: resolved critical 301 expired of \"ca\" naming 20"]
    );
    assert!(state.is_trivial());
}

#[test]
fn a_storm_in_drops_becomes_a_group_after_twenty() {
    let (mut state, policy) = (State::default(), ops());
    for number in 0..20 {
        see(&mut state, number, &[FAILED], 0);
        assert_eq!(sent(&mut state, &policy, 0).len(), 1);
    }
    see(&mut state, 20, &[FAILED], 1);
    see(&mut state, 21, &[FAILED], 1);
    assert_eq!(
        sent(&mut state, &policy, 1),
        ["ops: firing warning 2 renewalFailed of \"ca\" naming 2"]
    );
    // A group that worsens is reported again at once.
    see(&mut state, 20, &[FAILED_BADLY], 2);
    assert_eq!(
        sent(&mut state, &policy, 2),
        ["ops: firing critical 2 renewalFailed of \"ca\" naming 2"]
    );
    // Another kind of alert still has its own line, and after a minute all do.
    see(&mut state, 0, &[FAILED, EXPIRED], 3);
    assert_eq!(sent(&mut state, &policy, 3), ["ops: firing critical expired web-0"]);
    see(&mut state, 30, &[FAILED], 100);
    assert_eq!(
        sent(&mut state, &policy, 100),
        ["ops: firing warning renewalFailed web-30"]
    );
}

fn away(name: &Name) -> Arc<Subject> {
    Arc::new(Subject {
        last_failure: Some(LastFailure {
            time: at(0),
            reason: "Network".into(),
            message: "cannot reach https://acme.example.com".into(),
        }),
        ..Subject::clone(&known(name))
    })
}

#[test]
fn an_outage_of_a_server_is_one_message_with_its_count_also_to_who_pages_people() {
    let receivers = [
        receiver("chat", "warning", "Slack"),
        receiver("pager", "critical", "PagerDuty"),
        receiver("am", "warning", "Alertmanager"),
    ];
    let policy = policy(&json!({"receivers": receivers}));
    let mut state = State::default();
    let look: Look<'_> = &|_, name| Some(away(name));
    // Three hundred find out within fifteen seconds, some each second.
    for now in 0..15 {
        for number in now * 20..now * 20 + 20 {
            see(&mut state, usize::try_from(number).unwrap(), &[FAILED_BADLY], now);
        }
        assert_eq!(
            told_with(&mut state, &policy, now, look),
            Vec::<String>::new(),
            "at {now} s"
        );
        assert_eq!(state.repeat_at, Some(at(15)));
    }
    let lines = told_with(&mut state, &policy, 15, look);
    let group = "firing critical 300 renewalFailed of \"ca\" naming 20";
    let people: Vec<&String> = lines.iter().filter(|line| !line.starts_with("am: ")).collect();
    assert_eq!(people, [&format!("chat: {group}"), &format!("pager: {group}")]);
    let alerts: usize = lines
        .iter()
        .map(|line| line.matches("firing critical renewalFailed").count())
        .sum();
    assert_eq!(alerts, 300);
    // More of them later: reported less and less often.
    let mut later = Vec::new();
    for minute in 1..60 {
        see(
            &mut state,
            300 + usize::try_from(minute).unwrap(),
            &[FAILED_BADLY],
            minute * 60,
        );
        let lines = told_with(&mut state, &policy, minute * 60 + 15, look);
        later.extend(lines.into_iter().filter(|line| line.starts_with("pager: ")));
    }
    assert_eq!(later.len(), 5, "{later:?}");
    for number in 0..360 {
        see(&mut state, number, &[], 4_000);
    }
    let lines = told_with(&mut state, &policy, 4_000, look);
    let people = lines.iter().filter(|line| !line.starts_with("am: ")).count();
    assert_eq!(people, 2, "{lines:?}");
}

#[test]
fn an_outage_alert_of_one_certificate_is_sent_unless_it_ends_meanwhile() {
    let (mut state, policy) = (State::default(), ops());
    let look: Look<'_> = &|_, name| Some(away(name));
    see(&mut state, 1, &[FAILED], 0);
    see(&mut state, 2, &[FAILED], 0);
    assert_eq!(told_with(&mut state, &policy, 0, look), Vec::<String>::new());
    see(&mut state, 2, &[], 5);
    assert_eq!(told_with(&mut state, &policy, 5, look), Vec::<String>::new());
    // What waits survives a restart.
    let (packed, shed) = crate::alert::durable::pack(&mut state);
    assert_eq!(shed, []);
    let mut state = crate::alert::durable::unpack(&packed).unwrap();
    told_with(&mut state, &policy, 10, look);
    assert_eq!(
        told_with(&mut state, &policy, 25, look),
        ["ops: firing warning renewalFailed web-1"]
    );
}

#[test]
fn a_receiver_that_joins_or_wants_less_hears_no_end_without_a_beginning() {
    let all = |least: &str| {
        let receivers = [
            receiver("ops", "info", "CloudEvents"),
            receiver("pager", least, "PagerDuty"),
        ];
        policy(&json!({"receivers": receivers}))
    };
    let mut state = State::default();
    see(&mut state, 1, &[FAILED], 0);
    sent(&mut state, &ops(), 0);
    // PagerDuty joins, and does not want warnings; then it does.
    assert_eq!(sent(&mut state, &all("critical"), 1), Vec::<String>::new());
    assert_eq!(sent(&mut state, &all("warning"), 2), Vec::<String>::new());
    see(&mut state, 1, &[], 3);
    let lines = sent(&mut state, &all("warning"), 3);
    assert!(lines.iter().all(|line| !line.starts_with("pager")), "{lines:?}");
}

#[test]
fn a_heartbeat_goes_to_those_whose_format_has_a_message_for_it() {
    let receivers = [
        receiver("pager", "critical", "PagerDuty"),
        receiver("ops", "critical", "Slack"),
    ];
    let policy = policy(&json!({"heartbeatInterval": "1h", "receivers": receivers}));
    let mut state = State::default();
    assert_eq!(sent(&mut state, &policy, 0), ["ops: alive, again in 3600 s"]);
    assert_eq!(state.queue("pager").unwrap().last_success, None);
}

#[test]
fn an_alertmanager_gets_each_alert() {
    let policy = policy(&json!({"receivers": [receiver("am", "info", "Alertmanager")]}));
    let mut state = State::default();
    for number in 0..250 {
        see(&mut state, number, &[FAILED], 0);
    }
    let lines = sent(&mut state, &policy, 0);
    let alerts: usize = lines.iter().map(|line| line.matches("firing warning").count()).sum();
    assert_eq!((lines.len(), alerts), (2, 250));
    assert!(lines[0].ends_with("for 43200 s"), "{}", lines[0]);
    see(&mut state, 1, &[FAILED_BADLY], 1);
    see(&mut state, 2, &[], 1);
    let line = "am: [resolved warning renewalFailed web-2, firing critical renewalFailed web-1] for 43200 s";
    assert_eq!(sent(&mut state, &policy, 1), [line]);
}

#[test]
fn a_sign_of_life_is_sent_at_once_and_then_at_its_interval() {
    let policy = policy(&json!({"heartbeatInterval": "1h", "receivers": [receiver("ops", "critical", "CloudEvents")]}));
    let mut state = State::default();
    let alive = ["ops: alive, again in 3600 s"];
    assert_eq!(sent(&mut state, &policy, 0), alive);
    assert_eq!(sent(&mut state, &policy, 3_599), Vec::<String>::new());
    assert_eq!(sent(&mut state, &policy, 3_600), alive);
}

#[test]
fn the_fingerprint_is_of_the_certificate_and_the_rule() {
    let one = fingerprint("uid", Rule::Expired);
    assert_eq!((one.len(), one == fingerprint("uid", Rule::Expired)), (32, true));
    assert_ne!(one, fingerprint("uid", Rule::Expiring));
    assert_ne!(one, fingerprint("diu", Rule::Expired));
}
