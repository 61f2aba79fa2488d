//! The story of a Gateway itself, made purely.

use std::{collections::BTreeSet, net::IpAddr};

use gatehouse_crds::gateway::{
    Gateway, GatewayAddress, GatewayStatus, Listener, ListenerStatus, OnMismatch, ServiceSpec,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::apis::meta::v1::Condition,
};

use super::{
    gather::Known,
    traffic::{Takers, spoken, takers, undeclared},
};
use crate::{
    cli::{
        describe::{
            gather::{Happening, Seen},
            page::Page,
        },
        moment::{both, relative},
        status::gateways::{
            health::{Health, State},
            table,
        },
        terminal::{Paint, Screen},
    },
    gateway::{
        exposure::{self, Reach},
        ports::{Ports, ports, target},
        provider,
        status::{ACCEPTED, EXPOSURE_VERIFIED, PROGRAMMED, RESOLVED_REFS},
    },
    kubernetes::conditions,
};

/// Pods, addresses and ranges that are named; of more, how many.
const NAMES: usize = 8;
/// Maximum number of shown events.
const EVENTS: usize = 10;

#[path = "outlook.rs"]
mod outlook;

/// Renders it.
pub(super) fn render(known: &Known, health: &Health, now: Timestamp, screen: Screen) -> String {
    let gateway = &known.gateway;
    let teller = Describer {
        known,
        gateway,
        service: gateway.spec.service.clone().unwrap_or_default(),
        status: gateway.status.clone().unwrap_or_default(),
        ports: ports(&gateway.spec.listeners),
        health,
        now,
    };
    let mut page = Page::new(screen);
    teller.title(&mut page);
    teller.wanted(&mut page);
    teller.exists(&mut page);
    teller.traffic(&mut page);
    teller.certificates(&mut page);
    teller.happened(&mut page);
    teller.next(&mut page);
    teller.advice(&mut page);
    page.end()
}

struct Describer<'a> {
    known: &'a Known,
    gateway: &'a Gateway,
    service: ServiceSpec,
    status: GatewayStatus,
    ports: Ports,
    health: &'a Health,
    now: Timestamp,
}

impl Describer<'_> {
    fn full_name(&self) -> (&str, &str) {
        let metadata = &self.gateway.metadata;
        (
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        )
    }

    fn title(&self, page: &mut Page) {
        let (namespace, name) = self.full_name();
        let paint = match self.health.state {
            State::Failing => Paint::Bad,
            State::Pending => Paint::Warn,
            State::Fine => Paint::Good,
        };
        let why = [self.health.reason.as_deref().unwrap_or_default(), &self.health.detail];
        let why: Vec<_> = why.into_iter().filter(|part| !part.is_empty()).collect();
        let colon = if why.is_empty() { "" } else { ": " };
        page.title(
            &format!(
                "Gateway {namespace}/{name} is {}{colon}{}",
                self.health.state.word(),
                why.join(", ")
            ),
            paint,
        );
    }

    fn wanted(&self, page: &mut Page) {
        page.heading("What is wanted");
        let (spec, service) = (&self.gateway.spec, &self.service);
        page.line(
            "Service",
            &format!("{}, {}", table::type_(service), table::scope(service)),
        );
        if table::type_(service) == "LoadBalancer" {
            let provider = match (service.provider, self.status.provider) {
                (Some(named), _) => provider::key(named).to_owned(),
                (None, Some(found)) => format!("{}, which was detected", provider::key(found)),
                (None, None) => "to be detected".to_owned(),
            };
            page.line("Provider", &provider);
        }
        if let Some(subnet) = &service.subnet {
            page.line("Subnet", subnet);
        }
        if !service.addresses.is_empty() {
            page.line("Addresses", &listed(&service.addresses));
        }
        if !service.load_balancer_source_ranges.is_empty() {
            page.line("Clients", &listed(&service.load_balancer_source_ranges));
        }
        if service.on_mismatch == Some(OnMismatch::Withdraw) {
            page.line("If it is public", "the address is taken away at once");
        }
        let selector: Vec<String> = spec
            .target
            .selector
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        page.line("Pods", &selector.join(","));
        for (position, listener) in spec.listeners.iter().enumerate() {
            let to = self
                .ports
                .of(position)
                .map(|port| format!(" to the Pods' port {}", target(&port.target)));
            let host = listener.hostname.as_ref().map(|host| format!(", for {host}"));
            let words = format!(
                "{}: {}{}{}",
                listener.name,
                spoken(listener),
                to.unwrap_or_default(),
                host.unwrap_or_default()
            );
            page.line(if position == 0 { "Listeners" } else { "" }, &words);
        }
        if spec.network_policy.as_ref().is_some_and(|policy| policy.enabled) {
            page.line("NetworkPolicy", "the Pods are reached at these ports only");
        }
    }

    fn exists(&self, page: &mut Page) {
        page.heading("What exists");
        let name = &self.known.service_name;
        match &self.known.service {
            Seen::There(service) => self.service(page, service),
            Seen::Missing => page.painted("Service", &format!("{name} does not exist"), Paint::Bad),
            Seen::Forbidden => page.painted("Service", &format!("{name}: you may not read it"), Paint::Warn),
            Seen::Failed(why) => page.painted("Service", &format!("{name} cannot be read: {why}"), Paint::Warn),
        }
        if self.status.addresses.is_empty() {
            page.line("Address", "none");
        }
        for (number, address) in self.status.addresses.iter().take(NAMES).enumerate() {
            let (words, paint) = self.address(address);
            page.painted(if number == 0 { "Address" } else { "" }, &words, paint);
        }
        for (label, type_) in [
            ("Accepted", ACCEPTED),
            ("Programmed", PROGRAMMED),
            ("Exposure", EXPOSURE_VERIFIED),
        ] {
            let Some(condition) = conditions::find(&self.status.conditions, type_) else {
                page.painted(label, "the operator has not looked at it", Paint::Warn);
                continue;
            };
            let paint = match condition.status.as_str() {
                "True" => Paint::Plain,
                "False" => Paint::Bad,
                _ => Paint::Warn,
            };
            page.painted(label, &summary(condition), paint);
        }
    }

    fn service(&self, page: &mut Page, service: &Service) {
        let metadata = &service.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let spec = service.spec.clone().unwrap_or_default();
        let uid = self.gateway.metadata.uid.as_ref();
        let owned = metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| Some(&owner.uid) == uid);
        if !owned {
            let words = format!("{name}, which is not of this Gateway");
            return page.painted("Service", &words, Paint::Bad);
        }
        let class = spec.load_balancer_class.map(|class| format!(" of class {class}"));
        let made = metadata.creation_timestamp.as_ref();
        let made = made.map(|made| format!(", made {}", relative(made.0, self.now)));
        let words = format!(
            "{name}, {}{}{}",
            spec.type_.as_deref().unwrap_or("ClusterIP"),
            class.unwrap_or_default(),
            made.unwrap_or_default()
        );
        page.line("Service", &words);
        if let Some(since) = &metadata.deletion_timestamp {
            let held = metadata.finalizers.clone().unwrap_or_default();
            let held = if held.is_empty() {
                String::new()
            } else {
                format!(", held by {}", held.join(", "))
            };
            let words = format!("is being deleted since {}{held}", relative(since.0, self.now));
            page.painted("", &words, Paint::Warn);
        }
    }

    fn address(&self, address: &GatewayAddress) -> (String, Paint) {
        let internal = table::scope(&self.service) == "Internal";
        let shown = table::address(address);
        match address.value.parse::<IpAddr>().map(exposure::of) {
            Ok(Reach::Private) => (format!("{shown} (private)"), Paint::Plain),
            Ok(Reach::Public) if internal => (format!("{shown} (public)"), Paint::Bad),
            Ok(Reach::Public) => (format!("{shown} (public)"), Paint::Plain),
            Err(_) if exposure::is_internal_name(&address.value) => {
                (format!("{shown} (a name of internal load balancers)"), Paint::Plain)
            }
            Err(_) => (shown, Paint::Plain),
        }
    }

    fn of_listener(&self, listener: &Listener) -> Option<&ListenerStatus> {
        self.status.listeners.iter().find(|status| status.name == listener.name)
    }

    fn traffic(&self, page: &mut Page) {
        page.heading("Who takes the traffic");
        for (position, listener) in self.gateway.spec.listeners.iter().enumerate() {
            let status = self.of_listener(listener);
            let port = self.ports.of(position);
            let takers = match (&self.known.slices, port) {
                (Seen::There(slices), Some(port)) => Some(takers(slices, &port.name)),
                _ => None,
            };
            let count = status.map_or(0, |status| status.ready_endpoints);
            let (words, paint) = who(takers.as_ref(), count);
            page.painted(&listener.name, &words, paint);
            let why = status.and_then(|status| {
                [ACCEPTED, PROGRAMMED]
                    .into_iter()
                    .filter_map(|type_| conditions::find(&status.conditions, type_))
                    .find(|condition| condition.status != "True")
            });
            if let Some(why) = why {
                page.painted("", &summary(why), Paint::Bad);
            }
            if let (Seen::There(pods), Some(port)) = (&self.known.pods, port)
                && let Some(declared) = undeclared(pods, port)
            {
                let words = format!(
                    "no container declares the port {} (they declare {}): is the number right?",
                    target(&port.target),
                    listed(&declared)
                );
                page.painted("", &words, Paint::Warn);
            }
        }
        match &self.known.pods {
            Seen::There(pods) => page.line("Pods", &count(pods)),
            Seen::Missing => {}
            Seen::Forbidden => page.line("Pods", "you may not list them"),
            Seen::Failed(why) => page.line("Pods", &format!("cannot be listed: {why}")),
        }
    }

    fn certificates(&self, page: &mut Page) {
        let with_tls: Vec<&Listener> = self
            .gateway
            .spec
            .listeners
            .iter()
            .filter(|one| one.tls.is_some())
            .collect();
        if with_tls.is_empty() {
            return;
        }
        page.heading("Certificates");
        for listener in with_tls {
            let status = self.of_listener(listener);
            let Some(certificate) = status.and_then(|status| status.certificate.as_ref()) else {
                page.painted(&listener.name, "the operator has not looked at it", Paint::Warn);
                continue;
            };
            let (end, paint) = match certificate.not_after {
                Some(end) if end <= self.now => (format!(", has expired: {}", both(end, self.now)), Paint::Bad),
                Some(end) => (format!(", good until {}", both(end, self.now)), Paint::Plain),
                None => (String::new(), Paint::Plain),
            };
            page.painted(
                &listener.name,
                &format!("Secret {}{end}", certificate.secret_name),
                paint,
            );
            let refs = status.and_then(|status| conditions::find(&status.conditions, RESOLVED_REFS));
            if let Some(bad) = refs.filter(|refs| refs.status != "True") {
                page.painted("", &summary(bad), Paint::Bad);
            }
            if listener.tls.as_ref().is_some_and(|tls| tls.certificate.is_some()) {
                let (namespace, name) = self.full_name();
                let command = format!(
                    "its story: {} status -n {namespace} certificate/{name}-{}",
                    crate::cli::called(),
                    listener.name
                );
                page.line("", &command);
            }
        }
    }

    fn happened(&self, page: &mut Page) {
        page.heading("What happened");
        let mut shown: Vec<(&Happening, &str)> = Vec::new();
        for (events, whose) in [(&self.known.events, ""), (&self.known.service_events, "Service: ")] {
            match events {
                Seen::There(events) => shown.extend(events.iter().map(|event| (event, whose))),
                Seen::Missing => {}
                Seen::Forbidden => page.line("Events", "you may not list them"),
                Seen::Failed(why) => page.line("Events", &format!("cannot be listed: {why}")),
            }
        }
        shown.sort_by_key(|(event, _)| event.at);
        let skipped = shown.len().saturating_sub(EVENTS);
        for (number, (event, whose)) in shown.iter().skip(skipped).enumerate() {
            let paint = if event.warning { Paint::Warn } else { Paint::Plain };
            let words = format!(
                "{} {whose}{}: {}",
                relative(event.at, self.now),
                event.reason,
                event.note
            );
            page.painted(if number == 0 { "Events" } else { "" }, &words, paint);
        }
        if shown.is_empty() {
            page.line("Events", "none that are still kept");
        }
    }
}

/// `Reason: message`.
fn summary(condition: &Condition) -> String {
    if condition.message.is_empty() {
        return condition.reason.clone();
    }
    format!("{}: {}", condition.reason, condition.message)
}

fn who(takers: Option<&Takers>, count: i32) -> (String, Paint) {
    let names = |names: &BTreeSet<String>| listed(&names.iter().cloned().collect::<Vec<_>>());
    let Some(Takers { ready, waiting }) = takers else {
        let paint = if count == 0 { Paint::Bad } else { Paint::Plain };
        return (format!("{count} ready"), paint);
    };
    let waits = match waiting.len() {
        0 => String::new(),
        number => format!("; {number} not ready: {}", names(waiting)),
    };
    match ready.len() {
        0 => (format!("none{waits}"), Paint::Bad),
        number => (format!("{number} ready: {}{waits}", names(ready)), Paint::Plain),
    }
}

/// Returns the number of Pods that the selector matches, and of ready ones.
fn count(pods: &[Pod]) -> String {
    let is_ready = |pod: &&Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    match pods.len() {
        0 => "none matches the selector".to_owned(),
        all => format!(
            "{all} match the selector, {} ready",
            pods.iter().filter(is_ready).count()
        ),
    }
}

fn listed(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES).map(String::as_str).collect();
    match names.len().saturating_sub(NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
