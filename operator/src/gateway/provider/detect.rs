//! Which provider a cluster has.
//!
//! The nodes' `providerID` names the cloud. Beside AWS' and OpenStack's, more than one controller could read a Service:
//! labels of the nodes and API groups say which. Where several clouds use one scheme, it never decides for an Internal Gateway.
//! A controller in the cluster (MetalLB, Cilium, kube-vip) is taken where the nodes have no providerID. Beside one that is not
//! known (Harvester, vSphere, k3s) it is taken for External Gateways only; beside a cloud it is unknown which of the two
//! serves a Service without a class, so the user says.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_crds::gateway::Provider;

use super::{
    key,
    table::{self, SharedScheme, preset},
};

/// Evidence in the cluster.
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
    /// Whether there are nodes without a providerID that bear the taint of a cloud that has yet to initialize them.
    pub uninitialized: bool,
    /// Whether there is the ConfigMap `kubevip` in `kube-system`: the pools of kube-vip's cloud provider, which has no API group.
    pub kube_vip_pool: bool,
}

/// Conclusion from the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detection {
    One(Provider),
    /// The nodes look like this provider's, and like those of others that read another switch: good enough for External, never
    /// for Internal. Why, and what to write.
    Likely(Provider, String),
    /// Nothing speaks for any; why, and what to write.
    Unknown(String),
    /// Several could serve a Service; why that is not decided here, and what to write.
    Several(Vec<Provider>, String),
    /// Nothing can be said yet: nodes have joined that their cloud has not initialized.
    Later(String),
}

/// Which provider serves a Service of type LoadBalancer.
pub fn detect(evidence: &Evidence) -> Detection {
    let clouds = clouds(evidence);
    let inside: Vec<Provider> = [Provider::MetalLb, Provider::Cilium, Provider::KubeVip]
        .into_iter()
        .filter(|provider| runs(*provider, evidence))
        .collect();
    match (clouds.as_slice(), inside.as_slice()) {
        ([one], []) => match (shared(*one, evidence), foreign(evidence)) {
            (Some(scheme), _) => Detection::Likely(*one, ambiguous(scheme)),
            (None, Some(id)) => Detection::Likely(*one, mixed(*one, id)),
            (None, None) => Detection::One(*one),
        },
        // A cloud that is about to give its nodes a providerID may serve Services, too.
        ([], _) if evidence.uninitialized => Detection::Later(
            "Nodes have joined that their cloud has not initialized yet, and so have no providerID: the provider is detected when they have one. To decide it now, write spec.service.provider".into(),
        ),
        ([], [one]) => match foreign(evidence) {
            Some(id) => Detection::Likely(*one, beside(*one, id)),
            None => Detection::One(*one),
        },
        ([], []) => Detection::Unknown(unknown(evidence)),
        (clouds, inside) => {
            let all: Vec<Provider> = clouds.iter().chain(inside).copied().collect();
            let why = several(clouds, inside);
            Detection::Several(all, why)
        }
    }
}

/// The scheme that this provider's nodes share with others', when nothing else speaks for it.
fn shared(provider: Provider, evidence: &Evidence) -> Option<&'static SharedScheme> {
    let scheme = table::SHARED_SCHEMES.iter().find(|scheme| scheme.likely == provider)?;
    let confirmed = scheme
        .confirmed_by
        .is_some_and(|prefix| evidence.node_labels.keys().any(|key| key.starts_with(prefix)));
    (!confirmed).then_some(scheme)
}

/// A node's providerID of an unknown cloud, which may serve Services, too.
fn foreign(evidence: &Evidence) -> Option<&str> {
    let mut ids = evidence.provider_ids.iter();
    ids.find(|id| cloud(id).is_none()).map(String::as_str)
}

fn beside(provider: Provider, id: &str) -> String {
    format!(
        "{key} is installed, but the nodes have a providerID ({scheme}) of no provider that Gatehouse knows, whose load balancer might serve the Service: write in spec.service.provider whose it is, {key} if it is that",
        key = key(provider),
        scheme = scheme(id)
    )
}

/// A scheme from outside, as long as a scheme is.
fn scheme(id: &str) -> String {
    let scheme = id.split_once("://").map_or(id, |(scheme, _)| scheme);
    scheme.chars().take(64).collect()
}

fn mixed(provider: Provider, id: &str) -> String {
    let scheme = scheme(id);
    format!(
        "Some nodes are of {}, and others have a providerID ({scheme}) of no provider that Gatehouse knows, whose load balancer might serve the Service: write in spec.service.provider whose it is",
        key(provider)
    )
}

/// Whether nodes of this provider look like those of others that read another switch.
pub fn is_shared(provider: Provider) -> bool {
    table::SHARED_SCHEMES.iter().any(|scheme| scheme.likely == provider)
}

/// Whether a node's label may speak for a provider.
pub fn is_evidence(key: &str) -> bool {
    let marks = table::ALL
        .into_iter()
        .filter_map(|provider| preset(provider).recognised.node_label);
    let mut prefixes = table::SHARED_SCHEMES.iter().filter_map(|scheme| scheme.confirmed_by);
    marks.into_iter().any(|(label, _)| label == key) || prefixes.any(|prefix| key.starts_with(prefix))
}

fn ambiguous(scheme: &SharedScheme) -> String {
    let keys: Vec<&str> = scheme.candidates.iter().map(|provider| key(*provider)).collect();
    format!(
        "The nodes' providerID, {}, is used by {}, which do not read the same switch for an internal load balancer: write in spec.service.provider whose it is, {}",
        scheme.prefix,
        scheme.used_by,
        keys.join(" or ")
    )
}

/// Returns the clouds of the nodes; if several controllers of one cloud exist, all of them.
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

/// Returns the controllers that may serve Services in place of the one that a cloud's nodes indicate.
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
