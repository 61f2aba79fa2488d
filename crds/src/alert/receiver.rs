//! Receivers of alerts.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Severity;
use crate::{
    duration::Duration,
    secret_ref::{LocalSecretRef, SecretKeySelector},
};

/// One receiver, with a queue of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receiver {
    /// Its name in the status and in metrics.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("write lower-case letters, digits and -, beginning and ending with a letter or digit"))]
    pub name: String,
    /// Alerts below are not sent here. Default: warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_severity: Option<Severity>,
    /// An HTTP POST for each alert.
    pub webhook: Webhook,
}

/// An HTTP endpoint and what it understands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.url) && has(self.urlSecretRef))")
        .message("write url or urlSecretRef, not both"),
    validation = Rule::new("has(self.url) || has(self.urlSecretRef) || (has(self.format) && self.format == 'PagerDuty')")
        .message("write url, or urlSecretRef for a URL that is itself a secret"),
    validation = Rule::new("!has(self.format) || self.format != 'PagerDuty' || has(self.routingKeySecretRef) || has(self.headersSecretRef)")
        .message("format PagerDuty needs routingKeySecretRef: the integration key of the service"),
    validation = Rule::new("!has(self.routingKeySecretRef) || (has(self.format) && self.format == 'PagerDuty')")
        .message("routingKeySecretRef is for format PagerDuty only")
)]
pub struct Webhook {
    /// URL to POST to. For Alertmanager the base URL is enough. Link-local, loopback and metadata addresses are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && (self.startsWith('https://') || self.startsWith('http://'))")
        .message("url must be an http:// or https:// URL"))]
    pub url: Option<String>,
    /// As url, from a Secret: for URLs that are a password, such as Slack's and Teams'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeySelector>,
    /// Format of the messages. Default: CloudEvents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Signs by Standard Webhooks v1: one or more `whsec_…` keys separated by white space, each of which signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret_ref: Option<SecretKeySelector>,
    /// Headers to send, such as Authorization: each key of the Secret is a header's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_secret_ref: Option<LocalSecretRef>,
    /// The integration key of a PagerDuty service (Events API v2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_key_secret_ref: Option<SecretKeySelector>,
    /// PEM certificates, in base64, that the receiver's certificate must chain to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144), extend("format" = "byte"))]
    pub ca_bundle: Option<String>,
    /// Secret with `tls.crt` and `tls.key` that we show to the receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<LocalSecretRef>,
    /// For one request, from the look-up of the name to the end of the answer. Default: 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('60s')")
        .message("timeout must be between 1s and 60s"))]
    pub timeout: Option<Duration>,
}

/// Format of a receiver's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Format {
    /// CloudEvents 1.0, structured JSON.
    #[default]
    CloudEvents,
    /// The v2 API of Prometheus' Alertmanager.
    Alertmanager,
    /// An incoming webhook of Slack.
    Slack,
    /// A Workflows webhook of Microsoft Teams (Adaptive Card).
    Teams,
    /// PagerDuty's Events API v2.
    PagerDuty,
}
