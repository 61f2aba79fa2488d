//! The objects that lead challenges to the responder: a function of values.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use gatehouse_crds::solver::IngressTemplateMetadata;
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

/// Name of the Service and the `EndpointSlice`, and prefix of every Ingress's name.
pub(super) const NAME: &str = "gatehouse-http01";
/// Bytes of a hash in a name.
const HASH_BYTES: usize = 16;
const PORT_NAME: &str = "http";
/// Longest token.
const MOST_OF_TOKEN: usize = 256;
/// external-dns passes over what names another controller than its own.
const EXTERNAL_DNS: (&str, &str) = ("external-dns.alpha.kubernetes.io/controller", "gatehouse.dev");
const PATH: &str = "/.well-known/acme-challenge/";

/// Address of the responder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponderService {
    /// The operator's own namespace.
    pub namespace: String,
    /// Address of this Pod and port of the responder: only the leader answers.
    pub responder: SocketAddr,
}

/// Names an Ingress: a class and a host. A refusal of one host's Ingress harms no other host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    class: String,
    /// None for IP addresses, which cannot be the host of a rule: they share a rule without one.
    host: Option<String>,
}

impl RouteKey {
    pub fn new(class: &str, identifier: &Identifier) -> Self {
        Self {
            class: class.to_owned(),
            host: match identifier {
                Identifier::Dns(name) => Some(name.clone()),
                Identifier::Ip(_) => None,
            },
        }
    }

    /// Name of the Ingress: a hash, so that no class or host can be written that gives another's.
    pub fn name(&self) -> String {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(self.class.as_bytes());
        context.update(&[0]);
        context.update(self.host.as_deref().unwrap_or("*").as_bytes());
        let hash = context.finish();
        let hash = hash.as_ref().iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}"));
        format!("{NAME}-{}", hash.collect::<String>())
    }
}

/// Returns true when the name is of an Ingress for one class and host. Earlier versions had one for many hosts.
pub(super) fn is_of_one_host(name: &str) -> bool {
    name.strip_prefix(NAME)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|hash| hash.len() == 2 * HASH_BYTES && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
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

fn metadata(responder_service: &ResponderService, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(responder_service.namespace.clone()),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}

/// A Service without a selector: its endpoints are ours.
pub(super) fn service(responder_service: &ResponderService) -> Service {
    Service {
        metadata: metadata(responder_service, NAME.into()),
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.into()),
                port: 80,
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::Int(responder_service.responder.port().into())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The leader's Pod. The slice of the other address family is another object, since the type of one is immutable.
pub(super) fn endpoint_slice(responder_service: &ResponderService) -> EndpointSlice {
    let (family, suffix) = match responder_service.responder.ip() {
        IpAddr::V4(_) => ("IPv4", "ipv4"),
        IpAddr::V6(_) => ("IPv6", "ipv6"),
    };
    let mut metadata = metadata(responder_service, format!("{NAME}-{suffix}"));
    let labels = metadata.labels.get_or_insert_default();
    labels.insert("kubernetes.io/service-name".into(), NAME.into());
    labels.insert("endpointslice.kubernetes.io/managed-by".into(), "gatehouse.dev".into());
    EndpointSlice {
        metadata,
        address_type: family.into(),
        // On loopback, in development, no ingress controller can reach it, and the API server refuses the address.
        endpoints: Some(if responder_service.responder.ip().is_loopback() {
            Vec::new()
        } else {
            vec![endpoint(responder_service)]
        }),
        ports: Some(vec![EndpointPort {
            name: Some(PORT_NAME.into()),
            port: Some(responder_service.responder.port().into()),
            protocol: Some("TCP".into()),
            ..EndpointPort::default()
        }]),
    }
}

fn endpoint(responder_service: &ResponderService) -> Endpoint {
    Endpoint {
        addresses: vec![responder_service.responder.ip().to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            ..EndpointConditions::default()
        }),
        ..Endpoint::default()
    }
}

/// Combined content of one Ingress for all challenges in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) template: IngressTemplateMetadata,
    pub(super) tokens: BTreeSet<String>,
}

/// Whether a CA's token can be a path of its own: base64url (RFC 8555, section 8.3), and no longer than any CA's.
pub(super) fn is_token(token: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MOST_OF_TOKEN).contains(&token.len()) && token.bytes().all(plain)
}

/// Builds the Ingress: one rule, with the exact path of each token only. Another's Ingress may serve the host, with
/// challenges of its own beside ours.
pub(super) fn ingress(responder_service: &ResponderService, key: &RouteKey, wish: &Wish) -> Ingress {
    let template = &wish.template;
    let mut metadata = metadata(responder_service, key.name());
    let mut all_labels = template.labels.clone();
    all_labels.extend(labels());
    metadata.labels = Some(all_labels);
    // No DNS record is made for a host because a certificate is requested for it.
    let mut annotations = BTreeMap::from([(EXTERNAL_DNS.0.to_owned(), EXTERNAL_DNS.1.to_owned())]);
    annotations.extend(template.annotations.clone());
    metadata.annotations = Some(annotations);
    Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: Some(key.class.clone()),
            rules: Some(vec![rule(key.host.clone(), &wish.tokens)]),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    }
}

fn rule(host: Option<String>, tokens: &BTreeSet<String>) -> IngressRule {
    let path = |token: &String| HTTPIngressPath {
        path: Some(format!("{PATH}{token}")),
        path_type: "Exact".into(),
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
    };
    IngressRule {
        host,
        http: Some(HTTPIngressRuleValue {
            paths: tokens.iter().map(path).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn responder_service(address: &str) -> ResponderService {
        ResponderService {
            namespace: "gatehouse-system".into(),
            responder: address.parse().unwrap(),
        }
    }

    fn dns(name: &str) -> Identifier {
        Identifier::Dns(name.into())
    }

    fn wish(template: IngressTemplateMetadata) -> Wish {
        Wish {
            template,
            tokens: ["t1", "t2"].map(str::to_owned).into(),
        }
    }

    #[test]
    fn a_token_that_is_more_than_one_path_is_none() {
        for token in ["DGyRejmCefe7v4NfDGDKfA", "t-1_2"] {
            assert!(is_token(token), "{token}");
        }
        let long = "x".repeat(257);
        for token in ["", "a/b", "..", "a.b", ".*", "a b", "%2f", "a;b", "a\n", "ä", &long] {
            assert!(!is_token(token), "{token}");
        }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    #[test]
    fn the_service_leads_to_the_leaders_pod() {
        let responder_service = responder_service("10.1.2.3:8089");
        insta::assert_yaml_snapshot!("service", service(&responder_service));
        insta::assert_yaml_snapshot!("endpoint_slice", endpoint_slice(&responder_service));
        let v6 = endpoint_slice(&self::responder_service("[fd00::3]:8089"));
        assert_eq!(
            (v6.metadata.name.as_deref(), v6.address_type.as_str()),
            (Some("gatehouse-http01-ipv6"), "IPv6")
        );
        assert_eq!(v6.endpoints.unwrap()[0].addresses, ["fd00::3"]);
    }

    #[test]
    fn an_ingress_leads_the_tokens_of_one_host_to_the_service_and_nothing_else() {
        let responder_service = responder_service("10.1.2.3:8089");
        let template = wish(IngressTemplateMetadata::default());
        let host = RouteKey::new("nginx", &dns("a.example.com"));
        insta::assert_yaml_snapshot!("ingress", ingress(&responder_service, &host, &template));
        let [one, two] = ["192.0.2.7", "2001:db8::7"]
            .map(|address| RouteKey::new("nginx", &Identifier::Ip(address.parse().unwrap())));
        assert_eq!(one, two, "a second rule without a host would be refused by controllers");
        let rules = ingress(&responder_service, &one, &template)
            .spec
            .unwrap()
            .rules
            .unwrap();
        assert_eq!((rules.len(), &rules[0].host), (1, &None));
    }

    #[test]
    fn a_template_is_added_and_never_takes_our_labels() {
        let template = IngressTemplateMetadata {
            labels: map(&[
                ("team", "edge"),
                ("gatehouse.dev/managed", "no"),
                ("app.kubernetes.io/name", "x"),
            ]),
            annotations: map(&[("nginx.ingress.kubernetes.io/ssl-redirect", "false")]),
        };
        let template = wish(template);
        let key = RouteKey::new("nginx", &dns("a.example.com"));
        insta::assert_yaml_snapshot!(
            "ingress_with_template",
            ingress(&responder_service("10.1.2.3:8089"), &key, &template)
        );
    }

    #[test]
    fn no_class_or_host_can_be_written_that_gives_the_name_of_another() {
        let keys = [
            RouteKey::new("nginx", &dns("a.example.com")),
            RouteKey::new("nginx", &dns("b.example.com")),
            RouteKey::new("nginx-a", &dns("example.com")),
            RouteKey::new("nginx", &dns("-a.example.com")),
            RouteKey::new("nginx", &Identifier::Ip("192.0.2.7".parse().unwrap())),
            RouteKey::new("traefik", &dns("a.example.com")),
        ];
        let names: std::collections::BTreeSet<_> = keys.iter().map(RouteKey::name).collect();
        assert_eq!(names.len(), keys.len());
        assert!(
            names.iter().all(|name| name.len() <= 63 && is_of_one_host(name)),
            "{names:?}"
        );
        for other in [
            "gatehouse-http01",
            "gatehouse-http01-nginx",
            "gatehouse-http01-nginx-0a1b2c3d",
            "x",
        ] {
            assert!(!is_of_one_host(other), "{other}");
        }
    }
}
