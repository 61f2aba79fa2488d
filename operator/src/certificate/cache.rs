//! Certificates and the metadata of their Secrets, for one watch scope: a namespace, or all of them.

use std::{sync::Arc, time::Duration};

use gatehouse_crds::certificate::Certificate;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Resource as _, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::watcher,
};

use super::observed_secret::SecretMetadata;
use crate::kubernetes::{
    controller::{Enqueued, Enqueuer},
    store::{Index, ObjectKey, PAGE, PendingWrites, Projection, Store, StoreEvent, Whole},
};

/// A Certificate, or why it cannot be decoded: kept all the same, so that it affects no other.
pub type Guarded = DeserializeGuard<Certificate>;

impl Whole for Certificate {
    const KIND: &'static str = "Certificate";

    fn prune(object: &mut Guarded) {
        object.managed_fields_mut().clear();
        object
            .annotations_mut()
            .remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

impl Projection for SecretMetadata {
    type Object = PartialObjectMeta<Secret>;
    const KIND: &'static str = "Secret";

    /// Selects the Secrets that could hold a key pair; the API server sends no others.
    fn config() -> watcher::Config {
        watcher::Config::default()
            .fields("type=kubernetes.io/tls")
            .page_size(PAGE)
    }

    fn of(object: PartialObjectMeta<Secret>) -> Self {
        Self::of(&object.metadata)
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.namespace, &self.name)
    }

    fn object_uid(&self) -> &str {
        &self.uid
    }

    fn object_version(&self) -> &str {
        &self.resource_version
    }
}

/// Certificates and Secrets of one watch scope.
pub struct Cache {
    pub certificates: Arc<Store<Guarded>>,
    pub secrets: Arc<Store<SecretMetadata>>,
    /// Certificates by the Secret of their spec.
    by_secret: Arc<Index<Guarded>>,
    pending_writes: Arc<PendingWrites>,
    queue: Enqueuer,
}

impl Cache {
    /// Returns an empty cache, and the Certificates that it enqueues.
    pub fn new() -> (Arc<Self>, Enqueued) {
        let (certificates, secrets) = (Store::new(), Store::new());
        let by_secret = Index::of(&certificates, |object: &Guarded| target(object).into_iter().collect());
        let pending_writes = Arc::new(PendingWrites::default());
        let (queue, enqueued) = Enqueuer::new();
        let cache = Self {
            certificates,
            secrets,
            by_secret,
            pending_writes,
            queue,
        };
        cache.follow_certificates();
        cache.follow_secrets();
        (Arc::new(cache), enqueued)
    }

    fn follow_certificates(&self) {
        let (by_secret, pending_writes, queue) =
            (self.by_secret.clone(), self.pending_writes.clone(), self.queue.clone());
        self.certificates.subscribe(move |_, event| match event {
            StoreEvent::Applied { before, after, .. } => {
                pending_writes.seen(&after.key(), Guarded::KIND, after.object_version());
                // A change of its status says nothing about a claim.
                if let Some(before) = before
                    && before.meta().generation != after.meta().generation
                {
                    enqueue_rivals(&by_secret, &queue, before);
                }
            }
            StoreEvent::Deleted(object) => {
                pending_writes.forget(&object.key());
                enqueue_rivals(&by_secret, &queue, object);
            }
            StoreEvent::Listed { .. } => pending_writes.clear(),
        });
    }

    fn follow_secrets(&self) {
        let (by_secret, pending_writes, queue) =
            (self.by_secret.clone(), self.pending_writes.clone(), self.queue.clone());
        let certificates = self.certificates.clone();
        self.secrets.subscribe(move |_, event| match event {
            StoreEvent::Applied { after: secret, .. } | StoreEvent::Deleted(secret) => {
                for certificate in interested(&by_secret, secret) {
                    pending_writes.seen(&certificate, SecretMetadata::KIND, &secret.resource_version);
                    queue.enqueue(certificate);
                }
            }
            // After an interruption any Secret may have changed.
            StoreEvent::Listed { .. } => {
                pending_writes.clear();
                for certificate in certificates.state() {
                    queue.enqueue(certificate.key());
                }
            }
        });
    }

    /// Waits until Certificates and Secrets are listed; returns false when they never will be, since the process ends.
    pub async fn synced(&self) -> bool {
        self.secrets.listed().await && self.certificates.listed().await
    }

    /// Returns the metadata of a Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<Arc<SecretMetadata>> {
        self.secrets.get(&ObjectKey::new(namespace, name))
    }

    /// Returns whether `certificate` exists and names `secret` in its spec.
    pub fn claims(&self, namespace: &str, certificate: &str, secret: &str) -> bool {
        let found = self.certificates.get(&ObjectKey::new(namespace, certificate));
        found.is_some_and(|found| target(&found) == Some(ObjectKey::new(namespace, secret)))
    }

    /// Returns the oldest Certificate that names `secret` in its spec. While the Secret does not exist only that one may
    /// create it: the writes of both look alike to the API server, which would let the second overwrite the first.
    pub fn first_claim(&self, namespace: &str, secret: &str) -> Option<String> {
        let created = |key: &ObjectKey| {
            let found = self.certificates.get(key)?;
            let is_idle = found.meta().deletion_timestamp.is_some()
                || found
                    .0
                    .as_ref()
                    .is_ok_and(|certificate| certificate.spec.suspend == Some(true));
            Some(found.creation_timestamp()?.0).filter(|_| !is_idle)
        };
        self.by_secret
            .get(&ObjectKey::new(namespace, secret))
            .into_iter()
            .filter_map(|key| Some((created(&key)?, key.name().to_owned())))
            .min()
            .map(|(_, name)| name)
    }

    /// Returns whether a Certificate of this name exists.
    pub fn has_named(&self, namespace: &str, name: &str) -> bool {
        self.certificates.get(&ObjectKey::new(namespace, name)).is_some()
    }

    /// Returns whether the Certificate of this [`identity`] exists.
    pub fn has(&self, identity: &str) -> bool {
        let mut parts = identity.splitn(3, '/');
        let (Some(namespace), Some(name), Some(uid)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        self.certificates
            .get_with_uid(&ObjectKey::new(namespace, name), uid)
            .is_some()
    }

    /// Returns whether the Certificate has an order in its status. One that cannot be decoded may have.
    pub fn has_order(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let found = self.certificates.get_with_uid(&ObjectKey::new(namespace, name), uid);
        found.is_some_and(|found| {
            found
                .0
                .as_ref()
                .map_or(true, |certificate| order_url(certificate).is_some())
        })
    }

    /// Returns the URLs of the orders in the statuses of Certificates.
    pub fn orders(&self) -> Vec<String> {
        let certificates = self.certificates.state();
        let urls = certificates
            .iter()
            .filter_map(|object| order_url(object.0.as_ref().ok()?).cloned());
        urls.collect()
    }

    /// Enqueues a Certificate, if it exists in this scope.
    pub fn enqueue(&self, certificate: &ObjectKey) {
        self.queue.enqueue(certificate.clone());
    }

    /// Records a write of the Certificate's status: until the watch shows `certificate`, the store is stale.
    pub fn await_certificate(&self, certificate: &Certificate) {
        let key = ObjectKey::of(certificate);
        let stored = self.certificates.get(&key);
        let stored = stored.as_ref().map_or("", |stored| stored.object_version());
        let written = certificate.metadata.resource_version.as_deref().unwrap_or_default();
        self.pending_writes.expect(key, Guarded::KIND, stored, written);
    }

    /// Records a write of the Certificate's Secret.
    pub fn await_secret(&self, certificate: &Certificate, written: &SecretMetadata) {
        let stored = self.secrets.get(&written.key());
        let stored = stored.as_ref().map_or("", |stored| &stored.resource_version);
        let key = ObjectKey::of(certificate);
        self.pending_writes
            .expect(key, SecretMetadata::KIND, stored, &written.resource_version);
    }

    /// Returns the Certificate as the store has it once the stores show the last own writes for it, or else how long to wait.
    ///
    /// `object` may have been taken from the store just before the watch showed them, so it is read again after the check.
    pub fn current(&self, object: Arc<Guarded>) -> Result<Arc<Guarded>, Duration> {
        let key = object.key();
        match self.pending_writes.staleness(&key) {
            Some(staleness) => Err(staleness),
            None => Ok(self.certificates.get(&key).unwrap_or(object)),
        }
    }
}

/// Enqueues the other Certificates that name the Secret of `object`, which may have given it up.
fn enqueue_rivals(by_secret: &Index<Guarded>, queue: &Enqueuer, object: &Guarded) {
    let Some(secret) = target(object) else { return };
    let claims = by_secret.get(&secret);
    let own = object.key();
    if claims.iter().any(|claim| *claim != own) {
        for claim in claims {
            queue.enqueue(claim);
        }
    }
}

/// Returns the Certificates that name this Secret, and the one that it names as its own.
fn interested(by_secret: &Index<Guarded>, secret: &SecretMetadata) -> Vec<ObjectKey> {
    let mut keys = by_secret.get(&secret.key());
    if let Some(certificate) = &secret.certificate {
        let key = ObjectKey::new(&secret.namespace, certificate);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn target(object: &Guarded) -> Option<ObjectKey> {
    let certificate = object.0.as_ref().ok()?;
    let namespace = certificate.metadata.namespace.as_deref().unwrap_or_default();
    Some(ObjectKey::new(namespace, &certificate.spec.secret_name))
}

fn order_url(certificate: &Certificate) -> Option<&String> {
    certificate.status.as_ref()?.acme.as_ref()?.order_url.as_ref()
}

/// Returns `<namespace>/<name>/<uid>`.
pub fn identity(object: &impl ResourceExt) -> String {
    format!(
        "{}/{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any(),
        object.uid().unwrap_or_default()
    )
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
