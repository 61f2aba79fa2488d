//! The YAML beside the crate is what the types say.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{fs, path::PathBuf};

/// Asked for at run time: a cache of builds outlives the checkout that filled it.
fn folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap().into()
}

#[test]
fn the_committed_yaml_is_what_the_types_say() {
    let mut stale = Vec::new();
    for crd in gatehouse_crds::all() {
        let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        let path = folder().join(&name);
        let wanted = format!(
            "# Generated from the types in src/. UPDATE_CRDS=1 cargo test -p gatehouse-crds writes it again.\n{}",
            gatehouse_crds::yaml(&crd).unwrap()
        );
        if std::env::var_os("UPDATE_CRDS").is_some() {
            fs::write(&path, &wanted).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != wanted {
            stale.push(name);
        }
    }
    assert!(
        stale.is_empty(),
        "stale: {stale:?}; run UPDATE_CRDS=1 cargo test -p gatehouse-crds"
    );
}

#[test]
fn the_kustomization_lists_every_crd() {
    let text = fs::read_to_string(folder().join("kustomization.yaml")).unwrap();
    for crd in gatehouse_crds::all() {
        let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        assert!(text.contains(&format!("- {name}")), "{name} is missing");
    }
}

#[test]
fn every_field_is_explained() {
    fn walk(at: &str, node: &serde_json::Value, bare: &mut Vec<String>) {
        if let Some(properties) = node.get("properties").and_then(|p| p.as_object()) {
            for (name, field) in properties {
                let at = format!("{at}.{name}");
                // metav1.Condition's and the root's own fields are explained by Kubernetes.
                if field.get("description").is_none()
                    && !at.contains("conditions")
                    && name != "spec"
                    && name != "status"
                {
                    bare.push(at.clone());
                }
                walk(&at, field, bare);
            }
        }
        if let Some(items) = node.get("items") {
            walk(at, items, bare);
        }
    }
    let mut bare = Vec::new();
    for crd in gatehouse_crds::all() {
        let crd = serde_json::to_value(&crd).unwrap();
        walk(
            crd["spec"]["names"]["kind"].as_str().unwrap(),
            &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            &mut bare,
        );
    }
    assert!(bare.is_empty(), "kubectl explain has no words for {bare:?}");
}
