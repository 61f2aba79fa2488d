//! The spec of a Certificate, parsed once into types that cannot be wrong.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use gatehouse_crds::certificate as api;
use thiserror::Error;

use super::observed_secret;
use crate::pki::{
    CertificateRequest, Curve, DnsName, DnsNameError, KeyEncoding, KeyParameters, NameConstraints, RequestError,
    RsaSize, Subject, Subtrees, Usage,
};

/// Shortest lifetime that can be asked for.
const MIN_DURATION: Duration = Duration::from_secs(30);

/// A valid spec, ready to be signed.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredCertificate {
    /// The certificate's content.
    pub request: CertificateRequest,
    /// The key.
    pub key: KeyParameters,
    /// Encoding of the key.
    pub encoding: KeyEncoding,
    /// Whether the key in the Secret is kept as long as it fits.
    pub keep_key: bool,
    /// Lifetime; none leaves it to the issuer.
    pub duration: Option<Duration>,
    /// Fingerprint of everything whose change is a change of the certificate.
    ///
    /// Its first two characters name the recipe, so that a later recipe, which gives other values
    /// for the same spec, is distinguished from a changed spec: an upgrade never re-issues.
    pub request_hash: String,
    /// Fingerprint of everything whose change is only a change of the Secret's form.
    pub output_hash: String,
    /// The labels and annotations of `secretTemplate`, by [`observed_secret::template_mark`].
    pub template: u64,
}

/// Why a spec can never become a certificate. Admission refuses most of these already.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    #[error("spec.dnsNames: {0}")]
    DnsName(#[from] DnsNameError),
    #[error("spec.ipAddresses: {0:?} is not an IP address; write one such as 192.0.2.7 or 2001:db8::7")]
    IpAddress(String),
    #[error("spec.usages: {0}")]
    Usage(String),
    #[error("spec.nameConstraints: {0:?} is not an IP range; write one such as 10.0.0.0/8")]
    IpRange(String),
    #[error("spec.privateKey: there are no {algorithm} keys of {size} bits; write {instead}")]
    KeySize {
        algorithm: &'static str,
        size: i32,
        instead: &'static str,
    },
    #[error("spec.duration is under 30s; write a longer one")]
    TooShort,
    #[error("spec: {0}")]
    Request(#[from] RequestError),
    #[error(
        "spec: renewBefore must be under duration, and only one of renewBefore and renewBeforePercentage (1 to 99) may be given"
    )]
    Renewal,
}

impl SpecError {
    /// The stable word for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        "Invalid"
    }
}

impl DesiredCertificate {
    /// Parses a spec.
    pub fn parse(spec: &api::CertificateSpec) -> Result<Self, SpecError> {
        let (key, encoding, keep_key) = key(spec.private_key.as_ref())?;
        let duration = spec.duration.as_ref().map(gatehouse_crds::duration::Duration::value);
        if duration.is_some_and(|lifetime| lifetime < MIN_DURATION) {
            return Err(SpecError::TooShort);
        }
        check_renewal(spec, duration)?;
        let request = request(spec)?;
        request.check()?;
        Ok(Self {
            request_hash: request_hash(spec, &request, key),
            output_hash: output_hash(spec),
            template: template(spec),
            request,
            key,
            encoding,
            keep_key,
            duration,
        })
    }

    /// The request as an ACME CA takes it: every name to be proven is in `dns_names` and
    /// `ip_addresses`, so the common name is put there too if it is a host name.
    pub fn for_acme(&self) -> CertificateRequest {
        let mut request = self.request.clone();
        match request.common_name.as_deref().map(DnsName::parse) {
            Some(Ok(name)) if !request.dns_names.contains(&name) => request.dns_names.push(name),
            Some(Ok(_)) | None => {}
            // No public CA signs a common name that is no host name, and one that was asked for would be refused.
            Some(Err(_)) => request.common_name = None,
        }
        request
    }
}

fn check_renewal(spec: &api::CertificateSpec, duration: Option<Duration>) -> Result<(), SpecError> {
    let before = spec
        .renew_before
        .as_ref()
        .map(gatehouse_crds::duration::Duration::value);
    let too_long = match (before, duration) {
        (Some(before), Some(lifetime)) => before >= lifetime,
        (Some(before), None) => before.is_zero(),
        _ => false,
    };
    let wrong_share = spec
        .renew_before_percentage
        .is_some_and(|share| !(1..=99).contains(&share));
    let both = before.is_some() && spec.renew_before_percentage.is_some();
    if too_long || wrong_share || both {
        return Err(SpecError::Renewal);
    }
    Ok(())
}

fn key(spec: Option<&api::PrivateKeySpec>) -> Result<(KeyParameters, KeyEncoding, bool), SpecError> {
    let spec = spec.cloned().unwrap_or_default();
    let wrong = |algorithm, size, instead| SpecError::KeySize {
        algorithm,
        size,
        instead,
    };
    let parameters = match (spec.algorithm.unwrap_or_default(), spec.size) {
        (api::KeyAlgorithm::ECDSA, None | Some(256)) => KeyParameters::Ecdsa(Curve::P256),
        (api::KeyAlgorithm::ECDSA, Some(384)) => KeyParameters::Ecdsa(Curve::P384),
        (api::KeyAlgorithm::ECDSA, Some(521)) => KeyParameters::Ecdsa(Curve::P521),
        (api::KeyAlgorithm::ECDSA, Some(size)) => return Err(wrong("ECDSA", size, "256, 384 or 521")),
        (api::KeyAlgorithm::RSA, None | Some(2048)) => KeyParameters::Rsa(RsaSize::Bits2048),
        (api::KeyAlgorithm::RSA, Some(3072)) => KeyParameters::Rsa(RsaSize::Bits3072),
        (api::KeyAlgorithm::RSA, Some(4096)) => KeyParameters::Rsa(RsaSize::Bits4096),
        (api::KeyAlgorithm::RSA, Some(size)) => return Err(wrong("RSA", size, "2048, 3072 or 4096")),
        (api::KeyAlgorithm::Ed25519, None) => KeyParameters::Ed25519,
        (api::KeyAlgorithm::Ed25519, Some(size)) => return Err(wrong("Ed25519", size, "no size")),
    };
    let encoding = match spec.encoding.unwrap_or_default() {
        api::KeyEncoding::PKCS8 => KeyEncoding::Pkcs8,
        api::KeyEncoding::PKCS1 => KeyEncoding::Pkcs1,
    };
    let keep = spec.rotation_policy.unwrap_or_default() == api::RotationPolicy::Never;
    Ok((parameters, encoding, keep))
}

fn request(spec: &api::CertificateSpec) -> Result<CertificateRequest, SpecError> {
    let mut dns_names = spec
        .dns_names
        .iter()
        .map(|name| DnsName::parse(name))
        .collect::<Result<Vec<_>, _>>()?;
    let mut ip_addresses = spec
        .ip_addresses
        .iter()
        .map(|text| text.parse::<IpAddr>().map_err(|_| SpecError::IpAddress(text.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    deduplicate(&mut dns_names);
    deduplicate(&mut ip_addresses);
    let is_ca = spec.is_ca.unwrap_or_default();
    let usages = if spec.usages.is_empty() {
        default_usages(is_ca).to_vec()
    } else {
        let mut usages = spec
            .usages
            .iter()
            .map(|usage| {
                usage
                    .parse::<Usage>()
                    .map_err(|error| SpecError::Usage(error.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        usages.sort_unstable();
        usages.dedup();
        usages
    };
    Ok(CertificateRequest {
        common_name: spec.common_name.clone(),
        subject: spec.subject.as_ref().map(subject).unwrap_or_default(),
        dns_names,
        ip_addresses,
        uris: spec.uris.clone(),
        email_addresses: spec.email_addresses.clone(),
        usages,
        is_ca,
        name_constraints: spec.name_constraints.as_ref().map(constraints).transpose()?,
    })
}

fn default_usages(is_ca: bool) -> &'static [Usage] {
    if is_ca {
        &[Usage::DigitalSignature, Usage::CertSign, Usage::CrlSign]
    } else {
        &[Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ServerAuth]
    }
}

/// Keeps the first of equal values and the order that the user wrote.
fn deduplicate<T: Clone + Ord>(values: &mut Vec<T>) {
    let mut seen = std::collections::BTreeSet::new();
    values.retain(|value| seen.insert(value.clone()));
}

fn subject(subject: &api::X509Subject) -> Subject {
    Subject {
        organizations: subject.organizations.clone(),
        organizational_units: subject.organizational_units.clone(),
        countries: subject.countries.clone(),
        provinces: subject.provinces.clone(),
        localities: subject.localities.clone(),
        street_addresses: subject.street_addresses.clone(),
        postal_codes: subject.postal_codes.clone(),
        serial_number: subject.serial_number.clone(),
    }
}

fn constraints(constraints: &api::NameConstraints) -> Result<NameConstraints, SpecError> {
    let subtrees = |item: Option<&api::NameConstraintItem>| {
        let item = item.cloned().unwrap_or_default();
        Ok::<_, SpecError>(Subtrees {
            dns_domains: item.dns_domains,
            ip_ranges: item
                .ip_ranges
                .iter()
                .map(|range| range.parse().map_err(|_| SpecError::IpRange(range.clone())))
                .collect::<Result<_, _>>()?,
            email_addresses: item.email_addresses,
            uri_domains: item.uri_domains,
        })
    };
    Ok(NameConstraints {
        critical: constraints.critical.unwrap_or_default(),
        permitted: subtrees(constraints.permitted.as_ref())?,
        excluded: subtrees(constraints.excluded.as_ref())?,
    })
}

/// Hashes the parsed request with its sets sorted, so that the order of names, a
/// default written out, or a name in another spelling changes nothing.
fn request_hash(spec: &api::CertificateSpec, request: &CertificateRequest, key: KeyParameters) -> String {
    fn sorted<T: Ord + ToString>(values: &[T]) -> Vec<String> {
        let mut texts: Vec<_> = values.iter().map(ToString::to_string).collect();
        texts.sort_unstable();
        texts
    }
    let empty_subject = spec
        .subject
        .as_ref()
        .is_none_or(|subject| *subject == api::X509Subject::default());
    let value = serde_json::json!({
        "issuer": [spec.issuer_ref.kind().as_str(), spec.issuer_ref.name],
        "commonName": request.common_name,
        "subject": if empty_subject { None } else { spec.subject.as_ref() },
        "dnsNames": sorted(&request.dns_names),
        "ipAddresses": sorted(&request.ip_addresses),
        "uris": sorted(&request.uris),
        "emailAddresses": sorted(&request.email_addresses),
        "usages": sorted(&request.usages),
        "isCA": request.is_ca,
        "nameConstraints": spec.name_constraints,
        "duration": spec.duration.as_ref().map(|duration| duration.value().as_secs()),
        "key": format!("{key:?}"),
    });
    hash(&value)
}

fn output_hash(spec: &api::CertificateSpec) -> String {
    let mut formats: Vec<_> = spec
        .additional_output_formats
        .iter()
        .map(|format| format.kind)
        .collect();
    formats.sort_unstable();
    formats.dedup();
    let encoding = spec
        .private_key
        .as_ref()
        .and_then(|key| key.encoding)
        .unwrap_or_default();
    hash(&serde_json::json!({
        "formats": formats,
        "keystores": spec.keystores,
        "encoding": encoding,
        "template": spec.secret_template,
        "deletion": spec.secret_deletion_policy.unwrap_or_default(),
    }))
}

fn template(spec: &api::CertificateSpec) -> u64 {
    let template = spec.secret_template.as_ref();
    let keys = |of: fn(&api::SecretTemplate) -> &BTreeMap<String, String>| {
        template.into_iter().flat_map(move |template| of(template).keys())
    };
    observed_secret::template_mark(
        keys(|template| &template.labels).map(String::as_str),
        keys(|template| &template.annotations).map(String::as_str),
    )
}

/// Fingerprint of a value, by the recipe of today.
pub fn hash(value: &serde_json::Value) -> String {
    let digest = digest(&SHA256, value.to_string().as_bytes());
    let number = digest
        .as_ref()
        .iter()
        .take(16)
        .fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
    format!("1-{number:032x}")
}

/// Whether two hashes were made by the same recipe and differ.
pub fn differs(written: &str, desired: &str) -> bool {
    let recipe = |hash: &str| hash.split_once('-').map(|(recipe, _)| recipe.to_owned());
    recipe(written).is_some() && recipe(written) == recipe(desired) && written != desired
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
