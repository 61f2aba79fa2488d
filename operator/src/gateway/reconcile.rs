//! One reconcile of a Gateway, from the spec to the writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use gatehouse_crds::gateway::{Gateway, Provider, Scope as Reach, ServiceType};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt, runtime::controller::Action};

use super::{
    cluster_reader::Reader,
    controller::{Context, Scope},
    decide::{self, Decision, Observed, Write},
    exposure, field_ownership,
    observed_service::ObservedService,
    parts::PolicyRefusal,
    provider::{self, Refusal, annotation_exposure, is_shared},
    recreate::made_for,
    safeguard::{Applied, Settled, safeguard},
    service::DesiredService,
    status::{Certificate, EXPOSURE_VERIFIED},
};
use crate::kubernetes::{
    apply::{Conflicts, Target, WriteError},
    conditions,
};

/// Pause between two checks of what is not watched: Pods that do not match, events of a Service.
pub(super) const REQUEUE_AFTER: Duration = Duration::from_secs(30);
/// First and longest pause after the API server refused a write, or did not answer.
pub(super) const MIN_BACKOFF: Duration = Duration::from_secs(1);
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// Steps of one look.
const MAX_STEPS: usize = 3;

/// Result of a reconcile.
pub(super) struct Outcome<'a> {
    pub(super) desired: Result<&'a DesiredService, &'a Refusal>,
    pub(super) plan: Decision,
    pub(super) services: Vec<Arc<ObservedService>>,
    pub(super) exposure: exposure::Verdict,
    /// By listener.
    pub(super) certificates: BTreeMap<String, Certificate>,
    /// Why the NetworkPolicy is not as it should be.
    pub(super) refused_policy: Option<PolicyRefusal>,
}

/// One look at a Gateway.
pub(super) struct Reconcile<'a> {
    pub(super) scope: &'a Scope,
    pub(super) gateway: Gateway,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) now: Timestamp,
}

impl<'a> Reconcile<'a> {
    pub(super) fn new(gateway: &Gateway, scope: &'a Scope) -> Self {
        let mut gateway = gateway.clone();
        let uid = gateway.uid().unwrap_or_default();
        // Our own last word, when the watch has not shown it yet.
        let version = gateway
            .resource_version()
            .and_then(|version| version.parse::<u64>().ok());
        let wrote = scope.ctx.attempt(&uid, |attempt| {
            // What the watch has shown need not be remembered.
            attempt.wrote = attempt
                .wrote
                .take()
                .filter(|(wrote, _)| version.is_some_and(|version| version < *wrote));
            attempt.wrote.clone()
        });
        if let Some((_, status)) = wrote {
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

    pub(super) fn ctx(&self) -> &'a Context {
        &self.scope.ctx
    }

    pub(super) async fn reconcile(&self) -> Result<Action, WriteError> {
        if self.gateway.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        self.scope.cache.synced().await;
        let desired = self.desired().await;
        let mut step = 0;
        let (plan, services, exposure) = loop {
            let services = self.scope.cache.services(&self.namespace, &self.uid);
            let exposed = self.exposure(&services).await;
            let applied = self.applied(desired.is_err(), &services);
            let plan = self.decide(desired.as_ref(), &services, (&exposed.public, &applied));
            step += 1;
            if step >= MAX_STEPS || !self.carry_out(&plan).await? {
                break (plan, services, exposed.verdict);
            }
        };
        if desired.is_ok() {
            let settled = Settled::of(&self.gateway, &plan);
            self.ctx().attempt(&self.uid, |attempt| attempt.settled = settled);
        }
        let refused_policy = match &desired {
            Ok(desired) => self.network_policy(desired).await?,
            Err(_) => self.keep_network_policy().await?,
        };
        let outcome = Outcome {
            desired: desired.as_ref(),
            plan,
            services,
            exposure,
            certificates: self.certificates().await?,
            refused_policy,
        };
        Box::pin(self.publish_status(&outcome)).await
    }

    /// Reads what is wanted, with the provider that was named, or is known, or is found.
    async fn desired(&self) -> Result<DesiredService, Refusal> {
        let spec = self.gateway.spec.service.as_ref();
        let named = spec.and_then(|service| service.provider);
        let scope = spec.and_then(|service| service.scope).unwrap_or_default();
        let is_load_balancer = spec.and_then(|service| service.type_).unwrap_or_default() == ServiceType::LoadBalancer;
        let known = || {
            known_provider(
                &self.gateway,
                scope,
                &self.scope.cache.services(&self.namespace, &self.uid),
            )
        };
        let provider = match named.or_else(known) {
            Some(provider) => Ok(provider),
            None if is_load_balancer => {
                self.ctx()
                    .cluster_reader
                    .provider(scope, &self.reader(), self.now)
                    .await
            }
            None => Ok(Provider::Other),
        };
        DesiredService::of(&self.gateway, provider)
    }

    /// This Gateway as a reader of what is watched when it is needed.
    pub(super) fn reader(&self) -> Reader {
        let (cache, namespace, name) = (
            self.scope.cache.clone(),
            self.namespace.clone(),
            self.gateway.name_any(),
        );
        Reader {
            uid: self.uid.clone(),
            wake: Arc::new(move || cache.enqueue(&namespace, &name)),
        }
    }

    /// Last applied content of an accepted spec; used only while the spec is refused.
    fn applied(&self, refused: bool, services: &[Arc<ObservedService>]) -> Applied {
        self.ctx().attempt(&self.uid, |attempt| {
            if !refused {
                attempt.applied = None;
                return Applied::default();
            }
            let settled = attempt.settled;
            let applied = attempt.applied.get_or_insert_default();
            applied.settled = settled;
            applied.see(services);
            applied.clone()
        })
    }

    fn decide(
        &self,
        desired: Result<&DesiredService, &Refusal>,
        services: &[Arc<ObservedService>],
        (public, applied): (&BTreeSet<String>, &Applied),
    ) -> Decision {
        let cache = &self.scope.cache;
        let observed = Observed {
            services,
            foreign: &|name| cache.foreign(&self.namespace, name, (&self.gateway.name_any(), &self.uid)),
            public,
        };
        match desired {
            Ok(desired) => decide::decide(&self.gateway, desired, &observed),
            Err(_) => safeguard(&self.gateway, &observed, applied),
        }
    }

    /// Writes. Gives whether to look again at once.
    async fn carry_out(&self, plan: &Decision) -> Result<bool, WriteError> {
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
                "Service deleted"
            );
        }
        let Some(write) = &plan.write else {
            ctx.attempt(&self.uid, |attempt| attempt.refused = None);
            return Ok(false);
        };
        if ctx.attempt(&self.uid, |attempt| attempt.is_contested(&write.body, self.now)) {
            return Ok(false);
        }
        let creating = (write.uid.is_none() && !write.adopt).then(|| ctx.creating.begin());
        let written = self.write(&api, write).await;
        drop(creating);
        match written {
            Ok(service) => {
                let is_contested = self.is_contested(write, &service);
                ctx.attempt(&self.uid, |attempt| {
                    attempt.refused = None;
                    attempt.failures = 0;
                    if let (Some(applied), Some(uid)) = (&mut attempt.applied, &write.uid) {
                        applied.wrote(uid, &write.body);
                    }
                    attempt.contested = is_contested.then(|| (write.body.clone(), self.now));
                    if write.uid.is_none() {
                        // Not when the look began: the write may have waited for long, and what follows it has not.
                        attempt.made = Some((ctx.now)());
                    }
                });
                self.scope.cache.wrote_service(&service);
                // A consent is used up before anything else happens.
                Ok(!plan.consumed && !is_contested)
            }
            // It was deleted, or recreated, meanwhile: the watch will show it.
            Err(error) if is_refusal(&error) && !(error.is_conflict() && (write.uid.is_some() || write.adopt)) => {
                self.note_refusal(&error.to_string());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn write(&self, api: &Api<Service>, write: &Write) -> Result<Service, WriteError> {
        // Adoption must not create a Service: it may have been deleted meanwhile.
        let adopted = write
            .adopt
            .then(|| self.scope.cache.uid(&self.namespace, &write.name))
            .flatten();
        let target = Target {
            name: &write.name,
            resource_version: None,
            uid: write.uid.as_deref().or(adopted.as_deref()),
        };
        if write.adopt {
            // It may be one of ours that has lost its owner: an apply of so little would give up all the rest.
            return self.ctx().writer.add(api, target, write.body.clone()).await;
        }
        // A new Service must not meet fields of others.
        let conflicts = if write.uid.is_some() {
            Conflicts::Take
        } else {
            Conflicts::Refuse
        };
        self.ctx()
            .writer
            .apply(api, target, write.body.clone(), conflicts)
            .await
    }

    /// Whether another has changed in the same moment what was written.
    fn is_contested(&self, write: &Write, service: &Service) -> bool {
        let live = ObservedService::of(service);
        let contested = !write.adopt && !field_ownership::is_applied(&write.body, &live.value, &live.owned);
        if contested {
            tracing::warn!(
                namespace = self.namespace,
                gateway = self.gateway.name_any(),
                service = write.name,
                "a Service was changed by another client as it was written, perhaps by a webhook; it is written again after {REQUEUE_AFTER:?}"
            );
        }
        contested
    }

    fn note_refusal(&self, message: &str) {
        let generation = self.gateway.metadata.generation;
        self.ctx().attempt(&self.uid, |attempt| {
            attempt.refused = Some((generation, message.to_owned()));
            attempt.failures = attempt.failures.saturating_add(1);
            attempt.made = None;
        });
    }

    /// The API server did not answer, or will let us later.
    pub(super) fn write_failed(&self, error: &WriteError) -> Action {
        if error.is_not_found() || error.reason() == "NamespaceTerminating" {
            return Action::requeue(MAX_BACKOFF);
        }
        let failures = self.ctx().attempt(&self.uid, |attempt| {
            attempt.failures = attempt.failures.saturating_add(1).min(16);
            attempt.failures
        });
        let pause = MIN_BACKOFF
            .saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)))
            .min(REQUEUE_AFTER);
        self.ctx().wait_for_api(&self.namespace, self.gateway.name_any());
        tracing::warn!(namespace = self.namespace, gateway = self.gateway.name_any(), %error, ?pause, "write to the API server failed; it is repeated");
        Action::requeue(pause)
    }
}

/// Returns the provider that the present load balancer was created for: it is not detected otherwise under it.
fn known_provider(gateway: &Gateway, scope: Reach, services: &[Arc<ObservedService>]) -> Option<Provider> {
    let status = gateway.status.as_ref();
    // A status may be lost; the Service says it, too.
    let made = services.iter().find_map(|live| made_for(live));
    let known = status
        .and_then(|status| status.provider)
        .filter(|_| !services.is_empty());
    let provider = known.or(made)?;
    if provider == Provider::Other {
        // It stays so when a provider serves it; else it is decided again.
        let is_served = services.iter().any(|live| !live.ingress.is_empty());
        return (scope == Reach::External && is_served).then_some(provider);
    }
    if scope == Reach::External {
        return Some(provider);
    }
    // It may have been taken for External only, where a guess is enough: that it has come out internal speaks for it, and
    // that its switch was written, unless its nodes look like others' who read another switch.
    let verified = status.is_some_and(|status| {
        conditions::find(&status.conditions, EXPOSURE_VERIFIED)
            .is_some_and(|said| said.status == "True" && said.reason == "Internal")
    });
    let is_internal = |live: &Arc<ObservedService>| {
        annotation_exposure::parse(provider, &live.annotations(), &live.labels(), live.class())
            == provider::Exposure::Internal
    };
    let said = services.iter().any(is_internal);
    let is_known = if is_shared(provider) {
        verified && said
    } else {
        verified || said
    };
    is_known.then_some(provider)
}

/// Returns whether a user has to fix something.
pub(super) fn is_refusal(error: &WriteError) -> bool {
    matches!(error, WriteError::Refused { reason, .. } if matches!(*reason, "Invalid" | "QuotaExceeded" | "Forbidden" | "Conflict"))
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
