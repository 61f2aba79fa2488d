//! How it stands, told in the status and by events.

use std::{collections::BTreeMap, time::Duration};

use gatehouse_crds::gateway::{Gateway, GatewayStatus, Scope, ServiceType};
use kube::{Api, Resource, ResourceExt, runtime::controller::Action};

use super::{
    controller::Attempt,
    endpoints::{self, Lack},
    exposure,
    live::Ingress,
    look::{FIRST_PAUSE, LONGEST_PAUSE, LOOK_AGAIN, Look, Outcome},
    lookup,
    ports::{Port, ports},
    status::{self, EXPOSURE_VERIFIED, Facts, PROGRAMMED, status},
};
use crate::kubernetes::{
    apply::{Target, WriteError},
    conditions,
    events::EventType,
};

/// A Service that is new is given so long to have its address before its Gateway says that it waits: one write less.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// And so long to have its endpoints, which follow its Pods at once.
const FIRST_ENDPOINTS: Duration = Duration::from_secs(1);
/// Between two looks at the nodes, while somebody uses their ports.
const NODES_AGAIN: Duration = Duration::from_secs(60);
/// A Service that waits so long for its address is asked for what was said of it.
const PATIENCE: Duration = Duration::from_secs(15);

impl Look<'_> {
    /// Writes the status where it differs, and events for what has changed.
    pub(super) async fn tell(&self, outcome: &Outcome<'_>) -> Result<Action, WriteError> {
        let ctx = self.ctx();
        let plan = &outcome.plan;
        let ports = ports(&self.gateway.spec.listeners);
        let serving = plan.serving.as_deref();
        let slices = serving
            .map(|live| self.scope.cache.slices(&self.namespace, &live.name))
            .unwrap_or_default();
        let ready = |port: &str| endpoints::ready(&slices, port);
        let idle: Vec<&Port> = ports
            .ports
            .iter()
            .filter(|port| serving.is_some() && ready(&port.name) == 0)
            .collect();
        let waits = outcome.is_of(ServiceType::LoadBalancer)
            && serving.is_some_and(|live| live.ingress.is_empty() && live.is_load_balancer());
        let attempt = ctx.attempt(&self.uid, |attempt| attempt.clone());
        if let Some(left) = self.left(outcome, &attempt, waits, !idle.is_empty()) {
            return Ok(Action::requeue(left));
        }
        let lacks = self.lacks(&idle).await;
        let cloud =
            match serving.filter(|live| waits && live.created.is_none_or(|created| self.age(created) >= PATIENCE)) {
                Some(live) => ctx.sight.last_warning(&self.namespace, &live.name, &live.uid).await,
                None => None,
            };
        let nodes = if outcome.is_of(ServiceType::NodePort) {
            ctx.sight.nodes().await
        } else {
            None
        };
        let refused = attempt.refused.as_ref().map(|(_, message)| message.clone());
        let facts = Facts {
            wanted: outcome.wanted,
            ports: &ports,
            plan,
            exposure: &outcome.exposure,
            nodes: nodes.as_deref().unwrap_or_default(),
            ready: &ready,
            lacks: &lacks,
            certificates: &outcome.certificates,
            refused: refused.as_deref(),
            refused_policy: outcome.refused_policy.as_deref(),
            cloud: cloud.as_deref(),
            now: self.now,
        };
        self.write_status(&status(&self.gateway, &facts)).await?;
        let next = [
            refused.map(|_| pause(attempt.failures)),
            (waits || !idle.is_empty() || plan.recreating).then(|| match attempt.made {
                Some(made) if self.age(made) < LOOK_AGAIN => PATIENCE,
                _ => LOOK_AGAIN,
            }),
            self.look_up_again(outcome),
            outcome.is_of(ServiceType::NodePort).then_some(NODES_AGAIN),
            (outcome.wanted.is_err() || outcome.refused_policy.is_some()).then_some(LOOK_AGAIN),
        ];
        Ok(next
            .into_iter()
            .flatten()
            .min()
            .map_or_else(Action::await_change, Action::requeue))
    }

    fn age(&self, since: jiff::Timestamp) -> Duration {
        // What happened during this look has no age yet.
        Duration::try_from(self.now.duration_since(since)).unwrap_or_default()
    }

    /// How long the first word still waits for what is about to come: one write instead of two.
    fn left(&self, outcome: &Outcome<'_>, attempt: &Attempt, waits: bool, idle: bool) -> Option<Duration> {
        let patience = match (waits, idle) {
            (true, _) => FIRST_WORD,
            (false, true) if !matches!(outcome.exposure, exposure::Verdict::Public(_)) => FIRST_ENDPOINTS,
            _ => return None,
        };
        let made = attempt
            .made
            .filter(|_| attempt.refused.is_none() && !outcome.plan.consumed)?;
        patience.checked_sub(self.age(made)).filter(|left| !left.is_zero())
    }

    /// Why these ports have no endpoints.
    async fn lacks(&self, idle: &[&Port]) -> BTreeMap<String, Lack> {
        if idle.is_empty() {
            return BTreeMap::new();
        }
        let pods = self.ctx().sight.pods(&self.namespace, self.now).await;
        let selector = &self.gateway.spec.target.selector;
        let lack = |pods: &[_], port: &Port| (port.name.clone(), endpoints::lack(pods, selector, port));
        pods.map(|pods| idle.iter().map(|port| lack(&pods, port)).collect())
            .unwrap_or_default()
    }

    /// When names are looked up again: nobody tells when their addresses change.
    fn look_up_again(&self, outcome: &Outcome<'_>) -> Option<Duration> {
        let scope = self
            .gateway
            .spec
            .service
            .as_ref()
            .and_then(|service| service.scope)
            .unwrap_or_default();
        let is_open = |ingress: &Ingress| matches!(ingress, Ingress::Name(name) if !exposure::is_internal_name(name));
        let names = outcome.services.iter().flat_map(|live| &live.ingress).any(is_open);
        if scope != Scope::Internal || !names {
            return None;
        }
        self.ctx().lookup.forget_older(self.now);
        let unknown = matches!(outcome.exposure, exposure::Verdict::Unknown(_));
        Some(if unknown { lookup::AGAIN } else { lookup::FRESH })
    }

    async fn write_status(&self, status: &GatewayStatus) -> Result<(), WriteError> {
        let before = self.gateway.status.clone().unwrap_or_default();
        if before == *status {
            return Ok(());
        }
        let ctx = self.ctx();
        let api: Api<Gateway> = Api::namespaced(ctx.client.clone(), &self.namespace);
        let body = serde_json::to_value(status).unwrap_or_default();
        let written = ctx.writer.apply_status(&api, Target::same(&self.gateway), body).await?;
        let version = written
            .resource_version()
            .and_then(|version| version.parse().ok())
            .unwrap_or_default();
        ctx.attempt(&self.uid, |attempt| attempt.wrote = Some((version, status.clone())));
        self.tell_events(&before, status);
        Ok(())
    }

    fn tell_events(&self, before: &GatewayStatus, after: &GatewayStatus) {
        let ctx = self.ctx();
        let reference = self.gateway.object_ref(&());
        let values = |status: &GatewayStatus| -> Vec<String> {
            status.addresses.iter().map(|address| address.value.clone()).collect()
        };
        if !after.addresses.is_empty() && values(before) != values(after) {
            let note = format!("The Gateway has the address {}.", values(after).join(", "));
            ctx.events
                .publish(&reference, EventType::Normal, "AddressAssigned", "Program", &note);
        }
        for (type_, told) in [
            (status::ACCEPTED, "False"),
            (PROGRAMMED, "False"),
            (EXPOSURE_VERIFIED, "False"),
        ] {
            let (was, is) = (
                conditions::find(&before.conditions, type_),
                conditions::find(&after.conditions, type_),
            );
            let Some(is) = is.filter(|is| is.status == told) else {
                continue;
            };
            let waits = matches!(is.reason.as_str(), "AddressPending" | "NotAccepted" | "Recreating");
            if !waits
                && was
                    .is_none_or(|was| (&was.status, &was.reason, &was.message) != (&is.status, &is.reason, &is.message))
            {
                ctx.events
                    .publish(&reference, EventType::Warning, &is.reason, "Program", &is.message);
                tracing::warn!(
                    namespace = self.namespace,
                    gateway = self.gateway.name_any(),
                    reason = is.reason,
                    detail = is.message,
                    "a Gateway is in trouble"
                );
            }
        }
    }
}

impl Outcome<'_> {
    fn is_of(&self, type_: ServiceType) -> bool {
        self.wanted.is_ok_and(|wanted| wanted.type_ == type_)
    }
}

/// After the API server refused a write.
fn pause(failures: u32) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(failures.min(9)));
    pause.clamp(FIRST_PAUSE.saturating_mul(5), LONGEST_PAUSE)
}
