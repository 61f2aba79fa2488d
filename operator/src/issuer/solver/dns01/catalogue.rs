//! The providers of the dns-update library: what each needs, and how it is made of it.
//!
//! One entry each. Time to live: what the provider's users are advised to choose for challenges, since several
//! refuse less.

use std::time::Duration;

use dns_update::DnsUpdater;
use gatehouse_crds::solver::ProviderType;

use super::fields::{
    Field, Fields, azure, bluecat, cloudns, edge_dns, google, host, infoblox, joker, key, lightsail, opt, opt_host,
    opt_key, opt_region, opt_text, oracle, region, route53, setting, text, volcengine, yandex,
};

/// For one HTTP request.
const REQUEST_TIMEOUT: Option<Duration> = Some(Duration::from_secs(30));

/// Requirements of a provider.
pub(super) struct Entry {
    /// Seconds.
    pub(super) ttl: u32,
    pub(super) fields: &'static [Field],
    pub(super) build: fn(&Fields) -> dns_update::Result<DnsUpdater>,
}

/// The entry of a provider.
#[allow(clippy::too_many_lines, reason = "a table")]
#[rustfmt::skip]
pub(super) const fn entry(kind: ProviderType) -> Entry {
    match kind {
        ProviderType::Alidns => Entry {
            ttl: 600,
            fields: const { &[key("accessKey"), key("secretKey"), opt_region("region"), opt_key("securityToken"), opt_text("line")] },
            build: |f| DnsUpdater::new_alidns(f.get("accessKey"), f.get("secretKey"), f.opt("region"), f.opt("securityToken"), f.opt("line"), REQUEST_TIMEOUT),
        },
        ProviderType::ArvanCloud => Entry {
            ttl: 600,
            fields: const { &[key("apiKey")] },
            build: |f| DnsUpdater::new_arvancloud(f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Autodns => Entry {
            ttl: 600,
            fields: const { &[key("username"), key("password"), opt("context")] },
            build: |f| DnsUpdater::new_autodns(f.get("username"), f.get("password"), f.number("context")?, REQUEST_TIMEOUT),
        },
        ProviderType::AzureDns => Entry {
            ttl: 60,
            fields: const { &[setting("tenantID"), setting("clientID"), key("clientSecret"), setting("subscriptionID"), setting("resourceGroup"), opt("environment")] },
            build: azure,
        },
        ProviderType::BaiduCloud => Entry {
            ttl: 300,
            fields: const { &[key("accessKey"), key("secretKey")] },
            build: |f| DnsUpdater::new_baiducloud(f.get("accessKey"), f.get("secretKey"), REQUEST_TIMEOUT),
        },
        ProviderType::BluecatV2 => Entry {
            ttl: 120,
            fields: const { &[host("serverURL"), key("username"), key("password"), text("configName"), text("viewName"), opt("skipDeploy")] },
            build: bluecat,
        },
        ProviderType::Bunny => Entry {
            ttl: 60,
            fields: const { &[key("apiKey")] },
            build: |f| DnsUpdater::new_bunny(f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Cloudflare => Entry {
            ttl: 120,
            fields: const { &[key("apiToken")] },
            build: |f| DnsUpdater::new_cloudflare(f.get("apiToken"), REQUEST_TIMEOUT),
        },
        ProviderType::ClouDns => Entry {
            ttl: 60,
            fields: const { &[opt("authID"), opt("subAuthID"), key("authPassword")] },
            build: cloudns,
        },
        ProviderType::Constellix => Entry {
            ttl: 60,
            fields: const { &[key("apiKey"), key("secretKey")] },
            build: |f| DnsUpdater::new_constellix(f.get("apiKey"), f.get("secretKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Cpanel => Entry {
            ttl: 300,
            fields: const { &[host("baseURL"), setting("username"), key("token")] },
            build: |f| DnsUpdater::new_cpanel(f.get("baseURL"), f.get("username"), f.get("token"), REQUEST_TIMEOUT),
        },
        ProviderType::Desec => Entry {
            ttl: 3600,
            fields: const { &[key("token")] },
            build: |f| DnsUpdater::new_desec(f.get("token"), REQUEST_TIMEOUT),
        },
        ProviderType::DigitalOcean => Entry {
            ttl: 30,
            fields: const { &[key("token")] },
            build: |f| DnsUpdater::new_digitalocean(f.get("token"), REQUEST_TIMEOUT),
        },
        ProviderType::DnsMadeEasy => Entry {
            ttl: 120,
            fields: const { &[key("apiKey"), key("apiSecret")] },
            build: |f| DnsUpdater::new_dnsmadeeasy(f.get("apiKey"), f.get("apiSecret"), REQUEST_TIMEOUT),
        },
        ProviderType::DNSimple => Entry {
            ttl: 120,
            fields: const { &[key("token"), setting("accountID")] },
            build: |f| DnsUpdater::new_dnsimple(f.get("token"), f.get("accountID"), REQUEST_TIMEOUT),
        },
        ProviderType::Domeneshop => Entry {
            ttl: 300,
            fields: const { &[key("apiToken"), key("apiSecret")] },
            build: |f| DnsUpdater::new_domeneshop(f.get("apiToken"), f.get("apiSecret"), REQUEST_TIMEOUT),
        },
        ProviderType::Dreamhost => Entry {
            ttl: 300,
            fields: const { &[key("apiKey")] },
            build: |f| DnsUpdater::new_dreamhost(f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Dynu => Entry {
            ttl: 300,
            fields: const { &[key("apiKey")] },
            build: |f| DnsUpdater::new_dynu(f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::EasyDns => Entry {
            ttl: 120,
            fields: const { &[key("token"), key("key")] },
            build: |f| DnsUpdater::new_easydns(f.get("token"), f.get("key"), REQUEST_TIMEOUT),
        },
        ProviderType::EdgeDns => Entry {
            ttl: 120,
            fields: const { &[host("host"), key("clientToken"), key("clientSecret"), key("accessToken"), opt("accountSwitchKey")] },
            build: edge_dns,
        },
        ProviderType::Exoscale => Entry {
            ttl: 120,
            fields: const { &[key("apiKey"), key("apiSecret")] },
            build: |f| DnsUpdater::new_exoscale(f.get("apiKey"), f.get("apiSecret"), REQUEST_TIMEOUT),
        },
        ProviderType::GandiV5 => Entry {
            ttl: 300,
            fields: const { &[key("personalAccessToken")] },
            build: |f| DnsUpdater::new_gandiv5(f.get("personalAccessToken"), REQUEST_TIMEOUT),
        },
        ProviderType::Gcore => Entry {
            ttl: 120,
            fields: const { &[key("apiToken")] },
            build: |f| DnsUpdater::new_gcore(f.get("apiToken"), REQUEST_TIMEOUT),
        },
        ProviderType::Glesys => Entry {
            ttl: 60,
            fields: const { &[key("apiUser"), key("apiKey")] },
            build: |f| DnsUpdater::new_glesys(f.get("apiUser"), f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Godaddy => Entry {
            ttl: 600,
            fields: const { &[key("apiKey"), key("apiSecret")] },
            build: |f| DnsUpdater::new_godaddy(f.get("apiKey"), f.get("apiSecret"), REQUEST_TIMEOUT),
        },
        ProviderType::GoogleCloudDns => Entry {
            ttl: 60,
            fields: const { &[key("serviceAccount"), setting("project"), opt("managedZone"), opt("impersonateServiceAccount"), opt("privateZone")] },
            build: google,
        },
        ProviderType::Hetzner => Entry {
            ttl: 60,
            fields: const { &[key("apiToken")] },
            build: |f| DnsUpdater::new_hetzner(f.get("apiToken"), REQUEST_TIMEOUT),
        },
        ProviderType::HostingDe => Entry {
            ttl: 120,
            fields: const { &[key("apiKey")] },
            build: |f| DnsUpdater::new_hostingde(f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Hostinger => Entry {
            ttl: 120,
            fields: const { &[key("apiToken")] },
            build: |f| DnsUpdater::new_hostinger(f.get("apiToken"), REQUEST_TIMEOUT),
        },
        ProviderType::HuaweiCloud => Entry {
            ttl: 300,
            fields: const { &[key("accessKey"), key("secretKey"), region("region")] },
            build: |f| DnsUpdater::new_huaweicloud(f.get("accessKey"), f.get("secretKey"), f.get("region"), REQUEST_TIMEOUT),
        },
        ProviderType::IbmCloud => Entry {
            ttl: 120,
            fields: const { &[key("username"), key("apiKey")] },
            build: |f| DnsUpdater::new_ibmcloud(f.get("username"), f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Infoblox => Entry {
            ttl: 120,
            fields: const { &[host("host"), opt("port"), key("username"), key("password"), opt("wapiVersion"), opt_text("dnsView")] },
            build: infoblox,
        },
        ProviderType::Infomaniak => Entry {
            ttl: 300,
            fields: const { &[key("accessToken")] },
            build: |f| DnsUpdater::new_infomaniak(f.get("accessToken"), REQUEST_TIMEOUT),
        },
        ProviderType::Inwx => Entry {
            ttl: 300,
            fields: const { &[key("username"), key("password"), opt("sandbox")] },
            build: |f| DnsUpdater::new_inwx(f.get("username"), f.get("password"), f.flag("sandbox")?, REQUEST_TIMEOUT),
        },
        ProviderType::Ionos => Entry {
            ttl: 300,
            fields: const { &[key("apiKey")] },
            build: |f| DnsUpdater::new_ionos(f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Ipv64 => Entry {
            ttl: 60,
            fields: const { &[key("apiKey")] },
            build: |f| DnsUpdater::new_ipv64(f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Joker => Entry {
            ttl: 120,
            fields: const { &[opt_key("apiKey"), opt_key("username"), opt_key("password")] },
            build: joker,
        },
        ProviderType::Lightsail => Entry {
            ttl: 120,
            fields: const { &[key("accessKeyID"), key("secretAccessKey"), opt_key("sessionToken"), opt_region("region"), opt("domain")] },
            build: lightsail,
        },
        ProviderType::Linode => Entry {
            ttl: 300,
            fields: const { &[key("token")] },
            build: |f| DnsUpdater::new_linode(f.get("token"), REQUEST_TIMEOUT),
        },
        ProviderType::LuaDns => Entry {
            ttl: 300,
            fields: const { &[key("apiUsername"), key("apiToken")] },
            build: |f| DnsUpdater::new_luadns(f.get("apiUsername"), f.get("apiToken"), REQUEST_TIMEOUT),
        },
        ProviderType::MythicBeasts => Entry {
            ttl: 120,
            fields: const { &[key("username"), key("password")] },
            build: |f| DnsUpdater::new_mythicbeasts(f.get("username"), f.get("password"), REQUEST_TIMEOUT),
        },
        ProviderType::NameDotCom => Entry {
            ttl: 300,
            fields: const { &[key("username"), key("apiToken")] },
            build: |f| DnsUpdater::new_namedotcom(f.get("username"), f.get("apiToken"), REQUEST_TIMEOUT),
        },
        ProviderType::NameSilo => Entry {
            ttl: 3600,
            fields: const { &[key("apiKey")] },
            build: |f| DnsUpdater::new_namesilo(f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Namecheap => Entry {
            ttl: 120,
            fields: const { &[key("apiUser"), key("apiKey"), setting("clientIP"), opt("username")] },
            build: |f| DnsUpdater::new_namecheap(f.get("apiUser"), f.get("apiKey"), f.get("clientIP"), f.opt("username"), REQUEST_TIMEOUT),
        },
        ProviderType::Netcup => Entry {
            ttl: 120,
            fields: const { &[setting("customerNumber"), key("apiKey"), key("apiPassword")] },
            build: |f| DnsUpdater::new_netcup(f.get("customerNumber"), f.get("apiKey"), f.get("apiPassword"), REQUEST_TIMEOUT),
        },
        ProviderType::Netlify => Entry {
            ttl: 300,
            fields: const { &[key("accessToken")] },
            build: |f| DnsUpdater::new_netlify(f.get("accessToken"), REQUEST_TIMEOUT),
        },
        ProviderType::Nifcloud => Entry {
            ttl: 120,
            fields: const { &[key("accessKey"), key("secretKey")] },
            build: |f| DnsUpdater::new_nifcloud(f.get("accessKey"), f.get("secretKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Ns1 => Entry {
            ttl: 120,
            fields: const { &[key("apiKey")] },
            build: |f| DnsUpdater::new_ns1(f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::OracleCloud => Entry {
            ttl: 120,
            fields: const { &[setting("tenancyOCID"), setting("userOCID"), setting("fingerprint"), key("privateKey"), opt_key("privateKeyPassword"), region("region"), setting("compartmentOCID")] },
            build: oracle,
        },
        ProviderType::Ovh => Entry {
            ttl: 120,
            fields: const { &[key("applicationKey"), key("applicationSecret"), key("consumerKey"), region("endpoint")] },
            build: |f| DnsUpdater::new_ovh(f.get("applicationKey"), f.get("applicationSecret"), f.get("consumerKey"), f.get("endpoint").parse()?, REQUEST_TIMEOUT),
        },
        ProviderType::Pdns => Entry {
            ttl: 120,
            fields: const { &[key("apiKey"), host("endpoint"), opt("serverName")] },
            build: |f| DnsUpdater::new_pdns(f.get("apiKey"), f.opt("endpoint"), f.opt("serverName"), REQUEST_TIMEOUT),
        },
        ProviderType::Plesk => Entry {
            ttl: 300,
            fields: const { &[host("baseURL"), key("apiKey")] },
            build: |f| DnsUpdater::new_plesk(f.get("baseURL"), f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Porkbun => Entry {
            ttl: 600,
            fields: const { &[key("apiKey"), key("secretAPIKey")] },
            build: |f| DnsUpdater::new_porkbun(f.get("apiKey"), f.get("secretAPIKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Route53 => Entry {
            ttl: 60,
            fields: const { &[key("accessKeyID"), key("secretAccessKey"), opt_key("sessionToken"), opt_region("region"), opt("hostedZoneID"), opt("privateZoneOnly")] },
            build: route53,
        },
        ProviderType::SafeDns => Entry {
            ttl: 120,
            fields: const { &[key("authToken")] },
            build: |f| DnsUpdater::new_safedns(f.get("authToken"), REQUEST_TIMEOUT),
        },
        ProviderType::Scaleway => Entry {
            ttl: 60,
            fields: const { &[key("apiToken")] },
            build: |f| DnsUpdater::new_scaleway(f.get("apiToken"), REQUEST_TIMEOUT),
        },
        ProviderType::Selectel => Entry {
            ttl: 60,
            fields: const { &[key("username"), key("password"), setting("accountID"), setting("projectID")] },
            build: |f| DnsUpdater::new_selectel(f.get("username"), f.get("password"), f.get("accountID"), f.get("projectID"), REQUEST_TIMEOUT),
        },
        ProviderType::SimplyCom => Entry {
            ttl: 120,
            fields: const { &[setting("accountName"), key("apiKey")] },
            build: |f| DnsUpdater::new_simplycom(f.get("accountName"), f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::Spaceship => Entry {
            ttl: 600,
            fields: const { &[key("apiKey"), key("apiSecret")] },
            build: |f| DnsUpdater::new_spaceship(f.get("apiKey"), f.get("apiSecret"), REQUEST_TIMEOUT),
        },
        ProviderType::TencentCloud => Entry {
            ttl: 600,
            fields: const { &[key("secretID"), key("secretKey"), opt_region("region"), opt_key("sessionToken")] },
            build: |f| DnsUpdater::new_tencentcloud(f.get("secretID"), f.get("secretKey"), f.opt("region"), f.opt("sessionToken"), REQUEST_TIMEOUT),
        },
        ProviderType::Transip => Entry {
            ttl: 60,
            fields: const { &[setting("login"), key("privateKey"), opt("globalKey")] },
            build: |f| DnsUpdater::new_transip(f.get("login"), f.get("privateKey"), f.flag("globalKey")?, REQUEST_TIMEOUT),
        },
        ProviderType::UltraDns => Entry {
            ttl: 120,
            fields: const { &[key("username"), key("password"), opt_host("endpoint")] },
            build: |f| DnsUpdater::new_ultradns(f.get("username"), f.get("password"), f.opt("endpoint").map(str::to_owned), REQUEST_TIMEOUT),
        },
        ProviderType::Vercel => Entry {
            ttl: 60,
            fields: const { &[key("token"), opt("teamID")] },
            build: |f| DnsUpdater::new_vercel(f.get("token"), f.opt("teamID"), REQUEST_TIMEOUT),
        },
        ProviderType::Volcengine => Entry {
            ttl: 600,
            fields: const { &[key("accessKey"), key("secretKey"), opt_region("region")] },
            build: volcengine,
        },
        ProviderType::Vultr => Entry {
            ttl: 120,
            fields: const { &[key("apiKey")] },
            build: |f| DnsUpdater::new_vultr(f.get("apiKey"), REQUEST_TIMEOUT),
        },
        ProviderType::WebSupport => Entry {
            ttl: 600,
            fields: const { &[key("apiKey"), key("secret")] },
            build: |f| DnsUpdater::new_websupport(f.get("apiKey"), f.get("secret"), REQUEST_TIMEOUT),
        },
        ProviderType::YandexCloud => Entry {
            ttl: 60,
            fields: const { &[key("iamToken"), setting("folderID")] },
            build: yandex,
        },
        ProviderType::ZoneEu => Entry {
            ttl: 300,
            fields: const { &[key("username"), key("apiKey")] },
            build: |f| DnsUpdater::new_zoneeu(f.get("username"), f.get("apiKey"), REQUEST_TIMEOUT),
        },
    }
}
