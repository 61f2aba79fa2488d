//! The `dns01` block of a solver, and the providers that are not clouds.

use kube::{KubeSchema, core::Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AzureDns, CloudDns, Cloudflare, DigitalOcean, Provider, Route53};
use crate::secret_ref::SecretKeySelector;

/// Answers by TXT records at `_acme-challenge.<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.rfc2136), has(self.cloudflare), has(self.route53), has(self.cloudDNS), has(self.azureDNS), \
         has(self.digitalocean), has(self.acmeDNS), has(self.provider)].exists_one(p, p)"
    ).message(
        "dns01 takes exactly one provider: rfc2136, cloudflare, route53, cloudDNS, azureDNS, digitalocean, acmeDNS, \
         or provider for any other; write a solver for each"
    )
)]
pub struct Dns01 {
    /// Any server that takes dynamic updates (RFC 2136): BIND, Knot, `PowerDNS`, Windows DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136>,
    /// Cloudflare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudflare: Option<Cloudflare>,
    /// Amazon Route 53.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route53: Option<Route53>,
    /// Google Cloud DNS.
    #[serde(default, rename = "cloudDNS", skip_serializing_if = "Option::is_none")]
    pub cloud_dns: Option<CloudDns>,
    /// Azure DNS.
    #[serde(default, rename = "azureDNS", skip_serializing_if = "Option::is_none")]
    pub azure_dns: Option<AzureDns>,
    /// `DigitalOcean`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digitalocean: Option<DigitalOcean>,
    /// An acme-dns server: `_acme-challenge` of each name is a CNAME to it.
    #[serde(default, rename = "acmeDNS", skip_serializing_if = "Option::is_none")]
    pub acme_dns: Option<AcmeDns>,
    /// Any other DNS provider that Gatehouse knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Treatment of a CNAME at `_acme-challenge.<name>`: `Follow` writes the record where it points to,
    /// `None` (the default) writes it at the name itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cname_strategy: Option<CnameStrategy>,
    /// Check that the record is visible before the CA is asked to validate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
}

/// Treatment of a CNAME at `_acme-challenge.<name>`: `Follow` writes the record where it points to,
/// `None` (the default) writes it at the name itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CnameStrategy {
    #[default]
    None,
    Follow,
}

/// The wait for the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Propagation {
    /// Servers to ask, as `host` or `host:port`, in place of the authoritative ones that DNS names: for the zone,
    /// for a CNAME and for the record. Best are servers that do not cache: one that does may continue to say
    /// "not there" for the zone's negative TTL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 260)))]
    #[x_kube(
        validation = Rule::new(r"self.all(s, s.matches('^(\\[[0-9a-fA-F:.]+\\]|[^\\s:/\\[\\]]+)(:[0-9]{1,5})?$'))")
            .message("a name server is written host or host:port, IPv6 in brackets: 10.0.0.53, 10.0.0.53:5353, [2001:db8::53]:53")
    )]
    pub nameservers: Vec<String>,
    /// Longest wait until all servers have the record; then the attempt fails and names the server that does not.
    /// Default: 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')")
            .message("timeout is between 1s and 1h: write for example 2m")
    )]
    pub timeout: Option<Duration>,
}

/// A server that takes dynamic updates signed with TSIG (RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rfc2136 {
    /// The primary server, as `host` or `host:port`.
    #[schemars(length(max = 260))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^(\\[[0-9a-fA-F:.]+\\]|[^\\s:/\\[\\]]+)(:[0-9]{1,5})?$')")
            .message("nameserver is written host or host:port, IPv6 in brackets: 10.0.0.53:53, ns1.example.com, [2001:db8::53]:53")
    )]
    pub nameserver: String,
    /// Name of the key, as in the server's configuration.
    #[schemars(length(min = 1, max = 253))]
    pub tsig_key_name: String,
    /// HMACSHA256 (the default), HMACSHA384 or HMACSHA512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tsig_algorithm: Option<TsigAlgorithm>,
    /// The key: the base64 text that the server's configuration shows.
    pub tsig_secret_secret_ref: SecretKeySelector,
}

/// Algorithm of the signatures of updates: HMACSHA256 (the default), HMACSHA384 or HMACSHA512.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TsigAlgorithm {
    #[default]
    #[serde(rename = "HMACSHA256")]
    HmacSha256,
    #[serde(rename = "HMACSHA384")]
    HmacSha384,
    #[serde(rename = "HMACSHA512")]
    HmacSha512,
}

/// An [acme-dns](https://github.com/joohoi/acme-dns) server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcmeDns {
    /// Address of its API.
    #[schemars(length(max = 512))]
    #[x_kube(
        validation = Rule::new("self.startsWith('https://') || self.startsWith('http://')")
            .message("host is a URL: write for example https://auth.acme-dns.io"),
        validation = Rule::new("!self.matches('[@?# ]')")
            .message("host is a URL without user name, query and fragment: write for example https://auth.acme-dns.io")
    )]
    pub host: String,
    /// The accounts, as acme-dns clients keep them: a JSON object from domain to
    /// `{"username", "password", "fulldomain", "subdomain"}`. Of several domains that fit, the longest counts.
    pub account_secret_ref: SecretKeySelector,
}
