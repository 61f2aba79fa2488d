//! Writes the status, and publishes events.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gatehouse_crds::gateway::{Gateway, GatewayStatus, Scope, ServiceType};
use kube::{Api, Resource, ResourceExt, runtime::controller::Action};

use super::{
    cluster_reader::DETECTING_PROVIDER,
    controller::Attempt,
    endpoints::{self, Lack},
    exposure, lookup,
    observed_service::{Ingress, ObservedService},
    ports::{Port, ports},
    provider::{self, Refusal, UNKNOWN_PROVIDER},
    reconcile::{MAX_BACKOFF, MIN_BACKOFF, Outcome, REQUEUE_AFTER, Reconcile},
    status::{self, Certificate, EXPOSURE_VERIFIED, Facts, PROGRAMMED, status},
};
use crate::kubernetes::{
    apply::{Target, WriteError},
    conditions,
    events::EventType,
};

/// A Service that is new is given so long to have its address before its Gateway says that it waits: one write less.
const ADDRESS_GRACE_PERIOD: Duration = Duration::from_secs(2);
/// And so long to have its endpoints, which follow its Pods at once.
const ENDPOINTS_GRACE_PERIOD: Duration = Duration::from_secs(1);
/// Time that a new Service waits for its first status while many are being created, and the pause between checks.
const BUSY_GRACE_PERIOD: Duration = Duration::from_secs(10);
const BUSY_REQUEUE_AFTER: Duration = Duration::from_secs(1);
/// A Service that waits so long for its address is asked for what was said of it.
const EVENT_LOOKUP_AFTER: Duration = Duration::from_secs(15);

impl Reconcile<'_> {
    /// Writes the status where it differs, and events for what has changed.
    pub(super) async fn publish_status(&self, outcome: &Outcome<'_>) -> Result<Action, WriteError> {
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
        let is_late = |live: &ObservedService| {
            live.created
                .is_none_or(|created| self.age(created) >= EVENT_LOOKUP_AFTER)
        };
        let cloud = match serving.filter(|live| waits && is_late(live)) {
            Some(live) => {
                let service = (&*self.namespace, &*live.name, &*live.uid);
                ctx.cluster_reader.last_warning(service, None, &self.reader()).await
            }
            None => None,
        };
        let ignored = self.ranges_ignored(outcome).await;
        let nodes = if serving.is_some_and(|live| live.type_() == "NodePort") {
            ctx.cluster_reader.nodes(&self.reader()).await.unwrap_or_default()
        } else {
            Arc::default()
        };
        let refused = attempt.refused.as_ref().map(|(_, message)| message.clone());
        let facts = Facts {
            desired: outcome.desired,
            ports: &ports,
            plan,
            exposure: &outcome.exposure,
            services: &outcome.services,
            nodes: &nodes,
            ready: &ready,
            lacks: &lacks,
            certificates: &outcome.certificates,
            refused: refused.as_deref(),
            refused_policy: outcome.refused_policy.as_ref().map(|refusal| &*refusal.message),
            cloud: cloud.as_deref(),
            ignored: ignored.as_deref(),
            now: self.now,
        };
        self.write_status(&status(&self.gateway, &facts)).await?;
        let next = [
            refused.map(|_| pause(attempt.failures)),
            // What is watched wakes it; that a load balancer is late does not.
            serving
                .filter(|live| waits && !is_late(live))
                .map(|live| self.left_of(EVENT_LOOKUP_AFTER, live.created)),
            self.look_up_again(outcome),
            outcome.desired.err().and_then(detect_again),
            outcome.reads_again().then_some(REQUEUE_AFTER),
        ];
        Ok(next
            .into_iter()
            .flatten()
            .min()
            .map_or_else(Action::await_change, Action::requeue))
    }

    /// Returns the rest of a time that began then.
    fn left_of(&self, time: Duration, began: Option<jiff::Timestamp>) -> Duration {
        let age = began.map(|began| self.age(began)).unwrap_or_default();
        time.saturating_sub(age).max(MIN_BACKOFF)
    }

    fn age(&self, since: jiff::Timestamp) -> Duration {
        // What happened during this look has no age yet.
        Duration::try_from(self.now.duration_since(since)).unwrap_or_default()
    }

    /// Returns how long the first status still waits for pending facts: one write instead of two.
    fn left(&self, outcome: &Outcome<'_>, attempt: &Attempt, waits: bool, idle: bool) -> Option<Duration> {
        let is_public = matches!(outcome.exposure, exposure::Verdict::Public(_));
        let many = self.ctx().creating.are_many() && !is_public;
        let patience = match (many, waits, idle) {
            (true, ..) => BUSY_GRACE_PERIOD,
            (_, true, _) => ADDRESS_GRACE_PERIOD,
            (_, false, true) if !is_public => ENDPOINTS_GRACE_PERIOD,
            _ => return None,
        };
        let made = attempt
            .made
            .filter(|_| attempt.refused.is_none() && !outcome.plan.consumed)?;
        let left = patience.checked_sub(self.age(made)).filter(|left| !left.is_zero())?;
        Some(if many { left.min(BUSY_REQUEUE_AFTER) } else { left })
    }

    /// Why these ports have no endpoints.
    async fn lacks(&self, idle: &[&Port]) -> BTreeMap<String, Lack> {
        if idle.is_empty() {
            return BTreeMap::new();
        }
        let pods = self.ctx().cluster_reader.pods(&self.namespace, &self.reader()).await;
        let selector = &self.gateway.spec.target.selector;
        let lack = |pods: &[_], port: &Port| (port.name.clone(), endpoints::lack(pods, selector, port));
        pods.map(|pods| idle.iter().map(|port| lack(&pods, port)).collect())
            .unwrap_or_default()
    }

    /// Returns the cloud's warning about source ranges that it ignores, where it reports one.
    async fn ranges_ignored(&self, outcome: &Outcome<'_>) -> Option<String> {
        let desired = outcome
            .desired
            .ok()
            .filter(|desired| !desired.source_ranges().is_empty())?;
        let reason = provider::ranges_ignored(desired.provider?)?;
        let live = outcome.plan.serving.as_deref()?;
        let service = (&*self.namespace, &*live.name, &*live.uid);
        let cluster_reader = &self.ctx().cluster_reader;
        cluster_reader.last_warning(service, Some(reason), &self.reader()).await
    }

    /// Returns when names are looked up again: nothing reports that their addresses change.
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
        let unknown = !outcome.exposure.is_verified();
        Some(if unknown {
            lookup::RETRY_AFTER
        } else {
            lookup::CACHE_TTL
        })
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
        self.publish_events(&before, status);
        Ok(())
    }

    fn publish_events(&self, before: &GatewayStatus, after: &GatewayStatus) {
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
        for (type_, expected) in [
            (status::ACCEPTED, "False"),
            (PROGRAMMED, "False"),
            (EXPOSURE_VERIFIED, "False"),
        ] {
            let (was, is) = (
                conditions::find(&before.conditions, type_),
                conditions::find(&after.conditions, type_),
            );
            let Some(is) = is.filter(|is| is.status == expected) else {
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
                    "Gateway reconcile failed"
                );
            }
        }
    }
}

impl Outcome<'_> {
    /// Whether something is to be tried again that nothing wakes the Gateway for.
    fn reads_again(&self) -> bool {
        let unread = |certificate: &Certificate| matches!(certificate, Certificate::Unread(_));
        self.refused_policy.as_ref().is_some_and(|refusal| !refusal.is_watched)
            || self.certificates.values().any(unread)
    }

    fn is_of(&self, type_: ServiceType) -> bool {
        self.desired.is_ok_and(|desired| desired.type_ == type_)
    }
}

/// When the provider is looked for again: what nodes say wakes the Gateway, what is installed does not.
fn detect_again(refusal: &Refusal) -> Option<Duration> {
    match refusal.reason {
        DETECTING_PROVIDER => Some(MIN_BACKOFF),
        UNKNOWN_PROVIDER => Some(REQUEUE_AFTER),
        _ => None,
    }
}

/// After the API server refused a write.
fn pause(failures: u32) -> Duration {
    let pause = MIN_BACKOFF.saturating_mul(2u32.saturating_pow(failures.min(9)));
    pause.clamp(MIN_BACKOFF.saturating_mul(5), MAX_BACKOFF)
}
