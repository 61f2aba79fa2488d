//! Whose load balancer it is, and what that provider wants to read on a Service.
//!
//! What is known of each provider is one row of [`table`]; all that is decided here follows from it. Nothing here
//! asks anybody: values in, values out.

mod companions;
mod conflict;
mod detect;
mod preset;
mod says;
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

pub use detect::{Detection, Evidence, detect};
pub use preset::{Clients, CreateOnly};
pub use says::{Exposure, says};
pub use template::{Protocols, Refusal, Template, template};

use gatehouse_crds::gateway::Provider;

pub use table::ALL;
use table::preset;

/// As users write it in `spec.service.provider`.
pub fn key(provider: Provider) -> &'static str {
    preset(provider).key
}

/// What the provider reads only when the load balancer is made.
pub fn create_only(provider: Provider) -> &'static CreateOnly {
    &preset(provider).create_only
}

/// Where the provider's health checks come from, as CIDRs.
pub fn health_check_ranges(provider: Provider) -> &'static [&'static str] {
    preset(provider).health_checks
}

/// What the Pods see of a client's address with `externalTrafficPolicy: Local`.
pub fn clients(provider: Provider) -> Clients {
    preset(provider).clients
}
