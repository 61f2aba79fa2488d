//! Revokes a certificate with its own key (RFC 8555, section 7.6), as a finder of that key would.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::error::Error;
use crate::pebble::Pebble;
use crate::web::Web;

/// A Pebble that refuses good nonces refuses some of these, too.
const ATTEMPTS: usize = 20;

/// Reports to `pebble` that the key of a certificate is compromised. `certificate` is PEM (the first one counts), `key` its
/// P-256 key as PKCS#8 PEM. Pebble's answer, when it refuses, is the error's message.
pub async fn revoke(pebble: &Pebble, certificate: &str, key: &str) -> Result<(), Error> {
    let url = format!("https://{}/revoke-cert", pebble.address());
    let failed = |message: String| Error::Web {
        url: url.clone(),
        message,
    };
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(|error| failed(format!("the certificate: {error}")))?;
    let key =
        PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|error| failed(format!("the key: {error}")))?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der())
        .map_err(|error| failed(format!("the key is not P-256: {error}")))?;
    // Reason 1 is keyCompromise.
    let payload = json!({"certificate": encode(&certificate), "reason": 1});
    let web = Web::trusting(pebble.ca_pem());
    let nonces = format!("https://{}/nonce-plz", pebble.address());
    let mut answer = String::new();
    for _ in 0..ATTEMPTS {
        let response = web.exchange(Method::HEAD, &nonces, "", "").await?;
        let nonce = response
            .headers
            .get("replay-nonce")
            .and_then(|nonce| nonce.to_str().ok())
            .ok_or_else(|| failed("no nonce".to_owned()))?;
        let body = sign(&key, nonce, &url, &payload).map_err(failed)?;
        let response = web.exchange(Method::POST, &url, "application/jose+json", &body).await?;
        if response.status.is_success() {
            return Ok(());
        }
        answer = format!("{}: {}", response.status, response.body);
        if !answer.contains("badNonce") {
            break;
        }
    }
    Err(failed(answer))
}

/// A flattened JWS whose header holds the key itself.
fn sign(key: &EcdsaKeyPair, nonce: &str, url: &str, payload: &Value) -> Result<String, String> {
    // An uncompressed point: 4, x, y.
    let (_, point) = key.public_key().as_ref().split_first().ok_or("no public key")?;
    let (x, y) = point.split_at(point.len() / 2);
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)});
    let header = json!({"alg": "ES256", "jwk": jwk, "nonce": nonce, "url": url});
    let (protected, payload) = (
        encode(header.to_string().as_bytes()),
        encode(payload.to_string().as_bytes()),
    );
    let signed = format!("{protected}.{payload}");
    let signature = key
        .sign(&SystemRandom::new(), signed.as_bytes())
        .map_err(|error| error.to_string())?;
    Ok(json!({"protected": protected, "payload": payload, "signature": encode(signature.as_ref())}).to_string())
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
