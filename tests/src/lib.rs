//! The harness: real components on free ports of 127.0.0.1, started in seconds and gone when the test is.
//!
//! [`TestCluster`] puts together what a suite needs: etcd and kube-apiserver ([`ControlPlane`]), the controller manager,
//! Pebble with its challenge server, Knot for DNS updates, and operators under test. Each component is a file, a struct
//! and a child process; [`keeper`] makes sure that no child outlives this process, however it ends. Binaries come from
//! [`Assets`]; a component that cannot be installed fails the run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "this crate is test code: to panic is how it reports"
)]
#![allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "configuration files and logs, once a run: read more easily than written fast"
)]
#![allow(clippy::used_underscore_binding, reason = "fields that are only held, and set once")]

pub mod alertmanager;
pub mod assets;
pub mod chain;
pub mod challtestsrv;
pub mod cloud;
pub mod cluster;
pub mod control_plane;
mod debian;
pub mod error;
pub mod gate;
pub mod gateway_environment;
pub mod isolated_operator;
pub mod keeper;
pub mod knot;
pub mod kubeconfig;
pub mod managed;
pub mod manifests;
pub mod operator;
pub mod pebble;
pub mod pki;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod python;
pub mod receiver;
pub mod record;
pub mod revocation;
pub mod shared_operator;
pub mod test_cluster;
pub mod web;
pub mod workspace;

pub use alertmanager::Alertmanager;
pub use assets::{Assets, Tool};
pub use cloud::Cloud;
pub use cluster::Cluster;
pub use control_plane::ControlPlane;
pub use error::Error;
pub use gate::Gate;
pub use gateway_environment::GatewayEnvironment;
pub use isolated_operator::IsolatedOperator;
pub use knot::Knot;
pub use operator::Operator;
pub use pebble::Pebble;
pub use proxy::Proxy;
pub use python::Verifier;
pub use receiver::Receiver;
pub use record::Record;
pub use shared_operator::SharedOperator;
pub use test_cluster::TestCluster;
