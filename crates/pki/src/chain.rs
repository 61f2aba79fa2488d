//! Chains as CAs and Secrets give them: read, put in order, checked link by link.

use thiserror::Error;

use x509_parser::asn1_rs::{Any, FromDer as _};

use super::{
    certificate::{Certificate, CertificateError},
    encoding::{certificates_pem, pem_section},
    key::PrivateKey,
    pem::{self, PemError},
};

/// More CAs than any leaf has above it. Each step up tries every certificate of the issuer's name,
/// so that without an end a hostile Secret could keep us verifying for minutes.
const MOST_AUTHORITIES: usize = 10;

/// Why a PEM bundle is no chain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChainError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("it holds no certificate")]
    Empty,
    #[error("it holds no certificate but a PEM section {found:?}")]
    NoCertificate { found: String },
    #[error(
        "line {line}: a section {label:?} cannot be read; write certificates as CERTIFICATE sections (for PKCS7: openssl pkcs7 -print_certs)"
    )]
    Section { line: usize, label: String },
    #[error("more than {MOST_AUTHORITIES} CAs are above its leaf")]
    TooDeep,
    #[error("certificate {position} (line {line}) cannot be read: {source}")]
    Certificate {
        position: usize,
        line: usize,
        source: CertificateError,
    },
    #[error("no certificate in it is for the private key")]
    KeyMismatch,
    #[error("the certificate of {subject} names an issuer whose certificate is present but did not sign it")]
    WrongSignature { subject: String },
}

impl ChainError {
    /// The stable reason for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::KeyMismatch => "KeyMismatch",
            Self::WrongSignature { .. } => "BrokenChain",
            _ => "InvalidCertificate",
        }
    }
}

/// Reads every certificate of a PEM bundle, in its order. Other content of such a file (keys in a combined one,
/// parameters, requests) is passed over; a section that could hold certificates in another form is an error.
pub fn read_bundle(pem: &[u8]) -> Result<Vec<Certificate>, ChainError> {
    let mut certificates = Vec::new();
    let sections = pem::sections(pem)?;
    for section in &sections {
        let der = match section.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => &section.der,
            // OpenSSL appends what the certificate is trusted for.
            "TRUSTED CERTIFICATE" => first_element(&section.der),
            label if is_beside_certificates(label) => continue,
            label => {
                return Err(ChainError::Section {
                    line: section.line,
                    label: label.to_owned(),
                });
            }
        };
        certificates.push(Certificate::from_der(der).map_err(|source| ChainError::Certificate {
            position: certificates.len() + 1,
            line: section.line,
            source,
        })?);
    }
    match sections.first() {
        Some(section) if certificates.is_empty() => Err(ChainError::NoCertificate {
            found: section.label.clone(),
        }),
        _ => Ok(certificates),
    }
}

/// Returns whether sections with this label may be beside certificates and hold none.
fn is_beside_certificates(label: &str) -> bool {
    [
        "PRIVATE KEY",
        "PUBLIC KEY",
        "PARAMETERS",
        "CERTIFICATE REQUEST",
        "X509 CRL",
    ]
    .iter()
    .any(|known| label.ends_with(known))
}

/// The first element of some DER; all of it when it is none.
fn first_element(der: &[u8]) -> &[u8] {
    Any::from_der(der)
        .ok()
        .and_then(|(rest, _)| der.strip_suffix(rest))
        .unwrap_or(der)
}

/// A certificate with the CAs above it, each having signed the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub leaf: Certificate,
    /// From the leaf's issuer upwards, without the root.
    pub intermediates: Vec<Certificate>,
    /// The self-signed certificate at the top, when it is known. A self-signed leaf is its own root.
    pub root: Option<Certificate>,
    /// Other certificates that stay in `tls.crt`: see [`keep`](Self::keep).
    pub others: Vec<Certificate>,
}

impl Chain {
    /// Reads a bundle whose leaf is the certificate for `key`, or without a key the first that has
    /// issued none of the others. Order does not matter and strangers are dropped.
    pub fn read(pem: &[u8], key: Option<&PrivateKey>) -> Result<Self, ChainError> {
        Self::order(&read_bundle(pem)?, key)
    }

    /// As [`read`](Self::read), from certificates; `pool` may hold `ca.crt` and whatever else there is.
    pub fn order(pool: &[Certificate], key: Option<&PrivateKey>) -> Result<Self, ChainError> {
        let leaf = match key {
            Some(key) => pool
                .iter()
                .position(|certificate| certificate.matches(key))
                .ok_or(ChainError::KeyMismatch)?,
            None => pool
                .iter()
                .position(|certificate| {
                    pool.iter()
                        .all(|other| other == certificate || other.issuer_name != certificate.subject_name)
                })
                .unwrap_or(0),
        };
        let leaf = pool.get(leaf).cloned().ok_or(ChainError::Empty)?;
        let mut intermediates: Vec<Certificate> = Vec::new();
        let mut top = leaf.clone();
        while !top.is_self_signed() {
            let unused = |candidate: &&Certificate| **candidate != leaf && !intermediates.contains(candidate);
            let named: Vec<_> = pool
                .iter()
                .filter(|candidate| candidate.subject_name == top.issuer_name)
                .filter(unused)
                .collect();
            if named.is_empty() {
                break;
            }
            // A renewed CA keeps its name: the one whose key made the signature is the issuer. Of a signature that
            // cannot be checked, such as one with SHA-1, the key identifiers say whose it is.
            let signed = |candidate: &&&Certificate| top.is_signed_by(candidate) == Some(true);
            let identified =
                |candidate: &&&Certificate| top.is_signed_by(candidate).is_none() && top.may_be_issued_by(candidate);
            let Some(issuer) = named
                .iter()
                .find(signed)
                .or_else(|| named.iter().find(identified))
                .map(|issuer| (*issuer).clone())
            else {
                return Err(ChainError::WrongSignature {
                    subject: top.display_name(),
                });
            };
            if intermediates.len() == MOST_AUTHORITIES {
                return Err(ChainError::TooDeep);
            }
            intermediates.push(issuer.clone());
            top = issuer;
        }
        let root = if top.is_self_signed() {
            intermediates.pop().or_else(|| Some(leaf.clone()))
        } else {
            None
        };
        Ok(Self {
            leaf,
            intermediates,
            root,
            others: Vec::new(),
        })
    }

    /// Keeps in `tls.crt` whatever `found` has and the chain has not: a root, and certificates that could not be
    /// linked. A pair that is adopted must not lose what may be in use.
    #[must_use]
    pub fn keep(mut self, found: &[Certificate]) -> Self {
        for certificate in found {
            let known = std::iter::once(&self.leaf)
                .chain(&self.intermediates)
                .chain(&self.others);
            if !known.into_iter().any(|known| known == certificate) {
                self.others.push(certificate.clone());
            }
        }
        self
    }

    /// The leaf, then the intermediates, as DER.
    pub fn der(&self) -> Vec<Vec<u8>> {
        std::iter::once(&self.leaf)
            .chain(&self.intermediates)
            .map(|certificate| certificate.der.clone())
            .collect()
    }

    /// `tls.crt`: the leaf, then the intermediates, without the root unless it is kept.
    pub fn pem(&self) -> String {
        certificates_pem(
            std::iter::once(&self.leaf)
                .chain(&self.intermediates)
                .chain(&self.others)
                .map(|certificate| certificate.der.as_slice()),
        )
    }

    /// `ca.crt`, when the root is known.
    pub fn root_pem(&self) -> Option<String> {
        self.root
            .as_ref()
            .map(|root| pem_section("CERTIFICATE", &root.der).to_string())
    }

    /// The certificate furthest from the leaf.
    pub fn topmost(&self) -> &Certificate {
        self.root.as_ref().or(self.intermediates.last()).unwrap_or(&self.leaf)
    }

    /// Among the chains a CA offers, the first whose topmost certificate names `preferred` as its
    /// issuer's common name or, failing that, as its own (cert-manager's `preferredChain`).
    pub fn prefer<'a>(chains: &'a [Self], preferred: &str) -> Option<&'a Self> {
        let by = |name: fn(&Certificate) -> Option<&str>| {
            chains.iter().find(|chain| name(chain.topmost()) == Some(preferred))
        };
        by(|top| top.issuer_common_name.as_deref()).or_else(|| by(|top| top.common_name.as_deref()))
    }
}

impl Certificate {
    /// The common name, or else the first name of any form, or else the serial number.
    pub fn display_name(&self) -> String {
        self.common_name
            .iter()
            .chain(&self.dns_names)
            .cloned()
            .chain(self.ip_addresses.iter().map(ToString::to_string))
            .chain(self.uris.iter().chain(&self.email_addresses).cloned())
            .next()
            .unwrap_or_else(|| format!("serial number {}", self.serial_hex()))
    }
}

#[cfg(test)]
mod tests;
