//! Addresses to which solvers may connect. Hosts in an Issuer are written by people who may not be trusted with the
//! operator's network: they must not reach a cloud's metadata or the node's own services through it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::time::timeout;

use super::SolverError;
use crate::egress::{address, resolve};

/// Longest look-up of a host's name.
const LOOKUP: Duration = Duration::from_secs(10);

/// The policy for addresses of name servers and provider APIs. Private ones are fine: they live in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// `--allow-loopback`, for development.
    pub allow_loopback: bool,
}

impl Reach {
    /// `what` names the host in the error.
    pub fn check(self, what: &str, address: IpAddr) -> Result<(), SolverError> {
        match address::refused(address, self.allow_loopback) {
            Some(kind) => Err(SolverError::AddressRefused {
                what: what.into(),
                address: address.to_canonical(),
                kind,
            }),
            None => Ok(()),
        }
    }

    /// The addresses of a host that may be connected to. An error when it has none.
    pub(super) async fn resolve(self, host: &str, port: u16) -> Result<Vec<SocketAddr>, SolverError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            self.check(host, address)?;
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let unresolved = |why: &str| SolverError::DnsUnreachable {
            server: host.into(),
            detail: format!("its name cannot be resolved ({why})"),
        };
        // The system's resolver may wait for a minute where no server answers.
        let found = timeout(LOOKUP, resolve::addresses(host, port))
            .await
            .map_err(|_| unresolved(&format!("no answer within {LOOKUP:?}")))?
            .map_err(|error| unresolved(&error.to_string()))?;
        let mut addresses = Vec::new();
        let mut refused = None;
        for address in found {
            match self.check(host, address.ip()) {
                Ok(()) => addresses.push(address),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if addresses.is_empty() => Err(error),
            _ if addresses.is_empty() => Err(SolverError::DnsUnreachable {
                server: host.into(),
                detail: "its name has no address".into(),
            }),
            _ => Ok(addresses),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_error_for_loopback_names_the_flag() {
        let error = Reach::default()
            .check("ns.test", IpAddr::V4(Ipv4Addr::LOCALHOST))
            .unwrap_err();
        assert_eq!(error.reason(), "AddressRefused");
        assert_eq!(
            error.to_string(),
            "ns.test is at 127.0.0.1, which is loopback: Gatehouse does not connect there (--allow-loopback permits \
             it, for development)"
        );
    }
}
