#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;

const FAST: [KeyParameters; 5] = [
    KeyParameters::Rsa(RsaSize::Bits2048),
    KeyParameters::Ecdsa(Curve::P256),
    KeyParameters::Ecdsa(Curve::P384),
    KeyParameters::Ecdsa(Curve::P521),
    KeyParameters::Ed25519,
];

fn assert_round_trips(parameters: KeyParameters) {
    let key = PrivateKey::generate(parameters).unwrap();
    assert_eq!(key.parameters(), parameters);
    assert_eq!(KeyParameters::of_public_key(key.public_key_der()).unwrap(), parameters);
    for (encoding, label) in [
        (KeyEncoding::Pkcs8, "PRIVATE KEY"),
        (
            KeyEncoding::Pkcs1,
            match parameters {
                KeyParameters::Rsa(_) => "RSA PRIVATE KEY",
                KeyParameters::Ecdsa(_) => "EC PRIVATE KEY",
                KeyParameters::Ed25519 => "PRIVATE KEY",
            },
        ),
    ] {
        let pem = key.to_pem(encoding).unwrap();
        assert_eq!(pem::sections(pem.as_bytes()).unwrap()[0].label, label);
        let read = PrivateKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(read.parameters(), parameters);
        assert_eq!(read.pkcs8_der(), key.pkcs8_der());
        assert_eq!(read.public_key_der(), key.public_key_der());
        assert_eq!(read.to_der(encoding).unwrap(), key.to_der(encoding).unwrap());
    }
}

#[test]
fn every_key_reads_back_from_every_encoding() {
    FAST.into_iter().for_each(assert_round_trips);
    assert_round_trips(KeyParameters::Rsa(RsaSize::Bits3072));
    assert_round_trips(KeyParameters::Rsa(RsaSize::Bits4096));
}

#[test]
fn two_keys_are_never_the_same() {
    for parameters in FAST {
        let (one, other) = (
            PrivateKey::generate(parameters).unwrap(),
            PrivateKey::generate(parameters).unwrap(),
        );
        assert_ne!(one.pkcs8_der(), other.pkcs8_der());
        assert_ne!(one.public_key_der(), other.public_key_der());
    }
}

#[test]
fn debug_output_and_errors_show_no_part_of_a_key() {
    for parameters in FAST {
        let key = PrivateKey::generate(parameters).unwrap();
        let shown = format!("{key:?} {key:#?}");
        assert_eq!(
            format!("{key:?}"),
            format!("PrivateKey {{ parameters: {parameters:?}, .. }}")
        );
        let secret = key.pkcs8_der();
        let hex = crate::certificate::hex(secret);
        // Past the algorithm identifier, where the secret part begins.
        assert!(!shown.contains(&STANDARD.encode(secret)[40..60]) && !shown.contains(&hex[70..90]));

        // A key cut short is the likeliest to end up quoted in an error.
        let pem = key.to_pem(KeyEncoding::Pkcs8).unwrap();
        let body: Vec<&str> = pem.lines().collect();
        let cut = format!("{}\n{}\n{}\n", body[0], &body[1][..40], body[body.len() - 1]);
        let error = PrivateKey::from_pem(cut.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&body[1][10..40]));
    }
}

#[test]
fn what_is_no_key_is_told_apart_from_a_broken_one() {
    let section = |label: &str| pem_section(label, b"\x30\x03\x02\x01\x00").to_string();
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for (pem, says, reason) in [
        (String::new(), "no PEM section", "InvalidPrivateKey"),
        ("hello".to_owned(), "no PEM section", "InvalidPrivateKey"),
        ("0\u{3}".to_owned(), "is DER", "InvalidPrivateKey"),
        (
            section("CERTIFICATE"),
            "a certificate, not a private key",
            "InvalidPrivateKey",
        ),
        (section("PUBLIC KEY"), "a public key, not", "InvalidPrivateKey"),
        (
            section("CERTIFICATE REQUEST"),
            "a certificate request, not",
            "InvalidPrivateKey",
        ),
        (section("OPENSSH PRIVATE KEY"), "ssh-keygen", "InvalidPrivateKey"),
        (section("ENCRYPTED PRIVATE KEY"), "is encrypted", "EncryptedPrivateKey"),
        (legacy.to_owned(), "is encrypted", "EncryptedPrivateKey"),
        (section("PRIVATE KEY"), "malformed", "InvalidPrivateKey"),
        (section("RSA PRIVATE KEY"), "malformed", "InvalidPrivateKey"),
        (section("EC PRIVATE KEY"), "P-256", "InvalidPrivateKey"),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n".to_owned(),
            "line 1: the section \"PRIVATE KEY\" that begins here has no END line",
            "InvalidPrivateKey",
        ),
        (
            format!("{}{}", section("PRIVATE KEY"), *pem_section("PRIVATE KEY", b"other")),
            "several private keys, at lines 1 and 4",
            "InvalidPrivateKey",
        ),
    ] {
        let error = PrivateKey::from_pem(pem.as_bytes()).expect_err(&pem);
        assert!(error.to_string().contains(says), "{pem}: {error}");
        assert_eq!(error.reason(), reason, "{pem}");
    }
}

#[test]
fn a_key_is_found_behind_a_certificate_and_curve_parameters() {
    let key = PrivateKey::generate(KeyParameters::Ecdsa(Curve::P384)).unwrap();
    let pem = format!(
        "{}{}{}",
        *pem_section("CERTIFICATE", b"x"),
        *pem_section("EC PARAMETERS", b"\x06\x05\x2b\x81\x04\x00\x22"),
        *key.to_pem(KeyEncoding::Pkcs1).unwrap()
    );
    assert_eq!(
        PrivateKey::from_pem(pem.as_bytes()).unwrap().pkcs8_der(),
        key.pkcs8_der()
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_fail_otherwise_than_by_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = PrivateKey::from_pem(&bytes);
        let _ = PrivateKey::from_pkcs8_der(&bytes);
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let _ = PrivateKey::from_pem(pem_section(label, &bytes).as_bytes());
        }
    }
}
