//! Objects of a Gateway beside its Service: Certificates of its listeners, Secrets of the user, and a NetworkPolicy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "test code: to panic is how it reports, and a scenario is read from top to bottom"
)]

use std::time::Duration;

use gatehouse_crds::certificate::Certificate;
use gatehouse_crds::gateway::Provider;
use gatehouse_tests::cloud::{Answer, Habits};
use gatehouse_tests::gateway_environment::{SOON, listener_condition, listener_of, message};
use gatehouse_tests::pki::Ca;
use gatehouse_tests::process::eventually;
use gatehouse_tests::{GatewayEnvironment, chain, manifests};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};

fn https(tls: Value) -> Value {
    let mut listener =
        json!({"name": "https", "port": 443, "protocol": "HTTPS", "targetPort": 8443, "hostname": "shop.test"});
    if !tls.is_null() {
        listener["tls"] = tls;
    }
    json!({"service": {"provider": "GKE"}, "target": {"selector": {"app": "shop"}}, "listeners": [
        listener,
        {"name": "http", "port": 80, "protocol": "HTTP", "targetPort": 8080},
    ]})
}

fn made() -> Value {
    json!({"certificate": {"issuerRef": {"name": "internal"}}})
}

#[tokio::test]
async fn a_listener_gets_its_certificate_and_tells_when_it_ends() {
    let (env, _operator) = GatewayEnvironment::open("tls", Habits::of(Answer::Private)).await;
    let ca = Ca::new("gateways").unwrap();
    env.gateway("shop", &https(made())).await;
    // The issuer does not exist yet: this listener says so, and the Service exists all the same.
    let waits = env
        .listener("shop", "https", "ResolvedRefs", "CertificateNotReady")
        .await;
    assert!(waits["message"].as_str().unwrap().contains("internal"), "{waits}");
    env.programmed("shop").await;
    env.cluster.apply(&env.namespace, &manifests::ca("internal", &ca)).await;
    let found = env.listener("shop", "https", "ResolvedRefs", "ResolvedRefs").await;
    assert_eq!(found["status"], "True");
    let certificates: Api<Certificate> = env.cluster.api(&env.namespace);
    let certificate = certificates.get("shop-https").await.unwrap();
    assert_eq!(certificate.spec.dns_names, ["shop.test"]);
    let owner = &certificate.owner_references()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str(), owner.controller),
        ("Gateway", "shop", Some(true))
    );
    let secret = env.cluster.secret(&env.namespace, "shop-https-tls").await.unwrap();
    let chain = chain::assert_chain(&secret, &ca.pem(), &["shop.test"]);
    let reported = eventually("the end of it", SOON, || async {
        let gateway = env.gateways().get("shop").await.ok()?;
        let reported = listener_of(&gateway, "https")?["certificate"].clone();
        reported["notAfter"].is_string().then_some(reported)
    })
    .await;
    assert_eq!(
        reported,
        json!({"secretName": "shop-https-tls", "notAfter": chain.not_after.to_string()})
    );
    let gateway = env.gateways().get("shop").await.unwrap();
    assert!(listener_of(&gateway, "http").unwrap().get("certificate").is_none());

    // By a hand, and back.
    let other = json!({"spec": {"dnsNames": ["evil.test"]}});
    env.patch(&certificates, "shop-https", &other).await;
    env.cluster
        .wait(&certificates, "shop-https", "healed", SOON, |it| {
            it.spec.dns_names == ["shop.test"]
        })
        .await;
    certificates
        .delete("shop-https", &DeleteParams::default())
        .await
        .unwrap();
    env.cluster
        .wait(&certificates, "shop-https", "made again", SOON, |it| {
            it.uid() != certificate.uid()
        })
        .await;
    // Another host is another certificate.
    let mut moved = https(made());
    moved["listeners"][0]["hostname"] = json!("new.test");
    env.gateway("shop", &moved).await;
    env.cluster
        .wait(&certificates, "shop-https", "for the other name", SOON, |it| {
            it.spec.dns_names == ["new.test"]
        })
        .await;
    // Without its listener it goes.
    env.gateway("shop", &https(Value::Null)).await;
    env.cluster.wait_gone(&certificates, "shop-https", SOON).await;
    env.quiet(Duration::from_secs(3)).await;
}

#[tokio::test]
async fn somebody_elses_certificate_is_left_alone() {
    let (env, _operator) = GatewayEnvironment::open("theirs", Habits::of(Answer::Private)).await;
    let ca = Ca::new("theirs").unwrap();
    env.cluster.apply(&env.namespace, &manifests::ca("internal", &ca)).await;
    let theirs = manifests::certificate("shop-https", "internal", &["theirs.test"]);
    env.cluster.apply(&env.namespace, &theirs).await;
    let certificates: Api<Certificate> = env.cluster.api(&env.namespace);
    let before = env
        .cluster
        .wait_condition(&certificates, "shop-https", "Ready", "True", SOON)
        .await;
    env.gateway("shop", &https(made())).await;
    let found = env
        .listener("shop", "https", "ResolvedRefs", "CertificateConflict")
        .await;
    assert!(found["message"].as_str().unwrap().contains("shop-https"), "{found}");
    env.programmed("shop").await;
    env.quiet(Duration::from_secs(2)).await;
    let after = certificates.get("shop-https").await.unwrap();
    assert_eq!(after.spec, before.spec);
    assert!(after.owner_references().is_empty());
    env.gateways().delete("shop", &DeleteParams::default()).await.unwrap();
    env.cluster.wait_gone(&env.services(), "shop", SOON).await;
    assert!(certificates.get_opt("shop-https").await.unwrap().is_some());
}

#[tokio::test]
async fn secrets_of_the_users_are_looked_at() {
    let (env, _operator) = GatewayEnvironment::open("refs", Habits::of(Answer::Private)).await;
    let refs = |name: &str| https(json!({"certificateRefs": [{"name": name}]}));
    env.gateway("shop", &refs("mine")).await;
    let found = env
        .listener("shop", "https", "ResolvedRefs", "InvalidCertificateRef")
        .await;
    assert!(found["message"].as_str().unwrap().contains("mine"), "{found}");
    let ca = Ca::new("refs").unwrap();
    env.cluster.apply(&env.namespace, &manifests::ca("internal", &ca)).await;
    env.cluster
        .apply(
            &env.namespace,
            &manifests::certificate("mine", "internal", &["shop.test"]),
        )
        .await;
    env.gateway("shop", &refs("mine-tls")).await;
    env.listener("shop", "https", "ResolvedRefs", "ResolvedRefs").await;
    let gateway = eventually("its end", SOON, || async {
        let gateway = env.gateways().get("shop").await.ok()?;
        listener_of(&gateway, "https")?["certificate"]["notAfter"]
            .is_string()
            .then_some(gateway)
    })
    .await;
    assert_eq!(
        listener_of(&gateway, "https").unwrap()["certificate"]["secretName"],
        "mine-tls"
    );
    // Broken by a hand: this listener says so, and no other.
    let secrets: Api<Secret> = env.cluster.api(&env.namespace);
    let made: Secret = serde_json::from_value(json!({"metadata": {"name": "broken"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": "no certificate", "tls.key": "no key"}}))
    .unwrap();
    secrets.create(&kube::api::PostParams::default(), &made).await.unwrap();
    env.gateway("shop", &refs("broken")).await;
    let found = env
        .listener("shop", "https", "ResolvedRefs", "InvalidCertificateRef")
        .await;
    assert!(!found["message"].as_str().unwrap().contains("no key"), "{found}");
    let gateway = env.programmed("shop").await;
    assert_eq!(
        listener_condition(&gateway, "http", "ResolvedRefs").unwrap()["status"],
        "True"
    );
}

#[tokio::test]
async fn a_network_policy_admits_the_ports_of_the_listeners_while_it_is_wanted() {
    let (env, _operator) = GatewayEnvironment::open("policy", Habits::of(Answer::Private)).await;
    let policies: Api<NetworkPolicy> = env.cluster.api(&env.namespace);
    let with = |enabled: bool, target: i32, service: Value| {
        json!({"service": service, "target": {"selector": {"app": "shop"}},
            "listeners": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": target}],
            "networkPolicy": {"enabled": enabled}})
    };
    let gke = || json!({"provider": "GKE"});
    env.gateway("shop", &with(true, 8080, gke())).await;
    env.programmed("shop").await;
    let policy = policies.get("gatehouse-shop").await.unwrap();
    assert_eq!(
        json!(policy.spec),
        json!({"podSelector": {"matchLabels": {"app": "shop"}}, "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": 8080, "protocol": "TCP"}]}]})
    );
    assert_eq!(policy.owner_references()[0].name, "shop");
    let is_at = |port: i32| {
        move |policy: &NetworkPolicy| {
            json!(policy.spec)["ingress"][0]["ports"] == json!([{"port": port, "protocol": "TCP"}])
        }
    };
    // Healed, and changed with the listeners.
    let open = json!({"spec": {"ingress": [{}]}});
    env.patch(&policies, "gatehouse-shop", &open).await;
    env.cluster
        .wait(&policies, "gatehouse-shop", "healed", SOON, is_at(8080))
        .await;
    policies
        .delete("gatehouse-shop", &DeleteParams::default())
        .await
        .unwrap();
    env.cluster
        .wait(&policies, "gatehouse-shop", "made again", SOON, |it| {
            it.uid() != policy.uid()
        })
        .await;
    env.gateway("shop", &with(true, 9090, gke())).await;
    env.cluster
        .wait(&policies, "gatehouse-shop", "moved", SOON, is_at(9090))
        .await;
    // Ranges count where the Pods see who comes.
    let local =
        json!({"provider": "GKE", "externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["198.51.100.0/24"]});
    env.gateway("shop", &with(true, 9090, local)).await;
    let limited = env
        .cluster
        .wait(&policies, "gatehouse-shop", "limited", SOON, |it| {
            json!(it.spec)["ingress"][0]["from"].is_array()
        })
        .await;
    let from = json!(limited.spec)["ingress"][0]["from"].clone();
    assert!(
        from.as_array()
            .unwrap()
            .contains(&json!({"ipBlock": {"cidr": "198.51.100.0/24"}})),
        "{from}"
    );
    assert!(
        from.as_array().unwrap().len() > 1,
        "the health checks of the provider come in: {from}"
    );
    env.gateway("shop", &with(false, 9090, gke())).await;
    env.cluster.wait_gone(&policies, "gatehouse-shop", SOON).await;

    // Another owner's of that name is left alone.
    let theirs: NetworkPolicy = serde_json::from_value(
        json!({"metadata": {"name": "gatehouse-shop"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}),
    )
    .unwrap();
    let theirs = policies
        .create(&kube::api::PostParams::default(), &theirs)
        .await
        .unwrap();
    env.gateway("shop", &with(true, 9090, gke())).await;
    let gateway = env.wait("shop", "Programmed", "False", "NetworkPolicyRefused").await;
    let words = message(&gateway, "Programmed");
    assert!(words.contains("NetworkPolicy gatehouse-shop"), "{words}");
    env.quiet(Duration::from_secs(2)).await;
    let still = policies.get("gatehouse-shop").await.unwrap();
    assert_eq!(still.resource_version(), theirs.resource_version());
    policies
        .delete("gatehouse-shop", &DeleteParams::default())
        .await
        .unwrap();
    env.programmed("shop").await;
    env.cluster
        .wait(&policies, "gatehouse-shop", "ours", SOON, is_at(9090))
        .await;
}

#[tokio::test]
async fn the_nodes_tell_whose_load_balancer_it_is() {
    let (env, _operator) = GatewayEnvironment::open("detected", Habits::of(Answer::AsTold(Provider::Gke))).await;
    let asked = json!({"service": {"scope": "Internal"}, "target": {"selector": {"app": "shop"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "TCP"}]});
    env.gateway("shop", &asked).await;
    env.wait("shop", "Accepted", "False", "UnknownProvider").await;
    assert!(env.cloud.versions().is_empty());
    // A node joins; within half a minute it is seen.
    let id = "gce://project/europe-west1-b/detected-one";
    env.node("detected-one", Some(id), &[("InternalIP", "10.0.9.1")]).await;
    let gateway = env.programmed("shop").await;
    env.wait("shop", "ExposureVerified", "True", "Internal").await;
    assert_eq!(gateway.status.unwrap().provider, Some(Provider::Gke));
    let service = env.service("shop").await;
    assert_eq!(
        service.annotations()["networking.gke.io/load-balancer-type"],
        "Internal"
    );
}
