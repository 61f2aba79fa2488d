#![allow(clippy::panic)]

use gatehouse_crds::gateway::{IpFamily, Provider, Scope, ServiceSpec, ServiceType};

use super::{Exposure, Protocols, Template, parse, preset::Internal, table::ALL, table::preset, template};

const TCP: Protocols = Protocols { tcp: true, udp: false };
const UDP: Protocols = Protocols { tcp: false, udp: true };
const BOTH: Protocols = Protocols { tcp: true, udp: true };

fn internal() -> ServiceSpec {
    ServiceSpec {
        scope: Some(Scope::Internal),
        ..ServiceSpec::default()
    }
}

fn external() -> ServiceSpec {
    ServiceSpec::default()
}

fn annotated(mut spec: ServiceSpec, key: &str, value: &str) -> ServiceSpec {
    spec.annotations.insert(key.into(), value.into());
    spec
}

fn labelled(mut spec: ServiceSpec, key: &str, value: &str) -> ServiceSpec {
    spec.labels.insert(key.into(), value.into());
    spec
}

fn classed(mut spec: ServiceSpec, class: &str) -> ServiceSpec {
    spec.load_balancer_class = Some(class.into());
    spec
}

fn in_subnet(mut spec: ServiceSpec, subnet: &str) -> ServiceSpec {
    spec.subnet = Some(subnet.into());
    spec
}

fn addressed(mut spec: ServiceSpec, addresses: &[&str]) -> ServiceSpec {
    spec.addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    spec
}

fn refused(provider: Provider, spec: &ServiceSpec, protocols: Protocols) -> String {
    match template(provider, spec, protocols) {
        Ok(template) => format!("made: {template:?}"),
        Err(refusal) => format!("{}: {}", refusal.reason, refusal.message),
    }
}

fn made(provider: Provider, spec: &ServiceSpec) -> Template {
    template(provider, spec, TCP).unwrap_or_else(|refusal| panic!("{provider:?}: {}", refusal.message))
}

fn said(provider: Provider, template: &Template) -> Exposure {
    parse(
        provider,
        &template.annotations,
        &template.labels,
        template.load_balancer_class.as_deref(),
    )
}

fn each(cases: &[(&str, String)]) -> String {
    let lines: Vec<String> = cases.iter().map(|(what, said)| format!("{what}\n  {said}")).collect();
    lines.join("\n")
}

#[test]
fn what_would_not_be_internal_is_refused_by_its_name() {
    let gke = "networking.gke.io/load-balancer-type";
    let aws = "service.beta.kubernetes.io/aws-load-balancer-";
    let cases = [
        (
            "Internal, and the provider is unknown",
            refused(Provider::Other, &internal(), TCP),
        ),
        ("no switch", refused(Provider::Vultr, &internal(), TCP)),
        (
            "the switch the other way",
            refused(Provider::Gke, &annotated(internal(), gke, "External"), TCP),
        ),
        (
            "an old name the other way",
            refused(
                Provider::Alibaba,
                &annotated(
                    internal(),
                    "service.beta.kubernetes.io/alicloud-loadbalancer-address-type",
                    "internet",
                ),
                TCP,
            ),
        ),
        (
            "a public class",
            refused(
                Provider::Gke,
                &classed(internal(), "networking.gke.io/l4-regional-external"),
                TCP,
            ),
        ),
        (
            "another's class",
            refused(Provider::Gke, &classed(internal(), "io.cilium/l2-announcer"), TCP),
        ),
        (
            "an unknown class",
            refused(
                Provider::AwsLoadBalancerController,
                &classed(internal(), "example.com/mine"),
                TCP,
            ),
        ),
        (
            "one where the provider has none",
            refused(Provider::Aks, &classed(internal(), "example.com/mine"), TCP),
        ),
        (
            "a load balancer made elsewhere",
            refused(
                Provider::Tencent,
                &annotated(
                    in_subnet(internal(), "subnet-1"),
                    "service.kubernetes.io/tke-existed-lbid",
                    "lb-1",
                ),
                TCP,
            ),
        ),
        (
            "the other product, which reads another switch",
            refused(
                Provider::Oci,
                &annotated(internal(), "oci.oraclecloud.com/load-balancer-type", "nlb"),
                TCP,
            ),
        ),
        (
            "an older product, which reads none",
            refused(
                Provider::OvhCloud,
                &annotated(internal(), "loadbalancer.ovhcloud.com/class", "iolb"),
                TCP,
            ),
        ),
        (
            "an elastic address",
            refused(
                Provider::AwsLoadBalancerController,
                &annotated(internal(), &format!("{aws}eip-allocations"), "eipalloc-1"),
                TCP,
            ),
        ),
        (
            "a public address",
            refused(Provider::Gke, &addressed(internal(), &["203.0.113.7"]), TCP),
        ),
        (
            "a public address of a pool",
            refused(
                Provider::MetalLb,
                &annotated(internal(), "metallb.io/loadBalancerIPs", "10.0.0.7,203.0.113.7"),
                TCP,
            ),
        ),
    ];
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(each(&cases)); });
}

#[test]
fn what_is_missing_or_cannot_be_is_refused_with_what_to_write_instead() {
    let aws = "service.beta.kubernetes.io/aws-load-balancer-";
    let ranges = ServiceSpec {
        load_balancer_source_ranges: vec!["192.0.2.0/24".into()],
        ..external()
    };
    let far = ServiceSpec {
        global_access: Some(true),
        ..internal()
    };
    let six = ServiceSpec {
        ip_families: vec![IpFamily::V6],
        ..internal()
    };
    let cases = [
        ("no subnet", refused(Provider::Tencent, &internal(), TCP)),
        (
            "no subnet, beside a switch",
            refused(Provider::Yandex, &internal(), TCP),
        ),
        ("no pool", refused(Provider::MetalLb, &internal(), TCP)),
        ("no pool, by label", refused(Provider::Cilium, &internal(), TCP)),
        (
            "a pool by name, where labels choose",
            refused(Provider::Cilium, &in_subnet(internal(), "private"), TCP),
        ),
        (
            "another pool by label",
            refused(
                Provider::Cilium,
                &labelled(in_subnet(internal(), "pool=private"), "pool", "public"),
                TCP,
            ),
        ),
        ("no pool, by namespace", refused(Provider::KubeVip, &internal(), TCP)),
        (
            "addresses",
            refused(
                Provider::Tencent,
                &addressed(in_subnet(internal(), "subnet-1"), &["10.0.0.7"]),
                TCP,
            ),
        ),
        (
            "an address where its ID is asked for",
            refused(
                Provider::AwsLoadBalancerController,
                &addressed(external(), &["203.0.113.7"]),
                TCP,
            ),
        ),
        (
            "two addresses",
            refused(Provider::Gke, &addressed(internal(), &["10.0.0.7", "10.0.0.8"]), TCP),
        ),
        (
            "addresses of a classic load balancer",
            refused(Provider::Aws, &addressed(external(), &["eipalloc-1"]), TCP),
        ),
        (
            "subnet",
            refused(Provider::Exoscale, &in_subnet(external(), "private"), TCP),
        ),
        (
            "subnet of a public one",
            refused(Provider::Aks, &in_subnet(external(), "private"), TCP),
        ),
        ("globalAccess", refused(Provider::Aks, &far, TCP)),
        ("source ranges", refused(Provider::Hetzner, &ranges, TCP)),
        ("IPv6", refused(Provider::DigitalOcean, &six, TCP)),
        ("UDP", refused(Provider::Oci, &external(), UDP)),
        (
            "UDP of a classic load balancer",
            refused(Provider::Aws, &external(), UDP),
        ),
        (
            "both",
            refused(
                Provider::Aws,
                &annotated(external(), &format!("{aws}type"), "nlb"),
                BOTH,
            ),
        ),
    ];
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(each(&cases)); });
}

#[test]
fn what_the_user_writes_wins_over_the_preset() {
    let key = "service.beta.kubernetes.io/aws-load-balancer-scheme";
    let mut spec = annotated(annotated(external(), key, "internal"), "example.com/team", "shop");
    spec.labels.insert("tier".into(), "front".into());
    let template = made(Provider::AwsLoadBalancerController, &classed(spec, "example.com/mine"));
    assert_eq!(template.annotations.get(key).map(String::as_str), Some("internal"));
    assert_eq!(
        template.annotations.get("example.com/team").map(String::as_str),
        Some("shop")
    );
    assert_eq!(template.labels.get("tier").map(String::as_str), Some("front"));
    assert_eq!(template.load_balancer_class.as_deref(), Some("example.com/mine"));
}

#[test]
fn a_subnet_in_an_annotation_is_as_good_as_in_its_field() {
    let key = "service.kubernetes.io/qcloud-loadbalancer-internal-subnetid";
    let template = made(Provider::Tencent, &annotated(internal(), key, "subnet-1"));
    assert_eq!(said(Provider::Tencent, &template), Exposure::Internal);
    let empty = refused(Provider::Tencent, &annotated(internal(), key, ""), TCP);
    assert!(empty.starts_with("MissingCompanion"), "{empty}");
}

#[test]
fn a_class_of_its_own_that_says_internal_is_taken() {
    let class = "networking.gke.io/l4-regional-internal";
    let template = made(Provider::Gke, &classed(internal(), class));
    assert_eq!(template.load_balancer_class.as_deref(), Some(class));
    assert_eq!(said(Provider::Gke, &template), Exposure::Internal);
    let mine = made(
        Provider::MetalLb,
        &classed(in_subnet(internal(), "private"), "example.com/metallb"),
    );
    assert_eq!(mine.load_balancer_class.as_deref(), Some("example.com/metallb"));
}

#[test]
fn what_is_missing_by_default_can_be_asked_for() {
    let network = annotated(external(), "service.beta.kubernetes.io/aws-load-balancer-type", "nlb");
    assert!(template(Provider::Aws, &network, UDP).is_ok());
    let ranges = ServiceSpec {
        load_balancer_source_ranges: vec!["192.0.2.0/24".into()],
        ..external()
    };
    assert!(refused(Provider::Alibaba, &ranges, TCP).starts_with("UnsupportedField"));
    assert!(template(Provider::Alibaba, &classed(ranges, "alibabacloud.com/nlb"), TCP).is_ok());
}

#[test]
fn other_types_have_only_what_the_user_adds() {
    for type_ in [ServiceType::NodePort, ServiceType::ClusterIp] {
        let mut spec = annotated(internal(), "example.com/team", "shop");
        spec.type_ = Some(type_);
        let own = Template {
            annotations: spec.annotations.clone(),
            ..Template::default()
        };
        assert_eq!(template(Provider::Other, &spec, BOTH), Ok(own));
    }
}

#[test]
fn a_live_service_is_judged_by_every_word_that_the_provider_reads() {
    let parse = |provider, annotations: &[(&str, &str)], class| {
        let annotations = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        parse(provider, &annotations, &std::collections::BTreeMap::new(), class)
    };
    let (scheme, in_tree, kind) = (
        "service.beta.kubernetes.io/aws-load-balancer-scheme",
        "service.beta.kubernetes.io/aws-load-balancer-internal",
        "service.beta.kubernetes.io/aws-load-balancer-type",
    );
    // The scheme is worth nothing where the cloud controller manager serves the Service.
    assert_eq!(parse(Provider::Aws, &[(scheme, "internal")], None), Exposure::Unsaid);
    assert_eq!(
        parse(Provider::Aws, &[(in_tree, "0.0.0.0/0")], None),
        Exposure::Internal
    );
    assert_eq!(parse(Provider::Aws, &[(in_tree, "false")], None), Exposure::External);
    let controller = Provider::AwsLoadBalancerController;
    assert_eq!(parse(controller, &[(scheme, "internal")], None), Exposure::Unsaid);
    assert_eq!(
        parse(controller, &[(scheme, "internal"), (kind, "external")], None),
        Exposure::Internal
    );
    assert_eq!(
        parse(controller, &[(scheme, "internal")], Some("service.k8s.aws/nlb")),
        Exposure::Internal
    );
    assert_eq!(
        parse(controller, &[(scheme, "internal")], Some("example.com/mine")),
        Exposure::Unsaid
    );
    // The class wins over the annotation, and one word for External is enough.
    let gke = "networking.gke.io/load-balancer-type";
    assert_eq!(
        parse(
            Provider::Gke,
            &[(gke, "Internal")],
            Some("networking.gke.io/l4-regional-external")
        ),
        Exposure::External
    );
    assert_eq!(
        parse(
            Provider::Gke,
            &[(gke, "Internal"), ("cloud.google.com/load-balancer-type", "External")],
            None
        ),
        Exposure::External
    );
    // The exact word.
    let aks = "service.beta.kubernetes.io/azure-load-balancer-internal";
    assert_eq!(parse(Provider::Aks, &[(aks, "True")], None), Exposure::External);
    // What the controller itself writes changes nothing.
    assert_eq!(
        parse(
            Provider::DigitalOcean,
            &[
                ("service.beta.kubernetes.io/do-loadbalancer-network", "INTERNAL"),
                ("kubernetes.digitalocean.com/load-balancer-id", "1"),
            ],
            None
        ),
        Exposure::Internal
    );
    // Pools.
    let ips = "metallb.io/loadBalancerIPs";
    assert_eq!(
        parse(Provider::MetalLb, &[(ips, "10.0.0.7, fd00::7")], None),
        Exposure::Internal
    );
    assert_eq!(
        parse(Provider::MetalLb, &[(ips, "10.0.0.7,203.0.113.7")], None),
        Exposure::External
    );
    assert_eq!(
        parse(Provider::MetalLb, &[("metallb.io/address-pool", "a")], None),
        Exposure::Unsaid
    );
    let dhcp = "kube-vip.io/loadbalancerIPs";
    assert_eq!(parse(Provider::KubeVip, &[(dhcp, "0.0.0.0")], None), Exposure::Unsaid);
    assert_eq!(parse(Provider::Other, &[(gke, "Internal")], None), Exposure::Unsaid);
}

#[test]
fn an_external_gateway_never_says_internal_by_itself() {
    for provider in ALL {
        let template = made(provider, &external());
        assert_ne!(said(provider, &template), Exposure::Internal, "{provider:?}");
        if matches!(preset(provider).internal, Internal::Never(_)) {
            assert_eq!(said(provider, &template), Exposure::Unsaid, "{provider:?}");
        }
    }
}

fn ranged(mut spec: ServiceSpec) -> ServiceSpec {
    spec.load_balancer_source_ranges = vec!["192.0.2.0/24".into()];
    spec
}

fn of_families(mut spec: ServiceSpec, families: &[IpFamily]) -> ServiceSpec {
    spec.ip_families = families.to_vec();
    spec
}

/// Providers that read source ranges, by document or code; for the others, and for ignored ones, they are refused.
#[test]
fn source_ranges_are_refused_wherever_they_would_admit_everybody() {
    let read = [
        Provider::Gke,
        Provider::AwsLoadBalancerController,
        Provider::EksAutoMode,
        Provider::Aws,
        Provider::Aks,
        Provider::Oci,
        Provider::DigitalOcean,
        Provider::OpenStack,
        Provider::OvhCloud,
        Provider::Stackit,
        Provider::Scaleway,
        Provider::MetalLb,
        Provider::Cilium,
        Provider::KubeVip,
    ];
    for provider in ALL {
        let made = template(provider, &ranged(external()), TCP);
        assert_eq!(made.is_ok(), read.contains(&provider), "{provider:?}: {made:?}");
        if let Err(refusal) = made {
            let row = preset(provider);
            assert_eq!(refusal.reason, "UnsupportedField");
            assert!(refusal.message.starts_with(row.name), "{}", refusal.message);
            assert!(
                refusal.message.contains("loadBalancerSourceRanges"),
                "{}",
                refusal.message
            );
        }
    }
    // Where a mode decides it, the mode is asked.
    let rules = "oci.oraclecloud.com/security-rule-management-mode";
    let lists = "oci-network-load-balancer.oraclecloud.com/security-list-management-mode";
    let network =
        |key: &str, value: &str| template(Provider::OciNetwork, &annotated(ranged(external()), key, value), TCP);
    assert!(network(rules, "NSG").is_ok());
    assert!(network(lists, "All").is_ok());
    assert!(network(lists, "None").is_err());
    let balancer = annotated(ranged(external()), rules, "None");
    assert!(template(Provider::Oci, &balancer, TCP).is_err());
    let class = classed(ranged(external()), "alibabacloud.com/nlb");
    assert!(template(Provider::Alibaba, &class, TCP).is_ok());
}

#[test]
fn what_a_vpc_of_ibm_ignores_is_refused_with_what_to_write() {
    let features = "service.kubernetes.io/ibm-load-balancer-cloud-provider-enable-features";
    let vlan = "service.kubernetes.io/ibm-load-balancer-cloud-provider-vlan";
    let nlb = |spec: ServiceSpec| annotated(spec, features, "nlb");
    assert!(refused(Provider::Ibm, &addressed(external(), &["203.0.113.7"]), TCP).contains(vlan));
    let classic = annotated(addressed(external(), &["203.0.113.7"]), vlan, "123");
    assert_eq!(
        made(Provider::Ibm, &classic).load_balancer_ip.as_deref(),
        Some("203.0.113.7")
    );
    assert!(refused(Provider::Ibm, &external(), UDP).contains(features));
    assert!(template(Provider::Ibm, &nlb(external()), UDP).is_ok());
    // A private network load balancer needs a subnet of its own.
    for subnet in [None, Some("one,two")] {
        let spec = match subnet {
            None => internal(),
            Some(subnet) => in_subnet(internal(), subnet),
        };
        let words = refused(Provider::Ibm, &nlb(spec), TCP);
        assert!(
            words.starts_with("MissingCompanion") && words.contains("spec.service.subnet"),
            "{words}"
        );
    }
    assert!(template(Provider::Ibm, &nlb(in_subnet(internal(), "one")), TCP).is_ok());
}

#[test]
fn ip_families_that_would_be_ignored_are_refused() {
    let both = [IpFamily::V4, IpFamily::V6];
    let ignoring = [
        Provider::Aws,
        Provider::Ibm,
        Provider::Stackit,
        Provider::Scaleway,
        Provider::DigitalOcean,
        Provider::Alibaba,
        Provider::OpenStack,
        Provider::OvhCloud,
        Provider::Linode,
        Provider::Exoscale,
    ];
    for provider in ignoring {
        let words = refused(provider, &of_families(external(), &both), TCP);
        assert!(
            words.starts_with("UnsupportedField") && words.contains("ipFamilies"),
            "{provider:?}: {words}"
        );
    }
    assert!(template(Provider::OpenStack, &of_families(external(), &[IpFamily::V6]), TCP).is_ok());
    // Not documented for internal ones.
    for provider in [Provider::Yandex, Provider::Tencent] {
        let asked = in_subnet(internal(), "subnet-abcd1234");
        assert!(template(provider, &asked, TCP).is_ok());
        for families in [&both[..], &[IpFamily::V6]] {
            let words = refused(provider, &of_families(asked.clone(), families), TCP);
            assert!(words.contains("leave IPv6 out of ipFamilies"), "{provider:?}: {words}");
        }
        assert!(template(provider, &of_families(external(), &both), TCP).is_ok());
    }
    // userguide/auto-configure-nlb: "Use spec.loadBalancerSourceRanges on Service".
    let ranged = ServiceSpec {
        load_balancer_source_ranges: vec!["192.0.2.0/24".into()],
        ..internal()
    };
    assert!(template(Provider::EksAutoMode, &ranged, TCP).is_ok());
    let stack = "service.beta.kubernetes.io/do-loadbalancer-network-stack";
    let dual = annotated(of_families(external(), &both), stack, "DUALSTACK");
    assert!(template(Provider::DigitalOcean, &dual, TCP).is_ok());
    assert!(template(Provider::Vultr, &of_families(external(), &both), TCP).is_ok());
    let ingress = "service.beta.kubernetes.io/linode-loadbalancer-enable-ipv6-ingress";
    let asked = |spec| annotated(of_families(spec, &both), ingress, "true");
    assert!(template(Provider::Linode, &asked(external()), TCP).is_ok());
    let words = refused(Provider::Linode, &asked(in_subnet(internal(), "169341")), TCP);
    assert!(words.contains("internal load balancers"), "{words}");
    let range = "service.beta.kubernetes.io/linode-loadbalancer-frontend-ipv6-range";
    let ranged = annotated(asked(in_subnet(internal(), "169341")), range, "/64");
    assert!(template(Provider::Linode, &ranged, TCP).is_ok());
}

#[test]
fn a_class_that_the_provider_of_an_external_gateway_ignores_is_refused() {
    let words = refused(Provider::Gke, &classed(external(), "service.k8s.aws/nlb"), TCP);
    assert!(words.contains("provider: AWSLoadBalancerController"), "{words}");
    let words = refused(
        Provider::Gke,
        &classed(external(), "networking.gke.io/l4-regional-internal"),
        TCP,
    );
    assert!(words.contains("scope: Internal"), "{words}");
    // An unknown one may be served by a controller that we don't know.
    assert!(template(Provider::Gke, &classed(external(), "example.com/mine"), TCP).is_ok());
    assert!(template(Provider::Other, &classed(external(), "service.k8s.aws/nlb"), TCP).is_ok());
}

#[test]
fn ipv6_that_an_internet_gateway_would_reach_is_not_internal_in_a_vpc() {
    let key = "service.beta.kubernetes.io/aws-load-balancer-attributes";
    for provider in [Provider::AwsLoadBalancerController, Provider::EksAutoMode] {
        let open = annotated(internal(), key, "a.b=c, ipv6.deny_all_igw_traffic=false");
        let words = refused(provider, &open, TCP);
        assert!(
            words.starts_with("ConflictingAnnotation") && words.contains(key),
            "{words}"
        );
        let closed = annotated(internal(), key, "a.b=c,ipv6.deny_all_igw_traffic=true");
        assert_eq!(said(provider, &made(provider, &closed)), Exposure::Internal);
    }
}
