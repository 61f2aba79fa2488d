//! etcd and kube-apiserver with RBAC, and the controller manager where a test needs what it does (garbage collection,
//! namespaces, quotas, Deployments).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::assets::{Assets, Tool};
use crate::error::{Doing as _, Error};
use crate::kubeconfig::Identity;
use crate::pki::{self, Ca, Pair, write_private};
use crate::ports;
use crate::process::{Process, Signal};
use crate::web::Web;

const ADMIN_TOKEN: &str = "gatehouse-tests-admin";

/// Long enough for two busy cores.
const START: Duration = Duration::from_mins(2);

/// Only what a test can see working; the others cost CPU.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
                           root-ca-certificate-publisher-controller,endpointslice-controller,deployment-controller,\
                           replicaset-controller,statefulset-controller,daemonset-controller,disruption-controller,\
                           resourcequota-controller,ttl-after-finished-controller";

/// Further components to start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub controller_manager: bool,
    /// Writes every request's metadata to `audit.log`.
    pub audit: bool,
}

/// A running control plane. Belongs to no runtime: any test may use it through `&self`.
pub struct ControlPlane {
    folder: PathBuf,
    assets: Assets,
    options: Options,
    port: u16,
    etcd_port: u16,
    ca_pem: String,
    serving: Pair,
    admin: Identity,
    api_server: Mutex<Option<Process>>,
    _controller_manager: Option<Process>,
    _etcd: Process,
}

impl ControlPlane {
    /// Starts it and waits until it serves.
    pub async fn start(folder: &Path, assets: &Assets, options: Options) -> Result<Self, Error> {
        let folder = folder.join("control-plane");
        std::fs::create_dir_all(&folder).doing("making the control plane's folder")?;
        let (port, etcd_port, peer_port) = (ports::free(), ports::free(), ports::free());
        let ca = Ca::new("gatehouse-tests control plane")?;
        let identity = Identity {
            server: format!("https://127.0.0.1:{port}"),
            ca: ca.write(&folder, "ca")?,
            token: ADMIN_TOKEN.to_owned(),
        };
        identity.write(&folder.join("admin.kubeconfig"))?;
        let (signing, verifying) = pki::new_key_pems()?;
        write_private(&folder.join("service-account.key"), &signing)?;
        write_private(&folder.join("service-account.pub"), &verifying)?;
        write_private(
            &folder.join("tokens.csv"),
            &format!("{ADMIN_TOKEN},admin,1,\"system:masters\"\n"),
        )?;
        write_private(&folder.join("audit-policy.yaml"), AUDIT_POLICY)?;

        let etcd = start_etcd(&folder, assets, etcd_port, peer_port).await?;
        let mut plane = Self {
            serving: ca.serving(&folder, "serving")?,
            ca_pem: ca.pem(),
            folder,
            assets: assets.clone(),
            options,
            port,
            etcd_port,
            admin: identity,
            api_server: Mutex::new(None),
            _controller_manager: None,
            _etcd: etcd,
        };
        plane.start_api_server().await?;
        if options.controller_manager {
            plane._controller_manager = Some(plane.start_controller_manager().await?);
        }
        Ok(plane)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// The administrator, to be written elsewhere or led through a proxy.
    pub fn admin(&self) -> &Identity {
        &self.admin
    }

    /// Address of the API server: the target of a [`crate::Proxy`].
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The CA of the API server's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Requests that the audit log recorded, oldest first (only with `Options::audit`).
    pub fn audit_log(&self) -> String {
        std::fs::read_to_string(self.folder.join("audit.log")).unwrap_or_default()
    }

    /// A client for the administrator on the current runtime.
    pub async fn client(&self) -> Result<kube::Client, Error> {
        client(&self.kubeconfig()).await
    }

    /// Returns the identity of a service account, by a `TokenRequest`: exactly the rights that RBAC gives it.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Identity, Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(12 * 3600),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await?;
        let token = answer.status.and_then(|status| status.token).unwrap_or_default();
        Ok(Identity {
            token,
            ..self.admin.clone()
        })
    }

    /// [`Self::service_account`] as a kubeconfig file.
    pub async fn kubeconfig_for(&self, namespace: &str, name: &str) -> Result<PathBuf, Error> {
        let file = self.folder.join(format!("{namespace}.{name}.kubeconfig"));
        self.service_account(namespace, name).await?.write(&file)
    }

    /// Starts the API server (again) and waits until it serves.
    pub async fn start_api_server(&self) -> Result<(), Error> {
        let mut process = self.spawn_api_server()?;
        let web = Web::trusting(&self.ca_pem);
        let url = format!("https://127.0.0.1:{}/readyz", self.port);
        process
            .ready(START, || async {
                web.get(&url).await.ok().filter(|(status, _)| status.is_success())
            })
            .await?;
        // Ready is said a moment before these exist at the very first start.
        let namespaces: Api<Namespace> = Api::all(self.client().await?);
        process
            .ready(START, || async {
                let both = futures::future::try_join(namespaces.get("default"), namespaces.get("kube-system"));
                both.await.ok()
            })
            .await?;
        *self.locked() = Some(process);
        Ok(())
    }

    /// Ends the API server at once, as a crash does.
    pub fn kill_api_server(&self) {
        // The process is killed by its drop.
        self.locked().take();
    }

    /// Ends the API server in order, as an upgrade does.
    pub async fn terminate_api_server(&self) {
        let process = self.locked().take();
        if let Some(mut process) = process {
            process.terminate(Duration::from_secs(30)).await;
        }
    }

    /// Stops the API server's clock: connections stay open and nothing answers.
    pub fn freeze_api_server(&self) {
        self.signal_api_server(Signal::STOP);
    }

    /// Lets it run again.
    pub fn thaw_api_server(&self) {
        self.signal_api_server(Signal::CONT);
    }

    fn signal_api_server(&self, signal: Signal) {
        if let Some(process) = self.locked().as_mut() {
            process.signal(signal);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.api_server
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// kubectl as the administrator. `stdin` is for `-f -`.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, Error> {
        kubectl(
            &self.assets,
            &self.kubeconfig(),
            &self.folder.join("kubectl-cache"),
            args,
        )
    }

    fn spawn_api_server(&self) -> Result<Process, Error> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(self.assets.path(Tool::KubeApiserver));
        command.args([
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", self.serving.certificate.display()),
            format!("--tls-private-key-file={}", self.serving.key.display()),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--service-account-key-file={}", file("service-account.pub")),
            format!("--service-account-signing-key-file={}", file("service-account.key")),
            format!("--cert-dir={}", file("generated")),
        ]);
        command.args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            "--disable-admission-plugins=MutatingAdmissionWebhook,ValidatingAdmissionWebhook",
            "--profiling=false",
            "--v=0",
        ]);
        if self.options.audit {
            command.args([
                format!("--audit-policy-file={}", file("audit-policy.yaml")),
                format!("--audit-log-path={}", file("audit.log")),
                "--audit-log-maxsize=10000".to_owned(),
            ]);
        }
        Process::spawn("kube-apiserver", command, &self.folder.join("kube-apiserver.log"))
    }

    async fn start_controller_manager(&self) -> Result<Process, Error> {
        let port = ports::free();
        let mut command = Command::new(self.assets.path(Tool::KubeControllerManager));
        let kubeconfig = self.kubeconfig();
        command.args([
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--authentication-kubeconfig={}", kubeconfig.display()),
            format!("--authorization-kubeconfig={}", kubeconfig.display()),
            format!("--root-ca-file={}", self.admin.ca.display()),
            format!("--tls-cert-file={}", self.serving.certificate.display()),
            format!("--tls-private-key-file={}", self.serving.key.display()),
            format!("--secure-port={port}"),
            format!("--controllers={CONTROLLERS}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
            "--profiling=false".to_owned(),
            "--v=0".to_owned(),
        ]);
        let log = self.folder.join("kube-controller-manager.log");
        let mut process = Process::spawn("kube-controller-manager", command, &log)?;
        let web = Web::trusting(&self.ca_pem);
        let url = format!("https://127.0.0.1:{port}/healthz");
        process
            .ready(START, || async {
                web.get(&url).await.ok().filter(|(status, _)| status.is_success())
            })
            .await?;
        Ok(process)
    }
}

async fn start_etcd(folder: &Path, assets: &Assets, port: u16, peer_port: u16) -> Result<Process, Error> {
    let (client, peer) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{peer_port}"),
    );
    let mut command = Command::new(assets.path(Tool::Etcd));
    command.args([
        "--name=tests".to_owned(),
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=tests={peer}"),
        // What a disk costs is not what is tested, and nothing here outlives a power cut.
        "--unsafe-no-fsync=true".to_owned(),
        "--log-level=warn".to_owned(),
    ]);
    let mut process = Process::spawn("etcd", command, &folder.join("etcd.log"))?;
    let (web, url) = (Web::plain(), format!("{client}/health"));
    process
        .ready(START, || async {
            web.get(&url).await.ok().filter(|(status, _)| status.is_success())
        })
        .await?;
    Ok(process)
}

/// A client for any kubeconfig on the current runtime.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client, Error> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

/// kubectl with any kubeconfig; its caches stay in `cache`.
pub fn kubectl(assets: &Assets, kubeconfig: &Path, cache: &Path, args: &[&str]) -> Result<String, Error> {
    let output = Command::new(assets.path(Tool::Kubectl))
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--cache-dir={}", cache.display()))
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .doing("starting kubectl")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Command {
        command: format!("kubectl {}", args.join(" ")),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    })
}

const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: Metadata
";
