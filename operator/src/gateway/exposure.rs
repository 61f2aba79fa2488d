//! Whether an address is as private as an Internal Gateway asks.

use std::net::IpAddr;

use ipnet::IpNet;

/// Who can reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Private,
    Public,
}

/// Private use (RFC 1918), carrier NAT (RFC 6598), unique local (RFC 4193), link-local and loopback. All others are public.
const PRIVATE: &[&str] = &[
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

/// Of one address; IPv4 within IPv6 counts as IPv4.
pub fn of(address: IpAddr) -> Reach {
    let address = address.to_canonical();
    let private = PRIVATE
        .iter()
        .filter_map(|range| range.parse::<IpNet>().ok())
        .any(|range| range.contains(&address));
    if private { Reach::Private } else { Reach::Public }
}

/// Names that say by themselves that they are internal: those of AWS' classic and application load balancers. A resolver outside
/// of the private network knows them, too.
pub fn is_internal_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.starts_with("internal-") && (name.ends_with(".elb.amazonaws.com") || name.ends_with(".elb.amazonaws.com.cn"))
}

/// An address that a load balancer was given, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    Address(IpAddr),
    /// A name and its addresses.
    Name(String, Vec<IpAddr>),
    /// A name that was not looked up yet.
    Unasked(String),
    /// A name whose look-up failed, and why.
    Unresolved(String, String),
}

/// The outcome of the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All are private.
    Private,
    /// This is public: as a sentence's subject.
    Public(String),
    /// There is no telling yet: why.
    Unknown(String),
}

/// Of all addresses together: one that is public decides.
pub fn judge(known: &[Known]) -> Verdict {
    let mut unknown = None;
    for one in known {
        let public = |address: &&IpAddr| of(**address) == Reach::Public;
        match one {
            Known::Address(address) if of(*address) == Reach::Public => return Verdict::Public(address.to_string()),
            Known::Name(name, addresses) => {
                if let Some(address) = addresses.iter().find(public) {
                    return Verdict::Public(format!("{name} ({address})"));
                }
                if addresses.is_empty() {
                    unknown = Some(format!("The name {name} has no address yet"));
                }
            }
            Known::Unasked(name) => unknown = Some(format!("The name {name} is being looked up")),
            Known::Unresolved(name, error) => unknown = Some(format!("The name {name} cannot be looked up: {error}")),
            Known::Address(_) => {}
        }
    }
    match unknown {
        Some(why) => Verdict::Unknown(why),
        None if known.is_empty() => Verdict::Unknown("There is no address yet".into()),
        None => Verdict::Private,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::needless_pass_by_value)]
    use super::*;

    #[test]
    fn every_range_is_judged_at_its_edges() {
        let private = [
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.3.4",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "fd12::1",
            "fc00::",
            "fe80::1",
            "::1",
            "::ffff:10.1.2.3",
        ];
        let public = [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "203.0.113.7",
            "8.8.8.8",
            "2001:db8::1",
            "2600::1",
            "fe00::1",
            "::ffff:8.8.8.8",
        ];
        for address in private {
            assert_eq!(of(address.parse().unwrap()), Reach::Private, "{address}");
        }
        for address in public {
            assert_eq!(of(address.parse().unwrap()), Reach::Public, "{address}");
        }
    }

    #[test]
    fn one_public_address_among_private_ones_is_public_and_no_answer_is_no_acquittal() {
        let address = |text: &str| Known::Address(text.parse().unwrap());
        let name = |addresses: &[&str]| {
            Known::Name(
                "lb.test".into(),
                addresses.iter().map(|address| address.parse().unwrap()).collect(),
            )
        };
        assert_eq!(judge(&[address("10.0.0.1"), name(&["10.0.0.2"])]), Verdict::Private);
        assert_eq!(
            judge(&[address("10.0.0.1"), name(&["10.0.0.2", "203.0.113.9"])]),
            Verdict::Public("lb.test (203.0.113.9)".into())
        );
        assert_eq!(
            judge(&[Known::Unresolved("lb.test".into(), "x".into()), address("203.0.113.1")]),
            Verdict::Public("203.0.113.1".into())
        );
        for unknown in [
            vec![],
            vec![name(&[])],
            vec![Known::Unasked("lb.test".into())],
            vec![
                address("10.0.0.1"),
                Known::Unresolved("lb.test".into(), "timeout".into()),
            ],
        ] {
            assert!(matches!(judge(&unknown), Verdict::Unknown(_)), "{unknown:?}");
        }
    }

    #[test]
    fn names_of_internal_load_balancers_are_known() {
        assert!(is_internal_name("internal-a1b2-123.eu-west-1.elb.amazonaws.com"));
        assert!(is_internal_name("internal-a.cn-north-1.elb.amazonaws.com.cn."));
        assert!(!is_internal_name("a1b2-123.eu-west-1.elb.amazonaws.com"));
        assert!(!is_internal_name("internal-a.elb.amazonaws.com.evil.test"));
        assert!(!is_internal_name("internal.example.com"));
    }
}
