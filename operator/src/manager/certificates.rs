//! Watches and reconciles Certificates, in each watch scope.

use std::{collections::HashSet, sync::Arc};

use gatehouse_crds::certificate::Certificate;
use tokio::sync::broadcast;

use super::{
    component::{Component, Tasks},
    scoped,
};
use crate::{
    certificate::{
        cache::{Cache, identity},
        context::Context,
        controller::{Scope, reconcile},
        issue, order_key,
    },
    issuer::{records::sweep, registry::Key},
    kubernetes::{
        client::Recovery,
        controller::{Enqueued, controller},
        store::Projection,
    },
};

/// Certificates reconciled at once: more than there are slots for steps at CAs, so that some are left while CAs do not answer.
const MAX_CONCURRENT: u16 = 2_048;

/// The controllers of Certificates, with all that they need.
pub(super) struct Certificates {
    pub(super) context: Arc<Context>,
    /// Certificates that the caches of the context enqueue, by watch scope.
    pub(super) enqueued: Vec<Enqueued>,
    pub(super) scopes: Vec<Option<String>>,
    pub(super) recovery: Recovery,
}

impl Component for Certificates {
    fn name(&self) -> &'static str {
        "certificates"
    }

    fn start(self, tasks: &mut Tasks) {
        let context = self.context;
        let certificates = context.clone();
        let orders = move || {
            let caches = &certificates.caches;
            caches
                .iter()
                .all(|cache| cache.certificates.is_listed())
                .then(|| caches.iter().flat_map(|cache| cache.orders()).collect())
        };
        tasks.until_stopped(sweep(context.registry.clone(), orders, context.now));
        for ((cache, enqueued), namespace) in context.caches.iter().zip(self.enqueued).zip(&self.scopes) {
            let forgetting = context.clone();
            cache.certificates.subscribe(move |_, event| {
                for object in event.deleted() {
                    issue::gone(&forgetting, &identity(object.as_ref()));
                }
            });
            let scope = Arc::new(Scope::new(context.clone(), cache.clone()));
            let stop = tasks.stop();
            tasks.until_done(controller(
                &cache.certificates,
                enqueued,
                MAX_CONCURRENT,
                reconcile,
                scope,
                stop,
            ));
            tasks.until_stopped(follow_issuers(cache.clone(), context.registry.changes()));
            let (sweeping, swept, scope) = (context.clone(), cache.clone(), namespace.clone());
            tasks.until_stopped(async move {
                order_key::sweep(&sweeping, &swept, scope.as_deref()).await;
            });
            let (client, namespace) = (&context.client, namespace.as_deref());
            let secrets = cache.secrets.clone();
            tasks.until_stopped(secrets.watch(scoped(client, namespace), self.recovery.clone()));
            let certificates = cache.certificates.clone();
            tasks.until_stopped(certificates.watch(scoped(client, namespace), self.recovery.clone()));
        }
    }
}

/// Enqueues the Certificates that name an issuer which changes.
async fn follow_issuers(cache: Arc<Cache>, mut changes: broadcast::Receiver<Key>) {
    loop {
        let mut keys = HashSet::new();
        let all = match changes.recv().await {
            Ok(key) => {
                keys.insert(key);
                false
            }
            // Too many changed at once to be reported one by one.
            Err(broadcast::error::RecvError::Lagged(_)) => true,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        while let Ok(key) = changes.try_recv() {
            keys.insert(key);
        }
        for object in cache.certificates.state() {
            let concerned = |certificate: &Certificate| all || names_any(certificate, &keys);
            if object.0.as_ref().is_ok_and(concerned) {
                cache.enqueue(&object.key());
            }
        }
    }
}

fn names_any(certificate: &Certificate, issuers: &HashSet<Key>) -> bool {
    let namespace = certificate.metadata.namespace.as_deref().unwrap_or_default();
    issue::issuers(certificate).any(|reference| issuers.contains(&Key::of(reference, namespace)))
}
