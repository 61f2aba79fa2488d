//! Certificate signing requests for a CA elsewhere (PKCS#10, RFC 2986).

use thiserror::Error;
use yasna::{Tag, models::ObjectIdentifier};

use super::{
    extension,
    key::{KeyError, PrivateKey},
    request::{CertificateRequest, RequestError, name_der},
    signed::{sign, write_extensions},
};

/// Part of the subject that goes into a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubjectIn {
    #[default]
    Full,
    /// For ACME servers, which drop or refuse the rest.
    CommonNameOnly,
    /// For ACME profiles without a common name.
    Empty,
}

/// Why a request cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CsrError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl CsrError {
    /// The stable reason for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Request(error) => error.reason(),
            Self::Key(error) => error.reason(),
        }
    }
}

/// DER of a request signed by `key`. The names, usages and constraints are in the extension
/// request attribute (RFC 2985 §5.4.2); the alternative names are critical when the subject is empty.
pub fn certificate_signing_request(
    request: &CertificateRequest,
    key: &PrivateKey,
    subject_in: SubjectIn,
) -> Result<Vec<u8>, CsrError> {
    request.check()?;
    let subject = match subject_in {
        SubjectIn::Full => name_der(Some(&request.subject), request.common_name.as_deref()),
        SubjectIn::CommonNameOnly => name_der(None, request.common_name.as_deref()),
        SubjectIn::Empty => name_der(None, None),
    };
    let extensions = extension::of_request(request, subject == name_der(None, None));
    let info = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(0);
            writer.next().write_der(&subject);
            writer.next().write_der(key.public_key_der());
            writer.next().write_tagged_implicit(Tag::context(0), |writer| {
                writer.write_set(|writer| {
                    writer.next().write_sequence(|writer| {
                        writer
                            .next()
                            .write_oid(&ObjectIdentifier::from_slice(&[1, 2, 840, 113_549, 1, 9, 14]));
                        writer
                            .next()
                            .write_set(|writer| write_extensions(writer.next(), &extensions));
                    });
                });
            });
        });
    });
    Ok(sign(&info, key)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use x509_parser::{certification_request::X509CertificationRequest, extensions::ParsedExtension, prelude::FromDer};

    use super::*;
    use crate::{Curve, DnsName, KeyParameters, Subject};

    fn extensions(csr: &X509CertificationRequest<'_>) -> Vec<String> {
        csr.requested_extensions()
            .unwrap()
            .map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => {
                    format!("{:?}", names.general_names)
                }
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_subject_is_whole_or_the_common_name_or_empty_as_asked() {
        let key = PrivateKey::generate(KeyParameters::Ecdsa(Curve::P256)).unwrap();
        let request = CertificateRequest {
            common_name: Some("a.example".into()),
            subject: Subject {
                organizations: vec!["One".into(), "Two".into()],
                organizational_units: vec!["Dev".into(), "Ops".into()],
                countries: vec!["DE".into()],
                ..Default::default()
            },
            dns_names: vec![
                DnsName::parse("a.example").unwrap(),
                DnsName::parse("*.ü.example").unwrap(),
            ],
            ip_addresses: vec!["192.0.2.1".parse().unwrap()],
            ..Default::default()
        };
        for (subject_in, subject) in [
            (SubjectIn::Full, "C=DE, O=One, O=Two, OU=Dev, OU=Ops, CN=a.example"),
            (SubjectIn::CommonNameOnly, "CN=a.example"),
            (SubjectIn::Empty, ""),
        ] {
            let der = certificate_signing_request(&request, &key, subject_in).unwrap();
            let (rest, csr) = X509CertificationRequest::from_der(&der).unwrap();
            assert!(rest.is_empty());
            csr.verify_signature().unwrap();
            assert_eq!(csr.certification_request_info.subject.to_string(), subject);
            assert_eq!(csr.certification_request_info.subject_pki.raw, key.public_key_der());
            let extensions = extensions(&csr);
            assert!(
                extensions.iter().any(|extension| extension
                    == r#"[DNSName("a.example"), DNSName("*.xn--tda.example"), IPAddress([192, 0, 2, 1])]"#),
                "{extensions:?}"
            );
        }
    }

    #[test]
    fn a_request_that_cannot_be_is_refused_before_signing() {
        let key = PrivateKey::generate(KeyParameters::Ed25519).unwrap();
        let error = certificate_signing_request(&CertificateRequest::default(), &key, SubjectIn::Full).unwrap_err();
        assert_eq!(
            (error.clone(), error.reason()),
            (CsrError::Request(RequestError::NoName), "InvalidRequest")
        );
    }
}
