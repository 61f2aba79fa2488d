//! Whether an address is as private as an Internal Gateway asks.

use std::net::IpAddr;

use ipnet::IpNet;

/// Network from which an address can be reached.
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

/// Returns the reach of one address; IPv4 within IPv6 counts as IPv4.
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

/// Whether a name is of a load balancer of AWS, whose zone no one else writes to.
pub fn is_aws_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    [".amazonaws.com", ".amazonaws.com.cn"]
        .into_iter()
        .filter_map(|zone| name.strip_suffix(zone))
        // Classic and application ones are in <region>.elb, network ones in elb.<region>.
        .any(|host| host.split('.').any(|label| label == "elb"))
}

/// An address that a load balancer was given, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    Address(IpAddr),
    /// An address at which the Service's node ports are open: the node, and the address.
    Node(String, IpAddr),
    /// An address in `spec.externalIPs`, which another has written.
    ExternalIp(String, Option<IpAddr>),
    /// A name and its addresses.
    Name(String, Vec<IpAddr>),
    /// A name of an internal load balancer in a VPC of AWS, and its addresses.
    Vpc(String, Vec<IpAddr>),
    /// A name that says by itself that it is internal.
    Internal(String),
    /// A name that was not looked up yet.
    Unasked(String),
    /// A name whose look-up failed, and why.
    Unresolved(String, String),
    /// Node ports are open, and the nodes cannot be read: why.
    Unread(String),
}

/// End of the subject for an address at which node ports are open.
const OF_NODE_PORTS: &str = ", where its node ports are open,";
/// And of one that another has written.
const OF_EXTERNAL_IPS: &str = " in the Service's externalIPs";

/// Whether a [`Verdict::Public`] is about this address or name.
pub fn is_about(subject: &str, exposed: &str) -> bool {
    let rest = subject.strip_prefix(exposed);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" (") || rest == OF_EXTERNAL_IPS)
}

/// Whether a [`Verdict::Public`] is about node ports.
pub fn is_about_node_ports(subject: &str) -> bool {
    subject.ends_with(OF_NODE_PORTS)
}

/// The outcome of the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All are private.
    Private,
    /// All are reachable from the private network only, though one is global unicast: why.
    PrivateThoughGlobal(String),
    /// This is public: as a sentence's subject.
    Public(String),
    /// Undecided, because an answer is awaited: the previous result stays.
    Awaited(String),
    /// Undecided, for this reason.
    Unknown(String),
}

impl Verdict {
    /// Whether it was verified, one way or the other.
    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Private | Self::PrivateThoughGlobal(_) | Self::Public(_))
    }
}

/// Judges all addresses together: one that is public decides, and one that is not known leaves all unknown.
pub fn judge(known: &[Known]) -> Verdict {
    let (mut unknown, mut awaited, mut global) = (None, None, None);
    for one in known {
        match one {
            Known::Address(address) if is_public(*address) => return Verdict::Public(address.to_string()),
            Known::Node(node, address) if is_public(*address) => {
                return Verdict::Public(format!("{address} of the node {node}{OF_NODE_PORTS}"));
            }
            Known::ExternalIp(text, address) => match address {
                Some(address) if !is_public(*address) => {}
                _ => return Verdict::Public(format!("{text}{OF_EXTERNAL_IPS}")),
            },
            Known::Name(name, addresses) => {
                if let Some(address) = addresses.iter().find(|address| is_public(**address)) {
                    return Verdict::Public(format!("{name} ({address})"));
                }
                if addresses.is_empty() {
                    unknown = Some(format!("The name {name} has no address yet"));
                }
            }
            Known::Vpc(name, addresses) => match in_vpc(name, addresses) {
                Verdict::Private => {}
                Verdict::PrivateThoughGlobal(why) => global = Some(why),
                Verdict::Unknown(why) => unknown = Some(why),
                other => return other,
            },
            Known::Unasked(name) => awaited = Some(format!("The name {name} is being looked up")),
            Known::Unresolved(name, error) => unknown = Some(format!("The name {name} cannot be looked up: {error}")),
            Known::Unread(error) => {
                unknown = Some(format!(
                    "Node ports are open, and whether a node has a public address cannot be checked: {error}"
                ));
            }
            Known::Address(_) | Known::Node(..) | Known::Internal(_) => {}
        }
    }
    match (unknown, awaited, global) {
        (Some(why), ..) => Verdict::Unknown(why),
        (None, Some(why), _) => Verdict::Awaited(why),
        (None, None, _) if known.is_empty() => Verdict::Unknown("There is no address yet".into()),
        (None, None, Some(why)) => Verdict::PrivateThoughGlobal(why),
        (None, None, None) => Verdict::Private,
    }
}

/// Judges the addresses of a load balancer that is internal by its scheme.
///
/// All IPv6 addresses of a VPC are global unicast. An internet-facing load balancer has public IPv4 addresses, an internal one
/// private ones, and keeps what comes from an internet gateway away from its IPv6 addresses (its attribute
/// `ipv6.deny_all_igw_traffic`; docs.aws.amazon.com/elasticloadbalancing, load balancer attributes).
fn in_vpc(name: &str, addresses: &[IpAddr]) -> Verdict {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().map(IpAddr::to_canonical).partition(IpAddr::is_ipv4);
    match (
        v4.iter().find(|address| is_public(**address)),
        v6.iter().find(|address| is_public(**address)),
    ) {
        (Some(public), _) => Verdict::Public(format!("{name} ({public})")),
        (None, Some(global)) if v4.is_empty() => Verdict::Public(format!("{name} ({global})")),
        (None, Some(global)) => Verdict::PrivateThoughGlobal(format!(
            "{global} of {name} is global unicast, as all IPv6 addresses of a VPC are. The load balancer is internal, as its private IPv4 address shows, and lets in nothing from an internet gateway"
        )),
        (None, None) if addresses.is_empty() => Verdict::Unknown(format!("The name {name} has no address yet")),
        (None, None) => Verdict::Private,
    }
}

fn is_public(address: IpAddr) -> bool {
    of(address) == Reach::Public
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
            vec![Known::Unread("forbidden".into())],
            vec![
                address("10.0.0.1"),
                Known::Unresolved("lb.test".into(), "timeout".into()),
            ],
        ] {
            assert!(matches!(judge(&unknown), Verdict::Unknown(_)), "{unknown:?}");
        }
        let awaited = judge(&[address("10.0.0.1"), Known::Unasked("lb.test".into())]);
        assert!(matches!(awaited, Verdict::Awaited(_)), "{awaited:?}");
    }

    #[test]
    fn node_ports_and_external_ips_count_like_addresses() {
        let node = |text: &str| Known::Node("one".into(), text.parse().unwrap());
        let external = |text: &str| Known::ExternalIp(text.into(), text.parse().ok());
        assert_eq!(judge(&[node("10.0.0.1"), external("192.168.7.7")]), Verdict::Private);
        for (known, words) in [
            (
                node("203.0.113.5"),
                "203.0.113.5 of the node one, where its node ports are open,",
            ),
            (external("203.0.113.6"), "203.0.113.6 in the Service's externalIPs"),
            // Not an address, and so not known to be private.
            (external("rubbish"), "rubbish in the Service's externalIPs"),
        ] {
            assert_eq!(
                judge(&[node("10.0.0.1"), known, Known::Unread("x".into())]),
                Verdict::Public(words.into())
            );
        }
    }

    #[test]
    fn the_ipv6_of_a_vpc_is_judged_by_the_ipv4_beside_it() {
        let vpc = |addresses: &[&str]| {
            judge(&[Known::Vpc(
                "lb.elb.eu-west-1.amazonaws.com".into(),
                addresses.iter().map(|address| address.parse().unwrap()).collect(),
            )])
        };
        let Verdict::PrivateThoughGlobal(why) = vpc(&["10.0.1.7", "2a05:d018::7"]) else {
            unreachable!("internal and dual stack");
        };
        assert!(
            why.starts_with("2a05:d018::7 of lb.elb.eu-west-1.amazonaws.com is global unicast"),
            "{why}"
        );
        assert_eq!(vpc(&["10.0.1.7", "10.0.2.7"]), Verdict::Private);
        // Internet-facing: its IPv4 addresses say so. With IPv6 alone nothing shows that it is not.
        for public in [
            &["54.1.2.3", "2a05:d018::7"][..],
            &["10.0.1.7", "54.1.2.3"],
            &["2a05:d018::7"],
        ] {
            assert!(matches!(vpc(public), Verdict::Public(_)), "{public:?}");
        }
        assert!(matches!(vpc(&[]), Verdict::Unknown(_)));
    }

    #[test]
    fn names_of_internal_load_balancers_are_known() {
        assert!(is_internal_name("internal-a1b2-123.eu-west-1.elb.amazonaws.com"));
        assert!(is_internal_name("internal-a.cn-north-1.elb.amazonaws.com.cn."));
        assert!(!is_internal_name("a1b2-123.eu-west-1.elb.amazonaws.com"));
        assert!(!is_internal_name("internal-a.elb.amazonaws.com.evil.test"));
        assert!(!is_internal_name("internal.example.com"));
        assert!(is_aws_name("k8s-app-shop-1-2.elb.eu-west-1.amazonaws.com."));
        assert!(is_aws_name("a1-2.eu-west-1.elb.amazonaws.com"));
        assert!(is_aws_name("a1-2.elb.cn-north-1.amazonaws.com.cn"));
        assert!(!is_aws_name("elb.amazonaws.com.evil.test"));
        assert!(!is_aws_name("bucket.s3.amazonaws.com"));
    }
}
