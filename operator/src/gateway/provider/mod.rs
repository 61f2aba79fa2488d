//! Whose load balancer it is, and what that provider wants to read on a Service.
//!
//! What is known of each provider is one [`Preset`] in [`table`]; all that is decided here follows from it. Nothing
//! here asks anybody: values in, values out.

mod detect;
mod preset;
mod says;
mod table;
mod template;

pub use detect::{Detection, Evidence, detect};
pub use preset::{Clients, CreateOnly, Preset};
pub use says::{Exposure, says};
pub use table::preset;
pub use template::{Protocols, Refusal, Template, template};

use gatehouse_crds::gateway::Provider;

/// What the provider reads only when the load balancer is made.
pub fn create_only(provider: Provider) -> &'static CreateOnly {
    &preset(provider).create_only
}

/// Where the provider's health checks, and with some its proxies, come from, as CIDRs.
pub fn health_check_ranges(provider: Provider) -> &'static [&'static str] {
    preset(provider).health_checks
}

/// What the Pods see of a client's address with `externalTrafficPolicy: Local`.
pub fn clients(provider: Provider) -> Clients {
    preset(provider).clients
}
