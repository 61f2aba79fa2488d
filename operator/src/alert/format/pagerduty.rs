//! PagerDuty's Events API v2: an incident is opened and resolved by its `dedup_key`.
//!
//! <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>

use gatehouse_crds::alert::{Rule, Severity};
use gatehouse_crds::certificate::SigningIssuer;
use serde_json::{Value, json};

use super::{Face, Letter, News, cloudevents, escaped};
use crate::alert::message::Status;
use crate::alert::words;

/// PagerDuty's limit, in characters.
const SUMMARY: usize = 1024;

/// None for a sign of life, for which PagerDuty has no word; two for a test, which must not leave an incident behind.
pub(super) fn bodies(letter: &Letter, face: &Face<'_>) -> Vec<Value> {
    let key = face.routing_key.unwrap_or_default();
    match &letter.news {
        News::Alert(alert) if alert.status == Status::Firing => {
            let subject = alert.subject.to_string();
            let payload = payload(
                letter,
                face,
                alert.severity,
                alert.rule,
                &subject,
                alert.subject.issuer.as_ref(),
            );
            vec![trigger(key, &alert.fingerprint, &payload, Some(alert.rule))]
        }
        News::Group(group) if group.status == Status::Firing => {
            let component = format!("{} {}", group.count, words::plural(group.rule));
            let payload = payload(
                letter,
                face,
                group.severity,
                group.rule,
                &component,
                group.issuer.as_ref(),
            );
            vec![trigger(key, &group.fingerprint, &payload, Some(group.rule))]
        }
        News::Alert(alert) => vec![resolve(key, &alert.fingerprint)],
        News::Group(group) => vec![resolve(key, &group.fingerprint)],
        News::Heartbeat { .. } => Vec::new(),
        News::Test => {
            let dedup = format!("gatehouse-test-{}", escaped(&letter.id, 200, |_| None));
            let summary = letter.news.summary(letter.time, &letter.policy);
            let payload = json!({
                "summary": escaped(&summary, SUMMARY, |_| None),
                "source": source(face),
                "severity": "info",
                "timestamp": letter.time,
                "component": "Gatehouse",
                "class": "test",
            });
            vec![trigger(key, &dedup, &payload, None), resolve(key, &dedup)]
        }
    }
}

fn payload(
    letter: &Letter,
    face: &Face<'_>,
    severity: Severity,
    rule: Rule,
    component: &str,
    issuer: Option<&SigningIssuer>,
) -> Value {
    let summary = letter.news.summary(letter.time, &letter.policy);
    json!({
        "summary": escaped(&summary, SUMMARY, |_| None),
        "source": source(face),
        "severity": severity.as_str(),
        "timestamp": letter.time,
        "component": component,
        "group": issuer.map_or_else(|| "no issuer".to_owned(), words::issuer),
        "class": rule.as_str(),
        "custom_details": cloudevents::data(letter),
    })
}

fn source(face: &Face<'_>) -> String {
    match face.cluster {
        "" => "Gatehouse".to_owned(),
        cluster => escaped(cluster, 255, |_| None),
    }
}

fn trigger(key: &str, dedup: &str, payload: &Value, rule: Option<Rule>) -> Value {
    let links = rule.map(|rule| json!({"href": words::runbook(rule), "text": "What to do"}));
    json!({
        "routing_key": key,
        "event_action": "trigger",
        "dedup_key": dedup,
        "client": "Gatehouse",
        "payload": payload,
        "links": links.into_iter().collect::<Vec<_>>(),
    })
}

fn resolve(key: &str, dedup: &str) -> Value {
    json!({"routing_key": key, "event_action": "resolve", "dedup_key": dedup})
}
