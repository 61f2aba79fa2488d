//! The spec of a Certificate.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CertificateStatus, Keystores, OutputFormat, PrivateKeySpec, RolloutTarget, SecretDeletionPolicy, SecretTemplate,
};
use crate::duration::Duration;

/// A TLS certificate that must exist, in a Secret, always fresh.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "gatehouse.dev",
    version = "v1alpha1",
    kind = "Certificate",
    plural = "certificates",
    shortname = "ghcert",
    category = "gatehouse",
    namespaced,
    status = "CertificateStatus",
    derive = "PartialEq",
    doc = "A TLS certificate that must exist, in a Secret, always fresh.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".spec.secretName"),
    printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.issuerRef.name"),
    // Not type date: kubectl prints a date as an age, and a moment to come as <invalid>.
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.notAfter"),
    printcolumn(name = "Renews", type_ = "string", json_path = ".status.renewalTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Serial", type_ = "string", json_path = ".status.serialNumber", priority = 1),
    printcolumn(name = "Failures", type_ = "integer", json_path = ".status.failedAttempts", priority = 1),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.commonName) || (has(self.dnsNames) && size(self.dnsNames) > 0) || (has(self.ipAddresses) && size(self.ipAddresses) > 0) || (has(self.uris) && size(self.uris) > 0) || (has(self.emailAddresses) && size(self.emailAddresses) > 0)")
        .message("a certificate needs a name: write at least one of dnsNames, ipAddresses, uris, emailAddresses or commonName"),
    validation = Rule::new("!(has(self.renewBefore) && has(self.renewBeforePercentage))")
        .message("write renewBefore or renewBeforePercentage, not both"),
    validation = Rule::new("!has(self.duration) || duration(self.duration) >= duration('30s')")
        .message("duration must be at least 30s"),
    validation = Rule::new("!has(self.renewBefore) || duration(self.renewBefore) < duration(has(self.duration) ? self.duration : '876000h')")
        .message("renewBefore must be less than duration, or the certificate would be renewed without end"),
    validation = Rule::new("!has(self.renewBefore) || duration(self.renewBefore) > duration('0s')")
        .message("renewBefore must be more than 0s: a certificate is renewed before it runs out"),
    validation = Rule::new("!has(self.nameConstraints) || (has(self.isCA) && self.isCA)")
        .message("nameConstraints are for CA certificates: add isCA: true or leave them out"),
    validation = Rule::new("!has(self.fallbackIssuerRefs) || !self.fallbackIssuerRefs.exists(f, f.name == self.issuerRef.name && (has(f.kind) ? f.kind : 'Issuer') == (has(self.issuerRef.kind) ? self.issuerRef.kind : 'Issuer'))")
        .message("fallbackIssuerRefs must name other issuers than issuerRef")
)]
pub struct CertificateSpec {
    /// Name of the Secret, in this namespace, that holds `tls.crt`, `tls.key` and, when known, `ca.crt`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("!format.dns1123Subdomain().validate(self).hasValue()")
        .message("secretName must be a name that a Secret can have: lower-case letters, digits, - and ., such as catalog-tls"))]
    pub secret_name: String,
    /// Issuer that signs.
    pub issuer_ref: IssuerRef,
    /// Tried in order when the first cannot issue; the next renewal starts from the first again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub fallback_issuer_refs: Vec<IssuerRef>,
    /// The subject's common name. Optional; clients look at the other names. An ACME issuer gets it as a DNS name too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub common_name: Option<String>,
    /// DNS names, `*.` in front for a wildcard. Names in Unicode are turned into A-labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new("self.all(n, !n.contains(' ') && !n.contains('/') && !n.contains(':') && !n.contains('..') && !n.startsWith('.'))")
        .message("dnsNames are host names such as www.example.com or *.example.com, without scheme, port, path or empty labels"))]
    #[x_kube(validation = Rule::new("self.all(n, !n.contains('*') || (n.startsWith('*.') && !n.substring(1).contains('*')))")
        .message("a wildcard is one * as the whole first label, such as *.example.com"))]
    #[x_kube(validation = Rule::new("self.all(n, !isIP(n))")
        .message("an IP address goes into ipAddresses, not dnsNames"))]
    pub dns_names: Vec<String>,
    /// IP addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 250), inner(length(min = 2, max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a))")
        .message("ipAddresses must be IPv4 or IPv6 addresses such as 192.0.2.7 or 2001:db8::7"))]
    pub ip_addresses: Vec<String>,
    /// URIs, such as a SPIFFE ID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 250), inner(length(min = 1, max = 2048)))]
    #[x_kube(validation = Rule::new("self.all(u, u.matches('^[A-Za-z][A-Za-z0-9+.-]*:.+'))")
        .message("uris must be absolute, such as spiffe://cluster.local/ns/app"))]
    pub uris: Vec<String>,
    /// E-mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 250), inner(length(min = 3, max = 254)))]
    #[x_kube(validation = Rule::new("self.all(e, e.matches('^[^@ ]+@[^@ ]+$'))")
        .message("emailAddresses must be plain addresses such as ops@example.com"))]
    pub email_addresses: Vec<String>,
    /// Further attributes of the subject. Public ACME CAs leave them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<X509Subject>,
    /// Requested lifetime, at least 30s. Default: the issuer's (ACME), else 90 days. An ACME CA receives it
    /// only if the issuer's `acme.enableDurationFeature` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Time before its end at which the certificate is renewed. Default: a third of its lifetime, half if that is under 10 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<Duration>,
    /// As renewBefore, in percent of the lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub renew_before_percentage: Option<i32>,
    /// The private key. Default: ECDSA P-256, PKCS8, a new one for each certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKeySpec>,
    /// Key usages by cert-manager's names. Default: digital signature, key encipherment, server auth; for a CA cert sign instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "usages_schema")]
    pub usages: Vec<String>,
    /// Whether this is a CA certificate. Never from ACME.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "isCA")]
    pub is_ca: Option<bool>,
    /// Names that a CA certificate may sign (RFC 5280 section 4.2.1.10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_constraints: Option<NameConstraints>,
    /// Labels and annotations for the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_template: Option<SecretTemplate>,
    /// Further forms of the pair in the Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub additional_output_formats: Vec<OutputFormat>,
    /// Keystores in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keystores: Option<Keystores>,
    /// Retain (the default) or Delete the Secret when this Certificate is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_deletion_policy: Option<SecretDeletionPolicy>,
    /// Workloads restarted after the Secret changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rollout: Vec<RolloutTarget>,
    /// While true nothing is issued, renewed or healed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Names an Issuer or ClusterIssuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Issuer (the default, in the Certificate's namespace) or ClusterIssuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<IssuerKind>,
}

impl IssuerRef {
    /// The kind, with the default.
    pub fn kind(&self) -> IssuerKind {
        self.kind.unwrap_or_default()
    }
}

/// Issuer (the default, in the Certificate's namespace) or ClusterIssuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum IssuerKind {
    /// In the Certificate's namespace.
    #[default]
    Issuer,
    /// For the whole cluster.
    ClusterIssuer,
}

impl IssuerKind {
    /// The kind's name as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "Issuer",
            Self::ClusterIssuer => "ClusterIssuer",
        }
    }
}

impl std::fmt::Display for IssuerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Attributes of the subject's distinguished name (RFC 5280 section 4.1.2.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct X509Subject {
    /// O
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub organizations: Vec<String>,
    /// OU
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub organizational_units: Vec<String>,
    /// C, two letters each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 2, max = 2)))]
    pub countries: Vec<String>,
    /// ST
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    pub provinces: Vec<String>,
    /// L
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    pub localities: Vec<String>,
    /// STREET
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    pub street_addresses: Vec<String>,
    /// postalCode
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 40)))]
    pub postal_codes: Vec<String>,
    /// The subject's serialNumber attribute, which is not the certificate's serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub serial_number: Option<String>,
}

/// Name constraints of a CA certificate (RFC 5280 section 4.2.1.10).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameConstraints {
    /// Whether the extension is marked critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<bool>,
    /// Only these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permitted: Option<NameConstraintItem>,
    /// None of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<NameConstraintItem>,
}

/// Subtrees of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameConstraintItem {
    /// DNS domains, such as example.com.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub dns_domains: Vec<String>,
    /// IP ranges in CIDR notation, such as 10.0.0.0/8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 3, max = 49)))]
    pub ip_ranges: Vec<String>,
    /// E-mail addresses or their domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 254)))]
    pub email_addresses: Vec<String>,
    /// Domains of URIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub uri_domains: Vec<String>,
}

/// cert-manager's names for key usages and extended key usages.
const USAGES: &[&str] = &[
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "timestamping",
    "ocsp signing",
    "microsoft sgc",
    "netscape sgc",
];

fn usages_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": { "type": "string", "enum": USAGES }
    })
}
