//! An answer, read whole, with the headers that ACME uses.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, LINK, LOCATION};
use http::{Uri, response};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::error::AcmeError;
use gatehouse_egress::{printable, retry_after};

/// The most alternate chains that we look at.
const MAX_ALTERNATES: usize = 10;

/// What came back. URLs are absolute.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) host: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) nonce: Option<String>,
    pub(super) location: Option<String>,
    /// `Link: <…>;rel="alternate"` (RFC 8555 §7.4.2).
    pub(super) alternates: Vec<String>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn new(uri: &Uri, host: &str, parts: &response::Parts, body: Bytes) -> Self {
        let headers = &parts.headers;
        Self {
            status: parts.status.as_u16(),
            host: host.to_owned(),
            // The one reading of our clock: from here on the wait is a length of time.
            retry_after: retry_after(headers, Timestamp::now()),
            nonce: text(headers, "replay-nonce").filter(|nonce| is_base64url(nonce)),
            location: text(headers, LOCATION.as_str()).and_then(|url| absolute(uri, &url)),
            alternates: alternates(uri, headers),
            body,
        }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, AcmeError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // Where and what, and not the text itself, which may be anything.
            AcmeError::malformed(self, &format!("{error}: {}", self.excerpt()))
        })
    }

    /// The first 200 printable characters of the body.
    pub(super) fn excerpt(&self) -> String {
        let head = self.body.get(..4096).unwrap_or(&self.body);
        match printable(&String::from_utf8_lossy(head), 200) {
            empty if empty.is_empty() => "an empty body".to_owned(),
            excerpt => excerpt,
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(status: u16, body: &str) -> Self {
        Self {
            status,
            host: "ca.test".to_owned(),
            retry_after: None,
            nonce: None,
            location: None,
            alternates: Vec::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// RFC 8555 §6.5.1: other characters make the nonce invalid, and it must not be used.
fn is_base64url(nonce: &str) -> bool {
    nonce
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn alternates(uri: &Uri, headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(links)
        .filter(|(_, parameters)| {
            parameters.split(';').any(|parameter| {
                let parameter = parameter.to_ascii_lowercase();
                let Some((name, value)) = parameter.split_once('=') else {
                    return false;
                };
                let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
                name.trim() == "rel" && relations.any(|relation| relation == "alternate")
            })
        })
        .filter_map(|(url, _)| absolute(uri, url))
        .take(MAX_ALTERNATES)
        .collect()
}

/// The links of one header (RFC 8288 §3), each with its parameters. Split at `<`, since a URL
/// may hold a comma and can hold no `<`.
fn links(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header
        .split('<')
        .skip(1)
        .filter_map(|link| link.split_once('>'))
        .map(|(url, parameters)| (url, parameters.trim().trim_end_matches(',')))
}

/// A reference of the server as a whole URL; only paths may lack a host.
fn absolute(base: &Uri, reference: &str) -> Option<String> {
    if reference.contains("://") {
        return Some(reference.to_owned());
    }
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    (reference.starts_with('/') && !reference.starts_with("//")).then(|| format!("{scheme}://{authority}{reference}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn alternates_are_found_in_every_way_of_writing_links() {
        let base: Uri = "https://ca.test/cert/1".parse().unwrap();
        let map = headers(&[
            ("link", r#"<https://ca.test/directory>;rel="index""#),
            (
                "link",
                r#"<https://ca.test/cert/1/a,b>; rel="alternate", </cert/1/2>;title="x";REL=alternate"#,
            ),
            ("link", r#"<https://ca.test/x>; rel="up alternate""#),
            ("link", "<//evil.test/x>;rel=alternate, <nonsense"),
        ]);
        assert_eq!(
            alternates(&base, &map),
            [
                "https://ca.test/cert/1/a,b",
                "https://ca.test/cert/1/2",
                "https://ca.test/x"
            ]
        );
    }

    #[test]
    fn a_nonce_with_other_characters_is_not_used() {
        assert!(is_base64url("aB3-_"));
        assert!(!is_base64url("aB3="));
    }
}
