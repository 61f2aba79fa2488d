//! Signatures by Standard Webhooks 1.0.0, scheme `v1`: a receiver knows who sends, what and when.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use zeroize::Zeroizing;

const PREFIX: &str = "whsec_";

/// Length of a key in bytes.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// More would not be a rotation, and each makes the header longer.
const MAX_KEYS: usize = 8;

/// Some generators leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why keys cannot be used, in words after "is refused:". Says which by its place, and nothing of what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is empty; write one key whsec_<base64 of 24 to 64 bytes>, or several separated by white space")]
    None,
    #[error("it has {0} keys; {MAX_KEYS} at most sign")]
    TooMany(usize),
    #[error("key {0} is for signatures v1a, which Gatehouse does not make; write whsec_<base64 of 24 to 64 bytes>")]
    Asymmetric(usize),
    #[error("key {0} does not begin with whsec_; write whsec_<base64 of 24 to 64 bytes>")]
    NoPrefix(usize),
    #[error("key {0} is not base64 after whsec_")]
    NotBase64(usize),
    #[error("key {place} has {bytes} bytes; write one of 24 to 64")]
    Length { place: usize, bytes: usize },
}

/// One key, or the old and the new while they change. aws-lc wipes them when dropped.
pub struct SigningKeys(Vec<hmac::Key>);

impl SigningKeys {
    /// `whsec_…` keys separated by white space, in the order in which they will sign.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let keys = text.split_whitespace().zip(1..).map(|(key, place)| parse(key, place));
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(KeyError::None),
            1..=MAX_KEYS => Ok(Self(keys)),
            many => Err(KeyError::TooMany(many)),
        }
    }

    /// The value of `webhook-signature` for a message sent at `time`: each key's signature.
    pub fn sign(&self, id: &str, time: Timestamp, body: &[u8]) -> String {
        let head = format!("{id}.{}.", time.as_second());
        let signatures = self.0.iter().map(|key| {
            let mut context = hmac::Context::with_key(key);
            context.update(head.as_bytes());
            context.update(body);
            format!("v1,{}", BASE64.encode(context.sign()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

fn parse(key: &str, place: usize) -> Result<hmac::Key, KeyError> {
    if key.starts_with("whsk_") || key.starts_with("whpk_") {
        return Err(KeyError::Asymmetric(place));
    }
    let encoded = key.strip_prefix(PREFIX).ok_or(KeyError::NoPrefix(place))?;
    let bytes = Zeroizing::new(BASE64.decode(encoded).map_err(|_| KeyError::NotBase64(place))?);
    if !LENGTH.contains(&bytes.len()) {
        return Err(KeyError::Length {
            place,
            bytes: bytes.len(),
        });
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// From the tests of the specification's own libraries.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn at() -> Timestamp {
        Timestamp::from_second(1_614_265_330).unwrap()
    }

    #[test]
    fn the_specifications_message_gets_the_specifications_signature() {
        assert_eq!(SigningKeys::parse(KEY).unwrap().sign(ID, at(), BODY), SIGNATURE);
    }

    #[test]
    fn while_keys_change_each_signs_in_its_order() {
        let other = format!("whsec_{}", BASE64.encode([7; 64]));
        let alone = SigningKeys::parse(&other).unwrap().sign(ID, at(), BODY);
        let both = SigningKeys::parse(&format!("\n {other}\t\n{KEY}\n")).unwrap();
        assert_eq!(both.sign(ID, at(), BODY), format!("{alone} {SIGNATURE}"));
        assert_eq!(format!("{both:?}"), "SigningKeys(2)");
    }

    #[test]
    fn every_part_of_the_message_is_signed() {
        let keys = SigningKeys::parse(KEY).unwrap();
        let later = Timestamp::from_second(1_614_265_331).unwrap();
        for (id, time, body) in [
            ("msg_other", at(), BODY),
            (ID, later, BODY),
            (ID, at(), b"{}".as_slice()),
        ] {
            assert_ne!(keys.sign(id, time, body), SIGNATURE);
        }
    }

    #[test]
    fn a_key_that_cannot_sign_is_refused_by_its_place_and_never_shown() {
        let of = |bytes: usize| format!("whsec_{}", BASE64.encode(vec![9; bytes]));
        let length = |place, bytes| KeyError::Length { place, bytes };
        let table = [
            (" \n".to_owned(), KeyError::None),
            ([KEY; 9].join(" "), KeyError::TooMany(9)),
            (format!("{KEY} whsk_AAAA"), KeyError::Asymmetric(2)),
            ("hunter2".to_owned(), KeyError::NoPrefix(1)),
            ("whsec_hunter2!".to_owned(), KeyError::NotBase64(1)),
            (of(23), length(1, 23)),
            (format!("{KEY}\n{}", of(65)), length(2, 65)),
        ];
        for (text, expected) in table {
            let error = SigningKeys::parse(&text).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        for bytes in [24, 64] {
            assert!(SigningKeys::parse(&of(bytes)).is_ok(), "{bytes}");
        }
        assert!(SigningKeys::parse(of(25).trim_end_matches('=')).is_ok());
    }
}
