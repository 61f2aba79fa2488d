#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::needless_pass_by_value)]
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use super::*;
use crate::gateway::{decide::Foreign, exposure::Verdict, service::DesiredService};

const SWITCH: &str = "networking.gke.io/load-balancer-type";

fn gateway(service: Value) -> Gateway {
    serde_json::from_value(json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway",
        "metadata": {"name": "shop", "namespace": "app", "uid": "gw", "generation": 3},
        "spec": {"service": service, "target": {"selector": {"app": "shop"}},
            "listeners": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 3000}]}
    }))
    .unwrap()
}

/// The Service of a Gateway as it was when its spec was good, changed by `change`.
fn made(service: Value, ingress: &[&str], change: impl FnOnce(&mut Value)) -> Arc<ObservedService> {
    let gateway = gateway(service);
    let provider = gateway.spec.service.as_ref().unwrap().provider.unwrap();
    let body = DesiredService::of(&gateway, Ok(provider)).unwrap().body(None, None);
    let owned = field_ownership::of(&body).into_iter().map(|(path, _)| path).collect();
    let mut object = body;
    object["metadata"]["name"] = "shop".into();
    object["metadata"]["uid"] = "uid".into();
    object["metadata"]["annotations"]["cloud.test/id"] = "lb-1".into();
    object["spec"]["clusterIP"] = "10.96.0.9".into();
    let ingress: Vec<Value> = ingress.iter().map(|ip| json!({"ip": ip})).collect();
    object["status"] = json!({"loadBalancer": {"ingress": ingress}});
    change(&mut object);
    let service: Service = serde_json::from_value(object).unwrap();
    let mut live = ObservedService::of(&service);
    live.owned = owned;
    Arc::new(live)
}

/// Returns those of these Services that are public by this verdict.
fn uids(services: &[Arc<ObservedService>], verdict: &Verdict) -> BTreeSet<String> {
    let public = services.iter().filter(|_| matches!(verdict, Verdict::Public(_)));
    public.map(|live| live.uid.clone()).collect()
}

fn decide(gateway: &Gateway, live: &Arc<ObservedService>, exposure: Verdict) -> Decision {
    decide_after(gateway, live, exposure, &Applied::default())
}

fn decide_after(gateway: &Gateway, live: &Arc<ObservedService>, exposure: Verdict, applied: &Applied) -> Decision {
    safeguard(
        gateway,
        &Observed {
            services: std::slice::from_ref(live),
            foreign: &|_| None,
            public: &uids(std::slice::from_ref(live), &exposure),
        },
        applied,
    )
}

/// A spec that is refused.
fn refused(more: Value) -> Gateway {
    let mut service = json!({"provider": "GKE", "scope": "Internal", "annotations": {SWITCH: "External"}});
    service
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    gateway(service)
}

fn good() -> Value {
    json!({"provider": "GKE", "scope": "Internal"})
}

#[test]
fn what_is_as_private_as_it_was_is_left_alone() {
    let live = made(good(), &["10.0.0.7"], |_| ());
    let plan = decide(&refused(json!({})), &live, Verdict::Private);
    assert_eq!((plan.write, plan.withdrawn, plan.serving), (None, false, Some(live)));
}

#[test]
fn a_switch_that_was_taken_away_is_put_back_and_nothing_else_is_changed() {
    let taken = |service: &mut Value| {
        service["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove(SWITCH);
        service["spec"]["selector"] = json!({"app": "other"});
    };
    for taken in [
        made(good(), &["10.0.0.7"], taken),
        made(good(), &["203.0.113.7"], |service| {
            service["metadata"]["annotations"][SWITCH] = "External".into();
        }),
    ] {
        let body = decide(&refused(json!({})), &taken, Verdict::Private)
            .write
            .unwrap()
            .body;
        assert_eq!(body["metadata"]["annotations"], json!({SWITCH: "Internal"}));
        assert_eq!(body["spec"]["selector"], taken.value["spec"]["selector"]);
        assert_eq!(body["spec"]["type"], "LoadBalancer");
        assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "gw");
    }
}

#[test]
fn a_switch_that_is_read_once_comes_from_what_the_load_balancer_was_made_with() {
    const AWS: &str = "service.beta.kubernetes.io/aws-load-balancer-internal";
    let spec = |scope: &str| json!({"provider": "AWS", "scope": scope});
    let take = |service: &mut Value| {
        let annotations = service["metadata"]["annotations"].as_object_mut().unwrap();
        annotations.remove(AWS);
    };
    let bad = gateway(json!({"provider": "AWS", "scope": "Internal", "addresses": ["203.0.113.1"]}));
    let taken = made(spec("Internal"), &["10.0.0.7"], take);
    let body = decide(&bad, &taken, Verdict::Private).write.unwrap().body;
    assert_eq!(body["metadata"]["annotations"][AWS], "true");
    // One that was made public would only say what it is not.
    let public = made(spec("External"), &["203.0.113.7"], |_| ());
    assert_eq!(decide(&bad, &public, Verdict::Public("203.0.113.7".into())).write, None);
}

#[test]
fn a_public_address_is_withdrawn_on_request_for_this_generation() {
    let spec = json!({"provider": "GKE", "scope": "Internal", "externalTrafficPolicy": "Local"});
    let live = made(spec, &["203.0.113.7"], |_| ());
    let public = || Verdict::Public("203.0.113.7".into());
    let alert = decide(&refused(json!({})), &live, public());
    assert_eq!((alert.write, alert.withdrawn), (None, false));
    let withdraw = refused(json!({"onMismatch": "Withdraw"}));
    let plan = decide(&withdraw, &live, public());
    let body = plan.write.unwrap().body;
    assert!(plan.withdrawn);
    assert_eq!(body["spec"]["type"], "ClusterIP");
    assert_eq!(body["metadata"]["annotations"][WITHDRAWN], "3");
    for field in OF_OTHER_TYPES {
        assert_eq!(body["spec"].get(*field), None, "{field}");
    }
    let mut gone = (*live).clone();
    gone.value["spec"] = body["spec"].clone();
    gone.value["metadata"]["annotations"] = body["metadata"]["annotations"].clone();
    gone.owned = field_ownership::of(&body).into_iter().map(|(path, _)| path).collect();
    gone.ingress.clear();
    let plan = decide(&withdraw, &Arc::new(gone), Verdict::Private);
    assert_eq!((plan.write, plan.withdrawn), (None, true));
}

#[test]
fn of_an_external_gateway_nothing_is_kept_private() {
    let live = made(
        json!({"provider": "GKE", "scope": "External"}),
        &["203.0.113.7"],
        |_| (),
    );
    let open = gateway(json!({"provider": "GKE", "subnet": "private"}));
    assert_eq!(decide(&open, &live, Verdict::Unknown(String::new())).write, None);
}

type Change = fn(&mut Value);

#[test]
fn what_was_applied_when_the_spec_was_accepted_is_put_back_of_every_scope() {
    for scope in ["Internal", "External"] {
        let spec = json!({"provider": "GKE", "scope": scope, "loadBalancerSourceRanges": ["192.0.2.0/24"]});
        let live = made(spec.clone(), &["10.0.0.7"], |_| ());
        let mut applied = Applied::default();
        applied.see(std::slice::from_ref(&live));
        let bad = gateway(json!({"provider": "GKE", "scope": scope, "addresses": ["no address"]}));
        let unchanged = decide_after(&bad, &live, Verdict::Private, &applied);
        assert_eq!(unchanged.write, None, "{scope}");
        // Another takes over what it writes: it is no longer ours.
        let cases: [(&str, Change); 4] = [
            ("spec/selector", |service| {
                service["spec"]["selector"] = json!({"app": "other"});
            }),
            ("spec/loadBalancerSourceRanges", |service| {
                service["spec"]
                    .as_object_mut()
                    .unwrap()
                    .remove("loadBalancerSourceRanges");
            }),
            ("spec/ports/80/TCP/targetPort", |service| {
                service["spec"]["ports"][0]["targetPort"] = 22.into();
            }),
            ("spec/type", |service| service["spec"]["type"] = "NodePort".into()),
        ];
        for (path, change) in cases {
            let mut changed = (*made(spec.clone(), &["10.0.0.7"], change)).clone();
            changed.owned.remove(path);
            let changed = Arc::new(changed);
            // What is seen later is not what was accepted.
            applied.see(std::slice::from_ref(&changed));
            let body = decide_after(&bad, &changed, Verdict::Private, &applied)
                .write
                .unwrap()
                .body;
            let mut before = field_ownership::retained(&live.value, &live.owned);
            before["metadata"]["ownerReferences"] = body["metadata"]["ownerReferences"].clone();
            assert_eq!(body, before, "{scope} {path}");
        }
    }
}

/// Returns the known content of a Service from before its spec was refused.
fn applied_of(service: Value, live: &Arc<ObservedService>) -> Applied {
    let plan = Decision {
        serving: Some(live.clone()),
        ..Decision::default()
    };
    let mut applied = Applied {
        settled: Settled::of(&gateway(service), &plan),
        ..Applied::default()
    };
    applied.see(std::slice::from_ref(live));
    applied
}

fn decide_without(gateway: &Gateway, applied: &Applied, foreign: Option<Foreign>) -> Decision {
    let observed = Observed {
        services: &[],
        foreign: &|_| foreign,
        public: &BTreeSet::new(),
    };
    safeguard(gateway, &observed, applied)
}

#[test]
fn a_service_that_is_deleted_while_the_spec_is_refused_is_made_again_as_it_was() {
    for spec in [
        good(),
        json!({"provider": "GKE", "scope": "External", "loadBalancerSourceRanges": ["192.0.2.0/24"]}),
    ] {
        let live = made(spec.clone(), &["10.0.0.7"], |_| ());
        let mut applied = applied_of(spec.clone(), &live);
        let mut bad = spec;
        bad["addresses"] = json!(["no address"]);
        let bad = gateway(bad);
        // Also a second time, when what was made is seen under another UID.
        for uid in ["second", "third"] {
            applied.see(&[]);
            let plan = decide_without(&bad, &applied, None);
            assert_eq!(plan.missing, None);
            let write = plan.write.unwrap();
            assert_eq!((write.name.as_str(), write.uid, write.adopt), ("shop", None, false));
            let mut before = field_ownership::retained(&live.value, &live.owned);
            before["metadata"]["ownerReferences"] = json!([owner(&bad)]);
            assert_eq!(write.body, before);
            let mut again = (*live).clone();
            again.uid = uid.into();
            applied.see(&[Arc::new(again)]);
        }
    }
}

#[test]
fn a_deleted_service_is_not_made_again_where_it_could_admit_more_than_was_accepted() {
    let live = made(good(), &["10.0.0.7"], |_| ());
    let bad = refused(json!({}));
    let why = |gateway: &Gateway, applied: &Applied, foreign| {
        let plan = decide_without(gateway, applied, foreign);
        assert_eq!(plan.write, None);
        plan.missing.unwrap()
    };
    // Since a restart it is not known what was accepted.
    let mut unknown = Applied::default();
    assert!(why(&bad, &unknown, None).starts_with("There is no Service"));
    unknown.see(std::slice::from_ref(&live));
    assert!(why(&bad, &unknown, None).contains("not known"));
    // Another took the switch over before the refusal was seen.
    let mut taken = (*live).clone();
    taken.owned.remove(&format!("metadata/annotations/{SWITCH}"));
    let mut applied = applied_of(good(), &live);
    applied.services.clear();
    applied.see(&[Arc::new(taken)]);
    assert!(why(&bad, &applied, None).contains("not known"));
    // It was not yet what was accepted.
    let pending = Decision {
        serving: Some(live.clone()),
        recreating: true,
        ..Decision::default()
    };
    assert_eq!(Settled::of(&gateway(good()), &pending), None);
    let open = json!({"provider": "GKE", "scope": "External"});
    let public = made(open.clone(), &["203.0.113.7"], |_| ());
    let words = why(&bad, &applied_of(open, &public), None);
    assert!(
        words.contains("it was External, and the spec says Internal now"),
        "{words}"
    );
    let words = why(&bad, &applied_of(good(), &live), Some(Foreign::Adoptable));
    assert!(words.contains("another of that name"), "{words}");
}
