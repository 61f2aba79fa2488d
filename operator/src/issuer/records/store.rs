//! Storage of the records: a ConfigMap in the operator's namespace.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::json;

use super::Record;
use crate::kubernetes::{
    apply::{Conflicts, Target, WriteError, Writer},
    names,
};

/// Its name, with a hash of the watched namespaces where they are not all: operators for single namespaces may share one of
/// their own.
const NAME: &str = "gatehouse-challenge-records";
const LABEL: &str = "gatehouse.dev/challenge-records";
const KEY: &str = "records";

/// Reads and writes it.
pub struct Store {
    api: Api<ConfigMap>,
    writer: Writer,
    name: String,
}

impl Store {
    /// In `namespace`, by an operator that watches `watched`, or all when there are none.
    pub fn new(client: Client, namespace: &str, watched: &[String], writer: Writer) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            writer,
            name: name(watched),
        }
    }

    /// Reads the records. By list: the operator may not read other ConfigMaps of its namespace by name.
    pub(super) async fn load(&self) -> Result<Vec<Record>, WriteError> {
        let params = ListParams::default().labels(LABEL);
        let list = self
            .api
            .list(&params)
            .await
            .map_err(|error| WriteError::reading("ConfigMap", &self.name, error))?;
        let found = list.into_iter().find(|object| object.name_any() == self.name);
        Ok(read(
            &found.and_then(|object| object.data?.remove(KEY)).unwrap_or_default(),
        ))
    }

    pub(super) async fn save(&self, records: &[Record]) -> Result<(), WriteError> {
        let body = json!({
            "metadata": {
                "labels": {names::MANAGED: names::TRUE, LABEL: names::TRUE, names::APP_MANAGED_BY: names::FIELD_MANAGER},
            },
            "data": {KEY: serde_json::to_string(records).unwrap_or_default()},
        });
        self.writer
            .apply(&self.api, Target::named(&self.name), body, Conflicts::Take)
            .await
            .map(drop)
    }
}

pub(super) fn name(watched: &[String]) -> String {
    if watched.is_empty() {
        return NAME.to_owned();
    }
    let watched: std::collections::BTreeSet<_> = watched.iter().map(String::as_str).collect();
    let text = watched.into_iter().collect::<Vec<_>>().join(",");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut name = format!("{NAME}-");
    name.extend(hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")));
    name
}

/// Reads what can be read: one damaged entry does not hide the others.
pub(super) fn read(text: &str) -> Vec<Record> {
    let entries: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|entry| serde_json::from_value(entry).ok())
        .collect()
}
