//! When to raise the alarm, and where to send it: `AlertPolicy` and `ClusterAlertPolicy`.

//pub mod cluster;
mod durable;
pub mod engine;
mod entry;
pub mod message;
pub mod policy;
pub mod queue;
pub mod rules;
pub mod state;
pub mod status;
pub mod store;
mod tell;
mod test;
pub mod watch;

pub use entry::Spec;
