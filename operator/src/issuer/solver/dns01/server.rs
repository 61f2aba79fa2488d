//! Name servers as people write them.

use std::{fmt, net::SocketAddr};

use super::super::{Reach, SolverError};

/// `host[:port]`; the port of DNS is 53.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Server {
    host: String,
    port: u16,
}

impl Server {
    /// `field` names the place in the manifest for the error.
    pub(in super::super) fn parse(text: &str, field: &str) -> Result<Self, SolverError> {
        let invalid = || SolverError::InvalidSolver {
            field: field.into(),
            detail: format!(
                "{text} is not a name server: write host or host:port, IPv6 in brackets, such as [2001:db8::53]:53"
            ),
        };
        let (host, rest) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(invalid)?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?,
            None if rest.is_empty() => 53,
            None => return Err(invalid()),
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(invalid());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    pub(super) async fn addresses(&self, reach: Reach) -> Result<Vec<SocketAddr>, SolverError> {
        reach.resolve(&self.host, self.port).await
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn servers_are_read_with_and_without_a_port() {
        for (text, expected) in [
            ("10.0.0.53", Some("10.0.0.53:53")),
            ("10.0.0.53:5353", Some("10.0.0.53:5353")),
            ("ns1.example.com", Some("ns1.example.com:53")),
            ("ns1.example.com:54", Some("ns1.example.com:54")),
            ("[2001:db8::53]", Some("[2001:db8::53]:53")),
            ("[2001:db8::53]:54", Some("[2001:db8::53]:54")),
            ("2001:db8::53", None),
            ("ns1:", None),
            ("ns1:0", None),
            ("ns1:70000", None),
            ("[::1", None),
            ("[::1]x", None),
            ("", None),
            ("a b", None),
        ] {
            let read = Server::parse(text, "f").map(|server| server.to_string()).ok();
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
