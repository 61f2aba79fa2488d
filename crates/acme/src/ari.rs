//! When the CA would have us renew: ACME Renewal Information (RFC 9773).

use std::time::Duration;

use instant_acme::CertificateIdentifier;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::account::Account;
use super::error::AcmeError;
use super::http::{Answer, Endpoint};
use super::transport::{Step, take};
use gatehouse_egress::printable;

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

impl Account {
    /// The CA's advice for the certificate, or `None` where the CA has no ARI. One unsigned request.
    ///
    /// Advice that makes no sense is [`AcmeError::Malformed`]; the caller continues by its own rules.
    pub async fn renewal_info(&self, id: &str) -> Result<Option<RenewalInfo>, AcmeError> {
        if !self.client().directory().await?.has_renewal_info() {
            return Ok(None);
        }
        let handle = self.handle().await?;
        let id = certificate_id(id)
            .ok_or_else(|| AcmeError::Invalid("a certificate without an identifier of RFC 9773".to_owned()))?;
        let ((info, _), answer) = take!(Step::new(Endpoint::RenewalInfo), handle.renewal_info(&id))?;
        let moment = |time: i128| Timestamp::from_nanosecond(time).map_err(|_| no_window(&answer, "is out of range"));
        let window = &info.suggested_window;
        Ok(Some(RenewalInfo {
            window: Window {
                start: moment(window.start.unix_timestamp_nanos())?,
                end: moment(window.end.unix_timestamp_nanos())?,
            },
            explanation_url: info.explanation_url,
            check_after: answer
                .retry_after
                .map_or(DEFAULT_CHECK, |wait| wait.clamp(LEAST_CHECK, MOST_CHECK)),
        }))
    }
}

/// Identifier of a certificate in instant-acme (RFC 9773 §4.1).
pub(super) fn certificate_id(id: &str) -> Option<CertificateIdentifier<'static>> {
    let (authority, serial) = id.split_once('.')?;
    let is_base64url = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (is_base64url(authority) && is_base64url(serial)).then(|| CertificateIdentifier {
        authority_key_identifier: authority.to_owned().into(),
        serial: serial.to_owned().into(),
    })
}

/// Renewal information in the form that instant-acme reads.
pub(super) fn normal(answer: &Answer) -> Result<Value, AcmeError> {
    let (window, explanation_url) = parse(&answer.body).map_err(|what| no_window(answer, &what))?;
    Ok(json!({
        "suggestedWindow": {"start": window.start.to_string(), "end": window.end.to_string()},
        "explanationURL": explanation_url,
    }))
}

fn no_window(answer: &Answer, what: &str) -> AcmeError {
    AcmeError::malformed(answer, &format!("the renewal information from {}: {what}", answer.url))
}

fn parse(body: &[u8]) -> Result<(Window, Option<String>), String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        suggested_window: RawWindow,
        #[serde(rename = "explanationURL", default)]
        explanation_url: Option<Value>,
    }
    #[derive(Deserialize)]
    struct RawWindow {
        start: Timestamp,
        end: Timestamp,
    }
    let raw: Raw = serde_json::from_slice(body).map_err(|error| format!("it cannot be read: {error}"))?;
    let RawWindow { start, end } = raw.suggested_window;
    if end <= start {
        return Err(format!("its window ends ({end}) before it starts ({start})"));
    }
    let explanation_url = raw
        .explanation_url
        .and_then(|url| url.as_str().map(str::to_owned))
        .filter(|url| url.starts_with("https://") || url.starts_with("http://"))
        .map(|url| printable(&url, 2_000));
    Ok((Window { start, end }, explanation_url))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

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
}
