//! The resources of an ACME server, and what is expected of each.

use std::time::Duration;

/// Purpose of a request: the `endpoint` label of `gatehouse_acme_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Directory,
    NewNonce,
    NewAccount,
    Account,
    KeyChange,
    NewOrder,
    Order,
    Authz,
    Challenge,
    Finalize,
    Certificate,
    RenewalInfo,
}

impl Endpoint {
    /// The name of the directory's field or of the resource (RFC 8555 §7.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::NewNonce => "newNonce",
            Self::NewAccount => "newAccount",
            Self::Account => "account",
            Self::KeyChange => "keyChange",
            Self::NewOrder => "newOrder",
            Self::Order => "order",
            Self::Authz => "authz",
            Self::Challenge => "challenge",
            Self::Finalize => "finalize",
            Self::Certificate => "certificate",
            Self::RenewalInfo => "renewalInfo",
        }
    }

    /// Whether the URL comes from the directory, so that a 404 says that the directory is stale.
    pub(super) fn is_in_directory(self) -> bool {
        matches!(
            self,
            Self::NewNonce | Self::NewAccount | Self::KeyChange | Self::NewOrder | Self::RenewalInfo
        )
    }

    /// Whether the URL is a part of one order, so that a 404 says that the order is gone.
    pub(super) fn is_of_order(self) -> bool {
        matches!(
            self,
            Self::Order | Self::Authz | Self::Challenge | Self::Finalize | Self::Certificate
        )
    }

    /// The most that is read of an answer, in bytes: some ten times what public CAs send at their limit of 100 names.
    pub(super) fn max_body(self) -> usize {
        match self {
            Self::NewOrder | Self::Order | Self::Finalize | Self::Directory => 128 * 1024,
            Self::Certificate => 256 * 1024,
            _ => 64 * 1024,
        }
    }

    /// The media type that is asked for, where servers offer several.
    pub(super) fn accept(self) -> Option<&'static str> {
        (self == Self::Certificate).then_some("application/pem-certificate-chain")
    }
}

/// Is informed of every request, also of those without an answer.
pub trait RequestObserver: Send + Sync + 'static {
    /// `host` is the server's name or address with a port that is not 443; `code` the HTTP status, 0 when there was no answer.
    fn request(&self, host: &str, endpoint: Endpoint, code: u16, duration: Duration);
}
