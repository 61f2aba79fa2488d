#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use proptest::prelude::*;

use super::*;
use crate::pki::{
    Extras,
    samples::{for_hours, named, p256, two_tier},
};

#[test]
fn a_keystore_matches_its_own_content_and_password_only() {
    let (_, intermediate) = two_tier();
    let (key, other_key) = (p256(), p256());
    let issued = intermediate
        .authority()
        .sign(
            &named(&["a.example"]),
            key.public_key_der(),
            for_hours(1),
            &Extras::default(),
        )
        .unwrap();
    let chain = [vec![issued.leaf.clone()], issued.intermediates.to_vec()].concat();
    let authorities = [issued.root.as_deref().unwrap().clone()];
    let content = KeystoreContent {
        key: &key,
        chain: &chain,
        authorities: &authorities,
    };
    let file = jks_keystore(content, "pässword").unwrap();
    assert_ne!(file, jks_keystore(content, "pässword").unwrap(), "the salt is random");
    assert!(jks_keystore_matches(&file, content, "pässword"));
    assert!(!jks_keystore_matches(&file, content, "another"));
    assert!(!jks_keystore_matches(
        &file,
        KeystoreContent {
            key: &other_key,
            ..content
        },
        "pässword"
    ));
    assert!(!jks_keystore_matches(
        &file,
        KeystoreContent {
            chain: &chain[..1],
            ..content
        },
        "pässword"
    ));
    assert!(!jks_keystore_matches(
        &file,
        KeystoreContent {
            authorities: &[],
            ..content
        },
        "pässword"
    ));
    assert!(!jks_truststore_matches(&file, &authorities, "pässword"));

    let truststore = jks_truststore(&authorities, "pässword").unwrap();
    assert!(jks_truststore_matches(&truststore, &authorities, "pässword"));
    assert!(!jks_truststore_matches(&truststore, &chain, "pässword"));
    assert!(!jks_keystore_matches(&truststore, content, "pässword"));
}

#[test]
fn what_is_missing_is_said_and_damage_never_matches() {
    let key = p256();
    let issued = crate::pki::self_sign(&named(&["a.example"]), &key, for_hours(1)).unwrap();
    let chain = [issued.leaf];
    let content = KeystoreContent {
        key: &key,
        chain: &chain,
        authorities: &[],
    };
    let message = |result: Result<Vec<u8>, KeystoreError>| result.unwrap_err().to_string();
    assert!(message(jks_keystore(content, "")).contains("is empty"));
    assert!(message(jks_keystore(content, "12345")).contains("at least 6"));
    assert!(message(jks_keystore(KeystoreContent { chain: &[], ..content }, "secret")).contains("needs a certificate"));
    assert!(message(jks_truststore(&[], "secret")).contains("needs a CA"));
    let file = jks_keystore(content, "secret").unwrap();
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        assert!(!jks_keystore_matches(&damaged, content, "secret"));
        assert!(!jks_keystore_matches(&file[..at], content, "secret"));
    }
}

proptest! {
    /// The digest is right, so that the reader goes on to lengths and counts that are lies.
    #[test]
    fn lying_lengths_are_refused_without_failing(body in proptest::collection::vec(any::<u8>(), 0..200), counts in any::<[u8; 4]>()) {
        let mut file = [MAGIC.to_be_bytes().as_slice(), &VERSION.to_be_bytes(), &counts, &body].concat();
        let digest = sha1(&[&password_octets("secret"), WHITENER, &file]);
        file.extend_from_slice(digest.as_ref());
        prop_assert!(!jks_truststore_matches(&file, &[vec![1]], "secret"));
    }
}
