//! Observes whether the addresses of a Gateway are as private as they should be.
//!
//! What the Services are counts, whatever the spec says: one that could not be changed yet is as open as it is.

use std::sync::Arc;

use gatehouse_crds::gateway::{Provider, Scope};
use kube::ResourceExt;

use super::{
    exposure::{self, Known, Verdict},
    nodes::NodeFacts,
    observed_service::{Ingress, ObservedService},
    provider::{Exposure, annotation_exposure},
    reconcile::Reconcile,
    recreate::made_for,
};

impl Reconcile<'_> {
    /// Judges the addresses of the Services.
    pub(super) async fn exposure(&self, services: &[Arc<ObservedService>]) -> Verdict {
        let spec = self.gateway.spec.service.as_ref();
        if spec.and_then(|spec| spec.scope).unwrap_or_default() == Scope::External {
            return Verdict::Unknown(String::new());
        }
        let mut known: Vec<Known> = Vec::new();
        for live in services {
            known.extend(live.ingress.iter().map(|ingress| self.known(live, ingress)));
            known.extend(
                live.external_ips()
                    .map(|text| Known::ExternalIp(text.to_owned(), text.parse().ok())),
            );
        }
        if services.iter().any(|live| !live.node_ports().is_empty()) {
            match self.ctx().cluster_reader.nodes(&self.reader()).await {
                Ok(nodes) => known.extend(open_at(&nodes)),
                Err(error) => known.push(Known::Unread(format!("the nodes cannot be read: {error}"))),
            }
        }
        let mut balancers = services.iter().filter(|live| live.is_load_balancer()).peekable();
        let awaits = balancers.peek().is_some() && balancers.all(|live| live.ingress.is_empty());
        match exposure::judge(&known) {
            // What is open already is judged; what is not there yet is not.
            Verdict::Public(which) => Verdict::Public(which),
            _ if awaits => Verdict::Unknown("There is no address yet".into()),
            // A cluster IP alone.
            Verdict::Unknown(_) if known.is_empty() && !services.is_empty() => Verdict::Private,
            verdict => verdict,
        }
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
