#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Mutex;

use tokio::time::{advance, sleep};

use super::{
    queue::{MEMORY, QUEUED},
    *,
};
use crate::kubernetes::observer::Counts;

/// Keeps what is written, or refuses it, or never answers.
#[derive(Clone, Default)]
struct Book {
    written: Arc<Mutex<Vec<(String, Event)>>>,
    mood: Arc<Mutex<Mood>>,
}

#[derive(Clone, Copy, Default)]
enum Mood {
    #[default]
    Writes,
    Refuses,
    Hangs,
}

#[async_trait]
impl Sink for Book {
    async fn create(&self, namespace: &str, event: &Event) -> Result<(), SinkError> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Writes => self.written.lock().unwrap().push((namespace.into(), event.clone())),
            Mood::Refuses => return Err(SinkError("quota".into())),
            Mood::Hangs => std::future::pending().await,
        }
        Ok(())
    }
}

impl Book {
    fn notes(&self) -> Vec<String> {
        self.written
            .lock()
            .unwrap()
            .iter()
            .map(|(_, event)| event.note.clone().unwrap())
            .collect()
    }
}

fn started(leadership: Leadership) -> (Book, Events, EventWorker, Arc<Counts>) {
    let (book, counts) = (Book::default(), Arc::new(Counts::default()));
    let wall = || "2026-01-02T03:04:05Z".parse().unwrap();
    let (events, worker) = Events::into_sink(Box::new(book.clone()), leadership, "pod-0", counts.clone(), wall);
    (book, events, worker, counts)
}

fn catalog() -> ObjectReference {
    ObjectReference {
        api_version: Some("gatehouse.dev/v1alpha1".into()),
        kind: Some("Certificate".into()),
        namespace: Some("app".into()),
        name: Some("catalog".into()),
        uid: Some("u-1".into()),
        ..ObjectReference::default()
    }
}

async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_is_written_whole_in_the_namespace_of_its_object() {
    let (book, events, worker, counts) = started(Leadership::always());
    tokio::spawn(worker.run(CancellationToken::new()));
    events.publish(&catalog(), EventType::Warning, "RateLimited", "Issue", "until tomorrow");
    settle().await;
    let (namespace, event) = book.written.lock().unwrap()[0].clone();
    assert_eq!(namespace, "app");
    let name = event.metadata.name.clone().unwrap();
    assert!(
        name.starts_with("catalog.") && name.len() == "catalog.".len() + 16,
        "{name}"
    );
    let expected = Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some("app".into()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime("2026-01-02T03:04:05Z".parse().unwrap())),
        type_: Some("Warning".into()),
        reason: Some("RateLimited".into()),
        action: Some("Issue".into()),
        note: Some("until tomorrow".into()),
        regarding: Some(catalog()),
        reporting_controller: Some("gatehouse.dev/operator".into()),
        reporting_instance: Some("pod-0".into()),
        ..Event::default()
    };
    assert_eq!(event, expected);
    assert_eq!(counts.events_dropped(), 0);
}

#[tokio::test(start_paused = true)]
async fn events_of_cluster_scoped_objects_go_to_default() {
    let (book, events, worker, _) = started(Leadership::always());
    tokio::spawn(worker.run(CancellationToken::new()));
    let cluster_issuer = ObjectReference {
        namespace: None,
        kind: Some("ClusterIssuer".into()),
        ..catalog()
    };
    events.publish(&cluster_issuer, EventType::Normal, "Issued", "Issue", "x");
    settle().await;
    let written = book.written.lock().unwrap();
    assert_eq!(
        (written[0].0.as_str(), written[0].1.metadata.namespace.as_deref()),
        ("default", Some("default"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_words_are_said_once_an_hour_and_other_words_at_once() {
    let (book, events, worker, counts) = started(Leadership::always());
    tokio::spawn(worker.run(CancellationToken::new()));
    let say = |note| events.publish(&catalog(), EventType::Normal, "Issuing", "Issue", note);
    say("one");
    say("one");
    say("two");
    settle().await;
    advance(MEMORY.saturating_sub(Duration::from_secs(1))).await;
    say("one");
    settle().await;
    assert_eq!(book.notes(), ["one", "two"]);
    advance(Duration::from_secs(2)).await;
    say("one");
    settle().await;
    assert_eq!(book.notes(), ["one", "two", "one"]);
    assert_eq!(counts.events_dropped(), 0, "what is said already is not lost");
}

#[tokio::test(start_paused = true)]
async fn when_the_queue_is_full_the_oldest_normal_event_gives_way_and_warnings_stay() {
    let (book, events, worker, counts) = started(Leadership::always());
    let say = |type_, note: &str| events.publish(&catalog(), type_, "Issuing", "Issue", note);
    say(EventType::Warning, "w0");
    for number in 0..QUEUED {
        say(EventType::Normal, &format!("n{number}"));
    }
    say(EventType::Warning, "w1");
    say(EventType::Normal, "n0");
    assert_eq!(counts.events_dropped(), 3);
    tokio::spawn(worker.run(CancellationToken::new()));
    settle().await;
    let mut expected = vec!["w0".to_owned()];
    expected.extend((3..QUEUED).map(|number| format!("n{number}")));
    expected.extend(["w1".to_owned(), "n0".to_owned()]);
    assert_eq!(book.notes(), expected, "n0 was dropped unsaid and could be said again");
}

#[tokio::test(start_paused = true)]
async fn a_normal_event_never_displaces_a_warning() {
    let (book, events, worker, counts) = started(Leadership::always());
    for number in 0..=QUEUED {
        events.publish(&catalog(), EventType::Warning, "Failed", "Issue", &number.to_string());
    }
    events.publish(&catalog(), EventType::Normal, "Issuing", "Issue", "normal");
    assert_eq!(counts.events_dropped(), 2);
    tokio::spawn(worker.run(CancellationToken::new()));
    settle().await;
    assert_eq!(
        book.notes(),
        (1..=QUEUED).map(|number| number.to_string()).collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_is_counted_and_may_be_said_again() {
    for mood in [Mood::Refuses, Mood::Hangs] {
        let (book, events, worker, counts) = started(Leadership::always());
        tokio::spawn(worker.run(CancellationToken::new()));
        *book.mood.lock().unwrap() = mood;
        events.publish(&catalog(), EventType::Normal, "Issuing", "Issue", "one");
        sleep(WRITE_TIMEOUT + Duration::from_secs(1)).await;
        assert_eq!((book.notes().len(), counts.events_dropped()), (0, 1));
        *book.mood.lock().unwrap() = Mood::Writes;
        events.publish(&catalog(), EventType::Normal, "Issuing", "Issue", "one");
        settle().await;
        assert_eq!(book.notes(), ["one"]);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_by_a_process_that_does_not_lead() {
    let (book, events, worker, counts) = started(Leadership::candidate());
    tokio::spawn(worker.run(CancellationToken::new()));
    events.publish(&catalog(), EventType::Warning, "Failed", "Issue", "x");
    settle().await;
    assert_eq!((book.notes().len(), counts.events_dropped()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_worker_writes_what_is_queued_before_it_ends_but_not_for_ever() {
    let (book, events, worker, _) = started(Leadership::always());
    let stop = CancellationToken::new();
    stop.cancel();
    for number in 0..5 {
        events.publish(&catalog(), EventType::Normal, "Issuing", "Issue", &number.to_string());
    }
    worker.run(stop.clone()).await;
    assert_eq!(book.notes(), ["0", "1", "2", "3", "4"]);

    let (book, events, worker, _) = started(Leadership::always());
    *book.mood.lock().unwrap() = Mood::Hangs;
    events.publish(&catalog(), EventType::Normal, "Issuing", "Issue", "x");
    let started = Instant::now();
    worker.run(stop).await;
    assert_eq!(started.elapsed().as_secs(), FLUSH.as_secs());
}

#[test]
fn a_note_is_cut_between_characters_and_a_name_is_one_that_the_api_takes() {
    assert_eq!(cut(&"é".repeat(600), NOTE_BYTES), "é".repeat(500));
    assert_eq!(cut(&format!("a{}", "é".repeat(600)), NOTE_BYTES).len(), 999);
    assert_eq!(cut("short", NOTE_BYTES), "short");
    let long = format!("{}--.{}", "a".repeat(197), "b".repeat(50));
    assert_eq!(name(&long, 0xab), format!("{}.00000000000000ab", "a".repeat(197)));
}
