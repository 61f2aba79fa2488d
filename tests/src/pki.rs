//! Certificates of the components themselves: a CA for the loopback, and what it signs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivatePkcs8KeyDer;
use time::{Duration, OffsetDateTime};
use tokio_rustls::TlsAcceptor;

use crate::error::{Doing as _, Error};

/// A certificate authority that lives as long as a test.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Two PEM files.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Ca {
    /// A P-256 root, valid for a day.
    pub fn new(name: &str) -> Result<Self, Error> {
        let mut params = dated(name, Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, new_key()?)?,
        })
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The CA's private key, PKCS#8 PEM: what a CA issuer's Secret holds.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Writes the CA's certificate.
    pub fn write(&self, folder: &Path, name: &str) -> Result<PathBuf, Error> {
        let file = folder.join(format!("{name}.crt"));
        write_private(&file, &self.pem())?;
        Ok(file)
    }

    /// Signs and writes a server certificate for 127.0.0.1 and localhost.
    pub fn serving(&self, folder: &Path, name: &str) -> Result<Pair, Error> {
        let (certificate, key) = self.server(name)?;
        let pair = Pair {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        };
        write_private(&pair.certificate, &certificate.pem())?;
        write_private(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }

    /// A certificate for a client of that name and its key, both PEM.
    pub fn client(&self, name: &str) -> Result<(String, String), Error> {
        let (certificate, key) = self.signed(dated(name, Vec::new())?, ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// For a server of HTTP/1.1 on 127.0.0.1; with `clients`, it demands a certificate that they signed.
    pub fn acceptor(&self, clients: Option<&Self>) -> Result<TlsAcceptor, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.issuer.der().clone()).expect("our own root");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .expect("a root");
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (certificate, key) = self.server("acceptor")?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = builder
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .expect("our own pair");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn server(&self, name: &str) -> Result<(Certificate, KeyPair), Error> {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        self.signed(dated(name, names)?, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn signed(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<(Certificate, KeyPair), Error> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = new_key()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate, key))
    }
}

/// A P-256 key: private as PKCS#8 PEM, public as SPKI PEM.
pub fn new_key_pems() -> Result<(String, String), Error> {
    let key = new_key()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn new_key() -> Result<KeyPair, Error> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

/// rcgen's own validity runs for millennia, its own name is "rcgen self signed cert".
fn dated(name: &str, names: Vec<String>) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::minutes(5);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(1);
    Ok(params)
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(file: &Path, text: &str) -> Result<(), Error> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut out| out.write_all(text.as_bytes()))
        .doing(format!("writing {}", file.display()))
}
