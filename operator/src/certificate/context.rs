//! Context of a reconcile.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatehouse_crds::certificate::Certificate;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::Semaphore;

use super::{
    breaker::Breaker,
    cache::Cache,
    decide::Pause,
    failure::{Class, Failure},
    order::Orders,
    rollout::RolloutAttempts,
};
use crate::{
    issuer::{
        outage::{Outages, Woken},
        registry::Registry,
        signer::AcmeSigner,
        slots::{Slots, Step},
    },
    kubernetes::{
        apply::Writer,
        dependency::Dependencies,
        events::{EventType, Events},
        store::ObjectKey,
    },
    telemetry::metrics::Metrics,
};

/// Writes of certificates that are under way at once: enough to keep an API server busy, too few to
/// crowd out other clients.
const MAX_CONCURRENT_WRITES: usize = 48;
/// Certificates that waited for a CA are enqueued in batches after its return, all within half a minute.
const WAKE_BATCH: usize = 10;
const WAKE_INTERVAL: Duration = Duration::from_millis(100);
const WAKE_BATCHES: usize = 300;

/// Shared by all reconciles, of all scopes.
pub struct Context {
    pub client: Client,
    pub writer: Writer,
    pub events: Events,
    pub metrics: Metrics,
    pub registry: Arc<Registry>,
    pub dependencies: Arc<Dependencies>,
    pub outages: Arc<Outages>,
    pub slots: Slots,
    pub orders: Orders,
    pub writes: Semaphore,
    pub breaker: Mutex<Breaker>,
    /// One for each watched namespace, or one for all.
    pub caches: Vec<Arc<Cache>>,
    /// Whether the operator sees ClusterIssuers.
    pub cluster_issuers: bool,
    /// By namespace: when the API server last said that it would take a Secret there.
    pub rehearsed: Mutex<HashMap<String, Timestamp>>,
    /// By UID: what an attempt that is under way has to remember.
    pub attempts: Mutex<HashMap<String, Attempt>>,
    /// Certificates that are enqueued when the API server answers again.
    pub waiting: Mutex<HashSet<ObjectKey>>,
    /// By UID: the tries of rollouts that have not succeeded.
    pub rollouts: Mutex<HashMap<String, RolloutAttempts>>,
    /// By UID: what is remembered of a failed attempt, as long as there is no better one.
    pub pauses: Mutex<HashMap<String, Pause>>,
    /// By UID: the passwords' Secrets for which the keystores were found to open, where the Secret's note says others.
    pub passwords: Mutex<HashMap<String, String>>,
    pub now: fn() -> Timestamp,
}

/// An attempt under way.
pub struct Attempt {
    /// Which of the issuers is asked: 0 is `issuerRef`.
    pub issuer: usize,
    pub since: tokio::time::Instant,
    /// Failures of the issuers before this one.
    pub refusals: Vec<Failure>,
    /// The queue that it waits in, and its name there.
    pub queued: Option<(Arc<AcmeSigner>, String)>,
    /// The breaker let it through.
    pub passed: bool,
    /// An order lapsed already, and another was placed in its stead.
    pub lapsed: bool,
    /// Writes to the API server that failed in a row.
    pub write_failures: u32,
    /// Generation that was reported as undecodable: the write of our own status causes another reconcile.
    pub unreadable: Option<i64>,
}

impl Default for Attempt {
    fn default() -> Self {
        Self {
            issuer: 0,
            since: tokio::time::Instant::now(),
            refusals: Vec::new(),
            queued: None,
            passed: false,
            lapsed: false,
            write_failures: 0,
            unreadable: None,
        }
    }
}

impl Context {
    /// The permits for [`Context::writes`].
    pub fn write_permits() -> Semaphore {
        Semaphore::new(MAX_CONCURRENT_WRITES)
    }

    /// Secrets of one namespace.
    pub fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Certificates of one namespace.
    pub fn certificates(&self, namespace: &str) -> Api<Certificate> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Returns the number of Certificates.
    pub fn total(&self) -> usize {
        self.caches.iter().map(|cache| cache.certificates.len()).sum()
    }

    /// Works on the attempt of `uid`, which begins when there is none.
    pub fn attempt<T>(&self, uid: &str, work: impl FnOnce(&mut Attempt) -> T) -> T {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        work(attempts.entry(uid.to_owned()).or_default())
    }

    /// Returns the rehearsals of writes by namespace.
    pub fn rehearsals(&self) -> std::sync::MutexGuard<'_, HashMap<String, Timestamp>> {
        self.rehearsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is under way for `uid`.
    pub fn is_busy(&self, uid: &str) -> bool {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.contains_key(uid) || self.orders.has(uid)
    }

    /// Whether the keystores of `uid` were found to open with the passwords of `mark`.
    pub fn passwords_fit(&self, uid: &str, mark: &str) -> bool {
        let passwords = self.passwords.lock().unwrap_or_else(PoisonError::into_inner);
        passwords.get(uid).map(String::as_str) == Some(mark)
    }

    /// Notes for which passwords the keystores of `uid` open; `None` forgets it.
    pub fn note_passwords(&self, uid: &str, mark: Option<String>) {
        let mut passwords = self.passwords.lock().unwrap_or_else(PoisonError::into_inner);
        match mark {
            Some(mark) => passwords.insert(uid.to_owned(), mark),
            None => passwords.remove(uid),
        };
    }

    /// Ends the attempt of `uid`, which frees its place in a queue.
    pub fn end_attempt(&self, uid: &str) -> Option<Attempt> {
        let mut ended = self
            .attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid)?;
        if let Some((signer, name)) = ended.queued.take() {
            self.leave(&signer, &name);
        }
        Some(ended)
    }

    /// Returns the record of the last failure of `uid`.
    pub fn pause(&self, uid: &str) -> Pause {
        self.lock_pauses().get(uid).copied().unwrap_or_default()
    }

    /// Remembers that an attempt of `uid`, which began at `revision` of the registry, failed.
    pub fn note_failure(&self, uid: &str, revision: u64, class: Class) {
        let mut pauses = self.lock_pauses();
        let pause = pauses.entry(uid.to_owned()).or_default();
        pause.revision = revision;
        pause.is_over = false;
        // Nothing was tried where others have found the trouble.
        if !matches!(class, Class::Held(_)) {
            pause.failures = pause.failures.saturating_add(1);
        }
    }

    fn lock_pauses(&self) -> std::sync::MutexGuard<'_, HashMap<String, Pause>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot for a step at a CA; it is given back when dropped. None when there is none now: then the Certificate
    /// is woken when there may be one.
    pub fn slot(&self, step: Step) -> Option<Slot<'_>> {
        self.slots.take(&step).then_some(Slot { ctx: self, step })
    }

    /// Wakes those who wait for a CA that has answered, spread over seconds.
    pub fn woken(&self, woken: Woken, signer: &AcmeSigner) {
        for issuer in woken.issuers {
            signer.look_at(issuer);
        }
        let names: Vec<String> = woken.hinted.into_iter().chain(woken.released).collect();
        if names.is_empty() {
            return;
        }
        let mut pauses = self.lock_pauses();
        for name in &names {
            pauses.entry(uid_of(name).to_owned()).or_default().is_over = true;
        }
        drop(pauses);
        let (first, rest) = names.split_at(names.len().min(WAKE_BATCH));
        self.enqueue_named(first);
        if rest.is_empty() {
            return;
        }
        let (caches, rest) = (self.caches.clone(), rest.to_vec());
        tokio::spawn(async move {
            for batch in rest.chunks((rest.len() / WAKE_BATCHES).max(WAKE_BATCH)) {
                tokio::time::sleep(WAKE_INTERVAL).await;
                enqueue_named(&caches, batch);
            }
        });
    }

    /// Gives up a place in a queue, waiting or in flight: the next may go.
    pub fn leave(&self, signer: &AcmeSigner, name: &str) {
        let next = signer.queue(|queue| queue.done(name, (self.now)()));
        self.enqueue_named(&next);
    }

    /// Enqueues the Certificates that a queue names.
    pub fn enqueue_named(&self, identities: &[String]) {
        enqueue_named(&self.caches, identities);
    }

    /// Works on the tries of rollouts.
    pub fn rollouts<T>(&self, work: impl FnOnce(&mut HashMap<String, RolloutAttempts>) -> T) -> T {
        work(&mut self.rollouts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Enqueues a Certificate as soon as the API server answers again.
    pub fn wait_for_api(&self, certificate: &Certificate) {
        let certificate = ObjectKey::of(certificate);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(certificate);
    }

    /// Takes those that wait for the API server.
    pub fn take_waiting(&self) -> Vec<ObjectKey> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain().collect()
    }

    /// Works on the breaker, and updates the metric.
    pub fn breaker<T>(&self, work: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut breaker);
        self.metrics.reissue_held(breaker.held());
        result
    }

    /// Publishes an event about `certificate`.
    pub fn publish_event(&self, certificate: &Certificate, type_: EventType, reason: &str, note: &str) {
        self.events
            .publish(&reference(certificate), type_, reason, "Issue", note);
    }

    /// Enqueues a Certificate.
    pub fn enqueue(&self, certificate: &ObjectKey) {
        for cache in &self.caches {
            cache.enqueue(certificate);
        }
    }

    /// The Certificate is gone, or needs nothing: forget what was under way.
    pub fn forget(&self, uid: &str) {
        self.end_attempt(uid);
        self.lock_pauses().remove(uid);
        self.breaker(|breaker| breaker.forget(uid));
    }
}

/// A step at a CA that is under way.
pub struct Slot<'a> {
    ctx: &'a Context,
    step: Step,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let next = self.ctx.slots.give_back(&self.step);
        self.ctx.enqueue_named(&next);
    }
}

fn enqueue_named(caches: &[Arc<Cache>], identities: &[String]) {
    for identity in identities {
        let mut parts = identity.splitn(3, '/');
        if let (Some(namespace), Some(name)) = (parts.next(), parts.next()) {
            let certificate = ObjectKey::new(namespace, name);
            for cache in caches {
                cache.enqueue(&certificate);
            }
        }
    }
}

/// The UID in a Certificate's identity.
pub fn uid_of(identity: &str) -> &str {
    identity.rsplit('/').next().unwrap_or_default()
}

/// Returns the time until `time`.
pub fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

fn reference(certificate: &Certificate) -> ObjectReference {
    ObjectReference {
        namespace: certificate.namespace(),
        ..certificate.object_ref(&())
    }
}
