//! Everything that talks ACME: RFC 8555, ARI (RFC 9773), IP identifiers (RFC 8738), profiles. No Kubernetes here.
//!
//! The protocol is instant-acme's, one call a step and never its polling; its requests take our [`transport`], and what it
//! cannot do takes the one request in [`signed`].
//!
//! The certificate's controller takes one step per reconcile through the traits in [`steps`]:
//! nothing here sleeps or polls in a loop. What to do next is decided by pure functions:
//! [`next_step`] for an order, [`poll_after`] for when to look again,
//! [`FairQueue`] for who may order.
//!
//! ```text
//! AcmeClient (one a server: directory, nonces, connections)
//!   └ Account (one an issuer: key, URL)
//!       └ OrderSession (one a certificate in flight)
//! ```
//!
//! A certificate for one name takes seven requests when the account has a nonce to spare, and one
//! more for the first (counted at Pebble): newOrder, authz, challenge, authz, finalize, order, certificate.

mod account;
mod answer;
mod ari;
mod authorization;
mod client;
mod directory;
mod endpoint;
mod error;
mod fields;
mod holds;
mod http;
mod key;
mod limits;
mod objects;
mod order;
mod plan;
mod problem;
mod signed;
mod steps;
mod transport;
mod turns;
mod view;

#[cfg(test)]
mod tests;

pub use account::{Account, AccountOptions};
pub use ari::{RenewalInfo, Window};
pub use client::AcmeClient;
pub use directory::{Directory, DirectoryMeta};
pub use endpoint::{Endpoint, RequestObserver};
pub use error::{AcmeError, MAX_DETAIL};
pub use http::{HttpClient, HttpOptions};
pub use key::{AccountKey, Eab};
pub use limits::{Admission, DEFAULT_IN_FLIGHT, FairQueue, LimitState, OrderRequest};
pub use order::OrderSession;
pub use plan::{Failure, FailureKind, Step, next_step, poll_after};
pub use problem::{Problem, Subproblem};
pub use steps::{AcmeAccount, AcmeOrder};
pub use view::{
    AuthorizationStatus, AuthorizationView, Chains, ChallengeKind, ChallengeStatus, ChallengeView, Identifier,
    NewOrder, OrderStatus, OrderView,
};
