//! Environment for Gateways: a namespace with an operator of its own behind a gate, a [`Cloud`], and Pods that are API
//! objects only, so that the controller manager makes real `EndpointSlices` of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use gatehouse_crds::gateway::Gateway;
use http::Method;
use k8s_openapi::api::core::v1::{Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::cloud::{Cloud, Habits};
use crate::cluster::{Cluster, condition};
use crate::control_plane;
use crate::gate::{Gate, Seen};
use crate::isolated_operator::through;
use crate::operator::{self, Operator};
use crate::process::eventually;
use crate::test_cluster::{self, TestCluster};

/// Two busy cores, and a retry on the way.
pub const SOON: Duration = Duration::from_secs(60);

/// See the module.
pub struct GatewayEnvironment {
    pub test_cluster: Arc<TestCluster>,
    pub cluster: Cluster,
    pub namespace: String,
    /// Before the API server.
    pub gate: Gate,
    pub cloud: Cloud,
    kubeconfig: PathBuf,
    pods: AtomicU8,
}

/// The world that the tests of a binary share: a control plane with its controller manager.
async fn shared() -> Arc<TestCluster> {
    static SHARED: OnceCell<Arc<TestCluster>> = OnceCell::const_new();
    let start = || async {
        let options = test_cluster::Options {
            control_plane: control_plane::Options {
                controller_manager: true,
                audit: false,
            },
            ..test_cluster::Options::default()
        };
        Arc::new(TestCluster::start(options).await.expect("a control plane"))
    };
    Arc::clone(SHARED.get_or_init(start).await)
}

impl GatewayEnvironment {
    /// A new namespace with its cloud. No operator yet.
    pub async fn new(name: &str, habits: Habits) -> Self {
        let test_cluster = shared().await;
        let cluster = test_cluster.cluster().await;
        cluster.install_crds().await.expect("the CRDs are installed");
        let namespace = cluster.namespace(name).await;
        let gate = Gate::start(test_cluster.plane.address(), test_cluster.plane.ca_pem()).expect("a gate");
        let kubeconfig = through(&test_cluster, &gate, &namespace).expect("a kubeconfig");
        // The cloud's connections are its own: what it does is not counted.
        let cloud = Cloud::start(cluster.client(), &namespace, habits).await;
        let env = Self {
            test_cluster,
            cluster,
            namespace,
            gate,
            cloud,
            kubeconfig,
            pods: AtomicU8::new(1),
        };
        env.node(&env.namespace, None, &[]).await;
        env
    }

    /// The same with an operator.
    pub async fn open(name: &str, habits: Habits) -> (Self, Operator) {
        let env = Self::new(name, habits).await;
        let operator = env.operator().await;
        (env, operator)
    }

    /// Starts an operator that stays within the namespace, and waits until it is ready.
    pub async fn operator(&self) -> Operator {
        let options = operator::Options::new(&self.kubeconfig)
            .arg(format!("--namespace={}", self.namespace))
            .arg(format!("--cluster-resource-namespace={}", self.namespace));
        self.test_cluster.operator(&options).await
    }

    pub fn gateways(&self) -> Api<Gateway> {
        self.cluster.api(&self.namespace)
    }

    pub fn services(&self) -> Api<Service> {
        self.cluster.api(&self.namespace)
    }

    /// Applies a Gateway; what an earlier apply had and this one has not is taken away. The generation.
    pub async fn gateway(&self, name: &str, spec: &Value) -> i64 {
        let object = gateway(name, spec);
        let applied = self.cluster.apply(&self.namespace, &object.to_string()).await;
        applied[0].metadata.generation.unwrap_or_default()
    }

    /// The same, for a spec that the API server may refuse.
    pub async fn try_gateway(&self, name: &str, spec: &Value) -> Result<i64, crate::Error> {
        let object = gateway(name, spec);
        let applied = self.cluster.try_apply(&self.namespace, &object.to_string()).await?;
        Ok(applied[0].metadata.generation.unwrap_or_default())
    }

    /// Waits until a condition says so of the Gateway as it is now.
    pub async fn wait(&self, name: &str, kind: &str, status: &str, reason: &str) -> Gateway {
        let generation = self
            .gateways()
            .get(name)
            .await
            .expect("the Gateway")
            .metadata
            .generation;
        self.cluster
            .wait(
                &self.gateways(),
                name,
                &format!("{kind}={status} {reason}"),
                SOON,
                |gateway| {
                    condition(gateway, kind).is_some_and(|condition| {
                        condition["status"] == status
                            && condition["reason"] == reason
                            && condition["observedGeneration"].as_i64() >= generation
                    })
                },
            )
            .await
    }

    /// Waits until the message of a condition has these words.
    pub async fn waits_to_say(&self, name: &str, kind: &str, words: &str) -> Gateway {
        let api = self.gateways();
        self.cluster
            .wait(&api, name, words, SOON, |gateway| {
                message(gateway, kind).contains(words)
            })
            .await
    }

    /// Waits until a Gateway has its address, and that address is checked.
    pub async fn programmed(&self, name: &str) -> Gateway {
        self.wait(name, "Programmed", "True", "Programmed").await
    }

    /// Waits until a listener has so many ready endpoints.
    pub async fn endpoints(&self, name: &str, listener: &str, count: i32) -> Gateway {
        let what = format!("with {count} endpoints for {listener}");
        self.cluster
            .wait(&self.gateways(), name, &what, SOON, |gateway| {
                listener_of(gateway, listener).is_some_and(|listener| listener["readyEndpoints"] == count)
            })
            .await
    }

    /// Waits until a listener says so.
    pub async fn listener(&self, name: &str, listener: &str, kind: &str, reason: &str) -> Value {
        let what = format!("{listener}: {kind} {reason}");
        let found = self
            .cluster
            .wait(&self.gateways(), name, &what, SOON, |gateway| {
                listener_condition(gateway, listener, kind).is_some_and(|condition| condition["reason"] == reason)
            })
            .await;
        listener_condition(&found, listener, kind).expect("it was just there")
    }

    /// A Service that must be there.
    pub async fn service(&self, name: &str) -> Service {
        let found = self.services().get(name).await;
        found.unwrap_or_else(|error| panic!("Service {name}: {error}"))
    }

    /// Merges `patch` into an object, as a person with kubectl does.
    pub async fn patch<K>(&self, api: &Api<K>, name: &str, patch: &Value) -> K
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let params = PatchParams {
            field_manager: Some("kubectl-edit".to_owned()),
            ..PatchParams::default()
        };
        api.patch(name, &params, &Patch::Merge(patch))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Annotates a Gateway.
    pub async fn annotate(&self, name: &str, key: &str, value: &str) {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.patch(&self.gateways(), name, &patch).await;
    }

    /// A Pod with these labels and ports, which runs; ready or not.
    pub async fn pod(&self, name: &str, labels: &[(&str, &str)], ports: &Value, ready: bool) {
        let accounts: Api<ServiceAccount> = self.cluster.api(&self.namespace);
        // Admission wants it, and its controller makes it a moment after the namespace.
        eventually("the default service account", SOON, || async {
            accounts.get_opt("default").await.ok().flatten()
        })
        .await;
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            // Endpoints are of Pods on an existing node.
            "spec": {"nodeName": self.namespace, "containers": [{"name": "app", "image": "app", "ports": ports}]},
        }))
        .expect("a Pod");
        let pods: Api<Pod> = self.cluster.api(&self.namespace);
        pods.create(&PostParams::default(), &pod)
            .await
            .expect("the Pod is made");
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        let ip = format!("10.244.0.{number}");
        let patch = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("the Pod runs");
        self.pod_ready(name, ready).await;
    }

    /// Returns a kubelet's condition for a Pod's readiness.
    pub async fn pod_ready(&self, name: &str, ready: bool) {
        let pods: Api<Pod> = self.cluster.api(&self.namespace);
        let status = if ready { "True" } else { "False" };
        let patch = json!({"status": {
            "conditions": [{"type": "Ready", "status": status}],
            "containerStatuses": [{"name": "app", "ready": ready, "restartCount": 0, "image": "app", "imageID": "app",
                "state": {"running": {}}}],
        }});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("the Pod's status");
    }

    /// A node; it belongs to the whole cluster.
    pub async fn node(&self, name: &str, provider_id: Option<&str>, addresses: &[(&str, &str)]) {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"providerID": provider_id},
        }))
        .expect("a node");
        let nodes: Api<Node> = Api::all(self.cluster.client());
        nodes
            .create(&PostParams::default(), &node)
            .await
            .expect("the node is made");
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|(kind, address)| json!({"type": kind, "address": address}))
            .collect();
        let patch = json!({"status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]}});
        nodes
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("the node's status");
    }

    /// Waits for an event of a Gateway whose note has `words` in it.
    pub async fn event(&self, name: &str, reason: &str, words: &str) -> Event {
        eventually(&format!("the event {reason} of {name}"), SOON, || async {
            let events = self.cluster.events("Gateway", &self.namespace, name).await;
            events.into_iter().find(|event| {
                event.reason.as_deref() == Some(reason)
                    && event.note.as_deref().is_some_and(|note| note.contains(words))
            })
        })
        .await
    }

    /// Returns the operator's requests so far that write, or read again what it does not watch.
    pub fn requests(&self) -> Vec<Seen> {
        let mut seen = self.gate.seen();
        seen.retain(|seen| !seen.path.contains("watch=true"));
        seen
    }

    /// Those of them that write.
    pub fn writes(&self) -> Vec<Seen> {
        let mut seen = self.requests();
        seen.retain(|seen| seen.method != Method::GET);
        seen
    }

    /// Asserts that the operator has written nothing for a while, and waits until that is so.
    pub async fn quiet(&self, pause: Duration) -> usize {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let before = self.writes().len();
            tokio::time::sleep(pause).await;
            let after = self.writes();
            if after.len() == before {
                return before;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the operator continues to write: {:#?}",
                after.iter().rev().take(8).collect::<Vec<_>>()
            );
        }
    }
}

fn gateway(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway", "metadata": {"name": name}, "spec": spec})
}

/// Returns a listener's status of a Gateway.
pub fn listener_of(gateway: &Gateway, listener: &str) -> Option<Value> {
    let listeners = &gateway.status.as_ref()?.listeners;
    let found = listeners.iter().find(|found| found.name == listener)?;
    serde_json::to_value(found).ok()
}

/// A condition of a listener.
pub fn listener_condition(gateway: &Gateway, listener: &str, kind: &str) -> Option<Value> {
    let listener = listener_of(gateway, listener)?;
    let conditions = listener["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind).cloned()
}

/// The addresses in a Gateway's status.
pub fn addresses(gateway: &Gateway) -> Vec<String> {
    let addresses = gateway.status.iter().flat_map(|status| &status.addresses);
    addresses.map(|address| address.value.clone()).collect()
}

/// The message of a condition.
pub fn message(gateway: &Gateway, kind: &str) -> String {
    let found = condition(gateway, kind).unwrap_or_else(|| panic!("no condition {kind}"));
    found["message"].as_str().unwrap_or_default().to_owned()
}

/// The reason of a condition.
pub fn reason(gateway: &Gateway, kind: &str) -> String {
    let found = condition(gateway, kind).unwrap_or_else(|| panic!("no condition {kind}"));
    found["reason"].as_str().unwrap_or_default().to_owned()
}
