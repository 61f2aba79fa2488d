//! CloudEvents 1.0, structured JSON, as in `docs/reference/alert-policy.md`.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>

use std::fmt::Write as _;

use gatehouse_crds::alert::{AlertKind, Rule, Severity};
use gatehouse_crds::certificate::SigningIssuer;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Envelope, Payload, RequestContext};
use crate::alert::message::{Alert, Group, Status, Subject};
use crate::alert::render;

pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json";

pub(super) fn body(envelope: &Envelope, context: &RequestContext<'_>) -> Value {
    let kind = match envelope.news.rule() {
        Some(rule) => format!("dev.gatehouse.{}.{}", rule.kind().as_str(), rule.as_snake()),
        None if matches!(envelope.news, Payload::Test) => "dev.gatehouse.test".to_owned(),
        None => "dev.gatehouse.heartbeat".to_owned(),
    };
    json!({
        "specversion": "1.0",
        "id": envelope.id,
        "source": source(context.cluster),
        "type": kind,
        "subject": subject(envelope),
        "time": envelope.time,
        "datacontenttype": "application/json",
        "data": data(envelope),
    })
}

/// A URI reference (RFC 3986 §4.1), whatever the cluster is called.
fn source(cluster: &str) -> String {
    let mut source = String::from("gatehouse.dev");
    if !cluster.is_empty() {
        source.push('/');
    }
    for byte in cluster.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            source.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(source, "%{byte:02X}");
        }
    }
    source
}

fn subject(envelope: &Envelope) -> String {
    match &envelope.news {
        Payload::Alert(alert) => alert.subject.to_string(),
        Payload::Group(group) => match &group.issuer {
            Some(issuer) => format!("{}/{}", issuer.kind.as_str(), issuer.name),
            None => group.rule.as_str().to_owned(),
        },
        Payload::Heartbeat { .. } | Payload::Test => envelope.policy.clone(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    status: &'static str,
    severity: Severity,
    rule: Rule,
    summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<Gateway<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a SigningIssuer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<Vec<Certificate<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateways: Option<Vec<Gateway<'a>>>,
    since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_attempts: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<Failure<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_time: Option<Timestamp>,
    #[serde(rename = "runbookURL")]
    runbook_url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Certificate<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_name: Option<&'a str>,
    dns_names: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a SigningIssuer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_time: Option<Timestamp>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gateway<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_name: Option<&'a str>,
    addresses: &'a [String],
}

impl<'a> Gateway<'a> {
    /// Name of a deleted object.
    fn of(subject: &'a Subject) -> Self {
        let facts = subject.gateway.as_ref();
        Self {
            namespace: &subject.namespace,
            name: &subject.name,
            scope: facts.map(|facts| facts.scope.as_str()),
            provider: facts.and_then(|facts| facts.provider.as_deref()),
            service_name: facts.and_then(|facts| facts.service_name.as_deref()),
            addresses: facts.map(|facts| facts.addresses.as_slice()).unwrap_or_default(),
        }
    }
}

#[derive(Serialize)]
struct Failure<'a> {
    reason: &'a str,
    message: &'a str,
}

impl<'a> Certificate<'a> {
    fn of(subject: &'a Subject) -> Self {
        Self {
            namespace: &subject.namespace,
            name: &subject.name,
            secret_name: subject.secret_name.as_deref(),
            dns_names: &subject.dns_names,
            issuer: subject.issuer.as_ref(),
            serial_number: subject.serial_number.as_deref(),
            not_before: subject.not_before,
            not_after: subject.not_after,
            renewal_time: subject.renewal_time,
        }
    }
}

/// The event's data, which also goes into PagerDuty's details.
pub(super) fn data(envelope: &Envelope) -> Value {
    let summary = envelope.news.summary(envelope.time, &envelope.policy);
    match &envelope.news {
        Payload::Alert(alert) => json!(of_alert(alert, summary)),
        Payload::Group(group) => json!(of_group(group, summary)),
        Payload::Heartbeat { interval } => json!({
            "policy": envelope.policy,
            "summary": summary,
            "intervalSeconds": interval.as_secs(),
        }),
        Payload::Test => json!({"policy": envelope.policy, "summary": summary}),
    }
}

fn of_alert(alert: &Alert, summary: String) -> Data<'_> {
    let subject = &*alert.subject;
    Data {
        status: alert.status.as_str(),
        severity: alert.severity,
        rule: alert.rule,
        summary,
        certificate: (alert.rule.kind() == AlertKind::Certificate).then(|| Certificate::of(subject)),
        gateway: (alert.rule.kind() == AlertKind::Gateway).then(|| Gateway::of(subject)),
        count: None,
        issuer: None,
        certificates: None,
        gateways: None,
        since: alert.since,
        ended: alert.ended.filter(|_| alert.status == Status::Resolved),
        failed_attempts: subject.failed_attempts,
        last_failure: subject.last_failure.as_ref().map(|failure| Failure {
            reason: &failure.reason,
            message: &failure.message,
        }),
        next_attempt_time: subject.next_attempt_time,
        runbook_url: render::runbook(alert.rule),
    }
}

fn of_group(group: &Group, summary: String) -> Data<'_> {
    let is_of = |kind: AlertKind| group.rule.kind() == kind;
    let certificates = || group.first.iter().map(|subject| Certificate::of(subject)).collect();
    let gateways = || group.first.iter().map(|subject| Gateway::of(subject)).collect();
    Data {
        status: group.status.as_str(),
        severity: group.severity,
        rule: group.rule,
        summary,
        certificate: None,
        gateway: None,
        count: Some(group.count),
        issuer: group.issuer.as_ref(),
        certificates: is_of(AlertKind::Certificate).then(certificates),
        gateways: is_of(AlertKind::Gateway).then(gateways),
        since: group.since,
        ended: group.ended.filter(|_| group.status == Status::Resolved),
        failed_attempts: None,
        last_failure: None,
        next_attempt_time: None,
        runbook_url: render::runbook(group.rule),
    }
}
