//! The v2 API of Prometheus' Alertmanager: what fires, until when that is to be believed, and what ended.
//!
//! An Alertmanager knows an alert by its labels alone, so nothing that changes while an alert fires may be a label. The one
//! that does is the severity, which people route by: when it rises, the alert of the lower severity is ended in the
//! same request.
//!
//! <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>

use gatehouse_crds::alert::{Rule, Severity};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{Body, JSON, RequestContext, seconds, tamed_alert, tamed_group};
use crate::alert::message::{Alert, Content, Group, Message, Status};
use crate::alert::render;
use crate::egress::printable;

/// Time for which a test is visible.
const TEST: SignedDuration = SignedDuration::from_mins(5);

/// One request for all alerts of the message.
pub(super) fn body(message: &Message, context: &RequestContext<'_>) -> Body {
    let page = Page {
        time: message.time,
        // A delivery that waited for a dead Alertmanager must not look ended when it arrives at last.
        received: message.time.max(context.now),
        policy: &printable(&message.policy, super::NAME),
        cluster: context.cluster,
    };
    let alerts: Vec<Value> = match &message.content {
        Content::Alert(alert) => page.alerts(alert, None),
        Content::Batch { alerts, valid_seconds } => {
            let valid = seconds(*valid_seconds);
            alerts
                .iter()
                .flat_map(|alert| page.alerts(alert, Some(valid)))
                .collect()
        }
        Content::Group(group) => vec![page.group(group)],
        Content::Heartbeat { interval_seconds } => {
            let interval = seconds(*interval_seconds);
            let summary = render::heartbeat(page.policy, interval.unsigned_abs());
            // One sign of life may be late.
            vec![page.own("GatehouseHeartbeat", "none", &summary, interval.saturating_mul(2))]
        }
        Content::Test => vec![page.own("GatehouseTest", "info", &render::test(page.policy), TEST)],
    };
    Body {
        id: message.id.clone(),
        content_type: JSON,
        bytes: Value::Array(alerts).to_string().into_bytes(),
    }
}

struct Page<'a> {
    time: Timestamp,
    received: Timestamp,
    policy: &'a str,
    cluster: &'a str,
}

impl Page<'_> {
    fn alerts(&self, alert: &Alert, valid: Option<SignedDuration>) -> Vec<Value> {
        let alert = tamed_alert(alert);
        let resolved = alert.status == Status::Resolved;
        let until = match (resolved, valid) {
            (true, _) => Some(alert.ended.unwrap_or(self.time)),
            (false, Some(valid)) => Some(later(self.received, valid)),
            (false, None) => None,
        };
        let mut found = vec![self.alert(&alert, alert.severity, until)];
        let rises = matches!(alert.rule, Rule::Expiring | Rule::RenewalFailed);
        let other = match alert.severity {
            Severity::Critical => Some(Severity::Warning),
            Severity::Warning if alert.clears => Some(Severity::Critical),
            Severity::Warning | Severity::Info => None,
        };
        if let Some(other) = other.filter(|_| rises) {
            let ended = until.filter(|_| resolved).unwrap_or(self.time);
            found.push(self.alert(&alert, other, Some(ended)));
        }
        found
    }

    fn alert(&self, alert: &Alert, severity: Severity, until: Option<Timestamp>) -> Value {
        let subject = &*alert.subject;
        let mut labels = self.labels(name(alert.rule), severity.as_str());
        labels.insert("namespace".into(), json!(subject.namespace));
        labels.insert(alert.rule.kind().as_str().into(), json!(subject.name));
        let mut annotations = annotations(&render::alert(alert, self.time), &render::facts(alert));
        annotations.insert("runbook_url".into(), json!(render::runbook(alert.rule)));
        if let Some(issuer) = &subject.issuer {
            annotations.insert("issuer".into(), json!(render::issuer(issuer)));
        }
        if let Some(end) = subject.not_after {
            annotations.insert("not_after".into(), json!(end));
        }
        spanned(labels, annotations, alert.since, until)
    }

    /// Never made for an Alertmanager, and met only when a receiver's format is changed while a group waits. Without an
    /// end: it resolves by Alertmanager's own `resolve_timeout`.
    fn group(&self, group: &Group) -> Value {
        let group = tamed_group(group);
        let mut labels = self.labels(name(group.rule), group.severity.as_str());
        let mut annotations = annotations(&render::group(&group, self.time), &render::group_facts(&group));
        annotations.insert("runbook_url".into(), json!(render::runbook(group.rule)));
        if let Some(issuer) = &group.issuer {
            labels.insert("issuer".into(), json!(render::issuer(issuer)));
        }
        let resolved = group.status == Status::Resolved;
        let until = resolved.then(|| group.ended.unwrap_or(self.time));
        spanned(labels, annotations, group.since, until)
    }

    fn own(&self, name: &str, severity: &str, summary: &str, valid: SignedDuration) -> Value {
        let until = Some(later(self.received, valid));
        spanned(self.labels(name, severity), annotations(summary, &[]), self.time, until)
    }

    fn labels(&self, name: &str, severity: &str) -> Map<String, Value> {
        let mut labels = Map::new();
        labels.insert("alertname".into(), json!(name));
        labels.insert("severity".into(), json!(severity));
        labels.insert("policy".into(), json!(self.policy));
        // One Alertmanager may serve many clusters.
        if !self.cluster.is_empty() {
            labels.insert("cluster".into(), json!(self.cluster));
        }
        labels
    }
}

fn name(rule: Rule) -> &'static str {
    match rule {
        Rule::Expiring => "GatehouseCertificateExpiring",
        Rule::Expired => "GatehouseCertificateExpired",
        Rule::RenewalFailed => "GatehouseCertificateRenewalFailed",
        Rule::NotReady => "GatehouseCertificateNotReady",
        Rule::ReissueHeld => "GatehouseCertificateReissueHeld",
        Rule::Renewed => "GatehouseCertificateRenewed",
        Rule::ExposureMismatch => "GatehouseGatewayExposureMismatch",
    }
}

fn annotations(summary: &str, facts: &[(&'static str, String)]) -> Map<String, Value> {
    let mut annotations = Map::new();
    if !facts.is_empty() {
        let lines: Vec<_> = facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        annotations.insert("description".into(), json!(lines.join("\n")));
    }
    annotations.insert("summary".into(), json!(summary));
    annotations
}

/// An Alertmanager refuses an alert that ends before it starts, and with it the whole request.
fn spanned(
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    since: Timestamp,
    until: Option<Timestamp>,
) -> Value {
    let mut alert = Map::from_iter([
        ("labels".to_owned(), Value::Object(labels)),
        ("annotations".to_owned(), Value::Object(annotations)),
        (
            "startsAt".to_owned(),
            json!(until.map_or(since, |until| since.min(until))),
        ),
    ]);
    if let Some(until) = until {
        alert.insert("endsAt".to_owned(), json!(until));
    }
    Value::Object(alert)
}

fn later(from: Timestamp, by: SignedDuration) -> Timestamp {
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}
