//! Which addresses nothing that a user names may have: ACME servers, name servers, providers' APIs, receivers.
//!
//! An Issuer or AlertPolicy is written by a tenant, the operator's network is not the tenant's: without this a
//! `server:` URL would be a way to the cloud's metadata service or to the operator's own Pod.
//! Private addresses are fine: they live in the cluster.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata and host services of clouds that are not link-local: Google, Scaleway, Oracle and Akamai over IPv6, Alibaba, Azure,
/// Oracle Classic. Those of AWS are a prefix ([`is_aws_service`]).
const METADATA: &[IpAddr] = &[
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Whether an instance of AWS reaches a service of its host here: metadata, the credentials of EKS Pods, DNS, time.
fn is_aws_service(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments().starts_with(&[0xfd00, 0xec2, 0, 0]))
}

/// Why `address` must not be connected to, in words after "which is"; none when it may. IPv4 within IPv6
/// (mapped, NAT64) counts as IPv4.
pub fn refused(address: IpAddr, allow_loopback: bool) -> Option<&'static str> {
    let address = embedded(address);
    let (this_network, link_local) = match address {
        IpAddr::V4(v4) => (v4.octets().first() == Some(&0), v4.is_link_local()),
        IpAddr::V6(v6) => (v6.is_unspecified(), v6.is_unicast_link_local()),
    };
    if link_local {
        Some("link-local")
    } else if METADATA.contains(&address) || is_aws_service(address) {
        Some("a cloud's metadata service")
    } else if this_network || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("not the address of a host")
    } else if address.is_loopback() && !allow_loopback {
        Some("loopback")
    } else {
        None
    }
}

/// Whether the address is of a private network: RFC 1918, RFC 6598, RFC 4193, or loopback.
pub fn is_private(address: IpAddr) -> bool {
    match embedded(address) {
        IpAddr::V4(v4) => {
            let is_shared = matches!(v4.octets(), [100, 64..=127, ..]);
            v4.is_private() || is_shared || v4.is_loopback()
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback(),
    }
}

/// Returns the address that `host`, as in a URL, is; `None` when it is a name. Such a host never passes through a resolver.
pub fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The IPv4 address that an IPv6 address is a way to; else the address itself.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        // NAT64: the well-known prefix (RFC 6052 §2.1), and the one for local use (RFC 8215), with the address at the end.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low]
        // IPv4-translated (RFC 2765 §2.1).
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        // 6to4 (RFC 3056 §2).
        | [0x2002, high, low, ..] => v4(high, low),
        // IPv4-compatible (RFC 4291 §2.5.5.1), but for :: and ::1.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        _ => v6.to_canonical(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn metadata_and_link_local_are_always_refused_and_loopback_unless_allowed() {
        let metadata = Some("a cloud's metadata service");
        let (link_local, loopback, no_host) = (Some("link-local"), Some("loopback"), Some("not the address of a host"));
        // (address, refused, refused when loopback is allowed)
        let table = [
            ("203.0.113.7", None, None),
            ("10.0.0.53", None, None),
            ("2001:db8::53", None, None),
            ("fd00::1", None, None),
            ("169.254.169.254", link_local, link_local),
            ("::ffff:169.254.169.254", link_local, link_local),
            ("64:ff9b::a9fe:a9fe", link_local, link_local),
            ("fe80::1", link_local, link_local),
            ("febf::1", link_local, link_local),
            ("fd00:ec2::254", metadata, metadata),
            ("fd00:ec2::23", metadata, metadata),
            ("fd20:ce::254", metadata, metadata),
            ("fd00:42::42", metadata, metadata),
            ("fd00:c1::a9fe:a9fe", metadata, metadata),
            ("fd00:a9fe:a9fe::1", metadata, metadata),
            ("192.0.0.192", metadata, metadata),
            ("::169.254.169.254", link_local, link_local),
            ("::ffff:0:169.254.169.254", link_local, link_local),
            ("64:ff9b:1::a9fe:a9fe", link_local, link_local),
            ("64:ff9b:1:ffff::6464:64c8", metadata, metadata),
            ("2002:a9fe:a9fe::1", link_local, link_local),
            ("2002:7f00:1::", loopback, None),
            ("2002:cb00:7107::1", None, None),
            ("::127.0.0.1", loopback, None),
            ("100.100.100.200", metadata, metadata),
            ("168.63.129.16", metadata, metadata),
            ("127.0.0.1", loopback, None),
            ("127.8.8.8", loopback, None),
            ("::1", loopback, None),
            ("::ffff:127.0.0.1", loopback, None),
            ("64:ff9b::7f00:1", loopback, None),
            ("0.0.0.0", no_host, no_host),
            ("0.1.2.3", no_host, no_host),
            ("::", no_host, no_host),
            ("224.0.0.1", no_host, no_host),
            ("255.255.255.255", no_host, no_host),
        ];
        for (address, strict, relaxed) in table {
            let parsed = address.parse().unwrap();
            assert_eq!(refused(parsed, false), strict, "{address}");
            assert_eq!(refused(parsed, true), relaxed, "{address} with loopback");
        }
    }

    #[test]
    fn private_networks_are_those_of_the_cluster_and_what_leads_there() {
        for (address, private) in [
            ("10.0.0.1", true),
            ("172.31.255.1", true),
            ("192.168.1.1", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("127.0.0.1", true),
            ("203.0.113.7", false),
            ("fd00::1", true),
            ("::1", true),
            ("2001:db8::1", false),
            ("::ffff:10.0.0.1", true),
            ("64:ff9b::a00:1", true),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }
}
