//! Counts the Pods that take a listener's traffic, and explains why none does.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{core::v1::Pod, discovery::v1::EndpointSlice},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::ports::{Port, Transport, target};

/// Projection of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// `IPv4`, `IPv6` or `FQDN`.
    pub family: String,
    /// Names of the ports that its endpoints have, in order.
    pub ports: Vec<String>,
    pub ready: u32,
    pub not_ready: u32,
}

impl Slice {
    /// Endpoints that end are neither ready nor awaited.
    pub fn of(slice: &EndpointSlice) -> Self {
        let ports = slice.ports.iter().flatten();
        let mut found = Self {
            family: slice.address_type.clone(),
            ports: ports
                .filter(|port| port.port.is_some())
                .map(|port| port.name.clone().unwrap_or_default())
                .collect(),
            ..Self::default()
        };
        found.ports.sort_unstable();
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.as_ref();
            let ends = conditions
                .and_then(|conditions| conditions.terminating)
                .unwrap_or_default();
            // Unknown counts as ready (EndpointConditions).
            if conditions.and_then(|conditions| conditions.ready).unwrap_or(true) {
                found.ready = found.ready.saturating_add(1);
            } else if !ends {
                found.not_ready = found.not_ready.saturating_add(1);
            }
        }
        found
    }
}

/// Returns the number of ready endpoints for the port of this name. A Pod with two families counts once.
pub fn ready<'a>(slices: impl IntoIterator<Item = &'a Slice>, port: &str) -> u32 {
    let mut by_family: BTreeMap<&str, u32> = BTreeMap::new();
    for slice in slices
        .into_iter()
        .filter(|slice| slice.ports.iter().any(|name| name == port))
    {
        let count = by_family.entry(&slice.family).or_default();
        *count = count.saturating_add(slice.ready);
    }
    by_family.into_values().max().unwrap_or_default()
}

/// Why no Pod takes the traffic of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub reason: &'static str,
    pub message: String,
}

/// Projection of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    name: Box<str>,
    labels: BTreeMap<String, String>,
    /// It has ended, or is about to.
    over: bool,
    /// Ports of its containers.
    ports: Box<[PodPort]>,
    /// Why it is not ready, as the end of a sentence that begins with its name; `None` when it is.
    trouble: Option<String>,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PodPort {
    name: Option<String>,
    number: i32,
    transport: String,
}

impl PodFacts {
    pub fn of(pod: &Pod) -> Self {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        Self {
            name: pod.metadata.name.clone().unwrap_or_default().into(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            over: pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")),
            ports: ports
                .map(|port| PodPort {
                    name: port.name.clone(),
                    number: port.container_port,
                    transport: port.protocol.clone().unwrap_or_else(|| Transport::Tcp.as_str().into()),
                })
                .collect(),
            trouble: trouble(pod),
        }
    }
}

/// From the Pods of the namespace.
pub fn lack(pods: &[PodFacts], selector: &BTreeMap<String, String>, port: &Port) -> Lack {
    let lack = |reason, message| Lack { reason, message };
    let alive: Vec<&PodFacts> = pods.iter().filter(|pod| !pod.over).collect();
    let matching: Vec<&PodFacts> = alive
        .iter()
        .copied()
        .filter(|pod| missing(pod, selector).is_empty())
        .collect();
    if matching.is_empty() {
        return lack("NoMatchingPods", nearest(&alive, selector));
    }
    let desired = matching.len();
    if let Some(message) = portless(&matching, port) {
        return lack("TargetPortMissing", message);
    }
    let mut unready = matching
        .iter()
        .filter_map(|pod| Some(format!("{} {}", pod.name, pod.trouble.as_deref()?)));
    match unready.next() {
        Some(first) => lack(
            "PodsNotReady",
            format!(
                "{desired} {} the selector and none is ready: {first}",
                if desired == 1 { "Pod matches" } else { "Pods match" }
            ),
        ),
        None => lack(
            "EndpointsPending",
            "Pods are ready, and the endpoints are about to follow".into(),
        ),
    }
}

/// The labels of `selector` that the Pod does not have, with what it has.
fn missing<'a>(pod: &'a PodFacts, selector: &'a BTreeMap<String, String>) -> Vec<(&'a str, &'a str, Option<&'a str>)> {
    let has = |key: &str| pod.labels.get(key);
    selector
        .iter()
        .filter(|(key, value)| has(key) != Some(value))
        .map(|(key, value)| (key.as_str(), value.as_str(), has(key).map(String::as_str)))
        .collect()
}

/// Which Pod all but matches, and what differs.
fn nearest(pods: &[&PodFacts], selector: &BTreeMap<String, String>) -> String {
    let desired: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let none = format!("No Pod of this namespace matches {}", desired.join(","));
    // Fewest labels differ, of those the most in value only, of those the most alike, of those the first by name.
    let nearest = pods.iter().min_by_key(|pod| {
        let missing = missing(pod, selector);
        let absent = missing.iter().filter(|(_, _, has)| has.is_none()).count();
        let unlike: usize = missing
            .iter()
            .map(|(_, desired, has)| has.map_or(64, |has| distance(desired, has)))
            .sum();
        (missing.len(), absent, unlike, pod.name.clone())
    });
    let Some(pod) = nearest else {
        return format!("{none}: there are no Pods here");
    };
    let missing = missing(pod, selector);
    let differ = |(key, desired, has): &(&str, &str, Option<&str>)| match has {
        Some(has) => format!("{key} is {has} there, not {desired}"),
        None => format!("it has no label {key}"),
    };
    if missing.iter().all(|(_, _, has)| has.is_none()) && missing.len() == selector.len() {
        return format!("{none}, and none has such a label");
    }
    let differ: Vec<String> = missing.iter().map(differ).collect();
    format!("{none}. Nearest is {}: {}", pod.name, differ.join(", "))
}

/// Returns the edit distance: characters to add, drop or change.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, a) in one.chars().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&other) {
            let cost = (diagonal + usize::from(a != *b)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = cost;
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// That no container has the port. A number need not be declared to work: it counts only when others are and no Pod is ready.
fn portless(pods: &[&PodFacts], port: &Port) -> Option<String> {
    let transport = port.transport.as_str();
    let declared: Vec<&PodPort> = pods.iter().flat_map(|pod| &pod.ports).collect();
    let mut fitting = declared.iter().filter(|found| found.transport == transport);
    let has = match &port.target {
        IntOrString::String(name) => fitting.any(|found| found.name.as_ref() == Some(name)),
        IntOrString::Int(number) => {
            declared.is_empty()
                || fitting.any(|found| found.number == *number)
                || pods.iter().any(|pod| pod.trouble.is_none())
        }
    };
    if has {
        return None;
    }
    let mut there: Vec<String> = declared
        .iter()
        .map(|found| {
            let name = found.name.as_deref().map(|name| format!("{name} ")).unwrap_or_default();
            format!("{name}({}/{})", found.number, found.transport)
        })
        .collect();
    there.sort_unstable();
    there.dedup();
    let there = if there.is_empty() {
        "they declare none".to_owned()
    } else {
        format!("they have {}", there.join(", "))
    };
    Some(format!(
        "No container of the Pods has the port {} ({transport}): {there}",
        target(&port.target)
    ))
}

/// Returns why a Pod is not ready, as the end of a sentence that begins with its name; `None` when it is.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let condition = |type_: &str| {
        conditions
            .iter()
            .copied()
            .flatten()
            .find(|condition| condition.type_ == type_)
    };
    if condition("Ready").is_some_and(|ready| ready.status == "True") {
        return None;
    }
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let waiting = containers.into_iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some(format!(
            "waits: container {}: {}",
            container.name,
            waiting.reason.as_deref().unwrap_or("no reason given")
        ))
    });
    let unscheduled = condition("PodScheduled").filter(|scheduled| scheduled.status == "False");
    let unscheduled = unscheduled.map(|scheduled| {
        format!(
            "is not scheduled: {}",
            scheduled.message.as_deref().unwrap_or("no reason given")
        )
    });
    let unready = containers.into_iter().flatten().find(|container| !container.ready);
    let unready = unready.map(|container| {
        format!(
            "is not ready: container {} does not pass its readiness probe, or starts",
            container.name
        )
    });
    Some(
        waiting
            .or(unscheduled)
            .or(unready)
            .unwrap_or_else(|| "is not ready".into()),
    )
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
