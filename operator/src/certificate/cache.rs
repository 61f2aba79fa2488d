//! What the operator remembers of the cluster: Certificates whole, their Secrets as [`SecretMetadata`].
//!
//! One cache for each watched namespace, or one for all of them. Certificates that the API server
//! holds but that cannot be decoded are kept as such, so that they disturb no other.

mod pending_writes;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt};
use gatehouse_crds::certificate::Certificate;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store, store::Writer},
        watcher::{self, Event},
    },
};
use tokio::sync::{mpsc, watch};

use self::pending_writes::{Part, PendingWrites};
use super::observed_secret::SecretMetadata;
use crate::kubernetes::{client::Recovery, watch::watch as watch_all};

/// A Certificate, or why it is none.
pub type Guarded = DeserializeGuard<Certificate>;
/// Names a Certificate.
pub type Ref = ObjectRef<Guarded>;

/// Objects in one page of a list: few enough that a page weighs little in memory while it is decoded.
const PAGE: u32 = 100;

/// Namespace and name.
type Key = (String, String);

/// Certificates and Secrets of one scope.
pub struct Cache {
    certificates: Store<Guarded>,
    secrets: Store<SecretMetadata>,
    by_secret: Mutex<HashMap<Key, Vec<String>>>,
    pending_writes: PendingWrites,
    touched: mpsc::UnboundedSender<Ref>,
    changes: mpsc::UnboundedSender<Change>,
    listed: watch::Sender<Listed>,
}

/// What is told of the Certificates, after it is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made, changed or deleted: namespace and name.
    One(String, String),
    /// Any may have changed.
    All,
}

/// Which lists have arrived.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    certificates: bool,
    secrets: bool,
    /// The process is on its way out: what has not arrived will not.
    over: bool,
}

/// Tells those who wait for the lists that they wait in vain, when the watch is dropped.
struct LastWord<'a>(&'a watch::Sender<Listed>);

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|listed| listed.over = true);
    }
}

/// The cache's inlets.
pub struct StoreWriters {
    certificates: Writer<Guarded>,
    secrets: Writer<SecretMetadata>,
    touched: mpsc::UnboundedReceiver<Ref>,
    changes: mpsc::UnboundedReceiver<Change>,
}

impl Cache {
    /// An empty cache.
    pub fn new() -> (Arc<Self>, StoreWriters) {
        let (certificates, certificates_in) = store();
        let secrets_in = Writer::<SecretMetadata>::default();
        let (touched, touched_out) = mpsc::unbounded_channel();
        let (changes, changes_out) = mpsc::unbounded_channel();
        let cache = Self {
            certificates,
            secrets: secrets_in.as_reader(),
            by_secret: Mutex::default(),
            pending_writes: PendingWrites::default(),
            touched,
            changes,
            listed: watch::Sender::default(),
        };
        (
            Arc::new(cache),
            StoreWriters {
                certificates: certificates_in,
                secrets: secrets_in,
                touched: touched_out,
                changes: changes_out,
            },
        )
    }

    /// The store that a controller reads.
    pub fn certificates(&self) -> Store<Guarded> {
        self.certificates.clone()
    }

    /// Waits until both lists have arrived; false when they will not, and nothing is known.
    pub async fn synced(&self) -> bool {
        // Not by the stores' own `wait_until_ready`: of several who wait there only the last is woken (kube 5.0).
        let mut listed = self.listed.subscribe();
        let arrived = |listed: &Listed| listed.certificates && listed.secrets;
        let last = listed.wait_for(|listed| listed.over || arrived(listed)).await;
        last.is_ok_and(|listed| arrived(&listed))
    }

    /// Whether the list of Certificates has arrived: else nothing is known of any, also not that it is gone.
    pub fn has_certificates(&self) -> bool {
        self.listed.borrow().certificates
    }

    /// A Secret's facts.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<Arc<SecretMetadata>> {
        self.secrets.get(&ObjectRef::new(name).within(namespace))
    }

    /// Whether `certificate` exists and wants `secret`.
    pub fn claims(&self, namespace: &str, certificate: &str, secret: &str) -> bool {
        self.certificates
            .get(&ObjectRef::new(certificate).within(namespace))
            .is_some_and(|found| found.0.as_ref().is_ok_and(|found| found.spec.secret_name == secret))
    }

    /// The Certificate that wanted `secret` first. While there is no such Secret it alone may make it: our
    /// writes look alike to the API server, which would let the second overwrite the first's.
    pub fn first_claim(&self, namespace: &str, secret: &str) -> Option<String> {
        let names = self
            .lock_index()
            .get(&(namespace.to_owned(), secret.to_owned()))
            .cloned()?;
        let made = |name: &String| {
            let found = self.certificates.get(&ObjectRef::new(name).within(namespace))?;
            let idle = found.meta().deletion_timestamp.is_some()
                || found
                    .0
                    .as_ref()
                    .is_ok_and(|certificate| certificate.spec.suspend == Some(true));
            Some(found.creation_timestamp()?.0).filter(|_| !idle)
        };
        names
            .into_iter()
            .filter_map(|name| Some((made(&name)?, name)))
            .min()
            .map(|(_, name)| name)
    }

    /// Watches Certificates; each that was made or changed comes out. `gone` gets `<namespace>/<name>/<uid>` of the deleted.
    pub fn watch_certificates(
        self: &Arc<Self>,
        api: Api<Guarded>,
        mut inlet: Writer<Guarded>,
        gone: mpsc::UnboundedSender<String>,
        recovery: &Recovery,
    ) -> impl Stream<Item = Result<Guarded, watcher::Error>> + Send + use<> {
        let cache = self.clone();
        watch_all(api, watcher::Config::default().page_size(PAGE), "Certificate", recovery)
            .map(move |event| {
                let event = event.modify(prune);
                cache.take_certificate(&event, &mut inlet, &gone);
                Ok(event)
            })
            .applied_objects()
    }

    /// Watches the metadata of the Secrets that could hold a pair; the API server sends no others.
    /// Runs for ever; the Certificates that a changed Secret is of interest to are touched, and
    /// `changed` gets the namespace and name of each Secret that changes.
    pub async fn watch_secrets(
        self: Arc<Self>,
        api: Api<PartialObjectMeta<Secret>>,
        mut inlet: Writer<SecretMetadata>,
        changed: mpsc::UnboundedSender<(String, String)>,
        recovery: Recovery,
    ) {
        let _last_word = LastWord(&self.listed);
        let config = watcher::Config::default()
            .fields("type=kubernetes.io/tls")
            .page_size(PAGE);
        let mut events = watch_all(api, config, "Secret", &recovery).boxed();
        while let Some(event) = events.next().await {
            let event = metadata(event);
            inlet.apply_watcher_event(&event);
            self.note_secret(&event);
            if let Event::Apply(metadata) | Event::Delete(metadata) = &event {
                // No issuer listens: the process is on its way out.
                let _ = changed.send((metadata.namespace.clone(), metadata.name.clone()));
            }
        }
    }

    /// Takes in what the watch says. `gone` is told once the store knows it too, so that whoever finds
    /// a Certificate in the store can count on being told of its end.
    fn take_certificate(
        &self,
        event: &Event<Guarded>,
        inlet: &mut Writer<Guarded>,
        gone: &mpsc::UnboundedSender<String>,
    ) {
        let mut ended = Vec::new();
        match event {
            Event::Delete(object) => ended.push(identity(object)),
            // What went while the watch was interrupted is told by nobody.
            Event::InitDone => ended.extend(self.certificates.state().iter().map(|object| identity(object.as_ref()))),
            _ => {}
        }
        let claimed = self.claimed(event);
        self.note_certificate(event);
        inlet.apply_watcher_event(event);
        if let Some((namespace, secret)) = claimed {
            self.enqueue_claimants(&namespace, &secret);
        }
        if matches!(event, Event::InitDone) {
            self.index_all();
            self.listed.send_modify(|listed| listed.certificates = true);
            ended.retain(|identity| !self.has(identity));
        }
        let change = match event {
            Event::Apply(object) | Event::Delete(object) => {
                Some(Change::One(object.namespace().unwrap_or_default(), object.name_any()))
            }
            Event::InitDone => Some(Change::All),
            Event::Init | Event::InitApply(_) => None,
        };
        if let Some(change) = change {
            // Nobody raises the alarm any more: the process is on its way out.
            let _ = self.changes.send(change);
        }
        for identity in ended {
            // Nobody forgets any more: the process is on its way out.
            let _ = gone.send(identity);
        }
    }

    /// Whether a Certificate of this name is here.
    pub fn has_named(&self, namespace: &str, name: &str) -> bool {
        self.certificates.get(&ObjectRef::new(name).within(namespace)).is_some()
    }

    /// Whether this very Certificate is here, named as [`identity`] does.
    pub fn has(&self, identity: &str) -> bool {
        let mut parts = identity.splitn(3, '/');
        let (Some(namespace), Some(name), Some(uid)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        self.certificates
            .get(&ObjectRef::new(name).within(namespace))
            .is_some_and(|found| found.uid().unwrap_or_default() == uid)
    }

    /// Whether this Certificate has an order in its status, as far as can be told: one that cannot be read may.
    pub fn has_order(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let found = self.certificates.get(&ObjectRef::new(name).within(namespace));
        found.is_some_and(|found| {
            found.uid().as_deref() == Some(uid)
                && found.0.as_ref().map_or(true, |certificate| {
                    let acme = certificate.status.as_ref().and_then(|status| status.acme.as_ref());
                    acme.is_some_and(|acme| acme.order_url.is_some())
                })
        })
    }

    /// Returns the URLs of the orders that Certificates have in their statuses.
    pub fn orders(&self) -> Vec<String> {
        let certificates = self.certificates.state();
        let urls = certificates.iter().filter_map(|object| {
            let certificate = object.0.as_ref().ok()?;
            certificate.status.as_ref()?.acme.as_ref()?.order_url.clone()
        });
        urls.collect()
    }

    /// The Secret that a Certificate has claimed until now, when others claim it, too.
    fn claimed(&self, event: &Event<Guarded>) -> Option<Key> {
        let (Event::Apply(object) | Event::Delete(object)) = event else {
            return None;
        };
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let before = self.certificates.get(&ObjectRef::new(&name).within(&namespace))?;
        let key = (namespace, before.0.as_ref().ok()?.spec.secret_name.clone());
        let is_shared = self.lock_index().get(&key).is_some_and(|names| names.len() > 1);
        // Its status says nothing about a claim.
        let is_news = matches!(event, Event::Delete(_)) || before.meta().generation != object.meta().generation;
        (is_shared && is_news).then_some(key)
    }

    /// Enqueues those that claim a Secret: one that had it may have given it up.
    fn enqueue_claimants(&self, namespace: &str, secret: &str) {
        let key = (namespace.to_owned(), secret.to_owned());
        let names = self.lock_index().get(&key).cloned().unwrap_or_default();
        for name in names {
            self.enqueue(&ObjectRef::new(&name).within(namespace));
        }
    }

    fn note_certificate(&self, event: &Event<Guarded>) {
        match event {
            Event::Apply(object) => {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                self.unindex(&namespace, &name);
                self.index(object);
                let version = object.resource_version();
                self.pending_writes
                    .seen(&namespace, &name, Part::Certificate, version.as_deref());
            }
            Event::Delete(object) => {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                self.unindex(&namespace, &name);
                self.pending_writes.forget(&namespace, &name);
            }
            Event::InitDone => self.pending_writes.clear(),
            Event::Init | Event::InitApply(_) => {}
        }
    }

    fn note_secret(&self, event: &Event<SecretMetadata>) {
        let enqueue_interested = |metadata: &SecretMetadata| {
            for certificate in self.interested(metadata) {
                let version = Some(metadata.resource_version.as_str());
                self.pending_writes
                    .seen(&metadata.namespace, &certificate, Part::Secret, version);
                self.enqueue(&ObjectRef::new(&certificate).within(&metadata.namespace));
            }
        };
        match event {
            Event::Apply(metadata) | Event::Delete(metadata) => enqueue_interested(metadata),
            // After an interruption anything may have changed meanwhile.
            Event::InitDone => {
                self.listed.send_modify(|listed| listed.secrets = true);
                self.pending_writes.clear();
                for certificate in self.certificates.state() {
                    self.enqueue(&ObjectRef::from_obj(certificate.as_ref()));
                }
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }

    /// Has a Certificate looked at now, if it is here.
    pub fn enqueue(&self, certificate: &Ref) {
        if self.certificates.get(certificate).is_some() {
            // Its controller is gone: the process is on its way out.
            let _ = self.touched.send(certificate.clone());
        }
    }

    /// Certificates that want this Secret, and the one that it names as its own.
    fn interested(&self, metadata: &SecretMetadata) -> Vec<String> {
        let key = (metadata.namespace.clone(), metadata.name.clone());
        let mut names = self.lock_index().get(&key).cloned().unwrap_or_default();
        names.extend(metadata.certificate.clone().filter(|name| !names.contains(name)));
        names
    }

    fn index(&self, object: &Guarded) {
        if let Ok(certificate) = &object.0 {
            let key = (
                certificate.namespace().unwrap_or_default(),
                certificate.spec.secret_name.clone(),
            );
            self.lock_index().entry(key).or_default().push(certificate.name_any());
        }
    }

    fn unindex(&self, namespace: &str, name: &str) {
        let Some(before) = self.certificates.get(&ObjectRef::new(name).within(namespace)) else {
            return;
        };
        let Ok(before) = &before.0 else { return };
        let key = (namespace.to_owned(), before.spec.secret_name.clone());
        let mut index = self.lock_index();
        if let Some(names) = index.get_mut(&key) {
            names.retain(|other| other != name);
            if names.is_empty() {
                index.remove(&key);
            }
        }
    }

    fn index_all(&self) {
        self.lock_index().clear();
        for certificate in self.certificates.state() {
            self.index(&certificate);
        }
    }

    /// We wrote the Certificate's status: what the store has is stale until this version is seen.
    pub fn await_certificate(&self, certificate: &Certificate) {
        let (namespace, name) = (certificate.namespace().unwrap_or_default(), certificate.name_any());
        let stored = self
            .certificates
            .get(&ObjectRef::new(&name).within(&namespace))
            .and_then(|stored| stored.resource_version());
        let written = certificate.resource_version();
        self.pending_writes.expect(
            (namespace, name),
            Part::Certificate,
            stored.as_deref(),
            written.as_deref(),
        );
    }

    /// We wrote the Certificate's Secret.
    pub fn await_secret(&self, certificate: &Certificate, written: &SecretMetadata) {
        let stored = self
            .secret(&written.namespace, &written.name)
            .map(|metadata| metadata.resource_version.clone());
        let key = (written.namespace.clone(), certificate.name_any());
        self.pending_writes
            .expect(key, Part::Secret, stored.as_deref(), Some(&written.resource_version));
    }

    /// How long to wait before the caches can be trusted about this Certificate; none when they can.
    pub fn staleness(&self, namespace: &str, name: &str) -> Option<Duration> {
        self.pending_writes.staleness(namespace, name)
    }

    fn lock_index(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Vec<String>>> {
        self.by_secret.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreWriters {
    /// For [`Cache::watch_certificates`] and [`Cache::watch_secrets`], the Certificates that are touched, and what changes.
    #[allow(clippy::type_complexity, reason = "taken apart on the spot")]
    pub fn split(
        self,
    ) -> (
        Writer<Guarded>,
        Writer<SecretMetadata>,
        mpsc::UnboundedReceiver<Ref>,
        mpsc::UnboundedReceiver<Change>,
    ) {
        (self.certificates, self.secrets, self.touched, self.changes)
    }
}

/// `<namespace>/<name>/<uid>`.
pub fn identity(object: &impl ResourceExt) -> String {
    format!(
        "{}/{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any(),
        object.uid().unwrap_or_default()
    )
}

/// What nobody reads is not kept.
fn prune(object: &mut Guarded) {
    object.managed_fields_mut().clear();
    object
        .annotations_mut()
        .remove("kubectl.kubernetes.io/last-applied-configuration");
}

fn metadata(event: Event<PartialObjectMeta<Secret>>) -> Event<SecretMetadata> {
    let of = |object: PartialObjectMeta<Secret>| SecretMetadata::of(&object.metadata);
    match event {
        Event::Apply(object) => Event::Apply(of(object)),
        Event::Delete(object) => Event::Delete(of(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(of(object)),
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
