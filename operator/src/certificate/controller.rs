//! Carries out what [`plan`](super::plan) decides.

use std::{
    convert::Infallible,
    sync::{Arc, Once},
    time::Duration,
};

use gatehouse_crds::certificate::CertificateStatus;
use jiff::Timestamp;
use kube::{ResourceExt, runtime::controller::Action};

use super::{
    breaker::PastReissue,
    cache::{Cache, Guarded, identity},
    context::Context,
    decide::{Decision, IssuanceReason},
    dependencies,
    desired::{DesiredCertificate, SpecError},
    failure::{Class, Failure, Stopped},
    issue, keystores,
    reconcile::{ObservedSecret, Reconcile},
    renewal_info, rollout,
    secret_writer::{self, SecretContent},
    unreadable,
};
use crate::{
    clock,
    kubernetes::{
        apply::{Target, WriteError},
        conditions,
        events::EventType,
    },
    telemetry::metrics::Issuance,
};

/// Longest pause after writes to the API server failed.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// So many refusals in a row are no passing trouble of the API server.
const MAX_REFUSALS: u32 = 4;
/// Reads of a Secret in one reconcile: it is read once, after its keystores were checked.
const MAX_READS: usize = 3;

/// One scope's reconciles: all namespaces, or one.
pub struct Scope {
    pub ctx: Arc<Context>,
    pub cache: Arc<Cache>,
    recalled: Once,
}

impl Scope {
    /// Returns a scope without reconciles so far.
    pub fn new(ctx: Arc<Context>, cache: Arc<Cache>) -> Self {
        Self {
            ctx,
            cache,
            recalled: Once::new(),
        }
    }

    /// Restores the breaker once from the statuses, after the first lists.
    fn recall(&self, now: Timestamp) {
        self.recalled.call_once(|| {
            let certificates = self.cache.certificates.state();
            let trace = |object: &Arc<Guarded>| {
                let certificate = object.0.as_ref().ok()?;
                let namespace = certificate.namespace().unwrap_or_default();
                issue::recall(&self.ctx, certificate, now);
                let metadata = self.cache.secret(&namespace, &certificate.spec.secret_name);
                let cause = metadata.as_ref().and_then(|metadata| metadata.cause.as_deref());
                Some((certificate.uid()?, PastReissue::of(certificate, cause, now)?))
            };
            let traces = certificates.iter().filter_map(trace).collect();
            let total = self.ctx.total();
            self.ctx.breaker(|breaker| breaker.recall(traces, total, now));
        });
    }
}

/// One look at a Certificate, and one step for it.
pub async fn reconcile(object: Arc<Guarded>, scope: Arc<Scope>) -> Result<Action, Infallible> {
    let started = tokio::time::Instant::now();
    if !scope.cache.synced().await {
        return Ok(Action::await_change());
    }
    let object = match scope.cache.current(object) {
        Ok(object) => object,
        Err(staleness) => return Ok(Action::requeue(staleness)),
    };
    let (action, failed) = match &object.0 {
        Ok(certificate) => {
            let reconcile = Reconcile {
                scope: &scope,
                certificate,
                now: (scope.ctx.now)(),
                changed: false,
                revision: scope.ctx.registry.revision(),
            };
            let outcome = match Box::pin(reconcile.reconcile()).await {
                Ok(action) => (action, false),
                Err(error) => (reconcile.write_failed(&error).await, true),
            };
            // It went while we were at it: what this look has left in memory goes with it.
            let identity = identity(certificate);
            if !scope.cache.has(&identity) {
                issue::gone(&scope.ctx, &identity);
            }
            outcome
        }
        Err(error) => (unreadable::report(&object, &error.to_string(), &scope).await, true),
    };
    scope.ctx.metrics.reconciled("Certificate", started.elapsed(), failed);
    Ok(action)
}

impl Reconcile<'_> {
    async fn reconcile(&self) -> Result<Action, WriteError> {
        let ctx = self.ctx();
        self.scope.recall(self.now);
        let dependent = dependencies::dependent(&self.namespace(), &self.certificate.name_any());
        ctx.dependencies.set(&dependent, dependencies::of(self.certificate));
        let changed = ctx.dependencies.take_change(&dependent);
        let outcome = Reconcile { changed, ..*self }.step().await;
        if changed && outcome.is_err() {
            ctx.dependencies.put_back_change(dependent);
        }
        outcome
    }

    async fn step(&self) -> Result<Action, WriteError> {
        let cache = &self.scope.cache;
        if self.certificate.metadata.deletion_timestamp.is_none()
            && self.certificate.spec.suspend != Some(true)
            && let Some(status) = rollout::resume(self).await
        {
            // Its change brings the next look.
            self.write_status(&status).await?;
            return Ok(Action::requeue(MAX_BACKOFF));
        }
        let desired = DesiredCertificate::parse(&self.certificate.spec);
        let mut observed = ObservedSecret {
            metadata: cache.secret(&self.namespace(), &self.certificate.spec.secret_name),
            is_read: false,
            contents: None,
            passwords: None,
        };
        observed.passwords = self.passwords(&observed).await?;
        for _ in 0..MAX_READS {
            match self.decide(&desired, &observed) {
                Decision::CheckKeystores => {
                    let passwords = observed.passwords.take().unwrap_or_default();
                    if !self.keystores_open(passwords).await? {
                        observed = self.read_secret().await?;
                    }
                }
                Decision::ReadSecret => observed = self.read_secret().await?,
                decision => return Box::pin(self.carry_out(decision, desired, observed)).await,
            }
        }
        // What changed meanwhile comes by the watch.
        Ok(Action::requeue(Duration::from_secs(5)))
    }

    /// The passwords' Secrets that the keystores in the Secret may not be made with.
    async fn passwords(&self, observed: &ObservedSecret) -> Result<Option<String>, WriteError> {
        let own = observed
            .metadata
            .as_ref()
            .is_some_and(|metadata| metadata.certificate == self.certificate.metadata.name);
        if !own {
            return Ok(None);
        }
        let mark = secret_writer::passwords_mark(self).await?;
        Ok(mark.filter(|mark| !self.ctx().passwords_fit(self.uid(), mark)))
    }

    /// Returns whether the keystores in the Secret open with the present passwords: a password's Secret may change
    /// without its password. Passwords that cannot be read change nothing.
    async fn keystores_open(&self, mark: String) -> Result<bool, WriteError> {
        let passwords = match secret_writer::passwords(self).await {
            Ok(passwords) => passwords,
            Err(Stopped::Failed(_)) => return Ok(true),
            Err(Stopped::Api(error)) => return Err(error),
        };
        let open = self.read_data(|data| keystores::open(data, &passwords)).await?;
        if open {
            self.ctx().note_passwords(self.uid(), Some(mark));
        }
        Ok(open)
    }

    async fn carry_out(
        &self,
        decision: Decision,
        desired: Result<DesiredCertificate, SpecError>,
        observed: ObservedSecret,
    ) -> Result<Action, WriteError> {
        let ctx = self.ctx();
        if !matches!(
            decision,
            Decision::Issue(_) | Decision::BackOff { .. } | Decision::ReadSecret | Decision::CheckKeystores
        ) {
            issue::abandon(self, "it is not needed any more").await;
        }
        match decision {
            Decision::Ignore => {
                ctx.forget(self.uid());
                ctx.outages.forget(&identity(self.certificate));
                if self.certificate.metadata.deletion_timestamp.is_none() {
                    self.write_status(&self.status_builder().suspended()).await?;
                }
                Ok(Action::await_change())
            }
            Decision::ReadSecret | Decision::CheckKeystores => Ok(Action::requeue(Duration::from_secs(5))),
            Decision::Refuse(failure) => self.fail(&failure, None).await,
            Decision::BackOff { until: time } => Ok(self.rest(time)),
            Decision::Write => {
                let (Ok(desired), Some(pair)) = (&desired, observed.pair()) else {
                    return Ok(Action::requeue(Duration::from_secs(5)));
                };
                let delivery = SecretContent {
                    desired,
                    pair,
                    metadata: observed.metadata.as_deref(),
                    issuer: None,
                    cause: None,
                };
                match secret_writer::publish(self, &delivery).await {
                    Ok(action) => Ok(action),
                    Err(Stopped::Api(error)) => Err(error),
                    Err(Stopped::Failed(failure)) => self.fail(&failure, None).await,
                }
            }
            Decision::Issue(cause) => match &desired {
                // Boxed: an order's future is large, and most looks need none of it.
                Ok(desired) => Box::pin(issue::issue(self, desired, &observed, cause)).await,
                Err(_) => Ok(Action::await_change()),
            },
            Decision::UpToDate { renewal, next } => {
                ctx.forget(self.uid());
                ctx.outages.forget(&identity(self.certificate));
                let issuer = self.status().issuer.and_then(|issuer| self.ready_issuer(&issuer));
                self.write_status(&self.status_builder().serving(renewal, issuer.as_ref()))
                    .await?;
                Ok(self.rest(next))
            }
            Decision::AskAdvice { renewal } => {
                let Some(status) = Box::pin(renewal_info::ask(self, observed.metadata.as_deref(), renewal)).await
                else {
                    return Ok(Action::requeue(issue::REQUEUE_AFTER));
                };
                self.write_status(&status).await?;
                Ok(Action::requeue(Duration::from_millis(100)))
            }
        }
    }

    /// Writes the status where it differs.
    pub async fn write_status(&self, status: &CertificateStatus) -> Result<(), WriteError> {
        if self.certificate.status.as_ref() == Some(status) {
            return Ok(());
        }
        let ctx = self.ctx();
        let body = serde_json::to_value(status).unwrap_or_default();
        let written = ctx
            .writer
            .apply_status(
                &ctx.certificates(&self.namespace()),
                Target::same(self.certificate),
                body,
            )
            .await?;
        self.scope.cache.await_certificate(&written);
        Ok(())
    }

    /// The attempt failed, and this is its record.
    pub async fn fail(&self, failure: &Failure, cause: Option<IssuanceReason>) -> Result<Action, WriteError> {
        let ctx = self.ctx();
        let before = self.status();
        // A request that came since is answered by this failure, and has to find it: else it would be made again and again.
        let asked_since = |last: Timestamp| {
            super::renewal::requested(self.certificate).is_some_and(|time| last < time && time <= self.now)
        };
        // Reported already, and not due again.
        let next = clock::ATTEMPT.believe(before.next_attempt_time, self.now);
        if let (Some(last), Some(next)) = (&before.last_failure, next)
            && clock::past(Some(last.time), self.now).is_some()
            && !asked_since(last.time)
            && (last.reason.as_str(), last.message.as_str()) == (failure.reason, failure.message.as_str())
            && next > self.now
            && conditions::find(&before.conditions, super::status::ISSUING).is_some_and(|issuing| {
                issuing.status == "False" && issuing.observed_generation == self.certificate.metadata.generation
            })
        {
            return Ok(self.rest(next));
        }
        let status = self.status_builder().failed(failure, cause);
        self.write_status(&status).await?;
        ctx.end_attempt(self.uid());
        ctx.note_failure(self.uid(), self.revision, failure.class);
        let next = status.next_attempt_time.unwrap_or(self.now);
        // Without the time of the next attempt, which is in the status: what is said again and again is one event an hour.
        ctx.publish_event(
            self.certificate,
            EventType::Warning,
            failure.event(),
            &sentence(&failure.message),
        );
        // One outage is one failure, and those that wait for its end are none.
        if matches!(failure.class, Class::Held(_)) {
            return Ok(self.rest(next));
        }
        let issuer = &self.certificate.spec.issuer_ref;
        ctx.metrics.issuance(Issuance {
            issuer_kind: issuer.kind().as_str(),
            issuer: &issuer.name,
            reason: failure.reason,
            took: None,
        });
        tracing::warn!(namespace = self.namespace(), certificate = self.certificate.name_any(), reason = failure.reason, detail = failure.message, %next, "issuance failed");
        Ok(self.rest(next))
    }

    /// A write or read of ours failed. It is tried again soon, without a word in the status at first,
    /// which could not be written either; a lasting refusal of the API server is reported.
    async fn write_failed(&self, error: &WriteError) -> Action {
        if error.reason() == "NamespaceTerminating"
            && let Ok(action) = self.fail(&terminating(&self.namespace()), None).await
        {
            return action;
        }
        if error.is_not_found() || error.reason() == "NamespaceTerminating" {
            // Most likely it is deleted; an API server that starts may say so of existing objects, too.
            return Action::requeue(MAX_BACKOFF);
        }
        let count = self.ctx().attempt(self.uid(), |attempt| {
            attempt.write_failures = attempt.write_failures.saturating_add(1).min(16);
            attempt.write_failures
        });
        if let Some(failure) = lasting(error, count)
            && let Ok(action) = self.fail(&failure, None).await
        {
            return action;
        }
        self.ctx().wait_for_api(self.certificate);
        let pause = Duration::from_millis(500)
            .saturating_mul(2u32.saturating_pow(count))
            .min(MAX_BACKOFF);
        tracing::warn!(namespace = self.namespace(), certificate = self.certificate.name_any(), %error, ?pause, "write to the API server failed; it is repeated");
        Action::requeue(pause)
    }
}

/// Returns the failure that a user has to fix before the API server accepts the write: missing rights at once, other refusals
/// when they last.
fn lasting(error: &WriteError, count: u32) -> Option<Failure> {
    let WriteError::Refused { reason, .. } = error else {
        return None;
    };
    let patience = if *reason == "Forbidden" { 1 } else { MAX_REFUSALS };
    (!error.is_conflict() && count >= patience).then(|| Failure::new(Class::Transient, reason, error.to_string()))
}

/// Returns the failure of a Certificate whose namespace is being deleted: it is not counted, and raises no alert.
fn terminating(namespace: &str) -> Failure {
    Failure::new(
        Class::Held(MAX_BACKOFF),
        "SecretWriteFailed",
        format!(
            "Namespace {namespace} is being deleted, so that no Secret can be made in it; create the Certificate in another namespace."
        ),
    )
}

/// A message with its full stop.
pub fn sentence(message: &str) -> String {
    let message = message.trim();
    if message.ends_with(['.', '!', '?']) {
        message.to_owned()
    } else {
        format!("{message}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_being_deleted_is_named_and_is_no_failure_to_count() {
        let failure = terminating("shop");
        assert!(failure.message.contains("Namespace shop is being deleted"), "{failure}");
        assert!(matches!(failure.class, Class::Held(_)), "neither counted nor an alert");
        assert!(!failure.may_fall_back());
    }

    #[test]
    fn what_the_api_server_goes_on_refusing_is_told() {
        let refused = |reason| WriteError::Refused {
            object: "Secret web-tls".into(),
            code: 500,
            reason,
            message: "no".into(),
        };
        let unreachable = WriteError::Unreachable {
            object: "Secret web-tls".into(),
            message: "no".into(),
        };
        for (error, count, reported) in [
            (refused("Forbidden"), 1, Some("Forbidden")),
            (refused("ServerError"), 1, None),
            (refused("ServerError"), MAX_REFUSALS, Some("ServerError")),
            (refused("Conflict"), 16, None),
            (unreachable, 16, None),
        ] {
            assert_eq!(
                lasting(&error, count).map(|failure| failure.reason),
                reported,
                "{error} {count}"
            );
        }
    }
}
