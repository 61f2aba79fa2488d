//! The steps that the certificate's controller takes; a test of the controller gives its own.
//!
//! Each call makes a few requests at most and never waits for the CA to get on: it returns, and
//! [`next_step`](super::next_step) and [`poll_after`](super::poll_after) say what is next and when.

use async_trait::async_trait;

use super::account::Account;
use super::ari::RenewalInfo;
use super::error::AcmeError;
use super::order::OrderSession;
use super::view::{Chains, Identifier, NewOrder, OrderView};

/// An account that can order.
#[async_trait]
pub trait AcmeAccount: Send + Sync {
    /// The account's URL at the CA.
    fn uri(&self) -> &str;

    /// Places an order: keep the URL in its view before anything else.
    async fn begin(&self, order: &NewOrder) -> Result<Box<dyn AcmeOrder>, AcmeError>;

    /// Resumes an order after a restart.
    /// It must be for these identifiers: the CA's word is not taken for it.
    async fn resume(&self, url: &str, identifiers: &[Identifier]) -> Result<Box<dyn AcmeOrder>, AcmeError>;

    /// See [`Account::renewal_info`].
    async fn renewal_info(&self, id: &str) -> Result<Option<RenewalInfo>, AcmeError>;
}

/// One order. Keep it between steps: it knows which challenges were submitted. After an error it is as it
/// was, and the same step can be tried again.
#[async_trait]
pub trait AcmeOrder: Send {
    /// The order as the last step left it; no request.
    fn view(&self) -> &OrderView;

    /// Brings the view up to date, asking for no more than the next step needs.
    async fn refresh(&mut self) -> Result<(), AcmeError>;

    /// Reads the authorizations that no step needs any more. Their challenges may have been answered by a process before,
    /// and the answers are to be taken away.
    async fn read_decided(&mut self) -> Result<(), AcmeError>;

    /// Asks the CA to validate a challenge, whose answer must be in place everywhere.
    async fn challenge_ready(&mut self, challenge_url: &str) -> Result<(), AcmeError>;

    /// Sends the CSR, in DER, once: an order that was finalized before, or may have been, is read instead.
    async fn finalize(&mut self, csr_der: &[u8]) -> Result<(), AcmeError>;

    /// The chain; with `alternates` followed by those under other roots, as far as they can be read.
    async fn certificate(&mut self, alternates: bool) -> Result<Chains, AcmeError>;
}

#[async_trait]
impl AcmeAccount for Account {
    fn uri(&self) -> &str {
        Account::uri(self)
    }

    async fn begin(&self, order: &NewOrder) -> Result<Box<dyn AcmeOrder>, AcmeError> {
        Ok(Box::new(OrderSession::begin(self, order).await?))
    }

    async fn resume(&self, url: &str, identifiers: &[Identifier]) -> Result<Box<dyn AcmeOrder>, AcmeError> {
        Ok(Box::new(OrderSession::resume(self, url, identifiers).await?))
    }

    async fn renewal_info(&self, id: &str) -> Result<Option<RenewalInfo>, AcmeError> {
        Account::renewal_info(self, id).await
    }
}
