//! The table of all Certificates and the line below it.

use std::cmp::Ordering;

use gatehouse_crds::certificate::{Certificate, CertificateStatus};
use jiff::Timestamp;

use super::health::{self, Health, State};
use crate::{
    certificate::status::READY,
    cli::{
        grid::{Cell, grid},
        moment::relative,
        terminal::{Paint, Screen},
    },
    kubernetes::conditions,
};

/// One Certificate as the cluster has it, or why it cannot be read.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Item {
    pub namespace: String,
    pub name: String,
    pub certificate: Result<Box<Certificate>, String>,
}

/// Which columns there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Columns {
    pub namespace: bool,
    pub wide: bool,
}

/// A Certificate with its verdict.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Judged<'a> {
    pub item: &'a Item,
    pub health: Health,
}

/// The verdict on each, the worst first.
pub(in crate::cli) fn judge<'a>(items: impl IntoIterator<Item = &'a Item>, now: Timestamp) -> Vec<Judged<'a>> {
    let mut judged: Vec<_> = items
        .into_iter()
        .map(|item| Judged {
            item,
            health: match &item.certificate {
                Ok(certificate) => health::of(certificate, now),
                Err(error) => Health::unreadable(error),
            },
        })
        .collect();
    judged.sort_by(|one, other| order(one).cmp(&order(other)));
    judged
}

fn order<'a>(judged: &Judged<'a>) -> (State, &'a str, &'a str) {
    // Healthy ones are in the order of their names, whatever is in progress.
    let state = judged.health.state.min(State::Suspended);
    (state, &judged.item.namespace, &judged.item.name)
}

/// The table.
pub(in crate::cli) fn table(judged: &[Judged<'_>], columns: Columns, now: Timestamp, screen: Screen) -> String {
    grid(&header(columns), &rows(judged, columns, now), screen)
}

/// The rows alone: for lines that are added to a table.
pub(in crate::cli) fn rows(judged: &[Judged<'_>], columns: Columns, now: Timestamp) -> Vec<Vec<Cell>> {
    judged.iter().map(|judged| row(judged, columns, now)).collect()
}

/// The names of the columns.
pub(in crate::cli) fn header(columns: Columns) -> Vec<&'static str> {
    let mut header = Vec::new();
    if columns.namespace {
        header.push("NAMESPACE");
    }
    header.extend(["NAME", "READY", "SECRET", "ISSUER", "EXPIRES", "RENEWS"]);
    if columns.wide {
        header.extend(["SERIAL", "FAILURES", "NEXT-ATTEMPT", "FINGERPRINT"]);
    }
    header.push("REASON");
    header
}

fn row(judged: &Judged<'_>, columns: Columns, now: Timestamp) -> Vec<Cell> {
    let Judged { item, health } = judged;
    let paint = match health.state {
        State::Failing => Paint::Bad,
        State::Held | State::Issuing | State::Suspended | State::Renewing => Paint::Warn,
        State::Fine => Paint::Good,
    };
    let mut row = Vec::new();
    if columns.namespace {
        row.push(Cell::new(&item.namespace));
    }
    row.push(Cell::new(&item.name));
    let status = if let Ok(certificate) = &item.certificate {
        let status = certificate.status.clone().unwrap_or_default();
        let ready = conditions::find(&status.conditions, READY);
        row.push(Cell::painted(ready.map_or("-", |ready| ready.status.as_str()), paint));
        row.push(Cell::new(&certificate.spec.secret_name));
        row.push(Cell::new(issuer(certificate)));
        row.push(expires(&status, now));
        row.push(renews(&status, health.state, now));
        status
    } else {
        row.push(Cell::painted("-", paint));
        row.extend(std::iter::repeat_n(Cell::new("-"), 4));
        CertificateStatus::default()
    };
    if columns.wide {
        let text = |value: Option<String>| Cell::new(value.unwrap_or_else(|| "-".to_owned()));
        row.push(text(status.serial_number));
        row.push(text(status.failed_attempts.map(|count| count.to_string())));
        row.push(text(status.next_attempt_time.map(|time| relative(time, now))));
        row.push(text(status.fingerprint_sha256));
    }
    row.push(Cell::painted(why(health), paint));
    row
}

/// Returns the reason and its detail, `ChallengeFailed (3 failures)`; of healthy ones, only what is in progress.
fn why(health: &Health) -> String {
    let Some(reason) = &health.reason else {
        return String::new();
    };
    let mut parts = Vec::new();
    if matches!(health.state, State::Renewing | State::Issuing | State::Held) {
        parts.push(health.state.word());
    }
    parts.extend(
        [reason.as_str(), &health.detail]
            .into_iter()
            .filter(|part| !part.is_empty()),
    );
    match parts.as_slice() {
        [first, rest @ ..] if !rest.is_empty() => format!("{first} ({})", rest.join(", ")),
        parts => parts.concat(),
    }
}

/// The issuer that is asked for; the kind is said of a ClusterIssuer only.
fn issuer(certificate: &Certificate) -> String {
    let wanted = &certificate.spec.issuer_ref;
    match wanted.kind() {
        gatehouse_crds::certificate::IssuerKind::Issuer => wanted.name.clone(),
        kind @ gatehouse_crds::certificate::IssuerKind::ClusterIssuer => format!("{kind}/{}", wanted.name),
    }
}

fn expires(status: &CertificateStatus, now: Timestamp) -> Cell {
    match status.not_after {
        None => Cell::new("none yet"),
        Some(end) if end <= now => Cell::painted(format!("expired {}", relative(end, now)), Paint::Bad),
        Some(end) => Cell::new(relative(end, now)),
    }
}

fn renews(status: &CertificateStatus, state: State, now: Timestamp) -> Cell {
    let next = match state {
        State::Suspended => return Cell::new("-"),
        State::Renewing => return Cell::new("now"),
        State::Failing | State::Held | State::Issuing => status.next_attempt_time.or(status.renewal_time),
        State::Fine => status.renewal_time,
    };
    match next.map(|time| (time.cmp(&now), time)) {
        None => Cell::new("-"),
        Some((Ordering::Greater, time)) => Cell::new(relative(time, now)),
        Some((_, time)) if state == State::Failing => Cell::new(format!("due {}", relative(time, now))),
        Some(_) => Cell::new("now"),
    }
}

/// `5,000 certificates: 4,997 fine, 2 failing, 1 issuing`.
pub(in crate::cli) fn summary(judged: &[Judged<'_>]) -> String {
    let states = [
        State::Fine,
        State::Renewing,
        State::Suspended,
        State::Failing,
        State::Held,
        State::Issuing,
    ];
    let counts: Vec<_> = states
        .into_iter()
        .map(|state| (judged.iter().filter(|one| one.health.state == state).count(), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{} {}", thousands(count), state.word()))
        .collect();
    let noun = if judged.len() == 1 {
        "certificate"
    } else {
        "certificates"
    };
    format!("{} {noun}: {}", thousands(judged.len()), counts.join(", "))
}

/// `5,000`
pub(in crate::cli) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
