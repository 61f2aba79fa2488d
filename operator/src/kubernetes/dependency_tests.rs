#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use super::*;

/// Objects that a test changes.
#[derive(Clone, Default)]
struct Objects(Arc<Mutex<BTreeMap<Dependency, Object>>>);

#[derive(Default)]
struct Object {
    version: watch::Sender<Version>,
    polls: Vec<Instant>,
}

impl Objects {
    fn change(&self, dependency: &Dependency, version: Version) {
        let mut objects = self.0.lock().unwrap();
        objects
            .entry(dependency.clone())
            .or_default()
            .version
            .send_replace(version);
    }

    fn watches(&self) -> usize {
        let objects = self.0.lock().unwrap();
        objects.values().map(|object| object.version.receiver_count()).sum()
    }

    fn polls(&self, dependency: &Dependency) -> Vec<Instant> {
        let objects = self.0.lock().unwrap();
        objects
            .get(dependency)
            .map(|object| object.polls.clone())
            .unwrap_or_default()
    }
}

#[async_trait]
impl Source for Objects {
    fn versions(&self, dependency: &Dependency) -> BoxStream<'static, Version> {
        let mut objects = self.0.lock().unwrap();
        let object = objects.entry(dependency.clone()).or_default();
        WatchStream::new(object.version.subscribe()).boxed()
    }

    async fn version(&self, dependency: &Dependency) -> Option<Version> {
        let mut objects = self.0.lock().unwrap();
        let object = objects.entry(dependency.clone()).or_default();
        object.polls.push(Instant::now());
        Some(object.version.borrow().clone())
    }
}

fn registry() -> (Arc<Dependencies>, mpsc::UnboundedReceiver<Dependent>, Objects) {
    let objects = Objects::default();
    let (registry, changed) = Dependencies::new(objects.clone());
    (registry, changed, objects)
}

fn certificate(name: &str) -> Dependent {
    Dependent::new("Certificate", "app", name)
}

#[allow(clippy::unnecessary_wraps, reason = "a version that was read")]
fn some(version: &str) -> Version {
    Some(version.to_owned())
}

async fn enqueued(changed: &mut mpsc::UnboundedReceiver<Dependent>) -> Vec<String> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut names = Vec::new();
    while let Ok(dependent) = changed.try_recv() {
        names.push(dependent.name);
    }
    names
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_an_object_is_enqueued_when_it_changes() {
    let (registry, mut changed, objects) = registry();
    let (password, other) = (
        Dependency::secret("app", "password"),
        Dependency::secret("app", "other"),
    );
    registry.set(&certificate("web"), [password.clone()].into());
    registry.note_read(&certificate("web"), &password, None);
    assert_eq!(enqueued(&mut changed).await, [""; 0], "it is as it was read");
    assert!(!registry.take_change(&certificate("web")));

    objects.change(&other, some("4"));
    assert_eq!(enqueued(&mut changed).await, [""; 0], "another object");
    for (what, version) in [
        ("made", some("5")),
        ("changed", some("6")),
        ("deleted", None),
        ("made again", some("9")),
    ] {
        objects.change(&password, version);
        assert_eq!(enqueued(&mut changed).await, ["web"], "{what}");
        assert!(registry.take_change(&certificate("web")), "{what}");
        assert!(!registry.take_change(&certificate("web")), "{what}: once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_between_the_read_and_the_watch_is_not_missed() {
    for (read, then, news) in [
        (None, some("5"), true),
        (some("5"), None, true),
        (some("5"), some("6"), true),
        (some("5"), some("5"), false),
        // The read was newer than the list.
        (some("10"), some("9"), false),
        (None, None, false),
    ] {
        let (registry, mut changed, objects) = registry();
        let password = Dependency::secret("app", "password");
        objects.change(&password, then.clone());
        registry.set(&certificate("web"), [password.clone()].into());
        registry.note_read(&certificate("web"), &password, read.clone());
        assert_eq!(!enqueued(&mut changed).await.is_empty(), news, "{read:?} {then:?}");
    }
    let (registry, mut changed, objects) = registry();
    let password = Dependency::secret("app", "password");
    objects.change(&password, None);
    registry.set(&certificate("web"), [password].into());
    assert_eq!(enqueued(&mut changed).await, ["web"], "what it has read is not known");
}

#[tokio::test(start_paused = true)]
async fn what_is_there_at_the_start_is_no_news_to_one_that_reads_later() {
    let (registry, mut changed, objects) = registry();
    let url = Dependency::secret("app", "url");
    objects.change(&url, some("5"));
    registry.set_from_now(&certificate("a"), [url.clone()].into());
    assert_eq!(enqueued(&mut changed).await, [""; 0]);
    registry.set_from_now(&certificate("b"), [url.clone()].into());
    assert_eq!(enqueued(&mut changed).await, [""; 0]);
    objects.change(&url, some("6"));
    assert_eq!(enqueued(&mut changed).await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_share_one_watch_that_ends_with_the_last() {
    let (registry, mut changed, objects) = registry();
    let password = Dependency::secret("app", "password");
    for name in ["a", "b", "c"] {
        registry.set(&certificate(name), [password.clone()].into());
        registry.note_read(&certificate(name), &password, None);
    }
    assert_eq!(enqueued(&mut changed).await, [""; 0]);
    assert_eq!(objects.watches(), 1);
    objects.change(&password, some("5"));
    assert_eq!(enqueued(&mut changed).await, ["a", "b", "c"]);

    registry.forget(&certificate("a"));
    registry.set(&certificate("b"), BTreeSet::new());
    objects.change(&password, some("6"));
    assert_eq!(enqueued(&mut changed).await, ["c"]);
    registry.forget(&certificate("c"));
    enqueued(&mut changed).await;
    assert_eq!(objects.watches(), 0);
    objects.change(&password, some("7"));
    assert_eq!(enqueued(&mut changed).await, [""; 0]);
    assert!(!registry.take_change(&certificate("a")), "what went leaves nothing");
}

#[tokio::test(start_paused = true)]
async fn watches_are_bounded_and_one_namespace_leaves_room_for_others() {
    let (registry, mut changed, objects) = registry();
    let wait = |namespace: &str, number: usize| {
        let secret = Dependency::secret(namespace, &format!("s{number:03}"));
        let dependent = Dependent::new("Certificate", namespace, &format!("c{number:03}"));
        registry.set(&dependent, [secret.clone()].into());
        (dependent, secret)
    };
    let crowd: Vec<_> = (0..MAX_WATCHES_PER_NAMESPACE + 10)
        .map(|number| wait("crowd", number))
        .collect();
    assert_eq!(objects.watches(), MAX_WATCHES_PER_NAMESPACE);
    let stop = CancellationToken::new();
    let poll = tokio::spawn(registry.clone().poll(stop.clone()));
    let alone = wait("alone", 0);
    enqueued(&mut changed).await;
    assert_eq!(
        objects.watches(),
        MAX_WATCHES_PER_NAMESPACE + 1,
        "another namespace is watched"
    );
    tokio::time::sleep(Duration::from_secs(30)).await;
    enqueued(&mut changed).await;

    let (_, beyond) = crowd.last().unwrap();
    objects.change(beyond, some("5"));
    tokio::time::sleep(MIN_POLL_INTERVAL + POLL_TICK * 12).await;
    assert_eq!(
        enqueued(&mut changed).await,
        [format!("c{:03}", MAX_WATCHES_PER_NAMESPACE + 9)],
        "it is polled"
    );
    let polls = objects.polls(beyond);
    assert!(
        polls.windows(2).all(|two| two[1] - two[0] >= MIN_POLL_INTERVAL),
        "not more often than each round"
    );
    assert!(objects.polls(&alone.1).is_empty(), "what is watched is not polled");

    // Who goes makes room.
    registry.forget(&crowd[0].0);
    enqueued(&mut changed).await;
    assert_eq!(objects.watches(), MAX_WATCHES_PER_NAMESPACE + 1);
    for (dependent, _) in &crowd {
        registry.forget(dependent);
    }
    enqueued(&mut changed).await;
    assert_eq!(objects.watches(), 1);
    for namespace in 0..5 {
        for number in 0..MAX_WATCHES_PER_NAMESPACE {
            wait(&format!("n{namespace}"), number);
        }
    }
    assert_eq!(objects.watches(), MAX_WATCHES);
    stop.cancel();
    poll.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_tenants_thousand_objects_do_not_delay_the_look_at_anothers() {
    let (registry, mut changed, objects) = registry();
    let secret = |namespace: &str, number: usize| Dependency::secret(namespace, &format!("s{number:04}"));
    for number in 0..1_000 + MAX_WATCHES_PER_NAMESPACE {
        let dependent = Dependent::new("Certificate", "crowd", &number.to_string());
        registry.set(&dependent, [secret("crowd", number)].into());
    }
    for number in 0..=MAX_WATCHES_PER_NAMESPACE {
        let dependent = Dependent::new("Certificate", "small", &number.to_string());
        registry.set(&dependent, [secret("small", number)].into());
    }
    let poll = tokio::spawn(registry.clone().poll(CancellationToken::new()));
    enqueued(&mut changed).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(objects.polls(&secret("small", MAX_WATCHES_PER_NAMESPACE)).len(), 1);
    poll.abort();
}

#[tokio::test]
async fn what_a_watch_tells_becomes_versions() {
    let object = |version: &str| {
        let mut secret = Secret::default();
        secret.metadata.resource_version = some(version);
        secret
    };
    let events = futures::stream::iter([
        Event::Init,
        Event::InitDone,
        Event::Apply(object("5")),
        Event::Delete(object("6")),
        Event::Init,
        Event::InitApply(object("7")),
        Event::InitDone,
        Event::Init,
        Event::InitDone,
    ]);
    let seen: Vec<_> = versions(events).collect().await;
    assert_eq!(seen, [None, some("5"), None, some("7"), None]);
}
