//! Removes the records that no order needs any more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        registry::{Registry, Signer, State as IssuerState},
        solver::{Challenge, ChallengeKind, Identifier},
    },
    Record, Records, order_id,
};

/// First pause between two rounds; it doubles up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Longest removal of one record.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time that one issuer's records have in a round.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);
/// Issuers whose records are removed at once.
const MAX_CONCURRENT_ISSUERS: usize = 32;
/// Records of one issuer that are removed at once.
const MAX_CONCURRENT_RECORDS: usize = 4;
/// A record whose issuer did not become ready for so long is given up.
const RETENTION: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Removes, until the process ends, what earlier processes and failed removals left. `orders` gives the URLs of the orders that
/// Certificates have in their statuses, whose records are theirs; none while not all Certificates are known.
pub async fn sweep<O>(registry: Arc<Registry>, orders: O, now: fn() -> Timestamp)
where
    O: Fn() -> Option<HashSet<String>> + Send + Sync,
{
    let records = registry.records();
    loop {
        records.left.notified().await;
        let mut pause = MIN_BACKOFF;
        loop {
            let due = match orders() {
                Some(orders) => records.due(&orders),
                None => Vec::new(),
            };
            let remove = |record: Record| {
                let registry = &registry;
                async move { remove(registry, &record).await }
            };
            round(records, due, &remove, now).await;
            if records.lock().left.is_empty() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = pause.saturating_mul(2).min(MAX_BACKOFF),
                () = records.left.notified() => pause = MIN_BACKOFF,
            }
        }
    }
}

/// Removes what is due, of each issuer apart: one whose provider is slow does not hold up the others' for longer than
/// [`ROUND_TIMEOUT`].
async fn round<R, F>(records: &Records, due: Vec<Record>, remove: &R, now: fn() -> Timestamp)
where
    R: Fn(Record) -> F + Sync,
    F: Future<Output = Result<(), String>> + Send,
{
    let mut by_issuer: HashMap<_, Vec<Record>> = HashMap::new();
    for record in due {
        by_issuer.entry(record.issuer()).or_default().push(record);
    }
    stream::iter(by_issuer.into_values())
        .for_each_concurrent(MAX_CONCURRENT_ISSUERS, |due| async move {
            let all = stream::iter(due).for_each_concurrent(MAX_CONCURRENT_RECORDS, |record| async move {
                let outcome = tokio::time::timeout(REMOVAL_TIMEOUT, remove(record.clone())).await;
                let outcome = outcome.unwrap_or_else(|_| Err("it took too long".into()));
                if is_settled(&record, outcome, now()) {
                    records.forget(&record.order, &record.name, &record.value);
                }
            });
            // What is not removed by then is due in the next round.
            let _ended = tokio::time::timeout(ROUND_TIMEOUT, all).await;
        })
        .await;
}

/// Returns whether a record is removed, or given up.
fn is_settled(record: &Record, outcome: Result<(), String>, now: Timestamp) -> bool {
    match outcome {
        Ok(()) => {
            tracing::info!(name = record.name, "removing a leftover DNS record of a challenge");
            true
        }
        Err(error) if now.duration_since(record.since) > RETENTION => {
            tracing::warn!(
                name = record.name,
                error,
                "DNS record of a challenge not removed within a week"
            );
            true
        }
        Err(error) => {
            tracing::debug!(
                name = record.name,
                error,
                "a DNS record of a challenge cannot be removed yet"
            );
            false
        }
    }
}

impl Records {
    /// Returns what no order needs. A value that an order of this process needs, too, is forgotten: it goes with that.
    pub(super) fn due(&self, orders: &HashSet<String>) -> Vec<Record> {
        let orders: HashSet<String> = orders.iter().map(|order| order_id(order)).collect();
        let state = self.lock();
        let left: Vec<Record> = state.left.values().cloned().collect();
        let (needed, due): (Vec<Record>, Vec<Record>) = left
            .into_iter()
            .filter(|record| !orders.contains(&record.order))
            .partition(|record| state.needs(record));
        drop(state);
        for record in needed {
            self.forget(&record.order, &record.name, &record.value);
        }
        due
    }
}

async fn remove(registry: &Registry, record: &Record) -> Result<(), String> {
    let Some(IssuerState::Ready(Signer::Acme(signer))) = registry.get(&record.issuer()) else {
        return Err(format!("{} is not ready", record.issuer()));
    };
    let is_dns = signer
        .spec
        .solvers
        .get(record.solver)
        .is_some_and(|solver| solver.dns01.is_some());
    if !is_dns {
        return Err(format!("{} has another solver in its place", record.issuer()));
    }
    let challenge = Challenge {
        kind: ChallengeKind::Dns01,
        identifier: Identifier::Dns(record.name.clone()),
        wildcard: false,
        token: String::new(),
        key_authorization: String::new(),
        dns_value: record.value.clone(),
    };
    let removed = match signer.solver(record.solver).await {
        Ok(solver) => solver.clean_up(&challenge).await,
        Err(error) => Err(error),
    };
    if removed.is_err() {
        signer.distrust(record.solver).await;
    }
    removed.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(records: &Records) -> Vec<(String, String)> {
        let all = records.lock().all();
        all.into_iter().map(|record| (record.issuer, record.value)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_is_slow_does_not_hold_up_the_records_of_others() {
        let records = Records::default();
        let record = |issuer: &str, number: usize| Record {
            order: format!("https://ca.example/order/{number}"),
            issuer_kind: gatehouse_crds::certificate::IssuerKind::Issuer,
            issuer_namespace: issuer.into(),
            issuer: issuer.into(),
            solver: 0,
            name: "www.example.com".into(),
            value: number.to_string(),
            since: Timestamp::UNIX_EPOCH,
        };
        let many: Vec<Record> = (0..400).map(|number| record("slow", number)).collect();
        records.inherit(
            many.into_iter()
                .chain([record("quick", 400), record("failing", 401)])
                .collect(),
        );
        let remove = |record: Record| async move {
            match record.issuer.as_str() {
                "slow" => std::future::pending().await,
                "failing" => Err("refused".to_owned()),
                _ => Ok(()),
            }
        };
        let began = tokio::time::Instant::now();
        let due = records.due(&HashSet::new());
        round(&records, due, &remove, || Timestamp::UNIX_EPOCH).await;
        assert_eq!(began.elapsed(), ROUND_TIMEOUT);
        let left = left(&records);
        assert_eq!(left.len(), 401, "what was not removed is tried again");
        assert!(!left.iter().any(|(issuer, _)| issuer == "quick"), "{left:?}");
        // After a week the failing one is given up.
        let due = records.due(&HashSet::new());
        let due = due.into_iter().filter(|record| record.issuer == "failing").collect();
        let later = || Timestamp::UNIX_EPOCH + RETENTION + SignedDuration::from_secs(1);
        round(&records, due, &remove, later).await;
        assert_eq!(records.lock().all().len(), 400);
    }
}
