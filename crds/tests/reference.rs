//! The field tables in `docs/reference/` are what the types say.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{fmt::Write as _, fs, path::Path};

use serde_json::Value;

/// More values than this are too many for a cell.
const MANY: usize = 24;

#[test]
fn the_reference_of_each_kind_is_what_the_types_say() {
    let mut stale = Vec::new();
    for crd in gatehouse_crds::all() {
        let crd = serde_json::to_value(&crd).unwrap();
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        let root = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let page = match kind {
            "Certificate" => "certificate.md",
            "Issuer" => "issuer.md",
            "AlertPolicy" => "alert-policy.md",
            "Gateway" => "gateway.md",
            // Their fields are an Issuer's and an AlertPolicy's, with a namespaceSelector.
            "ClusterIssuer" | "ClusterAlertPolicy" => continue,
            other => panic!("{other} has no page in docs/reference"),
        };
        for part in ["spec", "status"] {
            stale.extend(check(page, part, &table(part, &root[part])));
        }
        stale.extend(check(page, "rules", &rules(&root["spec"])));
    }
    assert!(
        stale.is_empty(),
        "stale: {stale:?}; run UPDATE_DOCS=1 cargo test -p gatehouse-crds"
    );
}

/// Compares the text between the markers of `part` in a page with the expected one, and writes it when asked to.
fn check(page: &str, part: &str, wanted: &str) -> Option<String> {
    // Asked for at run time: a cache of builds outlives the checkout that filled it.
    let path = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("../docs/reference")
        .join(page);
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        format!("<!-- generated: {part} -->\n"),
        format!("<!-- end of {part} -->"),
    );
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page}: no {begin}"));
    let (found, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("{page}: no {end}"));
    if found == wanted {
        return None;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{head}{begin}{wanted}{end}{tail}")).unwrap();
        return None;
    }
    Some(format!("{page}: {part}"))
}

fn table(path: &str, schema: &Value) -> String {
    let mut text = String::from("| Field | Type | Meaning |\n|---|---|---|\n");
    rows(path, schema, &mut text);
    text
}

fn rows(path: &str, schema: &Value, text: &mut String) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    for (name, field) in properties {
        let path = format!("{path}.{name}");
        let required = schema["required"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == name));
        let kind = if name == "conditions" {
            "[]Condition".to_owned()
        } else {
            kind(field)
        };
        let meaning = cell(field["description"].as_str().unwrap_or_default());
        let mark = if required { ", required" } else { "" };
        writeln!(text, "| `{path}` | {kind}{mark} | {meaning} |").unwrap();
        if name != "conditions" {
            rows(&path, field, text);
            rows(&format!("{path}[]"), &field["items"], text);
        }
    }
}

fn kind(field: &Value) -> String {
    let bound = |name: &str| field[name].as_f64();
    if let Some(values) = field["enum"].as_array() {
        if values.len() > MANY {
            return format!("one of {} words", values.len());
        }
        let values: Vec<_> = values
            .iter()
            .filter_map(Value::as_str)
            .map(|value| format!("`{value}`"))
            .collect();
        return values.join(", ");
    }
    match field["type"].as_str().unwrap_or_default() {
        "array" => {
            let most = bound("maxItems").map_or_else(String::new, |most| format!(", at most {most}"));
            format!("list of {}{most}", kind(&field["items"]))
        }
        "object" if field["additionalProperties"].is_object() => "map of strings".into(),
        "object" => "object".into(),
        "string" if field["format"] == "date-time" => "time".into(),
        "string"
            if field["pattern"]
                .as_str()
                .is_some_and(|pattern| pattern.contains("(ms|s|m|h)")) =>
        {
            "duration".into()
        }
        "string" => match bound("maxLength") {
            Some(most) => format!("string, at most {most}"),
            None => "string".into(),
        },
        "integer" => match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) => format!("integer, {least} to {most}"),
            _ => "integer".into(),
        },
        other => other.to_owned(),
    }
}

/// One line, and no bars.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

/// Messages of validation.
fn rules(spec: &Value) -> String {
    fn walk(path: &str, schema: &Value, text: &mut String) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = cell(rule["message"].as_str().unwrap_or_default());
            writeln!(text, "- `{path}`: {message}").unwrap();
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), field, text);
        }
        if schema["items"].is_object() {
            walk(&format!("{path}[]"), &schema["items"], text);
        }
    }
    let mut text = String::new();
    walk("spec", spec, &mut text);
    text
}
