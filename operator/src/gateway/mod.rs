//! `Gateway`: a way in: a Service in front of Pods, as its cloud wants it.

pub mod exposure;
pub mod provider;
