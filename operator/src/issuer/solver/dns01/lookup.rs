//! Servers for DNS queries.

use std::{net::SocketAddr, sync::Arc};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RecordType},
};

use super::{
    super::{Reach, SolverError},
    Server, plain,
    wire::{self, question},
};

/// The resolvers that the system is set up with. Their addresses are the administrator's, so that loopback and
/// link-local ones (node-local DNS) are fine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemServers(Arc<[SocketAddr]>);

impl SystemServers {
    /// Reads `/etc/resolv.conf`. Empty when there is none.
    pub fn from_system() -> Self {
        let Ok((config, _)) = hickory_resolver::system_conf::read_system_conf() else {
            tracing::warn!(
                "no resolver is configured on this system: zones are found only where a name server is given"
            );
            return Self::default();
        };
        Self(
            config
                .name_servers()
                .iter()
                .map(|server| SocketAddr::new(server.ip, 53))
                .collect(),
        )
    }

    /// These and no others.
    pub fn new(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(servers.into_iter().collect())
    }
}

/// Servers for queries about zones, CNAMEs and addresses.
#[derive(Clone, Debug)]
pub(in super::super) struct Lookup {
    /// The tenant and the account, between which nothing found is shared.
    owner: String,
    /// Servers of the issuer's choice; none: the system's resolvers.
    given: Arc<[Server]>,
    /// The server that takes the updates: asked first, and believed where it is authoritative.
    primary: Option<Server>,
    system: SystemServers,
    reach: Reach,
}

impl Lookup {
    pub(in super::super) fn new(
        owner: String,
        given: Vec<Server>,
        primary: Option<Server>,
        system: SystemServers,
        reach: Reach,
    ) -> Self {
        Self {
            owner,
            given: given.into(),
            primary,
            system,
            reach,
        }
    }

    pub(super) fn given(&self) -> &[Server] {
        &self.given
    }

    pub(super) fn primary(&self) -> Option<&Server> {
        self.primary.as_ref()
    }

    pub(super) fn reach(&self) -> Reach {
        self.reach
    }

    /// Distinguishes this lookup from others in a cache.
    pub(super) fn key(&self) -> String {
        let servers: Vec<String> = self.given.iter().map(ToString::to_string).collect();
        format!(
            "{}|{}|{}",
            self.owner,
            servers.join(","),
            self.primary.as_ref().map(ToString::to_string).unwrap_or_default()
        )
    }

    /// The first answer that says something: data, or that there is none. `Ok(None)` when every server that
    /// could be reached answered that it doesn't know about the name.
    pub(super) async fn ask(&self, name: &Name, record_type: RecordType) -> Result<Option<Message>, SolverError> {
        let mut unreachable = None;
        let mut answered = false;
        for (server, recursion) in self.chosen() {
            let addresses = match server.addresses(self.reach).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    unreachable.get_or_insert(error);
                    continue;
                }
            };
            match ask_any(&server.to_string(), &addresses, name, record_type, recursion).await {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => answered = true,
                Err(error) => {
                    unreachable.get_or_insert(error);
                }
            }
        }
        if self.given.is_empty() && !self.system.0.is_empty() {
            match ask_any("the system's resolver", &self.system.0, name, record_type, true).await {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => answered = true,
                Err(error) => {
                    unreachable.get_or_insert(error);
                }
            }
        }
        match unreachable {
            Some(error) if !answered => Err(error),
            _ => Ok(None),
        }
    }

    /// Servers with names of their own, and whether to ask them to recurse. The primary is asked for what it
    /// holds itself.
    fn chosen(&self) -> impl Iterator<Item = (&Server, bool)> {
        let primary = self.primary.as_ref().filter(|_| self.given.is_empty());
        primary
            .map(|server| (server, false))
            .into_iter()
            .chain(self.given.iter().map(|server| (server, true)))
    }

    /// Addresses of a name server, unfiltered.
    pub(super) async fn addresses(&self, host: &Name) -> Result<Vec<std::net::IpAddr>, SolverError> {
        let (v4, v6) = tokio::join!(self.ask(host, RecordType::A), self.ask(host, RecordType::AAAA));
        let failed = v4.as_ref().err().or(v6.as_ref().err()).cloned();
        let found: Vec<_> = [v4, v6]
            .into_iter()
            .flatten()
            .flatten()
            .flat_map(|message| message.answers)
            .filter_map(|record| record.data.ip_addr())
            .collect();
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }
}

/// `Ok(None)`: a server answered, but knows nothing of the name.
async fn ask_any(
    what: &str,
    addresses: &[SocketAddr],
    name: &Name,
    record_type: RecordType,
    recursion: bool,
) -> Result<Option<Message>, SolverError> {
    let (mut failure, mut lame) = (None, false);
    for address in addresses {
        match wire::exchange(*address, &question(name, record_type, recursion)).await {
            Ok(answer) if is_conclusive(&answer.message, recursion) => return Ok(Some(answer.message)),
            Ok(answer) if answer.message.response_code == ResponseCode::ServFail => {
                failure.get_or_insert(SolverError::DnsFailed {
                    server: what.into(),
                    detail: format!("SERVFAIL for {} {record_type}", plain(name)),
                });
            }
            // It does not serve the name; another address may.
            Ok(_) => lame = true,
            Err(error) => {
                failure.get_or_insert(SolverError::DnsUnreachable {
                    server: what.into(),
                    detail: format!("{error} (DNS query to {address})"),
                });
            }
        }
    }
    match failure {
        Some(error) if !lame => Err(error),
        _ => Ok(None),
    }
}

/// Returns whether an answer is conclusive. One from a server that was not asked to recurse is only when it is
/// authoritative: else it is a referral, or a guess from a cache.
fn is_conclusive(message: &Message, recursion: bool) -> bool {
    matches!(message.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
        && (recursion || message.authoritative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_tenant_or_account_finds_out_is_kept_apart() {
        let key =
            |owner: &str| Lookup::new(owner.into(), vec![], None, SystemServers::default(), Reach::default()).key();
        assert_eq!(key("namespace/a 01"), key("namespace/a 01"));
        assert_ne!(key("namespace/a 01"), key("namespace/b 01"));
        assert_ne!(key("namespace/a 01"), key("namespace/a 02"));
    }
}
