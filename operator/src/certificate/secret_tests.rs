#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::certificate::{
    decide::IssuanceReason,
    samples::{self, issued_at},
};

/// The body for a spec with `more`, without what is another each time: keys and certificates by their kind only.
fn written(more: &str) -> Value {
    let certificate = samples::certificate(more);
    let pair = samples::pair(&certificate, issued_at());
    let desired = samples::desired(&certificate);
    let notes = SecretAnnotations {
        issuer: Some("Issuer/ca".into()),
        cause: Some(IssuanceReason::First.as_str().into()),
        ari_identifier: None,
        issued_at: None,
        desired: &desired,
    };
    let mut body = body(&certificate, &pair, &Passwords::default(), &notes).unwrap();
    for value in body["data"].as_object_mut().unwrap().values_mut() {
        *value = kind(&STANDARD.decode(value.as_str().unwrap()).unwrap()).into();
    }
    let notes = body["metadata"]["annotations"].as_object_mut().unwrap();
    for (key, value, known) in [
        (names::SERIAL_NUMBER, "[serial]", pair.leaf().serial_hex()),
        (CHAIN_HASH, "[fingerprint]", pair.chain_hash()),
    ] {
        assert_eq!(notes.insert(key.into(), value.into()), Some(known.into()), "{key}");
    }
    body
}

fn kind(bytes: &[u8]) -> String {
    let begins = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("-----BEGIN"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    std::str::from_utf8(bytes).map_or_else(|_| "[binary]".into(), begins)
}

#[test]
fn a_plain_certificate() {
    insta::assert_yaml_snapshot!(written(""));
}

#[test]
fn everything_that_a_spec_can_add() {
    insta::assert_yaml_snapshot!(written(
        "privateKey: {encoding: PKCS1}\n\
         additionalOutputFormats: [{type: CombinedPEM}, {type: DER}]\n\
         secretDeletionPolicy: Delete\n\
         secretTemplate: {labels: {team: shop, app.kubernetes.io/managed-by: shop}, annotations: {reflect: 'true'}}"
    ));
}
