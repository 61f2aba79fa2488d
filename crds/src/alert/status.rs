//! Firing alerts and the state of deliveries.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Severity;

/// Written by Gatehouse only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertPolicyStatus {
    /// Ready: the policy can be carried out. Delivering: every receiver takes what is sent. Heartbeat: every receiver gets heartbeats, where they are wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of firing alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing_count: Option<i64>,
    /// The alerts that fire: the worst and oldest of them when they are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firing: Vec<FiringAlert>,
    /// State of each receiver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub receivers: Vec<ReceiverStatus>,
    /// The test that was asked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestStatus>,
}

/// One alert: a Certificate or a Gateway, and a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FiringAlert {
    /// `<namespace>/<name>` of the Certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// `<namespace>/<name>` of the Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The rule.
    pub rule: Rule,
    /// The worst that it was since it fires.
    pub severity: Severity,
    /// Since when it fires.
    pub since: Timestamp,
    /// When it was last handed to the receivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sent: Option<Timestamp>,
}

/// Kinds of objects that alerts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertKind {
    Certificate,
    Gateway,
}

impl AlertKind {
    /// As in the types of events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Gateway => "gateway",
        }
    }
}

/// A rule, by the name of its field in `spec.rules`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    Expiring,
    Expired,
    RenewalFailed,
    NotReady,
    ReissueHeld,
    Renewed,
    ExposureMismatch,
}

impl Rule {
    pub const ALL: [Self; 7] = [
        Self::Expiring,
        Self::Expired,
        Self::RenewalFailed,
        Self::NotReady,
        Self::ReissueHeld,
        Self::Renewed,
        Self::ExposureMismatch,
    ];

    /// Returns the value in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::RenewalFailed => "renewalFailed",
            Self::NotReady => "notReady",
            Self::ReissueHeld => "reissueHeld",
            Self::Renewed => "renewed",
            Self::ExposureMismatch => "exposureMismatch",
        }
    }

    /// Object of the alert.
    pub fn kind(self) -> AlertKind {
        if self == Self::ExposureMismatch {
            AlertKind::Gateway
        } else {
            AlertKind::Certificate
        }
    }

    /// The same in the types of events and in the names of runbooks: `renewal_failed`.
    pub fn as_snake(self) -> &'static str {
        match self {
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::RenewalFailed => "renewal_failed",
            Self::NotReady => "not_ready",
            Self::ReissueHeld => "reissue_held",
            Self::Renewed => "renewed",
            Self::ExposureMismatch => "exposure_mismatch",
        }
    }
}

/// State of a receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiverStatus {
    /// Its name in the spec.
    pub name: String,
    /// When it last took something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// When it last did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// Why it did not. Never what it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Failures since the last success.
    #[serde(default)]
    pub consecutive_failures: i64,
    /// Deliveries that wait.
    #[serde(default)]
    pub pending: i64,
    /// It answered 410 Gone: nothing is sent until the policy's spec or a Secret of the receiver changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
}

/// A test that was asked for by the annotation gatehouse.dev/test-requested-at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestStatus {
    /// The annotation's value.
    pub requested_at: Timestamp,
    /// Results by receiver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receivers: Vec<TestResult>,
}

/// One receiver's part in a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    /// The receiver.
    pub name: String,
    /// Whether it took the test alert.
    pub delivered: bool,
    /// Duration, or the reason of the failure.
    pub message: String,
}
