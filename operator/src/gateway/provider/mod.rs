//! Whose load balancer it is, and what that provider wants to read on a Service.
//!
//! The facts about each provider are one row of [`table`]; all decisions here follow from it. Nothing here
//! makes requests: values in, values out.

pub mod annotation_exposure;
mod companions;
mod conflict;
mod detect;
mod preset;
mod table;
mod template;

#[cfg(test)]
mod detect_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod template_tests;

pub use annotation_exposure::{Exposure, parse};
pub use detect::{Detection, Evidence, detect, is_evidence, is_shared};
pub use preset::{Clients, CreateOnly};
pub use template::{Protocols, Refusal, Template, UNKNOWN_PROVIDER, template};

use std::collections::BTreeMap;

use gatehouse_crds::gateway::Provider;

pub use table::ALL;
use table::preset;

/// As users write it in `spec.service.provider`.
pub fn key(provider: Provider) -> &'static str {
    preset(provider).key
}

/// The provider that users write so.
pub fn by_key(text: &str) -> Option<Provider> {
    ALL.into_iter()
        .chain([Provider::Other])
        .find(|provider| key(*provider) == text)
}

/// Returns the settings that the provider reads only when the load balancer is created.
pub fn create_only(provider: Provider) -> &'static CreateOnly {
    &preset(provider).create_only
}

/// Whether the load balancer works without node ports, with these annotations of the user's.
pub fn needs_no_node_ports(provider: Provider, annotations: &BTreeMap<String, String>) -> bool {
    preset(provider).node_ports.are_unneeded(annotations)
}

/// The reason of the event by which the provider's controller says that it ignores source ranges.
pub fn ranges_ignored(provider: Provider) -> Option<&'static str> {
    preset(provider).ranges_ignored
}

/// Returns the source ranges of the provider's health checks, as CIDRs.
pub fn health_check_ranges(provider: Provider) -> &'static [&'static str] {
    preset(provider).health_checks
}

/// Returns which client addresses the Pods see with `externalTrafficPolicy: Local`.
pub fn clients(provider: Provider) -> Clients {
    preset(provider).clients
}
