//! When the CA would have us renew: ACME Renewal Information (RFC 9773).

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::client::AcmeClient;
use super::error::AcmeError;
use super::http::Endpoint;
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
