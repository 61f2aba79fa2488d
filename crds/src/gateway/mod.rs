//! `Gateway`: a way in: address, listeners, certificates, who may pass.

mod listener;
mod service;
mod spec;
mod status;

pub use listener::{CertificateTemplate, Listener, ListenerTls, Protocol};
pub use service::{ExternalTrafficPolicy, IpFamily, OnMismatch, Provider, Scope, ServiceSpec, ServiceType};
pub use spec::{Gateway, GatewaySpec, NetworkPolicySpec, Target};
pub use status::{
    AddressType, ExposureResult, GatewayAddress, GatewayExposure, GatewayStatus, ListenerCertificate, ListenerStatus,
};
