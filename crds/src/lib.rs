//! The API types of Gatehouse, and the CRDs generated from them. No I/O and no client.

pub mod secret_ref;
pub mod solver;
