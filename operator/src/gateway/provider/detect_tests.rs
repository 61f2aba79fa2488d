use gatehouse_crds::gateway::Provider;

use super::{Detection, Evidence, detect};

fn nodes(ids: &[&str]) -> Evidence {
    Evidence {
        provider_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Evidence::default()
    }
}

fn with_group(mut evidence: Evidence, group: &str) -> Evidence {
    evidence.api_groups.insert(group.into());
    evidence
}

fn with_label(mut evidence: Evidence, key: &str, value: &str) -> Evidence {
    evidence.node_labels.entry(key.into()).or_default().insert(value.into());
    evidence
}

#[test]
fn the_nodes_name_their_cloud() {
    let cases = [
        ("gce://project/europe-west4-a/node-1", Provider::Gke),
        ("azure:///subscriptions/1/resourceGroups/2", Provider::Aks),
        ("oci://ocid1.instance.oc1..abc", Provider::Oci),
        ("ocid1.instance.oc1.eu-frankfurt-1.abc", Provider::Oci),
        ("digitalocean://1234", Provider::DigitalOcean),
        ("cn-hangzhou.i-v98dklsmnxkkgiiil7", Provider::Alibaba),
        ("alicloud://cn-hangzhou.i-v98dklsmnxkkgiiil7", Provider::Alibaba),
        ("qcloud:///800005/ins-2jv4wpmr", Provider::Tencent),
        ("cce://i-1", Provider::Baidu),
        ("ibm://1///2/3", Provider::Ibm),
        ("stackit:///0b1c", Provider::Stackit),
        ("hcloud://1", Provider::Hetzner),
        ("hrobot://1", Provider::Hetzner),
        ("scaleway://instance/fr-par-1/0788", Provider::Scaleway),
        ("linode://1", Provider::Linode),
        ("vultr://1", Provider::Vultr),
        ("exoscale://1", Provider::Exoscale),
    ];
    for (id, provider) in cases {
        assert_eq!(detect(&nodes(&[id, id])), Detection::One(provider), "{id}");
    }
}

#[test]
fn in_amazon_what_is_installed_decides() {
    let aws = || nodes(&["aws:///eu-central-1a/i-1"]);
    let controller = with_group(aws(), "elbv2.k8s.aws");
    let label = "eks.amazonaws.com/compute-type";
    let auto = with_label(aws(), label, "auto");
    assert_eq!(detect(&controller), Detection::One(Provider::AwsLoadBalancerController));
    assert_eq!(detect(&auto), Detection::One(Provider::EksAutoMode));
    // With nothing of EKS about it, another cloud may say so, too: Outscale does.
    assert!(matches!(detect(&aws()), Detection::Likely(Provider::Aws, _)));
    // Its node monitoring agent brings the group without the mode.
    let agent = with_group(with_label(aws(), label, "fargate"), "eks.amazonaws.com");
    assert_eq!(detect(&agent), Detection::One(Provider::Aws));
    assert_eq!(
        detect(&with_group(auto, "elbv2.k8s.aws")),
        Detection::Several(
            vec![Provider::AwsLoadBalancerController, Provider::EksAutoMode],
            "There is evidence of AWSLoadBalancerController and EKSAutoMode: write in spec.service.provider which of them serves this Gateway, AWSLoadBalancerController or EKSAutoMode".into()
        )
    );
}

#[test]
fn the_controller_of_a_cloud_means_nothing_without_its_nodes() {
    let elsewhere = with_group(nodes(&["hcloud://1"]), "elbv2.k8s.aws");
    assert_eq!(detect(&elsewhere), Detection::One(Provider::Hetzner));
    assert!(matches!(
        detect(&with_group(nodes(&[]), "elbv2.k8s.aws")),
        Detection::Unknown(_)
    ));
}

#[test]
fn a_label_tells_ovhcloud_from_other_openstacks() {
    let evidence = with_label(nodes(&["openstack:///0b1c"]), "node.k8s.ovh/type", "standard");
    assert_eq!(detect(&evidence), Detection::One(Provider::OvhCloud));
}

/// For every scheme, one node and whether anything but the scheme speaks for one cloud.
#[test]
fn a_provider_id_of_several_clouds_decides_nothing_for_internal() {
    let cases = [
        (
            "openstack:///0b1c",
            Provider::OpenStack,
            "OpenStack or OVHcloud or STACKIT",
        ),
        (
            "openstack://region/0b1c",
            Provider::OpenStack,
            "OpenStack or OVHcloud or STACKIT",
        ),
        (
            "aws:///eu-west-2a/i-1",
            Provider::Aws,
            "AWS or AWSLoadBalancerController or EKSAutoMode",
        ),
        ("yandex://9cgf2kcqvi50mn5hqmhf", Provider::Yandex, "Yandex"),
    ];
    for (id, likely, candidates) in cases {
        let Detection::Likely(found, why) = detect(&nodes(&[id])) else {
            unreachable!("{id} was decided");
        };
        assert_eq!(found, likely);
        assert!(
            why.ends_with(&format!("write in spec.service.provider whose it is, {candidates}")),
            "{why}"
        );
    }
    let label = |id: &str, key: &str| detect(&with_label(nodes(&[id]), key, "x"));
    assert_eq!(
        label("yandex://1", "yandex.cloud/node-group-id"),
        Detection::One(Provider::Yandex)
    );
    assert_eq!(
        label("aws:///zone/i-1", "eks.amazonaws.com/nodegroup"),
        Detection::One(Provider::Aws)
    );
    // The newer nodes of STACKIT are distinguished, and beside older ones both are named.
    assert_eq!(detect(&nodes(&["stackit:///1"])), Detection::One(Provider::Stackit));
    assert!(matches!(
        detect(&nodes(&["stackit:///1", "openstack:///1"])),
        Detection::Several(..)
    ));
}

#[test]
fn nodes_that_their_cloud_has_not_initialized_decide_nothing_yet() {
    let mut joining = nodes(&[]);
    joining.uninitialized = true;
    assert!(matches!(detect(&joining), Detection::Later(_)));
    // MetalLB beside it may be the only one, or not.
    assert!(matches!(
        detect(&with_group(joining.clone(), "metallb.io")),
        Detection::Later(_)
    ));
    joining.provider_ids.push("gce://project/zone/node".into());
    assert_eq!(detect(&joining), Detection::One(Provider::Gke));
}

#[test]
fn without_a_cloud_what_runs_in_the_cluster_is_taken() {
    assert_eq!(
        detect(&with_group(nodes(&[]), "metallb.io")),
        Detection::One(Provider::MetalLb)
    );
    let mut cilium = with_group(nodes(&[]), "cilium.io");
    assert!(
        matches!(detect(&cilium), Detection::Unknown(_)),
        "a network is no load balancer"
    );
    cilium.cilium_pool = true;
    assert_eq!(detect(&cilium), Detection::One(Provider::Cilium));
    let mut kube_vip = nodes(&[]);
    kube_vip.kube_vip_pool = true;
    assert_eq!(detect(&kube_vip), Detection::One(Provider::KubeVip));
    cilium.api_groups.insert("metallb.io".into());
    assert_eq!(
        detect(&cilium),
        Detection::Several(
            vec![Provider::MetalLb, Provider::Cilium],
            "MetalLB and Cilium are installed: write in spec.service.provider which of them serves this Gateway, MetalLB or Cilium".into()
        )
    );
}

/// Harvester, k3s' ServiceLB, NSX and cloud-provider-kind serve Services of type LoadBalancer, too.
#[test]
fn beside_an_unknown_provider_id_one_in_the_cluster_is_not_taken_for_internal() {
    let ids = [
        "harvester://a-1",
        "vsphere://4237b7a0",
        "k3s://node-1",
        "rke2://node-1",
        "kind://docker/kind/kind-worker",
        "equinixmetal://1",
        "metal3://1",
        "nutanix://1",
        "proxmox://1",
        "kubevirt://vm",
        "baremetal",
    ];
    for id in ids {
        let metallb = with_group(nodes(&[id]), "metallb.io");
        let mut cilium = with_group(nodes(&[id]), "cilium.io");
        cilium.cilium_pool = true;
        let mut kube_vip = nodes(&[id]);
        kube_vip.kube_vip_pool = true;
        for (evidence, provider) in [
            (metallb, Provider::MetalLb),
            (cilium, Provider::Cilium),
            (kube_vip, Provider::KubeVip),
        ] {
            let Detection::Likely(found, why) = detect(&evidence) else {
                unreachable!("{id} decided for {provider:?}");
            };
            assert_eq!(found, provider, "{id}");
            let scheme = id.split_once("://").map_or(id, |(scheme, _)| scheme);
            assert!(why.contains(&format!("({scheme})")), "{why}");
            assert!(why.contains("write in spec.service.provider whose it is"), "{why}");
        }
    }
    // One such node among nodes without a providerID is enough, and what comes from outside is bounded.
    let long = "x".repeat(10_000);
    let Detection::Likely(_, why) = detect(&with_group(nodes(&[&long]), "metallb.io")) else {
        unreachable!("unknown");
    };
    assert!(why.len() < 500, "{}", why.len());
}

#[test]
fn a_cloud_and_one_in_the_cluster_are_for_the_user_to_decide() {
    let evidence = with_group(nodes(&["gce://project/zone/node-1"]), "metallb.io");
    assert_eq!(
        detect(&evidence),
        Detection::Several(
            vec![Provider::Gke, Provider::MetalLb],
            "The nodes are of GKE, and MetalLB is installed: write in spec.service.provider which of them serves this Gateway, GKE or MetalLB".into()
        )
    );
}

#[test]
fn nodes_of_two_clouds_are_for_the_user_to_decide() {
    let evidence = nodes(&["gce://project/zone/node-1", "aws:///zone/i-1", "kind://x"]);
    let Detection::Several(found, why) = detect(&evidence) else {
        unreachable!("two clouds");
    };
    assert_eq!(found, [Provider::Gke, Provider::Aws]);
    assert!(why.starts_with("There is evidence of GKE and AWS: write"), "{why}");
}

#[test]
fn a_cloud_beside_nodes_of_an_unknown_one_decides_nothing_for_internal() {
    let Detection::Likely(found, why) = detect(&nodes(&["hcloud://1", "harvester://2"])) else {
        unreachable!("Harvester's controller serves Services, too");
    };
    assert_eq!(found, Provider::Hetzner);
    assert_eq!(
        why,
        "Some nodes are of Hetzner, and others have a providerID (harvester) of no provider that Gatehouse knows, whose load balancer might serve the Service: write in spec.service.provider whose it is"
    );
}

#[test]
fn what_is_not_known_is_said_with_what_was_seen() {
    let tail = ", and neither MetalLB nor pools of Cilium or kube-vip are installed: write in spec.service.provider whose load balancer it is";
    let cases = [
        (nodes(&[]), "The nodes have no providerID"),
        (
            nodes(&["kind://docker/kind/kind-worker"]),
            "The nodes' providerID, kind://, is of no provider that Gatehouse knows",
        ),
        (
            nodes(&["metal.i"]),
            "The nodes' providerID is of no provider that Gatehouse knows",
        ),
    ];
    for (evidence, seen) in cases {
        assert_eq!(detect(&evidence), Detection::Unknown(format!("{seen}{tail}")));
    }
}
