//! The keystores that a Certificate asks for, by their names in the Secret.

use std::collections::BTreeMap;

use gatehouse_crds::{
    certificate::{Keystores, Pkcs12Profile as Profile},
    secret_ref::SecretKeySelector,
};
use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    desired::hash,
    failure::{Class, Failure},
    observed_secret::KeyPair,
    secret::Passwords,
};
use crate::pki::{
    chain::read_bundle,
    keystore::{
        KeystoreContent, KeystoreError, Pkcs12Profile, jks_keystore, jks_opens, jks_truststore, pkcs12_keystore,
        pkcs12_opens, pkcs12_truststore,
    },
};

/// A name in the Secret, and its content.
type Keystore = (&'static str, Zeroizing<Vec<u8>>);

/// Makes them: names and contents. The creation time of JKS entries is the certificate's notBefore.
pub fn made(desired: Option<&Keystores>, pair: &KeyPair, passwords: &Passwords) -> Result<Vec<Keystore>, Failure> {
    let mut made = Vec::new();
    let Some(desired) = desired else { return Ok(made) };
    let chain = pair.chain.der();
    let authorities: Vec<Vec<u8>> = pair
        .ca
        .as_deref()
        .and_then(|pem| read_bundle(pem.as_bytes()).ok())
        .unwrap_or_default()
        .into_iter()
        .map(|certificate| certificate.der)
        .collect();
    let content = KeystoreContent {
        key: &pair.key,
        chain: &chain,
        authorities: &authorities,
    };
    if let (Some(pkcs12), Some(password)) = (&desired.pkcs12, &passwords.pkcs12) {
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
    if let (Some(_), Some(password)) = (&desired.jks, &passwords.jks) {
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

/// The keystores that are wanted, each with where its password is.
pub fn password_refs(desired: Option<&Keystores>) -> [Option<&SecretKeySelector>; 2] {
    let pkcs12 = desired.and_then(|desired| desired.pkcs12.as_ref());
    let jks = desired.and_then(|desired| desired.jks.as_ref());
    [
        pkcs12
            .filter(|pkcs12| pkcs12.create)
            .map(|pkcs12| &pkcs12.password_secret_ref),
        jks.filter(|jks| jks.create).map(|jks| &jks.password_secret_ref),
    ]
}

/// Fingerprint of the Secrets that passwords come from: name, UID and version of each. It says nothing of the passwords.
pub fn passwords_mark<'a>(secrets: impl Iterator<Item = &'a ObjectMeta>) -> String {
    let secrets: Vec<_> = secrets
        .map(|meta| json!([meta.name, meta.uid, meta.resource_version]))
        .collect();
    hash(&json!(secrets))
}

/// Whether the keystores that are in the Secret open with the passwords as they are now.
pub fn open(data: &BTreeMap<String, ByteString>, passwords: &Passwords) -> bool {
    let opens = |name: &str, password: Option<&Zeroizing<String>>, open: fn(&[u8], &str) -> bool| {
        password.is_none_or(|password| data.get(name).is_some_and(|content| open(&content.0, password)))
    };
    opens("keystore.p12", passwords.pkcs12.as_ref(), pkcs12_opens)
        && opens("keystore.jks", passwords.jks.as_ref(), jks_opens)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failure(error: KeystoreError) -> Failure {
    Failure::new(
        Class::Waiting(std::time::Duration::from_secs(60)),
        "KeystoreFailed",
        error.to_string(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::certificate::samples;

    #[test]
    fn keystores_open_with_the_passwords_that_they_were_made_with_and_no_others() {
        let passwords = |pkcs12: &str, jks: &str| Passwords {
            pkcs12: Some(Zeroizing::new(pkcs12.into())),
            jks: Some(Zeroizing::new(jks.into())),
            mark: None,
        };
        for profile in ["Modern2023", "LegacyDES", "LegacyRC2"] {
            let certificate = samples::certificate(&format!(
                "keystores: {{pkcs12: {{create: true, profile: {profile}, passwordSecretRef: {{name: p, key: k}}}}, \
                 jks: {{create: true, passwordSecretRef: {{name: p, key: k}}}}}}"
            ));
            let pair = samples::pair(&certificate, samples::issued_at());
            let keystores = certificate.spec.keystores.as_ref();
            let data: BTreeMap<_, _> = made(keystores, &pair, &passwords("secret", "changeit"))
                .unwrap()
                .into_iter()
                .map(|(name, content)| (name.to_owned(), ByteString(content.to_vec())))
                .collect();
            assert!(open(&data, &passwords("secret", "changeit")), "{profile}");
            assert!(!open(&data, &passwords("other!", "changeit")), "{profile}");
            assert!(!open(&data, &passwords("secret", "changed!")), "{profile}");
            assert!(open(&data, &Passwords::default()), "none is wanted");
            assert!(!open(&BTreeMap::new(), &passwords("secret", "changeit")));
            let junk = data
                .keys()
                .map(|name| (name.clone(), ByteString(b"junk".to_vec())))
                .collect();
            assert!(!open(&junk, &passwords("secret", "changeit")));
        }
    }

    #[test]
    fn the_mark_of_passwords_changes_with_each_version_of_their_secrets() {
        let secret = |uid: &str, version: &str| ObjectMeta {
            name: Some("p".into()),
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        };
        let mark = |uid, version| passwords_mark([secret(uid, version)].iter());
        assert_eq!(mark("a", "1"), mark("a", "1"));
        assert_ne!(mark("a", "1"), mark("a", "2"));
        assert_ne!(mark("a", "1"), mark("b", "1"));
    }
}
