//! `cargo dev run`: the main job, on real input, with nothing prepared.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use gatehouse_tests::cluster::Cluster;
use gatehouse_tests::process::{Signal, spawn_kept};
use gatehouse_tests::test_cluster::{Options, TestCluster};
use gatehouse_tests::{Assets, Error, Knot, Tool, assets, control_plane, operator, pebble, workspace};
use tokio::signal::unix::{SignalKind, signal};

/// The operator's own namespace, where a `ClusterIssuer`'s Secrets are.
const SYSTEM: &str = "gatehouse-system";
/// Folder of the samples.
const DEMO: &str = "demo";
/// A zone of Knot.
const ZONE: &str = "example.test";
/// A graceful end takes a reconcile in progress and a Lease.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs until Ctrl-C, `SIGTERM` or the operator's end.
pub(crate) fn run(state: Option<PathBuf>, samples: bool, flags: &[String]) -> Result<ExitCode, Error> {
    // These build, and Ctrl-C simply ends them; signals are handled from here on.
    let assets = Assets::find()?;
    step("building the operator");
    let binary = operator::binary()?;
    let runtime = tokio::runtime::Runtime::new().map_err(|source| io("starting", source))?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|source| io("handling signals", source))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|source| io("handling signals", source))?;
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let mut stop = std::pin::pin!(stop);
        let test_cluster = tokio::select! {
            test_cluster = prepare(state, samples) => test_cluster?,
            () = &mut stop => return Ok(ExitCode::SUCCESS),
        };
        hint(&test_cluster, &assets);
        let code = foreground(&binary, &test_cluster, flags, stop).await;
        step("stopping the control plane");
        drop(test_cluster);
        code
    })
}

async fn prepare(state: Option<PathBuf>, samples: bool) -> Result<TestCluster, Error> {
    // DNS-01 is shown where there is a DNS server to update; nothing else needs it.
    let zones = match assets::knotd() {
        Ok(_) => vec![ZONE.to_owned()],
        Err(error) => {
            eprintln!("without the DNS-01 sample: {error}");
            Vec::new()
        }
    };
    step("starting etcd, kube-apiserver, kube-controller-manager and Pebble");
    let options = Options {
        control_plane: control_plane::Options {
            controller_manager: true,
            audit: false,
        },
        zones,
        pebble: Some(pebble::Options::default()),
    };
    let test_cluster = match state {
        Some(folder) => {
            std::fs::create_dir_all(&folder).map_err(|source| io("making the folder of --state", source))?;
            let folder = std::path::absolute(folder).map_err(|source| io("finding the folder of --state", source))?;
            TestCluster::start_in(&folder, options).await?
        }
        None => TestCluster::start(options).await?,
    };
    let cluster = test_cluster.cluster().await;
    step("applying the CRDs");
    cluster.install_crds().await?;
    let namespaces =
        [SYSTEM, DEMO].map(|name| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"));
    cluster.try_apply("", &namespaces.join("---\n")).await?;
    if samples {
        apply_samples(&test_cluster, &cluster).await?;
    }
    Ok(test_cluster)
}

/// Applies `tests/dev/*.yaml`, in the order of their names. What only this run knows is written `${NAME}` there; a file
/// that names something which is not there (Knot's) is left out.
async fn apply_samples(test_cluster: &TestCluster, cluster: &Cluster) -> Result<(), Error> {
    let values = values(test_cluster);
    let folder = workspace::root().join("tests/dev");
    let entries = std::fs::read_dir(&folder).map_err(|source| io("reading tests/dev", source))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    for file in files {
        let mut text = std::fs::read_to_string(&file).map_err(|source| io("reading a sample", source))?;
        for (name, value) in &values {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if text.contains("${") {
            eprintln!("without {name}: what it needs is not on this machine");
            continue;
        }
        step(&format!("applying tests/dev/{name}"));
        cluster.try_apply(DEMO, &text).await?;
    }
    Ok(())
}

fn values(test_cluster: &TestCluster) -> Vec<(&'static str, String)> {
    let mut values = Vec::new();
    if let Some(pebble) = &test_cluster.pebble {
        values.push(("ACME_DIRECTORY", pebble.directory()));
        values.push(("ACME_CA_BUNDLE", base64(pebble.ca_pem().as_bytes())));
    }
    if let Some(knot) = &test_cluster.knot {
        values.push(("DNS_SERVER", knot.address().to_string()));
        values.push(("TSIG_KEY_NAME", Knot::KEY_NAME.to_owned()));
        values.push(("TSIG_ALGORITHM", Knot::ALGORITHM.to_owned()));
        values.push(("TSIG_SECRET", knot.secret()));
    }
    values
}

fn hint(test_cluster: &TestCluster, assets: &Assets) {
    let (kubeconfig, kubectl) = (test_cluster.plane.kubeconfig(), assets.path(Tool::Kubectl));
    println!(
        "\nGatehouse runs. In another terminal:\n\n  export KUBECONFIG={}\n  {} get gatehouse -A\n\nLogs of the other \
         components: {}\nCtrl-C ends everything.\n",
        kubeconfig.display(),
        kubectl.display(),
        test_cluster.folder().display()
    );
}

/// Runs the operator with its log on this terminal.
async fn foreground(
    binary: &Path,
    test_cluster: &TestCluster,
    flags: &[String],
    stop: impl Future<Output = ()>,
) -> Result<ExitCode, Error> {
    let http01 = format!("127.0.0.1:{}", test_cluster.http01_port);
    let mut command = Command::new(binary);
    command
        .arg("operator")
        .arg("--kubeconfig")
        .arg(test_cluster.plane.kubeconfig());
    command.args([
        "--cluster-resource-namespace",
        SYSTEM,
        "--allow-loopback",
        "--log-format",
        "pretty",
    ]);
    command.args(["--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0"]);
    command
        .args(["--http01-addr", &http01, "--http01-advertise", &http01])
        .args(flags);
    let mut child = spawn_kept(&mut command).map_err(|source| io("starting the operator", source))?;
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    tokio::select! {
        status = &mut ended => {
            let status = status.map_err(std::io::Error::other).flatten().map_err(|source| io("waiting", source))?;
            eprintln!("the operator ended: {status}");
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        () = stop => {}
    }
    eprintln!();
    step("stopping the operator");
    for (number, patience) in [(Signal::TERM, SHUTDOWN_TIMEOUT), (Signal::KILL, Duration::from_secs(5))] {
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, number);
        }
        if tokio::time::timeout(patience, &mut ended).await.is_ok() {
            break;
        }
        eprintln!("it did not end within {patience:?}");
    }
    Ok(ExitCode::SUCCESS)
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

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
