//! Content of a certificate request, for any signer.

use std::{collections::BTreeSet, net::IpAddr};

use thiserror::Error;
use yasna::models::ObjectIdentifier;

use super::{dns_name::DnsName, name_constraints::NameConstraints, signed::write_directory_string, usage::Usage};

/// The subject's attributes apart from the common name; each may have several values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    pub organizations: Vec<String>,
    pub organizational_units: Vec<String>,
    pub countries: Vec<String>,
    pub provinces: Vec<String>,
    pub localities: Vec<String>,
    pub street_addresses: Vec<String>,
    pub postal_codes: Vec<String>,
    /// The X.520 attribute of that name, not the certificate's serial number.
    pub serial_number: Option<String>,
}

/// A certificate as it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateRequest {
    pub common_name: Option<String>,
    pub subject: Subject,
    pub dns_names: Vec<DnsName>,
    pub ip_addresses: Vec<IpAddr>,
    pub uris: Vec<String>,
    pub email_addresses: Vec<String>,
    /// Empty means digital signature and key encipherment, as in cert-manager. A CA has cert sign in addition.
    pub usages: Vec<Usage>,
    pub is_ca: bool,
    /// Only for a CA (RFC 5280 §4.2.1.10).
    pub name_constraints: Option<NameConstraints>,
}

/// Why a request can never become a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    #[error(
        "no name is asked for; give at least one of dnsNames, ipAddresses, uris, emailAddresses, commonName or subject"
    )]
    NoName,
    #[error(
        "the common name {name:?} has {length} characters; at most 64 are possible (RFC 5280 appendix A.1), put longer names under dnsNames"
    )]
    CommonNameTooLong { name: String, length: usize },
    #[error("{name:?} is no e-mail address; write it as user@example.com in ASCII")]
    EmailAddress { name: String },
    #[error("{uri:?} is no absolute URI; write it with its scheme and in ASCII, like spiffe://example.com/workload")]
    Uri { uri: String },
    #[error("a CA needs a subject (RFC 5280 §4.1.2.6); set commonName or subject")]
    CaWithoutSubject,
    #[error("name constraints are for CAs only (RFC 5280 §4.2.1.10); set isCA: true or leave them out")]
    NameConstraintsWithoutCa,
    #[error("the name constraints are empty; permit or exclude something, or leave them out")]
    EmptyNameConstraints,
    #[error("the name constraint {constraint:?} is not ASCII; write domains in A-labels (xn--…)")]
    NameConstraint { constraint: String },
}

impl RequestError {
    /// The stable reason for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        "InvalidRequest"
    }
}

impl CertificateRequest {
    /// Whether a certificate can say this at all. Signing and writing a CSR check it by themselves.
    pub fn check(&self) -> Result<(), RequestError> {
        if let Some(name) = &self.common_name {
            let length = name.chars().count();
            if length > 64 {
                return Err(RequestError::CommonNameTooLong {
                    name: name.clone(),
                    length,
                });
            }
        }
        if !self.has_alternative_names() && !self.has_subject() {
            return Err(RequestError::NoName);
        }
        if let Some(name) = self.email_addresses.iter().find(|address| !is_mailbox(address)) {
            return Err(RequestError::EmailAddress { name: name.clone() });
        }
        if let Some(uri) = self.uris.iter().find(|uri| !is_absolute_uri(uri)) {
            return Err(RequestError::Uri { uri: uri.clone() });
        }
        if self.is_ca && !self.has_subject() {
            return Err(RequestError::CaWithoutSubject);
        }
        let Some(constraints) = &self.name_constraints else {
            return Ok(());
        };
        if !self.is_ca {
            return Err(RequestError::NameConstraintsWithoutCa);
        }
        if constraints.is_empty() {
            return Err(RequestError::EmptyNameConstraints);
        }
        match constraints.texts().find(|text| !text.is_ascii()) {
            Some(text) => Err(RequestError::NameConstraint {
                constraint: text.to_owned(),
            }),
            None => Ok(()),
        }
    }

    pub(super) fn has_alternative_names(&self) -> bool {
        !(self.dns_names.is_empty()
            && self.ip_addresses.is_empty()
            && self.uris.is_empty()
            && self.email_addresses.is_empty())
    }

    pub(super) fn has_subject(&self) -> bool {
        self.common_name.as_deref().is_some_and(|name| !name.is_empty()) || self.subject.attributes().next().is_some()
    }

    /// The usages a certificate gets: those asked for or the default, and cert sign for a CA.
    pub fn effective_usages(&self) -> BTreeSet<Usage> {
        let mut usages: BTreeSet<Usage> = self.usages.iter().copied().collect();
        if usages.is_empty() {
            usages.extend([Usage::DigitalSignature, Usage::KeyEncipherment]);
        }
        if self.is_ca {
            usages.insert(Usage::CertSign);
        }
        usages
    }
}

/// The object identifiers of X.520 attributes; `true` where its type is `PrintableString`.
const COUNTRY: (&[u64], bool) = (&[2, 5, 4, 6], true);
const PROVINCE: (&[u64], bool) = (&[2, 5, 4, 8], false);
const LOCALITY: (&[u64], bool) = (&[2, 5, 4, 7], false);
const POSTAL_CODE: (&[u64], bool) = (&[2, 5, 4, 17], false);
const STREET_ADDRESS: (&[u64], bool) = (&[2, 5, 4, 9], false);
const ORGANIZATION: (&[u64], bool) = (&[2, 5, 4, 10], false);
const ORGANIZATIONAL_UNIT: (&[u64], bool) = (&[2, 5, 4, 11], false);
const SERIAL_NUMBER: (&[u64], bool) = (&[2, 5, 4, 5], true);
const COMMON_NAME: (&[u64], bool) = (&[2, 5, 4, 3], false);

impl Subject {
    /// Attributes that have a value, in the order of the CA/Browser Forum's Baseline Requirements §7.1.4.2.
    fn attributes(&self) -> impl Iterator<Item = ((&'static [u64], bool), &str)> {
        [
            (COUNTRY, self.countries.as_slice()),
            (PROVINCE, &self.provinces),
            (LOCALITY, &self.localities),
            (POSTAL_CODE, &self.postal_codes),
            (STREET_ADDRESS, &self.street_addresses),
            (ORGANIZATION, &self.organizations),
            (ORGANIZATIONAL_UNIT, &self.organizational_units),
            (SERIAL_NUMBER, self.serial_number.as_slice()),
        ]
        .into_iter()
        .flat_map(|(attribute, values)| values.iter().map(move |value| (attribute, value.as_str())))
        .filter(|(_, value)| !value.is_empty())
    }
}

/// DER of a `Name`: one attribute in each relative distinguished name, values in the order given.
pub(super) fn name_der(subject: Option<&Subject>, common_name: Option<&str>) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            let common_name = common_name
                .filter(|name| !name.is_empty())
                .map(|name| (COMMON_NAME, name));
            for ((oid, printable), value) in subject.into_iter().flat_map(Subject::attributes).chain(common_name) {
                writer.next().write_set(|writer| {
                    writer.next().write_sequence(|writer| {
                        writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
                        write_directory_string(writer.next(), value, printable);
                    });
                });
            }
        });
    })
}

/// A mailbox as RFC 5280 §4.2.1.6 has it: ASCII, one part before the last `@` and a host after it.
fn is_mailbox(text: &str) -> bool {
    let printable = text
        .chars()
        .all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ',' | ';'));
    printable
        && text
            .rsplit_once('@')
            .is_some_and(|(local, host)| !local.is_empty() && DnsName::parse(host).is_ok())
}

/// An absolute URI in ASCII (RFC 3986 §3.1), with something after the scheme.
fn is_absolute_uri(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}'))
        && text.split_once(':').is_some_and(|(scheme, rest)| {
            !rest.is_empty()
                && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::too_many_lines
    )]
    use super::*;

    fn named() -> CertificateRequest {
        CertificateRequest {
            dns_names: vec![DnsName::parse("a.example").unwrap()],
            ..Default::default()
        }
    }

    #[test]
    fn what_no_certificate_can_say_is_refused() {
        let constraints = |domain: &str| {
            Some(NameConstraints {
                permitted: super::super::Subtrees {
                    dns_domains: vec![domain.into()],
                    ..Default::default()
                },
                ..Default::default()
            })
        };
        let ca = || CertificateRequest {
            common_name: Some("ca".into()),
            is_ca: true,
            ..Default::default()
        };
        for (request, says) in [
            (CertificateRequest::default(), "no name"),
            (
                CertificateRequest {
                    common_name: Some(String::new()),
                    ..Default::default()
                },
                "no name",
            ),
            (
                CertificateRequest {
                    common_name: Some("x".repeat(65)),
                    ..named()
                },
                "65 characters",
            ),
            (
                CertificateRequest {
                    email_addresses: vec!["postmaster".into()],
                    ..named()
                },
                "user@example.com",
            ),
            (
                CertificateRequest {
                    email_addresses: vec!["jörg@example.com".into()],
                    ..named()
                },
                "ASCII",
            ),
            (
                CertificateRequest {
                    uris: vec!["/path".into()],
                    ..named()
                },
                "scheme",
            ),
            (
                CertificateRequest {
                    uris: vec!["http://ex ample/".into()],
                    ..named()
                },
                "scheme",
            ),
            (CertificateRequest { is_ca: true, ..named() }, "needs a subject"),
            (
                CertificateRequest {
                    name_constraints: constraints("x"),
                    ..named()
                },
                "isCA",
            ),
            (
                CertificateRequest {
                    name_constraints: Some(NameConstraints::default()),
                    ..ca()
                },
                "are empty",
            ),
            (
                CertificateRequest {
                    name_constraints: constraints("bücher"),
                    ..ca()
                },
                "A-labels",
            ),
        ] {
            let message = request.check().expect_err(says).to_string();
            assert!(message.contains(says), "{message}");
        }
        for request in [
            named(),
            ca(),
            CertificateRequest {
                name_constraints: constraints("example.com"),
                ..ca()
            },
            CertificateRequest {
                common_name: Some("x".repeat(64)),
                ..Default::default()
            },
            CertificateRequest {
                uris: vec!["spiffe://example.com/w".into(), "urn:uuid:1".into()],
                ..Default::default()
            },
            CertificateRequest {
                email_addresses: vec!["a.b+c@example.com".into()],
                ..Default::default()
            },
        ] {
            assert_eq!(request.check(), Ok(()), "{request:?}");
        }
    }

    #[test]
    fn usages_have_cert_managers_default_and_a_ca_may_always_sign() {
        assert_eq!(
            named().effective_usages(),
            [Usage::DigitalSignature, Usage::KeyEncipherment].into()
        );
        let request = CertificateRequest {
            usages: vec![Usage::CrlSign],
            is_ca: true,
            ..named()
        };
        assert_eq!(request.effective_usages(), [Usage::CertSign, Usage::CrlSign].into());
    }
}
