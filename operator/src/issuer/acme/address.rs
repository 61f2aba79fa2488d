//! Which addresses an ACME server may not have.
//!
//! An Issuer is written by a tenant, the operator's network is not the tenant's: without this a
//! `server:` URL would be a way to the cloud's metadata service or to the operator's own Pod.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// 169.254.0.0/16, `fe80::/10`, and AWS's metadata service at `fd00:ec2::254`.
    LinkLocal,
    /// 127.0.0.0/8, `::1`, and the unspecified addresses, which the kernel takes for it.
    Loopback,
}

/// Whether `address` may be connected to; IPv4 within IPv6 (mapped, NAT64) counts as IPv4.
pub fn check(address: IpAddr, allow_loopback: bool) -> Result<(), Refused> {
    let address = embedded(address);
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    };
    if link_local {
        return Err(Refused::LinkLocal);
    }
    if !allow_loopback && (address.is_loopback() || address.is_unspecified()) {
        return Err(Refused::Loopback);
    }
    Ok(())
}

fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    // RFC 6052 §2.1: the well-known prefix of NAT64.
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = v6.segments() {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    v6.to_canonical()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn metadata_and_link_local_are_always_refused_and_loopback_unless_allowed() {
        // (address, refused, refused when loopback is allowed)
        let table = [
            ("203.0.113.7", Ok(()), Ok(())),
            ("10.0.0.1", Ok(()), Ok(())),
            ("fd00::1", Ok(()), Ok(())),
            ("169.254.169.254", Err(Refused::LinkLocal), Err(Refused::LinkLocal)),
            (
                "::ffff:169.254.169.254",
                Err(Refused::LinkLocal),
                Err(Refused::LinkLocal),
            ),
            ("64:ff9b::a9fe:a9fe", Err(Refused::LinkLocal), Err(Refused::LinkLocal)),
            ("fe80::1", Err(Refused::LinkLocal), Err(Refused::LinkLocal)),
            ("febf::1", Err(Refused::LinkLocal), Err(Refused::LinkLocal)),
            ("fd00:ec2::254", Err(Refused::LinkLocal), Err(Refused::LinkLocal)),
            ("127.0.0.1", Err(Refused::Loopback), Ok(())),
            ("127.8.8.8", Err(Refused::Loopback), Ok(())),
            ("::1", Err(Refused::Loopback), Ok(())),
            ("::ffff:127.0.0.1", Err(Refused::Loopback), Ok(())),
            ("0.0.0.0", Err(Refused::Loopback), Ok(())),
            ("::", Err(Refused::Loopback), Ok(())),
        ];
        for (address, strict, relaxed) in table {
            let parsed = address.parse().unwrap();
            assert_eq!(check(parsed, false), strict, "{address}");
            assert_eq!(check(parsed, true), relaxed, "{address} with loopback");
        }
    }
}
