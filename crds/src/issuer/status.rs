//! Whether the issuer can sign.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Written by Gatehouse only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// Ready: the issuer can sign.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The ACME account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeAccountStatus>,
}

/// The ACME account (RFC 8555 section 7.1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcmeAccountStatus {
    /// The account's URL at the CA.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "accountURI")]
    pub account_uri: Option<String>,
    /// URL of the directory of the server that has the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The contact that the CA has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_registered_email: Option<String>,
    /// Rate limits that the CA made known, kept so that a restart respects them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<AcmeLimits>,
}

/// Learned rate limits of a CA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcmeLimits {
    /// Nothing is sent to the CA before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_not_before: Option<Timestamp>,
    /// No new order is placed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_order_not_before: Option<Timestamp>,
    /// Whether even orders that replace a certificate wait.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_replacements: bool,
    /// When the CA last refused an order for its rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<Timestamp>,
    /// The Certificate whose order that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refused: Option<String>,
}
