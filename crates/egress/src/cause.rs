//! Why a request failed, below hyper's words.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;

use super::RefusedAddress;

/// Root cause of an error of the client.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// Every address of the name is refused; the first of them.
    Refused(IpAddr),
    /// The handshake, or the other side's last word in TLS.
    Tls(rustls::Error),
    /// No connection in time.
    TimedOut,
    /// Anything else. The text may be the system's or the other side's: make it fit to show.
    Other(String),
}

impl Cause {
    /// Returns the root cause of an error of hyper's client.
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut cause = Some(error);
        let mut deepest = String::new();
        while let Some(error) = cause {
            if let Some(refused) = error.downcast_ref::<RefusedAddress>() {
                return Self::Refused(refused.address);
            }
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Self::Tls(tls.clone());
            }
            deepest = error.to_string();
            let io = error.downcast_ref::<io::Error>();
            if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
                return Self::TimedOut;
            }
            // `io::Error::source` skips what it wraps, and hyper-rustls wraps rustls' error so.
            cause = match io.and_then(io::Error::get_ref) {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        Self::Other(deepest)
    }
}
