//! A namespace with an operator of its own that stays within it, and a gate on each side of the operator.
//!
//! Many environments share one [`TestCluster`]: what happens at one's gates, and to its operator, affects no other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_crds::certificate::Certificate;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::chain::{self, Chain};
use crate::cluster::{Cluster, condition};
use crate::gate::Gate;
use crate::kubeconfig::Identity;
use crate::operator::{self, Operator};
use crate::pki::write_private;
use crate::process::eventually;
use crate::test_cluster::TestCluster;
use crate::{Error, manifests};

/// Two busy cores, and a retry on the way.
pub const SOON: Duration = Duration::from_secs(60);

/// See the module.
pub struct IsolatedOperator {
    pub test_cluster: Arc<TestCluster>,
    pub cluster: Cluster,
    pub namespace: String,
    /// Before Pebble.
    pub ca: Gate,
    /// Before the API server.
    pub api: Gate,
    kubeconfig: PathBuf,
}

impl IsolatedOperator {
    /// A new namespace in `test_cluster`, and the gates. No operator yet.
    pub async fn new(test_cluster: &Arc<TestCluster>, name: &str) -> Self {
        let cluster = test_cluster.cluster().await;
        cluster.install_crds().await.expect("the CRDs are installed");
        let namespace = cluster.namespace(name).await;
        let ca = Gate::start(test_cluster.pebble().address(), test_cluster.pebble().ca_pem()).expect("a gate");
        let api = Gate::start(test_cluster.plane.address(), test_cluster.plane.ca_pem()).expect("a gate");
        let kubeconfig = through(test_cluster, &api, &namespace).expect("a kubeconfig");
        Self {
            test_cluster: Arc::clone(test_cluster),
            cluster,
            namespace,
            ca,
            api,
            kubeconfig,
        }
    }

    /// Returns the options of this environment's operators: within the namespace, through the gate.
    pub fn options(&self) -> operator::Options {
        operator::Options::new(&self.kubeconfig)
            .arg(format!("--namespace={}", self.namespace))
            .arg(format!("--cluster-resource-namespace={}", self.namespace))
    }

    /// Starts an operator and waits until it is ready.
    pub async fn operator(&self) -> Operator {
        self.test_cluster.operator(&self.options()).await
    }

    /// Applies manifests to the namespace.
    pub async fn apply(&self, yaml: &str) {
        self.cluster.apply(&self.namespace, yaml).await;
    }

    /// Makes the Issuer `acme` (DNS-01 at Knot, Pebble by way of the gate) and waits until it is ready.
    pub async fn acme_issuer(&self) {
        let directory = format!("https://{}/dir", self.ca.address());
        let yaml = manifests::acme_dns01("acme", &directory, self.ca.ca_pem(), self.test_cluster.knot());
        self.apply(&yaml).await;
        let issuers = self.cluster.api::<gatehouse_crds::issuer::Issuer>(&self.namespace);
        self.cluster
            .wait_condition(&issuers, "acme", "Ready", "True", SOON)
            .await;
    }

    pub fn certificates(&self) -> Api<Certificate> {
        self.cluster.api(&self.namespace)
    }

    /// A host name of Knot's zone that no other scene has.
    pub fn host(&self, name: &str) -> String {
        format!("{name}.{}.example.test", self.namespace)
    }

    /// Waits until a Certificate is ready, and verifies what is in its Secret against Pebble's root.
    pub async fn verified(&self, name: &str, names: &[&str]) -> Chain {
        let root = self.test_cluster.pebble().root().await.expect("Pebble's root");
        self.verified_by(name, names, &root, SOON).await
    }

    /// The same against any root.
    pub async fn verified_by(&self, name: &str, names: &[&str], root_pem: &str, within: Duration) -> Chain {
        self.cluster
            .wait_condition(&self.certificates(), name, "Ready", "True", within)
            .await;
        let secret = self.cluster.secret(&self.namespace, &format!("{name}-tls")).await;
        chain::assert_chain(&secret.expect("the Secret exists"), root_pem, names)
    }

    /// Waits until a Certificate is not Ready for this reason, and says when it is tried again.
    pub async fn failed(&self, name: &str, reason: &str) -> Certificate {
        let certificate = self
            .cluster
            .wait(&self.certificates(), name, reason, SOON, |certificate| {
                condition(certificate, "Ready")
                    .is_some_and(|ready| ready["status"] == "False" && ready["reason"] == reason)
            })
            .await;
        let status = certificate.status.clone().expect("a status");
        assert_eq!(status.last_failure.expect("a failure").reason, reason);
        assert!(status.next_attempt_time.is_some(), "the next attempt is reported");
        certificate
    }

    /// Waits for an event and returns its note.
    pub async fn event(&self, kind: &str, name: &str, reason: &str) -> String {
        eventually(&format!("the event {reason} of {name}"), SOON, || async {
            let events = self.cluster.events(kind, &self.namespace, name).await;
            let found = events.into_iter().find(|event| event.reason.as_deref() == Some(reason));
            found.map(|event| event.note.unwrap_or_default())
        })
        .await
    }

    /// Asks for a renewal as a user does, in a later second than anything before.
    pub async fn request_renewal(&self, name: &str) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = Timestamp::now().to_string();
        let note = json!({"metadata": {"annotations": {"gatehouse.dev/renew-requested-at": now}}});
        let (api, parameters) = (self.certificates(), PatchParams::default());
        let patched = api.patch(name, &parameters, &Patch::Merge(note)).await;
        patched.expect("the Certificate is annotated");
    }

    /// Orders that Pebble made for this scene.
    pub fn orders(&self) -> usize {
        self.ca.successes(&Method::POST, "/order-plz")
    }

    /// Certificates that Pebble was brought to issue for this scene.
    pub fn finalized(&self) -> usize {
        self.ca.successes(&Method::POST, "/finalize-order/")
    }

    /// Names of the Secrets that hold keys of orders in flight.
    pub async fn order_keys(&self) -> Vec<String> {
        let secrets = self.cluster.api::<Secret>(&self.namespace);
        let list = secrets
            .list(&ListParams::default())
            .await
            .expect("the API server answers");
        let names = list.items.into_iter().filter_map(|secret| secret.metadata.name);
        names.filter(|name| name.starts_with("gatehouse-order-")).collect()
    }
}

/// The administrator's kubeconfig by way of a gate.
pub fn through(test_cluster: &TestCluster, gate: &Gate, name: &str) -> Result<PathBuf, Error> {
    by_gate(test_cluster, gate, test_cluster.plane.admin(), name)
}

/// Returns a kubeconfig that leads through a gate.
pub fn by_gate(test_cluster: &TestCluster, gate: &Gate, identity: &Identity, name: &str) -> Result<PathBuf, Error> {
    let ca = test_cluster.folder().join(format!("{name}-gate-ca.crt"));
    write_private(&ca, gate.ca_pem())?;
    let identity = Identity {
        ca,
        ..identity.through(gate.address())
    };
    identity.write(&test_cluster.folder().join(format!("{name}-gate.kubeconfig")))
}
