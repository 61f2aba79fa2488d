#![allow(clippy::unwrap_used)]
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

fn named(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(serde_json::json!({"metadata": {"name": name}, "data": {"key": value}})).unwrap()
}

fn value(object: &ConfigMap) -> String {
    object.data.iter().flatten().map(|(_, value)| value.clone()).collect()
}

struct Reader {
    run: Arc<Run<String>>,
    list: BTreeMap<(String, String), String>,
    woken: Arc<AtomicUsize>,
}

impl Reader {
    fn new() -> Self {
        Self {
            run: Arc::default(),
            list: BTreeMap::new(),
            woken: Arc::default(),
        }
    }

    /// Adds a reader, takes the events, and returns how often it was woken.
    fn wakes(&mut self, events: Vec<Result<Event<ConfigMap>, watcher::Error>>) -> usize {
        let woken = self.woken.clone();
        let wake: Waker = Arc::new(move || {
            woken.fetch_add(1, Ordering::Relaxed);
        });
        self.run.lock().waiting.insert("reader".into(), wake);
        for event in events {
            if self.run.take(event, &mut self.list, value) {
                self.run.enqueue();
            }
        }
        self.woken.swap(0, Ordering::Relaxed)
    }

    fn view(&self) -> Vec<String> {
        self.run.view().unwrap().to_vec()
    }
}

fn refused() -> Result<Event<ConfigMap>, watcher::Error> {
    let status = kube::core::Status::failure("not yours", "Forbidden")
        .with_code(403)
        .boxed();
    Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
}

#[tokio::test]
async fn a_reader_is_woken_by_a_difference_and_by_nothing_else() {
    let mut reader = Reader::new();
    let list = vec![
        Ok(Event::Init),
        Ok(Event::InitApply(named("one", "1"))),
        Ok(Event::InitDone),
    ];
    assert_eq!(reader.wakes(list), 1, "the first list");
    assert_eq!(reader.view(), ["1"]);
    assert_eq!(reader.wakes(vec![Ok(Event::Apply(named("one", "1")))]), 0, "the same");
    let again = vec![
        Ok(Event::Init),
        Ok(Event::InitApply(named("one", "1"))),
        Ok(Event::InitDone),
    ];
    assert_eq!(reader.wakes(again), 0, "the same list");
    let twice = vec![Ok(Event::Apply(named("one", "2"))), Ok(Event::Apply(named("one", "3")))];
    assert_eq!(reader.wakes(twice), 1, "once: a reader that still needs it reads again");
    assert_eq!(reader.wakes(vec![Ok(Event::Delete(named("one", "3")))]), 1);
    assert_eq!(reader.view(), Vec::<String>::new());
    // Deleted while nothing watched.
    reader.wakes(vec![Ok(Event::Apply(named("two", "2")))]);
    assert_eq!(reader.wakes(vec![Ok(Event::Init), Ok(Event::InitDone)]), 1);
}

#[tokio::test]
async fn without_a_list_a_reader_learns_why_and_with_one_it_goes_on() {
    let mut reader = Reader::new();
    assert!(!reader.run.view().unwrap_err().forbidden, "not yet");
    assert_eq!(
        reader.wakes(vec![refused(), refused()]),
        1,
        "the same error changes nothing"
    );
    assert!(reader.run.view().unwrap_err().forbidden);
    assert!(reader.run.is_refused());
    assert_eq!(reader.wakes(vec![Ok(Event::Init), Ok(Event::InitDone)]), 1);
    assert!(!reader.run.is_refused());
    assert_eq!(reader.wakes(vec![Err(watcher::Error::NoResourceVersion)]), 0);
    assert_eq!(reader.view(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_a_reader_ends_and_one_that_is_waited_for_does_not() {
    let run: Arc<Run<String>> = Arc::default();
    assert!(!run.is_unused());
    tokio::time::advance(UNUSED).await;
    assert!(run.is_unused());
    run.lock().waiting.insert("reader".into(), Arc::new(|| ()));
    assert!(!run.is_unused());
    run.enqueue();
    assert!(run.is_unused());
}
