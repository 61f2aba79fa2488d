//! Everything that talks ACME: RFC 8555, ARI (RFC 9773), IP identifiers (RFC 8738), profiles. No Kubernetes here.
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
mod client;
mod error;
mod http;
mod key;
mod limits;
mod order;
mod plan;
mod problem;
mod steps;
mod turns;
mod view;

#[cfg(test)]
mod tests;

pub use account::{Account, AccountOptions};
pub use ari::{RenewalInfo, Window};
pub use client::{AcmeClient, Directory, DirectoryMeta};
pub use error::{AcmeError, MAX_DETAIL};
pub use http::{Endpoint, HttpClient, HttpOptions, RequestObserver};
pub use key::{AccountKey, Eab};
pub use limits::{Admission, DEFAULT_IN_FLIGHT, FairQueue, LimitState, Wanted};
pub use order::OrderSession;
pub use plan::{Failure, FailureKind, Step, next_step, poll_after};
pub use problem::{Problem, Subproblem};
pub use steps::{AcmeAccount, AcmeOrder};
pub use view::{
    AuthorizationStatus, AuthorizationView, ChallengeKind, ChallengeStatus, ChallengeView, Identifier, NewOrder,
    OrderStatus, OrderView,
};
