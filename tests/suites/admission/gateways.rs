//! The same of Gateways.

use serde_json::{Value, json};

use super::{kept, manifest, plane, refused};

/// Invalid values of `spec.service`, and parts of the message.
const BAD_SERVICES: &[(&str, &str)] = &[
    ("{type: ExternalName}", "Unsupported value"),
    ("{scope: Private}", "Unsupported value: \"Private\""),
    ("{provider: Azure}", "Unsupported value: \"Azure\""),
    ("{name: Shop}", "name must be one that a Service can have"),
    ("{name: 1shop}", "a letter first"),
    (
        "{annotations: {gatehouse.dev/x: own}}",
        "annotations under gatehouse.dev/ are Gatehouse's own",
    ),
    (
        "{labels: {gatehouse.dev/x: own}}",
        "labels under gatehouse.dev/ are Gatehouse's own",
    ),
    (
        "{type: NodePort, loadBalancerClass: a/b}",
        "loadBalancerClass is for type LoadBalancer",
    ),
    (
        "{type: ClusterIP, loadBalancerSourceRanges: [10.0.0.0/8]}",
        "loadBalancerSourceRanges are for type LoadBalancer",
    ),
    (
        "{loadBalancerSourceRanges: [10.0.0.1]}",
        "must be CIDRs such as 192.0.2.0/24",
    ),
    (
        "{type: NodePort, addresses: [10.0.0.1]}",
        "addresses are for type LoadBalancer",
    ),
    ("{type: NodePort, subnet: s}", "subnet is for type LoadBalancer"),
    (
        "{type: ClusterIP, externalTrafficPolicy: Local}",
        "externalTrafficPolicy is for type LoadBalancer and NodePort",
    ),
    ("{externalTrafficPolicy: Nearest}", "Unsupported value"),
    ("{globalAccess: true}", "globalAccess is for scope Internal"),
    ("{ipFamilies: [IPv4, IPv4]}", "each IP family once"),
    ("{ipFamilies: [IPv5]}", "Unsupported value"),
    ("{nodePorts: {other: 30080}}", "each key must be the name of a listener"),
    ("{nodePorts: {http: 0}}", "a node port is a number"),
    ("{type: ClusterIP, nodePorts: {http: 30080}}", "a ClusterIP has none"),
    ("{onMismatch: Ignore}", "Unsupported value"),
];

/// Invalid listeners.
const BAD_LISTENERS: &[(&str, &str)] = &[
    ("{name: http, port: 80}", "protocol: Required value"),
    ("{name: http, protocol: TCP}", "port: Required value"),
    (
        "{name: http, port: 0, protocol: TCP}",
        "should be greater than or equal to 1",
    ),
    (
        "{name: http, port: 65536, protocol: TCP}",
        "should be less than or equal to 65535",
    ),
    ("{name: HTTP, port: 80, protocol: TCP}", "spec.listeners[0].name"),
    ("{name: http, port: 80, protocol: SCTP}", "Unsupported value"),
    (
        "{name: http, port: 80, protocol: TCP, targetPort: 0}",
        "targetPort is a number from 1 to 65535",
    ),
    (
        "{name: http, port: 80, protocol: TCP, targetPort: a-name-that-is-too-long}",
        "targetPort",
    ),
    (
        "{name: http, port: 80, protocol: TCP, hostname: 'https://a.test'}",
        "hostname is a DNS name in lower case",
    ),
    (
        "{name: http, port: 80, protocol: TCP, hostname: 10.0.0.1}",
        "hostname is a DNS name in lower case",
    ),
    (
        "{name: http, port: 80, protocol: TCP, hostname: 'a.*.test'}",
        "hostname is a DNS name in lower case",
    ),
    (
        "{name: http, port: 80, protocol: HTTP, tls: {certificateRefs: [{name: s}]}}",
        "tls is for protocol HTTPS, TLS or TCP",
    ),
    (
        "{name: s, port: 443, protocol: HTTPS, tls: {}}",
        "write certificate, for one that Gatehouse makes, or certificateRefs",
    ),
    (
        "{name: s, port: 443, protocol: HTTPS, hostname: a.test, tls: {certificate: {issuerRef: {name: i}}, certificateRefs: [{name: s}]}}",
        "write certificate, for one that Gatehouse makes, or certificateRefs",
    ),
    (
        "{name: s, port: 443, protocol: HTTPS, tls: {certificate: {issuerRef: {name: i}}}}",
        "tls.certificate needs a hostname",
    ),
    (
        "{name: s, port: 443, protocol: HTTPS, hostname: a.test, tls: {certificate: {issuerRef: {name: i}, duration: 90d}}}",
        "write hours, minutes and seconds, such as 2160h",
    ),
];

/// Invalid specs.
const BAD_GATEWAYS: &[(&str, &str)] = &[
    (
        "{target: {selector: {app: a}}, listeners: []}",
        "should have at least 1 items",
    ),
    ("{target: {selector: {app: a}}}", "spec.listeners: Required value"),
    (
        "{listeners: [{name: http, port: 80, protocol: TCP}]}",
        "spec.target: Required value",
    ),
    (
        "{target: {selector: {}}, listeners: [{name: http, port: 80, protocol: TCP}]}",
        "should have at least 1 properties",
    ),
    (
        "{target: {selector: {app: 'not a value'}}, listeners: [{name: http, port: 80, protocol: TCP}]}",
        "spec.target.selector.app in body should match",
    ),
    (
        "{target: {selector: {app: a}}, listeners: [{name: http, port: 80, protocol: TCP}, {name: http, port: 81, protocol: TCP}]}",
        "duplicate entries for key",
    ),
    (
        "{target: {selector: {app: a}}, listeners: [{name: http, port: 80, protocol: TCP}], networkPolicy: {}}",
        "spec.networkPolicy.enabled: Required value",
    ),
];

#[tokio::test]
async fn a_gateway_that_can_never_work_is_refused_with_what_to_write_instead() {
    let (_world, cluster, namespace) = plane().await;
    let http = "{name: http, port: 80, protocol: TCP}";
    let services = BAD_SERVICES.iter().map(|(service, words)| {
        let spec = format!("{{service: {service}, target: {{selector: {{app: a}}}}, listeners: [{http}]}}");
        (manifest("Gateway", &spec), *words)
    });
    refused(&cluster, &namespace, services).await;
    let listeners = BAD_LISTENERS.iter().map(|(listener, words)| {
        let spec = format!("{{target: {{selector: {{app: a}}}}, listeners: [{listener}]}}");
        (manifest("Gateway", &spec), *words)
    });
    refused(&cluster, &namespace, listeners).await;
    let whole = BAD_GATEWAYS
        .iter()
        .map(|(spec, words)| (manifest("Gateway", spec), *words));
    refused(&cluster, &namespace, whole).await;
}

fn good() -> Vec<(&'static str, Value)> {
    let gateway = |service: Value, listeners: Value| {
        let spec = json!({"service": service, "target": {"selector": {"app": "shop", "example.com/tier": ""}}, "listeners": listeners});
        ("Gateway", spec)
    };
    let http = || json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    let providers = [
        "GKE",
        "AWSLoadBalancerController",
        "EKSAutoMode",
        "AWS",
        "AKS",
        "OCI",
        "OCINetwork",
        "DigitalOcean",
        "Alibaba",
        "Tencent",
        "Baidu",
        "IBM",
        "OpenStack",
        "OVHcloud",
        "STACKIT",
        "Yandex",
        "Hetzner",
        "Scaleway",
        "Linode",
        "Vultr",
        "Exoscale",
        "MetalLB",
        "Cilium",
        "KubeVip",
        "Other",
    ];
    let mut all: Vec<_> = providers
        .iter()
        .map(|provider| gateway(json!({"provider": provider}), http()))
        .collect();
    all.extend([
        gateway(
            json!({"type": "LoadBalancer", "scope": "Internal", "provider": "GKE", "name": "lb", "annotations": {"a.b/c": "d"},
                "labels": {"team": "shop"}, "loadBalancerClass": "networking.gke.io/l4-regional-internal",
                "loadBalancerSourceRanges": ["10.0.0.0/8", "2001:db8::/32"], "addresses": ["10.0.0.9"], "nodePorts": {"http": 30080},
                "externalTrafficPolicy": "Local", "ipFamilies": ["IPv6", "IPv4"], "subnet": "inner", "globalAccess": true,
                "onMismatch": "Withdraw"}),
            http(),
        ),
        gateway(json!({"type": "NodePort", "externalTrafficPolicy": "Cluster"}), http()),
        gateway(json!({"type": "ClusterIP", "scope": "Internal", "onMismatch": "Alert"}), http()),
        gateway(
            json!({}),
            json!([
                {"name": "web", "port": 443, "protocol": "HTTPS", "targetPort": "https", "hostname": "*.shop.test",
                    "tls": {"certificate": {"issuerRef": {"name": "ca", "kind": "ClusterIssuer"}, "duration": "24h0m0s"}}},
                {"name": "pass", "port": 8443, "protocol": "TLS", "targetPort": 8443, "hostname": "shop.test"},
                {"name": "own", "port": 5432, "protocol": "TCP", "tls": {"certificateRefs": [{"name": "own-tls"}]}},
                {"name": "dns", "port": 53, "protocol": "UDP"}
            ]),
        ),
    ]);
    let mut closed = gateway(json!({}), http());
    closed.1["networkPolicy"] = json!({"enabled": true});
    all.push(closed);
    all
}

#[tokio::test]
async fn every_field_of_a_gateway_is_accepted_and_kept() {
    let (_world, cluster, namespace) = plane().await;
    kept(&cluster, &namespace, good()).await;
}
