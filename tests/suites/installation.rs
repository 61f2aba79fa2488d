//! The objects of `config/` are accepted by a real API server, and the operator works with exactly the rights that they give:
//! nothing is forbidden, and nothing is allowed that is never used. What the operator says holds no secret.
// A scenario is read from top to bottom, however long; its values are made in place.
#![allow(
    clippy::too_many_lines,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::type_complexity,
    clippy::needless_pass_by_value,
    clippy::borrow_as_ptr
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: to panic is how it reports"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gatehouse_crds::alert::AlertPolicy;
use gatehouse_crds::certificate::Certificate;
use gatehouse_crds::gateway::Gateway;
use gatehouse_tests::isolated_operator::SOON;
use gatehouse_tests::operator::Options;
use gatehouse_tests::pki::Ca;
use gatehouse_tests::process::eventually;
use gatehouse_tests::{
    Receiver, TestCluster, chain, cluster, cluster::Cluster, control_plane, manifests, pebble, test_cluster, workspace,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role, RoleBinding};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const SYSTEM: &str = "gatehouse-system";
const ACCOUNT: &str = "gatehouse-operator";
const USER: &str = "system:serviceaccount:gatehouse-system:gatehouse-operator";

/// Rights that the runs below do not use, each with its reason. A right that is not used and not here is one too many.
const UNUSED: [(&str, &str); 0] = [];

async fn test_cluster() -> TestCluster {
    TestCluster::start(test_cluster::Options {
        control_plane: control_plane::Options {
            controller_manager: true,
            audit: true,
        },
        zones: vec!["example.test".to_owned()],
        pebble: Some(pebble::Options::default()),
    })
    .await
    .unwrap()
}

fn apply_folder(test_cluster: &TestCluster, folder: &Path) {
    let said = test_cluster
        .plane
        .kubectl(&["apply", "--server-side", "-k", &folder.display().to_string()])
        .unwrap();
    assert!(
        said.contains("deployment.apps/gatehouse-operator serverside-applied"),
        "{said}"
    );
}

/// The operator as its Deployment starts it, as far as a process without a Pod can be.
async fn installed(test_cluster: &TestCluster) -> Options {
    let kubeconfig = test_cluster.plane.kubeconfig_for(SYSTEM, ACCOUNT).await.unwrap();
    Options::new(&kubeconfig)
        .arg("--leader-elect")
        .arg("--log-level=debug")
        .env("POD_NAMESPACE", SYSTEM)
}

/// Requests of the service account in the audit log, finished ones only.
fn requests(test_cluster: &TestCluster) -> Vec<Value> {
    let log = test_cluster.plane.audit_log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["user"]["username"] == USER && event["stage"] != "ResponseStarted" || is_watch(event))
        .filter(|event| event["user"]["username"] == USER)
        .collect()
}

fn is_watch(event: &Value) -> bool {
    event["verb"] == "watch"
}

/// `group/resource verb`.
type Right = String;

fn used(requests: &[Value]) -> BTreeSet<Right> {
    let mut used = BTreeSet::new();
    for request in requests {
        let object = &request["objectRef"];
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let mut resource = format!("{}/{}", text("apiGroup"), text("resource"));
        if !text("subresource").is_empty() {
            resource = format!("{resource}/{}", text("subresource"));
        }
        let verb = request["verb"].as_str().unwrap_or_default();
        used.insert(format!("{resource} {verb}"));
        // An apply that made its object was asked for this right, too, after it had been let in.
        if verb == "patch" && request["responseStatus"]["code"] == 201 {
            used.insert(format!("{resource} create"));
        }
    }
    used
}

fn given(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut given = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                given.extend(rule.verbs.iter().map(|verb| format!("{group}/{resource} {verb}")));
            }
        }
    }
    given
}

fn assert_exact(test_cluster: &TestCluster, rules: &[PolicyRule]) {
    let requests = requests(test_cluster);
    let forbidden: Vec<_> = requests
        .iter()
        .filter(|request| request["responseStatus"]["code"] == 403)
        .map(|request| format!("{} {}", request["verb"], request["requestURI"]))
        .collect();
    assert!(forbidden.is_empty(), "forbidden: {forbidden:#?}");
    let (given, used) = (given(rules), used(&requests));
    let excused: BTreeSet<String> = UNUSED.iter().map(|(right, _)| (*right).to_owned()).collect();
    let idle: Vec<_> = given
        .difference(&used)
        .filter(|right| !excused.contains(*right))
        .collect();
    assert!(idle.is_empty(), "given and never used: {idle:#?}");
    let stale: Vec<_> = excused
        .iter()
        .filter(|right| used.contains(*right) || !given.contains(*right))
        .collect();
    assert!(stale.is_empty(), "excused without need: {stale:#?}");
}

async fn rules(cluster: &Cluster, cluster_role: bool, roles: &[(&str, &str)]) -> Vec<PolicyRule> {
    let mut all = Vec::new();
    if cluster_role {
        let role = Api::<ClusterRole>::all(cluster.client()).get(ACCOUNT).await.unwrap();
        all.extend(role.rules.unwrap_or_default());
    }
    for (namespace, name) in roles {
        let role = cluster.api::<Role>(namespace).get(name).await.unwrap();
        all.extend(role.rules.unwrap_or_default());
    }
    all
}

fn workload(kind: &str, extra: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: shop}}\nspec:\n  selector: {{matchLabels: {{app: \
         {kind}}}}}\n  {extra}\n  template:\n    metadata: {{labels: {{app: {kind}}}}}\n    spec:\n      nodeSelector: {{none: \
         here}}\n      containers: [{{name: shop, image: shop}}]\n"
    )
}

/// Each kind that can be restarted, with what keeps its Pods away.
const WORKLOADS: [(&str, &str); 3] = [
    ("Deployment", "replicas: 0"),
    ("StatefulSet", "replicas: 0"),
    ("DaemonSet", "revisionHistoryLimit: 1"),
];

/// Reports to `receiver` what is not ready in `app`, signed; with the Secret for that.
fn policy(app: &str, kind: &str, receiver: &Receiver) -> String {
    let namespaces = format!("  namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {app}}}}}\n");
    let namespaces = if kind == "AlertPolicy" { "" } else { &namespaces };
    let key = STANDARD.encode(kind.repeat(3));
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: hooks}}\nstringData: {{url: \"{}\", signing: whsec_{key}}}\n---\n\
         apiVersion: gatehouse.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: ops}}\nspec:\n{namespaces}  rules: {{notReady: {{after: 2s}}}}\n  \
         receivers:\n  - name: ops\n    webhook: {{urlSecretRef: {{name: hooks, key: url}}, signingSecretRef: {{name: hooks, key: signing}}}}\n",
        receiver.url(&format!("/{kind}/hook-token-0123456789"))
    )
}

async fn verified(cluster: &Cluster, namespace: &str, name: &str, root: &str, names: &[&str]) -> chain::Chain {
    let certificates = cluster.api::<Certificate>(namespace);
    cluster.wait_condition(&certificates, name, "Ready", "True", SOON).await;
    let secret = cluster.secret(namespace, &format!("{name}-tls")).await.unwrap();
    chain::assert_chain(&secret, root, names)
}

/// Each way to a certificate once, and everything that happens to one later.
#[allow(clippy::too_many_lines, reason = "one sequence of steps")]
#[tokio::test]
async fn the_operator_works_with_exactly_the_rights_of_config_default_and_tells_no_secret() {
    let test_cluster = test_cluster().await;
    let cluster = test_cluster.cluster().await;
    apply_folder(&test_cluster, &workspace::root().join("config/default"));
    cluster.install_crds().await.unwrap();
    let options = installed(&test_cluster).await.http01(test_cluster.http01_port);
    let mut operator = test_cluster.operator(&options).await;
    eventually("it leads", SOON, || async {
        (operator.metric("gatehouse_leader").await.ok()? == Some(1.0)).then_some(())
    })
    .await;

    let app = cluster.namespace("app").await;
    let (ca, knot, root) = (
        Ca::new("installation").unwrap(),
        test_cluster.knot(),
        test_cluster.pebble().root().await.unwrap(),
    );
    let eab = URL_SAFE_NO_PAD.encode([0x5a; 32]);
    let strict = test_cluster
        .another_pebble(pebble::Options {
            external_accounts: vec![("kid-1".to_owned(), eab.clone())],
            dns: Some(knot.address()),
            ..pebble::Options::default()
        })
        .await;

    // By a ClusterIssuer: its Secrets are the operator's.
    let cluster_ca = manifests::ca("internal", &ca).replace("kind: Issuer", "kind: ClusterIssuer");
    cluster.apply(SYSTEM, &cluster_ca).await;
    let bundle = STANDARD.encode(test_cluster.pebble().ca_pem());
    let http01 = format!(
        "apiVersion: gatehouse.dev/v1alpha1\nkind: ClusterIssuer\nmetadata: {{name: http01}}\nspec:\n  acme:\n    server: \
         {}\n    caBundle: {bundle}\n    privateKeySecretRef: {{name: http01-account}}\n    solvers: [{{http01: {{ingress: \
         {{ingressClassName: nginx}}}}}}]\n",
        test_cluster.pebble().directory()
    );
    cluster.apply(SYSTEM, &http01).await;
    // In the namespace itself.
    cluster
        .apply(
            &app,
            "apiVersion: gatehouse.dev/v1alpha1\nkind: Issuer\nmetadata: {name: own}\nspec: {selfSigned: {}}\n",
        )
        .await;
    cluster
        .apply(
            &app,
            &manifests::acme_dns01(
                "dns01",
                &test_cluster.pebble().directory(),
                test_cluster.pebble().ca_pem(),
                knot,
            ),
        )
        .await;
    let bound = manifests::acme_dns01("bound", &strict.directory(), strict.ca_pem(), knot).replace(
        "    privateKeySecretRef",
        "    externalAccountBinding: {keyID: kid-1, keySecretRef: {name: eab, key: secret}}\n    privateKeySecretRef",
    );
    cluster
        .apply(
            &app,
            &format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: eab}}\nstringData: {{secret: {eab}}}\n---\n{bound}"
            ),
        )
        .await;
    cluster
        .apply(
            &app,
            "apiVersion: v1\nkind: Secret\nmetadata: {name: keystore}\nstringData: {password: a-keystores-password}\n",
        )
        .await;
    for (kind, extra) in WORKLOADS {
        cluster.apply(&app, &workload(kind, extra)).await;
    }
    let by_cluster = |name: &str, issuer: &str, host: &str| {
        manifests::certificate(name, issuer, &[host]).replace(
            &format!("{{name: {issuer}}}"),
            &format!("{{name: {issuer}, kind: ClusterIssuer}}"),
        )
    };
    let shop = format!(
        "{}  keystores:\n    pkcs12: {{create: true, passwordSecretRef: {{name: keystore, key: password}}}}\n    jks: {{create: true, \
         passwordSecretRef: {{name: keystore, key: password}}}}\n  rollout: [{{kind: Deployment, name: shop}}, {{kind: \
         StatefulSet, name: shop}}, {{kind: DaemonSet, name: shop}}, {{kind: Deployment, name: later}}, {{kind: StatefulSet, name: \
         later}}, {{kind: DaemonSet, name: later}}]\n",
        by_cluster("shop", "internal", "shop.example.test")
    );
    cluster.apply(&app, &shop).await;
    cluster
        .apply(&app, &by_cluster("web", "http01", "web.example.test"))
        .await;
    cluster
        .apply(&app, &manifests::certificate("own", "own", &["own.example.test"]))
        .await;
    cluster
        .apply(&app, &manifests::certificate("wild", "dns01", &["*.wild.example.test"]))
        .await;
    cluster
        .apply(&app, &manifests::certificate("bound", "bound", &["bound.example.test"]))
        .await;
    cluster
        .apply(
            &app,
            &manifests::certificate("orphan-cert", "absent", &["orphan-cert.example.test"]),
        )
        .await;

    let receiver = Receiver::start().await;
    cluster.apply(&app, &policy(&app, "AlertPolicy", &receiver)).await;
    cluster
        .apply(SYSTEM, &policy(&app, "ClusterAlertPolicy", &receiver))
        .await;

    let first = verified(&cluster, &app, "shop", &ca.pem(), &["shop.example.test"]).await;
    verified(&cluster, &app, "web", &root, &["web.example.test"]).await;
    verified(&cluster, &app, "wild", &root, &["*.wild.example.test"]).await;
    verified(
        &cluster,
        &app,
        "bound",
        &strict.root().await.unwrap(),
        &["bound.example.test"],
    )
    .await;
    let own = cluster.api::<Certificate>(&app);
    cluster.wait_condition(&own, "own", "Ready", "True", SOON).await;
    cluster
        .wait_condition(&own, "orphan-cert", "Ready", "False", SOON)
        .await;
    eventually("the Ingress for challenges is taken away", SOON, || async {
        let api = cluster.api::<k8s_openapi::api::networking::v1::Ingress>(SYSTEM);
        api.list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
            .then_some(())
    })
    .await;

    // Each policy reports the one that is not ready, and is then forgotten.
    eventually("both policies reported", SOON, || async {
        let reported = receiver.reported();
        let count = reported
            .iter()
            .filter(|line| *line == "firing notReady orphan-cert")
            .count();
        (count == 2).then_some(())
    })
    .await;
    let policies = cluster.api::<AlertPolicy>(&app);
    cluster
        .wait_condition(&policies, "ops", "Delivering", "True", SOON)
        .await;
    policies.delete("ops", &DeleteParams::default()).await.unwrap();
    eventually("what fired is forgotten", SOON, || async {
        let api = cluster.api::<ConfigMap>(SYSTEM);
        let list = api
            .list(&ListParams::default().labels("gatehouse.dev/alert-state"))
            .await;
        (list.unwrap().items.len() == 1).then_some(())
    })
    .await;

    // Keys come and go; those of before the renewal are looked for, too.
    let mut secrets = every_secret(&cluster, &[&app, SYSTEM]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let renewed = format!(
        "{{name: shop, annotations: {{gatehouse.dev/renew-requested-at: \"{}\"}}}}",
        jiff::Timestamp::now()
    );
    cluster.apply(&app, &shop.replacen("{name: shop}", &renewed, 1)).await;
    cluster
        .wait(&own, "shop", "renewed", SOON, |certificate| {
            certificate.status.as_ref().and_then(|status| status.revision) == Some(2)
        })
        .await;
    let second = verified(&cluster, &app, "shop", &ca.pem(), &["shop.example.test"]).await;
    assert_ne!(first.public_key, second.public_key);
    let note = "gatehouse.dev/serial-number.shop";
    let templates = [
        cluster
            .api::<Deployment>(&app)
            .get("shop")
            .await
            .unwrap()
            .spec
            .unwrap()
            .template,
        cluster
            .api::<StatefulSet>(&app)
            .get("shop")
            .await
            .unwrap()
            .spec
            .unwrap()
            .template,
        cluster
            .api::<DaemonSet>(&app)
            .get("shop")
            .await
            .unwrap()
            .spec
            .unwrap()
            .template,
    ];
    // What is missing is waited for.
    cluster.wait_condition(&own, "shop", "RolledOut", "False", SOON).await;
    for (kind, extra) in WORKLOADS {
        let later = workload(kind, extra).replace("name: shop}", "name: later}");
        cluster.apply(&app, &later).await;
    }
    cluster.wait_condition(&own, "shop", "RolledOut", "True", SOON).await;
    for template in templates {
        let annotations = template.metadata.unwrap_or_default().annotations.unwrap_or_default();
        assert!(annotations.contains_key(note), "rolled: {annotations:?}");
    }

    secrets.extend(every_secret(&cluster, &[&app, SYSTEM]).await);
    secrets.push(test_cluster.plane.service_account(SYSTEM, ACCOUNT).await.unwrap().token);
    secrets.push(
        std::fs::read_to_string(
            test_cluster
                .plane
                .folder()
                .join(format!("{SYSTEM}.{ACCOUNT}.kubeconfig")),
        )
        .unwrap()
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: ").map(str::to_owned))
        .unwrap(),
    );
    secrets.push(ca.key_pem());
    assert!(secrets.len() > 12, "{}", secrets.len());
    own.delete("web", &DeleteParams::default()).await.unwrap();
    cluster.wait_gone(&own, "web", SOON).await;
    let metrics = operator.metrics().await.unwrap();
    assert!(metrics.contains("gatehouse_issuance_total"));
    let said = said(&cluster, &[&app, SYSTEM]).await;
    assert!(
        said.contains("\"reason\":\"Issued\"") && said.contains("\"reason\":\"Renewed\""),
        "events exist"
    );

    gateway(&cluster, &app).await;

    // A second replica is a standby and takes over, with the same rights.
    let mut second = test_cluster.operator(&options.clone().http01(0)).await;
    assert!(operator.terminate(SOON).await.is_some_and(|status| status.success()));
    eventually("the second leads", SOON, || async {
        (second.metric("gatehouse_leader").await.ok()? == Some(1.0)).then_some(())
    })
    .await;
    assert!(second.terminate(SOON).await.is_some_and(|status| status.success()));

    assert!(
        operator.log().contains("\"level\":\"DEBUG\""),
        "the run was at debug level"
    );
    for log in [operator.log(), second.log()] {
        assert_tells_none(&log, &secrets, "the log");
    }
    assert_tells_none(&said, &secrets, "a status or an event");
    assert_tells_none(&metrics, &secrets, "the metrics");
    assert_exact(&test_cluster, &rules(&cluster, true, &[(SYSTEM, ACCOUNT)]).await);
}

/// A Gateway of which nothing is known but its listeners, and everything that happens to one later.
async fn gateway(cluster: &Cluster, app: &str) {
    // Pools of Cilium speak for it, as far as the operator sees.
    let pools = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: \
                 ciliumloadbalancerippools.cilium.io}\nspec:\n  group: cilium.io\n  scope: Cluster\n  names: {kind: \
                 CiliumLoadBalancerIPPool, plural: ciliumloadbalancerippools}\n  versions:\n  - {name: v2, served: true, storage: \
                 true, schema: {openAPIV3Schema: {type: object}}}\n";
    cluster.apply("", pools).await;
    let spec = |service: Value, host: Option<&str>, policy: Option<i32>| {
        let mut listener =
            json!({"name": "https", "port": 443, "protocol": "HTTPS", "targetPort": policy.unwrap_or(8443)});
        if let Some(host) = host {
            listener["hostname"] = json!(host);
            listener["tls"] = json!({"certificate": {"issuerRef": {"name": "internal", "kind": "ClusterIssuer"}}});
        }
        let spec = json!({"service": service, "target": {"selector": {"app": "shop"}}, "listeners": [listener],
            "networkPolicy": {"enabled": policy.is_some()}});
        json!({"apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec})
            .to_string()
    };
    let (gateways, services) = (cluster.api::<Gateway>(app), cluster.api::<Service>(app));
    let (certificates, policies) = (cluster.api::<Certificate>(app), cluster.api::<NetworkPolicy>(app));
    cluster
        .apply(app, &spec(json!({}), Some("edge.example.test"), Some(8443)))
        .await;
    let pending = cluster
        .wait_condition(&gateways, "edge", "Programmed", "False", SOON)
        .await;
    assert_eq!(
        cluster::condition(&pending, "Programmed").unwrap()["reason"],
        "AddressPending"
    );
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}});
    let warned = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "edge.1"}, "type": "Warning", "reason": "Slow",
        "message": "the cloud is slow", "involvedObject": {"kind": "Service", "name": "edge", "namespace": app,
        "uid": services.get("edge").await.unwrap().uid()}});
    cluster.apply(app, &warned.to_string()).await;
    eventually("the words of the cloud", SOON, || async {
        let gateway = gateways.get("edge").await.ok()?;
        let said = cluster::condition(&gateway, "Programmed")?;
        said["message"].as_str()?.contains("the cloud is slow").then_some(())
    })
    .await;
    services
        .patch_status("edge", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    cluster
        .wait_condition(&gateways, "edge", "Programmed", "True", SOON)
        .await;
    cluster
        .wait_condition(&certificates, "edge-https", "Ready", "True", SOON)
        .await;
    // Each thing changed, then taken away.
    let host = "other.example.test";
    cluster.apply(app, &spec(json!({}), Some(host), Some(9443))).await;
    cluster
        .wait(&certificates, "edge-https", "changed", SOON, |it| {
            it.spec.dns_names == [host]
        })
        .await;
    cluster
        .wait(&policies, "gatehouse-edge", "changed", SOON, |it| {
            json!(it.spec).to_string().contains("9443")
        })
        .await;
    let classed = json!({"name": "edge", "provider": "Other", "loadBalancerClass": "a.test/b"});
    let applied = cluster.apply(app, &spec(classed, None, None)).await;
    cluster.wait_gone(&certificates, "edge-https", SOON).await;
    cluster.wait_gone(&policies, "gatehouse-edge", SOON).await;
    let before = services.get("edge").await.unwrap();
    let generation = applied[0].metadata.generation.unwrap().to_string();
    let consent = json!({"metadata": {"annotations": {"gatehouse.dev/recreate": generation}}});
    gateways
        .patch("edge", &PatchParams::default(), &Patch::Merge(&consent))
        .await
        .unwrap();
    cluster
        .wait(&services, "edge", "made again", SOON, |it| it.uid() != before.uid())
        .await;
}

/// Values of all Secrets that are secret.
async fn every_secret(cluster: &Cluster, namespaces: &[&str]) -> Vec<String> {
    let mut values = Vec::new();
    for namespace in namespaces {
        for secret in cluster
            .api::<Secret>(namespace)
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
        {
            for (key, value) in secret.data.unwrap_or_default() {
                if !matches!(key.as_str(), "tls.crt" | "ca.crt") {
                    values.push(String::from_utf8(value.0.clone()).unwrap_or_else(|_| STANDARD.encode(&value.0)));
                }
            }
        }
    }
    values
}

/// All that the operator wrote for people: statuses and events.
async fn said(cluster: &Cluster, namespaces: &[&str]) -> String {
    let mut said = String::new();
    for namespace in namespaces {
        for (version, kind) in [
            ("gatehouse.dev/v1alpha1", "Certificate"),
            ("gatehouse.dev/v1alpha1", "Issuer"),
            ("gatehouse.dev/v1alpha1", "ClusterIssuer"),
            ("events.k8s.io/v1", "Event"),
        ] {
            let api = cluster.dynamic(version, kind, namespace).await.unwrap();
            for object in api.list(&ListParams::default()).await.unwrap().items {
                said.push_str(&object.data.to_string());
                said.push('\n');
            }
        }
    }
    said
}

/// No line of a secret as written, and no longer piece of it in base64.
fn assert_tells_none(text: &str, secrets: &[String], place: &str) {
    for (number, secret) in secrets.iter().enumerate() {
        let lines = secret
            .lines()
            .map(str::trim)
            .filter(|line| line.len() >= 8 && !line.starts_with("-----"));
        let encoded = STANDARD.encode(secret);
        // The middle: the beginning of a PEM is that of every other.
        let middle = encoded.get(encoded.len() / 3..).unwrap_or_default();
        let middle = middle.get(..40.min(middle.len())).unwrap_or_default();
        for piece in lines.chain((middle.len() >= 12).then_some(middle)) {
            assert!(!text.contains(piece), "secret number {number} is in {place}");
        }
    }
    assert!(!text.contains("PRIVATE KEY-----"), "a private key is in {place}");
}

/// An overlay over two namespaces, as `config/namespaced` says that it is made.
fn overlay(folder: &Path, namespaces: &[&str]) -> PathBuf {
    for part in ["config", "crds"] {
        copy(&workspace::root().join(part), &folder.join(part));
    }
    let own = folder.join("config/ours");
    for namespace in namespaces {
        let watched = own.join(namespace);
        std::fs::create_dir_all(&watched).unwrap();
        let text = format!("namespace: {namespace}\nresources: [../../namespaced/watched]\n");
        std::fs::write(watched.join("kustomization.yaml"), text).unwrap();
    }
    let text = format!("resources: [../crd, ../manager, {}]\n", namespaces.join(", "));
    std::fs::write(own.join("kustomization.yaml"), text).unwrap();
    own
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn with_roles_alone_it_stays_within_its_namespaces() {
    let test_cluster = test_cluster().await;
    let cluster = test_cluster.cluster().await;
    cluster
        .apply(
            "",
            &["app", "a", "b", "c"]
                .map(|name| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"))
                .join("---\n"),
        )
        .await;
    apply_folder(&test_cluster, &workspace::root().join("config/namespaced"));
    let folder = tempfile::tempdir().unwrap();
    apply_folder(&test_cluster, &overlay(folder.path(), &["a", "b"]));
    cluster.install_crds().await.unwrap();
    let options = installed(&test_cluster)
        .await
        .arg("--namespace=a,b")
        .http01(test_cluster.http01_port);
    let operator = test_cluster.operator(&options).await;

    let ca = Ca::new("namespaced").unwrap();
    let pebble = test_cluster.pebble();
    cluster
        .apply(
            "a",
            &manifests::acme_dns01("acme", &pebble.directory(), pebble.ca_pem(), test_cluster.knot()),
        )
        .await;
    for namespace in ["b", "c"] {
        cluster.apply(namespace, &manifests::ca("internal", &ca)).await;
        let yaml = manifests::certificate("web", "internal", &["web.example.test"]);
        cluster.apply(namespace, &yaml).await;
    }
    cluster
        .apply("a", &manifests::certificate("web", "acme", &["web.example.test"]))
        .await;
    let far = manifests::certificate("far", "public", &["far.example.test"])
        .replace("{name: public}", "{name: public, kind: ClusterIssuer}");
    cluster.apply("a", &far).await;

    let root = pebble.root().await.unwrap();
    verified(&cluster, "a", "web", &root, &["web.example.test"]).await;
    verified(&cluster, "b", "web", &ca.pem(), &["web.example.test"]).await;
    let certificates = cluster.api::<Certificate>("a");
    let far = cluster
        .wait_condition(&certificates, "far", "Ready", "False", SOON)
        .await;
    let ready = cluster::condition(&far, "Ready").unwrap();
    assert_eq!(ready["reason"], "IssuerNotReady");
    assert!(
        ready["message"]
            .as_str()
            .is_some_and(|message| message.contains("cannot read ClusterIssuer public; use an Issuer")),
        "{ready}"
    );
    assert!(operator.log().contains("\"level\":\"DEBUG\""));

    let elsewhere = cluster.api::<Certificate>("c").get("web").await.unwrap();
    assert!(elsewhere.status.is_none(), "{:?}", elsewhere.status);
    assert!(cluster.secret("c", "web-tls").await.is_none());
    let strayed: Vec<String> = requests(&test_cluster)
        .iter()
        .filter(|request| {
            let namespace = request["objectRef"]["namespace"].as_str().unwrap_or_default();
            !["a", "b", SYSTEM].contains(&namespace)
        })
        .map(|request| format!("{} {}", request["verb"], request["requestURI"]))
        .collect();
    assert!(strayed.is_empty(), "{strayed:#?}");
    let forbidden = requests(&test_cluster)
        .iter()
        .filter(|request| request["responseStatus"]["code"] == 403)
        .count();
    assert_eq!(forbidden, 0);

    // The Roles give in a namespace what the ClusterRole gives in all, less what has no namespace.
    let of_all = std::fs::read_to_string(workspace::root().join("config/rbac/clusterrole.yaml")).unwrap();
    let of_all: ClusterRole = serde_saphyr::from_multiple::<Value>(&of_all)
        .unwrap()
        .into_iter()
        .find(|document| document["kind"] == "ClusterRole")
        .map(|document| serde_json::from_value(document).unwrap())
        .unwrap();
    let of_all: BTreeSet<Right> = given(&of_all.rules.unwrap())
        .into_iter()
        .filter(|right| {
            ![
                "/clusterissuers",
                "/clusteralertpolicies",
                "namespaces",
                "/nodes",
                "/ciliumloadbalancerippools",
                "/configmaps",
            ]
            .iter()
            .any(|all| right.contains(all))
        })
        .collect();
    for namespace in ["a", "b", "app"] {
        let role = rules(&cluster, false, &[(namespace, "gatehouse-operator-watched")]).await;
        assert_eq!(given(&role), of_all);
    }
    let cluster_roles = Api::<ClusterRole>::all(cluster.client())
        .list(&ListParams::default())
        .await
        .unwrap();
    assert!(cluster_roles.iter().all(|role| !role.name_any().contains("gatehouse")));
}

/// Missing rights are reported where they can be granted, and affect nothing else.
#[tokio::test]
async fn a_namespace_without_its_rights_is_told_and_the_others_go_on() {
    const ROLE: &str = "gatehouse-operator-watched";
    let test_cluster = test_cluster().await;
    let cluster = test_cluster.cluster().await;
    let names = ["good", "unbound", "readonly"];
    let namespaces = names.map(|name| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"));
    cluster.apply("", &namespaces.join("---\n")).await;
    let folder = tempfile::tempdir().unwrap();
    apply_folder(&test_cluster, &overlay(folder.path(), &names));
    cluster.install_crds().await.unwrap();
    let binding = cluster.api::<RoleBinding>("unbound").get(ROLE).await.unwrap();
    let unbind = async || {
        let bindings = cluster.api::<RoleBinding>("unbound");
        bindings.delete(ROLE, &DeleteParams::default()).await.unwrap();
    };
    let bind = async || {
        let mut fresh = binding.clone();
        fresh.metadata = kube::core::ObjectMeta {
            name: Some(ROLE.to_owned()),
            ..Default::default()
        };
        let bindings = cluster.api::<RoleBinding>("unbound");
        bindings.create(&PostParams::default(), &fresh).await.unwrap();
    };
    let whole = cluster.api::<Role>("readonly").get(ROLE).await.unwrap().rules.unwrap();
    let allow = async |rules: &[PolicyRule]| {
        let patch = Patch::Merge(serde_json::json!({ "rules": rules }));
        let roles = cluster.api::<Role>("readonly");
        roles.patch(ROLE, &PatchParams::default(), &patch).await.unwrap();
    };
    let mut readonly = whole.clone();
    for rule in &mut readonly {
        if rule.resources.iter().flatten().any(|resource| resource == "secrets") {
            rule.verbs
                .retain(|verb| ["get", "list", "watch"].contains(&verb.as_str()));
        }
    }
    unbind().await;
    allow(&readonly).await;
    let options = installed(&test_cluster)
        .await
        .arg(format!("--namespace={}", names.join(",")));
    let operator = test_cluster.operator(&options).await;

    let ca = Ca::new("rights").unwrap();
    for name in names {
        cluster.apply(name, &manifests::ca("internal", &ca)).await;
        let web = manifests::certificate("web", "internal", &["web.example.test"]);
        cluster.apply(name, &web).await;
    }
    verified(&cluster, "good", "web", &ca.pem(), &["web.example.test"]).await;
    // The alerts of the others fire, too.
    let receiver = Receiver::start().await;
    let policy = serde_json::json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "AlertPolicy", "metadata": {"name": "ops"},
        "spec": {
            "rules": {"notReady": {"after": "1s"}},
            "receivers": [{"name": "ops", "webhook": {"url": receiver.url("/hook")}}]
        }
    });
    for name in ["good", "unbound"] {
        cluster.apply(name, &policy.to_string()).await;
        let lost = manifests::certificate("lost", "absent", &["lost.example.test"]);
        cluster.apply(name, &lost).await;
    }
    let alarmed = async |times: usize| {
        eventually("an alert", 2 * SOON, || async {
            let reported = receiver.reported();
            let lost = reported.iter().filter(|reported| *reported == "firing notReady lost");
            (lost.count() == times).then_some(())
        })
        .await;
    };
    alarmed(1).await;
    // Without any right there is no status and no event; the log says what is missing, and where.
    for resource in ["certificates", "issuers", "secrets"] {
        let missing = format!("cannot list resource \\\"{resource}\\\"");
        eventually(&format!("a word about {resource}"), SOON, || async {
            let log = operator.log();
            let mut lines = log.lines().filter(|line| line.contains("\"level\":\"WARN\""));
            lines
                .any(|line| line.contains(&missing) && line.contains("in the namespace \\\"unbound\\\""))
                .then_some(())
        })
        .await;
    }
    let certificate = cluster.api::<Certificate>("unbound").get("web").await.unwrap();
    assert!(certificate.status.is_none(), "{:?}", certificate.status);
    // Where the Secret alone may not be written, the Certificate says so.
    let certificates = cluster.api::<Certificate>("readonly");
    let reported = cluster
        .wait_condition(&certificates, "web", "Ready", "False", SOON)
        .await;
    let ready = cluster::condition(&reported, "Ready").unwrap();
    assert_eq!(ready["reason"], "SecretWriteFailed", "{ready}");
    let message = ready["message"].as_str().unwrap();
    assert!(message.contains("cannot patch resource \"secrets\""), "{message}");
    eventually("an event", SOON, || async {
        let events = cluster.events("Certificate", "readonly", "web").await;
        let notes = events.into_iter().filter_map(|event| event.note);
        notes.into_iter().find(|note| note.contains("cannot patch resource"))
    })
    .await;

    bind().await;
    allow(&whole).await;
    let request = async |namespace: &str| {
        let now = jiff::Timestamp::now().to_string();
        let patch = serde_json::json!({"metadata": {"annotations": {"gatehouse.dev/renew-requested-at": now}}});
        let certificates = cluster.api::<Certificate>(namespace);
        certificates
            .patch("web", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    };
    request("readonly").await;
    for name in ["unbound", "readonly"] {
        verified(&cluster, name, "web", &ca.pem(), &["web.example.test"]).await;
    }
    alarmed(2).await;

    // Taken away while it runs: what is served there stays, and the others are renewed.
    unbind().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for name in ["unbound", "good"] {
        request(name).await;
    }
    let revision = |certificate: &Certificate| certificate.status.as_ref().and_then(|status| status.revision);
    let certificates = cluster.api::<Certificate>("good");
    cluster
        .wait(&certificates, "web", "renewed", SOON, |it| revision(it) == Some(2))
        .await;
    let certificates = cluster.api::<Certificate>("unbound");
    assert_eq!(revision(&certificates.get("web").await.unwrap()), Some(1));
    verified(&cluster, "unbound", "web", &ca.pem(), &["web.example.test"]).await;
    bind().await;
    cluster
        .wait(&certificates, "web", "renewed, too", 2 * SOON, |it| {
            revision(it) == Some(2)
        })
        .await;
}
