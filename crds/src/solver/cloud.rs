//! DNS providers that have a block of their own, named as cert-manager names them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret_ref::SecretKeySelector;

/// Cloudflare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cloudflare {
    /// An API token with Zone:Read and DNS:Edit on the zones.
    pub api_token_secret_ref: SecretKeySelector,
}

/// `DigitalOcean`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DigitalOcean {
    /// A personal access token with the scopes to read and write domains.
    pub token_secret_ref: SecretKeySelector,
}

/// Amazon Route 53, with the keys of an IAM user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.accessKeyID) != has(self.accessKeyIDSecretRef)")
        .message("route53 needs exactly one of accessKeyID (the id itself) and accessKeyIDSecretRef")
)]
pub struct Route53 {
    /// Region that requests are signed for. Default: us-east-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
            .message("region is lower-case letters, digits and hyphens: write for example eu-central-1")
    )]
    pub region: Option<String>,
    /// Access key id.
    #[serde(default, rename = "accessKeyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub access_key_id: Option<String>,
    /// Access key id, from a Secret.
    #[serde(default, rename = "accessKeyIDSecretRef", skip_serializing_if = "Option::is_none")]
    pub access_key_id_secret_ref: Option<SecretKeySelector>,
    /// Secret access key.
    pub secret_access_key_secret_ref: SecretKeySelector,
    /// The hosted zone. Default: the public one with the longest name that fits; a private one only when it is named
    /// here.
    #[serde(default, rename = "hostedZoneID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^(/hostedzone/)?[A-Za-z0-9]+$')")
            .message("hostedZoneID is the id that Route 53 shows: write for example Z0123456789ABCDEFGHIJ")
    )]
    pub hosted_zone_id: Option<String>,
}

/// Google Cloud DNS, with the key of a service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudDns {
    /// Project that holds the zone.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9._:-]+$')")
            .message("project is the id of a project: write for example my-project-123")
    )]
    pub project: String,
    /// The service account's key, in JSON.
    pub service_account_secret_ref: SecretKeySelector,
    /// The managed zone's name in Google. Default: the public one with the longest DNS name that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
            .message("hostedZoneName is the managed zone's name in Google, not its DNS name: write for example example-com")
    )]
    pub hosted_zone_name: Option<String>,
}

/// Azure DNS, with a service principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureDns {
    /// Application (client) id of the service principal.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9.-]+$') && !self.matches('^[.]+$')")
            .message("clientID is the id that Azure shows: letters, digits and hyphens")
    )]
    pub client_id: String,
    /// Its client secret.
    pub client_secret_secret_ref: SecretKeySelector,
    /// Subscription that holds the zone.
    #[serde(rename = "subscriptionID")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9.-]+$') && !self.matches('^[.]+$')")
            .message("subscriptionID is the id that Azure shows: letters, digits and hyphens")
    )]
    pub subscription_id: String,
    /// Directory (tenant) of the service principal.
    #[serde(rename = "tenantID")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9.-]+$') && !self.matches('^[.]+$')")
            .message("tenantID is the id that Azure shows: letters, digits and hyphens")
    )]
    pub tenant_id: String,
    /// Resource group that holds the zone.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9._()-]*[A-Za-z0-9_()-]$')")
            .message("resourceGroupName is letters, digits, and -._(), and ends in no dot")
    )]
    pub resource_group_name: String,
    /// The zone, such as example.com. Default: found by asking DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 254))]
    #[x_kube(
        validation = Rule::new("self.matches('^([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?[.])*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?[.]?$')")
            .message("hostedZoneName is a DNS name: write for example example.com")
    )]
    pub hosted_zone_name: Option<String>,
    /// Which Azure. Default: `AzurePublicCloud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<AzureEnvironment>,
}

/// Which Azure. Default: `AzurePublicCloud`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AzureEnvironment {
    #[default]
    AzurePublicCloud,
    AzureChinaCloud,
    AzureUSGovernmentCloud,
}
