#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use crate::samples::{for_hours, named, p256};

#[test]
fn what_is_missing_is_said_and_the_salt_is_random() {
    let key = p256();
    let issued = crate::self_sign(&named(&["a.example"]), &key, for_hours(1)).unwrap();
    let chain = [issued.leaf];
    let content = KeystoreContent {
        key: &key,
        chain: &chain,
        authorities: &[],
    };
    let nothing = KeystoreContent { chain: &[], ..content };
    let message = |result: Result<Vec<u8>, KeystoreError>| result.unwrap_err().to_string();
    assert!(message(jks_keystore(content, "")).contains("is empty"));
    assert!(message(jks_keystore(content, "12345")).contains("at least 6"));
    assert!(message(jks_keystore(nothing, "secret")).contains("needs a certificate"));
    assert!(message(jks_truststore(&[], "secret")).contains("needs a CA"));
    let write = || jks_keystore(content, "secret").unwrap();
    assert_ne!(write(), write());
}
