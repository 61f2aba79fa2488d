//! Environment of the benchmarks: a control plane, issuers, an operator.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use gatehouse_crds::certificate::Certificate;
use gatehouse_tests::cluster::Cluster;
use gatehouse_tests::shared_operator::{ACCOUNT, SOON, SYSTEM, base64};
use gatehouse_tests::test_cluster::{Options, TestCluster};
use gatehouse_tests::{Error, Knot, Operator, Pebble, control_plane, operator, pebble, workspace};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::PostParams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::measure::{Audit, Seen, cpu, is_ready};
use super::{CLIENTS, NAMESPACES, SINGLE, ZONE, step, total};

/// Components of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Certificates of a CA.
    Ca,
    /// Certificates by DNS-01.
    Acme,
    /// Gateways, whose EndpointSlices the controller manager makes.
    Gateways,
}

/// A control plane, an issuer, an operator.
pub(super) struct Lab {
    pub(super) test_cluster: TestCluster,
    pub(super) cluster: Cluster,
    pub(super) options: operator::Options,
    pub(super) operator: Operator,
    pub(super) audit: Audit,
    pub(super) ready: Seen,
    /// Certificates so far.
    made: usize,
}

/// Cost of many Certificates.
pub(super) struct Crowd {
    pub(super) created: Duration,
    pub(super) wall: Duration,
    pub(super) cpu: f64,
    pub(super) requests: f64,
}

impl Lab {
    pub(super) async fn start(binary: &Path, subject: Subject) -> Result<Self, Error> {
        step("starting the components");
        let acme = subject == Subject::Acme;
        let test_cluster = TestCluster::start(Options {
            control_plane: control_plane::Options {
                controller_manager: subject == Subject::Gateways,
                audit: true,
            },
            zones: if acme { vec![ZONE.to_owned()] } else { Vec::new() },
            pebble: acme.then(|| pebble::Options {
                retry_after: 3,
                ..pebble::Options::default()
            }),
        })
        .await?;
        let cluster = test_cluster.cluster().await;
        cluster.install_crds().await?;
        let config: PathBuf = workspace::root().join("config/default");
        test_cluster.plane.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-k",
            &config.to_string_lossy(),
        ])?;
        let kubeconfig = test_cluster.plane.kubeconfig_for(SYSTEM, ACCOUNT).await?;
        let options = operator::Options::new(&kubeconfig)
            .binary(binary)
            .arg("--leader-elect")
            .env("POD_NAMESPACE", SYSTEM);
        let mut operator = Operator::start(test_cluster.folder(), &options)?;
        operator.wait_ready().await?;
        let namespaces: Api<Namespace> = Api::all(cluster.client());
        for number in 0..NAMESPACES {
            create(&namespaces, json!({"metadata": {"name": format!("bench-{number}")}})).await?;
        }
        let lab = Self {
            audit: Audit::new(test_cluster.plane.folder()),
            ready: Seen::watch(Api::<Certificate>::all(cluster.client()), is_ready),
            made: 0,
            test_cluster,
            cluster,
            options,
            operator,
        };
        if acme {
            let tsig =
                json!({"metadata": {"name": "tsig"}, "stringData": {"secret": lab.test_cluster.knot().secret()}});
            create(&lab.cluster.api::<Secret>(SYSTEM), tsig).await?;
            lab.acme_issuer("bench-acme", lab.test_cluster.pebble()).await?;
        } else {
            lab.issuer("own", json!({"selfSigned": {}})).await?;
            let root = json!({"apiVersion": "gatehouse.dev/v1alpha1", "kind": "Certificate", "metadata": {"name": "root"},
                "spec": {"secretName": "root", "commonName": "bench", "isCA": true, "duration": "8760h",
                         "issuerRef": {"kind": "ClusterIssuer", "name": "own"}}});
            lab.cluster.try_apply(SYSTEM, &root.to_string()).await?;
            lab.issuer("bench-ca", json!({"ca": {"secretName": "root"}})).await?;
        }
        lab.audit.quiet().await;
        Ok(lab)
    }

    pub(super) async fn issuer(&self, name: &str, spec: Value) -> Result<(), Error> {
        let issuer = json!({"apiVersion": "gatehouse.dev/v1alpha1", "kind": "ClusterIssuer", "metadata": {"name": name}, "spec": spec});
        self.cluster.try_apply("", &issuer.to_string()).await?;
        let api = self
            .cluster
            .dynamic("gatehouse.dev/v1alpha1", "ClusterIssuer", "")
            .await?;
        self.cluster.wait_condition(&api, name, "Ready", "True", SOON).await;
        Ok(())
    }

    pub(super) async fn acme_issuer(&self, name: &str, pebble: &Pebble) -> Result<(), Error> {
        let address = self.test_cluster.knot().address().to_string();
        let solver = json!({"dns01": {
            "rfc2136": {"nameserver": address, "tsigKeyName": Knot::KEY_NAME, "tsigAlgorithm": Knot::ALGORITHM,
                        "tsigSecretSecretRef": {"name": "tsig", "key": "secret"}},
            "propagation": {"nameservers": [address]},
        }});
        let spec = json!({"acme": {"server": pebble.directory(), "caBundle": base64(pebble.ca_pem().as_bytes()),
                                   "privateKeySecretRef": {"name": name}, "solvers": [solver]}});
        self.issuer(name, spec).await
    }

    /// Creates so many Certificates and says what they are called.
    pub(super) async fn create(&mut self, issuer: &str, many: usize) -> Result<Vec<String>, Error> {
        let numbers = self.made..self.made + many;
        self.made += many;
        let client = self.cluster.client();
        stream::iter(numbers)
            .map(|number| {
                let api: Api<Certificate> = Api::namespaced(client.clone(), &format!("bench-{}", number % NAMESPACES));
                let name = format!("c{number}");
                let certificate = json!({"metadata": {"name": name}, "spec": {
                    "secretName": format!("{name}-tls"), "dnsNames": [format!("{name}.{ZONE}")],
                    "issuerRef": {"kind": "ClusterIssuer", "name": issuer}}});
                async move { create(&api, certificate).await.map(|()| name) }
            })
            .buffer_unordered(CLIENTS)
            .try_collect()
            .await
    }

    pub(super) async fn crowd(&mut self, issuer: &str, many: usize) -> Result<Crowd, Error> {
        let (mark, used, began) = (self.audit.mark(), cpu(&self.operator)?, Instant::now());
        let names = self.create(issuer, many).await?;
        let created = began.elapsed();
        let ready = self.ready.all(&names).await?;
        let last = ready.into_iter().max().unwrap_or(began);
        self.audit.quiet().await;
        Ok(Crowd {
            created,
            wall: last - began,
            cpu: cpu(&self.operator)? - used,
            requests: total(&self.audit, mark),
        })
    }

    /// The median of some, one after the other, in seconds.
    pub(super) async fn single(&mut self, issuer: &str) -> Result<f64, Error> {
        let mut took = Vec::new();
        for _ in 0..SINGLE {
            let began = Instant::now();
            let names = self.create(issuer, 1).await?;
            took.extend(self.ready.all(&names).await?.into_iter().map(|ready| ready - began));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        took.sort();
        Ok(took.get(SINGLE / 2).map_or(f64::NAN, Duration::as_secs_f64))
    }

    /// Ends the operator and starts it: how long until a Certificate that was made meanwhile is Ready.
    pub(super) async fn restart(&mut self, kill: bool) -> Result<Duration, Error> {
        if kill {
            self.operator.kill9();
        } else {
            self.operator.terminate(SOON).await;
        }
        let issuer = "bench-ca";
        let names = self.create(issuer, 1).await?;
        let began = Instant::now();
        self.operator = Operator::start(self.test_cluster.folder(), &self.options)?;
        let ready = self.ready.all(&names).await?;
        Ok(ready.into_iter().max().map_or(Duration::ZERO, |ready| ready - began))
    }

    /// Makes Secrets of 50 KiB that are none of Gatehouse's business.
    pub(super) async fn unrelated(&self, many: usize) -> Result<(), Error> {
        let text = "x".repeat(50 * 1024 * 3 / 4);
        let client = self.cluster.client();
        stream::iter(0..many)
            .map(|number| {
                let api: Api<Secret> = Api::namespaced(client.clone(), &format!("bench-{}", number % NAMESPACES));
                let secret = json!({"metadata": {"name": format!("unrelated-{number}"), "labels": {"owner": "helm"}},
                                         "stringData": {"release": text}});
                async move { create(&api, secret).await }
            })
            .buffer_unordered(CLIENTS / 2)
            .try_collect()
            .await
    }
}

/// Creates one object.
pub(super) async fn create<K>(api: &Api<K>, object: Value) -> Result<(), Error>
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).map_err(|error| Error::Manifest(error.to_string()))?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}
