//! Which names a CA may sign (RFC 5280 §4.2.1.10).

use std::net::IpAddr;

use ipnet::IpNet;
use x509_parser::{asn1_rs::FromDer as _, x509::X509Name};

use super::{name::Name, request::CertificateRequest};

/// Subtrees of names, one list for each form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subtrees {
    /// `example.com` includes itself and everything below; `.example.com`, as OpenSSL and Go
    /// read it, for what is below only.
    pub dns_domains: Vec<String>,
    pub ip_ranges: Vec<IpNet>,
    /// A mailbox (`a@example.com`), all of a host (`example.com`), or all below a domain (`.example.com`).
    pub email_addresses: Vec<String>,
    /// A host (`example.com`), or all below a domain (`.example.com`).
    pub uri_domains: Vec<String>,
}

/// A CA's name constraints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameConstraints {
    pub critical: bool,
    pub permitted: Subtrees,
    pub excluded: Subtrees,
}

/// A name that a CA may not sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    pub name: String,
    /// The excluded subtree it falls into, or `None` when it is in no permitted one.
    pub excluded_by: Option<String>,
}

impl Subtrees {
    pub fn is_empty(&self) -> bool {
        self.dns_domains.is_empty()
            && self.ip_ranges.is_empty()
            && self.email_addresses.is_empty()
            && self.uri_domains.is_empty()
    }
}

impl NameConstraints {
    pub fn is_empty(&self) -> bool {
        self.permitted.is_empty() && self.excluded.is_empty()
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        [&self.permitted, &self.excluded]
            .into_iter()
            .flat_map(|subtrees| [&subtrees.dns_domains, &subtrees.email_addresses, &subtrees.uri_domains])
            .flatten()
            .map(String::as_str)
    }

    /// Whether every name asked for may be signed; else the first that may not.
    pub fn admit(&self, request: &CertificateRequest) -> Result<(), Forbidden> {
        let (permitted, excluded) = (&self.permitted, &self.excluded);
        for name in &request.dns_names {
            judge(
                name.as_str(),
                name.as_str(),
                &permitted.dns_domains,
                &excluded.dns_domains,
                dns_within,
                dns_overlaps,
            )?;
        }
        // Verifiers that still read host names from the subject apply the constraints to them too
        // (OpenSSL does so when there is no DNS name beside).
        let host = request
            .common_name
            .as_deref()
            .filter(|name| request.dns_names.is_empty() && !request.is_ca && name.contains('.'));
        if let Some(host) = host.and_then(|name| super::DnsName::parse(name).ok()) {
            judge(
                host.as_str(),
                host.as_str(),
                &permitted.dns_domains,
                &excluded.dns_domains,
                dns_within,
                dns_overlaps,
            )?;
        }
        for address in &request.ip_addresses {
            let within = |address: &IpAddr, range: &IpNet| range.contains(address);
            judge(
                address,
                &address.to_string(),
                &permitted.ip_ranges,
                &excluded.ip_ranges,
                within,
                within,
            )?;
        }
        for address in &request.email_addresses {
            judge(
                address.as_str(),
                address,
                &permitted.email_addresses,
                &excluded.email_addresses,
                mailbox_within,
                mailbox_within,
            )?;
        }
        for uri in &request.uris {
            let within = |uri: &str, domain: &String| uri_host(uri).is_some_and(|host| host_within(host, domain));
            // A URI without a host name cannot be judged, so any constraint on URIs refuses it.
            let overlaps = |uri: &str, domain: &String| uri_host(uri).is_none_or(|host| host_within(host, domain));
            judge(
                uri.as_str(),
                uri,
                &permitted.uri_domains,
                &excluded.uri_domains,
                within,
                overlaps,
            )?;
        }
        Ok(())
    }
}

fn judge<N: ?Sized, S: ToString>(
    name: &N,
    shown: &str,
    permitted: &[S],
    excluded: &[S],
    within: impl Fn(&N, &S) -> bool,
    overlaps: impl Fn(&N, &S) -> bool,
) -> Result<(), Forbidden> {
    if let Some(subtree) = excluded.iter().find(|subtree| overlaps(name, subtree)) {
        return Err(Forbidden {
            name: shown.to_owned(),
            excluded_by: Some(subtree.to_string()),
        });
    }
    if permitted.is_empty() || permitted.iter().any(|subtree| within(name, subtree)) {
        return Ok(());
    }
    Err(Forbidden {
        name: shown.to_owned(),
        excluded_by: None,
    })
}

/// Whether a subject (DER) is inside the permitted directory names and outside the excluded ones.
/// An empty subject is not constrained (§6.1.3 b).
pub(super) fn directory_within(subject: &[u8], permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Result<(), Forbidden> {
    let Some(name) = Name::from_der(subject).filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let shown = |der: &[u8]| {
        X509Name::from_der(der)
            .map(|(_, name)| name.to_string())
            .unwrap_or_default()
    };
    let within = |base: &&Vec<u8>| Name::from_der(base).is_some_and(|base| name.is_within(&base));
    if let Some(base) = excluded.iter().find(within) {
        return Err(Forbidden {
            name: shown(subject),
            excluded_by: Some(shown(base)),
        });
    }
    if permitted.is_empty() || permitted.iter().any(|base| within(&base)) {
        Ok(())
    } else {
        Err(Forbidden {
            name: shown(subject),
            excluded_by: None,
        })
    }
}

/// Whether all names of a DNS name (perhaps a wildcard) are inside a subtree.
#[allow(clippy::ptr_arg)] // shares its shape with the other forms
fn dns_within(name: &str, subtree: &String) -> bool {
    let (name, subtree) = (name.to_ascii_lowercase(), subtree.to_ascii_lowercase());
    if subtree.is_empty() {
        return true;
    }
    match subtree.strip_prefix('.') {
        Some(_) => name.len() > subtree.len() && name.ends_with(&subtree),
        None => {
            name == subtree
                || name
                    .strip_suffix(subtree.as_str())
                    .is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

/// Whether any name of a DNS name is inside a subtree: `*.example.com` covers
/// `secret.example.com`, so an exclusion of that refuses the wildcard.
fn dns_overlaps(name: &str, subtree: &String) -> bool {
    dns_within(name, subtree)
        || name.strip_prefix('*').is_some_and(|parent| {
            let subtree = subtree.trim_start_matches('.').to_ascii_lowercase();
            subtree
                .strip_suffix(&parent.to_ascii_lowercase())
                .is_some_and(|label| !label.is_empty() && !label.contains('.'))
        })
}

/// Whether a host is the one named, or below the domain when that starts with a dot.
fn host_within(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.to_ascii_lowercase(), domain.to_ascii_lowercase());
    if domain.starts_with('.') {
        host.len() > domain.len() && host.ends_with(&domain)
    } else {
        domain.is_empty() || host == domain
    }
}

/// Hosts without regard to case, the part before the `@` with (RFC 5280 §4.2.1.10).
#[allow(clippy::ptr_arg)] // shares its shape with the other forms
fn mailbox_within(mailbox: &str, subtree: &String) -> bool {
    let Some((local, host)) = mailbox.rsplit_once('@') else {
        return false;
    };
    match subtree.rsplit_once('@') {
        Some((wanted, domain)) => local == wanted && host.eq_ignore_ascii_case(domain),
        None => host_within(host, subtree),
    }
}

/// The host name in a URI's authority; `None` when it has none or an IP address.
fn uri_host(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = if host.starts_with('[') {
        host
    } else {
        host.split(':').next()?
    };
    let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    Some(host).filter(|host| !host.is_empty() && !is_address)
}

#[cfg(test)]
mod tests;
