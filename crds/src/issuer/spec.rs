//! The spec of an issuer.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::IssuerStatus;
use crate::{
    secret_ref::{LocalSecretRef, SecretKeySelector},
    solver::Solver,
};

macro_rules! issuer_kind {
    ($spec:ident, $kind:literal, $plural:literal, $short:literal, $doc:literal $(, $scope:ident)?) => {
        #[doc = $doc]
        #[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
        #[kube(
            group = "gatehouse.dev",
            version = "v1alpha1",
            kind = $kind,
            plural = $plural,
            shortname = $short,
            category = "gatehouse",
            $($scope,)?
            status = "IssuerStatus",
            derive = "PartialEq",
            doc = $doc,
            printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
            printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
            printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        )]
        #[serde(rename_all = "camelCase")]
        #[x_kube(
            validation = Rule::new("[has(self.acme), has(self.ca), has(self.selfSigned)].filter(x, x).size() == 1")
                .message("write exactly one of acme, ca and selfSigned")
        )]
        pub struct $spec {
            /// Signs by ACME (RFC 8555), such as Let's Encrypt.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub acme: Option<AcmeIssuer>,
            /// Signs with a CA whose key is in a Secret.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub ca: Option<CaIssuer>,
            /// Each certificate is signed with its own key. Good for a root CA.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub self_signed: Option<SelfSignedIssuer>,
        }

        impl $spec {
            /// The one that is set. None only when the object was written past validation.
            pub fn config(&self) -> Option<IssuerConfig<'_>> {
                match (&self.acme, &self.ca, &self.self_signed) {
                    (Some(acme), None, None) => Some(IssuerConfig::Acme(acme)),
                    (None, Some(ca), None) => Some(IssuerConfig::Ca(ca)),
                    (None, None, Some(own)) => Some(IssuerConfig::SelfSigned(own)),
                    _ => None,
                }
            }
        }
    };
}

issuer_kind!(
    IssuerSpec,
    "Issuer",
    "issuers",
    "ghiss",
    "Signs certificates for one namespace.",
    namespaced
);
issuer_kind!(
    ClusterIssuerSpec,
    "ClusterIssuer",
    "clusterissuers",
    "ghciss",
    "Signs certificates for every namespace. Its Secrets are in the operator's namespace."
);

/// The type of an issuer, whichever kind it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum IssuerConfig<'a> {
    /// RFC 8555.
    Acme(&'a AcmeIssuer),
    /// A CA in a Secret.
    Ca(&'a CaIssuer),
    /// Its own key.
    SelfSigned(&'a SelfSignedIssuer),
}

/// An ACME CA and the account there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.caBundle) && has(self.caBundleSecretRef))")
        .message("write caBundle or caBundleSecretRef, not both")
)]
pub struct AcmeIssuer {
    /// URL of the CA's directory, such as <https://acme-v02.api.letsencrypt.org/directory>.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && self.startsWith('https://')")
        .message("server must be the https:// URL of the ACME directory"))]
    pub server: String,
    /// Contact of the account. Optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254))]
    #[x_kube(validation = Rule::new("self.matches('^[^@ ]+@[^@ ]+$')")
        .message("email must be a plain address such as ops@example.com"))]
    pub email: Option<String>,
    /// PEM certificates, in base64, that the server's certificate must chain to. For private ACME servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144), extend("format" = "byte"))]
    pub ca_bundle: Option<String>,
    /// As caBundle, from a Secret (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_secret_ref: Option<SecretKeySelector>,
    /// Secret with the account's key in `tls.key`. Created when missing, never replaced.
    pub private_key_secret_ref: LocalSecretRef,
    /// For CAs that tie the account to a customer (RFC 8555 section 7.3.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account_binding: Option<ExternalAccountBinding>,
    /// One of the CA's certificate profiles, such as shortlived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub profile: Option<String>,
    /// Whether the CA is asked for the Certificate's `duration` (notAfter of RFC 8555 section 7.4). Many public CAs
    /// refuse that; the order is then placed without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_duration_feature: Option<bool>,
    /// Common name of the root whose chain is preferred when the CA offers several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub preferred_chain: Option<String>,
    /// Solvers of challenges. The most specific selector wins: dnsNames, then the longest dnsZone, then labels.
    #[schemars(length(min = 1, max = 64))]
    pub solvers: Vec<Solver>,
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAccountBinding {
    /// The key identifier that the CA gave.
    #[serde(rename = "keyID")]
    #[schemars(length(min = 1, max = 1024))]
    pub key_id: String,
    /// The MAC key, as the base64 text that the CA shows.
    pub key_secret_ref: SecretKeySelector,
}

/// A CA whose pair is in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaIssuer {
    /// Secret with `tls.crt` (the CA, then its intermediates) and `tls.key`.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// Written into each certificate (RFC 5280 section 4.2.1.13).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 2048)))]
    pub crl_distribution_points: Vec<String>,
    /// Written into each certificate as authority information access (RFC 5280 section 4.2.2.1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 2048)))]
    pub ocsp_servers: Vec<String>,
    /// URLs of the CA's own certificate; written into each certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "issuingCertificateURLs")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 2048)))]
    pub issuing_certificate_urls: Vec<String>,
}

/// Signs each certificate with its own key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelfSignedIssuer {}
