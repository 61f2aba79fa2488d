//! Environment of a test: a namespace of its own, and an operator that the tests of a binary share.
//!
//! The operator runs under the service account that `config/default` makes, and so with exactly its rights.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_crds::certificate::Certificate;
use gatehouse_crds::issuer::{ClusterIssuer, Issuer};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::chain::{Chain, assert_chain};
use crate::cluster::{Cluster, condition};
use crate::knot::Knot;
use crate::operator::{self, Operator};
use crate::pebble::Pebble;
use crate::process::eventually;
use crate::test_cluster::TestCluster;
use crate::workspace;

/// The operator's own namespace, as `config/` names it.
pub const SYSTEM: &str = "gatehouse-system";
/// Its service account.
pub const ACCOUNT: &str = "gatehouse-operator";
/// Longest time for anything on a busy machine.
pub const SOON: Duration = Duration::from_secs(45);

/// A namespace with everything around it.
pub struct SharedOperator {
    pub test_cluster: Arc<TestCluster>,
    pub operator: Arc<Operator>,
    pub cluster: Cluster,
    pub namespace: String,
}

/// Result of a Certificate, checked.
pub struct Outcome {
    pub certificate: Certificate,
    pub secret: Secret,
    pub chain: Chain,
}

impl SharedOperator {
    /// A new namespace in the shared world, whose operator is started by the first that asks.
    pub async fn set(prefix: &str) -> Self {
        static OPERATOR: OnceCell<Arc<Operator>> = OnceCell::const_new();
        let test_cluster = TestCluster::shared().await;
        let operator = OPERATOR.get_or_init(|| install(&test_cluster)).await;
        let cluster = test_cluster.cluster().await;
        Self {
            operator: Arc::clone(operator),
            namespace: cluster.namespace(prefix).await,
            cluster,
            test_cluster,
        }
    }

    pub fn certificates(&self) -> Api<Certificate> {
        self.cluster.api(&self.namespace)
    }

    pub fn issuers(&self) -> Api<Issuer> {
        self.cluster.api(&self.namespace)
    }

    pub fn cluster_issuers(&self) -> Api<ClusterIssuer> {
        Api::all(self.cluster.client())
    }

    /// Applies one of our kinds; what an earlier apply had and this one has not is taken away.
    pub async fn apply(&self, kind: &str, name: &str, spec: &Value) {
        let object = json!({
            "apiVersion": "gatehouse.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        self.cluster.apply(&self.namespace, &object.to_string()).await;
    }

    /// Applies a Certificate; its Secret is `<name>-tls` unless `spec` says otherwise.
    pub async fn certificate(&self, name: &str, spec: Value) {
        let mut whole = json!({"secretName": format!("{name}-tls")});
        merge(&mut whole, spec);
        self.apply("Certificate", name, &whole).await;
    }

    /// Applies an Issuer and waits until it is ready.
    pub async fn issuer(&self, name: &str, spec: Value) -> Issuer {
        self.apply("Issuer", name, &spec).await;
        self.cluster
            .wait_condition(&self.issuers(), name, "Ready", "True", SOON)
            .await
    }

    /// A `selfSigned` Issuer `own`, a root signed by it, and a `ca` Issuer of the given name. The root's PEM.
    pub async fn internal_ca(&self, name: &str) -> String {
        self.apply("Issuer", "own", &json!({"selfSigned": {}})).await;
        self.certificate(
            &format!("{name}-root"),
            json!({"secretName": format!("{name}-root"), "issuerRef": {"name": "own"}, "isCA": true,
                   "commonName": format!("{name} of {}", self.namespace), "duration": "8760h"}),
        )
        .await;
        self.issuer(name, json!({"ca": {"secretName": format!("{name}-root")}}))
            .await;
        text(&self.secret(&format!("{name}-root")).await, "tls.crt")
    }

    /// Makes a Secret of any type.
    pub async fn make_secret(&self, name: &str, kind: &str, data: &[(&str, &str)]) {
        let mut secret = Secret {
            type_: Some(kind.to_owned()),
            data: Some(
                data.iter()
                    .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
                    .collect(),
            ),
            ..Secret::default()
        };
        secret.metadata.name = Some(name.to_owned());
        self.secrets()
            .create(&PostParams::default(), &secret)
            .await
            .expect("the Secret is made");
    }

    pub fn secrets(&self) -> Api<Secret> {
        self.cluster.api(&self.namespace)
    }

    /// A Secret that must be there.
    pub async fn secret(&self, name: &str) -> Secret {
        self.secrets()
            .get(name)
            .await
            .unwrap_or_else(|error| panic!("Secret {name}: {error}"))
    }

    /// Merges `patch` into an object, as `kubectl patch --type=merge` and `kubectl annotate` do.
    pub async fn patch<K>(&self, api: &Api<K>, name: &str, patch: &Value) -> K
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Asks for a renewal, as `gatehouse renew` does.
    pub async fn request_renewal(&self, name: &str) {
        // Later than the second in which the last attempt or certificate was written down.
        let now = Timestamp::now() + Duration::from_secs(1);
        let patch = json!({"metadata": {"annotations": {"gatehouse.dev/renew-requested-at": now.to_string()}}});
        self.patch(&self.certificates(), name, &patch).await;
    }

    /// Waits for a revision that is whole: Ready for this generation, and nothing under way.
    pub async fn ready(&self, name: &str, revision: i64) -> Certificate {
        let what = format!("ready with revision {revision}");
        self.cluster
            .wait(&self.certificates(), name, &what, SOON, |certificate| {
                let status = certificate.status.clone().unwrap_or_default();
                let holds = |kind: &str, value: &str| {
                    status.conditions.iter().any(|condition| {
                        condition.type_ == kind
                            && condition.status == value
                            && condition.observed_generation == certificate.metadata.generation
                    })
                };
                status.revision == Some(revision) && holds("Ready", "True") && holds("Issuing", "False")
            })
            .await
    }

    /// Waits until a Certificate is not Ready for this reason, and checks that everything a user looks at says so: both
    /// conditions, the last failure, the next attempt, an event with the message. The message.
    pub async fn refused(&self, name: &str, reason: &str, words: &[&str]) -> String {
        let certificate = self
            .cluster
            .wait(
                &self.certificates(),
                name,
                &format!("refused as {reason}"),
                SOON,
                |certificate| {
                    condition(certificate, "Ready").is_some_and(|ready| {
                        ready["reason"] == reason
                            && ready["status"] == "False"
                            && ready["observedGeneration"] == json!(certificate.metadata.generation)
                    })
                },
            )
            .await;
        let status = certificate.status.clone().expect("a status");
        let message = condition(&certificate, "Ready").expect("a condition")["message"]
            .as_str()
            .expect("a message")
            .to_owned();
        for word in words {
            assert!(message.contains(word), "{name}: the message lacks {word:?}: {message}");
        }
        let issuing = condition(&certificate, "Issuing").expect("a condition");
        assert_eq!(
            (issuing["status"].as_str(), issuing["reason"].as_str()),
            (Some("False"), Some(reason)),
            "{name}"
        );
        let last = status.last_failure.expect("a last failure");
        assert_eq!((last.reason.as_str(), &last.message), (reason, &message), "{name}");
        let next = status.next_attempt_time.expect("a next attempt");
        assert!(
            next > Timestamp::now(),
            "{name}: the next attempt is at {next}, which is past"
        );

        let what = format!("an event of {name} about {reason}");
        eventually(&what, SOON, || async {
            let events = self.cluster.events("Certificate", &self.namespace, name).await;
            events.into_iter().find(|event| {
                event.type_.as_deref() == Some("Warning")
                    && event.note.as_deref().is_some_and(|note| note.contains(words[0]))
            })
        })
        .await;
        message
    }

    /// Waits for a revision and checks all of it: the chain, the Secret, the status.
    pub async fn outcome(&self, name: &str, revision: i64, roots: &str, names: &[&str]) -> Outcome {
        let certificate = self.ready(name, revision).await;
        let secret = self.secret(&certificate.spec.secret_name).await;
        let chain = assert_chain(&secret, roots, names);
        let status = certificate.status.clone().expect("a status");
        let serial = chain.serial.strip_prefix("00").unwrap_or(&chain.serial);
        assert_eq!(status.serial_number.as_deref(), Some(serial), "{name}: serialNumber");
        assert_eq!(
            status.fingerprint_sha256.as_deref(),
            Some(sha256(&chain.certificates[0]).as_str()),
            "{name}: fingerprintSHA256"
        );
        assert_eq!(
            (status.not_before, status.not_after),
            (Some(chain.not_before), Some(chain.not_after)),
            "{name}: notBefore, notAfter"
        );
        let renewal = status.renewal_time.expect("a renewalTime");
        assert!(
            chain.not_before < renewal && renewal < chain.not_after,
            "{name}: renewalTime {renewal}"
        );
        assert_eq!(status.failed_attempts, Some(0), "{name}: failedAttempts");
        assert_eq!(
            (status.last_failure, status.next_attempt_time),
            (None, None),
            "{name}: traces of a failure"
        );
        assert_eq!(
            status.acme.and_then(|acme| acme.order_url),
            None,
            "{name}: an order is left"
        );

        let issuer = status.issuer.expect("an issuer");
        let annotations = secret.metadata.annotations.clone().unwrap_or_default();
        for (key, value) in [
            ("gatehouse.dev/certificate", name.to_owned()),
            ("gatehouse.dev/issuer", format!("{}/{}", issuer.kind, issuer.name)),
            ("gatehouse.dev/not-after", chain.not_after.to_string()),
            ("gatehouse.dev/serial-number", serial.to_owned()),
        ] {
            assert_eq!(annotations.get(key), Some(&value), "{name}: annotation {key}");
        }
        let labels = secret.metadata.labels.clone().unwrap_or_default();
        for (key, value) in [
            ("gatehouse.dev/managed", "true"),
            ("app.kubernetes.io/managed-by", "gatehouse"),
        ] {
            assert_eq!(labels.get(key).map(String::as_str), Some(value), "{name}: label {key}");
        }
        Outcome {
            certificate,
            secret,
            chain,
        }
    }

    /// An ACME issuer's spec for a Pebble, its account in Secret `<account>`.
    #[allow(clippy::needless_pass_by_value, reason = "the callers make it in place")]
    pub fn acme(&self, pebble: &Pebble, account: &str, solvers: Value) -> Value {
        json!({"acme": {
            "server": pebble.directory(),
            "caBundle": base64(pebble.ca_pem().as_bytes()),
            "privateKeySecretRef": {"name": account},
            "solvers": solvers,
        }})
    }

    /// A DNS-01 solver at the shared Knot, with its TSIG key in Secret `tsig`, which must be there.
    pub fn dns01(&self) -> Value {
        let knot = self.test_cluster.knot();
        json!({"dns01": {
            "rfc2136": {
                "nameserver": knot.address().to_string(),
                "tsigKeyName": Knot::KEY_NAME,
                "tsigAlgorithm": Knot::ALGORITHM,
                "tsigSecretSecretRef": {"name": "tsig", "key": "secret"},
            },
            "propagation": {"nameservers": [knot.address().to_string()]},
        }})
    }

    /// Makes the Secret that [`Self::dns01`] names.
    pub async fn tsig(&self) {
        self.make_secret("tsig", "Opaque", &[("secret", &self.test_cluster.knot().secret())])
            .await;
    }

    /// Waits for an event of a Certificate.
    pub async fn event(&self, name: &str, reason: &str) -> String {
        eventually(&format!("the event {reason} of {name}"), SOON, || async {
            let events = self.cluster.events("Certificate", &self.namespace, name).await;
            events
                .into_iter()
                .find(|event| event.reason.as_deref() == Some(reason))
                .map(|event| event.note.unwrap_or_default())
        })
        .await
    }
}

/// An HTTP-01 solver through an ingress controller of any class.
pub fn http01() -> Value {
    json!({"http01": {"ingress": {"ingressClassName": "any"}}})
}

/// Installs what people install, and starts an operator with the rights of its service account.
async fn install(test_cluster: &Arc<TestCluster>) -> Arc<Operator> {
    let cluster = test_cluster.cluster().await;
    let folder = workspace::root().join("config/default");
    let folder = folder.to_string_lossy();
    // The CRDs first: what follows may be of their kinds.
    cluster.install_crds().await.expect("the CRDs are accepted");
    test_cluster
        .plane
        .kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &folder])
        .expect("config/default is accepted");
    let kubeconfig = test_cluster
        .plane
        .kubeconfig_for(SYSTEM, ACCOUNT)
        .await
        .expect("a token");
    let options = operator::Options::new(&kubeconfig)
        .http01(test_cluster.http01_port)
        .arg("--cluster-resource-namespace")
        .arg(SYSTEM);
    Arc::new(test_cluster.operator(&options).await)
}

/// A text in a Secret.
pub fn text(secret: &Secret, key: &str) -> String {
    String::from_utf8(bytes(secret, key).to_vec()).expect("a text")
}

/// An entry of a Secret.
pub fn bytes<'a>(secret: &'a Secret, key: &str) -> &'a [u8] {
    crate::chain::entry(secret, key).unwrap_or_else(|why| panic!("{why}"))
}

/// PEM as `caBundle` holds it.
pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 7396, without the deletions.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
