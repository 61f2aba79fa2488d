//! Carries out what [`decide`](super::decide) returns, and writes the status.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use gatehouse_crds::gateway::{Gateway, GatewayStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::PartialObjectMeta,
    runtime::controller::Action,
};
use serde_json::Value;

use super::{
    cache::{Cache, Guarded},
    cluster_reader::ClusterReader,
    lookup::Lookup,
    reconcile::{REQUEUE_AFTER, Reconcile},
    safeguard::{Applied, Settled},
    status,
};
use crate::{
    certificate::cache::Cache as Certificates,
    kubernetes::{
        apply::Writer,
        conditions::{ConditionUpdate, Status},
        events::{EventType, Events},
        undecodable,
    },
    telemetry::metrics::Metrics,
};

/// Context that all reconciles share.
pub struct Context {
    pub client: Client,
    pub writer: Writer,
    pub events: Events,
    pub metrics: Metrics,
    pub lookup: Arc<Lookup>,
    /// Reader of what is not in the stores.
    pub cluster_reader: ClusterReader,
    pub now: fn() -> Timestamp,
    /// By UID.
    pub attempts: Mutex<HashMap<String, Attempt>>,
    /// Namespace and name of those that are looked at again when the API server answers again.
    pub waiting: Mutex<HashSet<(String, String)>>,
    /// Services that are being created now.
    pub creating: Creating,
}

/// Counts the Services that are being created. From many until none, statuses wait: load balancers come first.
#[derive(Debug, Default)]
pub struct Creating {
    count: AtomicUsize,
    are_many: AtomicBool,
}

/// Counts one Service until it is dropped.
#[derive(Debug)]
pub(super) struct CreatingOne<'a>(&'a Creating);

impl Creating {
    /// With so many at once the API server is the bottleneck.
    const BUSY_THRESHOLD: usize = 24;

    pub(super) fn begin(&self) -> CreatingOne<'_> {
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 >= Self::BUSY_THRESHOLD {
            self.are_many.store(true, Ordering::Relaxed);
        }
        CreatingOne(self)
    }

    pub(super) fn are_many(&self) -> bool {
        self.are_many.load(Ordering::Relaxed)
    }
}

impl Drop for CreatingOne<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.are_many.store(false, Ordering::Relaxed);
        }
    }
}

/// State of a Gateway between two reconciles, which may be lost.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// When its Service was made by this process.
    pub(super) made: Option<Timestamp>,
    /// The generation whose write was refused, and how.
    pub(super) refused: Option<(Option<i64>, String)>,
    pub(super) failures: u32,
    /// The version of the Gateway with the last status, and the status.
    pub(super) wrote: Option<(u64, GatewayStatus)>,
    /// The write that another changed as soon as it was made, and when.
    pub(super) contested: Option<(Value, Timestamp)>,
    /// While the spec is refused: what was applied when it was accepted last.
    pub(super) applied: Option<Applied>,
    /// The Service at the last reconcile, while it matched an accepted spec.
    pub(super) settled: Option<Settled>,
    /// Generation that was reported as undecodable.
    unreadable: Option<i64>,
}

impl Attempt {
    /// Whether a write of this body is held back: another, such as a webhook, has changed the last one in the same moment, and
    /// would do so again.
    pub(super) fn is_contested(&self, body: &Value, now: Timestamp) -> bool {
        self.contested
            .as_ref()
            .is_some_and(|(contested, at)| contested == body && now.duration_since(*at).unsigned_abs() < REQUEUE_AFTER)
    }
}

/// One scope's reconciles: all namespaces, or one.
pub struct Scope {
    pub ctx: Arc<Context>,
    pub cache: Arc<Cache>,
    pub certificates: Arc<Certificates>,
}

impl Context {
    /// The Gateway is gone: so is what is remembered of it.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    pub(super) fn wait_for_api(&self, namespace: &str, name: String) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert((namespace.to_owned(), name));
    }

    /// Takes those that wait for the API server, by namespace and name.
    pub fn take_waiting(&self) -> HashSet<(String, String)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn attempt<T>(&self, uid: &str, take: impl FnOnce(&mut Attempt) -> T) -> T {
        take(self.lock().entry(uid.to_owned()).or_default())
    }
}

/// One look at a Gateway.
pub async fn reconcile(object: Arc<Guarded>, scope: Arc<Scope>) -> Result<Action, Infallible> {
    let started = tokio::time::Instant::now();
    let (action, failed) = match &object.0 {
        Ok(gateway) => {
            let reconcile = Reconcile::new(gateway, &scope);
            match Box::pin(reconcile.reconcile()).await {
                Ok(action) => (action, false),
                Err(error) => (reconcile.write_failed(&error), true),
            }
        }
        Err(error) => (unreadable(&object, &error.to_string(), &scope.ctx).await, true),
    };
    scope.ctx.metrics.reconciled("Gateway", started.elapsed(), failed);
    Ok(action)
}

/// Reports a Gateway that cannot be decoded (written past validation) once; it affects no other.
async fn unreadable(object: &Guarded, error: &str, ctx: &Context) -> Action {
    let (uid, generation) = (object.uid().unwrap_or_default(), object.meta().generation);
    if generation.is_some() && ctx.attempt(&uid, |attempt| attempt.unreadable) == generation {
        return Action::await_change();
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    tracing::warn!(namespace, gateway = name, error, "Gateway cannot be decoded");
    let message = format!("This Gateway cannot be read: {error}. Fix its spec.");
    let verdict = ConditionUpdate {
        type_: status::ACCEPTED,
        status: Status::False,
        reason: "Invalid",
        message: message.clone(),
    };
    let kind = ApiResource::erase::<Gateway>(&());
    let raw: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &namespace, &kind);
    let bare: Api<PartialObjectMeta<Gateway>> = Api::namespaced(ctx.client.clone(), &namespace);
    // First: of an object that does not even have the types of its schema, the API server takes no status.
    let reference = ObjectReference {
        api_version: Some(Gateway::api_version(&()).into()),
        kind: Some(Gateway::kind(&()).into()),
        name: Some(name.clone()),
        namespace: Some(namespace.clone()),
        uid: object.uid(),
        ..ObjectReference::default()
    };
    ctx.events
        .publish(&reference, EventType::Warning, "Invalid", "Read", &message);
    match undecodable::set_condition(&ctx.writer, (&raw, &bare), &name, &verdict, generation, (ctx.now)()).await {
        Ok(()) => {
            ctx.attempt(&uid, |attempt| attempt.unreadable = generation);
            Action::await_change()
        }
        Err(error) if error.is_not_found() => Action::await_change(),
        Err(error) => {
            tracing::warn!(%error, namespace, gateway = name, "status not written");
            Action::requeue(REQUEUE_AFTER)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_another_changes_as_soon_as_it_is_written_is_written_again_after_a_pause() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let body = json!({"spec": {"externalTrafficPolicy": "Cluster"}});
        let attempt = Attempt {
            contested: Some((body.clone(), at(100))),
            ..Attempt::default()
        };
        assert!(attempt.is_contested(&body, at(101)));
        assert!(!attempt.is_contested(&body, at(130)));
        // Another write is another matter.
        assert!(!attempt.is_contested(&json!({"spec": {}}), at(101)));
        assert!(!Attempt::default().is_contested(&body, at(101)));
    }

    #[test]
    fn services_are_many_until_the_last_one_is_created() {
        let creating = Creating::default();
        let mut begun: Vec<_> = (1..Creating::BUSY_THRESHOLD).map(|_| creating.begin()).collect();
        assert!(!creating.are_many());
        begun.push(creating.begin());
        assert!(creating.are_many());
        begun.truncate(1);
        assert!(creating.are_many());
        drop(begun);
        assert!(!creating.are_many());
        let _one = creating.begin();
        assert!(!creating.are_many());
    }
}
