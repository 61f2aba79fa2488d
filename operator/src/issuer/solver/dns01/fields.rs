//! Fields of a provider of the catalogue: settings from the manifest and credentials from a Secret.

use std::collections::{BTreeMap, HashMap};

use dns_update::{
    DnsUpdater, Error,
    providers::{
        azuredns::{AzureDnsConfig, AzureEnvironment},
        bluecatv2::BluecatV2Config,
        edgedns::EdgeDnsConfig,
        google_cloud_dns::GoogleCloudDnsConfig,
        infoblox::InfobloxConfig,
        joker::JokerAuth,
        lightsail::LightsailConfig,
        oraclecloud::OracleCloudConfig,
        route53::Route53Config,
        volcengine::VolcengineConfig,
        yandexcloud::YandexCloudConfig,
    },
};
use gatehouse_crds::solver::ProviderType;
use zeroize::Zeroizing;

use super::{super::SolverError, catalogue::Entry, form::Form, locks::AccountId};

/// One thing that a provider needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// A credential: only from the Secret, never in a message.
    pub(super) secret: bool,
    pub(super) required: bool,
    pub(super) form: Form,
}

const fn field(name: &'static str, form: Form, required: bool) -> Field {
    Field {
        name,
        secret: matches!(form, Form::Secret),
        required,
        form,
    }
}
pub(super) const fn key(name: &'static str) -> Field {
    field(name, Form::Secret, true)
}
pub(super) const fn opt_key(name: &'static str) -> Field {
    field(name, Form::Secret, false)
}
/// An id: part of a path or query.
pub(super) const fn setting(name: &'static str) -> Field {
    field(name, Form::Segment, true)
}
pub(super) const fn opt(name: &'static str) -> Field {
    field(name, Form::Segment, false)
}
/// A region: part of a host name.
pub(super) const fn region(name: &'static str) -> Field {
    field(name, Form::Label, true)
}
pub(super) const fn opt_region(name: &'static str) -> Field {
    field(name, Form::Label, false)
}
/// A name that people chose.
pub(super) const fn text(name: &'static str) -> Field {
    field(name, Form::Text, true)
}
pub(super) const fn opt_text(name: &'static str) -> Field {
    field(name, Form::Text, false)
}
pub(super) const fn host(name: &'static str) -> Field {
    field(name, Form::Host, true)
}
pub(super) const fn opt_host(name: &'static str) -> Field {
    field(name, Form::Host, false)
}

/// Values of a provider's fields: all required ones, and no others than the provider's.
pub(super) struct Fields {
    known: &'static [Field],
    values: HashMap<String, Zeroizing<String>>,
}

impl Fields {
    /// `source` names where the values come from, for the message.
    pub(super) fn new(
        kind: ProviderType,
        entry: &Entry,
        values: HashMap<String, Zeroizing<String>>,
        source: &str,
    ) -> Result<Self, SolverError> {
        let missing: Vec<_> = entry
            .fields
            .iter()
            .filter(|field| field.required && !values.contains_key(field.name))
            .map(|field| field.name)
            .collect();
        if missing.is_empty() {
            for field in entry.fields {
                let Some(value) = values.get(field.name) else {
                    continue;
                };
                field.form.check(value).map_err(|detail| SolverError::InvalidSolver {
                    field: format!("{} {}", kind.as_str(), field.name),
                    detail,
                })?;
            }
            return Ok(Self {
                known: entry.fields,
                values,
            });
        }
        Err(SolverError::InvalidSolver {
            field: kind.as_str().into(),
            detail: format!(
                "{} not found in {source}; it takes {}",
                missing.join(", "),
                list(entry.fields)
            ),
        })
    }

    /// Empty when the field is optional and absent.
    pub(super) fn get(&self, name: &str) -> &str {
        self.opt(name).unwrap_or_default()
    }

    pub(super) fn opt(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str())
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.opt(name).map(str::to_owned)
    }

    pub(super) fn flag(&self, name: &str) -> dns_update::Result<bool> {
        match self.opt(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Error::Parse(format!("{name} is neither true nor false"))),
        }
    }

    pub(super) fn number(&self, name: &str) -> dns_update::Result<Option<u32>> {
        let number = self.opt(name).map(str::parse).transpose();
        number.map_err(|_| Error::Parse(format!("{name} is not a number")))
    }

    pub(super) fn secrets(&self) -> Vec<Zeroizing<String>> {
        let secret = self.known.iter().filter(|field| field.secret);
        secret
            .filter_map(|field| self.values.get(field.name).cloned())
            .collect()
    }

    /// The account that the values are of.
    pub(super) fn account(&self, kind: ProviderType) -> AccountId {
        let sorted: BTreeMap<_, _> = self.values.iter().collect();
        let values = sorted
            .into_iter()
            .flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        AccountId::of(std::iter::once(kind.as_str().as_bytes()).chain(values))
    }
}

/// The fields of a provider as a message lists them.
pub(super) fn list(fields: &[Field]) -> String {
    let names = |secret: bool| -> Vec<String> {
        let of_kind = fields.iter().filter(|field| field.secret == secret);
        of_kind
            .map(|field| format!("{}{}", field.name, if field.required { "" } else { " (optional)" }))
            .collect()
    };
    let (settings, keys) = (names(false), names(true));
    let settings = if settings.is_empty() {
        String::new()
    } else {
        format!("; in config or there: {}", settings.join(", "))
    };
    format!("in the Secret of credentialsSecretRef: {}{settings}", keys.join(", "))
}

const REQUEST_TIMEOUT: Option<std::time::Duration> = Some(std::time::Duration::from_secs(30));

pub(super) fn azure(f: &Fields) -> dns_update::Result<DnsUpdater> {
    DnsUpdater::new_azuredns(AzureDnsConfig {
        tenant_id: f.get("tenantID").into(),
        client_id: f.get("clientID").into(),
        client_secret: f.get("clientSecret").into(),
        subscription_id: f.get("subscriptionID").into(),
        resource_group: f.get("resourceGroup").into(),
        environment: match f.opt("environment") {
            None | Some("AzurePublicCloud") => AzureEnvironment::Public,
            Some("AzureChinaCloud") => AzureEnvironment::China,
            Some("AzureUSGovernmentCloud") => AzureEnvironment::UsGovernment,
            Some(_) => {
                return Err(Error::Parse(
                    "environment is AzurePublicCloud, AzureChinaCloud or AzureUSGovernmentCloud".into(),
                ));
            }
        },
        request_timeout: REQUEST_TIMEOUT,
    })
}

pub(super) fn bluecat(f: &Fields) -> dns_update::Result<DnsUpdater> {
    DnsUpdater::new_bluecatv2(BluecatV2Config {
        server_url: f.get("serverURL").into(),
        username: f.get("username").into(),
        password: f.get("password").into(),
        config_name: f.get("configName").into(),
        view_name: f.get("viewName").into(),
        skip_deploy: f.flag("skipDeploy")?,
        request_timeout: REQUEST_TIMEOUT,
    })
}

pub(super) fn cloudns(f: &Fields) -> dns_update::Result<DnsUpdater> {
    let (id, sub_id) = (f.opt("authID"), f.opt("subAuthID"));
    if id.is_some() == sub_id.is_some() {
        return Err(Error::Parse("it takes either authID or subAuthID".into()));
    }
    DnsUpdater::new_cloudns(id, sub_id, f.get("authPassword"), REQUEST_TIMEOUT)
}

pub(super) fn edge_dns(f: &Fields) -> dns_update::Result<DnsUpdater> {
    DnsUpdater::new_edgedns(EdgeDnsConfig {
        host: f.get("host").into(),
        client_token: f.get("clientToken").into(),
        client_secret: f.get("clientSecret").into(),
        access_token: f.get("accessToken").into(),
        account_switch_key: f.owned("accountSwitchKey"),
        request_timeout: REQUEST_TIMEOUT,
    })
}

pub(super) fn google(f: &Fields) -> dns_update::Result<DnsUpdater> {
    // The library sends a signed token to the `token_uri` in the key: to Google's only.
    let key: serde_json::Value = serde_json::from_str(f.get("serviceAccount"))
        .map_err(|_| Error::Parse("the service account's key is not JSON".into()))?;
    let uri = key
        .get("token_uri")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    let host = uri
        .strip_prefix("https://")
        .and_then(|rest| rest.split('/').next())
        .unwrap_or_default();
    if !host.ends_with(".googleapis.com") {
        return Err(Error::Parse(
            "the service account's key has a token_uri that is not of googleapis.com".into(),
        ));
    }
    DnsUpdater::new_google_cloud_dns(GoogleCloudDnsConfig {
        service_account_json: f.get("serviceAccount").into(),
        project_id: f.get("project").into(),
        managed_zone: f.owned("managedZone"),
        private_zone: f.flag("privateZone")?,
        impersonate_service_account: f.owned("impersonateServiceAccount"),
        request_timeout: REQUEST_TIMEOUT,
    })
}

pub(super) fn infoblox(f: &Fields) -> dns_update::Result<DnsUpdater> {
    DnsUpdater::new_infoblox(InfobloxConfig {
        host: f.get("host").into(),
        port: f.owned("port"),
        username: f.get("username").into(),
        password: f.get("password").into(),
        wapi_version: f.owned("wapiVersion"),
        dns_view: f.owned("dnsView"),
        request_timeout: REQUEST_TIMEOUT,
    })
}

pub(super) fn joker(f: &Fields) -> dns_update::Result<DnsUpdater> {
    let auth = match (f.opt("apiKey"), f.opt("username"), f.opt("password")) {
        (Some(key), None, None) => JokerAuth::api_key(key),
        (None, Some(username), Some(password)) => JokerAuth::username_password(username, password),
        _ => {
            return Err(Error::Parse("it takes either apiKey or username and password".into()));
        }
    };
    DnsUpdater::new_joker(auth, REQUEST_TIMEOUT)
}

pub(super) fn lightsail(f: &Fields) -> dns_update::Result<DnsUpdater> {
    DnsUpdater::new_lightsail(LightsailConfig {
        access_key_id: f.get("accessKeyID").into(),
        secret_access_key: f.get("secretAccessKey").into(),
        session_token: f.owned("sessionToken"),
        region: f.owned("region"),
        domain: f.owned("domain"),
        request_timeout: REQUEST_TIMEOUT,
    })
}

pub(super) fn oracle(f: &Fields) -> dns_update::Result<DnsUpdater> {
    DnsUpdater::new_oraclecloud(OracleCloudConfig {
        tenancy_ocid: f.get("tenancyOCID").into(),
        user_ocid: f.get("userOCID").into(),
        fingerprint: f.get("fingerprint").into(),
        private_key_pem: f.get("privateKey").into(),
        private_key_password: f.owned("privateKeyPassword"),
        region: f.get("region").into(),
        compartment_ocid: f.get("compartmentOCID").into(),
        request_timeout: REQUEST_TIMEOUT,
    })
}

pub(super) fn route53(f: &Fields) -> dns_update::Result<DnsUpdater> {
    DnsUpdater::new_route53(Route53Config {
        access_key_id: f.get("accessKeyID").into(),
        secret_access_key: f.get("secretAccessKey").into(),
        session_token: f.owned("sessionToken"),
        region: f.owned("region"),
        hosted_zone_id: f.owned("hostedZoneID"),
        private_zone_only: Some(f.flag("privateZoneOnly")?),
        endpoint: None,
    })
}

pub(super) fn volcengine(f: &Fields) -> dns_update::Result<DnsUpdater> {
    DnsUpdater::new_volcengine(VolcengineConfig {
        access_key: f.get("accessKey").into(),
        secret_key: f.get("secretKey").into(),
        region: f.owned("region"),
        host: None,
        scheme: None,
        request_timeout: REQUEST_TIMEOUT,
    })
}

pub(super) fn yandex(f: &Fields) -> dns_update::Result<DnsUpdater> {
    DnsUpdater::new_yandexcloud(YandexCloudConfig {
        iam_token_b64: f.get("iamToken").into(),
        folder_id: f.get("folderID").into(),
        request_timeout: REQUEST_TIMEOUT,
    })
}

/// The names of a provider's fields.
pub(in super::super) fn known_fields(kind: ProviderType) -> impl Iterator<Item = &'static str> {
    super::catalogue::entry(kind).fields.iter().map(|field| field.name)
}

/// Refuses fields that the provider does not know, and credentials in the manifest, where all users read them.
pub(in super::super) fn check_config(kind: ProviderType, config: &BTreeMap<String, String>) -> Result<(), SolverError> {
    let known = super::catalogue::entry(kind).fields;
    for (name, value) in config {
        let invalid = |detail| SolverError::InvalidSolver {
            field: format!("provider.config.{name}"),
            detail,
        };
        match known.iter().find(|field| field.name == name) {
            None => {
                return Err(invalid(format!(
                    "{} does not know it; it takes {}",
                    kind.as_str(),
                    list(known)
                )));
            }
            Some(field) if field.secret => {
                return Err(invalid(
                    "it is a credential: put it into the Secret of credentialsSecretRef".into(),
                ));
            }
            Some(field) => field.form.check(value).map_err(invalid)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
