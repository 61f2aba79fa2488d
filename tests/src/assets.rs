//! The programs that the suites start, found or built.
//!
//! `KUBEBUILDER_ASSETS` (envtest's convention: `etcd`, `kube-apiserver`, `kubectl` in one folder) comes first. What is not
//! there is built once from the Go modules that `tests/tools/go.mod` pins, into a cache named after that file's content.
//! Nothing is ever skipped: a program that cannot be installed is an error that says what to install.

mod pebble_source;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use crate::debian;
use crate::error::{Doing as _, Error};
use crate::process::{spawn_kept, tail, wait_kept};
use crate::workspace;

/// Names a cache, because everything about the tools follows from it.
const GO_MOD: &str = include_str!("../tools/go.mod");

/// A program built from `tests/tools/go.mod`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tool {
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    Kubectl,
    Pebble,
    PebbleChalltestsrv,
}

impl Tool {
    /// Small ones first, so that something is seen to happen soon.
    pub const ALL: [Self; 6] = [
        Self::Pebble,
        Self::PebbleChalltestsrv,
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::Kubectl,
    ];

    /// The file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Pebble => "pebble",
            Self::PebbleChalltestsrv => "pebble-challtestsrv",
        }
    }

    /// The file's name in the cache: Pebble is built from changed sources there.
    const fn built_name(self) -> &'static str {
        match self {
            Self::Pebble => "pebble-without-deadlock",
            other => other.name(),
        }
    }

    const fn package(self) -> &'static str {
        match self {
            // The module's root is its main package; `go build` alone would call the file `server`.
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Pebble => "github.com/letsencrypt/pebble/v2/cmd/pebble",
            Self::PebbleChalltestsrv => "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv",
        }
    }

    /// On two cores, with nothing of Go's own cache; what was built before is shared.
    const fn patience(self) -> &'static str {
        match self {
            Self::KubeApiserver => "about 3 minutes, once",
            Self::KubeControllerManager => "about 2 minutes, once",
            Self::Kubectl | Self::Etcd | Self::Pebble => "about a minute, once",
            Self::PebbleChalltestsrv => "seconds, once",
        }
    }

    /// Kubernetes reads its version from variables that only the linker sets; without them the API server calls itself
    /// `v0.0.0-master` and kubectl warns of skew.
    fn link_flags(self) -> String {
        let mut flags = String::from("-s -w");
        if matches!(self, Self::KubeApiserver | Self::KubeControllerManager | Self::Kubectl) {
            let version = required_version("k8s.io/kubernetes");
            let mut numbers = version.trim_start_matches('v').split('.');
            let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
            for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
                for (name, value) in [
                    ("gitVersion", version),
                    ("gitMajor", major),
                    ("gitMinor", minor),
                    ("gitTreeState", "clean"),
                    ("gitCommit", "unknown"),
                ] {
                    flags.push_str(&format!(" -X {package}.{name}={value}"));
                }
            }
        }
        flags
    }
}

/// The version that `tests/tools/go.mod` requires of a module, with its `v`.
fn required_version(module: &str) -> &'static str {
    GO_MOD
        .lines()
        .filter_map(|line| line.trim().strip_prefix(module))
        .find_map(|rest| rest.strip_prefix(' ')?.split_whitespace().next())
        .expect("go.mod requires the module")
}

/// Paths of the programs. Cheap to copy, found once a process.
#[derive(Clone, Debug)]
pub struct Assets {
    given: Option<PathBuf>,
    built: PathBuf,
}

impl Assets {
    /// The programs of this machine; builds what is missing, with progress on stderr.
    pub fn find() -> Result<Self, Error> {
        static READY: OnceLock<Assets> = OnceLock::new();
        if let Some(assets) = READY.get() {
            return Ok(assets.clone());
        }
        let assets = Self::locate();
        assets.build_missing()?;
        Ok(READY.get_or_init(|| assets).clone())
    }

    fn locate() -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, GO_MOD.as_bytes());
        let name: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            given: std::env::var_os("KUBEBUILDER_ASSETS")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from),
            built: workspace::cache().join("tools").join(name),
        }
    }

    /// The file to start.
    pub fn path(&self, tool: Tool) -> PathBuf {
        self.present(tool).unwrap_or_else(|| self.built.join(tool.built_name()))
    }

    fn present(&self, tool: Tool) -> Option<PathBuf> {
        let given = self.given.iter().map(|folder| folder.join(tool.name()));
        given
            .chain(std::iter::once(self.built.join(tool.built_name())))
            .find(|file| file.is_file())
    }

    fn missing(&self) -> Vec<Tool> {
        Tool::ALL
            .into_iter()
            .filter(|tool| self.present(*tool).is_none())
            .collect()
    }

    fn build_missing(&self) -> Result<(), Error> {
        if self.missing().is_empty() {
            return Ok(());
        }
        check_go()?;
        fs::create_dir_all(&self.built).doing(format!("making {}", self.built.display()))?;
        let lock = File::create(self.built.join(".lock")).doing("making the lock of the tools' cache")?;
        if lock.try_lock().is_err() {
            eprintln!("waiting: another process builds the test tools …");
            lock.lock().doing("locking the tools' cache")?;
        }
        let missing = self.missing();
        for (number, tool) in missing.iter().enumerate() {
            self.build(*tool, number + 1, missing.len())?;
        }
        Ok(())
    }

    fn build(&self, tool: Tool, number: usize, of: usize) -> Result<(), Error> {
        let name = tool.name();
        eprintln!("[{number}/{of}] building {name} ({}) …", tool.patience());
        let began = Instant::now();
        // Renamed when whole, so that an interrupted build is never taken for a program.
        let unfinished = self.built.join(format!(".{name}.{}", std::process::id()));
        let log = self.built.join(format!(".{name}.log"));
        let (go, tools) = (go()?, workspace::root().join("tests/tools"));
        let mut command = Command::new(&go);
        command
            .current_dir(&tools)
            .args(["build", "-mod=readonly", "-ldflags", &tool.link_flags()]);
        if tool == Tool::Pebble {
            let modules = pebble_source::changed(&go, &tools, &self.built)?;
            command.arg("-modfile").arg(modules);
        }
        command.arg("-o").arg(&unfinished).arg(tool.package());
        let output = File::create(&log).doing(format!("making {}", log.display()))?;
        command.stdout(Stdio::null()).stderr(output);
        let mut child = spawn_kept(&mut command).doing(format!("starting go to build {name}"))?;
        let status = wait_kept(&mut child).doing(format!("building {name}"))?;
        if !status.success() {
            return Err(Error::Build {
                tool: name.to_owned(),
                status: status.to_string(),
                output: tail(&log, 40),
            });
        }
        fs::rename(&unfinished, self.built.join(tool.built_name())).doing(format!("moving {name} into the cache"))?;
        eprintln!("[{number}/{of}] built {name} in {} s", began.elapsed().as_secs());
        Ok(())
    }
}

fn go() -> Result<PathBuf, Error> {
    workspace::which("go", &["/usr/local/go/bin", "/usr/lib/go/bin", "/opt/homebrew/bin"]).ok_or_else(|| {
        Error::Missing {
            what: "Go",
            install: "install Go 1.26 or newer (https://go.dev/doc/install) and put `go` on the PATH, or set \
                      KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager, kubectl, pebble \
                      and pebble-challtestsrv"
                .to_owned(),
        }
    })
}

fn check_go() -> Result<(), Error> {
    go().map(drop)
}

/// Says at once, before any long build, which prerequisite is missing: a C compiler (the crypto library is C), and Go
/// unless every tool exists already.
pub fn check_prerequisites() -> Result<(), Error> {
    let compiler = std::env::var("CC").unwrap_or_default();
    let named = compiler
        .split_whitespace()
        .next()
        .is_some_and(|cc| Path::new(cc).is_file());
    if !named
        && ["cc", "gcc", "clang"]
            .iter()
            .all(|name| workspace::which(name, &[]).is_none())
    {
        return Err(Error::Missing {
            what: "a C compiler",
            install: "install gcc or clang (Debian and Ubuntu: `apt-get install build-essential`; macOS: \
                      `xcode-select --install`)"
                .to_owned(),
        });
    }
    if Assets::locate().missing().is_empty() {
        return Ok(());
    }
    check_go()
}

/// Knot's `knotd`, which answers for the zones of DNS-01 tests. Installed from Debian's archive when this is root there.
pub fn knotd() -> Result<PathBuf, Error> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let find = || workspace::which("knotd", &["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"]);
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    if let Some(found) = find() {
        return Ok(FOUND.get_or_init(|| found).clone());
    }
    let missing = |detail: &str| Error::Missing {
        what: "the DNS server Knot (knotd)",
        install: format!("install it (Debian, Ubuntu, Alpine, Homebrew: the package `knot`){detail}"),
    };
    if !debian::is_root_here() {
        return Err(missing(""));
    }
    let _lock = debian::lock()?;
    if find().is_none() {
        eprintln!("installing the DNS server Knot (apt-get install knot) …");
        debian::apt(Path::new("/"), &["install", "--no-install-recommends", "knot"])
            .map_err(|error| missing(&format!("; apt-get could not:\n{error}")))?;
    }
    find()
        .map(|found| FOUND.get_or_init(|| found).clone())
        .ok_or_else(|| missing(""))
}

/// Prometheus's `promtool`, which checks and tests alerting rules. On Debian, as root, it is unpacked from the package
/// `prometheus` into the cache: installed, that package would start a server.
pub fn promtool() -> Result<PathBuf, Error> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    let found = match workspace::which("promtool", &[]) {
        Some(found) => found,
        None => debian::unpacked("prometheus", "usr/bin/promtool").map_err(|why| Error::Missing {
            what: "promtool",
            install: format!("install Prometheus (Debian, Ubuntu, Alpine, Homebrew: the package `prometheus`){why}"),
        })?,
    };
    Ok(FOUND.get_or_init(|| found).clone())
}

/// Prometheus' Alertmanager, to which alerts are posted. On Debian, as root, it is unpacked into the cache: installed, its
/// package would start a server. Its templates are looked for in one place alone, so a link is put there.
pub fn alertmanager() -> Result<PathBuf, Error> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    let names = ["alertmanager", "prometheus-alertmanager"];
    let found = match names.iter().find_map(|name| workspace::which(name, &[])) {
        Some(found) => found,
        None => unpacked_alertmanager().map_err(|why| Error::Missing {
            what: "Prometheus' Alertmanager",
            install: format!(
                "put `alertmanager` on the PATH (Debian, Ubuntu: the package `prometheus-alertmanager`; Alpine, \
                     Homebrew: `alertmanager`){why}"
            ),
        })?,
    };
    Ok(FOUND.get_or_init(|| found).clone())
}

fn unpacked_alertmanager() -> Result<PathBuf, String> {
    const PACKAGE: &str = "prometheus-alertmanager";
    let program = debian::unpacked(PACKAGE, "usr/bin/prometheus-alertmanager")?;
    let templates = debian::unpacked(PACKAGE, "usr/share/prometheus/alertmanager")?;
    debian::link(&templates, Path::new("/usr/share/prometheus/alertmanager"))?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_tools_are_stamped_with_the_version_of_go_mod() {
        let flags = Tool::KubeApiserver.link_flags();
        let version = required_version("k8s.io/kubernetes");
        assert!(version.starts_with("v1."), "{version}");
        assert!(
            flags.contains(&format!("-X k8s.io/component-base/version.gitVersion={version}")),
            "{flags}"
        );
        assert_eq!(Tool::Pebble.link_flags(), "-s -w");
    }

    #[test]
    fn staging_modules_are_those_of_the_kubernetes_release() {
        let staging = required_version("k8s.io/kubernetes").replacen("v1.", "v0.", 1);
        let replaced: Vec<&str> = GO_MOD.lines().filter(|line| line.contains("=>")).collect();
        assert!(!replaced.is_empty());
        for line in replaced {
            assert!(line.ends_with(&staging), "{line} is not {staging}");
        }
    }

    #[test]
    fn every_tool_is_a_tool_of_go_mod() {
        for tool in Tool::ALL {
            assert!(
                GO_MOD.lines().any(|line| line.trim() == tool.package()),
                "{} has no tool line",
                tool.package()
            );
        }
    }
}
