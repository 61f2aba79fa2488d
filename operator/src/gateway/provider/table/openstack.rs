//! OpenStack's Octavia, and who builds on OpenStack.

use crate::gateway::provider::preset::{
    Addresses, Clients, CreateOnly, ExposureAnnotation, Internal, Lack, Lacks, Marks, NOWHERE, PLAIN, Place, Preset,
    Reads, Recognised, Served, Subnet, TRUE, Takes, With,
};

const SWITCH: &str = "service.beta.kubernetes.io/openstack-internal-load-balancer";

/// kubernetes/cloud-provider-openstack, pkg/openstack/loadbalancer.go: another word than true and false leaves the decision to its
/// configuration. It writes the ID itself, too.
const EXPOSURE_ANNOTATIONS: &[ExposureAnnotation] = &[
    ExposureAnnotation::new(SWITCH, Reads::Internal(&["true"])),
    ExposureAnnotation::new("loadbalancer.openstack.org/load-balancer-id", Reads::Attached),
];

const SUBNET: Subnet = Subnet::Annotation {
    key: "loadbalancer.openstack.org/subnet-id",
    what: "the ID of a subnet",
    with: With::Both,
    needed: false,
};

/// pkg/openstack/loadbalancer.go: one VIP, of the first of `ipFamilies`.
const LACKS: Lacks = Lacks {
    dual_stack: Some(Lack::always("make a Gateway for each IP family")),
    ..Lacks::NOTHING
};

/// pkg/openstack/events.go: which driver of Octavia it is, and whether it reads source ranges, is known by this only.
const RANGES_IGNORED: &str = "LoadBalancerSourceRangesIgnored";

pub static OCTAVIA: Preset = Preset {
    key: "OpenStack",
    name: "OpenStack Octavia",
    recognised: Recognised {
        provider_ids: &["openstack://"],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(SWITCH, "true")])),
    exposure_annotations: EXPOSURE_ANNOTATIONS,
    subnet: SUBNET,
    addresses: Addresses::both(Takes::v4(Place::Field)),
    // The floating IP is taken away or given in place; the VIP, and so its subnet and address, is set when it is made.
    create_only: CreateOnly::new(
        &[
            "loadbalancer.openstack.org/subnet-id",
            "loadbalancer.openstack.org/network-id",
        ],
        false,
    ),
    lacks: LACKS,
    ranges_ignored: Some(RANGES_IGNORED),
    // Amphorae are proxies, OVN is not.
    clients: Clients::Unknown,
    ..PLAIN
};

const OVHCLOUD_CLASS: &str = "loadbalancer.ovhcloud.com/class";

/// help.ovhcloud.com, "Expose your applications using OVHcloud Public Cloud Load Balancer". The older `iolb`, the default until
/// Kubernetes 1.31, doesn't know the switch.
pub static OVHCLOUD: Preset = Preset {
    key: "OVHcloud",
    name: "OVHcloud Managed Kubernetes",
    recognised: Recognised {
        // Beside openstack:// of the nodes.
        node_label: Some(("node.k8s.ovh/type", "")),
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(SWITCH, "true"), (OVHCLOUD_CLASS, "octavia")])),
    external: Marks::annotations(&[(OVHCLOUD_CLASS, "octavia")]),
    served: &[Served::Annotation(OVHCLOUD_CLASS, &["octavia"])],
    exposure_annotations: EXPOSURE_ANNOTATIONS,
    subnet: SUBNET,
    addresses: Addresses::both(Takes::v4(Place::Field)),
    create_only: CreateOnly::new(
        &[
            OVHCLOUD_CLASS,
            "loadbalancer.openstack.org/subnet-id",
            "loadbalancer.openstack.org/network-id",
        ],
        false,
    ),
    lacks: LACKS,
    ranges_ignored: Some(RANGES_IGNORED),
    ..PLAIN
};

const STACKIT_SWITCH: &str = "lb.stackit.cloud/internal-lb";

/// stackitcloud/cloud-provider-stackit, pkg/ccm/loadbalancer_spec.go and loadbalancer_yawol.go.
pub static STACKIT: Preset = Preset {
    key: "STACKIT",
    name: "STACKIT Kubernetes Engine",
    recognised: Recognised {
        provider_ids: &["stackit://"],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(STACKIT_SWITCH, "true")])),
    exposure_annotations: &[
        ExposureAnnotation::new(STACKIT_SWITCH, TRUE),
        // Deprecated, still read; both must agree.
        ExposureAnnotation::new("yawol.stackit.cloud/internalLB", TRUE),
        // Another controller serves it.
        ExposureAnnotation::new("yawol.stackit.cloud/className", Reads::Elsewhere),
    ],
    subnet: Subnet::No("leave it out: STACKIT listens in the cluster's own network"),
    addresses: Addresses {
        // An external address is ignored on an internal one.
        internal: Takes::NONE,
        external: Takes::v4(Place::One("lb.stackit.cloud/external-address")),
    },
    // resultImmutableChanged.
    create_only: CreateOnly::new(
        &[
            STACKIT_SWITCH,
            "yawol.stackit.cloud/internalLB",
            "lb.stackit.cloud/external-address",
            "lb.stackit.cloud/listener-network",
        ],
        true,
    ),
    lacks: Lacks {
        // pkg/ccm/loadbalancer_spec.go reads no ipFamilies.
        ipv6: Some(Lack::always("leave IPv6 out of ipFamilies")),
        ..Lacks::NOTHING
    },
    ..PLAIN
};
