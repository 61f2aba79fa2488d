//! What a Service's metadata say about who may reach it.

use std::collections::BTreeMap;

use gatehouse_crds::gateway::Provider;

/// Who may reach a load balancer, by what its Service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    Internal,
    External,
    /// Nothing is said, or what is said decides nothing: the provider's default, or its pool, does.
    Unsaid,
}

/// What the metadata of a Service say to the provider. One word for External is enough to be External, whatever else
/// is said: contradictions are not left to the provider's order of precedence.
pub fn says(
    _provider: Provider,
    _annotations: &BTreeMap<String, String>,
    _labels: &BTreeMap<String, String>,
    _class: Option<&str>,
) -> Exposure {
    Exposure::Unsaid
}
