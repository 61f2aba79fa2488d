//! One file a provider: External and Internal side by side, bare and with companions, or why not.

use gatehouse_crds::gateway::{IpFamily, Provider, Scope, ServiceSpec};
use serde::Serialize;

use super::{
    Protocols, Template,
    preset::{Internal, Subnet, Takes},
    table::{ALL, preset},
    template,
};

const TCP: Protocols = Protocols { tcp: true, udp: false };

/// As in a manifest of a Service.
#[derive(Serialize)]
struct Manifest {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Serialize)]
struct Metadata {
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_balancer_class: Option<String>,
    #[serde(rename = "loadBalancerIP", skip_serializing_if = "Option::is_none")]
    load_balancer_ip: Option<String>,
}

fn manifest(template: Template) -> Manifest {
    Manifest {
        metadata: Metadata {
            annotations: template.annotations,
            labels: template.labels,
        },
        spec: Spec {
            r#type: "LoadBalancer",
            load_balancer_class: template.load_balancer_class,
            load_balancer_ip: template.load_balancer_ip,
        },
    }
}

/// A Gateway with as much as the provider takes with this scope.
fn everything(provider: Provider, scope: Scope) -> ServiceSpec {
    let row = preset(provider);
    let takes: &Takes = match scope {
        Scope::Internal => &row.addresses.internal,
        Scope::External => &row.addresses.external,
    };
    let (v4, v6) = match scope {
        Scope::Internal => ("10.0.0.7", "fd00::7"),
        Scope::External => ("203.0.113.7", "2001:db8::7"),
    };
    let addresses = [
        takes.v4.map(|_| v4),
        takes.v6.map(|_| v6),
        takes.named.filter(|_| takes.v4.is_none()).map(|_| "named-address"),
    ];
    let mut spec = ServiceSpec {
        scope: Some(scope),
        addresses: addresses.into_iter().flatten().map(Into::into).collect(),
        global_access: (scope == Scope::Internal && row.global_access.is_some()).then_some(true),
        ip_families: row.ipv6.map(|_| vec![IpFamily::V4, IpFamily::V6]).unwrap_or_default(),
        ..ServiceSpec::default()
    };
    let subnet = match row.subnet {
        Subnet::No(_) => None,
        Subnet::Annotation { with, .. } => {
            (scope == Scope::Internal || with == super::preset::With::Both).then_some("private")
        }
        Subnet::Label => Some("pool=private"),
    };
    spec.subnet = subnet.map(Into::into);
    if let Some((key, value)) = takes.requires {
        let value = if value.is_empty() { "given" } else { value };
        spec.annotations.insert(key.into(), value.into());
    }
    spec
}

fn written(provider: Provider, spec: &ServiceSpec) -> String {
    match template(provider, spec, TCP) {
        Ok(template) => serde_saphyr::to_string(&manifest(template)).unwrap_or_default(),
        Err(refusal) => format!("refused: {}\nmessage: {}\n", refusal.reason, refusal.message),
    }
}

#[test]
fn the_service_of_each_provider() {
    for provider in ALL.into_iter().chain([Provider::Other]) {
        let mut text = String::new();
        for (name, scope) in [("External", Scope::External), ("Internal", Scope::Internal)] {
            let bare = ServiceSpec {
                scope: Some(scope),
                ..ServiceSpec::default()
            };
            let (bare, full) = (
                written(provider, &bare),
                written(provider, &everything(provider, scope)),
            );
            text.extend(["# ", name, "\n", &bare]);
            if full != bare {
                text.extend(["---\n# ", name, ", with all that it takes\n", &full]);
            }
            if scope == Scope::External {
                text.push_str("---\n");
            }
        }
        insta::with_settings!({omit_expression => true}, {
            insta::assert_snapshot!(format!("service_of_{}", preset(provider).key), text);
        });
    }
}

#[test]
fn the_shop_of_the_manual_has_one_annotation_and_nothing_else() {
    let spec = ServiceSpec {
        scope: Some(Scope::Internal),
        provider: Some(Provider::Gke),
        name: Some("shop-api-internal-load-balancer".into()),
        ..ServiceSpec::default()
    };
    let wanted = Template {
        annotations: [("networking.gke.io/load-balancer-type".to_owned(), "Internal".to_owned())].into(),
        ..Template::default()
    };
    assert_eq!(template(Provider::Gke, &spec, TCP), Ok(wanted));
}

#[test]
fn every_provider_with_a_switch_makes_an_internal_one() {
    for provider in ALL {
        let can = !matches!(preset(provider).internal, Internal::Never(_));
        let made = template(provider, &everything(provider, Scope::Internal), TCP);
        assert_eq!(made.is_ok(), can, "{provider:?}: {made:?}");
    }
}
