//! The table: one row a provider, in families. A comment above each fact names its source; facts that could not be found
//! there is not claimed.

mod amazon;
mod asian;
mod hyperscalers;
mod in_cluster;
mod independent;
mod openstack;

use gatehouse_crds::gateway::Provider;

use super::preset::{Addresses, Internal, PLAIN, Place, Preset, Subnet, Takes};

/// All that have a row, in the order of the reference.
pub const ALL: [Provider; 24] = [
    Provider::Gke,
    Provider::AwsLoadBalancerController,
    Provider::EksAutoMode,
    Provider::Aws,
    Provider::Aks,
    Provider::Oci,
    Provider::OciNetwork,
    Provider::DigitalOcean,
    Provider::Alibaba,
    Provider::Tencent,
    Provider::Baidu,
    Provider::Ibm,
    Provider::OpenStack,
    Provider::OvhCloud,
    Provider::Stackit,
    Provider::Yandex,
    Provider::Hetzner,
    Provider::Scaleway,
    Provider::Linode,
    Provider::Vultr,
    Provider::Exoscale,
    Provider::MetalLb,
    Provider::Cilium,
    Provider::KubeVip,
];

/// A scheme of `providerID` that clouds share which read different switches.
#[derive(Debug)]
pub struct SharedScheme {
    pub prefix: &'static str,
    /// Whose nodes they most likely are: this provider's preset serves External Gateways.
    pub likely: Provider,
    /// As a sentence's end.
    pub used_by: &'static str,
    /// Alternative for the user.
    pub candidates: &'static [Provider],
    /// Prefix of the key of a node's label that only `likely` sets.
    pub confirmed_by: Option<&'static str>,
}

/// All that are known.
pub static SHARED_SCHEMES: &[SharedScheme] = &[
    // stackitcloud/cloud-provider-stackit, pkg/ccm/instances.go (its old provider name); OVHcloud has a node label of its own.
    SharedScheme {
        prefix: "openstack://",
        likely: Provider::OpenStack,
        used_by: "OpenStack, OVHcloud, older STACKIT clusters and other clouds",
        candidates: &[Provider::OpenStack, Provider::OvhCloud, Provider::Stackit],
        confirmed_by: None,
    },
    // outscale/cloud-provider-osc (its nodes are aws:///<zone>/i-…, its switch is osc-load-balancer-internal). EKS labels its nodes.
    SharedScheme {
        prefix: "aws://",
        likely: Provider::Aws,
        used_by: "AWS with several controllers, Outscale and other clouds",
        candidates: &[
            Provider::Aws,
            Provider::AwsLoadBalancerController,
            Provider::EksAutoMode,
        ],
        confirmed_by: Some("eks.amazonaws.com/"),
    },
    // deckhouse/yandex-cloud-controller-manager reads yandex.cpi.flant.com/ only. Yandex' managed clusters label their nodes.
    SharedScheme {
        prefix: "yandex://",
        likely: Provider::Yandex,
        used_by: "Yandex' managed clusters and by Deckhouse",
        candidates: &[Provider::Yandex],
        confirmed_by: Some("yandex.cloud/"),
    },
];

/// Returns the facts about a provider.
pub fn preset(provider: Provider) -> &'static Preset {
    match provider {
        Provider::Gke => &hyperscalers::GKE,
        Provider::AwsLoadBalancerController => &amazon::CONTROLLER,
        Provider::EksAutoMode => &amazon::AUTO_MODE,
        Provider::Aws => &amazon::IN_TREE,
        Provider::Aks => &hyperscalers::AKS,
        Provider::Oci => &hyperscalers::OCI,
        Provider::OciNetwork => &hyperscalers::OCI_NETWORK,
        Provider::DigitalOcean => &independent::DIGITAL_OCEAN,
        Provider::Alibaba => &asian::ALIBABA,
        Provider::Tencent => &asian::TENCENT,
        Provider::Baidu => &asian::BAIDU,
        Provider::Ibm => &hyperscalers::IBM,
        Provider::OpenStack => &openstack::OCTAVIA,
        Provider::OvhCloud => &openstack::OVHCLOUD,
        Provider::Stackit => &openstack::STACKIT,
        Provider::Yandex => &asian::YANDEX,
        Provider::Hetzner => &independent::HETZNER,
        Provider::Scaleway => &independent::SCALEWAY,
        Provider::Linode => &independent::LINODE,
        Provider::Vultr => &independent::VULTR,
        Provider::Exoscale => &independent::EXOSCALE,
        Provider::MetalLb => &in_cluster::METALLB,
        Provider::Cilium => &in_cluster::CILIUM,
        Provider::KubeVip => &in_cluster::KUBE_VIP,
        Provider::Other => &OTHER,
    }
}

/// Nothing is known: what the user writes goes through, and an address into the field that Kubernetes has for it.
static OTHER: Preset = Preset {
    key: "Other",
    name: "another provider",
    internal: Internal::Never("write spec.service.provider"),
    subnet: Subnet::No("write what the provider reads in spec.service.annotations"),
    addresses: Addresses::both(Takes::any(Place::Field)),
    ..PLAIN
};
