//! The keystores that a Certificate asks for, by their names in the Secret.

use gatehouse_crds::certificate::{Keystores, Pkcs12Profile as Profile};
use zeroize::Zeroizing;

use super::{
    failure::{Class, Failure},
    holding::Held,
    secret::Passwords,
};
use crate::pki::{
    chain::read_bundle,
    keystore::{
        KeystoreContent, KeystoreError, Pkcs12Profile, jks_keystore, jks_truststore, pkcs12_keystore, pkcs12_truststore,
    },
};

/// A name in the Secret, and its content.
type Keystore = (&'static str, Zeroizing<Vec<u8>>);

/// Makes them: names and contents. The creation time of JKS entries is the certificate's notBefore.
pub fn made(wanted: Option<&Keystores>, held: &Held, passwords: &Passwords) -> Result<Vec<Keystore>, Failure> {
    let mut made = Vec::new();
    let Some(wanted) = wanted else { return Ok(made) };
    let chain = held.chain.der();
    let authorities: Vec<Vec<u8>> = held
        .ca
        .as_deref()
        .and_then(|pem| read_bundle(pem.as_bytes()).ok())
        .unwrap_or_default()
        .into_iter()
        .map(|certificate| certificate.der)
        .collect();
    let content = KeystoreContent {
        key: &held.key,
        chain: &chain,
        authorities: &authorities,
    };
    if let (Some(pkcs12), Some(password)) = (&wanted.pkcs12, &passwords.pkcs12) {
        let profile = match pkcs12.profile.unwrap_or_default() {
            Profile::Modern2023 => Pkcs12Profile::Modern2023,
            Profile::LegacyDES => Pkcs12Profile::LegacyDES,
            Profile::LegacyRC2 => Pkcs12Profile::LegacyRC2,
        };
        made.push((
            "keystore.p12",
            Zeroizing::new(pkcs12_keystore(content, password, profile).map_err(failure)?),
        ));
        if !authorities.is_empty() {
            made.push((
                "truststore.p12",
                Zeroizing::new(pkcs12_truststore(&authorities, password, profile).map_err(failure)?),
            ));
        }
    }
    if let (Some(_), Some(password)) = (&wanted.jks, &passwords.jks) {
        made.push((
            "keystore.jks",
            Zeroizing::new(jks_keystore(content, password).map_err(failure)?),
        ));
        if !authorities.is_empty() {
            made.push((
                "truststore.jks",
                Zeroizing::new(jks_truststore(&authorities, password).map_err(failure)?),
            ));
        }
    }
    Ok(made)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failure(error: KeystoreError) -> Failure {
    Failure::new(
        Class::Waiting(std::time::Duration::from_secs(60)),
        "KeystoreFailed",
        error.to_string(),
    )
}
