//! Which provider a cluster has.
//!
//! The nodes' `providerID` names the cloud. Beside AWS' and OpenStack's, more than one controller could read a Service:
//! labels of the nodes and API groups say which. A controller in the cluster (MetalLB, Cilium, kube-vip) is taken where there is
//! no cloud; beside a cloud there is no telling which of the two serves a Service without a class, so the user says.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_crds::gateway::Provider;

use super::{
    key,
    table::{self, preset},
};

/// What was seen of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// `spec.providerID` of the nodes that have one, duplicates or not.
    pub provider_ids: Vec<String>,
    /// Labels of the nodes, each key with all the values that it has on any.
    pub node_labels: BTreeMap<String, BTreeSet<String>>,
    /// The API groups that are served.
    pub api_groups: BTreeSet<String>,
    /// Whether there is a `CiliumLoadBalancerIPPool`. Cilium's groups alone prove little: it is the network of many clouds.
    pub cilium_pool: bool,
    /// Whether there is the ConfigMap `kubevip` in `kube-system`: the pools of kube-vip's cloud provider, which has no API group.
    pub kube_vip_pool: bool,
}

/// What follows from the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detection {
    One(Provider),
    /// Nothing speaks for any; why, and what to write.
    Unknown(String),
    /// Several could serve a Service; why that is not decided here, and what to write.
    Several(Vec<Provider>, String),
}

/// Which provider serves a Service of type LoadBalancer.
pub fn detect(evidence: &Evidence) -> Detection {
    let clouds = clouds(evidence);
    let inside: Vec<Provider> = [Provider::MetalLb, Provider::Cilium, Provider::KubeVip]
        .into_iter()
        .filter(|provider| runs(*provider, evidence))
        .collect();
    match (clouds.as_slice(), inside.as_slice()) {
        ([one], []) | ([], [one]) => Detection::One(*one),
        ([], []) => Detection::Unknown(unknown(evidence)),
        (clouds, inside) => {
            let all: Vec<Provider> = clouds.iter().chain(inside).copied().collect();
            let why = several(clouds, inside);
            Detection::Several(all, why)
        }
    }
}

/// The clouds of the nodes; where several controllers of one cloud are there, all of them.
fn clouds(evidence: &Evidence) -> Vec<Provider> {
    let by_id: BTreeSet<Provider> = evidence.provider_ids.iter().filter_map(|id| cloud(id)).collect();
    let mut found = Vec::new();
    for provider in by_id {
        let special: Vec<Provider> = specials(provider)
            .iter()
            .copied()
            .filter(|special| runs(*special, evidence))
            .collect();
        if special.is_empty() {
            found.push(provider);
        } else {
            found.extend(special);
        }
    }
    found
}

/// The cloud of one node.
fn cloud(id: &str) -> Option<Provider> {
    let by_prefix = table::ALL.into_iter().find(|provider| {
        let prefixes = preset(*provider).recognised.provider_ids;
        prefixes.iter().any(|prefix| id.starts_with(prefix))
    });
    // Alibaba's nodes have `<region>.<instance>` (cloud-provider-alibaba-cloud, helper/node_utils.go).
    let alibaba = || {
        let (region, instance) = id.split_once('.')?;
        (region.contains('-') && instance.starts_with("i-")).then_some(Provider::Alibaba)
    };
    by_prefix.or_else(alibaba)
}

/// Who may serve Services in place of the controller that a cloud's nodes stand for.
fn specials(provider: Provider) -> &'static [Provider] {
    match provider {
        Provider::Aws => &[Provider::AwsLoadBalancerController, Provider::EksAutoMode],
        Provider::OpenStack => &[Provider::OvhCloud],
        _ => &[],
    }
}

/// Whether there is evidence of a controller, beside its cloud's nodes.
fn runs(provider: Provider, evidence: &Evidence) -> bool {
    let recognised = &preset(provider).recognised;
    let labelled = |(key, value): (&str, &str)| {
        let values = evidence.node_labels.get(key);
        values.is_some_and(|values| value.is_empty() || values.contains(value))
    };
    match provider {
        Provider::Cilium => evidence.cilium_pool,
        Provider::KubeVip => evidence.kube_vip_pool,
        _ => {
            recognised
                .api_group
                .is_some_and(|group| evidence.api_groups.contains(group))
                || recognised.node_label.is_some_and(labelled)
        }
    }
}

fn unknown(evidence: &Evidence) -> String {
    let seen = match evidence
        .provider_ids
        .iter()
        .find_map(|id| Some(id.split_once("://")?.0))
    {
        Some(scheme) => format!("The nodes' providerID, {scheme}://, is of no provider that Gatehouse knows"),
        None if evidence.provider_ids.is_empty() => "The nodes have no providerID".to_owned(),
        None => "The nodes' providerID is of no provider that Gatehouse knows".to_owned(),
    };
    format!(
        "{seen}, and neither MetalLB nor pools of Cilium or kube-vip are installed: write in spec.service.provider whose load balancer it is"
    )
}

fn several(clouds: &[Provider], inside: &[Provider]) -> String {
    let names = |providers: &[Provider], and: &str| {
        let keys: Vec<&str> = providers.iter().map(|provider| key(*provider)).collect();
        keys.join(and)
    };
    let all: Vec<Provider> = clouds.iter().chain(inside).copied().collect();
    let seen = match (clouds, inside) {
        (clouds, []) => format!("There is evidence of {}", names(clouds, " and ")),
        ([], inside) => format!("{} are installed", names(inside, " and ")),
        (clouds, inside) => format!(
            "The nodes are of {}, and {} is installed",
            names(clouds, " and "),
            names(inside, " and ")
        ),
    };
    format!(
        "{seen}: write in spec.service.provider which of them serves this Gateway, {}",
        names(&all, " or ")
    )
}
