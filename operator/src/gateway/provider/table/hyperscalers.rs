//! Google, Microsoft, Oracle, IBM.

use crate::gateway::provider::preset::{
    Addresses, Class, Clients, CreateOnly, ExposureAnnotation, Internal, Lack, Lacks, Marks, NOWHERE, Need, NodePorts,
    PLAIN, Place, Preset, Reads, Recognised, Served, Subnet, TRUE, Takes, Unless, With,
};

const GKE_NAMES: &str = "networking.gke.io/load-balancer-ip-addresses";
const GKE_SWITCH: &str = "networking.gke.io/load-balancer-type";

/// kubernetes/cloud-provider-gcp, gce_annotations.go and gce_loadbalancer.go; kubernetes/ingress-gce;
/// cloud.google.com/kubernetes-engine/docs/concepts/service-load-balancer-parameters.
pub static GKE: Preset = Preset {
    key: "GKE",
    name: "Google Kubernetes Engine",
    recognised: Recognised {
        provider_ids: &["gce://"],
        // They win over the annotation.
        classes: &[
            Class::decides("networking.gke.io/l4-regional-internal", true),
            Class::decides("networking.gke.io/l4-regional-internal-legacy", true),
            Class::decides("networking.gke.io/l4-regional-external", false),
            Class::decides("networking.gke.io/l4-regional-external-legacy", false),
        ],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(GKE_SWITCH, "Internal")])),
    exposure_annotations: &[
        ExposureAnnotation::new(GKE_SWITCH, Reads::Internal(&["Internal", "internal"])),
        // Its older name, still read.
        ExposureAnnotation::new(
            "cloud.google.com/load-balancer-type",
            Reads::Internal(&["Internal", "internal"]),
        ),
    ],
    subnet: Subnet::Annotation {
        key: "networking.gke.io/internal-load-balancer-subnet",
        what: "the name of a subnet",
        with: With::Internal,
        needed: false,
    },
    global_access: Some(("networking.gke.io/internal-load-balancer-allow-global-access", "true")),
    addresses: Addresses::both(Takes {
        v4: Some(Place::Field),
        named: Some((Place::Many(GKE_NAMES), "the name of a reserved address")),
        ..Takes::NONE
    }),
    // A new type deletes the old load balancer and makes another (gce_loadbalancer.go).
    create_only: CreateOnly::new(&[], false),
    // Packets keep the load balancer's address and port on their way to a node; health checks go to the kube-proxy's port or to
    // healthCheckNodePort (kubernetes/ingress-gce, pkg/l4; kubernetes/cloud-provider-gcp, gce_loadbalancer_internal.go).
    node_ports: NodePorts::Unneeded,
    clients: Clients::Seen,
    // cloud.google.com/load-balancing/docs/firewall-rules.
    health_checks: &["35.191.0.0/16", "130.211.0.0/22"],
    ..PLAIN
};

/// kubernetes-sigs/cloud-provider-azure, pkg/consts/consts.go and pkg/provider/azure_loadbalancer.go.
pub static AKS: Preset = Preset {
    key: "AKS",
    name: "Azure Kubernetes Service",
    recognised: Recognised {
        provider_ids: &["azure://"],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(
        "service.beta.kubernetes.io/azure-load-balancer-internal",
        "true",
    )])),
    exposure_annotations: &[
        ExposureAnnotation::new(
            "service.beta.kubernetes.io/azure-load-balancer-internal",
            Reads::Internal(&["true"]),
        ),
        // Public ones besides, which the nodes then answer.
        ExposureAnnotation::new(
            "service.beta.kubernetes.io/azure-additional-public-ips",
            Reads::ExternalBut(&[""]),
        ),
    ],
    subnet: Subnet::Annotation {
        key: "service.beta.kubernetes.io/azure-load-balancer-internal-subnet",
        what: "the name of a subnet",
        with: With::Internal,
        needed: false,
    },
    addresses: Addresses {
        internal: AZURE,
        external: Takes {
            named: Some((
                Place::One("service.beta.kubernetes.io/azure-pip-name"),
                "the name of a public IP resource",
            )),
            ..AZURE
        },
    },
    // The other scope's is taken down in the same pass (flipServiceInternalAnnotation).
    create_only: CreateOnly::new(&[], false),
    clients: Clients::Seen,
    // learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16.
    health_checks: &["168.63.129.16/32"],
    ..PLAIN
};

const AZURE: Takes = Takes {
    v4: Some(Place::One("service.beta.kubernetes.io/azure-load-balancer-ipv4")),
    v6: Some(Place::One("service.beta.kubernetes.io/azure-load-balancer-ipv6")),
    ..Takes::NONE
};

const OCI_SWITCH: &str = "service.beta.kubernetes.io/oci-load-balancer-internal";
const OCI_NETWORK_SWITCH: &str = "oci-network-load-balancer.oraclecloud.com/internal";
const OCI_TYPE: &str = "oci.oraclecloud.com/load-balancer-type";
const OCI_RULES: &str = "oci.oraclecloud.com/security-rule-management-mode";
const OCI_NETWORK_LISTS: &str = "oci-network-load-balancer.oraclecloud.com/security-list-management-mode";

/// oracle/oci-cloud-controller-manager, docs/load-balancer-annotations.md and load_balancer_spec.go.
pub static OCI: Preset = Preset {
    key: "OCI",
    name: "Oracle's load balancer",
    recognised: Recognised {
        // The bare OCID in older clusters (providers/oci/util.go takes both).
        provider_ids: &["oci://", "ocid1.instance."],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(OCI_SWITCH, "true")])),
    exposure_annotations: &[
        ExposureAnnotation::new(OCI_SWITCH, TRUE),
        // A network load balancer reads another switch, and is public without it.
        ExposureAnnotation::new(OCI_TYPE, Reads::ExternalBut(&["", "lb"])),
    ],
    subnet: Subnet::Annotation {
        key: "service.beta.kubernetes.io/oci-load-balancer-subnet1",
        what: "the OCID of a subnet",
        with: With::Both,
        needed: false,
    },
    addresses: Addresses {
        // "cannot create a private load balancer with Reserved IP".
        internal: Takes::NONE,
        external: Takes::v4(Place::Field),
    },
    create_only: CreateOnly::new(&[OCI_SWITCH, OCI_TYPE], true),
    lacks: Lacks {
        // validateProtocols.
        udp: Some(Lack::always(
            "write provider: OCINetwork, whose network load balancers have UDP",
        )),
        // They are rules of security lists, which this mode leaves alone (load_balancer_security_lists.go).
        source_ranges: Some(Lack::when(
            "leave the annotation out that keeps it from managing security rules, or leave the ranges out and write the rules yourself",
            &[
                (
                    "service.beta.kubernetes.io/oci-load-balancer-security-list-management-mode",
                    "None",
                ),
                (OCI_RULES, "None"),
            ],
        )),
        ..Lacks::NOTHING
    },
    clients: Clients::Proxied,
    ..PLAIN
};

pub static OCI_NETWORK: Preset = Preset {
    key: "OCINetwork",
    name: "Oracle's network load balancer",
    internal: Internal::Marks(Marks::annotations(&[(OCI_TYPE, "nlb"), (OCI_NETWORK_SWITCH, "true")])),
    external: Marks::annotations(&[(OCI_TYPE, "nlb")]),
    served: &[Served::Annotation(OCI_TYPE, &["nlb"])],
    exposure_annotations: &[
        ExposureAnnotation::new(OCI_NETWORK_SWITCH, TRUE),
        ExposureAnnotation::new(OCI_TYPE, Reads::ExternalBut(&["nlb"])),
    ],
    subnet: Subnet::Annotation {
        key: "oci-network-load-balancer.oraclecloud.com/subnet",
        what: "the OCID of a subnet",
        with: With::Both,
        needed: false,
    },
    addresses: Addresses {
        internal: Takes {
            v4: Some(Place::One(
                "oci-network-load-balancer.oraclecloud.com/assigned-private-ipv4",
            )),
            v6: Some(Place::One("oci-network-load-balancer.oraclecloud.com/assigned-ipv6")),
            ..Takes::NONE
        },
        external: Takes::v4(Place::Field),
    },
    create_only: CreateOnly::new(&[OCI_NETWORK_SWITCH, OCI_TYPE], true),
    lacks: Lacks {
        // They become rules of security lists or groups, and by default none are managed (docs/load-balancer-annotations.md).
        source_ranges: Some(Lack::unless(
            "add the annotation oci.oraclecloud.com/security-rule-management-mode: NSG, or leave them out and write the rules yourself",
            &[
                Unless::Annotation((OCI_RULES, "NSG")),
                Unless::Annotation((OCI_RULES, "SL-All")),
                Unless::Annotation((OCI_RULES, "SL-Frontend")),
                Unless::Annotation((OCI_NETWORK_LISTS, "All")),
                Unless::Annotation((OCI_NETWORK_LISTS, "Frontend")),
            ],
        )),
        ..Lacks::NOTHING
    },
    // is-preserve-source is on by default with externalTrafficPolicy Local.
    clients: Clients::Seen,
    ..PLAIN
};

const IBM_SWITCH: &str = "service.kubernetes.io/ibm-load-balancer-cloud-provider-ip-type";

const IBM_FEATURES: &str = "service.kubernetes.io/ibm-load-balancer-cloud-provider-enable-features";
const IBM_SUBNETS: &str = "service.kubernetes.io/ibm-load-balancer-cloud-provider-vpc-subnets";
/// Found in classic clusters only.
const IBM_VLAN: &str = "service.kubernetes.io/ibm-load-balancer-cloud-provider-vlan";

/// cloud.ibm.com/docs/containers: loadbalancer (classic), vpclb-about and setup_vpc_nlb (VPC); IBM-Cloud/cloud-provider-ibm,
/// pkg/vpcctl, which reads neither source ranges nor `loadBalancerIP` nor IP families.
pub static IBM: Preset = Preset {
    key: "IBM",
    name: "IBM Cloud Kubernetes Service",
    recognised: Recognised {
        provider_ids: &["ibm://"],
        ..NOWHERE
    },
    internal: Internal::Marks(Marks::annotations(&[(IBM_SWITCH, "private")])),
    // A classic cluster with a private VLAN only takes a private address otherwise.
    external: Marks::annotations(&[(IBM_SWITCH, "public")]),
    exposure_annotations: &[ExposureAnnotation::new(IBM_SWITCH, Reads::Internal(&["private"]))],
    subnet: Subnet::Annotation {
        key: IBM_SUBNETS,
        what: "IDs of VPC subnets, with commas",
        with: With::Both,
        needed: false,
    },
    addresses: Addresses::both(Takes {
        requires: Some((IBM_VLAN, "")),
        ..Takes::v4(Place::Field)
    }),
    create_only: CreateOnly::new(&[IBM_SWITCH, IBM_FEATURES], true),
    lacks: Lacks {
        // The application load balancer of a VPC has TCP only. Those of classic clusters have both.
        udp: Some(Lack::unless(
            "in a VPC add the annotation service.kubernetes.io/ibm-load-balancer-cloud-provider-enable-features: nlb, in a classic cluster service.kubernetes.io/ibm-load-balancer-cloud-provider-vlan",
            &[
                Unless::Annotation((IBM_FEATURES, "nlb")),
                Unless::Annotation((IBM_FEATURES, "ipvs")),
                Unless::Annotation((IBM_VLAN, "")),
            ],
        )),
        source_ranges: Some(Lack::always(
            "leave them out; in a VPC restrict who may connect with security groups, in a classic cluster with Calico policies",
        )),
        ipv6: Some(Lack::always("leave IPv6 out of ipFamilies")),
        ..Lacks::NOTHING
    },
    // setup_vpc_nlb: a subnet that nothing else is in.
    needs: &[Need {
        when: (IBM_FEATURES, "nlb"),
        key: IBM_SUBNETS,
        single: true,
        what: "one subnet that is dedicated to it: write its ID in spec.service.subnet",
    }],
    ..PLAIN
};
