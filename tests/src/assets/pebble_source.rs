//! The source of Pebble, with one function changed before it is built.
//!
//! Pebble 2.10.1 deadlocks under many orders in parallel: `FindValidAuthorization` holds the lock of its store while it
//! waits for the lock of each authorization, and the handlers of authorizations and challenges take them in the other
//! order. It then answers nothing until it is restarted. Here the store's lock is given back first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::error::{Doing as _, Error};

const MODULE: &str = "github.com/letsencrypt/pebble/v2";
const FILE: &str = "db/memorystore.go";
const BEFORE: &str = "*core.Authorization {
\tm.RLock()
\tdefer m.RUnlock()
\tfor _, authz := range m.authorizationsByID {
\t\t// Lock is needed";
const AFTER: &str = "*core.Authorization {
\tm.RLock()
\tauthzs := make([]*core.Authorization, 0, len(m.authorizationsByID))
\tfor _, authz := range m.authorizationsByID {
\t\tauthzs = append(authzs, authz)
\t}
\tm.RUnlock()
\tfor _, authz := range authzs {
\t\t// Lock is needed";

/// Copies the source of Pebble into `folder`, changes it, and returns a copy of `tools`' `go.mod` in which it replaces the
/// module, for `go build -modfile`.
///
/// # Errors
/// When the source does not have the lines that are replaced, as after an update of Pebble.
pub(super) fn changed(go: &Path, tools: &Path, folder: &Path) -> Result<PathBuf, Error> {
    let mut command = Command::new(go);
    command.current_dir(tools).args(["mod", "download", "-json", MODULE]);
    let output = command.output().doing("downloading Pebble's source")?;
    let module: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let source = Path::new(module["Dir"].as_str().unwrap_or_default());
    let copied = folder.join("pebble-source");
    copy(source, &copied)?;
    let file = copied.join(FILE);
    let text = fs::read_to_string(&file).doing(format!("reading {FILE} of {MODULE}"))?;
    let Some(changed) = replace(&text) else {
        return Err(Error::Build {
            tool: "pebble".to_owned(),
            status: format!("{FILE} is not as expected"),
            output: "Pebble has changed: see whether tests/src/assets/pebble_source.rs is still needed.".to_owned(),
        });
    };
    fs::write(&file, changed).doing(format!("writing {}", file.display()))?;
    let modules = folder.join("pebble.mod");
    let required = fs::read_to_string(tools.join("go.mod")).doing("reading tests/tools/go.mod")?;
    let replaced = format!("{required}\nreplace {MODULE} => {}\n", copied.display());
    fs::write(&modules, replaced).doing(format!("writing {}", modules.display()))?;
    let sums = folder.join("pebble.sum");
    fs::copy(tools.join("go.sum"), &sums).doing(format!("writing {}", sums.display()))?;
    Ok(modules)
}

/// Copies a folder's files. Go's module cache is read-only, and its copy must not be.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).doing(format!("making {}", to.display()))?;
    for entry in fs::read_dir(from).doing(format!("reading {}", from.display()))? {
        let entry = entry.doing(format!("reading {}", from.display()))?;
        let target = to.join(entry.file_name());
        if entry.file_type().doing("reading a file's type")?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            let content = fs::read(entry.path()).doing(format!("reading {}", entry.path().display()))?;
            fs::write(&target, content).doing(format!("writing {}", target.display()))?;
        }
    }
    Ok(())
}

fn replace(text: &str) -> Option<String> {
    (text.matches(BEFORE).count() == 1).then(|| text.replacen(BEFORE, AFTER, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_without_exactly_one_such_place_is_refused() {
        let before = format!("a\n{BEFORE} because\n");
        assert_eq!(replace(&before), Some(format!("a\n{AFTER} because\n")));
        assert_eq!(replace("another version"), None);
        assert_eq!(replace(&format!("{before}{before}")), None);
    }
}
