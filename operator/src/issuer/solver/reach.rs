//! Where solvers may connect to. Hosts in an Issuer are written by people who may not be trusted with the
//! operator's network: nobody gets at a cloud's metadata or the node's own services through it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::SolverError;

/// Metadata and host services of clouds that are not link-local: AWS over IPv6, Alibaba, Azure.
const METADATA: &[IpAddr] = &[
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// The policy for addresses of name servers and provider APIs. Private ones are fine: they live in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// `--allow-loopback`, for development.
    pub allow_loopback: bool,
}

impl Reach {
    /// `what` names the host in the error.
    pub fn check(self, what: &str, address: IpAddr) -> Result<(), SolverError> {
        let refused = |kind| {
            Err(SolverError::AddressRefused {
                what: what.into(),
                address,
                kind,
            })
        };
        let address = address.to_canonical();
        let (unspecified, link_local) = match address {
            IpAddr::V4(v4) => (v4.octets().first() == Some(&0), v4.is_link_local()),
            IpAddr::V6(v6) => (v6.is_unspecified(), v6.is_unicast_link_local()),
        };
        if link_local {
            refused("link-local")
        } else if METADATA.contains(&address) {
            refused("a cloud's metadata service")
        } else if unspecified || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            refused("not the address of a host")
        } else if address.is_loopback() && !self.allow_loopback {
            refused("loopback")
        } else {
            Ok(())
        }
    }

    /// The addresses of a host that may be connected to. An error when it has none.
    pub(super) async fn resolve(self, host: &str, port: u16) -> Result<Vec<SocketAddr>, SolverError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            self.check(host, address)?;
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| SolverError::DnsUnreachable {
                server: host.into(),
                detail: format!("its name cannot be resolved ({error})"),
            })?;
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

    #[test]
    fn only_hosts_that_may_be_asked_are_reachable() {
        let cases = [
            ("10.0.0.53", Ok(()), Ok(())),
            ("192.0.2.1", Ok(()), Ok(())),
            ("2001:db8::53", Ok(()), Ok(())),
            ("fd12::1", Ok(()), Ok(())),
            ("127.0.0.1", Err("loopback"), Ok(())),
            ("::1", Err("loopback"), Ok(())),
            ("::ffff:127.0.0.1", Err("loopback"), Ok(())),
            ("169.254.169.254", Err("link-local"), Err("link-local")),
            ("::ffff:169.254.169.254", Err("link-local"), Err("link-local")),
            ("fe80::1", Err("link-local"), Err("link-local")),
            (
                "fd00:ec2::254",
                Err("a cloud's metadata service"),
                Err("a cloud's metadata service"),
            ),
            (
                "100.100.100.200",
                Err("a cloud's metadata service"),
                Err("a cloud's metadata service"),
            ),
            (
                "0.0.0.0",
                Err("not the address of a host"),
                Err("not the address of a host"),
            ),
            (
                "0.1.2.3",
                Err("not the address of a host"),
                Err("not the address of a host"),
            ),
            ("::", Err("not the address of a host"), Err("not the address of a host")),
            (
                "224.0.0.1",
                Err("not the address of a host"),
                Err("not the address of a host"),
            ),
            (
                "255.255.255.255",
                Err("not the address of a host"),
                Err("not the address of a host"),
            ),
        ];
        for (address, strict, development) in cases {
            for (allow_loopback, expected) in [(false, strict), (true, development)] {
                let kind = Reach { allow_loopback }
                    .check("h", address.parse().unwrap())
                    .map_err(|error| match error {
                        SolverError::AddressRefused { kind, .. } => kind,
                        other => panic!("{other}"),
                    });
                assert_eq!(kind, expected, "{address}, allow_loopback {allow_loopback}");
            }
        }
    }

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
