//! Paths in the workspace and on this machine.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The top folder of the workspace: of the one that runs, which is not always the one that filled the cache of builds.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let own =
            std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        own.parent().expect("tests/ is in the workspace").to_owned()
    })
}

/// The folder that outlives a checkout: `$XDG_CACHE_HOME/gatehouse`, else `~/.cache/gatehouse`.
pub fn cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("gatehouse")
}

/// The first file of that name on the PATH or in `also`.
pub(crate) fn which(name: &str, also: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(also.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
