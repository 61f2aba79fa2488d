//! Which characters a provider's settings may have: many become part of a URL.
//!
//! The CRD says the same of the fields that have a place of their own.

use http::Uri;

/// Bytes of a setting.
const MAX_LENGTH: usize = 256;
/// Bytes of a credential: a service account's key with its certificate.
const MAX_SECRET_LENGTH: usize = 32 * 1024;

/// Says what a field's value becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A credential.
    Secret,
    /// A label of a host name.
    Label,
    /// A segment of a path, or a value in a query.
    Segment,
    /// A name in a filter or body.
    Text,
    /// A host or a URL without query.
    Host,
}

impl Form {
    /// Checks a value. The error says what may be written, and never quotes a credential.
    pub(super) fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Secret => secret(value),
            Self::Label if label(value) => Ok(()),
            Self::Label => Err(said(
                value,
                "is not lower-case letters, digits and hyphens, such as eu-central-1",
            )),
            Self::Segment if segment(value) => Ok(()),
            Self::Segment => Err(said(
                value,
                "has characters besides letters, digits and -._~:@+() and would change the request's URL",
            )),
            Self::Text if text(value) => Ok(()),
            Self::Text => Err(said(value, "has quotes, line breaks, or one of \\ / ? # % & < >")),
            Self::Host if host(value) => Ok(()),
            Self::Host => Err(said(
                value,
                "is not a host or URL: write for example dns.example.com, dns.example.com:8081 or https://dns.example.com",
            )),
        }
    }
}

fn said(value: &str, what: &str) -> String {
    format!("{} {what}", crate::egress::printable(value, 80))
}

fn secret(value: &str) -> Result<(), String> {
    if value.len() > MAX_SECRET_LENGTH {
        return Err(format!("is longer than {} KiB", MAX_SECRET_LENGTH / 1024));
    }
    // Keys in PEM and JSON have lines; everything else goes into a header.
    let has_lines = value.starts_with("-----BEGIN ") || value.starts_with('{');
    if !has_lines && value.chars().any(char::is_control) {
        return Err("has a line break or another control character in it".into());
    }
    Ok(())
}

fn label(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&value.len()) && value.chars().all(inner) && !value.starts_with('-') && !value.ends_with('-')
}

fn segment(value: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-._~:@+()".contains(c);
    (1..=MAX_LENGTH).contains(&value.len()) && value.chars().all(fine) && !matches!(value, "." | "..")
}

fn text(value: &str) -> bool {
    let bad = |c: char| c.is_control() || "\"'`\\/?#%&<>".contains(c);
    (1..=MAX_LENGTH).contains(&value.len()) && !value.chars().any(bad)
}

fn host(value: &str) -> bool {
    let with_scheme = if value.contains("://") {
        value.to_owned()
    } else {
        format!("https://{value}")
    };
    let Ok(uri) = with_scheme.parse::<Uri>() else {
        return false;
    };
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let fine = |c: char| c.is_ascii_alphanumeric() || "-.:[]_".contains(c);
    value.len() <= 512
        && matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && authority.chars().all(fine)
        && uri.query().is_none()
        && uri.path().split('/').all(|part| part.is_empty() || segment(part))
        && !value.contains('#')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn settings_that_would_move_a_request_are_refused() {
        let cases: &[(Form, &[&str], &[&str])] = &[
            (
                Form::Label,
                &["eu-central-1", "cn-hangzhou", "a", "ovh-eu"],
                &[
                    "",
                    "eu.central",
                    "evil.example/",
                    "x@evil.example",
                    "x:80",
                    "a/b",
                    "a?b",
                    "a#b",
                    "EU",
                    "-a",
                    "a-",
                    "a b",
                    "a\n",
                    "é",
                    "%2e",
                ],
            ),
            (
                Form::Segment,
                &[
                    "Z0123456789",
                    "my-project",
                    "example.com:my-project",
                    "sa@p.iam.gserviceaccount.com",
                    "rg_(1)",
                    "ocid1.tenancy.oc1..aaaa",
                ],
                &[
                    "", ".", "..", "../x", "a/b", "a?b=c", "a#b", "a%2fb", "a\\b", "a b", "a\r\nb", "a&b",
                ],
            ),
            (
                Form::Text,
                &["Default", "Main view", "默认", "it: internal"],
                &["", "a'b", "a\"b", "a\nb", "a/b", "a&b"],
            ),
            (
                Form::Host,
                &[
                    "dns.example.com",
                    "dns.example.com:8081",
                    "https://dns.example.com",
                    "http://10.0.0.1:80/api/v1",
                    "https://[2001:db8::1]:8443/",
                    "dns_1.svc",
                ],
                &[
                    "",
                    "http://",
                    "https://u:p@dns.example.com",
                    "u@dns.example.com",
                    "https://a/?x=y",
                    "https://a/#x",
                    "ftp://a",
                    "https://a/../b",
                    "https://a/%2e%2e/b",
                    "a b",
                    "https://a b/",
                ],
            ),
        ];
        for (form, good, bad) in cases {
            for value in *good {
                assert_eq!(form.check(value), Ok(()), "{form:?} {value:?}");
            }
            for value in *bad {
                assert!(form.check(value).is_err(), "{form:?} {value:?}");
            }
            assert!(form.check(&"a".repeat(600)).is_err(), "{form:?}");
        }
    }

    #[test]
    fn a_credential_is_never_quoted() {
        let error = Form::Secret.check("s3cret\nx").unwrap_err();
        assert_eq!(error, "has a line break or another control character in it");
        assert_eq!(Form::Secret.check("-----BEGIN PRIVATE KEY-----\nx\n"), Ok(()));
        assert_eq!(Form::Secret.check("{\n}"), Ok(()));
        assert!(Form::Secret.check(&"x".repeat(40_000)).is_err());
    }
}
