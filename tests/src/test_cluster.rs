//! Everything that a suite needs, put together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::assets::Assets;
use crate::challtestsrv::ChallengeServer;
use crate::cluster::Cluster;
use crate::control_plane::{self, ControlPlane};
use crate::error::{Doing as _, Error};
use crate::knot::Knot;
use crate::operator::{self, Operator};
use crate::pebble::{self, Pebble};
use crate::process::tail;
use crate::{keeper, ports};

/// Components to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub control_plane: control_plane::Options,
    /// Zones of a Knot; none, no Knot. Pebble asks Knot when there is one, else the challenge server.
    pub zones: Vec<String>,
    /// No Pebble (and no challenge server) without.
    pub pebble: Option<pebble::Options>,
}

/// A control plane, and a CA with its DNS beside it. Holds nothing of a runtime, so that it may be shared by the tests
/// of a binary; what a test makes for itself (clients, operators) is made from it.
pub struct TestCluster {
    pub plane: ControlPlane,
    pub pebble: Option<Pebble>,
    pub challenge_server: Option<ChallengeServer>,
    pub knot: Option<Knot>,
    /// Port for Pebble's validation of HTTP-01: that of one operator's responder.
    pub http01_port: u16,
    assets: Assets,
    folder: PathBuf,
    // Last: the folder goes when the processes are gone.
    _temporary: Option<TempDir>,
}

impl TestCluster {
    /// Zones of the shared world.
    pub const ZONES: [&str; 2] = ["example.test", "delegated.test"];

    /// A world of its own, for a test that breaks it. Its folder is temporary unless `GATEHOUSE_KEEP` is set.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let temporary = tempfile::Builder::new()
            .prefix("gatehouse-")
            .tempdir()
            .doing("making a temporary folder")?;
        if std::env::var_os("GATEHOUSE_KEEP").is_some() {
            let kept = temporary.keep();
            eprintln!("logs and state stay in {}", kept.display());
            return Self::start_in(&kept, options).await;
        }
        keeper::remove_at_exit(temporary.path());
        let mut test_cluster = Self::start_in(temporary.path(), options).await?;
        test_cluster._temporary = Some(temporary);
        Ok(test_cluster)
    }

    /// A cluster in a folder that stays; what etcd kept there exists again.
    pub async fn start_in(path: &Path, options: Options) -> Result<Self, Error> {
        let assets = Assets::find()?;
        let zones: Vec<&str> = options.zones.iter().map(String::as_str).collect();
        let http01_port = options
            .pebble
            .as_ref()
            .and_then(|pebble| pebble.http_port)
            .unwrap_or_else(ports::free);
        let issuing = async {
            let knot = if zones.is_empty() {
                None
            } else {
                Some(Knot::start(path, &zones).await?)
            };
            let Some(mut pebble) = options.pebble.clone() else {
                return Ok((knot, None, None));
            };
            let challenges = ChallengeServer::start(path, &assets).await?;
            pebble.http_port = Some(http01_port);
            pebble.dns = pebble
                .dns
                .or(Some(knot.as_ref().map_or(challenges.dns(), Knot::address)));
            let pebble = Pebble::start(path, &assets, pebble).await?;
            Ok::<_, Error>((knot, Some(challenges), Some(pebble)))
        };
        let plane = ControlPlane::start(path, &assets, options.control_plane);
        let (plane, (knot, challenge_server, pebble)) = futures::future::try_join(plane, issuing).await?;
        Ok(Self {
            plane,
            pebble,
            challenge_server,
            knot,
            http01_port,
            assets,
            folder: path.to_owned(),
            _temporary: None,
        })
    }

    /// The world that the tests of a binary share, where a namespace is isolation enough: control plane with controller
    /// manager, Pebble, challenge server, Knot with [`Self::ZONES`]. Started by the first that asks; gone with the process.
    pub async fn shared() -> Arc<Self> {
        // A failure is remembered: the other tests need not wait for the same one.
        static SHARED: OnceCell<Result<Arc<TestCluster>, String>> = OnceCell::const_new();
        let start = || async {
            let options = Options {
                control_plane: control_plane::Options {
                    controller_manager: true,
                    audit: false,
                },
                zones: Self::ZONES.map(str::to_owned).to_vec(),
                pebble: Some(pebble::Options::default()),
            };
            Self::start(options)
                .await
                .map(Arc::new)
                .map_err(|error| error.to_string())
        };
        match SHARED.get_or_init(start).await {
            Ok(test_cluster) => Arc::clone(test_cluster),
            Err(error) => panic!("{error}"),
        }
    }

    /// Helpers over a new client of the current runtime.
    pub async fn cluster(&self) -> Cluster {
        Cluster::new(self.plane.client().await.expect("a client"))
    }

    /// Pebble, which this world was started with.
    pub fn pebble(&self) -> &Pebble {
        self.pebble.as_ref().expect("this world has a Pebble")
    }

    /// Knot, which this world was started with.
    pub fn knot(&self) -> &Knot {
        self.knot.as_ref().expect("this world has a Knot")
    }

    /// The challenge server, which this world was started with.
    pub fn challenge_server(&self) -> &ChallengeServer {
        self.challenge_server
            .as_ref()
            .expect("this world has a challenge server")
    }

    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// Logs, keys, kubeconfigs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Another Pebble, with habits of its own.
    pub async fn another_pebble(&self, options: pebble::Options) -> Pebble {
        Pebble::start(self.folder(), &self.assets, options)
            .await
            .expect("Pebble starts")
    }

    /// Starts an operator and waits until it is ready.
    pub async fn operator(&self, options: &operator::Options) -> Operator {
        let mut operator = Operator::start(self.folder(), options).expect("the operator starts");
        operator.wait_ready().await.expect("the operator is ready");
        operator
    }

    /// The ends of all logs, for a test that fails.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for folder in [self.folder.as_path(), self.plane.folder()] {
            for file in std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
            {
                if file.extension().is_some_and(|extension| extension == "log") {
                    text.push_str(&format!("--- the end of {}\n{}\n", file.display(), tail(&file, 15)));
                }
            }
        }
        text
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}
