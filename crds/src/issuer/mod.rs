//! `Issuer` and `ClusterIssuer`: who signs.

mod spec;
mod status;

pub use spec::{
    AcmeIssuer, CaIssuer, ClusterIssuer, ClusterIssuerSpec, ExternalAccountBinding, Issuer, IssuerConfig, IssuerSpec,
    SelfSignedIssuer,
};
pub use status::{AcmeAccountStatus, AcmeLimits, IssuerStatus};
