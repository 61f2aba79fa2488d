//! Key usages and extended key usages by cert-manager's names (RFC 5280 §4.2.1.3, §4.2.1.12).

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Uses of a key. Names and meanings are those of cert-manager's `KeyUsage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    DigitalSignature,
    ContentCommitment,
    KeyEncipherment,
    DataEncipherment,
    KeyAgreement,
    CertSign,
    CrlSign,
    EncipherOnly,
    DecipherOnly,
    Any,
    ServerAuth,
    ClientAuth,
    CodeSigning,
    EmailProtection,
    IpsecEndSystem,
    IpsecTunnel,
    IpsecUser,
    Timestamping,
    OcspSigning,
    MicrosoftSgc,
    NetscapeSgc,
}

/// A text that names no usage.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name:?} is no key usage; write one of: {}", Usage::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "))]
pub struct UnknownUsage {
    pub name: String,
}

impl UnknownUsage {
    /// The stable reason for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        "UnknownUsage"
    }
}

impl Usage {
    /// Every name with its usage. `signing` and `s/mime` are second names of others.
    pub const NAMES: [(&'static str, Self); 23] = [
        ("signing", Self::DigitalSignature),
        ("digital signature", Self::DigitalSignature),
        ("content commitment", Self::ContentCommitment),
        ("key encipherment", Self::KeyEncipherment),
        ("key agreement", Self::KeyAgreement),
        ("data encipherment", Self::DataEncipherment),
        ("cert sign", Self::CertSign),
        ("crl sign", Self::CrlSign),
        ("encipher only", Self::EncipherOnly),
        ("decipher only", Self::DecipherOnly),
        ("any", Self::Any),
        ("server auth", Self::ServerAuth),
        ("client auth", Self::ClientAuth),
        ("code signing", Self::CodeSigning),
        ("s/mime", Self::EmailProtection),
        ("email protection", Self::EmailProtection),
        ("ipsec end system", Self::IpsecEndSystem),
        ("ipsec tunnel", Self::IpsecTunnel),
        ("ipsec user", Self::IpsecUser),
        ("timestamping", Self::Timestamping),
        ("ocsp signing", Self::OcspSigning),
        ("microsoft sgc", Self::MicrosoftSgc),
        ("netscape sgc", Self::NetscapeSgc),
    ];

    /// The usage's own name; of two, the standard's.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .rev()
            .find(|(_, usage)| *usage == self)
            .map_or("", |(name, _)| name)
    }

    /// Its bit in the `KeyUsage` extension, or `None` when it is an extended key usage.
    pub(super) fn key_usage_bit(self) -> Option<u8> {
        Some(match self {
            Self::DigitalSignature => 0,
            Self::ContentCommitment => 1,
            Self::KeyEncipherment => 2,
            Self::DataEncipherment => 3,
            Self::KeyAgreement => 4,
            Self::CertSign => 5,
            Self::CrlSign => 6,
            Self::EncipherOnly => 7,
            Self::DecipherOnly => 8,
            _ => return None,
        })
    }

    /// Its object identifier, or `None` when it is a bit of the `KeyUsage` extension.
    pub(super) fn extended_oid(self) -> Option<&'static [u64]> {
        Some(match self {
            Self::Any => &[2, 5, 29, 37, 0],
            Self::ServerAuth => &[1, 3, 6, 1, 5, 5, 7, 3, 1],
            Self::ClientAuth => &[1, 3, 6, 1, 5, 5, 7, 3, 2],
            Self::CodeSigning => &[1, 3, 6, 1, 5, 5, 7, 3, 3],
            Self::EmailProtection => &[1, 3, 6, 1, 5, 5, 7, 3, 4],
            Self::IpsecEndSystem => &[1, 3, 6, 1, 5, 5, 7, 3, 5],
            Self::IpsecTunnel => &[1, 3, 6, 1, 5, 5, 7, 3, 6],
            Self::IpsecUser => &[1, 3, 6, 1, 5, 5, 7, 3, 7],
            Self::Timestamping => &[1, 3, 6, 1, 5, 5, 7, 3, 8],
            Self::OcspSigning => &[1, 3, 6, 1, 5, 5, 7, 3, 9],
            Self::MicrosoftSgc => &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3],
            Self::NetscapeSgc => &[2, 16, 840, 1, 113_730, 4, 1],
            _ => return None,
        })
    }

    /// Every usage once.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::NAMES
            .iter()
            .filter(|(name, usage)| usage.name() == *name)
            .map(|(_, usage)| *usage)
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Usage {
    type Err = UnknownUsage;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, usage)| *usage)
            .ok_or_else(|| UnknownUsage { name: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_name_reads_and_writes_back_to_its_usage() {
        for (name, usage) in Usage::NAMES {
            assert_eq!(name.parse::<Usage>().unwrap(), usage);
            assert_eq!(usage.name().parse::<Usage>().unwrap(), usage);
            assert_ne!(
                usage.key_usage_bit().is_some(),
                usage.extended_oid().is_some(),
                "{name}"
            );
        }
        assert_eq!(Usage::DigitalSignature.to_string(), "digital signature");
        assert_eq!(Usage::EmailProtection.to_string(), "email protection");
        assert_eq!(Usage::all().count(), 21);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_list() {
        let message = "server-auth".parse::<Usage>().unwrap_err().to_string();
        assert!(
            message.contains("server-auth") && message.contains("server auth") && message.contains("netscape sgc"),
            "{message}"
        );
    }
}
