//! The account's key, and the binding to an account at the CA's web site.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::error::AcmeError;

/// An account's private key.
///
/// We make P-256; P-384 and RSA of 2048 to 4096 bits are read too, so that an account that cert-manager made (RSA by default) moves over with its Secret.
/// aws-lc clears the key's memory when it is dropped.
pub struct AccountKey {
    pair: Pair,
    jwk: Value,
    thumbprint: String,
}

enum Pair {
    Ec(&'static str, EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountKey({})", self.thumbprint)
    }
}

impl AccountKey {
    /// A new P-256 key, and its PKCS#8 PEM to store before the account is made.
    pub fn generate() -> Result<(Self, Zeroizing<String>), AcmeError> {
        let failed = |_| AcmeError::Invalid("cannot generate a key".to_owned());
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        let der = Zeroizing::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec());
        let text = Zeroizing::new(base64::prelude::BASE64_STANDARD.encode(&*der));
        let mut pem = Zeroizing::new(String::with_capacity(text.len() + 80));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, tail) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = tail;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok((Self::ec("P-256", "ES256", pair)?, pem))
    }

    /// Reads PKCS#8, SEC1 or PKCS#1 in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AcmeError> {
        // No word of the input in the error: it is a key.
        let unfit = || {
            AcmeError::Invalid(
                "the account key must be a P-256, P-384 or RSA (2048 to 4096 bits) private key in PEM".to_owned(),
            )
        };
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| unfit())?;
        let bytes = der.secret_der();
        let p256 = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let p384 = &ECDSA_P384_SHA384_FIXED_SIGNING;
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(p256, bytes) {
            return Self::ec("P-256", "ES256", pair);
        }
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(p384, bytes) {
            return Self::ec("P-384", "ES384", pair);
        }
        let pair = RsaKeyPair::from_pkcs8(bytes)
            .or_else(|_| RsaKeyPair::from_der(bytes))
            .map_err(|_| unfit())?;
        if !(256..=512).contains(&pair.public_modulus_len()) {
            return Err(unfit());
        }
        Ok(Self::rsa(pair))
    }

    fn ec(curve: &str, algorithm: &'static str, pair: EcdsaKeyPair) -> Result<Self, AcmeError> {
        // SEC1 §2.3.3: 4, x, y.
        let broken = || AcmeError::Invalid("the account key has no public key".to_owned());
        let point = pair.public_key().as_ref();
        let (_, coordinates) = point.split_first().ok_or_else(broken)?;
        let (x, y) = coordinates.split_at(coordinates.len() / 2);
        let (x, y) = (encode(x), encode(y));
        let jwk = json!({"crv": curve, "kty": "EC", "x": x, "y": y});
        let canonical = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok(Self {
            thumbprint: thumbprint(&canonical),
            pair: Pair::Ec(algorithm, pair),
            jwk,
        })
    }

    fn rsa(pair: RsaKeyPair) -> Self {
        let public = pair.public_key();
        let n = encode(public.modulus().big_endian_without_leading_zero());
        let e = encode(public.exponent().big_endian_without_leading_zero());
        let jwk = json!({"e": e, "kty": "RSA", "n": n});
        let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
        Self {
            thumbprint: thumbprint(&canonical),
            pair: Pair::Rsa(Box::new(pair)),
            jwk,
        }
    }

    /// Returns PKCS#8 in DER for instant-acme, which supports P-256 alone; for any other key a substitute, and true: its signatures are to be replaced.
    pub(super) fn for_instant_acme(&self) -> Result<(Zeroizing<Vec<u8>>, bool), AcmeError> {
        let failed = |_| AcmeError::Invalid("the account key cannot be written as PKCS#8".to_owned());
        let written = |pair: &EcdsaKeyPair| Ok(Zeroizing::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()));
        match &self.pair {
            Pair::Ec("ES256", pair) => Ok((written(pair)?, false)),
            Pair::Ec(..) | Pair::Rsa(_) => {
                let stand_in = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
                Ok((written(&stand_in)?, true))
            }
        }
    }

    /// RFC 7638, base64url.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// RFC 8555 §8.1: what a challenge's answer is made of.
    pub fn key_authorization(&self, token: &str) -> String {
        format!("{token}.{}", self.thumbprint)
    }

    pub(super) fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// RFC 7518 §3.1.
    pub(super) fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Ec(algorithm, _) => algorithm,
            Pair::Rsa(_) => "RS256",
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AcmeError> {
        let failed = |_| AcmeError::Invalid("the account key cannot sign".to_owned());
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(_, pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// An external account binding (RFC 8555 §7.3.4), with HS256 as every CA has it.
pub struct Eab {
    pub key_id: String,
    key: hmac::Key,
}

impl fmt::Debug for Eab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Eab({})", self.key_id)
    }
}

impl Eab {
    /// `key` is the text that the CA shows: base64url or standard, padded or not.
    pub fn new(key_id: &str, key: &[u8]) -> Result<Self, AcmeError> {
        let invalid = |what: &str| AcmeError::Invalid(format!("the external account binding's {what}"));
        let key_id = key_id.trim();
        if key_id.is_empty() {
            return Err(invalid("keyID is empty"));
        }
        let text: Zeroizing<Vec<u8>> = Zeroizing::new(
            key.iter()
                .filter(|byte| !byte.is_ascii_whitespace())
                .map(|byte| match byte {
                    b'+' => b'-',
                    b'/' => b'_',
                    other => *other,
                })
                .collect(),
        );
        let engine = GeneralPurpose::new(
            &URL_SAFE,
            GeneralPurposeConfig::new()
                .with_decode_padding_mode(DecodePaddingMode::Indifferent)
                .with_decode_allow_trailing_bits(true),
        );
        let raw = engine
            .decode(&*text)
            .map(Zeroizing::new)
            .map_err(|_| invalid("key is not base64"))?;
        if raw.is_empty() {
            return Err(invalid("key is empty"));
        }
        Ok(Self {
            key_id: key_id.to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &raw),
        })
    }

    /// The `externalAccountBinding` member: the account's public key, signed with the CA's.
    pub(super) fn bind(&self, account: &AccountKey, new_account: &str) -> Value {
        let header = json!({"alg": "HS256", "kid": self.key_id, "url": new_account});
        let protected = encode(header.to_string().as_bytes());
        let payload = encode(account.jwk().to_string().as_bytes());
        let tag = hmac::sign(&self.key, format!("{protected}.{payload}").as_bytes());
        json!({"protected": protected, "payload": payload, "signature": encode(tag.as_ref())})
    }
}

/// base64url without padding (RFC 8555 §6.1).
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// base64url of the SHA-256 of `text`: a thumbprint, or the TXT value of DNS-01 (§8.4).
pub(super) fn thumbprint(text: &str) -> String {
    encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    };
    use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};

    use super::*;

    fn verifies(key: &AccountKey, algorithm: &'static dyn VerificationAlgorithm) -> bool {
        let public = match &key.pair {
            Pair::Ec(_, pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
        };
        let signature = key.sign(b"message").unwrap();
        UnparsedPublicKey::new(algorithm, public)
            .verify(b"message", &signature)
            .is_ok()
    }

    #[test]
    fn a_generated_key_is_read_back_from_its_pem_as_the_same_key() {
        let (key, pem) = AccountKey::generate().unwrap();
        let again = AccountKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(key.thumbprint(), again.thumbprint());
        assert_eq!(again.algorithm(), "ES256");
        assert!(verifies(&again, &ECDSA_P256_SHA256_FIXED));
        assert!(
            pem.lines().all(|line| line.len() <= 64),
            "{} lines",
            pem.lines().count()
        );
    }

    #[test]
    fn keys_that_others_made_are_read_too() {
        let p384 = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let key = AccountKey::from_pem(p384.serialize_pem().as_bytes()).unwrap();
        assert_eq!(key.algorithm(), "ES384");
        assert!(verifies(&key, &ECDSA_P384_SHA384_FIXED));
        let rsa = rcgen::KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let key = AccountKey::from_pem(rsa.serialize_pem().as_bytes()).unwrap();
        assert_eq!(key.algorithm(), "RS256");
        assert!(verifies(&key, &RSA_PKCS1_2048_8192_SHA256));
    }

    #[test]
    fn a_sec1_key_after_its_parameters_is_read() {
        // RFC 5915, with the block that `openssl ecparam -genkey` puts first.
        let (key, pem) = AccountKey::generate().unwrap();
        let Pair::Ec(_, pair) = &AccountKey::from_pem(pem.as_bytes()).unwrap().pair else {
            panic!("a P-256 key");
        };
        let secret: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> =
            aws_lc_rs::encoding::AsDer::as_der(&pair.private_key()).unwrap();
        let block = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der));
        let parameters = block("EC PARAMETERS", &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
        let text = parameters + &block("EC PRIVATE KEY", secret.as_ref());
        let sec1 = AccountKey::from_pem(text.as_bytes()).unwrap();
        assert_eq!(sec1.thumbprint(), key.thumbprint());
    }

    #[test]
    fn a_secret_that_is_no_key_is_refused_without_showing_it() {
        for text in [
            "",
            "hunter2",
            "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n",
        ] {
            let error = AccountKey::from_pem(text.as_bytes()).unwrap_err();
            assert_eq!(error.reason(), "Invalid");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        let canonical = concat!(
            r#"{"e":"AQAB","kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"#,
            r#"tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#
        );
        assert_eq!(thumbprint(canonical), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn a_bindings_key_is_read_in_each_way_that_cas_show_it() {
        let (account, _) = AccountKey::generate().unwrap();
        let bind = |text: &str| {
            Eab::new("kid-1", text.as_bytes())
                .unwrap()
                .bind(&account, "https://ca.test/new-account")
        };
        let expected = bind("-_-_aGVsbG8");
        for text in ["-_-_aGVsbG8=", "+/+/aGVsbG8=", "+/+/aGVsbG8", " -_-_\naGVsbG8=\n"] {
            assert_eq!(bind(text), expected, "{text}");
        }
        for text in ["", "not base64!", "===="] {
            assert!(Eab::new("kid-1", text.as_bytes()).is_err(), "{text}");
        }
        assert!(Eab::new(" ", b"aGVsbG8").is_err());
    }
}
