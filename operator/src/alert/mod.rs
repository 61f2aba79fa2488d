//! Alerts: `AlertPolicy` and `ClusterAlertPolicy`.
//!
//! From a Certificate to a message: [`watch`] reads what [`policy`] asks for, [`rules`] judge, [`state`] remembers what fires,
//! [`notifier`] renders it and fills each receiver's [`queue`], [`store`] keeps that, and the [`engine`] drives everything.
//! From a message to the wire: [`target`] reads where to, [`format`] says what in the receiver's language with `words`,
//! [`sign`] signs it, [`send`] sends it, [`failure`] explains what failed.

mod batch;
pub mod cluster;
mod destination;
mod durable;
pub mod engine;
pub mod failure;
pub mod format;
pub mod message;
mod notifier;
mod outbox;
pub mod policy;
mod policy_state;
pub mod ports;
pub mod queue;
mod render;
pub mod rules;
pub mod send;
pub mod sign;
pub mod state;
pub mod status;
pub mod store;
pub mod target;
mod test_alert;
pub mod watch;

pub use policy_state::Spec;
