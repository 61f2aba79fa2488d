//! Solvers: how a challenge of an ACME authorization is answered.
//!
//! [`select`] decides purely which entry of `spec.acme.solvers` answers for a name. [`SolverFactory::build`] makes a
//! [`Solver`] of it, which the caller keeps while the Issuer and its Secrets stay the same. A solver never
//! sleeps: `present` puts the answer in place, `check` says whether the CA may look now or when to ask again,
//! `clean_up` takes the answer away.

mod author;
mod build;
mod challenge;
pub mod dns01;
mod error;
mod http;
pub mod http01;
mod reach;
mod secrets;
mod select;

pub use author::Author;
pub use build::SolverFactory;
pub use challenge::{Challenge, ChallengeKind, Identifier, Readiness, Solver};
pub use error::SolverError;
pub use reach::Reach;
pub use secrets::{SecretData, SecretReadError, SecretReader};
pub use select::{Challenged, NoSolver, select};
