//! `Gateway`: a way in: a Service in front of Pods, as its cloud wants it; its address checked, its certificates made.
//!
//! [`plan`] decides, from what [`cache`] has seen and [`controller`] has asked for; [`controller`] carries it out.

pub mod cache;
mod certificates;
pub mod controller;
mod created;
mod endpoints;
pub mod exposure;
mod fields;
mod followed;
mod known_exposure;
mod live;
mod look;
pub mod lookup;
mod network_policy;
mod nodes;
mod packed;
mod parts;
mod plan;
pub mod ports;
pub mod provider;
mod recreate;
mod safeguard;
mod service;
pub mod sight;
pub mod status;
mod tell;
mod verify;
