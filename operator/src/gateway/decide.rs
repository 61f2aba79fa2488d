//! Decides what to do with the Services of a Gateway.

use std::{collections::BTreeSet, sync::Arc};

use gatehouse_crds::gateway::{Gateway, OnMismatch, Provider, Scope, ServiceType};
use kube::ResourceExt;
use serde_json::Value;

use super::{
    exposure::{self, Reach},
    field_ownership,
    observed_service::{Ingress, ObservedService},
    provider::Refusal,
    recreate::{Difference, differences, made_for, retain_immutable},
    service::{DesiredService, WITHDRAWN},
};
use crate::kubernetes::names;

/// A Service of the wanted name that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Its owner consents that we take it (`gatehouse.dev/adopt`).
    Adoptable,
    Keep,
}

/// Input of the decision.
pub struct Observed<'a> {
    /// The Services that this Gateway owns.
    pub services: &'a [Arc<ObservedService>],
    /// By name.
    pub foreign: &'a dyn Fn(&str) -> Option<Foreign>,
    /// UIDs of those that are public: by an address, by the answer to a name, by node ports, or by what was known of them.
    pub public: &'a BTreeSet<String>,
}

/// A Service to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub name: String,
    /// None for one that is made, or taken over.
    pub uid: Option<String>,
    /// Belongs to another owner, who consents.
    pub adopt: bool,
    pub body: Value,
}

/// The decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub write: Option<Write>,
    pub remove: Vec<Arc<ObservedService>>,
    /// The Service that clients use now.
    pub serving: Option<Arc<ObservedService>>,
    /// Changes that need a new Service, without consent.
    pub pending: Vec<Difference>,
    /// A Service is being replaced.
    pub recreating: bool,
    /// The consent of this generation was used.
    pub consumed: bool,
    /// The address was taken away.
    pub withdrawn: bool,
    /// There is no Service, and none is made while the spec is refused: why.
    pub missing: Option<String>,
    /// Nothing can be done.
    pub blocked: Option<Refusal>,
}

/// Decides.
pub fn decide(gateway: &Gateway, desired: &DesiredService, observed: &Observed<'_>) -> Decision {
    let alive: Vec<(Arc<ObservedService>, Vec<Difference>)> = observed
        .services
        .iter()
        .filter(|live| !live.deleting)
        .map(|live| (live.clone(), differences(desired, live)))
        .collect();
    let with_address = |live: &ObservedService| desired.type_ != ServiceType::LoadBalancer || !live.ingress.is_empty();
    let good = alive
        .iter()
        .filter(|(_, differences)| differences.is_empty())
        .min_by_key(|(live, _)| (!with_address(live), live.created, live.name.clone()));
    if let Some((good, _)) = good {
        let others = || {
            alive
                .iter()
                .filter(|(live, _)| live.uid != good.uid)
                .map(|(live, _)| live.clone())
        };
        let withdrawn = withdrawal(gateway, desired, good, observed);
        let body = desired.body(Some(good), withdrawn);
        // The old one goes when clients can go to the new one.
        let ready = with_address(good);
        let (remove, serving) = if ready {
            (others().collect::<Vec<_>>(), Some(good.clone()))
        } else {
            // One that is public goes at once, where that is asked for.
            let public = |live: &Arc<ObservedService>| is_withdrawable(gateway, desired) && is_public(live, observed);
            let stays = |live: &Arc<ObservedService>| !live.ingress.is_empty() && !public(live);
            (
                others().filter(public).collect(),
                others().find(stays).or_else(|| Some(good.clone())),
            )
        };
        // Until they go, the others stay as private as they are.
        let stay = alive.iter().filter(|(live, _)| {
            live.uid != good.uid && !remove.iter().any(|gone: &Arc<ObservedService>| gone.uid == live.uid)
        });
        let held = stay
            .map(|(live, differences)| hold(gateway, desired, live, differences, observed).0)
            .find_map(|write| write);
        let write = update(good, body).or(held);
        return Decision {
            write,
            recreating: !ready && others().next().is_some(),
            remove,
            serving,
            withdrawn: withdrawn.is_some(),
            ..Decision::default()
        };
    }
    match alive
        .iter()
        .min_by_key(|(live, _)| (live.ingress.is_empty(), live.created, live.name.clone()))
    {
        // It is unused and unrequested: it was created while the provider was unknown.
        Some((live, _)) if is_undecided(gateway, desired, live) => Decision {
            remove: vec![live.clone()],
            serving: Some(live.clone()),
            recreating: true,
            ..Decision::default()
        },
        Some((live, differences)) if is_consented(gateway) => replace(gateway, desired, observed, live, differences),
        Some((live, differences)) => {
            let (write, withdrawn) = hold(gateway, desired, live, differences, observed);
            Decision {
                write,
                serving: Some(live.clone()),
                pending: differences.clone(),
                withdrawn,
                ..Decision::default()
            }
        }
        None => create(desired, observed),
    }
}

/// The write that leaves what cannot be changed in place as it is, and whether the address is taken away.
fn hold(
    gateway: &Gateway,
    desired: &DesiredService,
    live: &ObservedService,
    differences: &[Difference],
    observed: &Observed<'_>,
) -> (Option<Write>, bool) {
    let withdrawn = withdrawal(gateway, desired, live, observed);
    let body = desired.body(Some(live), withdrawn);
    // A Service that is no load balancer any more has nothing to be pinned.
    let body = if withdrawn.is_some() {
        body
    } else {
        retain_immutable(body, desired, live, differences)
    };
    (update(live, body), withdrawn.is_some())
}

/// Whether a Service was made for no provider, which was detected later, and has no address yet.
fn is_undecided(gateway: &Gateway, desired: &DesiredService, live: &ObservedService) -> bool {
    let named = gateway.spec.service.as_ref().and_then(|service| service.provider);
    named.is_none()
        && desired.provider.is_some_and(|provider| provider != Provider::Other)
        && made_for(live) == Some(Provider::Other)
        && live.is_load_balancer()
        && live.ingress.is_empty()
}

/// Once for each generation.
fn is_consented(gateway: &Gateway) -> bool {
    let consent = gateway
        .annotations()
        .get(names::RECREATE)
        .and_then(|text| text.trim().parse::<i64>().ok());
    let used = gateway.status.as_ref().and_then(|status| status.recreated_generation);
    consent.is_some() && consent == gateway.metadata.generation && used != consent
}

pub(super) fn update(live: &ObservedService, body: Value) -> Option<Write> {
    (!field_ownership::is_applied(&body, &live.value, &live.owned)).then(|| Write {
        name: live.name.clone(),
        uid: Some(live.uid.clone()),
        adopt: false,
        body,
    })
}

/// The generation for which the address is taken away: this one, when it has turned out to be public.
fn withdrawal(
    gateway: &Gateway,
    desired: &DesiredService,
    live: &ObservedService,
    observed: &Observed<'_>,
) -> Option<i64> {
    let generation = gateway.metadata.generation?;
    if !is_withdrawable(gateway, desired) {
        return None;
    }
    let before = live.annotation(WITHDRAWN).and_then(|text| text.parse::<i64>().ok()) == Some(generation);
    (before || is_public(live, observed)).then_some(generation)
}

/// Whether a public address is to be taken away.
fn is_withdrawable(gateway: &Gateway, desired: &DesiredService) -> bool {
    asks_to_withdraw(gateway) && desired.scope == Scope::Internal && desired.type_ != ServiceType::ClusterIp
}

/// Whether the user wants a public address to be taken away.
pub(super) fn asks_to_withdraw(gateway: &Gateway) -> bool {
    gateway.spec.service.as_ref().and_then(|service| service.on_mismatch) == Some(OnMismatch::Withdraw)
}

pub(super) fn is_public(live: &ObservedService, observed: &Observed<'_>) -> bool {
    let public =
        |ingress: &Ingress| matches!(ingress, Ingress::Address(address) if exposure::of(*address) == Reach::Public);
    live.ingress.iter().any(public) || observed.public.contains(&live.uid)
}

/// A new Service instead of `live`: beside it under another name, or after it where the name is the user's.
fn replace(
    gateway: &Gateway,
    desired: &DesiredService,
    observed: &Observed<'_>,
    live: &Arc<ObservedService>,
    differences: &[Difference],
) -> Decision {
    let taken = |name: &String| observed.services.iter().any(|live| live.name == *name);
    let free = desired.names().into_iter().find(|name| !taken(name));
    let Some(name) = free else {
        // The user wants just this name: the old one makes way.
        return Decision {
            remove: vec![live.clone()],
            serving: Some(live.clone()),
            recreating: true,
            consumed: true,
            ..Decision::default()
        };
    };
    match (observed.foreign)(&name) {
        Some(Foreign::Keep) => {
            let (write, withdrawn) = hold(gateway, desired, live, differences, observed);
            Decision {
                write,
                serving: Some(live.clone()),
                pending: differences.to_vec(),
                withdrawn,
                blocked: Some(conflict(&name)),
                ..Decision::default()
            }
        }
        foreign => Decision {
            write: Some(first(desired, name, foreign.is_some())),
            serving: Some(live.clone()),
            recreating: true,
            consumed: true,
            ..Decision::default()
        },
    }
}

fn create(desired: &DesiredService, observed: &Observed<'_>) -> Decision {
    let Some(name) = desired.names().into_iter().next() else {
        return Decision::default();
    };
    if let Some(leaving) = observed.services.iter().find(|live| live.name == name) {
        // It is being deleted, and comes back when it is gone.
        return Decision {
            serving: Some(leaving.clone()),
            recreating: true,
            ..Decision::default()
        };
    }
    match (observed.foreign)(&name) {
        Some(Foreign::Keep) => Decision {
            blocked: Some(conflict(&name)),
            ..Decision::default()
        },
        foreign => Decision {
            write: Some(first(desired, name, foreign.is_some())),
            ..Decision::default()
        },
    }
}

/// Returns the write that creates a Service, or adopts one.
fn first(desired: &DesiredService, name: String, adopt: bool) -> Write {
    let body = if adopt {
        desired.adoption()
    } else {
        desired.body(None, None)
    };
    Write {
        name,
        uid: None,
        adopt,
        body,
    }
}

fn conflict(name: &str) -> Refusal {
    Refusal {
        reason: "ServiceConflict",
        message: format!(
            "There is a Service {name} already that this Gateway did not make. Write another name in spec.service.name, delete that Service, or let Gatehouse have it: kubectl annotate service {name} {}=true",
            names::ADOPT
        ),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
