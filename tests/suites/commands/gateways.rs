//! Gateways in the commands: objects and statuses that no operator wrote.

use gatehouse_crds::gateway::Gateway;
use gatehouse_tests::Cluster;

use super::*;

/// A namespace in the control plane that has no operator.
struct Place {
    test_cluster: Arc<TestCluster>,
    cluster: Cluster,
    namespace: String,
}

impl Place {
    async fn new(name: &str) -> Self {
        let test_cluster = lonely().await;
        let cluster = test_cluster.cluster().await;
        let namespace = cluster.namespace(name).await;
        Self {
            test_cluster,
            cluster,
            namespace,
        }
    }

    async fn run(&self, args: &[&str]) -> Said {
        let args: Vec<&str> = args.iter().copied().chain(["-n", &self.namespace]).collect();
        run(Some(&self.test_cluster.plane.kubeconfig()), &args).await
    }

    async fn apply(&self, object: Value) {
        self.cluster.apply(&self.namespace, &object.to_string()).await;
    }

    /// An Internal Gateway for `app=<name>`; gives its UID.
    async fn gateway(&self, name: &str, status: Value) -> String {
        self.apply(json!({
            "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "service": {"scope": "Internal", "provider": "GKE"}, "target": {"selector": {"app": name}},
                "listeners": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 3000}]
            }
        }))
        .await;
        let api: Api<Gateway> = self.cluster.api(&self.namespace);
        let patched = api
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&json!({"status": status})))
            .await
            .unwrap();
        patched.metadata.uid.unwrap()
    }

    /// A Certificate that is ready.
    async fn certificate(&self, name: &str) {
        self.apply(json!({
            "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Certificate", "metadata": {"name": name},
            "spec": {"secretName": format!("{name}-tls"), "issuerRef": {"name": "ca"}, "dnsNames": [format!("{name}.test")]}
        }))
        .await;
        let api: Api<Certificate> = self.cluster.api(&self.namespace);
        let status = json!({"status": {
            "conditions": [condition("Ready", "True", "Issued", "m"), condition("Issuing", "False", "Issued", "m")],
            "notAfter": "2999-01-01T00:00:00Z", "renewalTime": "2998-01-01T00:00:00Z"
        }});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .unwrap();
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1})
}

fn fine() -> Value {
    json!({
        "conditions": [
            condition("Accepted", "True", "Accepted", ""),
            condition("Programmed", "True", "Programmed", ""),
            condition("ExposureVerified", "True", "Internal", "All addresses are of private networks"),
        ],
        "addresses": [{"type": "IPAddress", "value": "10.20.0.7"}],
        "serviceName": "shop", "provider": "GKE",
        "listeners": [{"name": "http", "readyEndpoints": 2, "conditions": [condition("Programmed", "True", "Programmed", "")]}]
    })
}

fn public() -> Value {
    let mut status = fine();
    status["conditions"][2] = condition(
        "ExposureVerified",
        "False",
        "ExposureMismatch",
        "The scope is Internal, but 203.0.113.9 is a public address",
    );
    status["addresses"][0]["value"] = "203.0.113.9".into();
    status
}

/// The lines of a table that begin with one of these names, in their order.
fn order<'a>(said: &'a Said, names: &[&str]) -> Vec<&'a str> {
    let first = |line: &'a str| line.split_whitespace().next();
    said.out
        .lines()
        .filter_map(first)
        .filter(|name| names.contains(name))
        .collect()
}

#[tokio::test]
async fn status_lists_gateways_below_the_certificates_the_public_first() {
    let place = Place::new("cli-gateways").await;
    place.gateway("shop", fine()).await;
    let alone = place.run(&["status"]).await;
    alone.expect(
        0,
        &[
            "NAME   STATE   SCOPE      ADDRESS     VERDICT    ENDPOINTS   WHY\nshop   fine    Internal   10.20.0.7   verified   http 2\n",
            "\n1 gateway: 1 fine\n",
        ],
        &[],
    );
    assert!(!alone.out.contains("Gateways\n"), "one kind needs no heading");

    place.gateway("zoo", public()).await;
    place.gateway("new", json!({})).await;
    place.certificate("web").await;
    let both = place.run(&["status"]).await;
    let hint = format!("gatehouse status -n {} gateway/zoo", place.namespace);
    both.expect(
        1,
        &[
            "Certificates\nNAME ",
            "\nGateways\nNAME ",
            "203.0.113.9   MISMATCH ",
            "1 certificate: 1 fine; 3 gateways: 1 fine, 1 failing, 1 pending",
            &hint,
        ],
        &[],
    );
    assert_eq!(
        order(&both, &["web", "shop", "zoo", "new"]),
        ["web", "zoo", "new", "shop"]
    );
    place
        .run(&["status", "-o", "wide"])
        .await
        .expect(1, &["SERIAL", "PROVIDER   SERVICE", "LoadBalancer   GKE"], &[]);
    place
        .run(&["status", "-l", "app=shop"])
        .await
        .expect(0, &["1 gateway: 1 fine"], &[]);

    let list = place.run(&["status", "-o", "json"]).await.expect(1, &[], &[]).json();
    assert_eq!(list["kind"], "List");
    let kinds: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            format!(
                "{}/{}",
                item["kind"].as_str().unwrap(),
                item["metadata"]["name"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(kinds, ["Certificate/web", "Gateway/new", "Gateway/shop", "Gateway/zoo"]);
    let everywhere = run(Some(&place.test_cluster.plane.kubeconfig()), &["status", "-A"]).await;
    let zoo = |line: &str| line.starts_with(&place.namespace) && line.contains(" zoo ");
    assert!(everywhere.out.lines().any(zoo), "{}", everywhere.out);
}

#[tokio::test]
async fn the_story_of_a_gateway_is_told_by_its_name_and_of_two_by_the_kind() {
    let place = Place::new("cli-gateway-story").await;
    let uid = place.gateway("shop", fine()).await;
    let owner = json!([{"apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway", "name": "shop", "uid": uid, "controller": true}]);
    place
        .apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "ownerReferences": owner},
            "spec": {"type": "LoadBalancer", "selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80, "targetPort": 3000}]}
        }))
        .await;
    place
        .apply(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "shop-x1", "labels": {"kubernetes.io/service-name": "shop"}},
            "ports": [{"name": "http", "port": 3000, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.1.0.9"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "shop-9"}}]
        }))
        .await;
    place
        .apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}))
        .await;
    place
        .apply(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop-9", "labels": {"app": "shop"}},
            "spec": {"automountServiceAccountToken": false, "containers": [
                {"name": "app", "image": "app", "ports": [{"name": "web", "containerPort": 8080}]}]}
        }))
        .await;
    let parts = [
        "Gateway cli-gateway-story-",
        "/shop is fine",
        "What is wanted",
        "LoadBalancer, Internal",
        "http: 80/TCP to the Pods' port 3000",
        "What exists",
        "shop, LoadBalancer, made ",
        "10.20.0.7 (private)",
        "Who takes the traffic",
        "1 ready: shop-9",
        "no container declares the port 3000 (they declare web 8080/TCP)",
        "1 match the selector, 0 ready",
        "What happened",
        "What is next",
    ];
    for words in [
        &["status", "shop"][..],
        &["status", "gateway", "shop"],
        &["status", "ghgw/shop"],
    ] {
        let story = place.run(words).await;
        story.expect(0, &parts, &[]);
        let mut from = 0;
        for part in parts {
            from += story.out[from..]
                .find(part)
                .unwrap_or_else(|| panic!("{part:?} is not in its place:\n{}", story.out));
        }
        assert!(!story.out.contains("What to do"), "{}", story.out);
    }
    let object = place
        .run(&["status", "shop", "-o", "json"])
        .await
        .expect(0, &[], &[])
        .json();
    assert_eq!(object["kind"], "Gateway");

    // A Certificate of the same name comes first, as it always did.
    place.certificate("shop").await;
    place
        .run(&["status", "shop"])
        .await
        .expect(0, &["Certificate cli-gateway-story-"], &[]);
    place
        .run(&["status", "gateway/shop"])
        .await
        .expect(0, &["Gateway cli-"], &[]);
    place
        .run(&["status", "certificate", "shop"])
        .await
        .expect(0, &["Certificate cli-"], &[]);

    place.gateway("shop", public()).await;
    place.run(&["status", "gateway", "shop"]).await.expect(
        1,
        &[
            "/shop is failing: ExposureMismatch",
            "203.0.113.9 (public)",
            "What to do",
            "docs/runbooks/exposure-mismatch.md",
        ],
        &[],
    );
    place
        .run(&["status", "gateway", "absent"])
        .await
        .expect(1, &[], &["gateways.gatehouse.dev \"absent\" not found"]);
    place
        .run(&["status", "absent"])
        .await
        .expect(1, &[], &["\"absent\" not found", "and no Gateway"]);
    place
        .run(&["status", "secret", "shop"])
        .await
        .expect(2, &[], &["no story of the kind secret"]);
}

#[tokio::test]
async fn who_may_not_see_gateways_sees_certificates_and_is_told() {
    let place = Place::new("cli-gateway-rights").await;
    place.certificate("web").await;
    place.gateway("shop", public()).await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "old"},
        "rules": [{"apiGroups": ["gatehouse.dev"], "resources": ["certificates"], "verbs": ["get", "list", "watch"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "old"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "old"},
        "subjects": [{"kind": "ServiceAccount", "name": "old", "namespace": place.namespace}]});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "old"}});
    for object in [account, role, binding] {
        place.apply(object).await;
    }
    let old = place
        .test_cluster
        .plane
        .kubeconfig_for(&place.namespace, "old")
        .await
        .unwrap();
    let args = ["status", "-n", &place.namespace];
    run(Some(&old), &args).await.expect(
        0,
        &[
            "1 certificate: 1 fine\n",
            "Gateways are not shown: gateways.gatehouse.dev is forbidden",
        ],
        &[],
    );
    let json = run(Some(&old), &[&args[..], &["-o", "json"]].concat()).await;
    let json = json.expect(0, &[], &["Gateways are not shown"]).json();
    assert_eq!(json["items"].as_array().unwrap().len(), 1);
    run(Some(&old), &[&args[..], &["absent"]].concat()).await.expect(
        1,
        &[],
        &["certificates.gatehouse.dev \"absent\" not found"],
    );
}

#[tokio::test]
async fn watch_adds_gateways_that_change() {
    let place = Place::new("cli-gateway-watch").await;
    place.gateway("shop", fine()).await;
    let kubeconfig = place.test_cluster.plane.kubeconfig();
    let mut child = command(Some(&kubeconfig), &["status", "--watch", "-n", &place.namespace])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = async |words: &str| {
        let found = tokio::time::timeout(SOON, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(words) {
                    return;
                }
            }
            panic!("{words:?} does not come")
        });
        found.await.unwrap_or_else(|_| panic!("{words:?} does not come"));
    };
    until("1 gateway: 1 fine").await;
    place.gateway("shop", public()).await;
    until("MISMATCH").await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    let status = tokio::time::timeout(SOON, child.wait())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(status.code(), Some(1), "what it saw last is public");
}

#[tokio::test]
async fn names_of_both_kinds_complete_status() {
    let place = Place::new("cli-gateway-names").await;
    place.gateway("shop", fine()).await;
    place.certificate("shop-tls").await;
    let kubeconfig = place.test_cluster.plane.kubeconfig();
    let namespace = place.namespace.as_str();
    for (words, offered) in [
        (&["sh"][..], "shop-tls\tCertificate\nshop\tGateway\n:4\n"),
        (&["gateway", ""], "shop\tGateway\n:4\n"),
        (&["gateway/s"], "gateway/shop\tGateway\n:4\n"),
        (&["x"], ":4\n"),
    ] {
        let line = [&["__complete", "status", "-n", namespace][..], words].concat();
        assert_eq!(
            run(Some(&kubeconfig), &line).await.expect(0, &[], &[]).out,
            offered,
            "{words:?}"
        );
    }
}
