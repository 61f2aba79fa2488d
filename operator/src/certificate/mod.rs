//! `Certificate`: a pair in a Secret that is always there, always valid, always fresh.
//!
//! The data flows one way: [`desired`] parses what the user asks for, [`holding`] what the Secret
//! has, [`plan`] decides purely what to do next, and [`controller`] carries it out at the rim.
//! - [`renewal`]: when a certificate is due. [`backoff`]: when a failed one is tried again.
//! - [`breaker`]: holds a re-issue of too many at once.
//! - [`secret`]: the Secret as it is written. [`outcome`]: the status as it is written.
//! - [`issue`]: chooses the issuer. [`signing`]: issuing by a CA in the process. [`acme`], [`order`]: issuing by ACME, a
//!   step at a time; [`order_key`]: the key meanwhile.
//! - [`differences`], [`remarks`]: what a CA chose otherwise than the spec, and how that is reported. [`rollout`]: restarting what uses the Secret.

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
