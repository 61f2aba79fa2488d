//! A certificate that has been read (RFC 5280).

use std::{collections::BTreeSet, net::IpAddr};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ipnet::IpNet;
use jiff::Timestamp;
use thiserror::Error;
use x509_parser::{
    asn1_rs::{Any, BitString, FromDer as _, Oid},
    certificate::X509Certificate,
    extensions::{ExtendedKeyUsage, GeneralName, GeneralSubtree, ParsedExtension},
    x509::X509Name,
};

use super::{
    key::{KeyParameters, PrivateKey},
    name::Name,
    name_constraints::{NameConstraints, Subtrees},
    request::Subject,
    usage::Usage,
};

/// Why bytes are not a certificate that we can work with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    #[error("it is not a DER certificate")]
    Malformed,
    #[error("bytes follow the certificate")]
    TrailingData,
    #[error("its {extension} extension is malformed")]
    MalformedExtension { extension: &'static str },
}

/// Content of a certificate. Names are as in the certificate, DNS names in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub der: Vec<u8>,
    /// The content octets of the serial number's DER, sign octet included.
    pub serial: Vec<u8>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// DER of the names.
    pub subject_der: Vec<u8>,
    pub issuer_der: Vec<u8>,
    /// The names as they are compared.
    pub subject_name: Name,
    pub issuer_name: Name,
    pub subject: Subject,
    pub common_name: Option<String>,
    pub issuer_common_name: Option<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub uris: Vec<String>,
    pub email_addresses: Vec<String>,
    /// Alternative names of other forms, which nothing here can ask for.
    pub other_names: usize,
    pub is_ca: bool,
    /// Maximum number of CAs below this one (§4.2.1.9).
    pub path_length: Option<u32>,
    /// `None` when the extension is absent, so that nothing is restricted.
    pub key_usage: Option<BTreeSet<Usage>>,
    pub extended_key_usage: Option<BTreeSet<Usage>>,
    pub name_constraints: Option<NameConstraints>,
    /// DER of the directory names in the name constraints.
    pub permitted_directories: Vec<Vec<u8>>,
    pub excluded_directories: Vec<Vec<u8>>,
    /// DER of the `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
    /// `None` for keys of a kind or size that we do not make.
    pub key_parameters: Option<KeyParameters>,
    /// The digest of its signature, when it is one that clients refuse.
    pub weak_digest: Option<&'static str>,
    /// After so many further certificates each must have a policy (§4.2.1.11).
    pub require_explicit_policy: Option<u32>,
    /// The OID of a critical extension that RFC 5280 does not define: clients refuse the certificate (§4.2).
    pub unknown_critical: Option<String>,
    pub subject_key_identifier: Option<Vec<u8>>,
    pub authority_key_identifier: Option<Vec<u8>>,
}

impl Certificate {
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::TrailingData);
        }
        // 99991231235959Z means "no expiry" (RFC 5280 §4.1.2.5), some hours past what a timestamp can hold.
        let time = |seconds: i64| {
            Timestamp::from_second(seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second()))
                .unwrap_or_default()
        };
        let mut certificate = Self {
            der: der.to_vec(),
            serial: parsed.raw_serial().to_vec(),
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            subject_name: Name::of(parsed.subject()),
            issuer_name: Name::of(parsed.issuer()),
            subject: read_subject(parsed.subject()),
            common_name: attributes(parsed.subject(), COMMON_NAME).pop(),
            issuer_common_name: attributes(parsed.issuer(), COMMON_NAME).pop(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            email_addresses: Vec::new(),
            other_names: 0,
            is_ca: false,
            path_length: None,
            key_usage: None,
            extended_key_usage: None,
            name_constraints: None,
            permitted_directories: Vec::new(),
            excluded_directories: Vec::new(),
            public_key: parsed.public_key().raw.to_vec(),
            key_parameters: KeyParameters::of_public_key(parsed.public_key().raw).ok(),
            weak_digest: weak_digest(&parsed.signature_algorithm.algorithm.to_id_string()),
            require_explicit_policy: None,
            unknown_critical: None,
            subject_key_identifier: None,
            authority_key_identifier: None,
        };
        for extension in parsed.iter_extensions() {
            certificate.read_extension(extension.parsed_extension(), extension.critical, &extension.oid)?;
            if extension.critical && !is_defined(&extension.oid) {
                certificate.unknown_critical = Some(extension.oid.to_id_string());
            }
        }
        Ok(certificate)
    }

    fn read_extension(
        &mut self,
        extension: &ParsedExtension<'_>,
        critical: bool,
        oid: &Oid<'_>,
    ) -> Result<(), CertificateError> {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                names.general_names.iter().for_each(|name| self.read_name(name));
            }
            ParsedExtension::BasicConstraints(constraints) => {
                self.is_ca = constraints.ca;
                self.path_length = constraints.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => {
                let set = |bit: u8| usage.flags >> bit & 1 == 1;
                self.key_usage = Some(
                    Usage::all()
                        .filter(|usage| usage.key_usage_bit().is_some_and(set))
                        .collect(),
                );
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.extended_key_usage = Some(read_extended(usage));
            }
            ParsedExtension::NameConstraints(constraints) => {
                let subtrees = |list: &Option<Vec<GeneralSubtree<'_>>>| {
                    read_subtrees(list.as_deref().unwrap_or_default()).ok_or(CertificateError::MalformedExtension {
                        extension: "name constraints",
                    })
                };
                self.name_constraints = Some(NameConstraints {
                    critical,
                    permitted: subtrees(&constraints.permitted_subtrees)?,
                    excluded: subtrees(&constraints.excluded_subtrees)?,
                });
                self.permitted_directories = directories(constraints.permitted_subtrees.as_deref());
                self.excluded_directories = directories(constraints.excluded_subtrees.as_deref());
            }
            ParsedExtension::PolicyConstraints(constraints) => {
                self.require_explicit_policy = constraints.require_explicit_policy;
            }
            ParsedExtension::SubjectKeyIdentifier(identifier) => {
                self.subject_key_identifier = Some(identifier.0.to_vec());
            }
            ParsedExtension::AuthorityKeyIdentifier(authority) => {
                self.authority_key_identifier = authority
                    .key_identifier
                    .as_ref()
                    .map(|identifier| identifier.0.to_vec());
            }
            ParsedExtension::ParseError { .. } => {
                let known = [
                    ("2.5.29.15", "key usage"),
                    ("2.5.29.17", "subject alternative name"),
                    ("2.5.29.19", "basic constraints"),
                    ("2.5.29.30", "name constraints"),
                    ("2.5.29.36", "policy constraints"),
                    ("2.5.29.37", "extended key usage"),
                ];
                let oid = oid.to_id_string();
                if let Some((_, extension)) = known.into_iter().find(|(known, _)| *known == oid) {
                    return Err(CertificateError::MalformedExtension { extension });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push(name.to_ascii_lowercase()),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::RFC822Name(address) => self.email_addresses.push((*address).to_owned()),
            GeneralName::IPAddress(octets) => match read_address(octets) {
                Some(address) => self.ip_addresses.push(address),
                None => self.other_names += 1,
            },
            _ => self.other_names += 1,
        }
    }

    /// The serial number in lower-case hex, an even number of digits and no sign octet, as OpenSSL prints it.
    pub fn serial_hex(&self) -> String {
        let magnitude = match self.serial.as_slice() {
            [0, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        hex(magnitude)
    }

    /// The subject key identifier, in lower-case hex without colons.
    pub fn key_id_hex(&self) -> Option<String> {
        self.subject_key_identifier.as_deref().map(hex)
    }

    /// SHA-256 over the DER, in lower-case hex without colons.
    pub fn fingerprint_sha256(&self) -> String {
        hex(digest::digest(&digest::SHA256, &self.der).as_ref())
    }

    /// The identifier of the certificate for renewal information (RFC 9773 §4.1); `None` without an
    /// authority key identifier.
    pub fn ari_identifier(&self) -> Option<String> {
        let authority = self.authority_key_identifier.as_ref()?;
        Some(format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(authority),
            URL_SAFE_NO_PAD.encode(&self.serial)
        ))
    }

    /// Whether the certificate is for this key.
    pub fn matches(&self, key: &PrivateKey) -> bool {
        self.public_key == key.public_key_der()
    }

    /// Whether subject and issuer are the same name.
    pub fn is_self_issued(&self) -> bool {
        self.subject_name == self.issuer_name
    }

    /// Whether it is signed by its own key. Roots signed with an algorithm that is no longer
    /// supported, such as SHA-1, count by their name: a root's own signature is never checked.
    pub fn is_self_signed(&self) -> bool {
        self.is_self_issued() && self.is_signed_by(self).unwrap_or(true)
    }

    /// Whether the key identifiers allow that `issuer` signed this; they are hints, and may be absent (§4.2.1.1).
    pub fn may_be_issued_by(&self, issuer: &Self) -> bool {
        match (&self.authority_key_identifier, &issuer.subject_key_identifier) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => true,
        }
    }

    /// Whether the issuer's key made the signature; `None` when the algorithm is not supported.
    pub fn is_signed_by(&self, issuer: &Self) -> Option<bool> {
        let (_, whole) = Any::from_der(&self.der).ok()?;
        let (after_tbs, _) = Any::from_der(whole.data).ok()?;
        let tbs = whole.data.strip_suffix(after_tbs)?;
        let (after_algorithm, algorithm) = Any::from_der(after_tbs).ok()?;
        let (_, signature) = BitString::from_der(after_algorithm).ok()?;
        let (_, spki) = Any::from_der(&issuer.public_key).ok()?;
        let (key_bits, key_algorithm) = Any::from_der(spki.data).ok()?;
        let (_, key_bits) = BitString::from_der(key_bits).ok()?;
        webpki::ALL_VERIFICATION_ALGS
            .iter()
            .find(|known| {
                known.signature_alg_id().as_ref() == algorithm.data
                    && known.public_key_alg_id().as_ref() == key_algorithm.data
            })
            .map(|known| known.verify_signature(&key_bits.data, tbs, &signature.data).is_ok())
    }
}

/// Whether RFC 5280 defines the extension (§4.2.1: `id-ce`; §4.2.2: `id-pe`), or it is Netscape's certificate type.
fn is_defined(oid: &Oid<'_>) -> bool {
    let oid = oid.to_id_string();
    let standard = oid.strip_prefix("2.5.29.").and_then(|arc| arc.parse::<u8>().ok());
    match standard {
        Some(arc) => matches!(arc, 9 | 14..=19 | 30..=33 | 35..=37 | 46 | 54),
        None => matches!(
            oid.as_str(),
            "1.3.6.1.5.5.7.1.1" | "1.3.6.1.5.5.7.1.11" | "2.16.840.1.113730.1.1"
        ),
    }
}

const COMMON_NAME: &str = "2.5.4.3";

/// Every value of an attribute that is a text; the library gives them first to last.
fn attributes(name: &X509Name<'_>, oid: &str) -> Vec<String> {
    name.iter_attributes()
        .filter(|attribute| attribute.attr_type().to_id_string() == oid)
        .filter_map(|attribute| attribute.as_str().ok().map(str::to_owned))
        .collect()
}

/// The digest of a signature algorithm that clients do not accept any more.
fn weak_digest(algorithm: &str) -> Option<&'static str> {
    match algorithm {
        "1.2.840.113549.1.1.2" => Some("MD2"),
        "1.2.840.113549.1.1.3" => Some("MD4"),
        "1.2.840.113549.1.1.4" => Some("MD5"),
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3" => Some("SHA-1"),
        _ => None,
    }
}

fn read_subject(name: &X509Name<'_>) -> Subject {
    Subject {
        organizations: attributes(name, "2.5.4.10"),
        organizational_units: attributes(name, "2.5.4.11"),
        countries: attributes(name, "2.5.4.6"),
        provinces: attributes(name, "2.5.4.8"),
        localities: attributes(name, "2.5.4.7"),
        street_addresses: attributes(name, "2.5.4.9"),
        postal_codes: attributes(name, "2.5.4.17"),
        serial_number: attributes(name, "2.5.4.5").pop(),
    }
}

fn read_extended(usage: &ExtendedKeyUsage<'_>) -> BTreeSet<Usage> {
    let named = [
        (usage.any, Usage::Any),
        (usage.server_auth, Usage::ServerAuth),
        (usage.client_auth, Usage::ClientAuth),
        (usage.code_signing, Usage::CodeSigning),
        (usage.email_protection, Usage::EmailProtection),
        (usage.time_stamping, Usage::Timestamping),
        (usage.ocsp_signing, Usage::OcspSigning),
    ];
    let others = usage.other.iter().map(Oid::to_id_string).collect::<BTreeSet<_>>();
    let is_other = |usage: &Usage| {
        usage
            .extended_oid()
            .is_some_and(|oid| others.contains(&oid.iter().map(u64::to_string).collect::<Vec<_>>().join(".")))
    };
    named
        .into_iter()
        .filter_map(|(set, usage)| set.then_some(usage))
        .chain(Usage::all().filter(is_other))
        .collect()
}

fn read_address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

fn directories(list: Option<&[GeneralSubtree<'_>]>) -> Vec<Vec<u8>> {
    let names = list
        .unwrap_or_default()
        .iter()
        .filter_map(|subtree| match &subtree.base {
            GeneralName::DirectoryName(name) => Some(name.as_raw().to_vec()),
            _ => None,
        });
    names.collect()
}

/// Forms that no request can have, such as other names, are left out; directory names are kept apart.
fn read_subtrees(list: &[GeneralSubtree<'_>]) -> Option<Subtrees> {
    let mut subtrees = Subtrees::default();
    for subtree in list {
        match &subtree.base {
            GeneralName::DNSName(domain) => subtrees.dns_domains.push((*domain).to_owned()),
            GeneralName::RFC822Name(address) => {
                subtrees.email_addresses.push((*address).to_owned());
            }
            GeneralName::URI(domain) => subtrees.uri_domains.push((*domain).to_owned()),
            GeneralName::IPAddress(octets) => {
                let (address, mask) = octets.split_at_checked(octets.len() / 2)?;
                subtrees.ip_ranges.push(
                    IpNet::with_netmask(read_address(address)?, read_address(mask)?)
                        .ok()?
                        .trunc(),
                );
            }
            _ => {}
        }
    }
    Some(subtrees)
}

pub(super) fn hex(octets: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    octets
        .iter()
        .flat_map(|octet| [digit(octet >> 4), digit(octet & 15)])
        .collect()
}

#[cfg(test)]
mod tests;
