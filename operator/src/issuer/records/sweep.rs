//! Removes the records that no order needs any more.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        registry::{Registry, Signer, State as IssuerState},
        solver::{Challenge, ChallengeKind, Identifier},
    },
    Record, Records,
};

/// First pause between two rounds; it doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);
/// Longest removal of one record.
const REMOVAL: Duration = Duration::from_secs(60);
/// A record whose issuer did not become ready for so long is given up.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Removes, until the process ends, what earlier processes and failed removals left. `orders` gives the URLs of the orders that
/// Certificates have in their statuses, whose records are theirs; none while not all Certificates are known.
pub async fn sweep<O>(registry: Arc<Registry>, orders: O, now: fn() -> Timestamp)
where
    O: Fn() -> Option<HashSet<String>> + Send + Sync,
{
    let records = registry.records();
    loop {
        records.left.notified().await;
        let mut pause = SHORTEST;
        loop {
            let due = match orders() {
                Some(orders) => records.due(&orders),
                None => Vec::new(),
            };
            for record in due {
                let outcome = tokio::time::timeout(REMOVAL, remove(&registry, &record)).await;
                let is_old = now().duration_since(record.since) > KEPT;
                match outcome.unwrap_or_else(|_| Err("it took too long".into())) {
                    Ok(()) => {
                        tracing::info!(
                            name = record.name,
                            "a DNS record of a challenge was left behind and is removed"
                        );
                    }
                    Err(error) if is_old => {
                        tracing::warn!(
                            name = record.name,
                            error,
                            "a DNS record of a challenge stays: it could not be removed for a week"
                        );
                    }
                    Err(error) => {
                        tracing::debug!(
                            name = record.name,
                            error,
                            "a DNS record of a challenge cannot be removed yet"
                        );
                        continue;
                    }
                }
                records.forget(&record.order, &record.name, &record.value);
            }
            if records.lock().left.is_empty() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = pause.saturating_mul(2).min(LONGEST),
                () = records.left.notified() => pause = SHORTEST,
            }
        }
    }
}

impl Records {
    /// Returns what no order needs. A value that an order of this process needs, too, is forgotten: it goes with that.
    pub(super) fn due(&self, orders: &HashSet<String>) -> Vec<Record> {
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
