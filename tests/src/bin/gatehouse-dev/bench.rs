//! `cargo dev bench`: what a certificate costs.
//!
//! A release build runs against a real control plane, Pebble and Knot that nothing else uses, with the rights that
//! `config/default` gives it. Nothing is asserted: a table says what was measured beside the goals of `tests/bench/goals.yaml`.

mod alerts;
mod measure;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use gatehouse_crds::certificate::Certificate;
use gatehouse_tests::cluster::Cluster;
use gatehouse_tests::stage::{ACCOUNT, SOON, SYSTEM, base64};
use gatehouse_tests::world::{Options, World};
use gatehouse_tests::{Assets, Error, Knot, Operator, Pebble, assets, control_plane, operator, pebble, workspace};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::PostParams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use measure::{Audit, Ready, cpu, memory};
use report::Measured;

const ZONE: &str = "bench.test";
/// Certificates are spread over so many namespaces.
const NAMESPACES: usize = 10;
/// Creates at a time, as a busy deployment tool makes them.
const CLIENTS: usize = 8;
/// One after the other.
const SINGLE: usize = 5;
/// The first question about renewal is asked within a minute.
const ADVICE: Duration = Duration::from_secs(65);
const REST: Duration = Duration::from_secs(10);

/// Runs the steps and prints the table.
pub(crate) fn bench(large: bool, alerts: bool) -> Result<ExitCode, Error> {
    Assets::find()?;
    if !alerts {
        assets::knotd()?;
    }
    step("building Gatehouse with optimization (the first time takes minutes)");
    let binary = operator::release_binary()?;
    let runtime = tokio::runtime::Runtime::new().map_err(|source| io("starting", source))?;
    let mut measured = Measured::new();
    let before = load();
    runtime.block_on(async {
        if alerts {
            return alerts::alerts(&binary, &mut measured).await;
        }
        authority(&binary, 1_000, "", &mut measured).await?;
        acme(&binary, &mut measured).await?;
        if large {
            authority(&binary, 5_000, "large.", &mut measured).await?;
        }
        Ok(())
    })?;
    println!("\n{}", report::table(&measured)?);
    println!(
        "{} cores; load average before {before}, after {}. On a machine that does other things at the time believe the \
         counts and the CPU, not the times.",
        std::thread::available_parallelism().map_or(0, usize::from),
        load()
    );
    Ok(ExitCode::SUCCESS)
}

/// Everything about a CA issuer with so many Certificates.
async fn authority(binary: &Path, many: usize, prefix: &str, measured: &mut Measured) -> Result<(), Error> {
    let mut lab = Lab::start(binary, false).await?;
    let mut note = |id: &str, value: f64| measured.insert(format!("{prefix}{id}"), value);
    // The figures of the small run are about the CA issuer; those of the large one are called by its size alone.
    let ca = if prefix.is_empty() { "ca." } else { "" };

    step(&format!("{many} CA certificates at once"));
    let crowd = lab.crowd("bench-ca", many).await?;
    note(&format!("{ca}wall"), crowd.wall.as_secs_f64());
    note(&format!("{ca}cpu"), 1000.0 * crowd.cpu / count(many));
    if prefix.is_empty() {
        note("ca.created", crowd.created.as_secs_f64());
        note("ca.requests", crowd.requests / count(many));
        note("ca.single", 1000.0 * lab.single("bench-ca").await?);
    }

    step("rest");
    tokio::time::sleep(REST).await;
    note(&format!("{ca}memory"), memory(&lab.operator, "VmRSS")?);
    note(&format!("{ca}peak"), memory(&lab.operator, "VmHWM")?);
    if prefix.is_empty() {
        let (mark, used) = (lab.audit.mark(), cpu(&lab.operator)?);
        tokio::time::sleep(REST).await;
        note("idle.cpu", 100.0 * (cpu(&lab.operator)? - used) / REST.as_secs_f64());
        note("idle.requests", total(&lab.audit, mark));
    }

    step("restart");
    note("restart.ready", lab.restart(false).await?.as_secs_f64());
    lab.audit.quiet().await;
    tokio::time::sleep(REST).await;
    note("restart.memory", memory(&lab.operator, "VmRSS")?);

    step("2,000 unrelated Secrets");
    let (used, held) = (cpu(&lab.operator)?, memory(&lab.operator, "VmRSS")?);
    lab.unrelated(2_000).await?;
    tokio::time::sleep(REST).await;
    note("unrelated.cpu", cpu(&lab.operator)? - used);
    note("unrelated.memory", memory(&lab.operator, "VmRSS")? - held);

    if prefix.is_empty() {
        step("the leader is killed");
        note("killed.ready", lab.restart(true).await?.as_secs_f64());
    }
    Ok(())
}

/// Everything about DNS-01.
async fn acme(binary: &Path, measured: &mut Measured) -> Result<(), Error> {
    let mut lab = Lab::start(binary, true).await?;
    let mut note = |id: &str, value: f64| measured.insert(id.to_owned(), value);
    let many = 200;

    step(&format!("{many} DNS-01 certificates at once"));
    let (mark, asked) = (lab.audit.mark(), asked(lab.world.pebble()));
    let crowd = lab.crowd("bench-acme", many).await?;
    note("dns01.rate", 60.0 * count(many) / crowd.wall.as_secs_f64());
    note("dns01.cpu", 1000.0 * crowd.cpu / count(many));
    note("dns01.requests", crowd.requests / count(many));
    note("dns01.acme", (self::asked(lab.world.pebble()) - asked) / count(many));
    note(
        "dns01.refused",
        count(
            lab.world
                .pebble()
                .log()
                .matches("set INVALID by completed challenge")
                .count(),
        ),
    );
    step("waiting for the first questions about renewal");
    tokio::time::sleep(ADVICE).await;
    note("dns01.requestsLater", total(&lab.audit, mark) / count(many));
    note(
        "dns01.acmeLater",
        (self::asked(lab.world.pebble()) - asked) / count(many),
    );
    note("dns01.single", lab.single("bench-acme").await?);

    step("DNS-01 with 5 % bad nonces");
    let unkind = lab
        .world
        .another_pebble(pebble::Options {
            nonce_reject: 5,
            ..authority_of(lab.world.knot())
        })
        .await;
    lab.acme_issuer("bench-unkind", &unkind).await?;
    let asked = self::asked(&unkind);
    lab.crowd("bench-unkind", many).await?;
    note("nonces.acme", (self::asked(&unkind) - asked) / count(many));
    Ok(())
}

/// A control plane, an issuer, an operator.
struct Lab {
    world: World,
    cluster: Cluster,
    options: operator::Options,
    operator: Operator,
    audit: Audit,
    ready: Ready,
    /// Certificates so far.
    made: usize,
}

/// What a crowd of Certificates cost.
struct Crowd {
    created: Duration,
    wall: Duration,
    cpu: f64,
    requests: f64,
}

impl Lab {
    async fn start(binary: &Path, acme: bool) -> Result<Self, Error> {
        step("starting the components");
        let world = World::start(Options {
            control_plane: control_plane::Options {
                controller_manager: false,
                audit: true,
            },
            zones: if acme { vec![ZONE.to_owned()] } else { Vec::new() },
            pebble: acme.then(|| pebble::Options {
                retry_after: 3,
                ..pebble::Options::default()
            }),
        })
        .await?;
        let cluster = world.cluster().await;
        cluster.install_crds().await?;
        let config: PathBuf = workspace::root().join("config/default");
        world.plane.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-k",
            &config.to_string_lossy(),
        ])?;
        let kubeconfig = world.plane.kubeconfig_for(SYSTEM, ACCOUNT).await?;
        let options = operator::Options::new(&kubeconfig)
            .binary(binary)
            .arg("--leader-elect")
            .env("POD_NAMESPACE", SYSTEM);
        let mut operator = Operator::start(world.folder(), &options)?;
        operator.wait_ready().await?;
        let namespaces: Api<Namespace> = Api::all(cluster.client());
        for number in 0..NAMESPACES {
            create(&namespaces, json!({"metadata": {"name": format!("bench-{number}")}})).await?;
        }
        let lab = Self {
            audit: Audit::new(world.plane.folder()),
            ready: Ready::watch(cluster.client()),
            made: 0,
            world,
            cluster,
            options,
            operator,
        };
        if acme {
            let tsig = json!({"metadata": {"name": "tsig"}, "stringData": {"secret": lab.world.knot().secret()}});
            create(&lab.cluster.api::<Secret>(SYSTEM), tsig).await?;
            lab.acme_issuer("bench-acme", lab.world.pebble()).await?;
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

    async fn issuer(&self, name: &str, spec: Value) -> Result<(), Error> {
        let issuer = json!({"apiVersion": "gatehouse.dev/v1alpha1", "kind": "ClusterIssuer", "metadata": {"name": name}, "spec": spec});
        self.cluster.try_apply("", &issuer.to_string()).await?;
        let api = self
            .cluster
            .dynamic("gatehouse.dev/v1alpha1", "ClusterIssuer", "")
            .await?;
        self.cluster.wait_condition(&api, name, "Ready", "True", SOON).await;
        Ok(())
    }

    async fn acme_issuer(&self, name: &str, pebble: &Pebble) -> Result<(), Error> {
        let address = self.world.knot().address().to_string();
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
    async fn create(&mut self, issuer: &str, many: usize) -> Result<Vec<String>, Error> {
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

    async fn crowd(&mut self, issuer: &str, many: usize) -> Result<Crowd, Error> {
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
    async fn single(&mut self, issuer: &str) -> Result<f64, Error> {
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
    async fn restart(&mut self, kill: bool) -> Result<Duration, Error> {
        if kill {
            self.operator.kill9();
        } else {
            self.operator.terminate(SOON).await;
        }
        let issuer = "bench-ca";
        let names = self.create(issuer, 1).await?;
        let began = Instant::now();
        self.operator = Operator::start(self.world.folder(), &self.options)?;
        let ready = self.ready.all(&names).await?;
        Ok(ready.into_iter().max().map_or(Duration::ZERO, |ready| ready - began))
    }

    /// Makes Secrets of 50 KiB that are none of Gatehouse's business.
    async fn unrelated(&self, many: usize) -> Result<(), Error> {
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

/// Pebble's ways with this Knot.
fn authority_of(knot: &Knot) -> pebble::Options {
    pebble::Options {
        dns: Some(knot.address()),
        retry_after: 3,
        ..pebble::Options::default()
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<(), Error>
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).map_err(|error| Error::Manifest(error.to_string()))?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Requests to an ACME server so far.
fn asked(pebble: &Pebble) -> f64 {
    count(pebble.requests().values().sum())
}

fn total(audit: &Audit, mark: u64) -> f64 {
    count(audit.since(mark).values().sum())
}

#[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn count(number: usize) -> f64 {
    number as f64
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn step(what: &str) {
    eprintln!("· {what} …");
}

fn io(what: &str, source: std::io::Error) -> Error {
    Error::Io {
        what: what.to_owned(),
        source,
    }
}
