//! The way out to servers that users name: ACME servers, DNS providers, receivers of alerts.
//!
//! [`address`] lists refused destinations, [`GuardedResolver`] enforces them at the moment of connecting, [`tls`] makes
//! the configuration of rustls, [`Cause`] finds out why a request failed, and what comes back is made fit to show
//! ([`printable`]) and to plan with ([`retry_after`]).

pub mod address;
mod cause;
pub mod resolve;
mod retry_after;
mod text;
pub mod tls;

pub use cause::Cause;
pub use resolve::{GuardedResolver, RefusedAddress};
pub use retry_after::retry_after;
pub use text::printable;
