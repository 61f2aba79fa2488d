//! Load balancers that run in the cluster: Internal is which pool.

use crate::gateway::provider::preset::{
    Addresses, Class, Clients, CreateOnly, ExposureAnnotation, Internal, NOWHERE, NodePorts, PLAIN, Place, Preset,
    Reads, Recognised, Subnet, Takes, With,
};

/// metallb/metallb, controller/service.go. Who installs it may give it a class (`--lb-class`).
pub static METALLB: Preset = Preset {
    key: "MetalLB",
    name: "MetalLB",
    recognised: Recognised {
        api_group: Some("metallb.io"),
        any_class: true,
        ..NOWHERE
    },
    internal: Internal::Pool,
    exposure_annotations: &[
        ExposureAnnotation::new("metallb.io/loadBalancerIPs", Reads::Addresses),
        // Deprecated, still read.
        ExposureAnnotation::new("metallb.universe.tf/loadBalancerIPs", Reads::Addresses),
    ],
    subnet: Subnet::Annotation {
        key: "metallb.io/address-pool",
        what: "the name of an IPAddressPool",
        with: With::Both,
        needed: false,
    },
    addresses: Addresses::both(Takes::any(Place::Many("metallb.io/loadBalancerIPs"))),
    create_only: CreateOnly::new(&[], false),
    // Traffic reaches a node at the Service's address, and kube-proxy takes it from there, which also keeps source ranges
    // (metallb.io/concepts/layer2 and bgp; metallb/metallb#328 on node ports).
    node_ports: NodePorts::Unneeded,
    // metallb.io/usage on externalTrafficPolicy.
    clients: Clients::Seen,
    ..PLAIN
};

/// docs.cilium.io/en/stable/network/lb-ipam and network/node-ipam.
pub static CILIUM: Preset = Preset {
    key: "Cilium",
    name: "Cilium LB IPAM",
    recognised: Recognised {
        // Not by its API group: Cilium is the network of many clouds. A pool of it is what counts.
        classes: &[
            Class::plain("io.cilium/bgp-control-plane"),
            // "L2 Announcements / L2 Aware LB" (network/lb-ipam, on loadBalancerClass).
            Class::plain("io.cilium/l2-announcer"),
            // The nodes' external addresses, where they have any.
            Class::decides("io.cilium/node", false),
        ],
        ..NOWHERE
    },
    internal: Internal::Pool,
    exposure_annotations: &[
        ExposureAnnotation::new("lbipam.cilium.io/ips", Reads::Addresses),
        // Its older name.
        ExposureAnnotation::new("io.cilium/lb-ipam-ips", Reads::Addresses),
    ],
    subnet: Subnet::Label,
    addresses: Addresses::both(Takes::any(Place::Many("lbipam.cilium.io/ips"))),
    create_only: CreateOnly::new(&[], false),
    // The address is a front of its own in the datapath (network/kubernetes/kubeproxy-free), which also keeps source ranges.
    node_ports: NodePorts::Unneeded,
    clients: Clients::Seen,
    ..PLAIN
};

/// kube-vip/kube-vip-cloud-provider, README.md and pkg/provider: pools are by namespace, in the ConfigMap `kubevip`.
pub static KUBE_VIP: Preset = Preset {
    key: "KubeVip",
    name: "kube-vip",
    recognised: Recognised {
        classes: &[Class::plain("kube-vip.io/kube-vip-class")],
        any_class: true,
        ..NOWHERE
    },
    internal: Internal::Pool,
    exposure_annotations: &[ExposureAnnotation::new("kube-vip.io/loadbalancerIPs", Reads::Addresses)],
    subnet: Subnet::No("write addresses: its pools are by namespace, and a Service cannot choose one"),
    addresses: Addresses::both(Takes::any(Place::Many("kube-vip.io/loadbalancerIPs"))),
    create_only: CreateOnly::new(&[], false),
    // A node has the Service's address, and kube-proxy takes it from there, which also keeps source ranges.
    node_ports: NodePorts::Unneeded,
    ..PLAIN
};
