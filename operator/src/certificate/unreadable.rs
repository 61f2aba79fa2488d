//! Reports a Certificate that cannot be decoded (written past validation): it affects no other.

use gatehouse_crds::certificate::Certificate;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::PartialObjectMeta,
    runtime::controller::Action,
};

use super::{
    cache::Guarded,
    controller::{MAX_BACKOFF, Scope},
    status::READY,
};
use crate::kubernetes::{
    conditions::{ConditionUpdate, Status},
    events::EventType,
    undecodable,
};

/// Says in its status and in an event what is wrong with `object`.
pub async fn report(object: &Guarded, error: &str, scope: &Scope) -> Action {
    let ctx = &scope.ctx;
    let (uid, generation) = (object.uid().unwrap_or_default(), object.meta().generation);
    if generation.is_some() && ctx.attempt(&uid, |attempt| attempt.unreadable) == generation {
        return Action::await_change();
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    tracing::warn!(namespace, certificate = name, error, "Certificate cannot be decoded");
    let message = format!("This Certificate cannot be read: {error}. Fix its spec.");
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
    let verdict = ConditionUpdate {
        type_: READY,
        status: Status::False,
        reason: "Invalid",
        message,
    };
    let kind = ApiResource::erase::<Certificate>(&());
    let raw: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &namespace, &kind);
    let bare: Api<PartialObjectMeta<Certificate>> = Api::namespaced(ctx.client.clone(), &namespace);
    match undecodable::set_condition(&ctx.writer, (&raw, &bare), &name, &verdict, generation, (ctx.now)()).await {
        Ok(()) => {
            ctx.attempt(&uid, |attempt| attempt.unreadable = generation);
            Action::await_change()
        }
        Err(error) if error.is_not_found() => Action::await_change(),
        Err(error) => {
            tracing::warn!(%error, namespace, certificate = name, "status not written");
            Action::requeue(MAX_BACKOFF)
        }
    }
}
