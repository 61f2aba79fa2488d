//! No sequence of edits, by any user of Gateways, makes the Service of an Internal one public for one moment, or drops
//! what another manager has written.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "test code: to panic is how it reports, and a scenario is read from top to bottom"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gatehouse::gateway::provider::Exposure;
use gatehouse_crds::gateway::Provider;
use gatehouse_tests::GatewayEnvironment;
use gatehouse_tests::cloud::{self, Answer, Habits};
use gatehouse_tests::managed::owned_by;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

fn internal(service: Value) -> Value {
    let mut spec = json!({
        "service": {"scope": "Internal"},
        "target": {"selector": {"app": "shop"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
    });
    let service: Value = service;
    spec["service"]
        .as_object_mut()
        .unwrap()
        .extend(service.as_object().unwrap().clone());
    spec
}

/// The same numbers at each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

/// Some spec of an Internal Gateway; the API server may refuse it.
fn any_spec(dice: &mut Dice) -> Value {
    let words: [(&str, &[&str]); 8] = [
        (
            "networking.gke.io/load-balancer-type",
            &["Internal", "External", "internal", ""],
        ),
        ("cloud.google.com/load-balancer-type", &["Internal", "External"]),
        (
            "service.beta.kubernetes.io/aws-load-balancer-scheme",
            &["internal", "internet-facing"],
        ),
        (
            "service.beta.kubernetes.io/aws-load-balancer-internal",
            &["true", "false", "0.0.0.0/0"],
        ),
        (
            "service.beta.kubernetes.io/azure-load-balancer-internal",
            &["true", "false"],
        ),
        (
            "service.beta.kubernetes.io/openstack-internal-load-balancer",
            &["true", "false"],
        ),
        (
            "networking.gke.io/internal-load-balancer-allow-global-access",
            &["true", "false"],
        ),
        ("example.test/team", &["a", "b"]),
    ];
    let mut service = json!({"scope": "Internal"});
    let mut annotations = serde_json::Map::new();
    for _ in 0..dice.roll(6).saturating_sub(3) {
        let (key, values) = dice.pick(&words);
        annotations.insert((*key).to_owned(), json!(dice.pick(values)));
    }
    if !annotations.is_empty() {
        service["annotations"] = annotations.into();
    }
    let providers = [
        "GKE",
        "GKE",
        "GKE",
        "AWSLoadBalancerController",
        "EKSAutoMode",
        "AWS",
        "AKS",
        "AKS",
        "OpenStack",
        "Yandex",
        "MetalLB",
        "Other",
        "Hetzner",
        "",
    ];
    let provider = *dice.pick(&providers);
    if !provider.is_empty() {
        service["provider"] = json!(provider);
    }
    if ["Yandex", "MetalLB"].contains(&provider) || dice.roll(5) == 0 {
        service["subnet"] = json!(dice.pick(&["inside", "10.0.0.0/24"]));
    }
    match dice.roll(10) {
        0 => {
            service["loadBalancerClass"] = json!(dice.pick(&[
                "service.k8s.aws/nlb",
                "eks.amazonaws.com/nlb",
                "networking.gke.io/l4-regional-external",
                "networking.gke.io/l4-regional-internal",
                "a.test/one"
            ]));
        }
        1 => service["type"] = json!(dice.pick(&["ClusterIP", "LoadBalancer", "NodePort"])),
        2 => service["name"] = json!(dice.pick(&["front", "back"])),
        3 => service["onMismatch"] = json!(dice.pick(&["Alert", "Withdraw"])),
        4 => service["globalAccess"] = json!(true),
        _ => {}
    }
    let mut spec = internal(service);
    let ports = [80, 81, 443];
    spec["listeners"][0]["port"] = json!(dice.pick(&ports));
    spec["listeners"][0]["name"] = json!(dice.pick(&["http", "web"]));
    spec
}

/// An edit of the present Service, which takes or changes fields of ours.
fn any_hand(dice: &mut Dice) -> Value {
    match dice.roll(6) {
        0 => json!({"spec": {"selector": {"app": "thieves"}}}),
        1 => json!({"metadata": {"labels": {"gatehouse.dev/managed": "false", "gatehouse.dev/provider": null}}}),
        2 => json!({"metadata": {"labels": {"gatehouse.dev/gateway": null}}}),
        3 => json!({"metadata": {"ownerReferences": []}}),
        4 => json!({"metadata": {"annotations": {"other.test/note": dice.pick(&["x", "y"])}}}),
        _ => json!({"spec": {"externalTrafficPolicy": dice.pick(&["Local", "Cluster"])}}),
    }
}

/// The provider that a Service was written for, as it says itself.
fn made_for(service: &Service) -> Option<Provider> {
    let word = service.labels().get("gatehouse.dev/provider")?;
    Some(serde_json::from_value(json!(word)).unwrap())
}

fn is_balancer(service: &Service) -> bool {
    service.spec.as_ref().unwrap().type_.as_deref() == Some("LoadBalancer")
}

#[tokio::test]
async fn no_sequence_of_edits_makes_an_internal_service_public() {
    const STEPS: usize = 160;
    let seed = std::env::var("GATEHOUSE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(0x9e37_79b9_7f4a_7c15);
    println!("GATEHOUSE_SEED={seed}");
    let mut dice = Dice(seed);
    let (env, _operator) = GatewayEnvironment::open("walk", Habits::of(Answer::Private)).await;
    let mut reported = Vec::new();
    env.gateway("shop", &internal(json!({"provider": "GKE"}))).await;
    env.programmed("shop").await;
    for step in 0..STEPS {
        let generation = env.gateways().get("shop").await.unwrap().metadata.generation.unwrap();
        match dice.roll(10) {
            0..=4 => {
                let spec = any_spec(&mut dice);
                let taken = env.try_gateway("shop", &spec).await.is_ok();
                reported.push(format!("{step}: {taken} {}", spec["service"]));
            }
            5 | 6 => {
                let consent = generation - i64::try_from(dice.roll(2)).unwrap();
                env.annotate("shop", "gatehouse.dev/recreate", &consent.to_string())
                    .await;
                reported.push(format!("{step}: recreate {consent}"));
            }
            7 => {
                let there = env.cloud.there();
                if let Some(service) = there.first() {
                    let hand = any_hand(&mut dice);
                    let params = PatchParams::default();
                    let _ = env
                        .services()
                        .patch(&service.name_any(), &params, &Patch::Merge(&hand))
                        .await;
                    reported.push(format!("{step}: hand {hand}"));
                }
            }
            8 => {
                if let Some(service) = env.cloud.there().first() {
                    let _ = env
                        .services()
                        .delete(&service.name_any(), &DeleteParams::default())
                        .await;
                    reported.push(format!("{step}: deleted {}", service.name_any()));
                }
            }
            _ => {
                env.cloud
                    .answers(dice.pick(&[Answer::Private, Answer::Public, Answer::Nothing]).clone());
                reported.push(format!("{step}: the cloud changes"));
            }
        }
        // Sometimes all settles, sometimes the next comes in its midst.
        tokio::time::sleep(Duration::from_millis(*dice.pick(&[0, 20, 100, 400]))).await;
    }
    env.cloud.answers(Answer::Private);
    env.gateway("shop", &internal(json!({"provider": "GKE"}))).await;
    let generation = env.gateways().get("shop").await.unwrap().metadata.generation.unwrap();
    env.annotate("shop", "gatehouse.dev/recreate", &generation.to_string())
        .await;
    env.programmed("shop").await;
    env.wait("shop", "ExposureVerified", "True", "Internal").await;

    let story = reported.join("\n");
    let versions = env.cloud.versions();
    // By UID: the first provider that it was a load balancer of, and what the cloud had said.
    let mut balancers: BTreeMap<String, (Provider, BTreeSet<String>)> = BTreeMap::new();
    for version in &versions {
        let service = &version.service;
        let uid = service.uid().unwrap();
        if !is_balancer(service) {
            // Whose it was does not matter any more, and the cloud takes back what it has said.
            balancers.remove(&uid);
            continue;
        }
        let shown = || {
            let metadata =
                json!({"name": service.name_any(), "annotations": service.annotations(), "labels": service.labels()});
            format!(
                "seed {seed}\n{story}\n{}",
                serde_json::to_string_pretty(&json!({"metadata": metadata, "spec": service.spec})).unwrap()
            )
        };
        let of_cloud: BTreeSet<String> = owned_by(service, cloud::MANAGER).into_iter().collect();
        let (provider, before) = match balancers.get(&uid) {
            Some((provider, before)) => (*provider, before.clone()),
            None => (
                made_for(service).unwrap_or_else(|| panic!("{}", shown())),
                BTreeSet::new(),
            ),
        };
        // The name of a pool says nothing by itself: that one is chosen is what counts.
        let pooled = provider == Provider::MetalLb && service.annotations().contains_key("metallb.io/address-pool");
        let said = cloud::exposure(provider, service);
        assert!(
            said == Exposure::Internal || (pooled && said == Exposure::Unsaid),
            "{said:?} to {provider:?}: {}",
            shown()
        );
        // What the cloud has said stays until it takes it away itself: from a Service that goes.
        if service.metadata.deletion_timestamp.is_none() {
            assert!(
                before
                    .iter()
                    .all(|field| of_cloud.contains(field) || field.starts_with("f:status")),
                "{before:?} {of_cloud:?} {}",
                shown()
            );
        }
        balancers.insert(uid, (provider, of_cloud));
    }
    println!(
        "{} versions of {} Services were looked at",
        versions.len(),
        versions
            .iter()
            .map(|version| version.service.uid())
            .collect::<BTreeSet<_>>()
            .len()
    );
    assert!(versions.len() > STEPS / 2, "{}", versions.len());
}
