//! The providers that have a block of their own, as entries of the catalogue.

use gatehouse_crds::{
    secret_ref::SecretKeySelector,
    solver::{AzureEnvironment, Dns01, ProviderType},
};

/// Source of a field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Source<'a> {
    Text(&'a str),
    Secret(&'a SecretKeySelector),
}

/// The provider and its fields, when the solver has one of the clouds' blocks.
pub(in super::super) fn fields_of(dns01: &Dns01) -> Option<(ProviderType, Vec<(&'static str, Source<'_>)>)> {
    use Source::{Secret, Text};
    if let Some(spec) = &dns01.cloudflare {
        return Some((
            ProviderType::Cloudflare,
            vec![("apiToken", Secret(&spec.api_token_secret_ref))],
        ));
    }
    if let Some(spec) = &dns01.digitalocean {
        return Some((
            ProviderType::DigitalOcean,
            vec![("token", Secret(&spec.token_secret_ref))],
        ));
    }
    if let Some(spec) = &dns01.route53 {
        let mut fields = vec![("secretAccessKey", Secret(&spec.secret_access_key_secret_ref))];
        fields.extend(spec.access_key_id.as_deref().map(|id| ("accessKeyID", Text(id))));
        fields.extend(
            spec.access_key_id_secret_ref
                .as_ref()
                .map(|id| ("accessKeyID", Secret(id))),
        );
        fields.extend(spec.region.as_deref().map(|region| ("region", Text(region))));
        // As the API gives it, and as the console shows it.
        let zone = spec.hosted_zone_id.as_deref();
        fields.extend(zone.map(|zone| ("hostedZoneID", Text(zone.trim_start_matches("/hostedzone/")))));
        return Some((ProviderType::Route53, fields));
    }
    if let Some(spec) = &dns01.cloud_dns {
        let mut fields = vec![
            ("project", Text(spec.project.as_str())),
            ("serviceAccount", Secret(&spec.service_account_secret_ref)),
        ];
        fields.extend(spec.hosted_zone_name.as_deref().map(|zone| ("managedZone", Text(zone))));
        return Some((ProviderType::GoogleCloudDns, fields));
    }
    let spec = dns01.azure_dns.as_ref()?;
    let environment = match spec.environment.unwrap_or_default() {
        AzureEnvironment::AzurePublicCloud => "AzurePublicCloud",
        AzureEnvironment::AzureChinaCloud => "AzureChinaCloud",
        AzureEnvironment::AzureUSGovernmentCloud => "AzureUSGovernmentCloud",
    };
    let fields = vec![
        ("tenantID", Text(spec.tenant_id.as_str())),
        ("clientID", Text(spec.client_id.as_str())),
        ("clientSecret", Secret(&spec.client_secret_secret_ref)),
        ("subscriptionID", Text(spec.subscription_id.as_str())),
        ("resourceGroup", Text(spec.resource_group_name.as_str())),
        ("environment", Text(environment)),
    ];
    Some((ProviderType::AzureDns, fields))
}
