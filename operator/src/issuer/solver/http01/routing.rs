//! The objects that lead challenges to the responder: a function of values.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use gatehouse_crds::solver::{Http01Ingress, IngressTemplateMetadata};
use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
        networking::v1::{
            HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
            IngressSpec, ServiceBackendPort,
        },
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::super::Identifier;
use crate::kubernetes::names;

/// Of the Service, the `EndpointSlice`, and the start of every Ingress's name.
const NAME: &str = "gatehouse-http01";
const PORT_NAME: &str = "http";
const PATH: &str = "/.well-known/acme-challenge/";

/// Where the responder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The operator's own namespace.
    pub namespace: String,
    /// Address of this Pod and port of the responder: only the leader answers.
    pub responder: SocketAddr,
}

/// One Ingress: a class, and what an Issuer wants on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    class: String,
    template: IngressTemplateMetadata,
}

impl RouteKey {
    pub fn new(spec: &Http01Ingress) -> Self {
        Self {
            class: spec.ingress_class_name.clone(),
            template: spec.ingress_template.clone().unwrap_or_default().metadata,
        }
    }

    /// Name of the Ingress. Issuers that want different labels or annotations get Ingresses of their own.
    pub fn name(&self) -> String {
        let mut name = format!("{NAME}-{}", self.class);
        if self.template != IngressTemplateMetadata::default() {
            let text = serde_json::json!(self.template).to_string();
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            name.push('-');
            name.extend(hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")));
        }
        name
    }
}

/// Labels of everything here, and the selector to find it again.
pub(super) fn labels() -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/component", "http01"),
        ("app.kubernetes.io/managed-by", names::FIELD_MANAGER),
        ("app.kubernetes.io/name", "gatehouse"),
        ("gatehouse.dev/managed", "true"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

fn metadata(site: &Site, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(site.namespace.clone()),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}

/// A Service without a selector: its endpoints are ours.
pub(super) fn service(site: &Site) -> Service {
    Service {
        metadata: metadata(site, NAME.into()),
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.into()),
                port: 80,
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::Int(site.responder.port().into())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The leader's Pod. The slice of the other address family is another object, since the type of one is immutable.
pub(super) fn endpoint_slice(site: &Site) -> EndpointSlice {
    let (family, suffix) = match site.responder.ip() {
        IpAddr::V4(_) => ("IPv4", "ipv4"),
        IpAddr::V6(_) => ("IPv6", "ipv6"),
    };
    let mut metadata = metadata(site, format!("{NAME}-{suffix}"));
    let labels = metadata.labels.get_or_insert_default();
    labels.insert("kubernetes.io/service-name".into(), NAME.into());
    labels.insert("endpointslice.kubernetes.io/managed-by".into(), "gatehouse.dev".into());
    EndpointSlice {
        metadata,
        address_type: family.into(),
        // On loopback, in development, no ingress controller can reach it, and the API server refuses the address.
        endpoints: Some(if site.responder.ip().is_loopback() {
            Vec::new()
        } else {
            vec![endpoint(site)]
        }),
        ports: Some(vec![EndpointPort {
            name: Some(PORT_NAME.into()),
            port: Some(site.responder.port().into()),
            protocol: Some("TCP".into()),
            ..EndpointPort::default()
        }]),
    }
}

fn endpoint(site: &Site) -> Endpoint {
    Endpoint {
        addresses: vec![site.responder.ip().to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            ..EndpointConditions::default()
        }),
        ..Endpoint::default()
    }
}

/// A rule for each host in flight. An IP address cannot be the host of a rule: it gets one without a host.
pub(super) fn ingress(site: &Site, key: &RouteKey, hosts: &BTreeSet<Identifier>) -> Ingress {
    let mut metadata = metadata(site, key.name());
    let mut all_labels = key.template.labels.clone();
    all_labels.extend(labels());
    metadata.labels = Some(all_labels);
    if !key.template.annotations.is_empty() {
        metadata.annotations = Some(key.template.annotations.clone());
    }
    let names: BTreeSet<Option<String>> = hosts
        .iter()
        .map(|host| match host {
            Identifier::Dns(name) => Some(name.clone()),
            Identifier::Ip(_) => None,
        })
        .collect();
    Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: Some(key.class.clone()),
            rules: Some(names.into_iter().map(rule).collect()),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    }
}

fn rule(host: Option<String>) -> IngressRule {
    IngressRule {
        host,
        http: Some(HTTPIngressRuleValue {
            paths: vec![HTTPIngressPath {
                path: Some(PATH.into()),
                path_type: "Prefix".into(),
                backend: IngressBackend {
                    service: Some(IngressServiceBackend {
                        name: NAME.into(),
                        port: Some(ServiceBackendPort {
                            name: Some(PORT_NAME.into()),
                            number: None,
                        }),
                    }),
                    resource: None,
                },
            }],
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use gatehouse_crds::solver::IngressTemplate;

    use super::*;

    fn site(address: &str) -> Site {
        Site {
            namespace: "gatehouse-system".into(),
            responder: address.parse().unwrap(),
        }
    }

    fn key(class: &str, annotations: &[(&str, &str)]) -> RouteKey {
        let annotations: BTreeMap<_, _> = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let metadata = IngressTemplateMetadata {
            labels: [
                ("team".to_owned(), "edge".to_owned()),
                ("gatehouse.dev/managed".to_owned(), "no".to_owned()),
            ]
            .into(),
            annotations: annotations.clone(),
        };
        RouteKey::new(&Http01Ingress {
            ingress_class_name: class.into(),
            ingress_template: (!annotations.is_empty()).then_some(IngressTemplate { metadata }),
        })
    }

    #[test]
    fn the_service_leads_to_the_leaders_pod() {
        let site = site("10.1.2.3:8089");
        insta::assert_yaml_snapshot!("service", service(&site));
        insta::assert_yaml_snapshot!("endpoint_slice", endpoint_slice(&site));
        let v6 = endpoint_slice(&self::site("[fd00::3]:8089"));
        assert_eq!(
            (v6.metadata.name.as_deref(), v6.address_type.as_str()),
            (Some("gatehouse-http01-ipv6"), "IPv6")
        );
        assert_eq!(v6.endpoints.unwrap()[0].addresses, ["fd00::3"]);
    }

    #[test]
    fn an_ingress_has_a_rule_for_each_host_in_flight() {
        let hosts = [
            Identifier::Dns("b.example.com".into()),
            Identifier::Dns("a.example.com".into()),
            Identifier::Ip("192.0.2.7".parse().unwrap()),
            Identifier::Ip("192.0.2.8".parse().unwrap()),
        ];
        insta::assert_yaml_snapshot!(
            "ingress",
            ingress(&site("10.1.2.3:8089"), &key("nginx", &[]), &hosts.into())
        );
    }

    #[test]
    fn a_template_makes_an_ingress_of_its_own_and_never_takes_our_labels() {
        let redirect = key("nginx", &[("nginx.ingress.kubernetes.io/ssl-redirect", "false")]);
        let hosts = [Identifier::Dns("a.example.com".into())];
        insta::assert_yaml_snapshot!(
            "ingress_with_template",
            ingress(&site("10.1.2.3:8089"), &redirect, &hosts.into())
        );
        assert_ne!(redirect.name(), key("nginx", &[("a", "b")]).name());
    }
}
