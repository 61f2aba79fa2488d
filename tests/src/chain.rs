//! The last word of every scenario: the chain in the Secret verifies against the CA's root, names and all, and the key
//! is the leaf's.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime, pem::PemObject as _};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Content of a Secret that passed.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Leaf first.
    pub certificates: Vec<CertificateDer<'static>>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Lower-case hexadecimal, without leading zeros' sign byte.
    pub serial: String,
    /// `tls.crt` as written.
    pub pem: String,
    /// SPKI of the leaf, DER: changes when the key is rotated.
    pub public_key: Vec<u8>,
}

/// Panics unless the Secret is a `kubernetes.io/tls` one whose chain leads to one of `roots_pem`, is valid now for TLS
/// servers and for each of `names` (DNS names and IP addresses), and whose key is the leaf's.
pub fn assert_chain(secret: &Secret, roots_pem: &str, names: &[&str]) -> Chain {
    match verify(secret, roots_pem, names) {
        Ok(chain) => chain,
        Err(why) => panic!("Secret {}: {why}", secret.metadata.name.as_deref().unwrap_or("?")),
    }
}

/// [`assert_chain`] that says what is wrong instead.
pub fn verify(secret: &Secret, roots_pem: &str, names: &[&str]) -> Result<Chain, String> {
    if secret.type_.as_deref() != Some("kubernetes.io/tls") {
        return Err(format!("its type is {:?}", secret.type_));
    }
    let (certificate, key) = (entry(secret, "tls.crt")?, entry(secret, "tls.key")?);
    let certificates = pem_certificates(certificate)?;
    let leaf = certificates.first().ok_or("tls.crt holds no certificate")?;
    let roots = pem_certificates(roots_pem.as_bytes())?;
    let anchors = roots
        .iter()
        .map(|root| anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned()))
        .collect::<Result<Vec<TrustAnchor<'static>>, _>>()
        .map_err(|error| format!("the root: {error}"))?;

    let entity = EndEntityCert::try_from(leaf).map_err(|error| format!("the leaf: {error}"))?;
    let intermediates = certificates.get(1..).unwrap_or_default();
    entity
        .verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &anchors,
            intermediates,
            UnixTime::now(),
            KeyUsage::server_auth(),
            None,
            None,
        )
        .map_err(|error| format!("the chain of {}: {error}", certificates.len()))?;
    for name in names {
        // A wildcard is no name that a client connects to; ask for one that it covers.
        let covered = name.strip_prefix("*.").map(|rest| format!("any.{rest}"));
        let asked = covered.as_deref().unwrap_or(name);
        let subject = ServerName::try_from(asked).map_err(|error| format!("{name}: {error}"))?;
        entity
            .verify_is_valid_for_subject_name(&subject)
            .map_err(|error| format!("{name}: {error}"))?;
    }

    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("tls.key: {error}"))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|error| format!("tls.key: {error}"))?;
    CertifiedKey::new(certificates.clone(), key)
        .keys_match()
        .map_err(|error| format!("tls.key is not the leaf's: {error}"))?;

    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| format!("the leaf: {error}"))?;
    let time = |seconds: i64| Timestamp::from_second(seconds).map_err(|error| error.to_string());
    Ok(Chain {
        not_before: time(parsed.validity().not_before.timestamp())?,
        not_after: time(parsed.validity().not_after.timestamp())?,
        serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        public_key: parsed.public_key().raw.to_vec(),
        pem: String::from_utf8_lossy(certificate).into_owned(),
        certificates: certificates.clone(),
    })
}

/// An entry of a Secret, or what is missing.
pub fn entry<'a>(secret: &'a Secret, name: &str) -> Result<&'a [u8], String> {
    let data = secret.data.as_ref().and_then(|data| data.get(name));
    data.map(|bytes| bytes.0.as_slice()).ok_or_else(|| format!("no {name}"))
}

fn pem_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("PEM: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;
    use crate::pki::{Ca, new_key_pems};

    fn secret(certificate: String, key: String) -> Secret {
        let data = BTreeMap::from([
            ("tls.crt".to_owned(), ByteString(certificate.into_bytes())),
            ("tls.key".to_owned(), ByteString(key.into_bytes())),
        ]);
        Secret {
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }

    #[test]
    fn a_chain_passes_only_with_its_own_root_names_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, other) = (Ca::new("one").unwrap(), Ca::new("two").unwrap());
        let pair = ca.serving(folder.path(), "leaf").unwrap();
        let certificate = std::fs::read_to_string(pair.certificate).unwrap();
        let good = secret(certificate.clone(), std::fs::read_to_string(pair.key).unwrap());

        assert_eq!(
            verify(&good, &ca.pem(), &["localhost", "127.0.0.1"])
                .unwrap()
                .certificates
                .len(),
            1
        );
        assert!(
            verify(&good, &other.pem(), &["localhost"])
                .unwrap_err()
                .starts_with("the chain")
        );
        assert!(
            verify(&good, &ca.pem(), &["other.test"])
                .unwrap_err()
                .starts_with("other.test")
        );
        let swapped = secret(certificate, new_key_pems().unwrap().0);
        assert!(
            verify(&swapped, &ca.pem(), &["localhost"])
                .unwrap_err()
                .starts_with("tls.key is not")
        );
    }
}
