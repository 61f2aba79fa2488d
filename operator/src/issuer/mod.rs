//! Who signs: ACME, CA, self-signed.

pub mod acme;
pub mod solver;
