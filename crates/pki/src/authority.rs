//! A certificate authority of our own, and certificates signed by their own key.

use std::sync::Arc;

use jiff::Timestamp;
use thiserror::Error;

use super::{
    certificate::Certificate,
    chain::{Chain, ChainError, read_bundle},
    encoding::certificates_pem,
    extension::{self, Extension},
    key::{KeyError, PrivateKey},
    path,
    request::{CertificateRequest, RequestError, name_der},
    signed::{Body, SerialNumber, Validity, key_identifier},
};

/// Why a CA cannot be used, or may not sign what is asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthorityError {
    #[error("the CA's certificate (tls.crt) is not usable: {0}")]
    Certificate(#[source] ChainError),
    #[error("the CA's root (ca.crt) is not usable: {0}")]
    Root(#[source] ChainError),
    #[error("the CA's private key (tls.key) is not usable: {0}")]
    Key(#[source] KeyError),
    #[error("the certificate of {ca} is not a CA (BasicConstraints lacks CA:TRUE); issue it with isCA: true")]
    NotAnAuthority { ca: String },
    #[error(
        "the CA {ca} may not sign certificates (its key usage lacks cert sign); re-issue it with the usage \"cert sign\""
    )]
    MayNotSign { ca: String },
    #[error("the CA {ca} expired at {not_after}; renew it")]
    Expired { ca: String, not_after: Timestamp },
    #[error("the CA {ca} is valid only from {not_before}; wait, or check the clocks")]
    NotYetValid { ca: String, not_before: Timestamp },
    #[error(
        "the CA {ca} allows {path_length} CAs below it, and there would be {below}; ask for isCA: false or re-issue it with a longer path"
    )]
    PathTooShort { ca: String, path_length: u32, below: u32 },
    #[error(
        "the CA {ca} may only issue for {allowed} (extended key usage), so that a certificate for {usage} would be accepted nowhere; change spec.usages, or ask another CA"
    )]
    UsageNotPermitted {
        ca: String,
        usage: &'static str,
        allowed: String,
    },
    #[error(
        "the CA {ca} may only issue for {allowed}, and a CA below it only for {below} (extended key usage), so that nothing is left; re-issue one of them"
    )]
    NoUsageLeft { ca: String, allowed: String, below: String },
    #[error(
        "the CA {ca} requires a certificate policy (policyConstraints), which is never written; re-issue it without requireExplicitPolicy"
    )]
    PolicyRequired { ca: String },
    #[error(
        "the certificate of the CA {ca} has a critical extension {oid}, for which clients refuse what it signs; re-issue it without, or not critical"
    )]
    UnknownCritical { ca: String, oid: String },
    #[error("the certificate of the CA {ca} is signed with {digest}, which clients refuse; re-issue it with SHA-256")]
    WeakSignature { ca: String, digest: &'static str },
    #[error("the CA {ca} has an RSA key of {bits} bits, which clients refuse; re-issue it with at least 2048")]
    WeakKey { ca: String, bits: usize },
    #[error("the CA {ca} may not sign {name}: {}; ask another CA, or change its name constraints", match .excluded_by { Some(subtree) => format!("its name constraints exclude {subtree:?}"), None => "it is in none of the subtrees that its name constraints permit".to_owned() })]
    NameNotPermitted {
        ca: String,
        name: String,
        excluded_by: Option<String>,
    },
    #[error("the certificate would end at {not_after}, before it starts at {not_before}; ask for a longer duration")]
    EmptyValidity {
        not_before: Timestamp,
        not_after: Timestamp,
    },
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the public key to certify is not usable: {0}")]
    PublicKey(#[source] KeyError),
    #[error("signing failed: {0}")]
    Signing(#[source] KeyError),
}

impl AuthorityError {
    /// The stable reason for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Certificate(error) | Self::Root(error) => error.reason(),
            Self::Key(error) | Self::PublicKey(error) | Self::Signing(error) => error.reason(),
            Self::NotAnAuthority { .. } => "NotACertificateAuthority",
            Self::MayNotSign { .. } => "MayNotSignCertificates",
            Self::Expired { .. } => "AuthorityExpired",
            Self::NotYetValid { .. } => "AuthorityNotYetValid",
            Self::PathTooShort { .. } => "PathLengthExceeded",
            Self::UsageNotPermitted { .. } | Self::NoUsageLeft { .. } => "UsageNotPermitted",
            Self::PolicyRequired { .. } => "PolicyRequired",
            Self::UnknownCritical { .. } => "UnknownCriticalExtension",
            Self::WeakSignature { .. } | Self::WeakKey { .. } => "WeakAuthority",
            Self::NameNotPermitted { .. } => "NameNotPermitted",
            Self::EmptyValidity { .. } => "InvalidDuration",
            Self::Request(error) => error.reason(),
        }
    }
}

/// URLs for relying parties about the CA (RFC 5280 §4.2.1.13, §4.2.2.1). In ASCII.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    pub crl_distribution_points: Vec<String>,
    pub ocsp_servers: Vec<String>,
    pub issuing_certificate_urls: Vec<String>,
}

/// A certificate with the CAs above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// DER of the certificate.
    pub leaf: Vec<u8>,
    /// DER of the intermediates, from the issuer upwards, without the root.
    pub intermediates: Arc<[Vec<u8>]>,
    /// DER of the root, when it is known.
    pub root: Option<Arc<Vec<u8>>>,
}

impl Issued {
    /// `tls.crt`: the leaf, then the intermediates.
    pub fn chain_pem(&self) -> String {
        certificates_pem(
            std::iter::once(&self.leaf)
                .chain(self.intermediates.iter())
                .map(Vec::as_slice),
        )
    }

    /// `ca.crt`, when the root is known.
    pub fn root_pem(&self) -> Option<String> {
        self.root.as_ref().map(|root| certificates_pem([root.as_slice()]))
    }
}

/// A CA that has been checked, ready to sign. Parsed once and kept: `Send`, `Sync`, shared by `Arc`.
#[derive(Debug)]
pub struct Authority {
    key: PrivateKey,
    certificate: Certificate,
    /// From the CA upwards with the root, for the constraints that bind everything below.
    path: Vec<Certificate>,
    key_identifier: Vec<u8>,
    intermediates: Arc<[Vec<u8>]>,
    root: Option<Arc<Vec<u8>>>,
}

impl Authority {
    /// Reads and checks a CA: its certificate with those above it, perhaps its root, and its key.
    pub fn load(
        chain_pem: &[u8],
        key_pem: &[u8],
        root_pem: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let key = PrivateKey::from_pem(key_pem).map_err(AuthorityError::Key)?;
        let mut pool = read_bundle(chain_pem).map_err(AuthorityError::Certificate)?;
        if let Some(root) = root_pem.filter(|pem| !pem.trim_ascii().is_empty()) {
            pool.extend(read_bundle(root).map_err(AuthorityError::Root)?);
        }
        without_expired(&mut pool, now);
        let chain = Chain::order(&pool, Some(&key)).map_err(AuthorityError::Certificate)?;
        let certificate = chain.leaf;
        let is_root = chain.root.as_ref() == Some(&certificate);
        let path: Vec<Certificate> = std::iter::once(certificate.clone())
            .chain(chain.intermediates.iter().cloned())
            .chain(chain.root.iter().filter(|_| !is_root).cloned())
            .collect();
        path::check(&path)?;
        let own = (!is_root).then(|| certificate.der.clone());
        let authority = Self {
            // An issuer without a subject key identifier gets one made up, which only serves to distinguish keys.
            key_identifier: certificate
                .subject_key_identifier
                .clone()
                .unwrap_or_else(|| identifier_of(&certificate.public_key)),
            intermediates: own
                .into_iter()
                .chain(chain.intermediates.into_iter().map(|certificate| certificate.der))
                .collect(),
            root: chain.root.map(|root| Arc::new(root.der)),
            key,
            certificate,
            path,
        };
        authority.check_time(now)?;
        Ok(authority)
    }

    /// The CA's own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The CA's certificate and those above it, with the root when it is known.
    pub fn path(&self) -> &[Certificate] {
        &self.path
    }

    /// The first moment at which one of the path has expired.
    pub fn not_after(&self) -> Timestamp {
        path::validity(&self.path).not_after
    }

    /// The only usages for which the path lets the CA issue, by name; `None` when there is no limit.
    pub fn only_for(&self) -> Option<String> {
        path::usages(&self.path).map(|usages| path::list(&usages))
    }

    /// Checks that every CA up to the root is valid at this moment; to be asked again as time goes by.
    pub fn check_time(&self, now: Timestamp) -> Result<(), AuthorityError> {
        path::check_time(&self.path, now)
    }

    /// Checks that every CA up to the root lets this one sign the request.
    pub fn check_request(&self, request: &CertificateRequest) -> Result<(), AuthorityError> {
        request.check()?;
        path::check_request(&self.path, request)
    }

    /// Signs a certificate for a public key (DER of its `SubjectPublicKeyInfo`). Its validity is
    /// cut to that of the whole path.
    pub fn sign(
        &self,
        request: &CertificateRequest,
        public_key: &[u8],
        validity: Validity,
        extras: &Extras,
    ) -> Result<Issued, AuthorityError> {
        self.check_request(request)?;
        super::KeyParameters::of_public_key(public_key).map_err(AuthorityError::PublicKey)?;
        let limits = path::validity(&self.path);
        path::check_time(&self.path, validity.not_before.max(limits.not_before))?;
        let validity = Validity {
            not_before: validity.not_before.max(limits.not_before),
            not_after: validity.not_after.min(limits.not_after),
        };
        let subject = name_der(Some(&request.subject), request.common_name.as_deref());
        let mut extensions = extensions(
            request,
            !request.has_subject(),
            &identifier_of(public_key),
            &self.key_identifier,
        );
        extensions.extend(extension::crl_distribution_points(&extras.crl_distribution_points));
        extensions.extend(extension::authority_info_access(
            &extras.ocsp_servers,
            &extras.issuing_certificate_urls,
        ));
        let leaf = body(
            &self.certificate.subject_der,
            &subject,
            validity,
            public_key,
            &extensions,
        )?
        .sign(&self.key)
        .map_err(AuthorityError::Signing)?;
        Ok(Issued {
            leaf,
            intermediates: Arc::clone(&self.intermediates),
            root: self.root.clone(),
        })
    }
}

/// Signs a certificate with the key that it is for, which makes it its own root.
///
/// An issuer must have a name (RFC 5280 §4.1.2.4): when the request has no subject, the first
/// alternative name of at most 64 characters becomes the common name.
pub fn self_sign(request: &CertificateRequest, key: &PrivateKey, validity: Validity) -> Result<Issued, AuthorityError> {
    request.check()?;
    let fallback = || {
        let addresses = request.ip_addresses.iter().map(ToString::to_string);
        let names = request.dns_names.iter().map(ToString::to_string).chain(addresses);
        names
            .chain(request.uris.iter().chain(&request.email_addresses).cloned())
            .find(|name| name.chars().count() <= 64)
    };
    let common_name = if request.has_subject() {
        request.common_name.clone()
    } else {
        fallback()
    };
    let name = name_der(Some(&request.subject), common_name.as_deref());
    let identifier = identifier_of(key.public_key_der());
    let extensions = extensions(
        request,
        !request.has_subject() && common_name.is_none(),
        &identifier,
        &identifier,
    );
    let leaf = body(&name, &name, validity, key.public_key_der(), &extensions)?
        .sign(key)
        .map_err(AuthorityError::Signing)?;
    Ok(Issued {
        root: Some(Arc::new(leaf.clone())),
        leaf,
        intermediates: Arc::new([]),
    })
}

/// Drops expired certificates of CAs whose renewed certificate, for the same name and key, is present, too: files often keep both.
fn without_expired(pool: &mut Vec<Certificate>, now: Timestamp) {
    let all = pool.clone();
    pool.retain(|one| {
        let renews = |other: &Certificate| {
            other.not_after >= now
                && other.not_before <= now
                && other.subject_name == one.subject_name
                && other.public_key == one.public_key
        };
        one.not_after >= now || !all.iter().any(renews)
    });
}

fn extensions(
    request: &CertificateRequest,
    subject_is_empty: bool,
    own_key: &[u8],
    issuer_key: &[u8],
) -> Vec<Extension> {
    let mut extensions = extension::of_request(request, subject_is_empty);
    extensions.push(extension::subject_key_identifier(own_key));
    extensions.push(extension::authority_key_identifier(issuer_key));
    extensions
}

fn body<'a>(
    issuer: &'a [u8],
    subject: &'a [u8],
    validity: Validity,
    public_key: &'a [u8],
    extensions: &'a [Extension],
) -> Result<Body<'a>, AuthorityError> {
    let Validity { not_before, not_after } = validity;
    if not_after <= not_before {
        return Err(AuthorityError::EmptyValidity { not_before, not_after });
    }
    let serial = SerialNumber::random().map_err(AuthorityError::Signing)?;
    Ok(Body {
        serial,
        issuer,
        validity,
        subject,
        public_key,
        extensions,
    })
}

fn identifier_of(public_key: &[u8]) -> Vec<u8> {
    use x509_parser::{asn1_rs::FromDer, x509::SubjectPublicKeyInfo};
    SubjectPublicKeyInfo::from_der(public_key).map_or_else(
        |_| key_identifier(public_key),
        |(_, info)| key_identifier(&info.subject_public_key.data),
    )
}

#[cfg(test)]
mod tests;
