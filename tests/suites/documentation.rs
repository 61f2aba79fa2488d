//! `ARCHITECTURE.md` names files and items that exist.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: to panic is how it reports"
)]

use std::path::Path;

use gatehouse_tests::workspace;

/// Returns the links of a Markdown text, each with the code words that follow it: `[text](path): `word`, `word``.
fn links(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices("](") {
        let rest = &text[start + 2..];
        let Some((path, after)) = rest.split_once(')') else {
            continue;
        };
        if path.starts_with("http") {
            continue;
        }
        let mut words = Vec::new();
        let mut after = after
            .strip_prefix(": ")
            .or_else(|| after.strip_prefix(":\n"))
            .unwrap_or("");
        while let Some((word, more)) = after.strip_prefix('`').and_then(|code| code.split_once('`')) {
            words.push(word.to_owned());
            after = more
                .strip_prefix(", ")
                .or_else(|| more.strip_prefix(",\n"))
                .unwrap_or("");
        }
        found.push((path.to_owned(), words));
    }
    found
}

/// Whether Rust code defines an item of this name.
fn defines(code: &str, item: &str) -> bool {
    let keywords = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
    code.lines().any(|line| {
        let words: Vec<&str> = line
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .collect();
        words
            .windows(2)
            .any(|pair| keywords.contains(&pair[0]) && pair[1] == item)
    })
}

#[test]
fn the_architecture_names_files_and_items_that_exist() {
    let root = workspace::root();
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let links = links(&text);
    assert!(links.len() > 30, "the page is read");
    assert!(
        links.iter().filter(|(_, items)| !items.is_empty()).count() > 15,
        "so are its items"
    );
    let mut wrong = Vec::new();
    for (path, items) in links {
        let file = root.join(&path);
        if !file.exists() {
            wrong.push(format!("{path} does not exist"));
        } else if Path::new(&path).extension().is_some_and(|extension| extension == "rs") {
            let code = std::fs::read_to_string(&file).unwrap();
            let missing = items.iter().filter(|item| !defines(&code, item));
            wrong.extend(missing.map(|item| format!("{path} defines no {item}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `crates/` know no Kubernetes, and the rooms of the operator refer to each other in one direction.
#[test]
fn rooms_refer_to_each_other_in_one_direction() {
    // Each may refer to those after it; `telemetry` and `kubernetes` to no other room.
    let order = ["cli", "manager", "alert", "gateway", "certificate", "issuer"];
    let rooms = [
        "alert",
        "certificate",
        "cli",
        "gateway",
        "issuer",
        "kubernetes",
        "manager",
        "telemetry",
    ];
    let root = workspace::root();
    let mut wrong = Vec::new();
    for room in rooms {
        let place = order.iter().position(|known| *known == room);
        for file in sources(&root.join("operator/src").join(room)) {
            for other in referred(&std::fs::read_to_string(&file).unwrap(), &rooms) {
                let allowed = other == room
                    || match (place, order.iter().position(|known| *known == other)) {
                        (Some(place), Some(other)) => other > place,
                        (Some(_), None) => true,
                        (None, _) => false,
                    };
                if !allowed {
                    wrong.push(format!("{} refers to {other}", file.display()));
                }
            }
        }
    }
    for file in sources(&root.join("crates")) {
        let code = std::fs::read_to_string(&file).unwrap();
        if code.contains("k8s_openapi") || code.contains("use kube") {
            wrong.push(format!("{} refers to Kubernetes", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The rooms that code refers to by `crate::room` or in `use crate::{ room:: … }`.
fn referred<'a>(code: &str, rooms: &[&'a str]) -> Vec<&'a str> {
    let mut grouped = String::new();
    let mut rest = code;
    while let Some((_, after)) = rest.split_once("use crate::{") {
        let (group, more) = after.split_once("};").unwrap_or((after, ""));
        grouped.push_str(group);
        grouped.push('\n');
        rest = more;
    }
    let is_referred = |room: &&&str| {
        code.contains(&format!("crate::{room}::"))
            || grouped.lines().any(|line| {
                let line = line.strip_prefix("    ").unwrap_or(line);
                line.starts_with(&format!("{room}::"))
            })
    };
    rooms.iter().filter(is_referred).copied().collect()
}
