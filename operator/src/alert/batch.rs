//! Alerts for an Alertmanager, many in one request: pure.
//!
//! An Alertmanager keeps the last state that it got of each alert. So a newer word about an alert replaces an older one
//! that still waits, and words that wait can be put together in one request.

use std::collections::HashMap;

use gatehouse_crds::alert::Rule;

use super::message::Alert;

/// Alerts in one request.
pub const BATCH: usize = 200;

/// An alert as an Alertmanager knows it: by its labels, whatever UID the object had.
pub type Identity = (Rule, String, String);

/// Returns what an Alertmanager knows `alert` by.
pub fn identity(alert: &Alert) -> Identity {
    let subject = &alert.subject;
    (alert.rule, subject.namespace.clone(), subject.name.clone())
}

/// Puts `newer` in the place of `older`. The severity is a label: a higher one that was to be sent has to end.
fn replace(older: &Alert, newer: &mut Alert) {
    newer.clears |= older.severity > newer.severity || (older.clears && older.severity >= newer.severity);
}

/// Keeps the last word about each alert.
pub fn latest(alerts: &mut Vec<Alert>) {
    let mut kept: Vec<Alert> = Vec::with_capacity(alerts.len());
    let mut places: HashMap<Identity, usize> = HashMap::new();
    for mut alert in std::mem::take(alerts) {
        let place = *places.entry(identity(&alert)).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(older) => {
                replace(older, &mut alert);
                *older = alert;
            }
            None => kept.push(alert),
        }
    }
    *alerts = kept;
}

/// Removes from `older` each alert about which `newer` has a word.
pub fn supersede(older: &mut Vec<Alert>, newer: &mut [Alert]) {
    let places: HashMap<Identity, usize> = newer
        .iter()
        .enumerate()
        .map(|(place, alert)| (identity(alert), place))
        .collect();
    older.retain(|alert| match places.get(&identity(alert)) {
        Some(place) => {
            if let Some(newer) = newer.get_mut(*place) {
                replace(alert, newer);
            }
            false
        }
        None => true,
    });
}
