//! A word on objects that cannot be decoded, in statuses that are left as they are otherwise.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource,
    api::{DynamicObject, ListParams},
    core::PartialObjectMeta,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    apply::{Target, WriteError, Writer},
    conditions::{self, ConditionUpdate},
};

/// Sets a condition of the object `name` of both APIs, as seen at `generation`. One that is gone is no error.
pub async fn set_condition<K>(
    writer: &Writer,
    (raw, bare): (&Api<DynamicObject>, &Api<PartialObjectMeta<K>>),
    name: &str,
    verdict: &ConditionUpdate,
    generation: Option<i64>,
    now: Timestamp,
) -> Result<(), WriteError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    // A list of one: to get it would be a right that we need for nothing else.
    let found = raw
        .list(&ListParams::default().fields(&format!("metadata.name={name}")))
        .await
        .map_err(|error| WriteError::reading(&K::kind(&()), name, error))?;
    let Some(found) = found.items.into_iter().next() else {
        return Ok(());
    };
    let status = with(found.data.get("status"), verdict, generation, now);
    writer
        .apply_status(
            bare,
            Target {
                uid: found.metadata.uid.as_deref(),
                ..Target::named(name)
            },
            status,
        )
        .await
        .map(drop)
}

/// A status as it is, whatever is in it, with one condition set.
fn with(status: Option<&Value>, verdict: &ConditionUpdate, generation: Option<i64>, now: Timestamp) -> Value {
    let mut status: Map<String, Value> = status.and_then(Value::as_object).cloned().unwrap_or_default();
    let mut conditions: Vec<Condition> = status
        .get("conditions")
        .and_then(|conditions| serde_json::from_value(conditions.clone()).ok())
        .unwrap_or_default();
    conditions::set(&mut conditions, verdict, generation, now);
    status.insert("conditions".into(), json!(conditions));
    Value::Object(status)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kubernetes::conditions::Status;

    #[test]
    fn what_the_status_says_beside_stays() {
        let verdict = ConditionUpdate {
            type_: "Ready",
            status: Status::False,
            reason: "Invalid",
            message: "no".into(),
        };
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let since = "2026-01-01T00:00:00Z";
        let issuing = json!({"type": "Issuing", "status": "False", "reason": "Issued", "message": "", "lastTransitionTime": since});
        let ready =
            json!({"type": "Ready", "status": "True", "reason": "Issued", "message": "", "lastTransitionTime": since});
        let before = json!({"revision": 3, "odd": {"a": [1]}, "conditions": [ready, issuing]});
        let condition = json!({
            "type": "Ready", "status": "False", "reason": "Invalid", "message": "no",
            "observedGeneration": 2, "lastTransitionTime": "2026-11-21T10:00:00Z",
        });
        let after = with(Some(&before), &verdict, Some(2), now);
        assert_eq!(
            after,
            json!({"revision": 3, "odd": {"a": [1]}, "conditions": [condition, issuing]})
        );
        for odd in [None, Some(json!("text")), Some(json!({"conditions": "text"}))] {
            let after = with(odd.as_ref(), &verdict, Some(2), now);
            assert_eq!(after, json!({"conditions": [condition]}), "{odd:?}");
        }
    }
}
