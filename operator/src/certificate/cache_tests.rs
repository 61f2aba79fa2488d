#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use kube::runtime::watcher::Event;

use super::*;
use crate::kubernetes::store::MAX_STALENESS;

/// A Certificate as the watch gives it.
fn certificate(name: &str, uid: &str, secret: &str, made: &str) -> Guarded {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "gatehouse.dev/v1alpha1",
        "kind": "Certificate",
        "metadata": {"name": name, "namespace": "app", "uid": uid, "creationTimestamp": made, "resourceVersion": "1"},
        "spec": {"secretName": secret, "issuerRef": {"name": "ca"}, "dnsNames": ["web.test"]},
    }))
    .unwrap()
}

/// A cache and the Certificates that it enqueues.
struct TestStore {
    cache: Arc<Cache>,
}

impl TestStore {
    fn new() -> Self {
        Self { cache: Cache::new().0 }
    }

    fn list(&self, objects: Vec<Guarded>) {
        self.see(Event::Init);
        for object in objects {
            self.see(Event::InitApply(object));
        }
        self.see(Event::InitDone);
    }

    fn see(&self, event: Event<Guarded>) {
        self.cache.certificates.take(event);
    }
}

const EARLY: &str = "2026-01-01T00:00:00Z";
const LATE: &str = "2026-01-01T00:00:01Z";

#[test]
fn of_two_that_want_one_secret_the_first_may_make_it() {
    let store = TestStore::new();
    store.list(vec![
        certificate("a", "1", "tls", LATE),
        certificate("b", "2", "tls", EARLY),
        certificate("c", "3", "other", EARLY),
    ]);
    assert_eq!(store.cache.first_claim("app", "tls").as_deref(), Some("b"));
    store.see(Event::Delete(certificate("b", "2", "tls", EARLY)));
    assert_eq!(store.cache.first_claim("app", "tls").as_deref(), Some("a"));
    assert_eq!(store.cache.first_claim("elsewhere", "tls"), None);
}

#[test]
fn an_order_is_known_by_the_status_of_this_very_certificate() {
    let store = TestStore::new();
    let mut ordering = certificate("a", "1", "a-tls", EARLY);
    let status = serde_json::json!({"acme": {"orderURL": "https://ca.test/order/1"}});
    ordering.0.as_mut().unwrap().status = Some(serde_json::from_value(status).unwrap());
    store.list(vec![ordering, certificate("b", "2", "b-tls", EARLY)]);
    assert!(store.cache.has_order("app", "a", "1"));
    for (name, uid) in [("a", "0"), ("b", "2"), ("c", "3")] {
        assert!(!store.cache.has_order("app", name, uid), "{name}");
    }
}

/// The same Certificate, at a later version.
fn version_of(version: u64) -> Guarded {
    let mut object = certificate("a", "1", "a-tls", EARLY);
    object.0.as_mut().unwrap().metadata.resource_version = Some(version.to_string());
    object
}

/// Records the version that a write of the status returned.
fn wrote(store: &TestStore, version: u64) {
    store.cache.await_certificate(&version_of(version).0.unwrap());
}

/// Its Secret, as the watch shows it.
fn secret(version: u64) -> PartialObjectMeta<Secret> {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "a-tls", "namespace": "app", "resourceVersion": version.to_string(),
            "annotations": {"gatehouse.dev/certificate": "a"}},
    }))
    .unwrap()
}

fn staleness(store: &TestStore) -> Option<Duration> {
    store.cache.current(Arc::new(version_of(1))).err()
}

#[tokio::test(start_paused = true)]
async fn after_a_write_the_cache_lags_until_the_watch_shows_it() {
    let store = TestStore::new();
    store.list(vec![version_of(1)]);
    assert_eq!(staleness(&store), None);
    wrote(&store, 7);
    assert_eq!(staleness(&store), Some(MAX_STALENESS));
    store.see(Event::Apply(version_of(6)));
    assert!(staleness(&store).is_some(), "an older version is not ours");
    store.see(Event::Apply(version_of(7)));
    assert_eq!(staleness(&store), None);

    // The watch was faster than the answer.
    store.see(Event::Apply(version_of(9)));
    wrote(&store, 9);
    assert_eq!(staleness(&store), None);
}

#[tokio::test(start_paused = true)]
async fn both_writes_are_waited_for() {
    let store = TestStore::new();
    store.list(vec![version_of(1)]);
    let certificate = version_of(1).0.unwrap();
    store
        .cache
        .await_secret(&certificate, &SecretMetadata::of(&secret(5).metadata));
    wrote(&store, 6);
    store.see(Event::Apply(version_of(6)));
    assert!(staleness(&store).is_some(), "the Secret is still to come");
    store.cache.secrets.take(Event::Apply(secret(4)));
    assert!(staleness(&store).is_some());
    store.cache.secrets.take(Event::Apply(secret(5)));
    assert_eq!(staleness(&store), None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_never_shows_it_is_not_waited_for_longer_than_patience() {
    let store = TestStore::new();
    store.list(vec![version_of(1)]);
    wrote(&store, 7);
    tokio::time::advance(MAX_STALENESS.checked_sub(Duration::from_millis(1)).unwrap()).await;
    assert_eq!(staleness(&store), Some(Duration::from_millis(1)));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(staleness(&store), None);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_list_or_a_deletion_ends_the_waiting() {
    for end in [
        vec![Event::Init, Event::InitApply(version_of(3)), Event::InitDone],
        vec![Event::Delete(version_of(3))],
    ] {
        let store = TestStore::new();
        store.list(vec![version_of(1)]);
        wrote(&store, 7);
        assert!(staleness(&store).is_some());
        for event in end {
            store.see(event);
        }
        assert_eq!(staleness(&store), None);
    }
}

/// kube's own store wakes only one of its waiters: the others would wait forever.
#[tokio::test]
async fn all_who_wait_for_the_lists_are_woken_and_none_before_both_are_there() {
    let store = TestStore::new();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let cache = store.cache.clone();
            tokio::spawn(async move { cache.synced().await })
        })
        .collect();
    store.list(vec![certificate("a", "1", "tls", EARLY)]);
    tokio::task::yield_now().await;
    assert!(waiting.iter().all(|waiter| !waiter.is_finished()));
    store.cache.secrets.take(Event::Init);
    store.cache.secrets.take(Event::InitDone);
    for waiter in waiting {
        waiter.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_gets_the_version_that_ended_the_staleness() {
    let store = TestStore::new();
    store.list(vec![version_of(1)]);
    let before = store.cache.certificates.get(&ObjectKey::new("app", "a")).unwrap();
    wrote(&store, 7);
    store.see(Event::Apply(version_of(7)));
    let current = store.cache.current(before).unwrap();
    assert_eq!(current.object_version(), "7");
}
