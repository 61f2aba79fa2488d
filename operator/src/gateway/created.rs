//! Settings with which a load balancer was created, where its provider reads them once only.
//!
//! They are recorded on the Service itself: its fields may have been changed since by any client, and are restored from this.

use std::collections::BTreeMap;

use gatehouse_crds::gateway::{Provider, Scope};
use serde::{Deserialize, Serialize};

use super::{observed_service::ObservedService, provider::create_only, service::DesiredService};

/// Annotation on a Service: a [`Created`] as JSON.
pub const CREATED_WITH: &str = "gatehouse.dev/created-with";

/// Settings that its provider has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub provider: Provider,
    #[serde(default)]
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Created {
    /// Returns the settings with which a new Service is created; none where the provider continues to read all of them.
    pub fn of(desired: &DesiredService) -> Option<Self> {
        let provider = desired.provider?;
        let only = create_only(provider);
        let annotations = &desired.template.annotations;
        let matters = only.scope || only.annotations.iter().any(|key| annotations.contains_key(*key));
        matters.then(|| Self {
            provider,
            scope: desired.scope,
            annotations: annotations.clone(),
        })
    }

    /// Returns the settings that a Service records.
    pub fn on(live: &ObservedService) -> Option<Self> {
        serde_json::from_str(live.annotation(CREATED_WITH)?).ok()
    }

    /// Returns the text of the annotation.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
