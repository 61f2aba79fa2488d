//! What is known of a provider.

/// What is known of a provider.
#[derive(Debug)]
pub struct Preset {
    /// As its makers write it.
    pub name: &'static str,
    pub create_only: CreateOnly,
    pub clients: Clients,
    pub health_checks: &'static [&'static str],
}

/// What a provider reads only when the load balancer is made.
#[derive(Debug, PartialEq, Eq)]
pub struct CreateOnly {
    /// Keys of annotations.
    pub annotations: &'static [&'static str],
    /// Whether Internal and External can be changed only by a new load balancer.
    pub scope: bool,
    /// `spec.loadBalancerClass`: the API server lets nobody change it.
    pub class: bool,
}

/// What the Pods see of a client's address with `externalTrafficPolicy: Local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// The client's own.
    Seen,
    /// The load balancer's: it is a proxy.
    Proxied,
    /// Not documented, or it depends on more than we know.
    Unknown,
}
