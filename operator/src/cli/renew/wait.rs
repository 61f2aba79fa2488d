//! `--wait`: shows how the certificates that were asked for come about.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use gatehouse_crds::certificate::Certificate;
use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};

use super::progress::{Asked, Progress};
use crate::{
    cli::{
        connection::{Connection, PAGE, Trouble},
        describe::advice::{self, Of},
        status, terminal,
    },
    kubernetes::watch::Pauses,
};

/// Above this number only results are reported.
const TALKATIVE: usize = 20;

/// Waits until each is renewed or failed. Whether all were renewed in time.
pub(super) async fn wait(
    connection: &Connection,
    namespace: Option<&str>,
    asked: Vec<Asked>,
    patience: Duration,
) -> Result<bool, Trouble> {
    let talkative = asked.len() <= TALKATIVE;
    let mut open: BTreeMap<(String, String), (Asked, Progress)> = asked
        .into_iter()
        .map(|one| ((one.namespace.clone(), one.name.clone()), (one, Progress::Waiting)))
        .collect();
    let config = watcher::Config {
        page_size: Some(PAGE),
        ..watcher::Config::default()
    };
    let api = status::certificates(connection, namespace);
    let mut events = std::pin::pin!(watcher::watcher(api, config).backoff(Pauses::default()));
    let mut failed = false;
    let watched = tokio::time::timeout(patience, async {
        while !open.is_empty() {
            match events.next().await {
                Some(Ok(Event::Apply(object) | Event::InitApply(object))) => {
                    failed |= look(&mut open, &object, talkative);
                }
                Some(Ok(Event::Delete(object))) => {
                    let key = (object.namespace().unwrap_or_default(), object.name_any());
                    if open.remove(&key).is_some() {
                        terminal::show(&format!("certificate {}/{}: it was deleted\n", key.0, key.1));
                        failed = true;
                    }
                }
                Some(Ok(Event::Init | Event::InitDone)) => {}
                Some(Err(error)) => terminal::say(&format!("the watch broke off and is taken up again: {error}")),
                None => break,
            }
        }
    });
    let in_time = watched.await.is_ok();
    for ((namespace, name), (_, progress)) in &open {
        let how_far = match progress {
            Progress::Waiting => "it has not begun: does the operator run, and does it watch this namespace?",
            Progress::UnderWay(words) | Progress::Done(words) | Progress::Failed(_, words) => words,
        };
        terminal::show(&format!(
            "certificate {namespace}/{name}: not renewed within {} s: {}\n",
            patience.as_secs(),
            terminal::plain(how_far)
        ));
    }
    Ok(in_time && !failed && open.is_empty())
}

/// Reports what is new about one. Returns whether it failed.
fn look(open: &mut BTreeMap<(String, String), (Asked, Progress)>, object: &DynamicObject, talkative: bool) -> bool {
    let key = (object.namespace().unwrap_or_default(), object.name_any());
    let Some((asked, before)) = open.get_mut(&key) else {
        return false;
    };
    let Ok(certificate) = object.clone().try_parse::<Certificate>() else {
        return false;
    };
    let progress = asked.progress(&certificate, Timestamp::now());
    if progress == *before {
        return false;
    }
    let title = format!("certificate {}/{}", key.0, key.1);
    match &progress {
        Progress::Waiting => {}
        Progress::UnderWay(words) => {
            if talkative {
                terminal::say(&format!("{title}: {words}"));
            }
        }
        Progress::Done(words) => {
            terminal::show(&format!("{title}: {}\n", terminal::plain(words)));
            open.remove(&key);
            return false;
        }
        Progress::Failed(reason, words) => {
            // The word of a solver in the message says more than the reason does.
            let advice = advice::solver_words(words)
                .first()
                .and_then(|word| advice::advice(Of::Solver, word))
                .or_else(|| advice::advice(Of::Certificate, reason))
                .map(|advice| format!(" What to do: {advice}"))
                .unwrap_or_default();
            terminal::show(&format!(
                "{title}: failed, {reason}: {}{advice}\n",
                terminal::plain(words)
            ));
            open.remove(&key);
            return true;
        }
    }
    *before = progress;
    false
}
