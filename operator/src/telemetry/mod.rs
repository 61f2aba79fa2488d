//! Telemetry of Gatehouse: logs, metrics, health.
//!
//! - [`logs`]: `tracing` to standard error, for people or for machines.
//! - [`metrics`]: the metrics of the reference, named exactly as there.
//! - [`health`]: what `/healthz` and `/readyz` answer from.
//! - [`server`]: `/metrics`, `/healthz` and `/readyz` over HTTP.

pub mod health;
pub mod logs;
pub mod metrics;
pub mod server;
