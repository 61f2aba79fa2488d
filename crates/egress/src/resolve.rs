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

/// The system's resolver, without refused addresses.
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
            let found = addresses(name.as_str(), 0).await?;
            permitted(&found, allow_loopback).map(Vec::into_iter)
        })
    }
}

/// Looks a host up by the system's resolver.
///
/// With a Pod's `ndots:5` the search domains of `/etc/resolv.conf` come first, and a Service `slack` in a namespace `com`
/// would answer for `slack.com`. So a name with two dots or more is absolute, unless it ends in `.svc`. One with one dot
/// may be `service.namespace`: the search domains come when there is no such absolute name.
///
/// # Errors
/// Those of the resolver. One that has no answer now is not taken for "no such name".
pub async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
    let mut outcome = Ok(Vec::new());
    for name in candidates(host, &hosts) {
        outcome = tokio::net::lookup_host((name.as_str(), port))
            .await
            .map(Iterator::collect);
        match &outcome {
            Err(error) if is_unknown_name(error) => {}
            _ => break,
        }
    }
    outcome
}

/// Returns the names to look up for a host, in order. `hosts` is the text of `/etc/hosts`, which knows no absolute names.
fn candidates(host: &str, hosts: &str) -> Vec<String> {
    let as_written = host.to_owned();
    let is_listed = || {
        let entries = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
        entries
            .flat_map(|entry| entry.split_whitespace().skip(1))
            .any(|name| name.eq_ignore_ascii_case(host))
    };
    let is_short = !host.contains('.') || host.to_ascii_lowercase().ends_with(".svc");
    if is_short || host.ends_with('.') || host.parse::<IpAddr>().is_ok() || is_listed() {
        return vec![as_written];
    }
    let absolute = format!("{host}.");
    if host.matches('.').count() > 1 {
        // A search domain must not answer for a public name that has expired.
        return vec![absolute];
    }
    vec![absolute, as_written]
}

/// Whether the resolver says that there is no such name, or that it has no address. The error has no other mark than the
/// texts of glibc, musl and macOS for `EAI_NONAME` and `EAI_NODATA`.
fn is_unknown_name(error: &io::Error) -> bool {
    let text = error.to_string();
    [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
        "nodename nor servname provided",
    ]
    .iter()
    .any(|unknown| text.contains(unknown))
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
    fn a_public_name_is_looked_up_as_an_absolute_name_first() {
        let hosts = "127.0.0.1 localhost\n192.0.2.7 acme.example.com vault # backup.example.com\n";
        let cases: [(&str, &[&str]); 10] = [
            ("hooks.slack.com", &["hooks.slack.com."]),
            ("slack.com", &["slack.com.", "slack.com"]),
            // Short names of Services need the search domains.
            ("alertmanager", &["alertmanager"]),
            ("alertmanager.monitoring.svc", &["alertmanager.monitoring.svc"]),
            (
                "alertmanager.monitoring",
                &["alertmanager.monitoring.", "alertmanager.monitoring"],
            ),
            ("slack.com.", &["slack.com."]),
            ("192.0.2.1", &["192.0.2.1"]),
            // Pods' hostAliases.
            ("ACME.example.com", &["ACME.example.com"]),
            ("backup.example.com", &["backup.example.com."]),
            (
                "vault.security.svc.cluster.local",
                &["vault.security.svc.cluster.local."],
            ),
        ];
        for (host, names) in cases {
            assert_eq!(candidates(host, hosts), names, "{host}");
        }
    }

    #[tokio::test]
    async fn a_resolver_without_an_answer_is_not_no_such_name() {
        let unknown = io::Error::other("failed to lookup address information: Name or service not known");
        let later = io::Error::other("failed to lookup address information: Temporary failure in name resolution");
        assert!(is_unknown_name(&unknown));
        assert!(!is_unknown_name(&later));
        assert_eq!(
            addresses("127.0.0.1", 7).await.unwrap(),
            ["127.0.0.1:7".parse().unwrap()]
        );
        assert!(!addresses("localhost", 7).await.unwrap().is_empty());
    }

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
