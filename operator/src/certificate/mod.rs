//! `Certificate`: a pair in a Secret that is always there, always valid, always fresh.
//!
//! The data flows one way: [`desired`] parses the spec, [`observed_secret`] the Secret, [`decide`] decides purely what to do
//! next, and [`controller`] carries it out.
//!
//! - [`renewal`]: when a certificate is due. [`backoff`]: when a failed attempt is repeated. [`renewal_info`]: ACME Renewal
//!   Information. [`breaker`]: holds a re-issue of too many at once.
//! - [`issue`]: one step towards a new certificate. [`issuer_choice`], [`fallback`]: which issuer, and when the next one.
//!   [`signing`]: by a CA in the process. [`acme`], [`order`]: by ACME, a step at a time; [`order_key`]: the key meanwhile.
//! - [`secret`]: the Secret's contents. [`secret_writer`]: its only writer. [`put_back`]: restores a removed chain.
//! - [`status`]: the status. [`differences`], [`remarks`]: what a CA chose otherwise than the spec, and how that is reported.
//! - [`rollout`]: restarts workloads. [`cache`]: the stores. [`dependencies`]: objects that a Certificate waits for.

mod acme;
pub mod backoff;
pub mod breaker;
pub mod cache;
pub mod context;
pub mod controller;
pub mod decide;
pub mod dependencies;
pub mod desired;
pub mod differences;
pub mod failure;
pub mod fallback;
pub mod issue;
pub mod issuer_choice;
mod keystores;
pub mod observed_secret;
pub mod order;
pub mod order_key;
mod put_back;
pub mod reconcile;
pub mod remarks;
pub mod renewal;
pub mod renewal_info;
pub mod rollout;
#[cfg(test)]
mod samples;
pub mod secret;
pub mod secret_writer;
pub mod signing;
pub mod status;
mod unreadable;
