//! Listeners become the ports of a Service.

use gatehouse_crds::gateway::{Listener, Protocol};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The protocol of a Service's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// Returns the value in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    pub fn of(protocol: Protocol) -> Self {
        if protocol == Protocol::Udp {
            Self::Udp
        } else {
            Self::Tcp
        }
    }
}

/// One port of the Service, for the listeners that share it.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Port of the first listener.
    pub name: String,
    pub number: i32,
    pub transport: Transport,
    pub target: IntOrString,
    pub app_protocol: Option<&'static str>,
}

/// Listeners as ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ports {
    pub ports: Vec<Port>,
    /// For each listener its port, or why it has none.
    pub of_listeners: Vec<Result<usize, String>>,
}

impl Ports {
    /// The port of a listener, by its position.
    pub fn of(&self, listener: usize) -> Option<&Port> {
        let port = self.of_listeners.get(listener)?.as_ref().ok()?;
        self.ports.get(*port)
    }
}

/// Merges listeners at one port that differ in nothing but their host names; what clashes is refused, and the first stays.
pub fn ports(listeners: &[Listener]) -> Ports {
    let mut result = Ports::default();
    for (position, listener) in listeners.iter().enumerate() {
        let desired = port(listener);
        let same = |port: &Port| (port.number, port.transport) == (desired.number, desired.transport);
        let outcome = match result.ports.iter().position(same) {
            None => {
                result.ports.push(desired);
                Ok(result.ports.len() - 1)
            }
            Some(index) => shared(listeners, position, index, &result, &desired).map(|()| index),
        };
        result.of_listeners.push(outcome);
    }
    result
}

fn port(listener: &Listener) -> Port {
    Port {
        name: listener.name.clone(),
        number: listener.port,
        transport: Transport::of(listener.protocol),
        target: listener.target_port.clone().unwrap_or(IntOrString::Int(listener.port)),
        app_protocol: match listener.protocol {
            Protocol::Http => Some("http"),
            Protocol::Https => Some("https"),
            Protocol::Tls => Some("tls"),
            Protocol::Tcp | Protocol::Udp => None,
        },
    }
}

/// Whether the listener at `position` may share the port at `index`.
fn shared(listeners: &[Listener], position: usize, index: usize, so_far: &Ports, desired: &Port) -> Result<(), String> {
    let (Some(listener), Some(there)) = (listeners.get(position), so_far.ports.get(index)) else {
        return Ok(());
    };
    let number = format!("Port {} ({})", there.number, there.transport.as_str());
    if there.target != desired.target {
        return Err(format!(
            "{number} belongs to the listener {}, which goes to the Pods' port {}; this one would go to {}. Give them one targetPort, or different ports",
            there.name,
            target(&there.target),
            target(&desired.target),
        ));
    }
    if there.app_protocol != desired.app_protocol {
        return Err(format!(
            "{number} belongs to the listener {}, which speaks another protocol. Give them one protocol, or different ports",
            there.name
        ));
    }
    let twin = listeners
        .iter()
        .zip(&so_far.of_listeners)
        .find(|(other, port)| port.as_ref() == Ok(&index) && other.hostname == listener.hostname);
    match twin {
        Some((other, _)) => Err(format!(
            "{number} belongs to the listener {}, for the same {}. Remove one of them, or give them different ports",
            other.name,
            listener.hostname.as_deref().unwrap_or("hosts (all)"),
        )),
        None => Ok(()),
    }
}

/// As people write it.
pub fn target(target: &IntOrString) -> String {
    match target {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::needless_pass_by_value)]
    use serde_json::json;

    use super::*;

    fn of(listeners: serde_json::Value) -> Ports {
        ports(&serde_json::from_value::<Vec<Listener>>(listeners).unwrap())
    }

    #[test]
    fn each_listener_is_a_port_and_the_target_defaults_to_it() {
        let ports = of(json!([
            {"name": "http", "port": 80, "protocol": "HTTP", "targetPort": "web"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        ]));
        assert_eq!(ports.of_listeners, [Ok(0), Ok(1), Ok(2)]);
        let seen: Vec<_> = ports
            .ports
            .iter()
            .map(|port| {
                (
                    port.number,
                    port.transport.as_str(),
                    target(&port.target),
                    port.app_protocol,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (80, "TCP", "web".to_owned(), Some("http")),
                (53, "UDP", "53".to_owned(), None),
                (53, "TCP", "53".to_owned(), None)
            ]
        );
    }

    #[test]
    fn host_names_share_a_port_and_what_clashes_is_told_what_to_write() {
        let ports = of(json!([
            {"name": "a", "port": 443, "protocol": "HTTPS", "hostname": "a.test", "targetPort": 8443},
            {"name": "b", "port": 443, "protocol": "HTTPS", "hostname": "b.test", "targetPort": 8443},
            {"name": "c", "port": 443, "protocol": "HTTPS", "hostname": "c.test", "targetPort": 9443},
            {"name": "d", "port": 443, "protocol": "HTTPS", "hostname": "a.test", "targetPort": 8443},
            {"name": "e", "port": 443, "protocol": "TCP", "hostname": "e.test", "targetPort": 8443},
        ]));
        assert_eq!(ports.ports.len(), 1);
        let words: Vec<_> = ports
            .of_listeners
            .iter()
            .map(|port| port.clone().err().unwrap_or_default())
            .collect();
        assert_eq!((&*words[0], &*words[1]), ("", ""));
        assert!(
            words[2].contains("goes to the Pods' port 8443; this one would go to 9443. Give them one targetPort"),
            "{}",
            words[2]
        );
        assert!(words[3].contains("listener a, for the same a.test"), "{}", words[3]);
        assert!(words[4].contains("another protocol"), "{}", words[4]);
    }
}
