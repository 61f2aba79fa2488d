//! A Certificate that cannot be decoded (written past validation): it is told, and harms no other.

use gatehouse_crds::certificate::Certificate;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::PartialObjectMeta,
    runtime::controller::Action,
};
use serde_json::{Map, Value, json};

use super::{
    cache::Guarded,
    controller::{LONGEST_PAUSE, Scope},
    outcome::READY,
};
use crate::kubernetes::{
    apply::{Target, WriteError},
    conditions::{self, Status, Verdict},
    events::EventType,
};

/// Says in its status and in an event what is wrong with `object`.
pub async fn tell(object: &Guarded, error: &str, scope: &Scope) -> Action {
    let ctx = &scope.ctx;
    let (uid, generation) = (object.uid().unwrap_or_default(), object.meta().generation);
    if generation.is_some() && ctx.attempt(&uid, |attempt| attempt.unreadable) == generation {
        return Action::await_change();
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    tracing::warn!(
        namespace,
        certificate = name,
        error,
        "a Certificate that cannot be read is left alone"
    );
    let message = format!("This Certificate cannot be read: {error}. Mend its spec.");
    let reference = ObjectReference {
        api_version: Some(Certificate::api_version(&()).into()),
        kind: Some(Certificate::kind(&()).into()),
        name: Some(name.clone()),
        namespace: Some(namespace.clone()),
        uid: object.uid(),
        ..ObjectReference::default()
    };
    ctx.events
        .publish(&reference, EventType::Warning, "IssuanceFailed", "Read", &message);
    let verdict = Verdict {
        type_: READY,
        status: Status::False,
        reason: "Invalid",
        message,
    };
    match write(object, &namespace, &name, &verdict, scope).await {
        Ok(()) => {
            ctx.attempt(&uid, |attempt| attempt.unreadable = generation);
            Action::await_change()
        }
        Err(error) if error.is_not_found() => Action::await_change(),
        Err(error) => {
            tracing::warn!(%error, namespace, certificate = name, "its status could not be written");
            Action::requeue(LONGEST_PAUSE)
        }
    }
}

async fn write(
    object: &Guarded,
    namespace: &str,
    name: &str,
    verdict: &Verdict,
    scope: &Scope,
) -> Result<(), WriteError> {
    let ctx = &scope.ctx;
    let kind = ApiResource::erase::<Certificate>(&());
    let raw: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), namespace, &kind);
    // A list of one: to get it would be a right that we need for nothing else.
    let found = raw
        .list(&ListParams::default().fields(&format!("metadata.name={name}")))
        .await
        .map_err(|error| WriteError::reading("Certificate", name, error))?;
    let Some(found) = found.items.into_iter().next() else {
        return Ok(());
    };
    let status = with(found.data.get("status"), verdict, object.meta().generation, (ctx.now)());
    let api: Api<PartialObjectMeta<Certificate>> = Api::namespaced(ctx.client.clone(), namespace);
    ctx.writer
        .apply_status(&api, Target::same(&found), status)
        .await
        .map(drop)
}

/// A status as it is, whatever is in it, with one condition set.
fn with(status: Option<&Value>, verdict: &Verdict, generation: Option<i64>, now: jiff::Timestamp) -> Value {
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

    #[test]
    fn what_the_status_says_beside_stays() {
        let verdict = Verdict {
            type_: READY,
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
        let told = json!({
            "type": "Ready", "status": "False", "reason": "Invalid", "message": "no",
            "observedGeneration": 2, "lastTransitionTime": "2026-11-21T10:00:00Z",
        });
        let after = with(Some(&before), &verdict, Some(2), now);
        assert_eq!(
            after,
            json!({"revision": 3, "odd": {"a": [1]}, "conditions": [told, issuing]})
        );
        for odd in [None, Some(json!("text")), Some(json!({"conditions": "text"}))] {
            let after = with(odd.as_ref(), &verdict, Some(2), now);
            assert_eq!(after, json!({"conditions": [told]}), "{odd:?}");
        }
    }
}
