//! DNS names as certificates carry them (RFC 5280 §4.2.1.6, RFC 6125 §6.4.3).

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

/// A DNS name in A-labels, lower case, without a final dot, perhaps with a leading `*.` label.
///
/// At most 253 octets, each label at most 63 (RFC 1035 §2.3.4). Underscores are admitted, since
/// private CAs sign such names; a public CA refuses them by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

/// Why a text is not a DNS name, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DnsNameError {
    #[error("a DNS name is empty; write one like www.example.com, or leave the entry out")]
    Empty,
    #[error("{name:?} is an IP address; write it under ipAddresses, not dnsNames")]
    IpAddress { name: String },
    #[error("{name:?} is a URL or has a port or path; write the host name alone, like www.example.com")]
    NotAHostName { name: String },
    #[error("{name:?} ends with a dot; write it without")]
    FinalDot { name: String },
    #[error("{name:?} has an empty label; write one dot between labels and none in front")]
    EmptyLabel { name: String },
    #[error("{name:?} has a label of {length} octets, in A-labels if it is not ASCII; at most 63 are possible")]
    LabelTooLong { name: String, length: usize },
    #[error("{name:?} has {length} octets, in A-labels if it is not ASCII; at most 253 are possible")]
    TooLong { name: String, length: usize },
    #[error("{name:?} has a * that is not the whole first label; write *.example.com")]
    Wildcard { name: String },
    #[error("{name:?} has the character {character:?}; a label has letters, digits, hyphens and underscores")]
    Character { name: String, character: char },
    #[error("{name:?} has a label that starts or ends with a hyphen; take the hyphen away")]
    Hyphen { name: String },
    #[error("{name:?} is not a valid internationalized name (UTS #46); check its spelling, or write its xn-- form")]
    Internationalized { name: String },
}

impl DnsNameError {
    /// The stable reason for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        "InvalidDnsName"
    }
}

impl DnsName {
    /// Reads a name as people write it: upper case and Unicode are welcome.
    pub fn parse(text: &str) -> Result<Self, DnsNameError> {
        let name = || text.to_owned();
        if text.is_empty() {
            return Err(DnsNameError::Empty);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() {
            return Err(DnsNameError::IpAddress { name: name() });
        }
        if text.contains(['/', ':', '@', '?', '#']) {
            return Err(DnsNameError::NotAHostName { name: name() });
        }
        if text.ends_with('.') {
            return Err(if text == "." {
                DnsNameError::EmptyLabel { name: name() }
            } else {
                DnsNameError::FinalDot { name: name() }
            });
        }
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains('*') {
            return Err(DnsNameError::Wildcard { name: name() });
        }
        if rest.split('.').any(str::is_empty) {
            return Err(DnsNameError::EmptyLabel { name: name() });
        }
        if let Some(character) = rest
            .chars()
            .find(|c| c.is_ascii() && !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')))
        {
            return Err(DnsNameError::Character {
                name: name(),
                character,
            });
        }
        let ascii = idna::domain_to_ascii(rest).map_err(|_| DnsNameError::Internationalized { name: name() })?;
        if ascii.parse::<IpAddr>().is_ok() {
            return Err(DnsNameError::IpAddress { name: name() });
        }
        for label in ascii.split('.') {
            // UTS #46 maps some characters to nothing or to a dot, so the labels are looked at again.
            if label.is_empty() {
                return Err(DnsNameError::EmptyLabel { name: name() });
            }
            if let Some(character) = label
                .chars()
                .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
            {
                return Err(DnsNameError::Character {
                    name: name(),
                    character,
                });
            }
            if label.len() > 63 {
                return Err(DnsNameError::LabelTooLong {
                    name: name(),
                    length: label.len(),
                });
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(DnsNameError::Hyphen { name: name() });
            }
        }
        let whole = if wildcard { format!("*.{ascii}") } else { ascii };
        if whole.len() > 253 {
            return Err(DnsNameError::TooLong {
                name: name(),
                length: whole.len(),
            });
        }
        Ok(Self(whole))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The name without a leading `*.`: what ACME validates (RFC 8555 §7.1.3).
    pub fn base(&self) -> &str {
        self.0.strip_prefix("*.").unwrap_or(&self.0)
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DnsName {
    type Err = DnsNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl AsRef<str> for DnsName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_kept_in_lower_case_a_labels() {
        for (written, kept) in [
            ("www.example.com", "www.example.com"),
            ("WWW.Example.COM", "www.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.Bücher.example", "*.xn--bcher-kva.example"),
            ("faß.example", "xn--fa-hia.example"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("_sip._tcp.example.com", "_sip._tcp.example.com"),
            ("localhost", "localhost"),
            ("a--b.example", "a--b.example"),
            ("3com.example", "3com.example"),
        ] {
            assert_eq!(DnsName::parse(written).unwrap().as_str(), kept, "{written}");
        }
    }

    #[test]
    fn what_can_never_be_is_refused_with_the_reason() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = vec!["a".repeat(49); 6].join(".");
        for (written, says) in [
            ("", "is empty"),
            (".", "empty label"),
            ("a..b", "empty label"),
            (".example.com", "empty label"),
            ("example.com.", "without"),
            ("10.0.0.1", "ipAddresses"),
            ("2001:db8::1", "ipAddresses"),
            ("[2001:db8::1]", "ipAddresses"),
            ("https://example.com", "host name alone"),
            ("example.com:443", "host name alone"),
            ("a.*.example.com", "write *.example.com"),
            ("w*.example.com", "write *.example.com"),
            ("*", "write *.example.com"),
            ("*.*.example.com", "write *.example.com"),
            ("a b.example", "character ' '"),
            ("-a.example", "hyphen"),
            ("a-.example", "hyphen"),
            ("xn--a-ecp.example.xn--zz", "internationalized"),
            (&long_label, "at most 63"),
            (&long_name, "at most 253"),
        ] {
            let message = DnsName::parse(written).expect_err(written).to_string();
            assert!(message.contains(says), "{written}: {message}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_name_parses_to_itself(text in "\\PC{0,40}|[*a-zA-Z0-9._ü-]{1,30}") {
            if let Ok(name) = DnsName::parse(&text) {
                prop_assert_eq!(DnsName::parse(name.as_str()).unwrap(), name.clone());
                prop_assert!(name.as_str().len() <= 253);
                prop_assert!(name.as_str().is_ascii());
                prop_assert!(name.base().split('.').all(|label| (1..=63).contains(&label.len())));
                prop_assert!(name.as_str().to_ascii_lowercase() == name.as_str());
            }
        }

        #[test]
        fn every_ordinary_host_name_is_admitted(labels in proptest::collection::vec("[a-z0-9]([a-z0-9]{0,20}[a-z0-9])?", 1..6)) {
            let text = format!("{}.example", labels.join("."));
            prop_assert_eq!(DnsName::parse(&text).unwrap().as_str().to_owned(), text);
        }
    }
}
