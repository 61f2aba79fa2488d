//! The table of all Gateways and the counts below it.

use gatehouse_crds::gateway::{Gateway, GatewayAddress, GatewayStatus, Scope, ServiceSpec, ServiceType};
use jiff::Timestamp;

use super::{
    Item,
    health::{self, Health, State},
};
use crate::{
    cli::{
        grid::{Cell, grid},
        status::table::{Columns, thousands},
        terminal::{Paint, Screen},
    },
    gateway::{
        provider,
        status::{EXPOSURE_MISMATCH, EXPOSURE_VERIFIED},
    },
    kubernetes::conditions,
};

/// Addresses that are shown; of more, how many.
const ADDRESSES: usize = 2;

/// A Gateway with its verdict.
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
            health: match &item.gateway {
                Ok(gateway) => health::of(gateway, now),
                Err(error) => Health::unreadable(error),
            },
        })
        .collect();
    judged.sort_by(|one, other| order(one).cmp(&order(other)));
    judged
}

fn order<'a>(judged: &Judged<'a>) -> (State, bool, &'a str, &'a str) {
    let public = judged.health.reason.as_deref() == Some(EXPOSURE_MISMATCH);
    (judged.health.state, !public, &judged.item.namespace, &judged.item.name)
}

/// The table.
pub(in crate::cli) fn table(judged: &[Judged<'_>], columns: Columns, screen: Screen) -> String {
    grid(&header(columns), &rows(judged, columns), screen)
}

/// The rows alone: for lines that are added to a table.
pub(in crate::cli) fn rows(judged: &[Judged<'_>], columns: Columns) -> Vec<Vec<Cell>> {
    judged.iter().map(|judged| row(judged, columns)).collect()
}

/// The names of the columns.
pub(in crate::cli) fn header(columns: Columns) -> Vec<&'static str> {
    let mut header = Vec::new();
    if columns.namespace {
        header.push("NAMESPACE");
    }
    header.extend(["NAME", "STATE", "SCOPE", "ADDRESS", "VERDICT", "ENDPOINTS"]);
    if columns.wide {
        header.extend(["TYPE", "PROVIDER", "SERVICE"]);
    }
    header.push("WHY");
    header
}

fn row(judged: &Judged<'_>, columns: Columns) -> Vec<Cell> {
    let Judged { item, health } = judged;
    let paint = match health.state {
        State::Failing => Paint::Bad,
        State::Pending => Paint::Warn,
        State::Fine => Paint::Good,
    };
    let mut row = Vec::new();
    if columns.namespace {
        row.push(Cell::new(&item.namespace));
    }
    row.push(Cell::new(&item.name));
    row.push(Cell::painted(health.state.word(), paint));
    let gateway = item.gateway.as_ref().ok();
    row.extend(gateway.map_or_else(
        || vec![Cell::new("-"); if columns.wide { 7 } else { 4 }],
        |gateway| facts(gateway, columns),
    ));
    row.push(Cell::painted(why(health), paint));
    row
}

fn facts(gateway: &Gateway, columns: Columns) -> Vec<Cell> {
    let status = gateway.status.clone().unwrap_or_default();
    let spec = gateway.spec.service.clone().unwrap_or_default();
    let mut cells = vec![
        Cell::new(scope(&spec)),
        Cell::new(addresses(&status.addresses)),
        verdict(&status),
        endpoints(&status),
    ];
    if columns.wide {
        cells.push(Cell::new(type_(&spec)));
        cells.push(Cell::new(status.provider.map_or("-", provider::key)));
        cells.push(Cell::new(status.service_name.unwrap_or_else(|| "-".to_owned())));
    }
    cells
}

/// Network from which it can be reached.
pub(in crate::cli) fn scope(spec: &ServiceSpec) -> &'static str {
    match spec.scope.unwrap_or_default() {
        Scope::External => "External",
        Scope::Internal => "Internal",
    }
}

/// The type of its Service.
pub(in crate::cli) fn type_(spec: &ServiceSpec) -> &'static str {
    match spec.type_.unwrap_or_default() {
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::NodePort => "NodePort",
        ServiceType::ClusterIp => "ClusterIP",
    }
}

fn addresses(addresses: &[GatewayAddress]) -> String {
    let shown: Vec<String> = addresses.iter().take(ADDRESSES).map(address).collect();
    match addresses.len().saturating_sub(ADDRESSES) {
        0 if shown.is_empty() => "none yet".to_owned(),
        0 => shown.join(","),
        more => format!("{} +{more}", shown.join(",")),
    }
}

/// `203.0.113.7`, of a node `10.0.0.1:30080`.
pub(in crate::cli) fn address(address: &GatewayAddress) -> String {
    let ports: Vec<String> = address.ports.iter().map(ToString::to_string).collect();
    match (ports.is_empty(), address.value.contains(':')) {
        (true, _) => address.value.clone(),
        (false, true) => format!("[{}]:{}", address.value, ports.join("/")),
        (false, false) => format!("{}:{}", address.value, ports.join("/")),
    }
}

/// Returns the result of the check of the addresses.
fn verdict(status: &GatewayStatus) -> Cell {
    let Some(verified) = conditions::find(&status.conditions, EXPOSURE_VERIFIED) else {
        return Cell::new("unverified");
    };
    match (verified.status.as_str(), verified.reason.as_str()) {
        ("True", "External") => Cell::new("external"),
        ("True", _) => Cell::painted("verified", Paint::Good),
        ("False", _) => Cell::painted("MISMATCH", Paint::Bad),
        _ => Cell::painted("unverified", Paint::Warn),
    }
}

/// `http 3, https 0`: how many Pods take the traffic of each listener.
fn endpoints(status: &GatewayStatus) -> Cell {
    let counts: Vec<String> = status
        .listeners
        .iter()
        .map(|listener| format!("{} {}", listener.name, listener.ready_endpoints))
        .collect();
    if counts.is_empty() {
        return Cell::new("-");
    }
    let idle = status.listeners.iter().any(|listener| listener.ready_endpoints == 0);
    Cell::painted(counts.join(", "), if idle { Paint::Bad } else { Paint::Plain })
}

/// The reason and its detail: `NoMatchingPods (http)`.
fn why(health: &Health) -> String {
    match (&health.reason, health.detail.as_str()) {
        (None, _) => String::new(),
        (Some(reason), "") => reason.clone(),
        (Some(reason), detail) => format!("{reason} ({detail})"),
    }
}

/// `12 gateways: 11 fine, 1 failing`.
pub(in crate::cli) fn summary(judged: &[Judged<'_>]) -> String {
    let counts: Vec<_> = [State::Fine, State::Failing, State::Pending]
        .into_iter()
        .map(|state| (judged.iter().filter(|one| one.health.state == state).count(), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{} {}", thousands(count), state.word()))
        .collect();
    let noun = if judged.len() == 1 { "gateway" } else { "gateways" };
    format!("{} {noun}: {}", thousands(judged.len()), counts.join(", "))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
