//! One port, and what is spoken there.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{certificate::IssuerRef, duration::Duration, secret_ref::LocalSecretRef};

/// One port, and what is spoken there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.tls) || self.protocol in ['HTTPS', 'TLS', 'TCP']")
        .message("tls is for protocol HTTPS, TLS or TCP"),
    validation = Rule::new("!has(self.tls) || !has(self.tls.certificate) || has(self.hostname)")
        .message("tls.certificate needs a hostname: the name that the certificate is for")
)]
pub struct Listener {
    /// Its name, unique in the Gateway; the name of the Service's port.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The port that clients use.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The Pods' port, by number or by the name of a container's port. Default: `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // The API server reckons a rule over a string that may be a number as if the string had no end: a pattern costs nothing.
    #[schemars(extend("maxLength" = 15, "pattern" = "^[-a-z0-9]*[a-z][-a-z0-9]*$"))]
    #[x_kube(validation = Rule::new("type(self) != int || (self >= 1 && self <= 65535)")
        .message("targetPort is a number from 1 to 65535, or the name of a container's port"))]
    pub target_port: Option<IntOrString>,
    /// Protocol of the listener. HTTP, HTTPS and TLS are TCP with an `appProtocol`.
    pub protocol: Protocol,
    /// The host name that clients use: exact, or with `*` as the whole first label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$') && !isIP(self)")
        .message("hostname is a DNS name in lower case such as shop.example.com or *.example.com"))]
    pub hostname: Option<String>,
    /// The certificate that the Pods serve here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
}

/// Protocol at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
    #[serde(rename = "TLS")]
    Tls,
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
}

/// Which certificate: one that Gatehouse makes, or yours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.certificate) != (has(self.certificateRefs) && size(self.certificateRefs) > 0)")
        .message("write certificate, for one that Gatehouse makes, or certificateRefs, for Secrets of your own")
)]
pub struct ListenerTls {
    /// Gatehouse makes and owns the Certificate `<gateway>-<listener>` for the host name, in a Secret `<gateway>-<listener>-tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateTemplate>,
    /// TLS Secrets of this namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub certificate_refs: Vec<LocalSecretRef>,
}

/// Spec of the Certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateTemplate {
    /// Issuer that signs.
    pub issuer_ref: IssuerRef,
    /// As in a Certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
}
