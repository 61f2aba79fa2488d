#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::needless_pass_by_value)]
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::*;
use crate::gateway::exposure::Verdict;

fn gateway(spec: Value, annotations: Value) -> Gateway {
    serde_json::from_value(json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway",
        "metadata": {"name": "shop", "namespace": "app", "uid": "gw", "generation": 3, "annotations": annotations},
        "spec": spec
    }))
    .unwrap()
}

fn spec(service: Value) -> Value {
    json!({"service": service, "target": {"selector": {"app": "shop"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 3000}]})
}

fn simple(service: Value) -> Gateway {
    gateway(spec(service), json!({}))
}

fn desired(gateway: &Gateway) -> DesiredService {
    let named = gateway.spec.service.as_ref().and_then(|service| service.provider);
    DesiredService::of(gateway, Ok(named.unwrap())).unwrap()
}

/// The Service that `body` makes, with what the API server and a cloud add.
fn live(name: &str, body: &Value, ingress: &[&str], created: i64) -> Arc<ObservedService> {
    let mut object = body.clone();
    object["metadata"]["name"] = name.into();
    object["metadata"]["uid"] = format!("uid-{name}").into();
    object["metadata"]["resourceVersion"] = "1".into();
    object["metadata"]["creationTimestamp"] = json!(jiff::Timestamp::from_second(created).unwrap());
    object["spec"]["clusterIP"] = "10.96.0.9".into();
    for (number, port) in object["spec"]["ports"].as_array_mut().unwrap().iter_mut().enumerate() {
        let allocates = body.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&json!(false));
        if allocates && port.get("nodePort").is_none() {
            port["nodePort"] = (30_000 + number).into();
        }
    }
    let ingress: Vec<Value> = ingress.iter().map(|ip| json!({"ip": ip})).collect();
    object["status"] = json!({"loadBalancer": {"ingress": ingress}});
    let service: Service = serde_json::from_value(object).unwrap();
    let mut live = ObservedService::of(&service);
    live.owned = field_ownership::of(body).into_iter().map(|(path, _)| path).collect();
    Arc::new(live)
}

/// The Service that is public by this verdict, if there is no other.
fn uids(services: &[Arc<ObservedService>], verdict: &Verdict) -> BTreeSet<String> {
    let is_public = matches!(verdict, Verdict::Public(_)) && services.len() == 1;
    let public = services.iter().filter(|_| is_public);
    public.map(|live| live.uid.clone()).collect()
}

fn decide(
    gateway: &Gateway,
    services: &[Arc<ObservedService>],
    foreign: Option<Foreign>,
    exposure: &Verdict,
) -> Decision {
    let observed = Observed {
        services,
        foreign: &|_| foreign,
        public: &uids(services, exposure),
    };
    super::decide(gateway, &desired(gateway), &observed)
}

fn unknown() -> Verdict {
    Verdict::Unknown(String::new())
}

#[test]
fn a_missing_service_is_created_and_a_correct_one_is_left_alone() {
    let gateway = simple(json!({"provider": "GKE"}));
    let made = decide(&gateway, &[], None, &unknown()).write.unwrap();
    assert_eq!(
        (made.name.as_str(), made.uid.as_deref(), made.adopt),
        ("shop", None, false)
    );
    let there = live("shop", &made.body, &["203.0.113.7"], 1);
    let plan = decide(&gateway, std::slice::from_ref(&there), None, &unknown());
    assert_eq!((plan.write, plan.remove.len(), plan.serving), (None, 0, Some(there)));
}

#[test]
fn what_was_changed_by_hand_is_put_back_and_node_ports_stay() {
    let gateway = simple(json!({"provider": "GKE"}));
    let body = decide(&gateway, &[], None, &unknown()).write.unwrap().body;
    let mut changed = body.clone();
    changed["spec"]["selector"] = json!({"app": "evil"});
    let write = decide(&gateway, &[live("shop", &changed, &[], 1)], None, &unknown())
        .write
        .unwrap();
    assert_eq!((write.uid.as_deref(), &write.body), (Some("uid-shop"), &body));
    // Another number: the port of this name keeps its node port.
    let mut moved = spec(json!({"provider": "GKE"}));
    moved["listeners"][0]["port"] = 8080.into();
    let write = decide(
        &super::tests::gateway(moved, json!({})),
        &[live("shop", &body, &[], 1)],
        None,
        &unknown(),
    )
    .write
    .unwrap();
    assert_eq!(write.body.pointer("/spec/ports/0/nodePort"), Some(&json!(30_000)));
}

#[test]
fn a_service_of_somebody_else_is_left_alone_unless_its_owner_consents() {
    let gateway = simple(json!({"provider": "GKE"}));
    let plan = decide(&gateway, &[], Some(Foreign::Keep), &unknown());
    assert_eq!((plan.write, plan.blocked.unwrap().reason), (None, "ServiceConflict"));
    let plan = decide(&gateway, &[], Some(Foreign::Adoptable), &unknown());
    assert!(plan.write.unwrap().adopt);
}

/// A Service of a class, and a Gateway that wants another.
fn other_class(name: &Value, annotations: Value) -> (Gateway, Arc<ObservedService>) {
    let before = simple(json!({"provider": "Other", "name": name, "loadBalancerClass": "old.example/lb"}));
    let body = decide(&before, &[], None, &unknown()).write.unwrap();
    let there = live(&body.name, &body.body, &["203.0.113.7"], 1);
    let service = json!({"provider": "Other", "name": name, "loadBalancerClass": "new.example/lb"});
    (gateway(spec(service), annotations), there)
}

#[test]
fn what_is_read_at_creation_only_is_not_changed_and_is_told() {
    let (gateway, there) = other_class(&Value::Null, json!({"gatehouse.dev/recreate": "2"}));
    let plan = decide(&gateway, std::slice::from_ref(&there), None, &unknown());
    assert_eq!((plan.write, plan.remove.len(), plan.recreating), (None, 0, false));
    assert_eq!(
        plan.pending[0].words(),
        "loadBalancerClass (now old.example/lb, wanted new.example/lb)"
    );
}

#[test]
fn with_consent_a_second_service_replaces_the_first_once_it_has_its_address() {
    let (mut gateway, old) = other_class(&Value::Null, json!({"gatehouse.dev/recreate": "3"}));
    let plan = decide(&gateway, std::slice::from_ref(&old), None, &unknown());
    let made = plan.write.unwrap();
    assert_eq!(
        (made.name.as_str(), made.uid, plan.consumed, plan.remove.len()),
        ("shop-2", None, true, 0)
    );
    assert_eq!(plan.serving, Some(old.clone()));
    gateway.status = Some(gatehouse_crds::gateway::GatewayStatus {
        recreated_generation: Some(3),
        ..Default::default()
    });
    let new = live("shop-2", &made.body, &[], 2);
    let waiting = decide(&gateway, &[old.clone(), new], None, &unknown());
    assert_eq!(
        (waiting.write, waiting.remove.len(), waiting.serving, waiting.recreating),
        (None, 0, Some(old.clone()), true)
    );
    let new = live("shop-2", &made.body, &["203.0.113.8"], 2);
    let done = decide(&gateway, &[old.clone(), new.clone()], None, &unknown());
    assert_eq!(
        (done.write, done.remove, done.serving, done.recreating),
        (None, vec![old], Some(new), false)
    );
}

#[test]
fn a_consent_is_good_once() {
    let (mut gateway, old) = other_class(&Value::Null, json!({"gatehouse.dev/recreate": "3"}));
    gateway.status = Some(gatehouse_crds::gateway::GatewayStatus {
        recreated_generation: Some(3),
        ..Default::default()
    });
    let plan = decide(&gateway, &[old], None, &unknown());
    assert_eq!((plan.write, plan.pending.len(), plan.consumed), (None, 1, false));
}

#[test]
fn a_service_whose_name_is_the_users_makes_way_first() {
    let (gateway, old) = other_class(&json!("edge"), json!({"gatehouse.dev/recreate": "3"}));
    let plan = decide(&gateway, std::slice::from_ref(&old), None, &unknown());
    assert_eq!(
        (plan.write.is_none(), plan.remove, plan.consumed),
        (true, vec![old.clone()], true)
    );
    let mut leaving = (*old).clone();
    leaving.deleting = true;
    let plan = decide(&gateway, &[Arc::new(leaving)], None, &unknown());
    assert_eq!((plan.write.is_none(), plan.recreating), (true, true));
    assert_eq!(decide(&gateway, &[], None, &unknown()).write.unwrap().name, "edge");
}

#[test]
fn a_public_address_is_withdrawn_where_that_is_asked_for_until_the_spec_changes() {
    let mut gateway = simple(json!({"provider": "GKE", "scope": "Internal", "onMismatch": "Withdraw"}));
    let body = decide(&gateway, &[], None, &unknown()).write.unwrap().body;
    let there = live("shop", &body, &["203.0.113.7"], 1);
    let public = Verdict::Public("203.0.113.7".into());
    let plan = decide(&gateway, &[there], None, &public);
    let write = plan.write.unwrap();
    assert_eq!(
        (write.body.pointer("/spec/type"), plan.withdrawn),
        (Some(&json!("ClusterIP")), true)
    );
    assert_eq!(
        write.body.pointer("/metadata/annotations/gatehouse.dev~1withdrawn"),
        Some(&json!("3"))
    );
    // The address is gone, and the Service stays withdrawn.
    let mut without = write.body.clone();
    without["spec"]["ports"][0].as_object_mut().unwrap().remove("nodePort");
    let withdrawn = live("shop", &without, &[], 1);
    let plan = decide(&gateway, std::slice::from_ref(&withdrawn), None, &unknown());
    assert!(plan.withdrawn);
    gateway.metadata.generation = Some(4);
    let plan = decide(&gateway, &[withdrawn], None, &unknown());
    assert_eq!(
        (plan.write.unwrap().body.pointer("/spec/type"), plan.withdrawn),
        (Some(&json!("LoadBalancer")), false)
    );
}

#[test]
fn without_withdraw_a_public_address_stays_and_is_told_elsewhere() {
    let gateway = simple(json!({"provider": "GKE", "scope": "Internal"}));
    let body = decide(&gateway, &[], None, &unknown()).write.unwrap().body;
    let plan = decide(
        &gateway,
        &[live("shop", &body, &["203.0.113.7"], 1)],
        None,
        &Verdict::Public("203.0.113.7".into()),
    );
    assert_eq!((plan.write, plan.withdrawn), (None, false));
}

#[test]
fn a_name_too_long_for_a_service_is_told_what_to_write() {
    let mut gateway = simple(json!({"provider": "GKE"}));
    gateway.metadata.name = Some("a".repeat(64));
    let refusal = DesiredService::of(&gateway, Ok(gatehouse_crds::gateway::Provider::Gke)).unwrap_err();
    assert_eq!(refusal.reason, "InvalidName");
    assert!(
        refusal.message.contains("Write another in spec.service.name"),
        "{}",
        refusal.message
    );
    gateway.spec.service.as_mut().unwrap().name = Some("short".into());
    assert!(DesiredService::of(&gateway, Ok(gatehouse_crds::gateway::Provider::Gke)).is_ok());
}

const SWITCH: &str = "service.beta.kubernetes.io/aws-load-balancer-internal";

/// An Internal Gateway at a provider that reads the switch once.
fn aws(scope: &str) -> Gateway {
    simple(json!({"provider": "AWS", "scope": scope}))
}

#[test]
fn a_switch_that_is_read_once_and_was_taken_away_by_hand_is_put_back() {
    let gateway = aws("Internal");
    let body = decide(&gateway, &[], None, &unknown()).write.unwrap().body;
    let mut without = body.clone();
    without["metadata"]["annotations"]
        .as_object_mut()
        .unwrap()
        .remove(SWITCH);
    let plan = decide(&gateway, &[live("shop", &without, &["10.0.0.1"], 1)], None, &unknown());
    assert_eq!((plan.pending, plan.write.map(|write| write.body)), (vec![], Some(body)));
}

#[test]
fn another_scope_is_not_written_where_it_is_read_once_and_other_edits_are() {
    let body = decide(&aws("External"), &[], None, &unknown()).write.unwrap().body;
    let there = live("shop", &body, &["203.0.113.7"], 1);
    let plan = decide(&aws("Internal"), std::slice::from_ref(&there), None, &unknown());
    let words: Vec<_> = plan.pending.iter().map(Difference::words).collect();
    assert_eq!(plan.write, None);
    assert!(words.contains(&"the scope (wanted Internal)".to_owned()), "{words:?}");
    let mut more = spec(json!({"provider": "AWS", "scope": "Internal"}));
    more["target"]["selector"]["app"] = "other".into();
    let plan = decide(&gateway(more, json!({})), &[there], None, &unknown());
    let mut expected = body;
    expected["spec"]["selector"]["app"] = "other".into();
    assert_eq!(plan.write.unwrap().body, expected);
}

#[test]
fn another_provider_needs_another_service_and_internal_keeps_its_switch() {
    let before = simple(json!({"provider": "GKE", "scope": "Internal"}));
    let body = decide(&before, &[], None, &unknown()).write.unwrap().body;
    let there = live("shop", &body, &["10.0.0.1"], 1);
    // With and without the last status.
    for status in [Some(gatehouse_crds::gateway::Provider::Gke), None] {
        let mut after = aws("Internal");
        after.status = Some(gatehouse_crds::gateway::GatewayStatus {
            provider: status,
            ..Default::default()
        });
        let plan = decide(&after, std::slice::from_ref(&there), None, &unknown());
        assert_eq!(
            (plan.write, plan.pending),
            (None, vec![Difference::Provider]),
            "{status:?}"
        );
        after.metadata.annotations = Some([("gatehouse.dev/recreate".to_owned(), "3".to_owned())].into());
        let made = decide(&after, std::slice::from_ref(&there), None, &unknown())
            .write
            .unwrap();
        let new = live("shop-2", &made.body, &["10.0.0.2"], 2);
        let plan = decide(&after, &[there.clone(), new.clone()], None, &unknown());
        assert_eq!((plan.remove, plan.serving), (vec![there.clone()], Some(new)));
    }
}

#[test]
fn a_service_that_is_taken_over_is_not_changed_in_the_same_write() {
    let plan = decide(&aws("Internal"), &[], Some(Foreign::Adoptable), &unknown());
    let write = plan.write.unwrap();
    assert_eq!((write.adopt, write.body.get("spec")), (true, None));
    assert_eq!(write.body.pointer("/metadata/annotations"), None);
}

#[test]
fn a_public_service_that_is_being_replaced_goes_at_once_and_its_successor_stays() {
    let mut gateway = simple(json!({"provider": "AWS", "scope": "External"}));
    let body = decide(&gateway, &[], None, &unknown()).write.unwrap().body;
    let old = live("shop", &body, &["203.0.113.7"], 1);
    gateway = super::tests::gateway(
        spec(json!({"provider": "AWS", "scope": "Internal", "onMismatch": "Withdraw"})),
        json!({"gatehouse.dev/recreate": "3"}),
    );
    let public = Verdict::Public("203.0.113.7".into());
    let made = decide(&gateway, std::slice::from_ref(&old), None, &public)
        .write
        .unwrap();
    assert_eq!(made.name, "shop-2");
    let new = live("shop-2", &made.body, &[], 2);
    let plan = decide(&gateway, &[old.clone(), new.clone()], None, &public);
    assert_eq!(
        (plan.write, plan.withdrawn, plan.remove, plan.serving),
        (None, false, vec![old], Some(new))
    );
}

#[test]
fn a_class_that_a_webhook_has_set_is_no_difference_and_one_of_ours_that_is_to_go_is() {
    for (provider, scope) in [("GKE", "External"), ("AWS", "Internal"), ("GKE", "Internal")] {
        let gateway = simple(json!({"provider": provider, "scope": scope}));
        let body = decide(&gateway, &[], None, &unknown()).write.unwrap().body;
        let mut set = body.clone();
        // AWS' controller and EKS Auto Mode set their class on every Service without one.
        set["spec"]["loadBalancerClass"] = "eks.amazonaws.com/nlb".into();
        let mut there = (*live("shop", &set, &["10.0.0.1"], 1)).clone();
        there.owned.remove("spec/loadBalancerClass");
        let plan = decide(&gateway, &[Arc::new(there.clone())], None, &unknown());
        assert_eq!((plan.pending, plan.write), (vec![], None), "{provider} {scope}");
        there.owned.insert("spec/loadBalancerClass".into());
        let plan = decide(&gateway, &[Arc::new(there)], None, &unknown());
        assert!(
            plan.pending
                .iter()
                .any(|difference| matches!(difference, Difference::Class { to: None, .. })),
            "{provider} {scope}"
        );
    }
}

#[test]
fn what_others_set_on_a_service_is_no_difference() {
    let gateway = simple(json!({"provider": "AWS", "scope": "Internal", "externalTrafficPolicy": "Local"}));
    let body = decide(&gateway, &[], None, &unknown()).write.unwrap().body;
    let mut set = body.clone();
    set["spec"]["healthCheckNodePort"] = 31_000.into();
    set["spec"]["ipFamilies"] = json!(["IPv6"]);
    set["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    set["spec"]["clusterIPs"] = json!(["fd00::1"]);
    set["spec"]["sessionAffinity"] = "ClientIP".into();
    set["spec"]["trafficDistribution"] = "PreferClose".into();
    set["spec"]["internalTrafficPolicy"] = "Cluster".into();
    set["metadata"]["annotations"]["cloud.test/id"] = "lb-1".into();
    set["metadata"]["labels"]["team"] = "net".into();
    set["metadata"]["finalizers"] = json!(["service.kubernetes.io/load-balancer-cleanup"]);
    let mut there = (*live("shop", &set, &["10.0.0.1"], 1)).clone();
    there.owned = field_ownership::of(&body).into_iter().map(|(path, _)| path).collect();
    let plan = decide(&gateway, &[Arc::new(there)], None, &unknown());
    assert_eq!((plan.pending, plan.write), (vec![], None));
}

#[test]
fn an_internal_load_balancer_has_no_node_ports_where_its_provider_needs_none() {
    let allocates = |service: Value| {
        let gateway = simple(service);
        let body = decide(&gateway, &[], None, &unknown()).write.unwrap().body;
        body.pointer("/spec/allocateLoadBalancerNodePorts").cloned()
    };
    let no = Some(json!(false));
    assert_eq!(allocates(json!({"provider": "GKE", "scope": "Internal"})), no);
    assert_eq!(
        allocates(json!({"provider": "MetalLB", "scope": "Internal", "subnet": "private"})),
        no
    );
    let targets = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type";
    let controller = |annotations: Value| json!({"provider": "AWSLoadBalancerController", "scope": "Internal", "annotations": annotations});
    assert_eq!(allocates(controller(json!({targets: "ip"}))), no);
    // It sends to them, a public one is reached by all clients anyway, or they were asked for.
    assert_eq!(allocates(controller(json!({}))), None);
    assert_eq!(allocates(json!({"provider": "AKS", "scope": "Internal"})), None);
    assert_eq!(allocates(json!({"provider": "GKE"})), None);
    assert_eq!(
        allocates(json!({"provider": "GKE", "scope": "Internal", "nodePorts": {"http": 30_080}})),
        None
    );
}

#[test]
fn node_ports_that_are_there_stay_and_those_that_somebody_adds_bring_back_no_others() {
    let gateway = simple(json!({"provider": "GKE", "scope": "Internal"}));
    let body = decide(&gateway, &[], None, &unknown()).write.unwrap().body;
    // Made by an older version.
    let mut older = body.clone();
    older["spec"]
        .as_object_mut()
        .unwrap()
        .remove("allocateLoadBalancerNodePorts");
    let plan = decide(&gateway, &[live("shop", &older, &["10.0.0.1"], 1)], None, &unknown());
    assert_eq!(plan.write, None);
    let mut there = (*live("shop", &body, &["10.0.0.1"], 1)).clone();
    there.value["spec"]["ports"][0]["nodePort"] = 30_001.into();
    let plan = decide(&gateway, &[Arc::new(there)], None, &unknown());
    assert_eq!(plan.write, None);
}

#[test]
fn a_service_of_an_unknown_provider_is_recreated_without_consent() {
    let other = simple(json!({"provider": "Other"}));
    let body = decide(&other, &[], None, &unknown()).write.unwrap().body;
    let detected = simple(json!({}));
    let decide_for = |live: &Arc<ObservedService>| {
        let desired = DesiredService::of(&detected, Ok(Provider::EksAutoMode)).unwrap();
        let services = std::slice::from_ref(live);
        super::decide(
            &detected,
            &desired,
            &Observed {
                services,
                foreign: &|_| None,
                public: &BTreeSet::new(),
            },
        )
    };
    let waiting = live("shop", &body, &[], 1);
    let plan = decide_for(&waiting);
    assert_eq!(
        (plan.remove, plan.pending, plan.consumed, plan.recreating),
        (vec![waiting], vec![], false, true)
    );
    // One that a provider serves is not taken away from its clients.
    assert_eq!(decide_for(&live("shop", &body, &["203.0.113.7"], 1)).remove, vec![]);
}

#[test]
fn while_a_replacement_comes_up_the_old_service_stays_as_private_as_it_is() {
    let spec_of = |scope: &str, class: &str| {
        spec(json!({"provider": "AWSLoadBalancerController", "scope": scope, "loadBalancerClass": class}))
    };
    let old_body = decide(
        &gateway(spec_of("Internal", "service.k8s.aws/nlb"), json!({})),
        &[],
        None,
        &unknown(),
    );
    let mut taken = old_body.write.unwrap().body;
    let scheme = "service.beta.kubernetes.io/aws-load-balancer-scheme";
    let owned: field_ownership::Paths = field_ownership::of(&taken).into_iter().map(|(path, _)| path).collect();
    taken["metadata"]["annotations"].as_object_mut().unwrap().remove(scheme);
    let mut old = (*live("shop", &taken, &["10.0.0.1"], 1)).clone();
    old.owned = owned;
    // Blocked: the second name belongs to another owner.
    let mut other = spec_of("Internal", "service.k8s.aws/nlb");
    other["service"]["annotations"] = json!({"service.beta.kubernetes.io/aws-load-balancer-name": "new"});
    let wanting = gateway(other, json!({"gatehouse.dev/recreate": "3"}));
    let plan = decide(&wanting, &[Arc::new(old)], Some(Foreign::Keep), &unknown());
    assert_eq!(plan.blocked.map(|refusal| refusal.reason), Some("ServiceConflict"));
    let body = plan.write.unwrap().body;
    assert_eq!(body["metadata"]["annotations"][scheme], "internal");
}
