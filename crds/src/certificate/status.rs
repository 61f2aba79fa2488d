//! The status of a Certificate.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IssuerKind, RolloutTarget};

/// Written by Gatehouse only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Ready: a valid certificate for the spec is in the Secret. Issuing: one is being obtained. RolledOut: the workloads of
    /// `rollout` have been restarted with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The certificate's notBefore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// The certificate's notAfter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// When it will be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_time: Option<Timestamp>,
    /// Serial number in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// SHA-256 over the certificate's DER, in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "fingerprintSHA256")]
    pub fingerprint_sha256: Option<String>,
    /// The issuer that signed, which may be a fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<SigningIssuer>,
    /// The signer, as the issuer was then: a changed issuer is recognised by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<SigningAuthority>,
    /// In what the certificate is not what the spec asks for, by its CA's decision: names, subject, lifetime, usages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub differences: Vec<String>,
    /// When it was issued, by the operator's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Timestamp>,
    /// Number of issued certificates; 1 for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Attempts that failed since the last certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_attempts: Option<i32>,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// When the next attempt is made. Always there while not Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Timestamp>,
    /// Workloads of `rollout` that have not been restarted for this certificate yet. The condition RolledOut says why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub pending_rollouts: Vec<RolloutTarget>,
    /// The ACME order in flight, and the CA's advice on renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeStatus>,
}

/// Issuer that signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningIssuer {
    /// Issuer or ClusterIssuer.
    pub kind: IssuerKind,
    /// Its name.
    pub name: String,
}

/// Kind of an issuer's signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningAuthority {
    /// ACME, CA or SelfSigned.
    #[serde(rename = "type")]
    pub kind: AuthorityType,
    /// URL of the ACME server's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Subject key identifier of the CA, in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "keyID")]
    pub key_id: Option<String>,
}

/// The kinds of authority, by the issuer's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthorityType {
    /// A server that speaks ACME.
    ACME,
    /// A CA whose key is in a Secret.
    CA,
    /// The certificate's own key.
    SelfSigned,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// When.
    pub time: Timestamp,
    /// A CamelCase word: RateLimited, ChallengeFailed, IssuerNotReady, Rejected, Network, Invalid…
    pub reason: String,
    /// For humans.
    pub message: String,
}

/// State of ACME for this Certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcmeStatus {
    /// The order in flight (RFC 8555 section 7.1.3). A restart resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "orderURL")]
    pub order_url: Option<String>,
    /// The issuer that the order was placed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_issuer: Option<SigningIssuer>,
    /// URL of the directory of the server that has the order: it is sent to no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_server: Option<String>,
    /// Hash of the request, so that a changed spec abandons the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_request: Option<String>,
    /// Since when the CA has the next move: the order is given up after an hour, or when it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Timestamp>,
    /// URL of the certificate with its chain at the CA (RFC 8555 section 7.4.2): a chain that was removed from the Secret is put
    /// back from there, without another order.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "certificateURL")]
    pub certificate_url: Option<String>,
    /// ACME Renewal Information (RFC 9773).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ari: Option<AriStatus>,
    /// Challenges of the order in flight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub challenges: Vec<ChallengeStatus>,
}

/// ACME Renewal Information (RFC 9773).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AriStatus {
    /// Start of the suggested window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_start: Option<Timestamp>,
    /// End of the suggested window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_end: Option<Timestamp>,
    /// A page of the CA that explains the window.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "explanationURL")]
    pub explanation_url: Option<String>,
    /// When the CA is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_check_time: Option<Timestamp>,
}

/// One challenge (RFC 8555 section 8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeStatus {
    /// `http-01` or `dns-01`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name or address to be proven.
    pub identifier: String,
    /// State of the challenge.
    pub state: ChallengeState,
    /// For humans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// State of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChallengeState {
    /// The answer is being put in place.
    Presenting,
    /// The answer is in place, but not yet seen where the CA will look.
    Propagating,
    /// The challenge was submitted, and the CA validates it.
    Validating,
    /// The CA accepted it.
    Valid,
    /// It failed.
    Invalid,
}
