//! `Gateway`: a way in: a Service in front of Pods, as its cloud wants it; its address checked, its certificates made.
//!
//! [`plan`] decides, from what [`cache`] has seen and [`controller`] has asked for; [`controller`] carries it out.

pub mod cache;
pub mod cluster_reader;
mod compact_service;
pub mod controller;
mod created;
mod decide;
mod endpoints;
pub mod exposure;
mod field_ownership;
mod followed;
mod known_exposure;
mod listener_certificates;
pub mod lookup;
mod network_policy;
mod nodes;
mod observed_service;
mod parts;
pub mod ports;
pub mod provider;
mod reconcile;
mod recreate;
mod safeguard;
mod service;
pub mod status;
mod status_writer;
mod verify;
