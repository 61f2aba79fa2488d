//! Storage of the states of policies: a ConfigMap each, in the operator's own namespace.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::json;

use super::{durable, engine::Stored, policy::PolicyKey, state::State};
use crate::kubernetes::{
    apply::{Conflicts, Target, WriteError, Writer},
    names,
};

/// Its name is this and the UID of the policy.
const PREFIX: &str = "gatehouse-alerts-";
/// Label of these ConfigMaps.
const LABEL: &str = "gatehouse.dev/alert-state";
/// Which policy it belongs to, for people and for a leader that comes after the policy was deleted.
const POLICY: &str = "gatehouse.dev/alert-policy";
/// The key of its data.
const KEY: &str = "state";

/// Reads and writes them.
pub struct Store {
    api: Api<ConfigMap>,
    writer: Writer,
}

impl Store {
    /// In `namespace`.
    pub fn new(client: Client, namespace: &str, writer: Writer) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            writer,
        }
    }

    /// Reads every state. One that cannot be read is as good as none.
    pub async fn load(&self) -> Result<Stored, WriteError> {
        let params = ListParams::default().labels(LABEL);
        let list = self
            .api
            .list(&params)
            .await
            .map_err(|error| WriteError::reading("ConfigMap", "of alerts", error))?;
        let read = list.into_iter().filter_map(|object| {
            let name = object.name_any();
            let uid = name.strip_prefix(PREFIX)?.to_owned();
            let key = PolicyKey::parse(object.annotations().get(POLICY).map_or(&uid, |key| key));
            let bytes = object.binary_data?.remove(KEY)?;
            let state = match durable::unpack(&bytes.0) {
                Ok(state) => state,
                Err(error) => {
                    tracing::warn!(
                        name,
                        error,
                        "state of an alert policy cannot be read; its alerts are sent again"
                    );
                    State::default()
                }
            };
            Some((uid, (key, state)))
        });
        Ok(read.collect())
    }

    /// Keeps the packed state of a policy.
    pub async fn save(&self, policy: &PolicyKey, uid: &str, packed: &[u8]) -> Result<(), WriteError> {
        let name = format!("{PREFIX}{uid}");
        let body = json!({
            "metadata": {
                "labels": {names::MANAGED: names::TRUE, LABEL: names::TRUE, names::APP_MANAGED_BY: names::FIELD_MANAGER},
                "annotations": {POLICY: policy.to_string()},
            },
            "binaryData": {KEY: STANDARD.encode(packed)},
        });
        self.writer
            .apply(&self.api, Target::named(&name), body, Conflicts::Take)
            .await
            .map(drop)
    }

    /// Nothing has to be remembered of the policy any more.
    pub async fn remove(&self, uid: &str) -> Result<(), WriteError> {
        let name = format!("{PREFIX}{uid}");
        self.writer.delete(&self.api, Target::named(&name)).await
    }
}
