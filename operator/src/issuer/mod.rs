//! Signing: ACME, CA, self-signed.
//!
//! - [`controller`]: looks at each Issuer and ClusterIssuer and says in its status whether it can sign.
//! - [`registry`]: the same, as Certificates ask it.
//! - [`acme`]: the protocol. [`account`], [`signer`]: an `acme` issuer becoming ready, and being ready.
//! - [`dependencies`]: the Secrets that an issuer depends on; their change is taken up at once.
//! - [`outage`]: CAs that are away. [`slots`]: how many steps at CAs are under way at once.
//! - [`solver`]: how names are proven. [`ca`]: a CA in a Secret.

pub mod account;
pub mod ca;
pub mod controller;
pub mod dependencies;
pub mod outage;
pub mod records;
pub mod registry;
pub mod secrets;
pub mod server;
pub mod signer;
pub mod slots;
pub mod solver;

pub use gatehouse_acme as acme;

use std::time::Duration;

/// The reason of an issuer whose CA serves its account only after a user has done something there (RFC 8555 §7.3.3).
pub const USER_ACTION_REQUIRED: &str = "UserActionRequired";

/// Why an issuer cannot sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// `CamelCase`; the condition's and the event's.
    pub reason: &'static str,
    /// For humans, without secrets.
    pub message: String,
    /// The other side's word on when to come again.
    pub retry_after: Option<Duration>,
    /// Whether it may end by itself.
    pub transient: bool,
}

impl NotReady {
    /// Reasons for which a CA refuses an account, until a user changes something here or there.
    pub const REFUSALS: [&'static str; 4] = [
        "AccountRefused",
        "ExternalAccountRequired",
        "IssuerNotReady",
        USER_ACTION_REQUIRED,
    ];

    /// Whether the CA refuses the account.
    pub fn is_refusal(&self) -> bool {
        !self.transient && Self::REFUSALS.contains(&self.reason)
    }

    /// Returns a state that a user has to end.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry_after: None,
            transient: false,
        }
    }

    /// Returns a state that may end by itself.
    pub fn transient(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            transient: true,
            ..Self::new(reason, message)
        }
    }
}
