//! What is found out about the addresses of a Gateway.

use std::sync::Arc;

use gatehouse_crds::gateway::{Scope, ServiceType};
use kube::ResourceExt;

use super::{
    exposure::{self, Known},
    live::{Ingress, Live},
    look::Look,
};

impl Look<'_> {
    /// Whether the addresses of the Services are as private as they should be.
    pub(super) async fn exposure(&self, services: &[Arc<Live>]) -> exposure::Verdict {
        let spec = self.gateway.spec.service.clone().unwrap_or_default();
        if spec.scope.unwrap_or_default() == Scope::External {
            return exposure::Verdict::Unknown(String::new());
        }
        match spec.type_.unwrap_or_default() {
            ServiceType::ClusterIp => exposure::Verdict::Private,
            ServiceType::NodePort => {
                let nodes = self.ctx().sight.nodes().await.unwrap_or_default();
                if nodes.is_empty() {
                    return exposure::Verdict::Unknown("The nodes cannot be seen".into());
                }
                let known: Vec<Known> = nodes
                    .iter()
                    .flat_map(|node| node.internal.iter().chain(&node.external))
                    .map(|ip| Known::Address(*ip))
                    .collect();
                exposure::judge(&known)
            }
            ServiceType::LoadBalancer => {
                let ingress = services.iter().flat_map(|live| &live.ingress);
                let known: Vec<Known> = ingress.filter_map(|ingress| self.known(ingress)).collect();
                if known.is_empty() && services.iter().any(|live| !live.ingress.is_empty()) {
                    return exposure::Verdict::Private;
                }
                exposure::judge(&known)
            }
        }
    }

    /// None for a name that says by itself that it is internal.
    fn known(&self, ingress: &Ingress) -> Option<Known> {
        match ingress {
            Ingress::Address(address) => Some(Known::Address(*address)),
            Ingress::Name(name) if exposure::is_internal_name(name) => None,
            Ingress::Name(name) => {
                let (cache, namespace, gateway) = (
                    self.scope.cache.clone(),
                    self.namespace.clone(),
                    self.gateway.name_any(),
                );
                let done = move || cache.touch(&namespace, &gateway);
                Some(self.ctx().lookup.get(name, self.now, done))
            }
        }
    }
}
