//! Formats of receivers: one file each, all pure.
//!
//! A message becomes [`Envelope`]s, most often one, and a letter the body of a request. All texts of Certificates, which
//! tenants and CAs write, are made fit to show before a format sees them; a format escapes them and keeps its limits.

mod alertmanager;
mod cloudevents;
mod pagerduty;
mod slack;
mod teams;

use std::sync::Arc;

use gatehouse_crds::alert::{Format, Rule, Severity};
use gatehouse_crds::certificate::{LastFailure, SigningIssuer};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::message::{Alert, Content, GatewayFacts, Group, Message, Status, Subject};
use super::render;
use crate::egress::printable;

/// Context of a request, beside the message.
#[derive(Clone, Copy)]
pub struct RequestContext<'a> {
    /// May be empty.
    pub cluster: &'a str,
    /// For PagerDuty only.
    pub routing_key: Option<&'a str>,
    /// Time of the attempt: an Alertmanager keeps an alert from then on.
    pub now: Timestamp,
}

/// The body of one request. Not to be printed: PagerDuty's holds a key.
#[derive(Clone)]
pub struct Body {
    /// `webhook-id`.
    pub id: String,
    pub content_type: &'static str,
    pub bytes: Vec<u8>,
}

/// Content of one request.
struct Envelope {
    id: String,
    time: Timestamp,
    policy: String,
    news: Payload,
}

enum Payload {
    Alert(Alert),
    Group(Group),
    Heartbeat { interval: SignedDuration },
    Test,
}

/// Returns the bodies of the requests for `message`, in their order: one, but none where the format has no message for it
/// (PagerDuty and a heartbeat), and several where it takes more than one.
pub fn bodies(format: Format, message: &Message, context: &RequestContext<'_>) -> Vec<Body> {
    let (content_type, render): (_, fn(&Envelope, &RequestContext<'_>) -> Vec<Value>) = match format {
        Format::Alertmanager => return vec![alertmanager::body(message, context)],
        Format::CloudEvents => (cloudevents::CONTENT_TYPE, |envelope, context| {
            vec![cloudevents::body(envelope, context)]
        }),
        Format::Slack => (JSON, |envelope, _| vec![slack::body(envelope)]),
        Format::Teams => (JSON, |envelope, _| vec![teams::body(envelope)]),
        Format::PagerDuty => (JSON, pagerduty::bodies),
    };
    let envelopes = envelopes(message);
    let rendered = envelopes.iter().flat_map(|envelope| {
        let bodies = render(envelope, context).into_iter().enumerate();
        bodies.map(|(place, body)| (part(&envelope.id, place), body))
    });
    rendered
        .map(|(id, body)| Body {
            id,
            content_type,
            bytes: body.to_string().into_bytes(),
        })
        .collect()
}

const JSON: &str = "application/json";

/// The id of one of several requests for one thing: the first has the thing's own.
fn part(id: &str, place: usize) -> String {
    match place {
        0 => id.to_owned(),
        _ => format!("{id}-{}", place + 1),
    }
}

fn envelopes(message: &Message) -> Vec<Envelope> {
    let news = match &message.content {
        Content::Alert(alert) => vec![Payload::Alert(tamed_alert(alert))],
        Content::Group(group) => vec![Payload::Group(tamed_group(group))],
        Content::Batch { alerts, .. } => gathered(alerts),
        Content::Heartbeat { interval_seconds } => vec![Payload::Heartbeat {
            interval: seconds(*interval_seconds),
        }],
        Content::Test => vec![Payload::Test],
    };
    let numbered = news.into_iter().enumerate();
    numbered
        .map(|(place, news)| Envelope {
            id: part(&message.id, place),
            time: message.time,
            policy: printable(&message.policy, NAME),
            news,
        })
        .collect()
}

/// An Alertmanager's batch for any other receiver, which is met when the format of a receiver is changed while some
/// wait: one letter for each rule and status, so that a storm stays a few letters.
fn gathered(alerts: &[Alert]) -> Vec<Payload> {
    let mut kinds: Vec<(Rule, Status, Vec<&Alert>)> = Vec::new();
    for alert in alerts {
        match kinds
            .iter_mut()
            .find(|(rule, status, _)| (*rule, *status) == (alert.rule, alert.status))
        {
            Some((_, _, of_kind)) => of_kind.push(alert),
            None => kinds.push((alert.rule, alert.status, vec![alert])),
        }
    }
    let gather = |(rule, status, of_kind): (Rule, Status, Vec<&Alert>)| {
        let first = of_kind.first()?;
        if of_kind.len() == 1 {
            return Some(Payload::Alert(tamed_alert(first)));
        }
        let issuer = &first.subject.issuer;
        let same_issuer = of_kind.iter().all(|alert| alert.subject.issuer == *issuer);
        Some(Payload::Group(tamed_group(&Group {
            status,
            rule,
            severity: of_kind
                .iter()
                .map(|alert| alert.severity)
                .max()
                .unwrap_or(Severity::Info),
            fingerprint: first.fingerprint.clone(),
            since: of_kind.iter().map(|alert| alert.since).min().unwrap_or(first.since),
            ended: of_kind.iter().filter_map(|alert| alert.ended).max(),
            issuer: issuer.clone().filter(|_| same_issuer),
            count: of_kind.len(),
            first: of_kind
                .iter()
                .take(Group::NAMED)
                .map(|alert| alert.subject.clone())
                .collect(),
        })))
    };
    kinds.into_iter().filter_map(gather).collect()
}

/// The longest name of an object with its namespace, and more than any of its parts.
const NAME: usize = 320;

/// Maximum number of DNS names of one Certificate, and of each of many.
const NAMES: usize = 20;
const NAMES_IN_GROUP: usize = 3;

fn tamed_alert(alert: &Alert) -> Alert {
    Alert {
        fingerprint: printable(&alert.fingerprint, 64),
        subject: Arc::new(tamed(&alert.subject, NAMES)),
        ..alert.clone()
    }
}

fn tamed_group(group: &Group) -> Group {
    let first = group.first.iter().take(Group::NAMED);
    Group {
        fingerprint: printable(&group.fingerprint, 64),
        issuer: group.issuer.as_ref().map(tamed_issuer),
        first: first.map(|subject| Arc::new(tamed(subject, NAMES_IN_GROUP))).collect(),
        ..group.clone()
    }
}

/// Every text of a bounded length, on one line, without what does not print.
fn tamed(subject: &Subject, names: usize) -> Subject {
    Subject {
        namespace: printable(&subject.namespace, 63),
        name: printable(&subject.name, 253),
        secret_name: subject.secret_name.as_ref().map(|name| printable(name, 253)),
        dns_names: subject
            .dns_names
            .iter()
            .take(names)
            .map(|name| printable(name, 253))
            .collect(),
        issuer: subject.issuer.as_ref().map(tamed_issuer),
        serial_number: subject.serial_number.as_ref().map(|serial| printable(serial, 64)),
        last_failure: subject.last_failure.as_ref().map(|failure| LastFailure {
            time: failure.time,
            reason: printable(&failure.reason, 64),
            message: render::clipped(&failure.message, 1000),
        }),
        gateway: subject.gateway.as_ref().map(|gateway| GatewayFacts {
            addresses: gateway
                .addresses
                .iter()
                .take(names)
                .map(|address| printable(address, 253))
                .collect(),
            message: gateway.message.as_ref().map(|message| render::clipped(message, 1000)),
            ..gateway.clone()
        }),
        ..subject.clone()
    }
}

fn tamed_issuer(issuer: &SigningIssuer) -> SigningIssuer {
    SigningIssuer {
        kind: issuer.kind,
        name: printable(&issuer.name, 253),
    }
}

fn seconds(count: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Replacement for a character that has a meaning in the format.
type Escape = fn(char) -> Option<&'static str>;

/// `text` escaped, at most `max` characters of it, never cut within an escape.
fn escaped(text: &str, max: usize, escape: Escape) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    let mut left = max;
    for (c, last) in text
        .chars()
        .zip((0..text.chars().count()).rev().map(|after| after == 0))
    {
        let mut buffer = [0; 4];
        let piece = escape(c).unwrap_or_else(|| c.encode_utf8(&mut buffer));
        let length = piece.chars().count();
        // Room is kept for the sign of the cut.
        if length + usize::from(!last) > left {
            out.push('…');
            return out;
        }
        out.push_str(piece);
        left -= length;
    }
    out
}

impl Payload {
    /// The sentence, for people.
    fn summary(&self, at: Timestamp, policy: &str) -> String {
        match self {
            Self::Alert(alert) => render::alert(alert, at),
            Self::Group(group) => render::group(group, at),
            Self::Heartbeat { interval } => render::heartbeat(policy, interval.unsigned_abs()),
            Self::Test => render::test(policy),
        }
    }

    fn headline(&self) -> String {
        match self {
            Self::Alert(alert) => render::headline(alert.status, alert.severity, alert.rule),
            Self::Group(group) => render::headline(group.status, group.severity, group.rule),
            Self::Heartbeat { .. } => "Sign of life".to_owned(),
            Self::Test => "Test".to_owned(),
        }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Alert(alert) => render::facts(alert),
            Self::Group(group) => render::group_facts(group),
            Self::Heartbeat { .. } | Self::Test => Vec::new(),
        }
    }

    /// Status and severity, of what has them.
    fn weight(&self) -> Option<(Status, Severity)> {
        match self {
            Self::Alert(alert) => Some((alert.status, alert.severity)),
            Self::Group(group) => Some((group.status, group.severity)),
            Self::Heartbeat { .. } | Self::Test => None,
        }
    }

    fn rule(&self) -> Option<Rule> {
        match self {
            Self::Alert(alert) => Some(alert.rule),
            Self::Group(group) => Some(group.rule),
            Self::Heartbeat { .. } | Self::Test => None,
        }
    }
}

#[cfg(test)]
pub(in crate::alert) mod samples;
#[cfg(test)]
mod tests;
