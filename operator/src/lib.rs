//! Gatehouse: a Kubernetes operator that keeps the gate and the keys.
//!
//! A module for each thing that users name, and a few for infrastructure; ARCHITECTURE.md shows how
//! they work together.

pub mod alert;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod gateway;
pub mod issuer;
pub mod kubernetes;
pub mod manager;
pub mod telemetry;

pub use gatehouse_egress as egress;
pub use gatehouse_pki as pki;

#[cfg(test)]
mod reference;
