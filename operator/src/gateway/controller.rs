//! Carries out what [`plan`](super::plan) decides, and tells how it stands.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gatehouse_crds::gateway::{Gateway, GatewayStatus};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{ObjectReference, Service},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::PartialObjectMeta,
    runtime::controller::Action,
};

use super::{
    cache::{Cache, Guarded},
    certificates::{self},
    endpoints::{self, Lack},
    exposure::{self, Known},
    live::{Ingress, Live},
    lookup::{self, Lookup},
    network_policy,
    plan::{Plan, Seen, Write, plan},
    ports::ports,
    provider::Refusal,
    service::Wanted,
    sight::Sight,
    status::{self, Certificate, EXPOSURE_VERIFIED, Facts, NodeFacts, PROGRAMMED, status},
};
use crate::{
    certificate::cache::Cache as Certificates,
    kubernetes::{
        apply::{Conflicts, Target, WriteError, Writer},
        conditions::{self, Status, Verdict},
        events::{EventType, Events},
        raw,
    },
    telemetry::metrics::Metrics,
};

/// A Service that is new is given so long to have its address before its Gateway says that it waits: one write less.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// Between two looks at what nobody tells us of: Pods that do not match, events of a Service.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A Service that waits so long for its address is asked for what was said of it.
const PATIENCE: Duration = Duration::from_secs(15);
/// First and longest pause after the API server refused a write, or did not answer.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Steps of one look.
const STEPS: usize = 3;

/// What all reconciles share.
pub struct Context {
    pub client: Client,
    pub writer: Writer,
    pub events: Events,
    pub metrics: Metrics,
    pub lookup: Arc<Lookup>,
    /// What is asked for rather than watched.
    pub sight: Sight,
    pub now: fn() -> Timestamp,
    /// By UID.
    pub attempts: Mutex<HashMap<String, Attempt>>,
}

/// What is remembered of a Gateway between two looks, and may be lost.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// When its Service was made by this process.
    made: Option<Timestamp>,
    /// The generation whose write was refused, and how.
    refused: Option<(Option<i64>, String)>,
    failures: u32,
    /// The version of the Gateway with the last status, and the status.
    wrote: Option<(u64, GatewayStatus)>,
    /// The generation that was told to be unreadable.
    unreadable: Option<i64>,
}

/// One scope's reconciles: all namespaces, or one.
pub struct Scope {
    pub ctx: Arc<Context>,
    pub cache: Arc<Cache>,
    pub certificates: Arc<Certificates>,
}

impl Context {
    /// The Gateway is gone: so is what is remembered of it.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempt<T>(&self, uid: &str, take: impl FnOnce(&mut Attempt) -> T) -> T {
        take(self.lock().entry(uid.to_owned()).or_default())
    }
}

/// One look at a Gateway.
pub async fn reconcile(object: Arc<Guarded>, scope: Arc<Scope>) -> Result<Action, Infallible> {
    let started = tokio::time::Instant::now();
    let (action, failed) = match &object.0 {
        Ok(gateway) => {
            let look = Look::new(gateway, &scope);
            match Box::pin(look.reconcile()).await {
                Ok(action) => (action, false),
                Err(error) => (look.write_failed(&error), true),
            }
        }
        Err(error) => (unreadable(&object, &error.to_string(), &scope.ctx).await, true),
    };
    scope.ctx.metrics.reconciled("Gateway", started.elapsed(), failed);
    Ok(action)
}

struct Look<'a> {
    scope: &'a Scope,
    gateway: Gateway,
    namespace: String,
    uid: String,
    now: Timestamp,
}

impl<'a> Look<'a> {
    fn new(gateway: &Gateway, scope: &'a Scope) -> Self {
        let mut gateway = gateway.clone();
        let uid = gateway.uid().unwrap_or_default();
        // Our own last word, when the watch has not shown it yet.
        let version = gateway
            .resource_version()
            .and_then(|version| version.parse::<u64>().ok());
        let wrote = scope.ctx.attempt(&uid, |attempt| attempt.wrote.clone());
        if let Some((wrote, status)) = wrote
            && version.is_some_and(|version| version < wrote)
        {
            gateway.status = Some(status);
        }
        Self {
            namespace: gateway.namespace().unwrap_or_default(),
            now: (scope.ctx.now)(),
            uid,
            gateway,
            scope,
        }
    }

    fn ctx(&self) -> &'a Context {
        &self.scope.ctx
    }

    async fn reconcile(&self) -> Result<Action, WriteError> {
        if self.gateway.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        self.scope.cache.synced().await;
        let wanted = self.wanted().await;
        let mut step = 0;
        let (plan, services) = loop {
            let services = self.scope.cache.services(&self.uid);
            let exposure = self.exposure(&services).await;
            let plan = self.plan(wanted.as_ref(), &services, &exposure);
            step += 1;
            if step >= STEPS || !self.carry_out(&plan).await? {
                break (plan, (services, exposure));
            }
        };
        let (services, exposure) = services;
        let refused_policy = match &wanted {
            Ok(wanted) => self.network_policy(wanted).await?,
            Err(_) => None,
        };
        let certificates = self.certificates().await?;
        Box::pin(self.tell(
            wanted.as_ref(),
            &plan,
            &services,
            &exposure,
            &certificates,
            refused_policy,
        ))
        .await
    }

    /// What is asked for, with the provider that was named, or is known, or is found.
    async fn wanted(&self) -> Result<Wanted, Refusal> {
        let spec = self.gateway.spec.service.as_ref();
        let named = spec.and_then(|service| service.provider);
        let is_load_balancer = spec.and_then(|service| service.type_).unwrap_or_default()
            == gatehouse_crds::gateway::ServiceType::LoadBalancer;
        let known = || {
            let known = self.gateway.status.as_ref()?.provider;
            // What was detected once is not detected otherwise under a load balancer that is there.
            known.filter(|_| !self.scope.cache.services(&self.uid).is_empty())
        };
        let provider = match named.or_else(known) {
            Some(provider) => Ok(provider),
            None if is_load_balancer => self.ctx().sight.provider(spec, self.now).await,
            None => Ok(gatehouse_crds::gateway::Provider::Other),
        };
        Wanted::of(&self.gateway, provider)
    }

    fn plan(&self, wanted: Result<&Wanted, &Refusal>, services: &[Arc<Live>], exposure: &exposure::Verdict) -> Plan {
        let cache = &self.scope.cache;
        match wanted {
            Ok(wanted) => plan(
                &self.gateway,
                wanted,
                &Seen {
                    services,
                    foreign: &|name| cache.foreign(&self.namespace, name, (&self.gateway.name_any(), &self.uid)),
                    exposure,
                },
            ),
            // What is there stays as it is.
            Err(_) => Plan {
                serving: services
                    .iter()
                    .filter(|live| !live.deleting)
                    .min_by_key(|live| live.ingress.is_empty())
                    .cloned(),
                ..Plan::default()
            },
        }
    }

    /// Writes. Gives whether to look again at once.
    async fn carry_out(&self, plan: &Plan) -> Result<bool, WriteError> {
        let ctx = self.ctx();
        let api: Api<Service> = Api::namespaced(ctx.client.clone(), &self.namespace);
        for live in &plan.remove {
            let target = Target {
                name: &live.name,
                resource_version: None,
                uid: Some(&live.uid),
            };
            ctx.writer.delete(&api, target).await?;
            tracing::info!(
                namespace = self.namespace,
                gateway = self.gateway.name_any(),
                service = live.name,
                "a Service was deleted"
            );
        }
        let Some(write) = &plan.write else {
            ctx.attempt(&self.uid, |attempt| attempt.refused = None);
            return Ok(false);
        };
        match self.write(&api, write).await {
            Ok(service) => {
                ctx.attempt(&self.uid, |attempt| {
                    attempt.refused = None;
                    attempt.failures = 0;
                    if write.uid.is_none() {
                        attempt.made = Some(self.now);
                    }
                });
                self.scope.cache.wrote_service(&self.namespace, &service);
                // A consent is used up before anything else happens.
                Ok(!plan.consumed)
            }
            // One that went, or was made anew, meanwhile: the watch will tell.
            Err(error) if is_refusal(&error) && !(error.is_conflict() && write.uid.is_some()) => {
                self.note_refusal(&error.to_string());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn write(&self, api: &Api<Service>, write: &Write) -> Result<Service, WriteError> {
        let target = Target {
            name: &write.name,
            resource_version: None,
            uid: write.uid.as_deref(),
        };
        // What is made anew must not meet anybody's fields.
        let conflicts = if write.uid.is_some() || write.adopt {
            Conflicts::Take
        } else {
            Conflicts::Refuse
        };
        self.ctx()
            .writer
            .apply(api, target, write.body.clone(), conflicts)
            .await
    }

    fn note_refusal(&self, message: &str) {
        let generation = self.gateway.metadata.generation;
        self.ctx().attempt(&self.uid, |attempt| {
            attempt.refused = Some((generation, message.to_owned()));
            attempt.failures = attempt.failures.saturating_add(1);
            attempt.made = None;
        });
    }

    /// Whether the addresses of the Services are as private as they should be.
    async fn exposure(&self, services: &[Arc<Live>]) -> exposure::Verdict {
        use gatehouse_crds::gateway::{Scope as Reach, ServiceType};
        let spec = self.gateway.spec.service.clone().unwrap_or_default();
        if spec.scope.unwrap_or_default() == Reach::External {
            return exposure::Verdict::Unknown(String::new());
        }
        match spec.type_.unwrap_or_default() {
            ServiceType::ClusterIp => exposure::Verdict::Private,
            ServiceType::NodePort => {
                let nodes = self.ctx().sight.nodes().await.unwrap_or_default();
                if nodes.is_empty() {
                    return exposure::Verdict::Unknown("The nodes cannot be seen".into());
                }
                let known: Vec<Known> = nodes
                    .iter()
                    .flat_map(|node| node.internal.iter().chain(&node.external))
                    .map(|ip| Known::Address(*ip))
                    .collect();
                exposure::judge(&known)
            }
            ServiceType::LoadBalancer => {
                let ingress = services.iter().flat_map(|live| &live.ingress);
                let known: Vec<Known> = ingress.filter_map(|ingress| self.known(ingress)).collect();
                if known.is_empty() && services.iter().any(|live| !live.ingress.is_empty()) {
                    return exposure::Verdict::Private;
                }
                exposure::judge(&known)
            }
        }
    }

    /// None for a name that says by itself that it is internal.
    fn known(&self, ingress: &Ingress) -> Option<Known> {
        match ingress {
            Ingress::Address(address) => Some(Known::Address(*address)),
            Ingress::Name(name) if exposure::is_internal_name(name) => None,
            Ingress::Name(name) => {
                let (cache, namespace, gateway) = (
                    self.scope.cache.clone(),
                    self.namespace.clone(),
                    self.gateway.name_any(),
                );
                let done = move || cache.touch(&namespace, &gateway);
                Some(self.ctx().lookup.get(name, self.now, done))
            }
        }
    }

    /// Makes the NetworkPolicy as it should be; gives why that could not be done.
    async fn network_policy(&self, wanted: &Wanted) -> Result<Option<String>, WriteError> {
        let ctx = self.ctx();
        let name = network_policy::name(&self.gateway.name_any());
        let api: Api<NetworkPolicy> = Api::namespaced(ctx.client.clone(), &self.namespace);
        let live = self.scope.cache.policy(&self.namespace, &name);
        let ours = live.as_ref().filter(|live| live.owner.as_deref() == Some(&*self.uid));
        match (network_policy::body(&self.gateway, wanted), &live) {
            (None, _) => {
                if let Some(live) = ours {
                    let target = Target {
                        name: &name,
                        resource_version: None,
                        uid: Some(&live.uid),
                    };
                    ctx.writer.delete(&api, target).await?;
                }
                Ok(None)
            }
            (Some(_), Some(_)) if ours.is_none() => Ok(Some(format!(
                "There is a NetworkPolicy {name} already that this Gateway did not make: rename or delete it"
            ))),
            (Some(body), Some(live)) if body.get("spec") == Some(&live.spec) => Ok(None),
            (Some(body), live) => {
                let conflicts = if live.is_some() {
                    Conflicts::Take
                } else {
                    Conflicts::Refuse
                };
                let target = Target {
                    name: &name,
                    resource_version: None,
                    uid: live.as_ref().map(|live| live.uid.as_str()),
                };
                match ctx.writer.apply(&api, target, body, conflicts).await {
                    Ok(policy) => {
                        self.scope.cache.wrote_policy(&self.namespace, &policy);
                        Ok(None)
                    }
                    Err(error) if is_refusal(&error) => Ok(Some(error.to_string())),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Makes the listeners' Certificates as they should be, takes away those of listeners that are gone, and tells how they stand.
    async fn certificates(&self) -> Result<BTreeMap<String, Certificate>, WriteError> {
        let ctx = self.ctx();
        let api: Api<gatehouse_crds::certificate::Certificate> = Api::namespaced(ctx.client.clone(), &self.namespace);
        let find = |name: &str| {
            let reference = crate::certificate::cache::Ref::new(name).within(&self.namespace);
            self.scope.certificates.certificates().get(&reference)
        };
        let ours = |object: &crate::certificate::cache::Guarded| {
            object.owner_references().iter().any(|owner| owner.uid == self.uid)
        };
        let wanted = certificates::wanted(&self.gateway);
        let needs_list = !wanted.is_empty()
            || self
                .gateway
                .status
                .iter()
                .flat_map(|status| &status.listeners)
                .any(|listener| listener.certificate.is_some());
        if needs_list && !self.scope.certificates.synced().await {
            return Ok(BTreeMap::new());
        }
        let mut found = BTreeMap::new();
        for wanted in &wanted {
            let there = find(&wanted.name);
            if there.as_ref().is_some_and(|there| !ours(there)) {
                let message = format!(
                    "There is a Certificate {} already that this Gateway did not make: rename or delete it",
                    wanted.name
                );
                found.insert(wanted.name.clone(), Certificate::Bad("CertificateConflict", message));
                continue;
            }
            let same = there.as_ref().is_some_and(|there| {
                there
                    .0
                    .as_ref()
                    .is_ok_and(|there| certificates::is_as_wanted(there, &wanted.body))
            });
            if !same {
                let conflicts = if there.is_some() {
                    Conflicts::Take
                } else {
                    Conflicts::Refuse
                };
                let written = ctx
                    .writer
                    .apply(&api, Target::named(&wanted.name), wanted.body.clone(), conflicts)
                    .await;
                if let Err(error) = written {
                    if !is_refusal(&error) {
                        return Err(error);
                    }
                    found.insert(
                        wanted.name.clone(),
                        Certificate::Bad("CertificateRefused", error.to_string()),
                    );
                    continue;
                }
            }
            let state = there.as_ref().and_then(|there| there.0.as_ref().ok()).map_or_else(
                || {
                    Certificate::Bad(
                        "CertificatePending",
                        format!("The Certificate {} was just asked for", wanted.name),
                    )
                },
                certificates::state,
            );
            found.insert(wanted.name.clone(), state);
        }
        let gateway = self.gateway.name_any();
        for listener in self.gateway.status.iter().flat_map(|status| &status.listeners) {
            let name = certificates::name(&gateway, &listener.name);
            let unwanted = !wanted.iter().any(|wanted| wanted.name == name);
            if let Some(there) = find(&name).filter(|there| unwanted && ours(there)) {
                let uid = there.uid().unwrap_or_default();
                ctx.writer
                    .delete(
                        &api,
                        Target {
                            name: &name,
                            resource_version: None,
                            uid: Some(&uid),
                        },
                    )
                    .await?;
            }
        }
        let mut by_listener = BTreeMap::new();
        for listener in &self.gateway.spec.listeners {
            let Some(tls) = &listener.tls else { continue };
            let state = if tls.certificate.is_some() {
                found.get(&certificates::name(&gateway, &listener.name)).cloned()
            } else {
                self.secrets(tls).await
            };
            if let Some(state) = state {
                by_listener.insert(listener.name.clone(), state);
            }
        }
        Ok(by_listener)
    }

    /// The user's own Secrets of a listener: the one that ends first.
    async fn secrets(&self, tls: &gatehouse_crds::gateway::ListenerTls) -> Option<Certificate> {
        if !self.scope.certificates.synced().await {
            return None;
        }
        let mut worst: Option<Certificate> = None;
        for reference in &tls.certificate_refs {
            let facts = self.scope.certificates.secret(&self.namespace, &reference.name);
            let state = match facts {
                None => Certificate::Bad(
                    "InvalidCertificateRef",
                    format!(
                        "There is no Secret {} of type kubernetes.io/tls in this namespace",
                        reference.name
                    ),
                ),
                Some(facts) => self.ctx().sight.secret(&self.namespace, &facts, self.now).await,
            };
            let rank = |state: &Certificate| match state {
                Certificate::Bad(..) => (0, None),
                Certificate::Good(end) => (1, *end),
            };
            if worst.as_ref().is_none_or(|worst| rank(&state) < rank(worst)) {
                worst = Some(state);
            }
        }
        worst
    }

    /// Writes the status where it differs, and events for what has changed.
    async fn tell(
        &self,
        wanted: Result<&Wanted, &Refusal>,
        plan: &Plan,
        services: &[Arc<Live>],
        exposure: &exposure::Verdict,
        certificates: &BTreeMap<String, Certificate>,
        refused_policy: Option<String>,
    ) -> Result<Action, WriteError> {
        let ctx = self.ctx();
        let ports = ports(&self.gateway.spec.listeners);
        let slices = plan
            .serving
            .as_ref()
            .map(|live| self.scope.cache.slices(&self.namespace, &live.name))
            .unwrap_or_default();
        let ready = |port: &str| endpoints::ready(&slices, port);
        let waits = wanted.is_ok_and(|wanted| wanted.type_ == gatehouse_crds::gateway::ServiceType::LoadBalancer)
            && plan
                .serving
                .as_ref()
                .is_some_and(|live| live.ingress.is_empty() && live.is_load_balancer());
        let attempt = ctx.attempt(&self.uid, |attempt| attempt.clone());
        let young = attempt
            .made
            .filter(|made| self.now.duration_since(*made).unsigned_abs() < FIRST_WORD);
        if waits && young.is_some() && attempt.refused.is_none() && !plan.consumed {
            return Ok(Action::requeue(FIRST_WORD));
        }
        let idle: Vec<_> = ports
            .ports
            .iter()
            .filter(|port| plan.serving.is_some() && ready(&port.name) == 0)
            .collect();
        let mut lacks: BTreeMap<String, Lack> = BTreeMap::new();
        if !idle.is_empty()
            && let Some(pods) = ctx.sight.pods(&self.namespace, self.now).await
        {
            for port in &idle {
                lacks.insert(
                    port.name.clone(),
                    endpoints::lack(&pods, &self.gateway.spec.target.selector, port),
                );
            }
        }
        let old = plan.serving.as_ref().filter(|live| {
            live.created
                .is_none_or(|created| self.now.duration_since(created).unsigned_abs() >= PATIENCE)
        });
        let cloud = match old.filter(|_| waits) {
            Some(live) => ctx.sight.last_warning(&self.namespace, &live.name, &live.uid).await,
            None => None,
        };
        let needs_nodes = wanted.is_ok_and(|wanted| wanted.type_ == gatehouse_crds::gateway::ServiceType::NodePort);
        let nodes: Vec<NodeFacts> = if needs_nodes {
            ctx.sight.nodes().await.unwrap_or_default()
        } else {
            Vec::new()
        };
        let refused = attempt.refused.map(|(_, message)| message).or(refused_policy);
        let facts = Facts {
            wanted,
            ports: &ports,
            plan,
            exposure,
            nodes: &nodes,
            ready: &ready,
            lacks: &lacks,
            certificates,
            refused: refused.as_deref(),
            cloud: cloud.as_deref(),
            now: self.now,
        };
        let status = status(&self.gateway, &facts);
        self.write_status(&status).await?;
        let names = services
            .iter()
            .flat_map(|live| &live.ingress)
            .any(|ingress| matches!(ingress, Ingress::Name(name) if !exposure::is_internal_name(name)));
        let mut next: Vec<Duration> = Vec::new();
        if refused.is_some() {
            let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(attempt.failures.min(9)));
            next.push(pause.clamp(FIRST_PAUSE.saturating_mul(5), LONGEST_PAUSE));
        }
        if waits || !idle.is_empty() || plan.recreating {
            next.push(
                if attempt
                    .made
                    .is_some_and(|made| self.now.duration_since(made).unsigned_abs() < LOOK_AGAIN)
                {
                    PATIENCE
                } else {
                    LOOK_AGAIN
                },
            );
        }
        if names
            && self
                .gateway
                .spec
                .service
                .as_ref()
                .and_then(|service| service.scope)
                .unwrap_or_default()
                == gatehouse_crds::gateway::Scope::Internal
        {
            let unknown = matches!(exposure, exposure::Verdict::Unknown(_));
            next.push(if unknown { lookup::AGAIN } else { lookup::FRESH });
            ctx.lookup.forget_older(self.now);
        }
        if wanted.is_err() {
            next.push(LOOK_AGAIN);
        }
        Ok(next
            .into_iter()
            .min()
            .map_or_else(Action::await_change, Action::requeue))
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

    /// The API server did not answer, or will let us later.
    fn write_failed(&self, error: &WriteError) -> Action {
        if error.is_not_found() || error.reason() == "NamespaceTerminating" {
            return Action::requeue(LONGEST_PAUSE);
        }
        let failures = self.ctx().attempt(&self.uid, |attempt| {
            attempt.failures = attempt.failures.saturating_add(1).min(16);
            attempt.failures
        });
        let pause = FIRST_PAUSE
            .saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)))
            .min(LOOK_AGAIN);
        tracing::warn!(namespace = self.namespace, gateway = self.gateway.name_any(), %error, ?pause, "a write failed and will be tried again");
        Action::requeue(pause)
    }
}

/// Whether the user has to mend something.
fn is_refusal(error: &WriteError) -> bool {
    matches!(error, WriteError::Refused { reason, .. } if matches!(*reason, "Invalid" | "QuotaExceeded" | "Forbidden" | "Conflict"))
}

/// A Gateway that cannot be decoded (written past validation): it is told once, and harms no other.
async fn unreadable(object: &Guarded, error: &str, ctx: &Context) -> Action {
    let (uid, generation) = (object.uid().unwrap_or_default(), object.meta().generation);
    if generation.is_some() && ctx.attempt(&uid, |attempt| attempt.unreadable) == generation {
        return Action::await_change();
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    tracing::warn!(
        namespace,
        gateway = name,
        error,
        "a Gateway that cannot be read is left alone"
    );
    let message = format!("This Gateway cannot be read: {error}. Mend its spec.");
    let verdict = Verdict {
        type_: status::ACCEPTED,
        status: Status::False,
        reason: "Invalid",
        message: message.clone(),
    };
    let kind = ApiResource::erase::<Gateway>(&());
    let raw: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &namespace, &kind);
    let bare: Api<PartialObjectMeta<Gateway>> = Api::namespaced(ctx.client.clone(), &namespace);
    match raw::set_condition(&ctx.writer, (&raw, &bare), &name, &verdict, generation, (ctx.now)()).await {
        Ok(()) => {
            let reference = ObjectReference {
                api_version: Some(Gateway::api_version(&()).into()),
                kind: Some(Gateway::kind(&()).into()),
                name: Some(name),
                namespace: Some(namespace),
                uid: object.uid(),
                ..ObjectReference::default()
            };
            ctx.events
                .publish(&reference, EventType::Warning, "Invalid", "Read", &message);
            ctx.attempt(&uid, |attempt| attempt.unreadable = generation);
            Action::await_change()
        }
        Err(error) if error.is_not_found() => Action::await_change(),
        Err(error) => {
            tracing::warn!(%error, namespace, gateway = name, "its status could not be written");
            Action::requeue(LOOK_AGAIN)
        }
    }
}
