//! Alibaba, Tencent, Baidu, Yandex.

use crate::gateway::provider::preset::{
    Addresses, Class, CreateOnly, ExposureAnnotation, Internal, Lack, Lacks, Marks, NOWHERE, PLAIN, Place, Preset,
    Reads, Recognised, Subnet, Takes, Unless, With,
};

const ALIBABA_SWITCH: &str = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type";
const INTRANET: Reads = Reads::Internal(&["intranet"]);

/// kubernetes/cloud-provider-alibaba-cloud, docs/usage.md, pkg/controller/service/{clbv1,nlbv2} and pkg/controller/helper.
pub static ALIBABA: Preset = Preset {
    key: "Alibaba",
    name: "Alibaba Cloud",
    recognised: Recognised {
        // Without the scheme, too: cn-hangzhou.i-abc (helper/node_utils.go); `detect` knows that form.
        provider_ids: &["alicloud://"],
        classes: &[Class::plain("alibabacloud.com/nlb")],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(ALIBABA_SWITCH, "intranet")])),
    exposure_annotations: &[
        ExposureAnnotation::new(ALIBABA_SWITCH, INTRANET),
        // The prefix until 2019, still read.
        ExposureAnnotation::new(
            "service.beta.kubernetes.io/alicloud-loadbalancer-address-type",
            INTRANET,
        ),
        // The IPv6 side of a network load balancer.
        ExposureAnnotation::new(
            "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-ipv6-address-type",
            Reads::ExternalBut(&["", "intranet", "Intranet"]),
        ),
        ExposureAnnotation::new(
            "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-id",
            Reads::Elsewhere,
        ),
        ExposureAnnotation::new("service.beta.kubernetes.io/alicloud-loadbalancer-id", Reads::Elsewhere),
        // NeedCLB: with a value another controller serves it.
        ExposureAnnotation::new("service.beta.kubernetes.io/class", Reads::Elsewhere),
    ],
    subnet: Subnet::Annotation {
        key: "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-vswitch-id",
        what: "the ID of a vSwitch",
        with: With::Internal,
        needed: false,
    },
    addresses: Addresses {
        internal: Takes::v4(Place::One("service.beta.kubernetes.io/alibaba-cloud-loadbalancer-ip")),
        external: Takes::NONE,
    },
    // A classic load balancer's address type is never updated; a network load balancer's is.
    create_only: CreateOnly::new(
        &[
            ALIBABA_SWITCH,
            "service.beta.kubernetes.io/alicloud-loadbalancer-address-type",
            "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-vswitch-id",
            "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-ip",
        ],
        true,
    ),
    lacks: Lacks {
        // Read in nlbv2, not in clbv1.
        source_ranges: Some(Lack::unless(
            "write loadBalancerClass: alibabacloud.com/nlb, or the annotations service.beta.kubernetes.io/alibaba-cloud-loadbalancer-acl-status, -acl-id and -acl-type instead",
            &[Unless::Class("alibabacloud.com/nlb")],
        )),
        // No ipFamilies are read (pkg/controller/service).
        ipv6: Some(Lack::unless(
            "add the annotation service.beta.kubernetes.io/alibaba-cloud-loadbalancer-ip-version, ipv6 or with a network load balancer DualStack",
            &[Unless::Annotation((
                "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-ip-version",
                "",
            ))],
        )),
        ..Lacks::NOTHING
    },
    ..PLAIN
};

const TENCENT_SWITCH: &str = "service.kubernetes.io/qcloud-loadbalancer-internal-subnetid";

/// cloud.tencent.com/document/product/457/51258; tencentcloud.com/document/product/457/36835: with an existing load balancer the
/// annotation of the network doesn't work.
pub static TENCENT: Preset = Preset {
    key: "Tencent",
    name: "Tencent Kubernetes Engine",
    recognised: Recognised {
        provider_ids: &["qcloud://"],
        ..NOWHERE
    },
    internal: Internal::Subnet,
    exposure_annotations: &[
        ExposureAnnotation::new(TENCENT_SWITCH, Reads::Named),
        ExposureAnnotation::new("service.kubernetes.io/tke-existed-lbid", Reads::Elsewhere),
    ],
    subnet: Subnet::Annotation {
        key: TENCENT_SWITCH,
        what: "the ID of a subnet, such as subnet-abcd1234",
        with: With::Internal,
        needed: true,
    },
    create_only: CreateOnly::new(&[TENCENT_SWITCH], true),
    lacks: Lacks {
        // No document of TKE mentions them.
        source_ranges: Some(Lack::always(
            "leave them out, and write the annotation service.cloud.tencent.com/security-groups instead",
        )),
        // Nor IPv6 of internal ones.
        internal_ipv6: Some(Lack::always("leave IPv6 out of ipFamilies")),
        ..Lacks::NOTHING
    },
    ..PLAIN
};

const BAIDU_SWITCH: &str = "service.beta.kubernetes.io/cce-load-balancer-internal-vpc";

/// Baidu CCE's guide to Services of type LoadBalancer; kubernetes.io on internal load balancers.
pub static BAIDU: Preset = Preset {
    key: "Baidu",
    name: "Baidu Cloud Container Engine",
    recognised: Recognised {
        // Recalled, not found in print.
        provider_ids: &["cce://"],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(BAIDU_SWITCH, "true")])),
    exposure_annotations: &[ExposureAnnotation::new(BAIDU_SWITCH, Reads::Internal(&["true"]))],
    subnet: Subnet::No("leave it out, or write Baidu's own annotation in spec.service.annotations"),
    addresses: Addresses {
        internal: Takes::NONE,
        // An EIP of the user's.
        external: Takes::v4(Place::Field),
    },
    // Nothing is documented of what it reads later: the switch counts as read once.
    create_only: CreateOnly::new(&[BAIDU_SWITCH], true),
    lacks: Lacks {
        // No document of CCE mentions them.
        source_ranges: Some(Lack::always(
            "leave them out, and restrict who may connect with the security groups of the nodes",
        )),
        ..Lacks::NOTHING
    },
    ..PLAIN
};

const YANDEX_SWITCH: &str = "yandex.cloud/load-balancer-type";
const YANDEX_SUBNET: &str = "yandex.cloud/subnet-id";

/// yandex.cloud/docs/managed-kubernetes/nlb-ref/service and operations/create-load-balancer.
pub static YANDEX: Preset = Preset {
    key: "Yandex",
    name: "Yandex Managed Service for Kubernetes",
    recognised: Recognised {
        provider_ids: &["yandex://"],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(YANDEX_SWITCH, "internal")])),
    exposure_annotations: &[ExposureAnnotation::new(YANDEX_SWITCH, Reads::Internal(&["internal"]))],
    subnet: Subnet::Annotation {
        key: YANDEX_SUBNET,
        what: "the ID of a subnet",
        with: With::Internal,
        needed: true,
    },
    addresses: Addresses::both(Takes::v4(Place::Field)),
    create_only: CreateOnly::new(&[YANDEX_SWITCH, YANDEX_SUBNET], true),
    lacks: Lacks {
        // nlb-ref/service lists the fields that are read, and they are not among them.
        source_ranges: Some(Lack::always(
            "leave them out, and restrict who may connect with the security groups of the nodes",
        )),
        // Nor is anything said of IPv6 there.
        internal_ipv6: Some(Lack::always("leave IPv6 out of ipFamilies")),
        ..Lacks::NOTHING
    },
    ..PLAIN
};
