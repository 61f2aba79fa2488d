//! When the CA would have us renew: ACME Renewal Information (RFC 9773).

use std::time::Duration;

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use x509_parser::extensions::ParsedExtension;
use x509_parser::parse_x509_certificate;

use super::client::AcmeClient;
use super::error::AcmeError;
use super::http::Endpoint;
use super::key::encode;
use super::problem::printable;

const LEAST_CHECK: Duration = Duration::from_mins(1);
const MOST_CHECK: Duration = Duration::from_hours(24);
const DEFAULT_CHECK: Duration = Duration::from_hours(6);

/// When a certificate should be renewed, `start < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub start: Timestamp,
    pub end: Timestamp,
}

/// The CA's advice for one certificate (§4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalInfo {
    pub window: Window,
    /// A page that says why, for example an incident; `https` or `http`.
    pub explanation_url: Option<String>,
    /// When to ask again, from now: between a minute and a day (§4.3.2).
    pub check_after: Duration,
}

/// Why a certificate has no name for ARI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RenewalIdError {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("the certificate has no authority key identifier")]
    NoAuthorityKeyIdentifier,
}

impl RenewalIdError {
    /// The stable word for conditions, events and metrics.
    pub fn reason(self) -> &'static str {
        "Invalid"
    }
}

/// The certificate's name for ARI and `replaces` (§4.1): authority key identifier and serial, both base64url.
pub fn renewal_id(certificate_der: &[u8]) -> Result<String, RenewalIdError> {
    let (_, certificate) = parse_x509_certificate(certificate_der).map_err(|_| RenewalIdError::Unreadable)?;
    let authority = certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref(),
            _ => None,
        })
        .ok_or(RenewalIdError::NoAuthorityKeyIdentifier)?;
    // The DER bytes, with the zero that keeps a serial positive.
    Ok(format!("{}.{}", encode(authority.0), encode(certificate.raw_serial())))
}

/// One stable, uniformly random moment in the window (§4.2), and `now` when it is past.
///
/// `seed` names the certificate (uid and serial): the same one gets the same moment after a restart and at every replica, and a thousand that share a window spread over it.
pub fn renewal_moment(window: Window, seed: &[u8], now: Timestamp) -> Timestamp {
    let hash = digest::digest(&digest::SHA256, seed);
    let fraction = hash
        .as_ref()
        .iter()
        .take(4)
        .fold(0_i128, |sum, byte| (sum << 8) | i128::from(*byte));
    let length = window.end.duration_since(window.start).as_nanos();
    let offset = SignedDuration::from_nanos_i128((length * fraction) >> 32);
    // Within the window, hence a timestamp.
    let moment = window.start.checked_add(offset).unwrap_or(window.end);
    moment.max(now)
}

impl AcmeClient {
    /// The CA's advice for the certificate, or `None` where the CA has no ARI. One unsigned request.
    ///
    /// Advice that makes no sense is [`AcmeError::Malformed`]; the caller goes on by its own rules.
    pub async fn renewal_info(&self, id: &str) -> Result<Option<RenewalInfo>, AcmeError> {
        let directory = self.directory().await?;
        let Some(base) = &directory.renewal_info else {
            return Ok(None);
        };
        let url = format!("{}/{id}", base.trim_end_matches('/'));
        let answer = self.get(Endpoint::RenewalInfo, &url).await?;
        if !answer.is_success() {
            return Err(AcmeError::from_answer(&answer, false));
        }
        let (window, explanation_url) = parse(&answer.body).map_err(|what| AcmeError::malformed(&answer, &what))?;
        Ok(Some(RenewalInfo {
            window,
            explanation_url,
            check_after: answer
                .retry_after
                .map_or(DEFAULT_CHECK, |wait| wait.clamp(LEAST_CHECK, MOST_CHECK)),
        }))
    }
}

fn parse(body: &[u8]) -> Result<(Window, Option<String>), String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        suggested_window: RawWindow,
        #[serde(rename = "explanationURL", default)]
        explanation_url: Option<String>,
    }
    #[derive(Deserialize)]
    struct RawWindow {
        start: Timestamp,
        end: Timestamp,
    }
    let raw: Raw = serde_json::from_slice(body).map_err(|error| format!("renewal information: {error}"))?;
    let RawWindow { start, end } = raw.suggested_window;
    if end <= start {
        return Err(format!(
            "renewal information: the window ends ({end}) before it starts ({start})"
        ));
    }
    let explanation_url = raw
        .explanation_url
        .filter(|url| url.starts_with("https://") || url.starts_with("http://"))
        .map(|url| printable(&url, 2_000));
    Ok((Window { start, end }, explanation_url))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_read_and_nonsense_refused() {
        let good = br#"{"suggestedWindow":{"start":"2026-01-02T04:00:00Z","end":"2026-01-03T04:00:00+00:00"},"explanationURL":"https://ca.test/why","more":1}"#;
        let (window, url) = parse(good).unwrap();
        assert_eq!(window.start, at("2026-01-02T04:00:00Z"));
        assert_eq!(window.end, at("2026-01-03T04:00:00Z"));
        assert_eq!(url.unwrap(), "https://ca.test/why");
        let script = br#"{"suggestedWindow":{"start":"2026-01-02T04:00:00Z","end":"2026-01-03T04:00:00Z"},"explanationURL":"javascript:alert(1)"}"#;
        assert_eq!(parse(script).unwrap().1, None);
        for bad in [
            "",
            "null",
            "<html>",
            r#"{"suggestedWindow":{}}"#,
            r#"{"suggestedWindow":{"start":"tomorrow","end":"later"}}"#,
            r#"{"suggestedWindow":{"start":"2026-01-02T04:00:00Z","end":"2026-01-02T04:00:00Z"}}"#,
            r#"{"suggestedWindow":{"start":"2026-01-03T04:00:00Z","end":"2026-01-02T04:00:00Z"}}"#,
            r#"{"suggestedWindow":{"start":"0000-01-01T00:00:00Z","end":"99999-01-01T00:00:00Z"}}"#,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_window_that_is_past_means_now() {
        let window = Window {
            start: at("2026-01-01T00:00:00Z"),
            end: at("2026-01-02T00:00:00Z"),
        };
        let now = at("2026-03-01T00:00:00Z");
        assert_eq!(renewal_moment(window, b"seed", now), now);
    }

    #[test]
    fn a_thousand_certificates_spread_over_the_window() {
        let window = Window {
            start: at("2026-01-01T00:00:00Z"),
            end: at("2026-01-11T00:00:00Z"),
        };
        let mut days = [0; 10];
        for serial in 0..1_000 {
            let moment = renewal_moment(window, format!("uid/{serial}").as_bytes(), window.start);
            let day = moment.duration_since(window.start).as_hours() / 24;
            days[usize::try_from(day).unwrap()] += 1;
        }
        assert!(days.iter().all(|count| (70..=130).contains(count)), "{days:?}");
    }

    proptest! {
        #[test]
        fn the_moment_is_stable_and_in_the_window(
            start in -377_705_000_000_i64..253_402_000_000,
            length in 1_i64..400_000_000,
            seed: Vec<u8>,
        ) {
            let start = Timestamp::from_second(start).unwrap();
            let Ok(end) = start.checked_add(SignedDuration::from_secs(length)) else {
                return Ok(());
            };
            let window = Window { start, end };
            let moment = renewal_moment(window, &seed, Timestamp::MIN);
            prop_assert!(start <= moment && moment < end);
            prop_assert_eq!(moment, renewal_moment(window, &seed, Timestamp::MIN));
        }
    }

    #[test]
    fn a_certificate_is_named_by_issuer_key_and_serial_in_der() {
        // RFC 9773 §4.1: AKI 69:88:5B:…, serial 00:87:65:43:21 with its leading zero.
        let key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new([]).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![
            0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01,
            0xc8, 0xd4,
        ]);
        let issuer = rcgen::Issuer::new(ca, &key);
        let mut leaf = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        leaf.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        leaf.use_authority_key_identifier_extension = true;
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        assert_eq!(
            renewal_id(certificate.der()).unwrap(),
            "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
        );
        leaf.use_authority_key_identifier_extension = false;
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        assert_eq!(
            renewal_id(certificate.der()).unwrap_err(),
            RenewalIdError::NoAuthorityKeyIdentifier
        );
        assert_eq!(renewal_id(b"junk").unwrap_err(), RenewalIdError::Unreadable);
    }
}
