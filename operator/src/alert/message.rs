//! Messages to receivers, before any format: plain values, which are also in the durable queue.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest;
use gatehouse_crds::alert::{AlertKind, Rule, Severity};
use gatehouse_crds::certificate::{Certificate, LastFailure, SigningIssuer};
use gatehouse_crds::gateway::Gateway;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use crate::{certificate::rollout::ROLLED_OUT, gateway::status::EXPOSURE_VERIFIED, kubernetes::conditions};

/// One delivery to one receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// `webhook-id`: the same on every try, so that a receiver can drop a repeat.
    pub id: String,
    /// When it was put into the queue.
    pub time: Timestamp,
    /// The policy that sends it: `<namespace>/<name>`, or `<name>` of a ClusterAlertPolicy.
    pub policy: String,
    pub content: Content,
}

/// Content of a delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Content {
    /// One alert.
    Alert(Alert),
    /// Many of a kind at once. Never sent to an Alertmanager, which groups by itself.
    Group(Group),
    /// Alerts for an Alertmanager, which takes many in one request.
    Batch {
        /// The durable state has them without the facts of their objects; see [`Content::complete`].
        #[serde(serialize_with = "brief")]
        alerts: Vec<Alert>,
        /// For how many seconds those that fire are to be believed without a word from us.
        valid_seconds: u64,
    },
    /// A heartbeat; the next one comes after this number of seconds.
    Heartbeat { interval_seconds: u64 },
    /// A user wants to see whether alerts arrive.
    Test,
}

impl Content {
    /// Fills in what the durable state left out of an Alertmanager's batch: `look` returns the UID of an object and its
    /// is known of it now.
    pub fn complete(&mut self, look: impl Fn(AlertKind, &str, &str) -> Option<(String, Subject)>) {
        let Self::Batch { alerts, .. } = self else { return };
        for alert in alerts.iter_mut().filter(|alert| alert.fingerprint.is_empty()) {
            let whole = look(alert.rule.kind(), &alert.subject.namespace, &alert.subject.name);
            let (uid, subject) = whole.unwrap_or_else(|| (alert.subject.to_string(), Subject::clone(&alert.subject)));
            alert.fingerprint = fingerprint(&uid, alert.rule);
            alert.subject = Arc::new(subject);
        }
    }
}

/// Ten thousand alerts that wait for an Alertmanager have to fit into one object. It knows them by their names, and the rest
/// can be looked up.
fn brief<S: Serializer>(alerts: &[Alert], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(alerts.iter().map(|alert| Alert {
        fingerprint: String::new(),
        subject: Arc::new(Subject {
            namespace: alert.subject.namespace.clone(),
            name: alert.subject.name.clone(),
            ..Subject::default()
        }),
        ..alert.clone()
    }))
}

/// Hash of a Certificate's UID and a rule: 32 hexadecimal digits.
pub fn fingerprint(uid: &str, rule: Rule) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{uid}/{}", rule.as_str()).as_bytes());
    let half = hash.as_ref().first_chunk().map_or(0, |half| u128::from_be_bytes(*half));
    format!("{half:032x}")
}

/// Whether the alert fires or is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    Firing,
    Resolved,
}

impl Status {
    /// Returns the value in a payload.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// An object and a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    pub status: Status,
    pub severity: Severity,
    pub rule: Rule,
    /// The same for as long as the object exists: 32 hexadecimal digits made of its UID and the rule.
    pub fingerprint: String,
    /// Since when it fires.
    pub since: Timestamp,
    /// When it ended; only with [`Status::Resolved`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    pub subject: Arc<Subject>,
    /// To an Alertmanager: a higher severity of the same alert has ended, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clears: bool,
}

/// Alerts that began together, by rule and issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Resolved when the last of them ended.
    pub status: Status,
    pub severity: Severity,
    pub rule: Rule,
    /// The same for as long as the group is open: 32 hexadecimal digits.
    pub fingerprint: String,
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Issuer of all of them, when they name the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<SigningIssuer>,
    /// Number of them; when it is over, their highest number.
    pub count: usize,
    /// The first of them, at most [`Group::NAMED`].
    pub first: Vec<Arc<Subject>>,
}

impl Group {
    /// So many are named.
    pub const NAMED: usize = 20;
}

/// Facts about a Certificate or a Gateway. Holds no secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    pub namespace: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// Signing issuer, or else the one of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<SigningIssuer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_time: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_attempts: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Timestamp>,
    /// It is a Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayFacts>,
}

/// Facts about a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayFacts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    pub scope: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Message of its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Subject {
    /// Maximum number of names; a Certificate may have more.
    const NAMES: usize = 20;

    /// Returns the present facts about the object.
    pub fn of(certificate: &Certificate) -> Self {
        let status = certificate.status.clone().unwrap_or_default();
        let attempts = status.failed_attempts.filter(|attempts| *attempts > 0);
        // No attempt failed, but what came of the last did not reach its workloads.
        let late = conditions::find(&status.conditions, ROLLED_OUT)
            .filter(|rollout| rollout.status == "False" && attempts.is_none() && status.last_failure.is_none());
        let late = late.map(|rollout| LastFailure {
            time: rollout.last_transition_time.0,
            reason: rollout.reason.clone(),
            message: rollout.message.clone(),
        });
        let asked = || SigningIssuer {
            kind: certificate.spec.issuer_ref.kind(),
            name: certificate.spec.issuer_ref.name.clone(),
        };
        Self {
            namespace: certificate.metadata.namespace.clone().unwrap_or_default(),
            name: certificate.metadata.name.clone().unwrap_or_default(),
            secret_name: Some(certificate.spec.secret_name.clone()),
            dns_names: certificate.spec.dns_names.iter().take(Self::NAMES).cloned().collect(),
            issuer: Some(status.issuer.unwrap_or_else(asked)),
            serial_number: status.serial_number,
            not_before: status.not_before,
            not_after: status.not_after,
            renewal_time: status.renewal_time,
            failed_attempts: attempts.or(late.as_ref().map(|_| 0)),
            last_failure: status.last_failure.or(late),
            next_attempt_time: status.next_attempt_time,
            gateway: None,
        }
    }

    /// Returns the present facts about a Gateway.
    pub fn of_gateway(gateway: &Gateway) -> Self {
        let status = gateway.status.clone().unwrap_or_default();
        let word = |value: Option<serde_json::Value>| Some(value?.as_str()?.to_owned());
        let scope = gateway
            .spec
            .service
            .as_ref()
            .and_then(|service| service.scope)
            .unwrap_or_default();
        let verified = conditions::find(&status.conditions, EXPOSURE_VERIFIED);
        Self {
            namespace: gateway.metadata.namespace.clone().unwrap_or_default(),
            name: gateway.metadata.name.clone().unwrap_or_default(),
            gateway: Some(GatewayFacts {
                service_name: status.service_name.clone(),
                provider: word(status.provider.and_then(|provider| serde_json::to_value(provider).ok())),
                scope: word(serde_json::to_value(scope).ok()).unwrap_or_default(),
                addresses: status
                    .addresses
                    .iter()
                    .take(Self::NAMES)
                    .map(|address| address.value.clone())
                    .collect(),
                message: verified
                    .filter(|verified| verified.status == "False")
                    .map(|verified| verified.message.clone()),
            }),
            ..Self::default()
        }
    }

    /// Certificate or Gateway.
    pub fn kind(&self) -> AlertKind {
        if self.gateway.is_some() {
            AlertKind::Gateway
        } else {
            AlertKind::Certificate
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
