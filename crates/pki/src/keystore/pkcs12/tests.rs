#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use crate::samples::{for_hours, named, p256};

#[test]
fn what_is_missing_is_said_and_salts_are_random() {
    let key = p256();
    let issued = crate::self_sign(&named(&["a.example"]), &key, for_hours(1)).unwrap();
    let chain = [issued.leaf];
    let content = KeystoreContent {
        key: &key,
        chain: &chain,
        authorities: &chain,
    };
    let nothing = KeystoreContent { chain: &[], ..content };
    let profile = Pkcs12Profile::Modern2023;
    let reason = |result: Result<Vec<u8>, KeystoreError>| result.unwrap_err().reason();
    assert_eq!(reason(pkcs12_keystore(content, "", profile)), "InvalidKeystorePassword");
    assert_eq!(reason(pkcs12_keystore(nothing, "pw", profile)), "InvalidCertificate");
    assert_eq!(reason(pkcs12_truststore(&[], "pw", profile)), "NoAuthority");
    let write = || pkcs12_keystore(content, "pw", profile).unwrap();
    assert_ne!(write(), write());
}

#[test]
fn a_certificate_that_is_in_the_chain_and_a_ca_stands_there_once() {
    let key = p256();
    let (one, other) = (vec![1], vec![2]);
    let content = KeystoreContent {
        key: &key,
        chain: &[one.clone(), other.clone()],
        authorities: std::slice::from_ref(&other),
    };
    assert_eq!(certificates(&content), [one, other.clone()]);
}
