//! The desired Service of a Gateway.

use std::collections::BTreeMap;

use gatehouse_crds::gateway::{ExternalTrafficPolicy, Gateway, IpFamily, Provider, Scope, ServiceSpec, ServiceType};
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};

use super::{
    created::{CREATED_WITH, Created},
    observed_service::ObservedService,
    ports::{Port, Ports, Transport},
    provider::{self, Protocols, Refusal, Template, template},
};
use crate::kubernetes::names;

/// Longest name of a Service, and longest value of a label.
const LABEL: usize = 63;

/// The spec's Service, ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredService {
    /// The user's, where the user gave one.
    pub fixed_name: Option<String>,
    pub type_: ServiceType,
    pub scope: Scope,
    /// Fields of a load balancer.
    pub provider: Option<Provider>,
    /// Provider of the load balancer in the last status.
    pub known_provider: Option<Provider>,
    pub template: Template,
    pub ports: Ports,
    /// The load balancer of an Internal Gateway works without node ports, and none were asked for.
    without_node_ports: bool,
    spec: ServiceSpec,
    selector: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    owner: Value,
    default_name: String,
}

impl DesiredService {
    /// Reads a Gateway. `provider` is the one it names, or the one that was detected; without one there is no load balancer
    /// that is Internal.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn of(gateway: &Gateway, provider: Result<Provider, Refusal>) -> Result<Self, Refusal> {
        let spec = gateway.spec.service.clone().unwrap_or_default();
        let (type_, scope) = (spec.type_.unwrap_or_default(), spec.scope.unwrap_or_default());
        let name = gateway.name_any();
        if spec.name.is_none() && !is_service_name(&name) {
            return Err(Refusal {
                reason: "InvalidName",
                message: format!(
                    "A Service cannot be called {name}: its name has at most {LABEL} lower-case letters, digits and -, a letter first. Write another in spec.service.name"
                ),
            });
        }
        let ports = super::ports::ports(&gateway.spec.listeners);
        let has = |transport| ports.ports.iter().any(|port| port.transport == transport);
        let protocols = Protocols {
            tcp: has(Transport::Tcp),
            udp: has(Transport::Udp),
        };
        let (provider, template) = if type_ == ServiceType::LoadBalancer {
            let provider = provider?;
            (Some(provider), template(provider, &spec, protocols)?)
        } else {
            let own = Template {
                annotations: spec.annotations.clone(),
                labels: spec.labels.clone(),
                ..Template::default()
            };
            (None, own)
        };
        Ok(Self {
            fixed_name: spec.name.clone(),
            type_,
            scope,
            provider,
            known_provider: gateway.status.as_ref().and_then(|status| status.provider),
            without_node_ports: scope == Scope::Internal
                && spec.node_ports.is_empty()
                && provider.is_some_and(|provider| provider::needs_no_node_ports(provider, &spec.annotations)),
            template,
            ports,
            selector: gateway.spec.target.selector.clone(),
            labels: labels(&name),
            owner: owner(gateway),
            default_name: name,
            spec,
        })
    }

    /// The names to choose from, in the order of preference.
    pub fn names(&self) -> Vec<String> {
        if let Some(name) = &self.fixed_name {
            return vec![name.clone()];
        }
        let second = |number: u32| {
            let suffix = format!("-{number}");
            let stem: String = self
                .default_name
                .chars()
                .take(LABEL.saturating_sub(suffix.len()))
                .collect();
            format!("{}{suffix}", stem.trim_end_matches('-'))
        };
        std::iter::once(self.default_name.clone())
            .chain((2..=9).map(second))
            .collect()
    }

    /// The body of the write that makes the Service so. Node ports stay what they are in `live`. As a `ClusterIP`, whatever
    /// was asked for, when it is withdrawn.
    pub fn body(&self, live: Option<&ObservedService>, withdrawn: Option<i64>) -> Value {
        let type_ = if withdrawn.is_some() {
            ServiceType::ClusterIp
        } else {
            self.type_
        };
        let mut annotations = self.template.annotations.clone();
        if let Some(created) = Created::of(self).filter(|_| type_ == ServiceType::LoadBalancer) {
            annotations.insert(CREATED_WITH.into(), created.text());
        }
        if let Some(generation) = withdrawn {
            annotations.insert(WITHDRAWN.into(), generation.to_string());
        }
        let mut spec_labels = self.template.labels.clone();
        spec_labels.extend(self.labels.clone());
        if let Some(provider) = self.provider.filter(|_| type_ == ServiceType::LoadBalancer) {
            spec_labels.insert(names::PROVIDER.into(), provider::key(provider).into());
        }
        let mut metadata = Map::new();
        metadata.insert("labels".into(), json!(spec_labels));
        metadata.insert("ownerReferences".into(), json!([self.owner]));
        if !annotations.is_empty() {
            metadata.insert("annotations".into(), json!(annotations));
        }
        let mut spec = Map::new();
        spec.insert("type".into(), json!(type_));
        spec.insert("selector".into(), json!(self.selector));
        spec.insert("ports".into(), self.port_list(live, type_));
        let mut put = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                spec.insert(field.into(), value);
            }
        };
        if type_ == ServiceType::LoadBalancer {
            put(
                "loadBalancerClass",
                self.template.load_balancer_class.as_ref().map(|class| json!(class)),
            );
            put(
                "loadBalancerIP",
                self.template.load_balancer_ip.as_ref().map(|address| json!(address)),
            );
            // Existing ones stay until there is a new Service: they may be in use.
            let has_none = live.is_none_or(|live| {
                live.node_ports().is_empty() || live.owned.contains("spec/allocateLoadBalancerNodePorts")
            });
            put(
                "allocateLoadBalancerNodePorts",
                (self.without_node_ports && has_none).then_some(Value::Bool(false)),
            );
            let ranges = &self.spec.load_balancer_source_ranges;
            put("loadBalancerSourceRanges", (!ranges.is_empty()).then(|| json!(ranges)));
        }
        if type_ != ServiceType::ClusterIp {
            put(
                "externalTrafficPolicy",
                self.spec.external_traffic_policy.map(|policy| json!(policy)),
            );
        }
        let families = &self.spec.ip_families;
        put("ipFamilies", (!families.is_empty()).then(|| json!(families)));
        let policy = match families.len() {
            0 => None,
            1 => Some("SingleStack"),
            _ => Some("RequireDualStack"),
        };
        put("ipFamilyPolicy", policy.map(Into::into));
        json!({"metadata": metadata, "spec": spec})
    }

    /// Returns the body of the write that adopts a Service, and changes nothing else of it yet.
    pub fn adoption(&self) -> Value {
        json!({"metadata": {"labels": self.labels, "ownerReferences": [self.owner]}})
    }

    fn port_list(&self, live: Option<&ObservedService>, type_: ServiceType) -> Value {
        let ports = self.ports.ports.iter().map(|port| {
            let transport = port.transport.as_str();
            let mut entry = json!({
                "name": port.name,
                "port": port.number,
                "protocol": transport,
                "targetPort": port.target,
            });
            let asked = self.spec.node_ports.get(&port.name).copied();
            // With the number of the port the API server keeps a node port, unless we have set it ourselves: then we must continue to
            // set it. With the name of a port whose number is no longer desired, we do.
            let kept = || {
                let live = live?;
                if live.has_port(port.number, transport) {
                    let said = live
                        .owned
                        .contains(&format!("spec/ports/{}/{transport}/nodePort", port.number));
                    return live.node_port_at(port.number, transport).filter(|_| said);
                }
                let before = live.number_of(&port.name, transport)?;
                let desired = |other: &Port| (other.number, other.transport) == (before, port.transport);
                live.node_port_at(before, transport)
                    .filter(|_| !self.ports.ports.iter().any(desired))
            };
            let node_port = if type_ == ServiceType::ClusterIp {
                None
            } else {
                asked.or_else(kept)
            };
            if let Value::Object(entry) = &mut entry {
                if let Some(protocol) = port.app_protocol {
                    entry.insert("appProtocol".into(), protocol.into());
                }
                if let Some(node_port) = node_port {
                    entry.insert("nodePort".into(), node_port.into());
                }
            }
            entry
        });
        ports.collect()
    }

    /// Returns the first of the desired families: the API server rejects its change.
    pub fn first_family(&self) -> Option<&'static str> {
        self.spec.ip_families.first().map(|family| match family {
            IpFamily::V4 => "IPv4",
            IpFamily::V6 => "IPv6",
        })
    }

    /// Whether the Pods see the clients' addresses only through Local.
    pub fn is_local(&self) -> bool {
        self.spec.external_traffic_policy == Some(ExternalTrafficPolicy::Local)
    }

    pub fn source_ranges(&self) -> &[String] {
        &self.spec.load_balancer_source_ranges
    }
}

/// Annotation on a Service that was withdrawn: the generation of the Gateway for which it was.
pub const WITHDRAWN: &str = "gatehouse.dev/withdrawn";

/// Labels of everything that is made for the Gateway of this name.
pub fn labels(gateway: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (names::GATEWAY.to_owned(), label_value(gateway)),
        (names::MANAGED.to_owned(), names::TRUE.to_owned()),
        (names::APP_MANAGED_BY.to_owned(), names::FIELD_MANAGER.to_owned()),
    ])
}

/// A name as the value of a label: a name may be longer.
pub fn label_value(name: &str) -> String {
    let cut: String = name.chars().take(LABEL).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// An owner reference to a Gateway.
pub fn owner(gateway: &Gateway) -> Value {
    json!(gateway.controller_owner_ref(&()))
}

/// RFC 1035 label, as a Service's name must be.
fn is_service_name(name: &str) -> bool {
    let letters = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    name.len() <= LABEL
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(letters)
}
