//! Trust in the other end, and our own identity.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use gatehouse_pki::{PrivateKey, chain::read_bundle};

/// Why TLS is not possible. Holds nothing of what was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the system's roots: {0}")]
    Platform(String),
    #[error("{0}")]
    Certificates(String),
    #[error("it holds no certificate that can be used")]
    NoCertificate,
    #[error("a certificate cannot be a root: {0}")]
    NoRoot(String),
    #[error("{0}")]
    Key(String),
    #[error("the private key cannot be used")]
    BadKey,
    #[error("the first certificate is not the private key's")]
    KeyMismatch,
    #[error("{0}")]
    Provider(String),
}

/// The roots that the other end's certificate must chain to. Cheap to clone.
#[derive(Clone)]
pub struct Trust(Arc<dyn ServerCertVerifier>);

impl Trust {
    /// Those of the platform. They are read from the disk: keep the result.
    pub fn platform() -> Result<Self, TlsError> {
        let verifier = rustls_platform_verifier::Verifier::new(provider())
            .map_err(|error| TlsError::Platform(error.to_string()))?;
        Ok(Self(Arc::new(verifier)))
    }

    /// Those of a bundle in PEM alone.
    pub fn bundle(pem: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem)? {
            roots
                .add(certificate)
                .map_err(|error| TlsError::NoRoot(error.to_string()))?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| TlsError::NoRoot(error.to_string()))?;
        Ok(Self(verifier))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

/// A certificate of ours with its key, for servers that ask who we are.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// The leaf comes first in `certificates`; both are PEM.
    pub fn new(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = self::certificates(certificates)?;
        let key = PrivateKey::from_pem(key).map_err(|error| TlsError::Key(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from(key.pkcs8_der().to_vec()).into();
        let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::KeyMismatch,
            rustls::Error::InvalidCertificate(_) => TlsError::NoCertificate,
            _ => TlsError::BadKey,
        })?;
        Ok(Self(Arc::new(pair)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = read_bundle(pem).map_err(|error| TlsError::Certificates(error.to_string()))?;
    Ok(read.into_iter().map(|certificate| certificate.der.into()).collect())
}

/// For a client of ours, without ALPN, which the connector adds.
pub fn config(trust: &Trust, identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Provider(error.to_string()))?
        // "Dangerous" as any verifier may be put there: this one is the platform's or webpki's.
        .dangerous()
        .with_custom_certificate_verifier(trust.0.clone());
    Ok(match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.0.clone()))),
        None => builder.with_no_client_auth(),
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
