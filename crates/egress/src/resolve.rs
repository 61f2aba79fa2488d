//! Names to addresses, without those that [`address`] refuses.
//!
//! The check is here, on the very addresses that are then connected to, because a name that was
//! looked up beforehand may point elsewhere a moment later.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use super::address;

/// Every address of a name was refused; the first of them.
#[derive(Debug, thiserror::Error)]
#[error("{address} is refused")]
pub struct RefusedAddress {
    pub address: IpAddr,
}

/// The system's resolver, less the addresses that nobody may connect to.
#[derive(Debug, Clone)]
pub struct GuardedResolver {
    /// `--allow-loopback`, for development.
    pub allow_loopback: bool,
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allow_loopback = self.allow_loopback;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            permitted(&found, allow_loopback).map(Vec::into_iter)
        })
    }
}

fn permitted(found: &[SocketAddr], allow_loopback: bool) -> io::Result<Vec<SocketAddr>> {
    let good: Vec<SocketAddr> = found
        .iter()
        .copied()
        .filter(|socket| address::refused(socket.ip(), allow_loopback).is_none())
        .collect();
    match (good.is_empty(), found.first()) {
        (true, Some(first)) => Err(io::Error::other(RefusedAddress { address: first.ip() })),
        _ => Ok(good),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn refused_addresses_are_left_out_and_only_those_are_an_error() {
        let public: SocketAddr = "203.0.113.7:0".parse().unwrap();
        let metadata: SocketAddr = "169.254.169.254:0".parse().unwrap();
        assert_eq!(permitted(&[metadata, public], false).unwrap(), [public]);
        assert_eq!(permitted(&[], false).unwrap(), []);
        let error = permitted(&[metadata], true).unwrap_err();
        let refused = error.get_ref().unwrap().downcast_ref::<RefusedAddress>();
        assert_eq!(refused.unwrap().address, metadata.ip());
    }
}
