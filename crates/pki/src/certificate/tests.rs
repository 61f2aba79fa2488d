#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use proptest::prelude::*;

use super::*;
use crate::{
    Fidelity,
    samples::{everything, for_hours, leaf, named, p256},
    self_sign,
};

fn sample() -> Certificate {
    leaf(&self_sign(&named(&["a.example"]), &p256(), for_hours(1)).unwrap())
}

#[test]
fn the_ari_identifier_is_that_of_the_rfcs_example() {
    // RFC 9773 §4.1, appendix A.
    let mut certificate = sample();
    certificate.authority_key_identifier = Some(vec![
        0x69, 0x88, 0x5B, 0x6B, 0x87, 0x46, 0x40, 0x41, 0xE1, 0xB3, 0x7B, 0x84, 0x7B, 0xA0, 0xAE, 0x2C, 0xDE, 0x01,
        0xC8, 0xD4,
    ]);
    certificate.serial = vec![0x00, 0x87, 0x65, 0x43, 0x21];
    assert_eq!(
        certificate.ari_identifier().unwrap(),
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
    );
    certificate.authority_key_identifier = None;
    assert_eq!(certificate.ari_identifier(), None);
}

#[test]
fn serial_numbers_are_shown_as_openssl_shows_them() {
    let mut certificate = sample();
    for (serial, shown) in [
        (&[0x00, 0x87, 0x65][..], "8765"),
        (&[0x04, 0xc1], "04c1"),
        (&[0x00], "00"),
        (&[0x7f], "7f"),
    ] {
        certificate.serial = serial.to_vec();
        assert_eq!(certificate.serial_hex(), shown);
    }
}

#[test]
fn everything_that_was_written_is_read_back() {
    let key = p256();
    let certificate = leaf(&self_sign(&everything(), &key, for_hours(3)).unwrap());
    assert_eq!(certificate.common_name.as_deref(), Some("shop.example.com"));
    assert_eq!(certificate.issuer_common_name.as_deref(), Some("shop.example.com"));
    assert_eq!(
        certificate.key_usage,
        Some([Usage::DigitalSignature, Usage::KeyEncipherment].into())
    );
    assert_eq!(
        certificate.extended_key_usage,
        Some([Usage::ServerAuth, Usage::ClientAuth, Usage::IpsecUser].into())
    );
    assert_eq!(
        (certificate.is_ca, certificate.path_length, certificate.other_names),
        (false, None, 0)
    );
    assert_eq!(certificate.fingerprint_sha256().len(), 64);
    assert!(certificate.matches(&key) && !certificate.matches(&p256()));
}

#[test]
fn every_usage_is_written_and_read_back() {
    for usage in Usage::all() {
        let request = crate::CertificateRequest {
            usages: vec![usage],
            ..named(&["a.example"])
        };
        let key = p256();
        let certificate = leaf(&self_sign(&request, &key, for_hours(1)).unwrap());
        assert_eq!(
            certificate.satisfies(&request, key.parameters(), Fidelity::Exact),
            Ok(()),
            "{usage}"
        );
    }
}

#[test]
fn dates_from_2050_on_are_written_in_four_digits_and_read_back() {
    for (from, to) in [
        ("2026-01-01T00:00:00Z", "2049-12-31T23:59:59Z"),
        ("2049-12-31T23:59:59Z", "2050-01-01T00:00:00Z"),
        ("1999-12-31T00:00:00Z", "9999-12-29T23:59:59Z"),
    ] {
        let validity = crate::Validity {
            not_before: from.parse().unwrap(),
            not_after: to.parse().unwrap(),
        };
        let certificate = leaf(&self_sign(&named(&["a.example"]), &p256(), validity).unwrap());
        assert_eq!(
            (certificate.not_before, certificate.not_after),
            (validity.not_before, validity.not_after)
        );
    }
}

#[test]
fn the_date_that_means_no_expiry_is_read_as_the_last_moment_there_is() {
    let validity = crate::Validity {
        not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
        not_after: "9998-12-29T23:59:59Z".parse().unwrap(),
    };
    let mut der = leaf(&self_sign(&named(&["a.example"]), &p256(), validity).unwrap()).der;
    let at = der.windows(15).position(|window| window == b"99981229235959Z").unwrap();
    der[at..at + 15].copy_from_slice(b"99991231235959Z");
    assert_eq!(
        Certificate::from_der(&der).unwrap().not_after.as_second(),
        Timestamp::MAX.as_second()
    );
}

#[test]
fn damaged_certificates_are_refused_or_read_and_never_fail_otherwise() {
    let der = leaf(&self_sign(&everything(), &p256(), for_hours(1)).unwrap()).der;
    assert_eq!(
        Certificate::from_der(&[der.as_slice(), &[0]].concat()),
        Err(CertificateError::TrailingData)
    );
    for at in 0..der.len() {
        assert!(Certificate::from_der(&der[..at]).is_err());
        let mut damaged = der.clone();
        damaged[at] ^= 0x41;
        if let Ok(certificate) = Certificate::from_der(&damaged) {
            assert_ne!(certificate.is_signed_by(&certificate), Some(true));
        }
    }
}

proptest! {
    #[test]
    fn the_hex_of_a_serial_number_is_its_value(value in 1_u128..) {
        let bytes = value.to_be_bytes();
        let start = bytes.iter().position(|byte| *byte != 0).unwrap();
        let mut certificate = sample();
        certificate.serial = bytes[start..].to_vec();
        if certificate.serial[0] >= 0x80 {
            certificate.serial.insert(0, 0);
        }
        let hex = certificate.serial_hex();
        prop_assert_eq!(u128::from_str_radix(&hex, 16).unwrap(), value);
        prop_assert!(hex.len().is_multiple_of(2) && !hex.starts_with("00"));
        prop_assert_eq!(hex.to_lowercase(), hex);
    }
}
