//! Which solver answers for a name: a function of values.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

use gatehouse_crds::solver::{Dns01, Selector, Solver};

use super::Identifier;

/// For what a solver is sought.
#[derive(Clone, Copy, Debug)]
pub struct Challenged<'a> {
    pub identifier: &'a Identifier,
    pub wildcard: bool,
    /// Labels of the Certificate.
    pub labels: &'a BTreeMap<String, String>,
}

impl Challenged<'_> {
    /// As the name is written in a Certificate.
    fn name(&self) -> String {
        if self.wildcard {
            format!("*.{}", self.identifier)
        } else {
            self.identifier.to_string()
        }
    }
}

/// No solver of the Issuer fits. The message lists what there is and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoSolver(String);

impl NoSolver {
    /// Stable name for conditions, events and metrics.
    pub const fn reason(&self) -> &'static str {
        "NoSolver"
    }
}

/// Rank of a selector: by name, by length of the zone in labels, by number of labels. Compared in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    by_name: bool,
    zone_labels: usize,
    labels: usize,
}

/// The index of the solver that answers: of those that can and whose selector fits, the most specific, and of
/// equals the first listed. A wildcard can only be proved by DNS-01 (RFC 8555, section 7.1.3), an IP address
/// not by DNS-01 (RFC 8738, section 7).
pub fn select(solvers: &[Solver], challenged: Challenged<'_>) -> Result<usize, NoSolver> {
    let name = challenged.name();
    solvers
        .iter()
        .enumerate()
        .filter(|(_, solver)| can(solver, challenged))
        .filter_map(|(index, solver)| Some((fit(solver.selector.as_ref(), &name, challenged)?, Reverse(index))))
        .max()
        .map(|(_, Reverse(index))| index)
        .ok_or_else(|| NoSolver(explain(solvers, challenged, &name)))
}

fn can(solver: &Solver, challenged: Challenged<'_>) -> bool {
    match challenged.identifier {
        Identifier::Ip(_) => solver.http01.is_some(),
        Identifier::Dns(_) if challenged.wildcard => solver.dns01.is_some(),
        Identifier::Dns(_) => solver.http01.is_some() || solver.dns01.is_some(),
    }
}

fn fit(selector: Option<&Selector>, name: &str, challenged: Challenged<'_>) -> Option<Fit> {
    let Some(selector) = selector else {
        return Some(Fit::default());
    };
    if !selector
        .match_labels
        .iter()
        .all(|(key, value)| challenged.labels.get(key) == Some(value))
    {
        return None;
    }
    let by_name = selector.dns_names.iter().any(|listed| normal(listed) == name);
    if !by_name && !selector.dns_names.is_empty() {
        return None;
    }
    let zone_labels = longest_zone(&selector.dns_zones, challenged.identifier);
    if zone_labels.is_none() && !selector.dns_zones.is_empty() {
        return None;
    }
    Some(Fit {
        by_name,
        zone_labels: zone_labels.unwrap_or(0),
        labels: selector.match_labels.len(),
    })
}

/// Number of labels of the longest zone that holds the name. An IP address is in no zone.
fn longest_zone(zones: &[String], identifier: &Identifier) -> Option<usize> {
    let Identifier::Dns(name) = identifier else {
        return None;
    };
    zones
        .iter()
        .map(|zone| normal(zone))
        .filter(|zone| in_zone(name, zone))
        .map(|zone| zone.split('.').count())
        .max()
}

/// True when `name` is the zone or below it. Both in lower-case A-labels.
pub(super) fn in_zone(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// As names come in challenges: A-labels in lower case, no dot at the end.
pub(super) fn normal(name: &str) -> String {
    let name = name.trim_end_matches('.');
    let (star, rest) = name.strip_prefix("*.").map_or(("", name), |rest| ("*.", rest));
    let ascii = idna::domain_to_ascii(rest).unwrap_or_else(|_| rest.to_ascii_lowercase());
    format!("{star}{ascii}")
}

fn explain(solvers: &[Solver], challenged: Challenged<'_>, name: &str) -> String {
    let need = match challenged.identifier {
        Identifier::Ip(_) => ", and an IP address needs http01",
        Identifier::Dns(_) if challenged.wildcard => ", and a wildcard needs dns01",
        Identifier::Dns(_) => "",
    };
    let there: Vec<String> = solvers.iter().map(|solver| Described(solver).to_string()).collect();
    let there = if there.is_empty() {
        "no solver at all".to_owned()
    } else {
        there.join("; ")
    };
    let write = match challenged.identifier {
        Identifier::Ip(_) => "http01: {ingress: {ingressClassName: <class>}} without a selector".to_owned(),
        Identifier::Dns(zone) if challenged.wildcard => {
            format!("selector: {{dnsZones: [{zone}]}} with dns01, or dns01 without a selector")
        }
        Identifier::Dns(zone) => {
            format!("selector: {{dnsZones: [{zone}]}} with http01 or dns01, or a solver without a selector")
        }
    };
    format!("no solver of the Issuer fits {name}{need}. It has: {there}. Add an entry to spec.acme.solvers: {write}")
}

struct Described<'a>(&'a Solver);

impl fmt::Display for Described<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.http01, &self.0.dns01) {
            (Some(http01), _) => write!(formatter, "http01 by class {}", http01.ingress.ingress_class_name)?,
            (None, Some(dns01)) => write!(formatter, "dns01 by {}", provider_name(dns01))?,
            (None, None) => formatter.write_str("an entry with neither http01 nor dns01")?,
        }
        let Some(selector) = &self.0.selector else {
            return formatter.write_str(" for every name");
        };
        let mut conditions = Vec::new();
        if !selector.dns_names.is_empty() {
            conditions.push(format!("dnsNames {}", selector.dns_names.join(", ")));
        }
        if !selector.dns_zones.is_empty() {
            conditions.push(format!("dnsZones {}", selector.dns_zones.join(", ")));
        }
        if !selector.match_labels.is_empty() {
            let labels: Vec<_> = selector
                .match_labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            conditions.push(format!("matchLabels {}", labels.join(", ")));
        }
        if conditions.is_empty() {
            formatter.write_str(" for every name")
        } else {
            write!(formatter, " for {}", conditions.join(" and "))
        }
    }
}

/// The name of the block in the manifest.
pub(super) fn provider_name(dns01: &Dns01) -> &'static str {
    let named = [
        (dns01.rfc2136.is_some(), "rfc2136"),
        (dns01.cloudflare.is_some(), "cloudflare"),
        (dns01.route53.is_some(), "route53"),
        (dns01.cloud_dns.is_some(), "cloudDNS"),
        (dns01.azure_dns.is_some(), "azureDNS"),
        (dns01.digitalocean.is_some(), "digitalocean"),
        (dns01.acme_dns.is_some(), "acmeDNS"),
    ];
    let block = named.iter().find(|(there, _)| *there).map(|(_, name)| *name);
    block.unwrap_or_else(|| {
        dns01
            .provider
            .as_ref()
            .map_or("no provider", |provider| provider.kind.as_str())
    })
}

#[cfg(test)]
mod tests;
