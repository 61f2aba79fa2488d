//! Chains as CAs and Secrets give them: read, put in order, checked link by link.

use thiserror::Error;

use super::{
    certificate::{Certificate, CertificateError},
    encoding::{certificates_pem, pem_labels, pem_section},
    key::PrivateKey,
};

/// More certificates than any chain has; beyond this a bundle is refused unread.
const MOST_CERTIFICATES: usize = 1_000;

/// More CAs than stand above any leaf. Each step up tries every certificate of the issuer's name,
/// so that without an end a hostile Secret could keep us verifying for minutes.
const MOST_AUTHORITIES: usize = 10;

/// Why a PEM bundle is no chain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChainError {
    #[error("it is DER; write it as PEM (openssl x509 -inform DER -in cert.der)")]
    NotPem,
    #[error("it holds no PEM section; a certificate starts with -----BEGIN CERTIFICATE-----")]
    NoPem,
    #[error("it holds no certificate but a PEM section {found:?}")]
    NoCertificate { found: String },
    #[error("it holds more than {MOST_CERTIFICATES} certificates")]
    TooMany,
    #[error("more than {MOST_AUTHORITIES} CAs stand above its leaf")]
    TooDeep,
    #[error("its PEM is malformed in or after certificate {position}")]
    MalformedPem { position: usize },
    #[error("certificate {position} cannot be read: {source}")]
    Certificate { position: usize, source: CertificateError },
    #[error("no certificate in it is for the private key")]
    KeyMismatch,
    #[error("the certificate of {subject} names an issuer whose certificate is there but did not sign it")]
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

/// Reads every certificate of a PEM bundle, in its order. Other sections, such as a key in a
/// combined file, are passed over.
pub fn read_bundle(pem: &[u8]) -> Result<Vec<Certificate>, ChainError> {
    if pem.first() == Some(&0x30) {
        return Err(ChainError::NotPem);
    }
    let text = std::str::from_utf8(pem).map_err(|_| ChainError::NoPem)?;
    let labels = pem_labels(text);
    let is_certificate = |label: &str| matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE");
    match labels.first() {
        None => return Err(ChainError::NoPem),
        Some(found) if !labels.iter().any(|label| is_certificate(label)) => {
            return Err(ChainError::NoCertificate {
                found: found.chars().take(40).collect(),
            });
        }
        Some(_) if labels.len() > MOST_CERTIFICATES => return Err(ChainError::TooMany),
        Some(_) => {}
    }
    let mut certificates = Vec::new();
    for section in rustls_pki_types::pem::SliceIter::<rustls_pki_types::CertificateDer<'static>>::new(pem) {
        let position = certificates.len() + 1;
        let der = section.map_err(|_| ChainError::MalformedPem { position })?;
        certificates.push(Certificate::from_der(&der).map_err(|source| ChainError::Certificate { position, source })?);
    }
    if certificates.is_empty() {
        Err(ChainError::MalformedPem { position: 1 })
    } else {
        Ok(certificates)
    }
}

/// A certificate with the CAs above it, each having signed the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub leaf: Certificate,
    /// From the leaf's issuer upwards, without the root.
    pub intermediates: Vec<Certificate>,
    /// The self-signed certificate at the top, when it is known. A self-signed leaf is its own root.
    pub root: Option<Certificate>,
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
                        .all(|other| other == certificate || other.issuer_der != certificate.subject_der)
                })
                .unwrap_or(0),
        };
        let leaf = pool.get(leaf).cloned().ok_or(ChainError::NoPem)?;
        let mut intermediates: Vec<Certificate> = Vec::new();
        let mut top = leaf.clone();
        while !top.is_self_signed() {
            let unused = |candidate: &&Certificate| **candidate != leaf && !intermediates.contains(candidate);
            let mut named = pool
                .iter()
                .filter(|candidate| candidate.subject_der == top.issuer_der)
                .filter(unused)
                .peekable();
            if named.peek().is_none() {
                break;
            }
            // A renewed CA keeps its name: the one whose key made the signature is the issuer.
            let Some(issuer) = named
                .find(|candidate| top.is_signed_by(candidate) == Some(true))
                .cloned()
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
        })
    }

    /// The leaf, then the intermediates, as DER.
    pub fn der(&self) -> Vec<Vec<u8>> {
        std::iter::once(&self.leaf)
            .chain(&self.intermediates)
            .map(|certificate| certificate.der.clone())
            .collect()
    }

    /// `tls.crt`: the leaf, then the intermediates, without the root.
    pub fn pem(&self) -> String {
        certificates_pem(
            std::iter::once(&self.leaf)
                .chain(&self.intermediates)
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
