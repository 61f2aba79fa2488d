//! PagerDuty's Events API v2: an incident is opened and resolved by its `dedup_key`.
//!
//! <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>

use gatehouse_crds::alert::{Rule, Severity};
use gatehouse_crds::certificate::SigningIssuer;
use serde_json::{Value, json};

use super::{Envelope, Payload, RequestContext, cloudevents, escaped};
use crate::alert::message::Status;
use crate::alert::render;

/// PagerDuty's limit, in characters.
const SUMMARY: usize = 1024;

/// Returns nothing for a heartbeat, which PagerDuty does not have; two for a test, which must not leave an incident behind.
pub(super) fn bodies(envelope: &Envelope, context: &RequestContext<'_>) -> Vec<Value> {
    let key = context.routing_key.unwrap_or_default();
    match &envelope.news {
        Payload::Alert(alert) if alert.status == Status::Firing => {
            let subject = alert.subject.to_string();
            let payload = payload(
                envelope,
                context,
                alert.severity,
                alert.rule,
                &subject,
                alert.subject.issuer.as_ref(),
            );
            vec![trigger(key, &alert.fingerprint, &payload, Some(alert.rule))]
        }
        Payload::Group(group) if group.status == Status::Firing => {
            let component = format!("{} {}", group.count, render::plural(group.rule));
            let payload = payload(
                envelope,
                context,
                group.severity,
                group.rule,
                &component,
                group.issuer.as_ref(),
            );
            vec![trigger(key, &group.fingerprint, &payload, Some(group.rule))]
        }
        Payload::Alert(alert) => vec![resolve(key, &alert.fingerprint)],
        Payload::Group(group) => vec![resolve(key, &group.fingerprint)],
        Payload::Heartbeat { .. } => Vec::new(),
        Payload::Test => {
            let dedup = format!("gatehouse-test-{}", escaped(&envelope.id, 200, |_| None));
            let summary = envelope.news.summary(envelope.time, &envelope.policy);
            let payload = json!({
                "summary": escaped(&summary, SUMMARY, |_| None),
                "source": source(context),
                "severity": "info",
                "timestamp": envelope.time,
                "component": "Gatehouse",
                "class": "test",
            });
            vec![trigger(key, &dedup, &payload, None), resolve(key, &dedup)]
        }
    }
}

fn payload(
    envelope: &Envelope,
    context: &RequestContext<'_>,
    severity: Severity,
    rule: Rule,
    component: &str,
    issuer: Option<&SigningIssuer>,
) -> Value {
    let summary = envelope.news.summary(envelope.time, &envelope.policy);
    json!({
        "summary": escaped(&summary, SUMMARY, |_| None),
        "source": source(context),
        "severity": severity.as_str(),
        "timestamp": envelope.time,
        "component": component,
        "group": issuer.map_or_else(|| "no issuer".to_owned(), render::issuer),
        "class": rule.as_str(),
        "custom_details": cloudevents::data(envelope),
    })
}

fn source(context: &RequestContext<'_>) -> String {
    match context.cluster {
        "" => "Gatehouse".to_owned(),
        cluster => escaped(cluster, 255, |_| None),
    }
}

fn trigger(key: &str, dedup: &str, payload: &Value, rule: Option<Rule>) -> Value {
    let links = rule.map(|rule| json!({"href": render::runbook(rule), "text": "What to do"}));
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
