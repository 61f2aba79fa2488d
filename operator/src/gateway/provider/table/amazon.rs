//! Amazon: three controllers that read each other's annotations, or don't.

use crate::gateway::provider::preset::{
    Addresses, Class, Clients, CreateOnly, ExposureAnnotation, Internal, Lack, Lacks, Marks, NOWHERE, NodePorts, PLAIN,
    Place, Preset, Reads, Recognised, Served, Subnet, Takes, Unless, With,
};

const SCHEME: &str = "service.beta.kubernetes.io/aws-load-balancer-scheme";
const INTERNAL: &str = "service.beta.kubernetes.io/aws-load-balancer-internal";
const TYPE: &str = "service.beta.kubernetes.io/aws-load-balancer-type";
const NAME: &str = "service.beta.kubernetes.io/aws-load-balancer-name";
const SUBNETS: &str = "service.beta.kubernetes.io/aws-load-balancer-subnets";
const EIPS: &str = "service.beta.kubernetes.io/aws-load-balancer-eip-allocations";
const PRIVATE_IPV4: &str = "service.beta.kubernetes.io/aws-load-balancer-private-ipv4-addresses";
const IPV6: &str = "service.beta.kubernetes.io/aws-load-balancer-ipv6-addresses";
const ATTRIBUTES: &str = "service.beta.kubernetes.io/aws-load-balancer-attributes";
const TARGETS: &str = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type";
const FAMILY: &str = "service.beta.kubernetes.io/aws-load-balancer-ip-address-type";

const SUBNET: Subnet = Subnet::Annotation {
    key: SUBNETS,
    what: "IDs or names of subnets, with commas",
    with: With::Both,
    needed: false,
};

/// Elastic IPs are for a public load balancer only.
const ELASTIC: Takes = Takes {
    named: Some((Place::Many(EIPS), "an allocation ID such as eipalloc-0123456789abcdef0")),
    ..Takes::NONE
};

/// aws-load-balancer-controller, docs/guide/service/annotations.md and pkg/service/model_build_load_balancer.go: the scheme wins over
/// the old annotation, another value than these two is an error, neither is Internal.
const EXPOSURE_ANNOTATIONS: &[ExposureAnnotation] = &[
    ExposureAnnotation::new(SCHEME, Reads::Internal(&["internal"])),
    ExposureAnnotation::new(INTERNAL, Reads::Internal(&["true"])),
    // For a public one only (annotations.md).
    ExposureAnnotation::new(EIPS, Reads::ExternalBut(&[""])),
    // By default an internal load balancer lets nothing in from an internet gateway, which IPv6 addresses could be reached through.
    ExposureAnnotation::new(ATTRIBUTES, Reads::ExternalWith("ipv6.deny_all_igw_traffic=false")),
];

pub static CONTROLLER: Preset = Preset {
    key: "AWSLoadBalancerController",
    name: "EKS with the AWS Load Balancer Controller",
    recognised: Recognised {
        api_group: Some("elbv2.k8s.aws"),
        classes: &[Class::plain("service.k8s.aws/nlb")],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks {
        annotations: &[(SCHEME, "internal")],
        class: Some("service.k8s.aws/nlb"),
    }),
    external: Marks {
        annotations: &[(SCHEME, "internet-facing")],
        class: Some("service.k8s.aws/nlb"),
    },
    // Without either the cloud controller manager serves it, doesn't know the scheme, and makes it public
    // (aws-load-balancer-controller#2737; pkg/service/service_utils.go).
    served: &[Served::Class, Served::Annotation(TYPE, &["external", "nlb-ip"])],
    exposure_annotations: EXPOSURE_ANNOTATIONS,
    subnet: SUBNET,
    addresses: Addresses {
        internal: Takes {
            v4: Some(Place::Many(PRIVATE_IPV4)),
            v6: Some(Place::Many(IPV6)),
            ..Takes::NONE
        },
        external: Takes {
            v6: Some(Place::Many(IPV6)),
            ..ELASTIC
        },
    },
    ipv6: Some((FAMILY, "dualstack")),
    // annotations.md: "do not add or modify" the type, no effect of a new name. A new scheme replaces the load balancer
    // (pkg/deploy/elbv2/load_balancer_synthesizer.go).
    create_only: CreateOnly::new(&[TYPE, NAME], false),
    // annotations.md, "NodePort allocation": needed for instance targets, the default.
    node_ports: NodePorts::UnneededWith(&[(TARGETS, "ip"), (TYPE, "nlb-ip")]),
    // Seen with instance targets, not with IP targets (annotations.md, load-balancer-source-ranges).
    clients: Clients::Unknown,
    ..PLAIN
};

/// docs.aws.amazon.com/eks/latest/userguide/auto-configure-nlb.html: the controller's annotations, a class of its own, and
/// `spec.loadBalancerSourceRanges` (the annotation of that name is "not supported" there).
pub static AUTO_MODE: Preset = Preset {
    key: "EKSAutoMode",
    name: "EKS Auto Mode",
    recognised: Recognised {
        // Not by the group eks.amazonaws.com, which the node monitoring agent brings, too.
        node_label: Some(("eks.amazonaws.com/compute-type", "auto")),
        classes: &[Class::plain("eks.amazonaws.com/nlb")],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks {
        annotations: &[(SCHEME, "internal")],
        class: Some("eks.amazonaws.com/nlb"),
    }),
    external: Marks {
        annotations: &[(SCHEME, "internet-facing")],
        class: Some("eks.amazonaws.com/nlb"),
    },
    served: &[Served::Class],
    exposure_annotations: EXPOSURE_ANNOTATIONS,
    subnet: SUBNET,
    addresses: Addresses {
        internal: Takes::v4(Place::Many(PRIVATE_IPV4)),
        external: ELASTIC,
    },
    ipv6: Some((FAMILY, "dualstack")),
    // Nothing is documented of what it reads later: all of it counts as read once.
    create_only: CreateOnly::new(&[SCHEME, TYPE, NAME], true),
    node_ports: NodePorts::UnneededWith(&[(TARGETS, "ip")]),
    ..PLAIN
};

/// kubernetes/cloud-provider-aws, pkg/providers/v1/aws.go.
pub static IN_TREE: Preset = Preset {
    key: "AWS",
    name: "AWS' cloud controller manager (classic load balancers)",
    recognised: Recognised {
        provider_ids: &["aws://"],
        ..NOWHERE
    },
    // The scheme, too: a Load Balancer Controller that takes the Service over reads it.
    internal: Internal::Marks(Marks::annotations(&[(INTERNAL, "true"), (SCHEME, "internal")])),
    external: Marks::annotations(&[(SCHEME, "internet-facing")]),
    exposure_annotations: &[
        // Any value but these, 0.0.0.0/0 in old times.
        ExposureAnnotation::new(INTERNAL, Reads::InternalBut(&["", "false"])),
        // Not read here: that it says internal is worth nothing.
        ExposureAnnotation::new(SCHEME, Reads::ExternalBut(&["internal", ""])),
        ExposureAnnotation::new(EIPS, Reads::ExternalBut(&[""])),
    ],
    subnet: SUBNET,
    addresses: Addresses {
        internal: Takes {
            requires: Some((TYPE, "nlb")),
            ..Takes::v4(Place::Many(PRIVATE_IPV4))
        },
        external: Takes {
            requires: Some((TYPE, "nlb")),
            ..ELASTIC
        },
    },
    // kubernetes#64251: an existing one keeps its scheme.
    create_only: CreateOnly::new(&[INTERNAL, SCHEME, TYPE], true),
    lacks: Lacks {
        udp: Some(Lack::unless(
            "add the annotation service.beta.kubernetes.io/aws-load-balancer-type: nlb",
            &[Unless::Annotation((TYPE, "nlb"))],
        )),
        // It reads no ipFamilies.
        ipv6: Some(Lack::always(
            "leave IPv6 out of ipFamilies, or write provider: AWSLoadBalancerController or EKSAutoMode",
        )),
        // checkMixedProtocol.
        mixed: Some(Lack::always("make a Gateway for TCP and another for UDP")),
        ..Lacks::NOTHING
    },
    ..PLAIN
};
