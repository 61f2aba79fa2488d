//! Every provider's preset.

use gatehouse_crds::gateway::Provider;

use super::preset::{Clients, CreateOnly, Preset};

/// What is known of a provider.
pub fn preset(_provider: Provider) -> &'static Preset {
    &OTHER
}

static OTHER: Preset = Preset {
    name: "another provider",
    create_only: CreateOnly {
        annotations: &[],
        scope: true,
        class: true,
    },
    clients: Clients::Unknown,
    health_checks: &[],
};
