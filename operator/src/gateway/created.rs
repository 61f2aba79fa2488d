//! What a load balancer was made with, where its provider reads that once only.
//!
//! It stands on the Service itself: what is there now may have been changed since by anybody, and is put back to this.

use std::collections::BTreeMap;

use gatehouse_crds::gateway::{Provider, Scope};
use serde::{Deserialize, Serialize};

use super::{observed_service::ObservedService, provider::create_only, service::DesiredService};

/// Annotation on a Service: a [`Created`] as JSON.
pub const CREATED_WITH: &str = "gatehouse.dev/created-with";

/// What its provider has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub provider: Provider,
    #[serde(default)]
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Created {
    /// What a Service that is made now is made with; none where the provider goes on reading all of it.
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

    /// What a Service says of itself.
    pub fn on(live: &ObservedService) -> Option<Self> {
        serde_json::from_str(live.annotation(CREATED_WITH)?).ok()
    }

    /// As it stands in the annotation.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
