//! DigitalOcean, Hetzner, Scaleway, Linode, Vultr, Exoscale.

use crate::gateway::provider::preset::{
    Addresses, Clients, CreateOnly, ExposureAnnotation, Internal, Lack, Lacks, Marks, NOWHERE, PLAIN, Place, Preset,
    Reads, Recognised, Subnet, TRUE, Takes, Unless, With,
};

const DIGITAL_OCEAN_SWITCH: &str = "service.beta.kubernetes.io/do-loadbalancer-network";

/// digitalocean/digitalocean-cloud-controller-manager, docs/controllers/services/annotations.md and do/loadbalancers.go.
pub static DIGITAL_OCEAN: Preset = Preset {
    key: "DigitalOcean",
    name: "DigitalOcean Kubernetes",
    recognised: Recognised {
        provider_ids: &["digitalocean://"],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(DIGITAL_OCEAN_SWITCH, "INTERNAL")])),
    exposure_annotations: &[
        ExposureAnnotation::new(DIGITAL_OCEAN_SWITCH, Reads::Internal(&["INTERNAL"])),
        ExposureAnnotation::new("kubernetes.digitalocean.com/load-balancer-id", Reads::Attached),
    ],
    subnet: Subnet::Annotation {
        key: "service.beta.kubernetes.io/do-loadbalancer-subnet-uuid",
        what: "the UUID of a VPC subnet",
        with: With::Both,
        needed: false,
    },
    addresses: Addresses {
        internal: Takes::NONE,
        external: Takes::v4(Place::One("service.beta.kubernetes.io/do-loadbalancer-ip")),
    },
    // The address is documented so; of the network nothing is said.
    create_only: CreateOnly::new(
        &[
            DIGITAL_OCEAN_SWITCH,
            "service.beta.kubernetes.io/do-loadbalancer-ip",
            "service.beta.kubernetes.io/do-loadbalancer-subnet-uuid",
            "service.beta.kubernetes.io/do-loadbalancer-type",
        ],
        true,
    ),
    lacks: Lacks {
        // getNetworkStack.
        internal_ipv6: Some(Lack::always(
            "leave IPv6 out of ipFamilies: internal ones have IPv4 only",
        )),
        // No ipFamilies are read (do/loadbalancers.go).
        ipv6: Some(Lack::unless(
            "add the annotation service.beta.kubernetes.io/do-loadbalancer-network-stack: DUALSTACK",
            &[Unless::Annotation((
                "service.beta.kubernetes.io/do-loadbalancer-network-stack",
                "DUALSTACK",
            ))],
        )),
        ..Lacks::NOTHING
    },
    ..PLAIN
};

const HETZNER_SWITCH: &str = "load-balancer.hetzner.cloud/disable-public-network";

/// hetznercloud/hcloud-cloud-controller-manager, internal/annotation/load_balancer.go and internal/hcops/load_balancer.go.
pub static HETZNER: Preset = Preset {
    key: "Hetzner",
    name: "Hetzner Cloud",
    recognised: Recognised {
        provider_ids: &["hcloud://", "hrobot://"],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(HETZNER_SWITCH, "true")])),
    // The controller's configuration can turn the public network off by default.
    external: Marks::annotations(&[(HETZNER_SWITCH, "false")]),
    exposure_annotations: &[ExposureAnnotation::new(HETZNER_SWITCH, TRUE)],
    subnet: Subnet::Annotation {
        key: "load-balancer.hetzner.cloud/private-subnet-ip-range",
        what: "the range of a subnet, such as 10.0.1.0/24",
        with: With::Both,
        needed: false,
    },
    addresses: Addresses {
        internal: Takes::v4(Place::One("load-balancer.hetzner.cloud/private-ipv4")),
        external: Takes::NONE,
    },
    // The public side is turned on and off in place (togglePublicInterface).
    create_only: CreateOnly::new(
        &[
            "load-balancer.hetzner.cloud/location",
            "load-balancer.hetzner.cloud/network-zone",
        ],
        false,
    ),
    lacks: Lacks {
        udp: Some(Lack::always("leave UDP out, or use a Gateway of type NodePort for it")),
        source_ranges: Some(Lack::always(
            "leave them out, and restrict who may connect in the application, or with type: NodePort and Hetzner's firewalls",
        )),
        internal_ipv6: Some(Lack::always(
            "leave IPv6 out of ipFamilies: private networks have IPv4 only",
        )),
        ..Lacks::NOTHING
    },
    clients: Clients::Proxied,
    ..PLAIN
};

const SCALEWAY_SWITCH: &str = "service.beta.kubernetes.io/scw-loadbalancer-private";

/// scaleway/scaleway-cloud-controller-manager, scaleway/loadbalancers.go and loadbalancers_annotations.go.
pub static SCALEWAY: Preset = Preset {
    key: "Scaleway",
    name: "Scaleway Kapsule",
    recognised: Recognised {
        provider_ids: &["scaleway://"],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(SCALEWAY_SWITCH, "true")])),
    exposure_annotations: &[
        ExposureAnnotation::new(SCALEWAY_SWITCH, TRUE),
        // Static public addresses: an error on a private one.
        ExposureAnnotation::new(
            "service.beta.kubernetes.io/scw-loadbalancer-ip-ids",
            Reads::ExternalBut(&[""]),
        ),
        // Then the switch is not read.
        ExposureAnnotation::new(
            "service.beta.kubernetes.io/scw-loadbalancer-externally-managed",
            Reads::Elsewhere,
        ),
        ExposureAnnotation::new("service.beta.kubernetes.io/scw-loadbalancer-id", Reads::Attached),
    ],
    subnet: Subnet::Annotation {
        key: "service.beta.kubernetes.io/scw-loadbalancer-pn-ids",
        what: "IDs of private networks, with commas",
        with: With::Both,
        needed: false,
    },
    addresses: Addresses {
        internal: Takes {
            named: Some((
                Place::Many("service.beta.kubernetes.io/scw-loadbalancer-private-ip-ids"),
                "the ID of an IPAM IP",
            )),
            ..Takes::NONE
        },
        external: Takes {
            v4: Some(Place::Field),
            named: Some((
                Place::Many("service.beta.kubernetes.io/scw-loadbalancer-ip-ids"),
                "the ID of a flexible IP",
            )),
            ..Takes::NONE
        },
    },
    // A new scope deletes the load balancer and makes another (EnsureLoadBalancer).
    create_only: CreateOnly::new(
        &["service.beta.kubernetes.io/scw-loadbalancer-flexible-ip-types"],
        false,
    ),
    lacks: Lacks {
        udp: Some(Lack::always("leave UDP out, or use a Gateway of type NodePort for it")),
        // No ipFamilies are read (scaleway/loadbalancers.go).
        ipv6: Some(Lack::unless(
            "add the annotation service.beta.kubernetes.io/scw-loadbalancer-flexible-ip-types",
            &[Unless::Annotation((
                "service.beta.kubernetes.io/scw-loadbalancer-flexible-ip-types",
                "",
            ))],
        )),
        ..Lacks::NOTHING
    },
    clients: Clients::Proxied,
    ..PLAIN
};

const LINODE_SUBNET: &str = "service.beta.kubernetes.io/linode-loadbalancer-frontend-subnet-id";
const LINODE_IPV6_RANGE: &str = "service.beta.kubernetes.io/linode-loadbalancer-frontend-ipv6-range";

/// linode/linode-cloud-controller-manager, docs/configuration/loadbalancer.md and cloud/linode/loadbalancers.go: the frontend is read
/// in createNodeBalancer only.
pub static LINODE: Preset = Preset {
    key: "Linode",
    name: "Linode (Akamai)",
    recognised: Recognised {
        provider_ids: &["linode://"],
        ..NOWHERE
    },
    internal: Internal::Subnet,
    exposure_annotations: &[
        ExposureAnnotation::new(LINODE_SUBNET, Reads::Named),
        // A public address.
        ExposureAnnotation::new(
            "service.beta.kubernetes.io/linode-loadbalancer-reserved-ipv4",
            Reads::ExternalBut(&[""]),
        ),
        ExposureAnnotation::new(
            "service.beta.kubernetes.io/linode-loadbalancer-nodebalancer-id",
            Reads::Elsewhere,
        ),
    ],
    subnet: Subnet::Annotation {
        key: LINODE_SUBNET,
        what: "the ID of a VPC subnet, a number",
        with: With::Internal,
        needed: true,
    },
    addresses: Addresses {
        internal: Takes::NONE,
        external: Takes::v4(Place::One(
            "service.beta.kubernetes.io/linode-loadbalancer-reserved-ipv4",
        )),
    },
    create_only: CreateOnly::new(
        &[
            LINODE_SUBNET,
            "service.beta.kubernetes.io/linode-loadbalancer-frontend-vpc-name",
            "service.beta.kubernetes.io/linode-loadbalancer-frontend-subnet-name",
            "service.beta.kubernetes.io/linode-loadbalancer-frontend-ipv4-range",
            LINODE_IPV6_RANGE,
            "service.beta.kubernetes.io/linode-loadbalancer-reserved-ipv4",
        ],
        true,
    ),
    lacks: Lacks {
        source_ranges: Some(Lack::always(
            "write the annotation service.beta.kubernetes.io/linode-loadbalancer-firewall-acl instead",
        )),
        // makeLoadBalancerStatus: ipFamilies are not read, and without this there is no IPv6 address in the status.
        ipv6: Some(Lack::unless(
            "add the annotation service.beta.kubernetes.io/linode-loadbalancer-enable-ipv6-ingress: \"true\"",
            &[Unless::Annotation((
                "service.beta.kubernetes.io/linode-loadbalancer-enable-ipv6-ingress",
                "true",
            ))],
        )),
        // A VPC frontend takes IPv6 from a range of its subnet only.
        internal_ipv6: Some(Lack::unless(
            "leave IPv6 out of ipFamilies, or add the annotation service.beta.kubernetes.io/linode-loadbalancer-frontend-ipv6-range",
            &[Unless::Annotation((LINODE_IPV6_RANGE, ""))],
        )),
        ..Lacks::NOTHING
    },
    clients: Clients::Proxied,
    ..PLAIN
};

/// vultr/vultr-cloud-controller-manager, docs/load-balancers.md: `vpc` attaches a private network to a public load balancer.
/// IPv6 in `ipFamilies` is read (vultr/loadbalancers.go, checkEnabledIPv6).
pub static VULTR: Preset = Preset {
    key: "Vultr",
    name: "Vultr Kubernetes Engine",
    recognised: Recognised {
        provider_ids: &["vultr://"],
        ..NOWHERE
    },
    internal: Internal::Never(
        "use type: NodePort or ClusterIP, or a load balancer in the cluster such as MetalLB with provider: MetalLB",
    ),
    exposure_annotations: &[ExposureAnnotation::new(
        "service.beta.kubernetes.io/vultr-loadbalancer-id",
        Reads::Attached,
    )],
    subnet: Subnet::No(
        "write the annotation service.beta.kubernetes.io/vultr-loadbalancer-vpc: \"true\" to attach the cluster's VPC",
    ),
    lacks: Lacks {
        source_ranges: Some(Lack::always(
            "write the annotation service.beta.kubernetes.io/vultr-loadbalancer-firewall-rules instead",
        )),
        ..Lacks::NOTHING
    },
    ..PLAIN
};

/// exoscale/exoscale-cloud-controller-manager, docs/service-loadbalancer.md and exoscale/loadbalancer.go.
pub static EXOSCALE: Preset = Preset {
    key: "Exoscale",
    name: "Exoscale SKS",
    recognised: Recognised {
        provider_ids: &["exoscale://"],
        ..NOWHERE
    },
    internal: Internal::Never(
        "use type: NodePort or ClusterIP, or a load balancer in the cluster such as MetalLB with provider: MetalLB",
    ),
    exposure_annotations: &[ExposureAnnotation::new(
        "service.beta.kubernetes.io/exoscale-loadbalancer-id",
        Reads::Attached,
    )],
    lacks: Lacks {
        source_ranges: Some(Lack::always(
            "leave them out, and restrict who may connect with the security group of the nodes",
        )),
        // No file of it reads ipFamilies; the status has the one IPv4 address of the load balancer.
        ipv6: Some(Lack::always("leave IPv6 out of ipFamilies")),
        ..Lacks::NOTHING
    },
    // docs/service-loadbalancer.md on externalTrafficPolicy.
    clients: Clients::Seen,
    ..PLAIN
};
