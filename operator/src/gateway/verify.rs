//! Observes whether the addresses of a Gateway are as private as they should be.
//!
//! Judges the Services as they are, whatever the spec is: one that could not be changed yet is as open as it is.

use std::{collections::BTreeSet, sync::Arc};

use gatehouse_crds::gateway::{GatewayStatus, Provider, Scope};
use kube::ResourceExt;

use super::{
    exposure::{self, Known, Verdict},
    known_exposure,
    nodes::NodeFacts,
    observed_service::{Ingress, ObservedService},
    provider::{Exposure, annotation_exposure},
    reconcile::Reconcile,
    recreate::made_for,
};

/// Result for the Services.
#[derive(Debug, PartialEq)]
pub(super) struct Exposed {
    /// Result for all together.
    pub(super) verdict: Verdict,
    /// UIDs of those that are public, or were and have given no answer since.
    pub(super) public: BTreeSet<String>,
}

impl Reconcile<'_> {
    /// Judges the addresses of the Services: of all together, and of each.
    pub(super) async fn exposure(&self, services: &[Arc<ObservedService>]) -> Exposed {
        let spec = self.gateway.spec.service.as_ref();
        if spec.and_then(|spec| spec.scope).unwrap_or_default() == Scope::External {
            return Exposed {
                verdict: Verdict::Unknown(String::new()),
                public: BTreeSet::new(),
            };
        }
        let open = if services.iter().any(|live| !live.node_ports().is_empty()) {
            match self.ctx().cluster_reader.nodes(&self.reader()).await {
                Ok(nodes) => open_at(&nodes).collect(),
                Err(error) => vec![Known::Unread(format!("the nodes cannot be read: {error}"))],
            }
        } else {
            Vec::new()
        };
        let known = |live: &ObservedService| {
            let mut known: Vec<Known> = live.ingress.iter().map(|ingress| self.known(live, ingress)).collect();
            let external = live.external_ips();
            known.extend(external.map(|text| Known::ExternalIp(text.to_owned(), text.parse().ok())));
            known
        };
        let each: Vec<(Arc<ObservedService>, Vec<Known>)> =
            services.iter().map(|live| (live.clone(), known(live))).collect();
        judge_each(&each, &open, self.gateway.status.as_ref())
    }

    fn known(&self, live: &ObservedService, ingress: &Ingress) -> Known {
        let name = match ingress {
            Ingress::Address(address) => return Known::Address(*address),
            Ingress::Name(name) if exposure::is_internal_name(name) => return Known::Internal(name.clone()),
            Ingress::Name(name) => name,
        };
        let (cache, namespace, gateway) = (
            self.scope.cache.clone(),
            self.namespace.clone(),
            self.gateway.name_any(),
        );
        let done = move || cache.enqueue(&namespace, &gateway);
        match self.ctx().lookup.get(name, self.now, done) {
            Known::Name(name, addresses) if is_internal_in_vpc(live, &name) => Known::Vpc(name, addresses),
            known => known,
        }
    }
}

/// Judges all, each with what is known of it, and `open`: the addresses at which node ports are open.
fn judge_each(each: &[(Arc<ObservedService>, Vec<Known>)], open: &[Known], before: Option<&GatewayStatus>) -> Exposed {
    let open_of = |live: &ObservedService| if live.node_ports().is_empty() { &[][..] } else { open };
    let is_public = |(live, known): &&(Arc<ObservedService>, Vec<Known>)| {
        let verdict = exposure::judge(&[known.as_slice(), open_of(live)].concat());
        let addresses = known_exposure::addresses([live.as_ref()]);
        matches!(
            known_exposure::acted_on(&verdict, before, &addresses),
            Verdict::Public(_)
        )
    };
    let public = each.iter().filter(is_public).map(|(live, _)| live.uid.clone());
    let mut all: Vec<Known> = each.iter().flat_map(|(_, known)| known.clone()).collect();
    all.extend_from_slice(open);
    let mut balancers = each.iter().filter(|(live, _)| live.is_load_balancer()).peekable();
    let awaits = balancers.peek().is_some() && balancers.all(|(live, _)| live.ingress.is_empty());
    let verdict = match exposure::judge(&all) {
        // What is open already is judged; what is not there yet is not.
        Verdict::Public(which) => Verdict::Public(which),
        _ if awaits => Verdict::Unknown("There is no address yet".into()),
        // A cluster IP alone.
        Verdict::Unknown(_) if all.is_empty() && !each.is_empty() => Verdict::Private,
        verdict => verdict,
    };
    Exposed {
        verdict,
        public: public.collect(),
    }
}

/// Every address of every node: node ports are open on all.
fn open_at(nodes: &[NodeFacts]) -> impl Iterator<Item = Known> {
    nodes.iter().flat_map(|node| {
        let addresses = node.internal.iter().chain(&node.external);
        addresses.map(|address| Known::Node(node.name.clone(), *address))
    })
}

/// Whether the name is of a load balancer in a VPC of AWS that its Service makes internal.
fn is_internal_in_vpc(live: &ObservedService, name: &str) -> bool {
    const AMAZON: [Provider; 3] = [
        Provider::AwsLoadBalancerController,
        Provider::EksAutoMode,
        Provider::Aws,
    ];
    let says_internal = |provider: &Provider| {
        annotation_exposure::parse(*provider, &live.annotations(), &live.labels(), live.class()) == Exposure::Internal
    };
    made_for(live).is_some_and(|provider| AMAZON.contains(&provider))
        && exposure::is_aws_name(name)
        && AMAZON.iter().any(says_internal)
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
