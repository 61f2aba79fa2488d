#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::collections::BTreeMap;

use gatehouse_crds::certificate::IssuerKind;
use proptest::prelude::*;

use super::samples::{alert, at, every_rule, expiring, failing, group, group_over, message, now, over, renewed};
use super::*;

fn context() -> RequestContext<'static> {
    RequestContext {
        cluster: "prod eu",
        routing_key: Some("R0UT1NGKEY"),
        now: now(),
    }
}

/// The requests for `content`: id, content type, body.
fn rendered(format: Format, content: Content) -> Vec<(String, &'static str, Value)> {
    let bodies = bodies(format, &message(content), &context()).into_iter();
    bodies
        .map(|body| (body.id, body.content_type, serde_json::from_slice(&body.bytes).unwrap()))
        .collect()
}

fn golden(format: Format) -> BTreeMap<String, Value> {
    let refreshed = Alert {
        subject: renewed().into(),
        ..over(expiring())
    };
    let few = || Group {
        first: group(Rule::RenewalFailed).first.into_iter().take(4).collect(),
        ..group(Rule::RenewalFailed)
    };
    let mut cases: Vec<(String, Content)> = vec![
        ("resolved".into(), Content::Alert(refreshed)),
        ("group firing".into(), Content::Group(few())),
        ("group resolved".into(), Content::Group(group_over(few()))),
        (
            "heartbeat".into(),
            Content::Heartbeat {
                interval_seconds: 86_400,
            },
        ),
        ("test".into(), Content::Test),
    ];
    for alert in every_rule() {
        cases.push((format!("firing {}", alert.rule.as_str()), Content::Alert(alert)));
    }
    let render = |(case, content): (String, Content)| {
        // As the queue sends it to an Alertmanager.
        let content = match content {
            Content::Alert(alert) if format == Format::Alertmanager => batch(vec![alert]),
            other => other,
        };
        let mut requests: Vec<_> = rendered(format, content).into_iter().map(|(_, _, body)| body).collect();
        let body = match requests.len() {
            1 => requests.remove(0),
            _ => Value::Array(requests),
        };
        (case, body)
    };
    cases.into_iter().map(render).collect()
}

#[test]
fn cloudevents() {
    insta::assert_yaml_snapshot!(golden(Format::CloudEvents));
}

#[test]
fn alertmanager() {
    insta::assert_yaml_snapshot!(golden(Format::Alertmanager));
}

#[test]
fn slack() {
    insta::assert_yaml_snapshot!(golden(Format::Slack));
}

#[test]
fn teams() {
    insta::assert_yaml_snapshot!(golden(Format::Teams));
}

#[test]
fn pagerduty() {
    insta::assert_yaml_snapshot!(golden(Format::PagerDuty));
}

fn batch(alerts: Vec<Alert>) -> Content {
    Content::Batch {
        alerts,
        valid_seconds: 600,
    }
}

fn critical() -> Alert {
    alert(Rule::Expiring, Severity::Critical, failing())
}

/// (severity, startsAt, endsAt) of each alert.
fn spans(body: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let span = |alert: &Value| {
        (
            text(&alert["labels"]["severity"]),
            text(&alert["startsAt"]),
            text(&alert["endsAt"]),
        )
    };
    body.as_array().unwrap().iter().map(span).collect()
}

fn owned(spans: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    let own = |(severity, start, end): &(&str, &str, &str)| ((*severity).into(), (*start).into(), (*end).into());
    spans.iter().map(own).collect()
}

#[test]
fn an_alertmanager_gets_an_end_time_and_the_end_of_a_lower_severity() {
    let requests = rendered(
        Format::Alertmanager,
        batch(vec![expiring(), critical(), over(critical()), over(expiring())]),
    );
    let [(_, "application/json", body)] = requests.as_slice() else {
        panic!("one request for all: {requests:?}");
    };
    let since = "2026-11-21T07:00:00Z";
    let expected = owned(&[
        ("warning", since, "2026-11-21T10:10:00Z"),
        ("critical", since, "2026-11-21T10:10:00Z"),
        ("warning", since, "2026-11-21T10:00:00Z"),
        ("critical", since, "2026-11-21T10:00:00Z"),
        ("warning", since, "2026-11-21T10:00:00Z"),
        ("warning", since, "2026-11-21T10:00:00Z"),
    ]);
    assert_eq!(spans(body), expected);
}

#[test]
fn a_higher_severity_ends_at_an_alertmanager_with_its_object() {
    let lower = Alert {
        clears: true,
        ..expiring()
    };
    let requests = rendered(Format::Alertmanager, batch(vec![lower]));
    let since = "2026-11-21T07:00:00Z";
    let expected = owned(&[
        ("warning", since, "2026-11-21T10:10:00Z"),
        ("critical", since, "2026-11-21T10:00:00Z"),
    ]);
    assert_eq!(spans(&requests[0].2), expected);
}

#[test]
fn an_alert_has_the_same_labels_when_it_fires_and_when_it_is_resolved() {
    let labels = |alert: Alert| rendered(Format::Alertmanager, batch(vec![alert]))[0].2[0]["labels"].clone();
    let refreshed = Alert {
        subject: renewed().into(),
        ..over(expiring())
    };
    assert_eq!(labels(expiring()), labels(refreshed));
}

#[test]
fn a_late_delivery_to_an_alertmanager_does_not_look_ended() {
    let late = RequestContext {
        now: at("2026-11-21T14:00:00Z"),
        ..context()
    };
    let firing = bodies(Format::Alertmanager, &message(batch(vec![expiring()])), &late);
    let body = serde_json::from_slice(&firing[0].bytes).unwrap();
    assert_eq!(
        spans(&body),
        owned(&[("warning", "2026-11-21T07:00:00Z", "2026-11-21T14:10:00Z")])
    );
}

#[test]
fn an_alert_never_ends_before_it_starts() {
    let odd = Alert {
        ended: Some(at("2026-11-20T00:00:00Z")),
        ..over(expiring())
    };
    let requests = rendered(Format::Alertmanager, batch(vec![odd]));
    assert_eq!(
        spans(&requests[0].2),
        owned(&[("warning", "2026-11-20T00:00:00Z", "2026-11-20T00:00:00Z")])
    );
}

#[test]
fn a_batch_that_meets_another_format_becomes_a_letter_for_each_rule_and_status() {
    let requests = rendered(
        Format::CloudEvents,
        batch(vec![expiring(), critical(), over(expiring()), every_rule()[1].clone()]),
    );
    let actions: Vec<_> = requests
        .iter()
        .map(|(id, _, body)| {
            let data = &body["data"];
            assert_eq!(body["id"], id.as_str());
            (
                id.strip_prefix("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W").unwrap(),
                data["rule"].as_str().unwrap(),
                data["status"].as_str().unwrap(),
                data["severity"].as_str().unwrap(),
                data["count"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        actions,
        [
            ("", "expiring", "firing", "critical", Some(2)),
            ("-2", "expiring", "resolved", "warning", None),
            ("-3", "expired", "firing", "critical", None),
        ]
    );
}

#[test]
fn every_request_has_an_id_of_its_own_and_the_same_on_each_try() {
    for format in FORMATS {
        let ids = || -> Vec<String> { rendered(format, Content::Test).into_iter().map(|(id, ..)| id).collect() };
        let mut unique = ids();
        unique.dedup();
        assert_eq!(unique, ids(), "{format:?}");
        assert_eq!(unique[0], "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W");
    }
}

#[test]
fn pagerduty_has_no_word_for_a_sign_of_life() {
    assert_eq!(
        rendered(Format::PagerDuty, Content::Heartbeat { interval_seconds: 60 }),
        []
    );
}

#[test]
fn a_mention_in_a_failures_message_calls_nobody() {
    let mut rude = failing();
    rude.last_failure.as_mut().unwrap().message =
        "<!channel> & <https://evil.test|click> [click](https://evil.test) *b* {{DATE(x)}}".into();
    let rude = || Content::Alert(alert(Rule::Expiring, Severity::Warning, rude.clone()));
    let slack = rendered(Format::Slack, rude())[0].2.to_string();
    assert!(
        slack.contains("&lt;!channel&gt; &amp; &lt;https://evil.test|click&gt;"),
        "{slack}"
    );
    assert!(!slack.contains("<!channel"), "{slack}");
    let teams = rendered(Format::Teams, rude())[0].2["attachments"][0]["content"]["body"][1]["text"].to_string();
    assert!(
        teams.contains(r"\\<!channel\\> \\& ") && teams.contains(r"\\[click\\](https://evil.test) \\*b\\* \\{\\{DATE"),
        "{teams}"
    );
}

#[test]
fn an_escape_is_never_cut_in_two() {
    let amp: Escape = |c| (c == '&').then_some("&amp;");
    assert_eq!(escaped("a&b", 7, amp), "a&amp;b");
    assert_eq!(escaped("a&b", 6, amp), "a…");
    assert_eq!(escaped("ab&", 7, amp), "ab&amp;");
    assert_eq!(escaped("ab&", 6, amp), "ab…");
    assert_eq!(escaped("", 0, amp), "");
}

const FORMATS: [Format; 5] = [
    Format::CloudEvents,
    Format::Alertmanager,
    Format::Slack,
    Format::Teams,
    Format::PagerDuty,
];

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        "[\\PC<>&\"\\\\*_\u{0}-\u{1f}]{0,300}",
        Just("&<*\"".repeat(2000))
    ]
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        4_000_000_000i64..5_000_000_000,
        Timestamp::MIN.as_second()..Timestamp::MAX.as_second()
    ]
    .prop_map(|second| Timestamp::from_second(second).unwrap())
}

prop_compose! {
    fn any_subject()(
        texts in proptest::collection::vec(any_text(), 7),
        dns_names in proptest::collection::vec(any_text(), 0..40),
        times in proptest::collection::vec(proptest::option::of(any_time()), 4),
        failed_attempts in proptest::option::of(any::<i32>()),
    ) -> Subject {
        Subject {
            namespace: texts[0].clone(),
            name: texts[1].clone(),
            secret_name: Some(texts[2].clone()),
            dns_names,
            issuer: Some(SigningIssuer { kind: IssuerKind::Issuer, name: texts[3].clone() }),
            serial_number: Some(texts[4].clone()),
            not_before: times[0],
            not_after: times[1],
            renewal_time: times[2],
            failed_attempts,
            last_failure: Some(LastFailure {
                time: Timestamp::UNIX_EPOCH, reason: texts[5].clone(), message: texts[6].clone(),
            }),
            next_attempt_time: times[3],
            gateway: None,
        }
    }
}

prop_compose! {
    fn any_alert()(
        subject in any_subject(),
        since in any_time(),
        ended in proptest::option::of(any_time()),
        rule in 0usize..6,
        fingerprint in any_text(),
    ) -> Alert {
        let status = if ended.is_some() { Status::Resolved } else { Status::Firing };
        let sample = every_rule().remove(rule);
        Alert { status, since, ended, fingerprint, subject: subject.into(), ..sample }
    }
}

fn any_content() -> impl Strategy<Value = Content> {
    let subjects = proptest::collection::vec(any_subject(), 0..30);
    prop_oneof![
        4 => any_alert().prop_map(Content::Alert),
        2 => (any_alert(), subjects, any::<usize>()).prop_map(|(alert, first, count)| Content::Group(Group {
            status: alert.status,
            severity: alert.severity,
            rule: alert.rule,
            fingerprint: alert.fingerprint.clone(),
            since: alert.since,
            ended: alert.ended,
            issuer: alert.subject.issuer.clone(),
            count,
            first: first.into_iter().map(Arc::new).collect(),
        })),
        2 => (proptest::collection::vec(any_alert(), 0..4), any::<u64>())
            .prop_map(|(alerts, valid_seconds)| Content::Batch { alerts, valid_seconds }),
        1 => any::<u64>().prop_map(|interval_seconds| Content::Heartbeat { interval_seconds }),
        1 => Just(Content::Test),
    ]
}

/// All texts within `value`, with the name of the field that each is in.
fn texts<'a>(name: &'a str, value: &'a Value, found: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::String(text) => found.push((name, text)),
        Value::Array(values) => values.iter().for_each(|value| texts(name, value, found)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| texts(name, value, found)),
        _ => {}
    }
}

fn within_limits(format: Format, body: &Value, size: usize) {
    let mut found = Vec::new();
    texts("", body, &mut found);
    for (name, text) in found {
        let length = text.chars().count();
        let lines = name == "description" || (format == Format::Slack && name == "text");
        assert!(
            text.chars().all(|c| !c.is_control() || (lines && c == '\n')),
            "{name}: {text:?}"
        );
        assert!(
            length <= if format == Format::Alertmanager { 20_000 } else { 6_000 },
            "{name}: {length}"
        );
    }
    match format {
        // With names that the API server lets through it is a fifth of that, below the 64 KiB that intermediaries forward.
        Format::CloudEvents => assert!(size <= 192 * 1024, "{size}"),
        Format::Teams => assert!(size <= 28 * 1024, "{size}"),
        Format::PagerDuty => {
            assert!(size <= 512 * 1024, "{size}");
            let summary = body["payload"]["summary"].as_str().unwrap_or_default();
            assert!(summary.chars().count() <= 1024);
            assert!(body["dedup_key"].as_str().unwrap().chars().count() <= 255);
        }
        Format::Slack => {
            let blocks = body["blocks"].as_array().unwrap();
            assert!(blocks.len() <= 50);
            for block in blocks {
                let text = block["text"]["text"].as_str().unwrap_or_default();
                assert!(text.chars().count() <= 3000);
                for field in block["fields"].as_array().into_iter().flatten() {
                    assert!(field["text"].as_str().unwrap().chars().count() <= 2000);
                }
                assert!(block["fields"].as_array().is_none_or(|fields| fields.len() <= 10));
            }
        }
        Format::Alertmanager => {
            for alert in body.as_array().unwrap() {
                if let Some(end) = alert["endsAt"].as_str() {
                    assert!(at(alert["startsAt"].as_str().unwrap()) <= at(end));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn no_input_breaks_a_format_or_its_limits(
        content in any_content(), policy in any_text(), id in any_text(), time in any_time(), cluster in any_text(),
    ) {
        let message = Message { id, time, policy, content };
        let context = RequestContext { cluster: &cluster, routing_key: None, now: now() };
        for format in FORMATS {
            for body in bodies(format, &message, &context) {
                let value: Value = serde_json::from_slice(&body.bytes).expect("JSON");
                // The id and the cluster's name are ours.
                if message.id.len() < 200 && cluster.len() < 200 && !message.id.chars().chain(cluster.chars()).any(char::is_control) {
                    within_limits(format, &value, body.bytes.len());
                }
            }
        }
    }
}
