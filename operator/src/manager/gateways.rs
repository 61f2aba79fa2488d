//! Watches and reconciles Gateways, in each watch scope.

use std::sync::Arc;

use kube::ResourceExt;

use super::{
    component::{Component, Tasks},
    scoped,
};
use crate::{
    certificate::cache::Cache as Certificates,
    gateway::{
        cache::Cache,
        controller::{Context, Scope, reconcile},
    },
    kubernetes::{
        client::Recovery,
        controller::{Enqueued, controller},
        store::{Projection, Store, StoreEvent},
    },
};

/// Gateways reconciled at once.
const MAX_CONCURRENT: u16 = 64;

/// One watch scope: its namespace or all, its Gateways, and its Certificates.
pub(super) struct WatchScope {
    pub(super) namespace: Option<String>,
    pub(super) cache: Arc<Cache>,
    pub(super) enqueued: Enqueued,
    pub(super) certificates: Arc<Certificates>,
}

/// The controllers of Gateways, with all that they need.
pub(super) struct Gateways {
    pub(super) context: Arc<Context>,
    pub(super) scopes: Vec<WatchScope>,
    pub(super) recovery: Recovery,
}

impl Component for Gateways {
    fn name(&self) -> &'static str {
        "gateways"
    }

    fn start(self, tasks: &mut Tasks) {
        for scope in self.scopes {
            let WatchScope {
                namespace,
                cache,
                enqueued,
                certificates,
            } = scope;
            enqueue_on_change(&certificates.certificates, &cache);
            enqueue_on_change(&certificates.secrets, &cache);
            let forgetting = self.context.clone();
            cache.gateways.subscribe(move |_, event| {
                for object in event.deleted() {
                    forgetting.forget(&object.uid().unwrap_or_default());
                }
            });
            let scope = Arc::new(Scope {
                ctx: self.context.clone(),
                cache: cache.clone(),
                certificates,
            });
            let stop = tasks.stop();
            tasks.until_done(controller(
                &cache.gateways,
                enqueued,
                MAX_CONCURRENT,
                reconcile,
                scope,
                stop,
            ));
            let (client, namespace) = (&self.context.client, namespace.as_deref());
            let recovery = || self.recovery.clone();
            tasks.until_stopped(cache.services.clone().watch(scoped(client, namespace), recovery()));
            tasks.until_stopped(cache.others.clone().watch(scoped(client, namespace), recovery()));
            tasks.until_stopped(cache.slices.clone().watch(scoped(client, namespace), recovery()));
            tasks.until_stopped(cache.policies.clone().watch(scoped(client, namespace), recovery()));
            tasks.until_stopped(cache.gateways.clone().watch(scoped(client, namespace), recovery()));
        }
    }
}

/// Enqueues the Gateways whose listeners name a Certificate or Secret that changes.
fn enqueue_on_change<P: Projection>(store: &Store<P>, gateways: &Arc<Cache>) {
    let gateways = gateways.clone();
    store.subscribe(move |_, event| match event {
        StoreEvent::Applied { after: object, .. } | StoreEvent::Deleted(object) => {
            gateways.enqueue_certificate(&object.key());
        }
        StoreEvent::Listed { .. } => gateways.enqueue_certificates(),
    });
}
