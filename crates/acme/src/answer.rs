//! An answer, read whole, with the headers that ACME uses.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, LINK, LOCATION};
use http::{Uri, response};
use jiff::Timestamp;
use url::Url;

use gatehouse_egress::{printable, retry_after};

/// The most alternate chains that we look at.
const MAX_ALTERNATES: usize = 10;

/// The longest URL of a server's that is used, in bytes.
pub(super) const MAX_URL: usize = 2_000;

/// The longest nonce that is used, in bytes; servers' have some 50.
const MAX_NONCE: usize = 512;

/// Answer of a server. URLs are absolute.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) host: String,
    /// URL of the answer, after redirects.
    pub(super) url: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) nonce: Option<String>,
    pub(super) location: Option<String>,
    /// `Link: <…>;rel="alternate"` (RFC 8555 §7.4.2).
    pub(super) alternates: Vec<String>,
    /// `Link: <…>;rel="terms-of-service"` (RFC 8555 §7.3.3).
    pub(super) terms: Option<String>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn new(uri: &Uri, host: &str, parts: &response::Parts, body: Bytes) -> Self {
        let headers = &parts.headers;
        let url = uri.to_string();
        let terms = related(&url, headers, "terms-of-service").next();
        Self {
            status: parts.status.as_u16(),
            host: host.to_owned(),
            // The one reading of our clock: from here on the wait is a length of time.
            retry_after: retry_after(headers, Timestamp::now()),
            nonce: text(headers, "replay-nonce").filter(|nonce| is_nonce(nonce)),
            location: text(headers, LOCATION.as_str()).and_then(|location| absolute(&url, &location)),
            alternates: related(&url, headers, "alternate").take(MAX_ALTERNATES).collect(),
            terms,
            url,
            body,
        }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns where the server redirects to.
    pub(super) fn redirect(&self) -> Option<&str> {
        matches!(self.status, 301 | 302 | 303 | 307 | 308)
            .then_some(self.location.as_deref())
            .flatten()
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
    pub(super) fn for_test(status: u16, body: &[u8]) -> Self {
        Self {
            status,
            host: "ca.test".to_owned(),
            url: "https://ca.test/acme/thing/1".to_owned(),
            retry_after: None,
            nonce: None,
            location: None,
            alternates: Vec::new(),
            terms: None,
            body: Bytes::copy_from_slice(body),
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// RFC 8555 §6.5.1: other characters than base64url's make the nonce invalid, and it must not be used.
fn is_nonce(nonce: &str) -> bool {
    nonce.len() <= MAX_NONCE
        && nonce
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Returns the targets of the links with this relation.
fn related<'a>(base: &'a str, headers: &'a HeaderMap, wanted: &'a str) -> impl Iterator<Item = String> + 'a {
    headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(links)
        .filter(move |(_, parameters)| {
            parameters.split(';').any(|parameter| {
                let parameter = parameter.to_ascii_lowercase();
                let Some((name, value)) = parameter.split_once('=') else {
                    return false;
                };
                let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
                name.trim() == "rel" && relations.any(|relation| relation == wanted)
            })
        })
        .filter_map(move |(url, _)| absolute(base, url))
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

/// Returns a reference of the server's as a whole URL (RFC 3986 §5); a whole one as it is. One to another host must name
/// its scheme, too.
pub(super) fn absolute(base: &str, reference: &str) -> Option<String> {
    let reference = reference.trim();
    if reference.is_empty() || reference.len() > MAX_URL || reference.starts_with("//") {
        return None;
    }
    let whole = if reference.contains("://") {
        reference.to_owned()
    } else {
        let resolved = Url::parse(base).ok()?.join(reference).ok()?;
        resolved.host_str()?;
        resolved.into()
    };
    let uri: Uri = whole.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("https" | "http"));
    (is_http && uri.host().is_some() && whole.len() <= MAX_URL).then_some(whole)
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
        let base = "https://ca.test/cert/1";
        let map = headers(&[
            ("link", r#"<https://ca.test/directory>;rel="index""#),
            (
                "link",
                r#"<https://ca.test/cert/1/a,b>; rel="alternate", </cert/1/2>;title="x";REL=alternate"#,
            ),
            ("link", r#"<https://ca.test/x>; rel="up alternate""#),
            ("link", r#"<https://ca.test/terms>; rel="terms-of-service""#),
            ("link", "<//evil.test/x>;rel=alternate, <nonsense"),
        ]);
        assert_eq!(
            related(base, &map, "alternate").collect::<Vec<_>>(),
            [
                "https://ca.test/cert/1/a,b",
                "https://ca.test/cert/1/2",
                "https://ca.test/x"
            ]
        );
        let terms: Vec<String> = related(base, &map, "terms-of-service").collect();
        assert_eq!(terms, ["https://ca.test/terms"]);
    }

    #[test]
    fn a_nonce_with_other_characters_is_not_used() {
        assert!(is_nonce("aB3-_"));
        assert!(!is_nonce("aB3="));
        assert!(!is_nonce(&"a".repeat(513)));
    }

    #[test]
    fn a_reference_is_resolved_where_it_came_from() {
        let table = [
            ("https://other.test/x?y=1", Some("https://other.test/x?y=1")),
            ("/order/1", Some("https://ca.test:8443/order/1")),
            ("order/1", Some("https://ca.test:8443/acme/order/1")),
            ("../order/1", Some("https://ca.test:8443/order/1")),
            ("?id=1", Some("https://ca.test:8443/acme/new-order?id=1")),
            (" /order/1 ", Some("https://ca.test:8443/order/1")),
            ("", None),
            ("//evil.test/x", None),
            ("ftp://ca.test/", None),
            ("javascript:alert(1)", None),
            ("https://", None),
            ("https://ca.test/a b", None),
        ];
        for (reference, expected) in table {
            let got = absolute("https://ca.test:8443/acme/new-order", reference);
            assert_eq!(got.as_deref(), expected, "{reference}");
        }
        assert_eq!(absolute("https://ca.test/", &format!("/{}", "x".repeat(2_000))), None);
    }
}
