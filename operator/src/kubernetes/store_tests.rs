#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    convert::Infallible,
    sync::{Mutex, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use gatehouse_crds::issuer::Issuer;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{core::PartialObjectMeta, runtime::controller::Action};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::kubernetes::controller::{Enqueuer, controller};

/// The smallest kind: the label `app` of ConfigMaps.
#[derive(Clone, Debug, PartialEq)]
struct App {
    key: ObjectKey,
    uid: String,
    version: String,
    label: String,
}

impl Projection for App {
    type Object = PartialObjectMeta<ConfigMap>;
    const KIND: &'static str = "ConfigMap";

    fn of(object: Self::Object) -> Self {
        Self {
            key: ObjectKey::of(&object),
            uid: object.metadata.uid.unwrap_or_default(),
            version: object.metadata.resource_version.unwrap_or_default(),
            label: object
                .metadata
                .labels
                .unwrap_or_default()
                .remove("app")
                .unwrap_or_default(),
        }
    }

    fn key(&self) -> ObjectKey {
        self.key.clone()
    }

    fn object_uid(&self) -> &str {
        &self.uid
    }

    fn object_version(&self) -> &str {
        &self.version
    }
}

/// The smallest decision, for an App.
fn decide(app: &App) -> Option<String> {
    (!app.label.is_empty()).then(|| format!("restart {}", app.label))
}

fn object(name: &str, uid: &str, version: &str, app: &str) -> PartialObjectMeta<ConfigMap> {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": version, "labels": {"app": app}},
    }))
    .unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

/// A store whose events are recorded in short.
fn recorded() -> (Arc<Store<App>>, Arc<Mutex<Vec<String>>>) {
    let (store, events) = (Store::<App>::new(), Arc::new(Mutex::new(Vec::new())));
    let seen = events.clone();
    store.subscribe(move |store, event| {
        let line = match event {
            StoreEvent::Applied {
                before,
                after,
                is_own_write,
            } => {
                assert_eq!(
                    store.get(&after.key()).as_ref(),
                    Some(after),
                    "visible before it is reported"
                );
                let before = before.as_ref().map_or("", |before| &before.version);
                format!("{} {before}>{} {is_own_write}", after.key, after.version)
            }
            StoreEvent::Deleted(object) => format!("{} deleted", object.key),
            StoreEvent::Listed { deleted } => {
                let mut deleted: Vec<_> = deleted
                    .iter()
                    .map(|object| format!("{}/{}", object.key, object.uid))
                    .collect();
                deleted.sort();
                format!("listed, without {deleted:?}")
            }
        };
        seen.lock().unwrap().push(line);
    });
    (store, events)
}

fn list(store: &Store<App>, objects: Vec<PartialObjectMeta<ConfigMap>>) {
    store.take(Event::Init);
    for object in objects {
        store.take(Event::InitApply(object));
    }
    store.take(Event::InitDone);
}

fn take(events: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut events.lock().unwrap())
}

#[test]
fn every_change_is_reported_once_with_what_was_before() {
    let (store, events) = recorded();
    list(&store, vec![object("a", "1", "1", "web")]);
    assert_eq!(take(&events), ["listed, without []"]);
    store.take(Event::Apply(object("a", "1", "2", "web")));
    store.take(Event::Apply(object("b", "2", "3", "web")));
    store.take(Event::Delete(object("a", "1", "4", "web")));
    store.take(Event::Delete(object("a", "1", "4", "web")));
    assert_eq!(take(&events), ["shop/a 1>2 false", "shop/b >3 false", "shop/a deleted"]);
    assert_eq!((store.len(), store.get(&key("a"))), (1, None));
}

#[test]
fn a_repeated_list_reports_what_it_no_longer_contains() {
    let (store, events) = recorded();
    list(
        &store,
        vec![
            object("a", "1", "1", ""),
            object("b", "2", "1", ""),
            object("c", "3", "1", ""),
        ],
    );
    take(&events);
    // b was deleted, c was deleted and created again.
    list(&store, vec![object("a", "1", "5", ""), object("c", "4", "6", "")]);
    assert_eq!(take(&events), [r#"listed, without ["shop/b/2", "shop/c/3"]"#]);
    assert_eq!(store.get(&key("c")).unwrap().uid, "4");
    assert!(store.get_with_uid(&key("c"), "3").is_none());
}

#[test]
fn an_own_write_is_visible_at_once_and_an_older_version_does_not_undo_it() {
    let (store, events) = recorded();
    list(&store, vec![object("a", "1", "1", "web")]);
    take(&events);
    store.wrote(App::of(object("a", "1", "7", "api")));
    store.take(Event::Apply(object("a", "1", "6", "web")));
    assert_eq!(store.get(&key("a")).unwrap().label, "api");
    store.take(Event::Apply(object("a", "1", "7", "api")));
    // Another object of the same name is newer whatever its version is.
    store.take(Event::Apply(object("a", "2", "3", "new")));
    assert_eq!(
        take(&events),
        ["shop/a 1>7 true", "shop/a 7>7 false", "shop/a 7>3 false"]
    );
}

#[test]
fn an_index_finds_objects_until_they_refer_to_something_else() {
    let store = Store::<App>::new();
    let by_app = Index::of(&store, |object: &App| vec![ObjectKey::new("shop", &object.label)]);
    list(&store, vec![object("a", "1", "1", "web"), object("b", "2", "1", "web")]);
    let found = |app: &str| {
        let mut found = by_app.get(&ObjectKey::new("shop", app));
        found.sort();
        found
    };
    assert_eq!(found("web"), [key("a"), key("b")]);
    store.take(Event::Apply(object("a", "1", "2", "api")));
    store.take(Event::Delete(object("b", "2", "2", "web")));
    assert_eq!((found("web"), found("api")), (vec![], vec![key("a")]));
    assert_eq!(by_app.referrers(), [key("a")]);
    list(&store, vec![object("c", "3", "4", "web")]);
    assert_eq!((found("web"), found("api")), (vec![key("c")], vec![]));
}

#[tokio::test]
async fn all_that_wait_for_the_first_list_continue_when_it_is_there() {
    let store = Store::<App>::new();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.listed().await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(!store.is_listed() && waiting.iter().all(|waiter| !waiter.is_finished()));
    list(&store, vec![]);
    for waiter in waiting {
        assert!(waiter.await.unwrap());
    }
}

#[tokio::test]
async fn none_waits_for_the_list_of_a_watch_that_has_ended() {
    let store = Store::<App>::new();
    drop(Stopped(&store.progress));
    assert!(!store.listed().await);
    list(&store, vec![]);
    assert!(store.listed().await, "a later watch may still list");
}

#[test]
fn a_key_has_a_namespace_and_a_name() {
    let namespaced = ObjectKey::new("shop", "a.b");
    assert_eq!((namespaced.namespace(), namespaced.name()), ("shop", "a.b"));
    assert_eq!(namespaced.to_string(), "shop/a.b");
    let cluster = ObjectKey::new("", "a");
    assert_eq!(
        (cluster.namespace(), cluster.name(), cluster.to_string()),
        ("", "a", "a".into())
    );
}

#[test]
fn a_new_kind_costs_a_projection_and_a_decision() {
    let (store, decided) = (Store::<App>::new(), Arc::new(Mutex::new(Vec::new())));
    let actions = decided.clone();
    store.subscribe(move |_, event| {
        if let StoreEvent::Applied { after, .. } = event {
            actions.lock().unwrap().extend(decide(after));
        }
    });
    store.take(Event::Apply(object("a", "1", "1", "web")));
    store.take(Event::Apply(object("b", "2", "2", "")));
    assert_eq!(*decided.lock().unwrap(), ["restart web"]);
}

fn issuer(name: &str) -> DeserializeGuard<Issuer> {
    serde_json::from_value(json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Issuer",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1"},
        "spec": {"selfSigned": {}},
    }))
    .unwrap()
}

/// Reconciles what changed and what is enqueued, and ends when it is stopped.
#[tokio::test]
async fn a_controller_reconciles_what_changes_and_what_is_enqueued() {
    let store = Store::<DeserializeGuard<Issuer>>::new();
    let (queue, enqueued) = Enqueuer::new();
    let (stop, count) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let reconcile = |_: Arc<DeserializeGuard<Issuer>>, count: Arc<AtomicUsize>| async move {
        count.fetch_add(1, Ordering::SeqCst);
        Ok::<_, Infallible>(Action::await_change())
    };
    let running = tokio::spawn(controller(&store, enqueued, 0, reconcile, count.clone(), stop.clone()));
    let reached = async |expected: usize| {
        let all = async {
            while count.load(Ordering::SeqCst) < expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
    };
    store.take(Event::Init);
    store.take(Event::InitApply(issuer("a")));
    store.take(Event::InitDone);
    reached(1).await;
    store.take(Event::Apply(issuer("b")));
    reached(2).await;
    queue.enqueue(key("a"));
    queue.enqueue(key("absent"));
    reached(3).await;
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .unwrap()
        .unwrap();
}
