//! `--watch`: on a terminal the tables are redrawn, elsewhere changes are added below.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    Flags,
    alarms::Policy,
    gateways,
    overview::{self, Picture, Scope},
    table::{self, Item},
};
use crate::{
    cli::{
        FINE, UNHEALTHY,
        connection::{self, Connection, PAGE, Trouble},
        describe,
        grid::{Cell, grid},
        subject::{Kind, Subject},
        terminal::{self, Screen},
    },
    kubernetes::watch::Pauses,
};

/// Changes that come together are drawn together.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
/// "in 5m" becomes "in 4m" without any change.
const PASSING: Duration = Duration::from_secs(10);

type Key = (String, String);

/// One of the kinds that are watched.
struct Known<T> {
    items: BTreeMap<Key, T>,
    /// A list that is under way: it takes the place of `items` as a whole.
    fresh: BTreeMap<Key, T>,
    /// Whether the first list is whole.
    whole: bool,
    /// Reader of a kind of objects.
    read: fn(DynamicObject) -> T,
}

impl<T> Known<T> {
    fn new(read: fn(DynamicObject) -> T) -> Self {
        Self {
            items: BTreeMap::new(),
            fresh: BTreeMap::new(),
            whole: false,
            read,
        }
    }

    /// Takes an event in. Says whose row is another now.
    fn take(&mut self, event: Event<DynamicObject>) -> Vec<Key> {
        let key = |object: &DynamicObject| (object.namespace().unwrap_or_default(), object.name_any());
        match event {
            Event::Init => self.fresh.clear(),
            Event::InitApply(object) => {
                self.fresh.insert(key(&object), (self.read)(object));
            }
            Event::InitDone => {
                self.items = std::mem::take(&mut self.fresh);
                self.whole = true;
                return self.items.keys().cloned().collect();
            }
            Event::Apply(object) => {
                let key = key(&object);
                self.items.insert(key.clone(), (self.read)(object));
                return vec![key];
            }
            Event::Delete(object) => {
                self.items.remove(&key(&object));
            }
        }
        Vec::new()
    }
}

/// Everything that is watched.
struct All {
    certificates: Known<Item>,
    gateways: Known<gateways::Item>,
    /// Why no Gateways are.
    unseen: Option<String>,
}

impl All {
    fn is_whole(&self) -> bool {
        self.certificates.whole && (self.gateways.whole || self.unseen.is_some())
    }

    fn picture<'a>(&'a self, policies: &'a [Policy]) -> Picture<'a> {
        Picture {
            certificates: self.certificates.items.values().collect(),
            gateways: self.gateways.items.values().collect(),
            unseen: self.unseen.as_deref(),
            policies,
        }
    }
}

/// The tables, until Ctrl-C. The exit code is that of the last picture.
pub(super) async fn all(connection: &Connection, flags: &Flags, screen: Screen) -> Result<ExitCode, Trouble> {
    let scope = Scope::of(flags, connection);
    let (certificates, gateways) = (scope.api(connection), scope.gateways(connection));
    // A cluster that does not answer, or a missing right, is reported at once: the watch would try forever.
    let one = scope.selection.clone().limit(1);
    connection::ask(certificates.list(&one)).await?;
    let unseen = gateways::unseen(connection::ask(gateways.list(&one)).await)?.err();
    let config = watcher::Config {
        label_selector: scope.selection.label_selector.clone(),
        ..watcher::Config::default()
    };
    let of_gateways = match unseen {
        None => watch(gateways, config.clone()).boxed(),
        Some(_) => futures::stream::pending().boxed(),
    };
    let mut events = std::pin::pin!(futures::stream::select(
        watch(certificates, config).map(|event| (Kind::Certificate, event)),
        of_gateways.map(|event| (Kind::Gateway, event)),
    ));
    let mut interrupt = interrupts()?;
    let mut rows = Rows::new(scope.clone());
    let mut known = All {
        certificates: Known::new(overview::item),
        gateways: Known::new(gateways::item),
        unseen,
    };
    let mut healthy = true;
    let mut draw_at = None;
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            event = events.next() => {
                let Some((kind, event)) = event else { break };
                let keys = match kind {
                    Kind::Certificate => known.certificates.take(event),
                    Kind::Gateway => known.gateways.take(event),
                };
                rows.changed.extend(keys.into_iter().map(|key| (kind, key)));
                if known.is_whole() {
                    draw_at.get_or_insert_with(|| Instant::now() + REDRAW_INTERVAL);
                }
            }
            () = sleep_until(draw_at.unwrap_or_else(|| Instant::now() + PASSING)), if known.is_whole() => {
                draw_at = None;
                let now = Timestamp::now();
                let policies = overview::policies(connection, scope.namespace.as_deref()).await;
                let (page, fine) = overview::page(&known.picture(&policies), &scope, now, screen);
                healthy = fine;
                let is_read = match screen.width {
                    Some(_) => redraw(&page),
                    None => terminal::show(&rows.added(&known, &page, now, screen)),
                };
                if !is_read {
                    break;
                }
            }
        }
    }
    Ok(ExitCode::from(if healthy { FINE } else { UNHEALTHY }))
}

/// The story of one, until Ctrl-C.
pub(super) async fn one(connection: &Connection, subject: &Subject, screen: Screen) -> Result<ExitCode, Trouble> {
    // Whichever it is now: that is what is watched.
    let (kind, _) = describe::find(connection, subject).await?;
    let subject = &Subject {
        kind: Some(kind),
        name: subject.name.clone(),
    };
    let api = match kind {
        Kind::Certificate => overview::certificates(connection, Some(&connection.namespace)),
        Kind::Gateway => gateways::api(connection, Some(&connection.namespace)),
    };
    let config = watcher::Config::default().fields(&format!("metadata.name={}", subject.name));
    let mut interrupt = interrupts()?;
    let mut last = String::new();
    let (mut text, mut healthy) = describe::describe(connection, subject, screen).await?;
    let mut events = std::pin::pin!(watch(api, config));
    loop {
        let is_read = match screen.width {
            Some(_) => redraw(&text),
            None if text == last => true,
            None => terminal::show(&format!("{}{text}", if last.is_empty() { "" } else { "\n---\n" })),
        };
        if !is_read {
            break;
        }
        last.clone_from(&text);
        let passing = sleep_until(Instant::now() + PASSING);
        tokio::select! {
            _ = interrupt.recv() => break,
            event = events.next() => if event.is_none() { break },
            () = passing, if screen.width.is_some() => {}
        }
        tokio::time::sleep(REDRAW_INTERVAL).await;
        (text, healthy) = match describe::describe(connection, subject, screen).await {
            Ok(described) => described,
            // It may come back; the way to the API server, too.
            Err(trouble) => (format!("{trouble}\n"), false),
        };
    }
    Ok(ExitCode::from(if healthy { FINE } else { UNHEALTHY }))
}

fn watch(api: Api<DynamicObject>, config: watcher::Config) -> impl Stream<Item = Event<DynamicObject>> {
    let config = watcher::Config {
        page_size: Some(PAGE),
        ..config
    };
    watcher::watcher(api, config)
        .backoff(Pauses::default())
        .filter_map(|event| async move {
            match event {
                Ok(event) => Some(event),
                Err(error) => {
                    terminal::say(&format!("the watch broke off and is taken up again: {error}"));
                    None
                }
            }
        })
}

/// Receives Ctrl-C, also one that came earlier.
fn interrupts() -> Result<Signal, Trouble> {
    signal(SignalKind::interrupt()).map_err(|error| Trouble::Usage(format!("Ctrl-C cannot be waited for: {error}")))
}

/// Redraws from the upper left corner, without the previous content.
fn redraw(page: &str) -> bool {
    terminal::show(&format!("\x1b[H\x1b[2J\x1b[3J{page}"))
}

/// The tables where they cannot be redrawn: rows that changed are added.
struct Rows {
    scope: Scope,
    changed: Vec<(Kind, Key)>,
    started: bool,
    before: BTreeMap<(Kind, Key), Vec<Cell>>,
}

impl Rows {
    fn new(scope: Scope) -> Self {
        Self {
            scope,
            changed: Vec::new(),
            started: false,
            before: BTreeMap::new(),
        }
    }

    /// The whole page first, then the rows that look otherwise than before.
    fn added(&mut self, known: &All, page: &str, now: Timestamp, screen: Screen) -> String {
        let changed: Vec<_> = self.changed.drain(..).collect();
        let columns = self.scope.columns;
        let of = |wanted: Kind| {
            changed
                .iter()
                .filter(move |(kind, _)| *kind == wanted)
                .map(|(_, key)| key)
        };
        let items = of(Kind::Certificate).filter_map(|key| known.certificates.items.get(key));
        let judged = table::judge(items, now);
        let keys = judged.iter().map(|one| key(&one.item.namespace, &one.item.name));
        let rows = keys.zip(table::rows(&judged, columns, now)).collect();
        let certificates = self.news(Kind::Certificate, rows);
        let items = of(Kind::Gateway).filter_map(|key| known.gateways.items.get(key));
        let judged = gateways::table::judge(items, now);
        let keys = judged.iter().map(|one| key(&one.item.namespace, &one.item.name));
        let rows = keys.zip(gateways::table::rows(&judged, columns)).collect();
        let gateways = self.news(Kind::Gateway, rows);
        if !std::mem::replace(&mut self.started, true) {
            return page.to_owned();
        }
        // Certificates without the header, which is above. Gateways are between them: with it, each time.
        let text = grid(&table::header(columns), &certificates, screen);
        let mut text = text
            .split_once('\n')
            .map_or_else(String::new, |(_, rows)| rows.to_owned());
        if !gateways.is_empty() {
            text.push_str(&grid(&gateways::table::header(columns), &gateways, screen));
        }
        text
    }

    /// Returns the rows that have changed.
    fn news(&mut self, kind: Kind, rows: Vec<(Key, Vec<Cell>)>) -> Vec<Vec<Cell>> {
        let mut news = Vec::new();
        for (key, row) in rows {
            if self.before.insert((kind, key), row.clone()).as_ref() != Some(&row) {
                news.push(row);
            }
        }
        news
    }
}

fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}
