//! The part of reqwest's interface that dns-update uses, with no network of its own.
//!
//! dns-update makes its HTTP clients itself: no resolver, no limit on answers and no proxy can be given to it, and
//! reqwest resolves names again after any check, reads bodies without bound and unpacks compressed ones. So
//! `[patch.crates-io]` puts this crate in reqwest's place, for dns-update alone. Every request goes to the
//! [`Transport`] of the [`scope`] around the call; outside of a scope nothing is sent.

mod client;
mod response;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;

pub use client::{Client, ClientBuilder, RequestBuilder};
pub use http::{Method, StatusCode, header};
pub use response::Response;
pub use url::Url;

/// Redirects are never followed: the transport gets one request and gives one answer.
pub mod redirect {
    /// Handles redirects.
    #[derive(Clone, Copy, Debug)]
    pub struct Policy;

    impl Policy {
        /// Gives the redirect to the caller.
        pub const fn none() -> Self {
            Self
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the URL is not one: {0}")]
    Url(String),
    #[error("the request cannot be made: {0}")]
    Request(String),
    #[error("no transport is in scope")]
    NoTransport,
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("{0}")]
    Transport(String),
    #[error("the answer is not what was expected: {0}")]
    Decode(String),
}

/// Sends one request. The body of the answer is whole: the transport bounds it.
pub trait Transport: Send + Sync {
    /// The error is text for people.
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, String>>;
}

tokio::task_local! {
    static TRANSPORT: Arc<dyn Transport>;
}

/// Runs `call`; the requests that it makes go through `transport`.
pub async fn scope<F: Future>(transport: Arc<dyn Transport>, call: F) -> F::Output {
    TRANSPORT.scope(transport, call).await
}

fn transport() -> Result<Arc<dyn Transport>, Error> {
    TRANSPORT.try_with(Arc::clone).map_err(|_| Error::NoTransport)
}

#[cfg(test)]
mod tests;
