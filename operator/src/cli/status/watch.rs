//! `--watch`: on a terminal the picture is drawn anew, elsewhere what changes is added below.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::{
    Api,
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
    overview::{self, Scope},
    table::{self, Item},
};
use crate::cli::{
    FINE, UNHEALTHY,
    connection::{self, Connection, PAGE, Trouble},
    grid::{Cell, grid},
    story,
    terminal::{self, Screen},
};

/// Changes that come together are drawn together.
const TOGETHER: Duration = Duration::from_millis(200);
/// "in 5m" becomes "in 4m" without any change.
const PASSING: Duration = Duration::from_secs(10);

/// Everything that is watched.
#[derive(Default)]
struct Known {
    items: BTreeMap<(String, String), Item>,
    /// A list that is under way: it takes the place of `items` as a whole.
    fresh: BTreeMap<(String, String), Item>,
    /// Whether the first list is whole.
    whole: bool,
}

impl Known {
    /// Takes an event in. Says whose row is another now.
    fn take(&mut self, event: Event<DynamicObject>) -> Vec<(String, String)> {
        let key = |item: &Item| (item.namespace.clone(), item.name.clone());
        match event {
            Event::Init => self.fresh.clear(),
            Event::InitApply(object) => {
                let item = overview::item(object);
                self.fresh.insert(key(&item), item);
            }
            Event::InitDone => {
                self.items = std::mem::take(&mut self.fresh);
                self.whole = true;
                return self.items.keys().cloned().collect();
            }
            Event::Apply(object) => {
                let item = overview::item(object);
                let key = key(&item);
                self.items.insert(key.clone(), item);
                return vec![key];
            }
            Event::Delete(object) => {
                let item = overview::item(object);
                self.items.remove(&key(&item));
            }
        }
        Vec::new()
    }
}

/// The table, until Ctrl-C. The exit code is that of the last picture.
pub(super) async fn all(connection: &Connection, flags: &Flags, screen: Screen) -> Result<ExitCode, Trouble> {
    let scope = Scope::of(flags, connection);
    let api = scope.api(connection);
    // A cluster that is not there, or a missing right, is said at once: the watch would try for ever.
    connection::ask(api.list(&scope.selection.clone().limit(1))).await?;
    let config = watcher::Config {
        label_selector: scope.selection.label_selector.clone(),
        ..watcher::Config::default()
    };
    let mut events = std::pin::pin!(watch(api, config));
    let mut interrupt = interrupts()?;
    let mut rows = Rows::new(scope.clone());
    let mut known = Known::default();
    let mut healthy = true;
    let mut draw_at = None;
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            event = events.next() => {
                let Some(event) = event else { break };
                rows.changed(known.take(event));
                if known.whole {
                    draw_at.get_or_insert_with(|| Instant::now() + TOGETHER);
                }
            }
            () = sleep_until(draw_at.unwrap_or_else(|| Instant::now() + PASSING)), if known.whole => {
                draw_at = None;
                let now = Timestamp::now();
                let policies = overview::policies(connection, scope.namespace.as_deref()).await;
                let (page, fine) = overview::page(known.items.values(), &policies, &scope, now, screen);
                healthy = fine;
                let heard = match screen.width {
                    Some(_) => redraw(&page),
                    None => terminal::show(&rows.added(&known, &policies, now, screen)),
                };
                if !heard {
                    break;
                }
            }
        }
    }
    Ok(ExitCode::from(if healthy { FINE } else { UNHEALTHY }))
}

/// The story of one, until Ctrl-C.
pub(super) async fn one(connection: &Connection, name: &str, screen: Screen) -> Result<ExitCode, Trouble> {
    let api = overview::certificates(connection, Some(&connection.namespace));
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut interrupt = interrupts()?;
    let mut last = String::new();
    let (mut text, mut healthy) = story::tell(connection, name, screen).await?;
    let mut events = std::pin::pin!(watch(api, config));
    loop {
        let heard = match screen.width {
            Some(_) => redraw(&text),
            None if text == last => true,
            None => terminal::show(&format!("{}{text}", if last.is_empty() { "" } else { "\n---\n" })),
        };
        if !heard {
            break;
        }
        last.clone_from(&text);
        let passing = sleep_until(Instant::now() + PASSING);
        tokio::select! {
            _ = interrupt.recv() => break,
            event = events.next() => if event.is_none() { break },
            () = passing, if screen.width.is_some() => {}
        }
        tokio::time::sleep(TOGETHER).await;
        (text, healthy) = match story::tell(connection, name, screen).await {
            Ok(told) => told,
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
        .default_backoff()
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

/// Ctrl-C, also one that comes while nobody waits for it.
fn interrupts() -> Result<Signal, Trouble> {
    signal(SignalKind::interrupt()).map_err(|error| Trouble::Usage(format!("Ctrl-C cannot be waited for: {error}")))
}

/// From the upper left corner, and nothing of what was there before.
fn redraw(page: &str) -> bool {
    terminal::show(&format!("\x1b[H\x1b[2J\x1b[3J{page}"))
}

/// The table where it cannot be drawn anew: rows that changed are added.
struct Rows {
    scope: Scope,
    changed: Vec<(String, String)>,
    started: bool,
    before: BTreeMap<(String, String), Vec<Cell>>,
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

    fn changed(&mut self, keys: Vec<(String, String)>) {
        self.changed.extend(keys);
    }

    /// The whole page first, then the rows that look otherwise than before.
    fn added(&mut self, known: &Known, policies: &[Policy], now: Timestamp, screen: Screen) -> String {
        let items = self.changed.drain(..).filter_map(|key| known.items.get(&key));
        let judged = table::judge(items, now);
        let rows = table::rows(&judged, self.scope.columns, now);
        let mut news = Vec::new();
        for (judged, row) in judged.iter().zip(rows) {
            let key = (judged.item.namespace.clone(), judged.item.name.clone());
            if self.before.insert(key, row.clone()).as_ref() != Some(&row) {
                news.push(row);
            }
        }
        if !std::mem::replace(&mut self.started, true) {
            return overview::page(known.items.values(), policies, &self.scope, now, screen).0;
        }
        let header = table::header(self.scope.columns);
        // Without the header: it stands above.
        let text = grid(&header, &news, screen);
        text.split_once('\n')
            .map_or_else(String::new, |(_, rows)| rows.to_owned())
    }
}
