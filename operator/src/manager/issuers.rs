//! Watches and reconciles Issuers and ClusterIssuers.

use std::sync::Arc;

use gatehouse_crds::{
    certificate::IssuerKind,
    issuer::{ClusterIssuer, Issuer, IssuerConfig},
};
use kube::{Api, ResourceExt, core::DeserializeGuard};
use tokio::sync::mpsc;

use super::{
    component::{Component, Tasks},
    scoped,
};
use crate::{
    certificate::cache::Cache as Certificates,
    issuer::{
        controller::{AnyIssuer, Context, key, reconcile},
        records,
        registry::Key,
    },
    kubernetes::{
        client::Recovery,
        controller::{Enqueuer, controller},
        store::{Index, ObjectKey, Store, StoreEvent},
    },
};

/// Issuers reconciled at once; kube's controllers know 0 as no limit.
const MAX_CONCURRENT: u16 = 0;

/// The controllers of Issuers and ClusterIssuers, with all that they need.
pub(super) struct Issuers {
    pub(super) context: Arc<Context>,
    pub(super) scopes: Vec<Option<String>>,
    /// Storage of the list of TXT records.
    pub(super) records: records::Store,
    /// Issuers that are to be reconciled again, sent by others.
    pub(super) again: mpsc::UnboundedReceiver<Key>,
    /// Caches with the Secrets of `ca` issuers.
    pub(super) certificates: Vec<Arc<Certificates>>,
    pub(super) recovery: Recovery,
}

impl Component for Issuers {
    fn name(&self) -> &'static str {
        "issuers"
    }

    fn start(self, tasks: &mut Tasks) {
        let mut watched = Vec::new();
        if self.scopes.contains(&None) {
            let api = Api::all(self.context.client.clone());
            watched.push(self.watch::<ClusterIssuer>(api, tasks));
        }
        for scope in &self.scopes {
            let api = scoped(&self.context.client, scope.as_deref());
            watched.push(self.watch::<Issuer>(api, tasks));
        }
        let watched: Arc<[Watched]> = watched.into();
        for cache in &self.certificates {
            let watched = watched.clone();
            cache.secrets.subscribe(move |_, event| {
                if let StoreEvent::Applied { after: secret, .. } | StoreEvent::Deleted(secret) = event {
                    for issuers in watched.iter() {
                        issuers.enqueue_users_of(&secret.namespace, &secret.name);
                    }
                }
            });
        }
        tasks.until_stopped(self.context.registry.records().clone().keep(self.records));
        let mut again = self.again;
        tasks.until_stopped(async move {
            while let Some(key) = again.recv().await {
                for issuers in watched.iter().filter(|issuers| issuers.kind == key.kind) {
                    issuers.queue.enqueue(ObjectKey::new(&key.namespace, &key.name));
                }
            }
        });
    }
}

/// Finds the `ca` issuers of a Secret, by its namespace and name.
type UsersOf = Box<dyn Fn(&str, &str) -> Vec<ObjectKey> + Send + Sync>;

/// The issuers of one kind and watch scope.
struct Watched {
    kind: IssuerKind,
    queue: Enqueuer,
    users_of: UsersOf,
}

impl Watched {
    fn enqueue_users_of(&self, namespace: &str, secret: &str) {
        for issuer in (self.users_of)(namespace, secret) {
            self.queue.enqueue(issuer);
        }
    }
}

impl Issuers {
    fn watch<K: AnyIssuer>(&self, api: Api<DeserializeGuard<K>>, tasks: &mut Tasks) -> Watched {
        let store = Store::<DeserializeGuard<K>>::new();
        let context = self.context.clone();
        store.subscribe(move |store, event| {
            for object in event.deleted() {
                let key = key::<K>(object.as_ref());
                context.registry.remove(&key);
                context.forget(&key, &object.uid().unwrap_or_default());
            }
            match event {
                StoreEvent::Applied { after, .. } => context.registry.found(&key::<K>(after.as_ref())),
                StoreEvent::Listed { .. } => {
                    for object in store.state() {
                        context.registry.found(&key::<K>(object.as_ref()));
                    }
                }
                StoreEvent::Deleted(_) => {}
            }
        });
        let by_secret = Index::of(&store, ca_secret::<K>);
        let cluster_namespace = self.context.cluster_namespace.clone();
        let users_of = move |namespace: &str, secret: &str| {
            if K::ISSUER_KIND == IssuerKind::Issuer {
                by_secret.get(&ObjectKey::new(namespace, secret))
            } else if namespace == cluster_namespace {
                by_secret.get(&ObjectKey::new("", secret))
            } else {
                Vec::new()
            }
        };
        let (queue, enqueued) = Enqueuer::new();
        let (context, stop) = (self.context.clone(), tasks.stop());
        tasks.until_done(controller(
            &store,
            enqueued,
            MAX_CONCURRENT,
            reconcile::<K>,
            context,
            stop,
        ));
        tasks.until_stopped(store.watch(api, self.recovery.clone()));
        Watched {
            kind: K::ISSUER_KIND,
            queue,
            users_of: Box::new(users_of),
        }
    }
}

/// Returns the Secret of a `ca` issuer, in the issuer's own namespace, which a ClusterIssuer does not have.
fn ca_secret<K: AnyIssuer>(object: &DeserializeGuard<K>) -> Vec<ObjectKey> {
    let Ok(issuer) = &object.0 else { return Vec::new() };
    match issuer.config() {
        Some(IssuerConfig::Ca(ca)) => {
            let namespace = issuer.meta().namespace.as_deref().unwrap_or_default();
            vec![ObjectKey::new(namespace, &ca.secret_name)]
        }
        _ => Vec::new(),
    }
}
