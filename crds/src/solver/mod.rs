//! One entry of `spec.acme.solvers` of an Issuer: for which names it answers, and how.
//!
//! Names and meanings are cert-manager's. What does not work is not here.

#![allow(unreachable_pub, reason = "KubeSchema repeats the structs inside a function")]

pub mod cloud;
pub mod dns01;
pub mod http01;
pub mod provider;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

pub use cloud::{AzureDns, AzureEnvironment, CloudDns, Cloudflare, DigitalOcean, Route53};
pub use dns01::{AcmeDns, CnameStrategy, Dns01, Propagation, Rfc2136, TsigAlgorithm};
pub use http01::{Http01, Http01Ingress, IngressTemplate, IngressTemplateMetadata, SelfCheck};
pub use provider::{Provider, ProviderType};

/// Solver of challenges for the names that the selector selects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.http01) != has(self.dns01)")
        .message("a solver is either http01 or dns01: write exactly one of them, and a second entry for the other"),
    // RFC 8738, section 7.
    validation = Rule::new("!has(self.dns01) || !has(self.selector) || !has(self.selector.dnsNames) || !self.selector.dnsNames.exists(n, isIP(n))")
        .message("dns01 cannot prove an IP address: give the addresses of this selector to a solver with http01")
)]
pub struct Solver {
    /// Which names this solver answers for. Without it: every name that no other solver takes.
    ///
    /// The most specific solver wins: one that lists the name in `dnsNames`, then the one with the longest
    /// fitting `dnsZones`, then the one with most `matchLabels`; then the first listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Answer over HTTP on port 80 (RFC 8555, section 8.3). Not for wildcards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http01: Option<Http01>,
    /// Answer by a TXT record (RFC 8555, section 8.4). Not for IP addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns01: Option<Dns01>,
}

/// All that is written here must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels that the Certificate must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: BTreeMap<String, String>,
    /// Exact names. A wildcard is written as it is in the Certificate: `*.example.com`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 254)))]
    pub dns_names: Vec<String>,
    /// Domains with all that is below them, wildcards included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 254)))]
    #[x_kube(
        validation = Rule::new("self.all(z, !z.startsWith('*'))")
            .message("dnsZones take everything below a domain: write example.com, not *.example.com")
    )]
    pub dns_zones: Vec<String>,
}
