//! Gets a new certificate: chooses the issuer, and takes the next step at it.

use std::{sync::Arc, time::Duration};

use gatehouse_crds::certificate::{Certificate, IssuerRef, SigningAuthority};
use kube::{ResourceExt, runtime::controller::Action};

use super::{
    acme::Acme,
    backoff,
    breaker::Admission,
    cache::identity,
    context::{Context, uid_of, until},
    controller::sentence,
    decide::{self, IssuanceReason},
    dependencies,
    desired::DesiredCertificate,
    failure::{Class, Failure, Stopped},
    fallback,
    issuer_choice::{self, Choice},
    observed_secret::KeyPair,
    order::InFlightOrder,
    order_key,
    reconcile::{ObservedSecret, Reconcile},
    secret_writer::{self, SecretContent, SignedBy},
    signing,
    status::keeps_order,
};
use crate::{
    issuer::registry::{CaSigner, Key, Signer, State},
    kubernetes::{apply::WriteError, events::EventType},
    pki::{KeyParameters, PrivateKey},
    telemetry::metrics::Issuance,
};

/// Longest time until an order in progress is checked again.
pub const REQUEUE_AFTER: Duration = Duration::from_secs(60);

/// One step towards a new certificate.
pub async fn issue(
    reconcile: &Reconcile<'_>,
    desired: &DesiredCertificate,
    observed: &ObservedSecret,
    cause: IssuanceReason,
) -> Result<Action, WriteError> {
    let ctx = reconcile.ctx();
    // What goes to a CA or a name server is a write as well.
    ctx.writer.check()?;
    let is_unrequested = cause.is_unrequested() && !decide::is_requested(reconcile.certificate, reconcile.now);
    // Asked once for an attempt, however many steps it takes, and restarts.
    let under_way =
        || ctx.orders.has(reconcile.uid()) || reconcile.status().acme.is_some_and(|acme| acme.order_url.is_some());
    if is_unrequested && !under_way() && !ctx.attempt(reconcile.uid(), |attempt| attempt.passed) {
        let total = ctx.total();
        if let Admission::Held { until } = ctx.breaker(|breaker| breaker.ask(reconcile.uid(), total, reconcile.now)) {
            return hold(reconcile, cause, until).await;
        }
        ctx.attempt(reconcile.uid(), |attempt| attempt.passed = true);
    }
    let issuers: Vec<IssuerRef> = issuers(reconcile.certificate).cloned().collect();
    let index = ctx.attempt(reconcile.uid(), |attempt| attempt.issuer.min(issuers.len() - 1));
    let Some(reference) = issuers.get(index) else {
        return Ok(Action::await_change());
    };
    let issuer = Key::of(reference, &reconcile.namespace());
    let waited = ctx.attempt(reconcile.uid(), |attempt| attempt.since.elapsed());
    let signer = match issuer_choice::choose(&issuer, ctx.registry.get(&issuer), waited, ctx.cluster_issuers) {
        Choice::Sign(signer) => signer,
        Choice::Wait(time) => return Ok(Action::requeue(time)),
        Choice::Fail(failure) => return fall_back_or_fail(reconcile, &issuers, failure, cause).await,
    };
    let authority = signer.authority();
    let outcome = match signer {
        Signer::Ca(ca) => by_ca(reconcile, desired, observed, cause, (&issuer, &ca, authority)).await,
        Signer::SelfSigned => by_itself(reconcile, desired, observed, cause, (&issuer, authority)).await,
        Signer::Acme(signer) => {
            let step = Acme {
                reconcile,
                desired,
                observed,
                cause,
                issuer: &issuer,
                signer,
            }
            .step();
            Box::pin(step).await
        }
    };
    match outcome {
        Ok(action) => Ok(action),
        Err(Stopped::Api(error)) => Err(error),
        Err(Stopped::Failed(failure)) => fall_back_or_fail(reconcile, &issuers, failure, cause).await,
    }
}

/// Signs with a CA in this process.
async fn by_ca(
    reconcile: &Reconcile<'_>,
    desired: &DesiredCertificate,
    observed: &ObservedSecret,
    cause: IssuanceReason,
    (issuer, ca, authority): (&Key, &CaSigner, SigningAuthority),
) -> Result<Action, Stopped> {
    if let Some(failure) = signing::in_vain(issuer, ca, cause, reconcile.status().not_after) {
        return Err(failure.into());
    }
    let Ok(permit) = reconcile.ctx().writes.acquire().await else {
        return Ok(Action::await_change());
    };
    let key = generate(reconcile, desired, observed, cause).await?;
    let pair = signing::by_ca(ca, desired, key, reconcile.now)?;
    drop(permit);
    deliver(reconcile, desired, observed, cause, pair, at_once(issuer, authority)).await
}

/// Signs with the certificate's own key.
async fn by_itself(
    reconcile: &Reconcile<'_>,
    desired: &DesiredCertificate,
    observed: &ObservedSecret,
    cause: IssuanceReason,
    (issuer, authority): (&Key, SigningAuthority),
) -> Result<Action, Stopped> {
    let key = generate(reconcile, desired, observed, cause).await?;
    let pair = signing::by_itself(desired, key, reconcile.now)?;
    deliver(reconcile, desired, observed, cause, pair, at_once(issuer, authority)).await
}

/// Returns whether the issuer that is asked next spends an order.
pub fn spends_order(reconcile: &Reconcile<'_>) -> bool {
    let index = reconcile.ctx().attempt(reconcile.uid(), |attempt| attempt.issuer);
    let reference = issuers(reconcile.certificate).nth(index);
    reference.is_some_and(|reference| {
        let state = reconcile
            .ctx()
            .registry
            .get(&Key::of(reference, &reconcile.namespace()));
        matches!(state, Some(State::Ready(Signer::Acme(_))))
    })
}

/// The issuers of a certificate, in the order in which they are asked.
pub fn issuers(certificate: &Certificate) -> impl Iterator<Item = &IssuerRef> {
    std::iter::once(&certificate.spec.issuer_ref).chain(&certificate.spec.fallback_issuer_refs)
}

/// The breaker holds it: said once, and asked again when it may go.
async fn hold(reconcile: &Reconcile<'_>, cause: IssuanceReason, until: jiff::Timestamp) -> Result<Action, WriteError> {
    let status = reconcile.status_builder().held(cause, until);
    if reconcile.certificate.status.as_ref() != Some(&status) {
        reconcile.write_status(&status).await?;
        reconcile.ctx().publish_event(
            reconcile.certificate,
            EventType::Warning,
            "IssuanceFailed",
            &format!(
                "Held until {until}: too many certificates would be issued again at once, since {}.",
                cause.because()
            ),
        );
    }
    Ok(reconcile.rest(decide::or_requested(reconcile.certificate, reconcile.now, until)))
}

/// The issuer cannot or will not: the next one is asked when that is due, and else the attempt has failed.
async fn fall_back_or_fail(
    reconcile: &Reconcile<'_>,
    issuers: &[IssuerRef],
    failure: Failure,
    cause: IssuanceReason,
) -> Result<Action, WriteError> {
    let ctx = reconcile.ctx();
    let (said, index) = ctx.attempt(reconcile.uid(), |attempt| (attempt.refusals.clone(), attempt.issuer));
    if let Some(next) = issuers.get(index + 1)
        && falls_back(reconcile, &failure, cause)
    {
        abandon(reconcile, "the next issuer is asked").await;
        let note = format!(
            "{} {} {} is asked instead.",
            sentence(&failure.message),
            next.kind(),
            next.name
        );
        let queued = ctx.attempt(reconcile.uid(), |attempt| {
            attempt.issuer = index + 1;
            attempt.refusals.push(failure.clone());
            attempt.queued.take()
        });
        if let Some((signer, name)) = queued {
            ctx.leave(&signer, &name);
        }
        ctx.publish_event(reconcile.certificate, EventType::Warning, "FallbackIssuer", &note);
        return Ok(Action::requeue(Duration::ZERO));
    }
    // An order that was only interrupted stays where it is, unless others were asked before: the next attempt begins with the first.
    if !(ctx.orders.has_landed(reconcile.uid()) || said.is_empty() && keeps_order(failure.class)) {
        abandon(reconcile, "it failed").await;
    }
    reconcile.fail(&together(failure, &said), Some(cause)).await
}

/// Whether the next issuer is asked after this failure.
fn falls_back(reconcile: &Reconcile<'_>, failure: &Failure, cause: IssuanceReason) -> bool {
    let status = reconcile.status();
    let attempts = status.failed_attempts.unwrap_or_default().saturating_add(1);
    let attempts = u32::try_from(attempts).unwrap_or(1);
    let serves = reconcile.status_builder().serving_until(cause).and_then(|end| {
        // Its lifetime, and what is left of it.
        fallback::serves(status.not_before, Some(end), reconcile.now)
    });
    let next = backoff::next_attempt(failure.class, attempts, status.not_after, 0, reconcile.now);
    fallback::is_due(&fallback::Attempt {
        failure,
        failures: failure
            .tries
            .max(reconcile.ctx().pause(reconcile.uid()).failures.saturating_add(1)),
        serves,
        pause: until(next, reconcile.now),
    })
}

/// Combines the failures of several issuers. The longest requested pause applies: a CA that refused is not
/// asked sooner because another could not be reached.
fn together(mut failure: Failure, before: &[Failure]) -> Failure {
    for other in before {
        failure.message = format!("{}; before that: {}", failure.message, other.message);
        failure.class = match (failure.class, other.class) {
            (Class::RetryAfter(one), Class::RetryAfter(other)) => Class::RetryAfter(one.max(other)),
            (Class::RetryAfter(wait), _) | (_, Class::RetryAfter(wait)) => Class::RetryAfter(wait),
            (Class::Refused, _) | (_, Class::Refused) => Class::Refused,
            // All were away, or nothing was tried: it counts when it did for one of them.
            (Class::Held(_) | Class::Waiting(_), other @ Class::Away(_)) => other,
            (class, _) => class,
        };
    }
    failure
}

/// Takes up what a status says of a CA that was away before this process.
pub fn recall(ctx: &Context, certificate: &Certificate, now: jiff::Timestamp) {
    let Some(status) = &certificate.status else { return };
    let away = status
        .last_failure
        .as_ref()
        .is_some_and(|last| last.reason == "Network");
    if away && status.next_attempt_time.is_some_and(|next| next > now) {
        let namespace = certificate.namespace().unwrap_or_default();
        ctx.outages.recall(
            &Key::of(&certificate.spec.issuer_ref, &namespace),
            &identity(certificate),
            status.failed_attempts.is_some_and(|count| count > 0),
            tokio::time::Instant::now(),
        );
    }
}

/// The key to be certified. One that is to be kept is read from the Secret.
pub async fn generate(
    reconcile: &Reconcile<'_>,
    desired: &DesiredCertificate,
    observed: &ObservedSecret,
    cause: IssuanceReason,
) -> Result<Arc<PrivateKey>, Stopped> {
    let mut kept = observed.pair().map(|pair| pair.key.clone());
    // A certificate that cannot be read takes no key with it.
    if desired.keep_key && kept.is_none() && observed.metadata.is_some() && cause != IssuanceReason::Consent {
        kept = reconcile.read_key().await?;
    }
    if let Some(key) = kept.filter(|key| desired.keep_key && key.parameters() == desired.key) {
        return Ok(key);
    }
    let parameters = desired.key;
    let made = if let KeyParameters::Rsa(_) = parameters {
        // Seconds of arithmetic, which would hold up the others.
        tokio::task::spawn_blocking(move || PrivateKey::generate(parameters))
            .await
            .map_err(|_| "the key could not be made".to_owned())
            .and_then(|made| made.map_err(|error| error.to_string()))
    } else {
        PrivateKey::generate(parameters).map_err(|error| error.to_string())
    };
    made.map(Arc::new)
        .map_err(|message| Failure::new(Class::Transient, "KeyGenerationFailed", message).into())
}

/// Signed by an issuer in this process.
fn at_once(issuer: &Key, authority: SigningAuthority) -> SignedBy {
    SignedBy {
        issuer: issuer.signing(),
        authority,
        ordered: false,
        gives_advice: false,
        certificate_url: None,
    }
}

/// Brings a signed pair home, and counts it.
pub async fn deliver(
    reconcile: &Reconcile<'_>,
    desired: &DesiredCertificate,
    observed: &ObservedSecret,
    cause: IssuanceReason,
    pair: KeyPair,
    by: SignedBy,
) -> Result<Action, Stopped> {
    let delivery = SecretContent {
        desired,
        pair: &pair,
        metadata: observed.metadata.as_deref(),
        issuer: Some(&by),
        cause: Some(cause),
    };
    let action = secret_writer::publish(reconcile, &delivery).await?;
    let took = reconcile
        .ctx()
        .end_attempt(reconcile.uid())
        .map(|attempt| attempt.since.elapsed());
    reconcile.ctx().forget(reconcile.uid());
    reconcile.ctx().outages.forget(&queue_key(reconcile));
    let reason = if reconcile.status().revision.is_some() {
        "Renewed"
    } else {
        "Issued"
    };
    reconcile.ctx().metrics.issuance(Issuance {
        issuer_kind: by.issuer.kind.as_str(),
        issuer: &by.issuer.name,
        reason,
        took: Some(took.unwrap_or_default()),
    });
    Ok(action)
}

/// Gives up an order that is in flight, if there is one: answers are taken away, and the next in the queue may go.
pub async fn abandon(reconcile: &Reconcile<'_>, why: &str) {
    if let Some(mut flight) = reconcile.ctx().orders.take(reconcile.uid()) {
        tracing::info!(
            namespace = reconcile.namespace(),
            certificate = reconcile.certificate.name_any(),
            order = flight.url(),
            why,
            "order abandoned"
        );
        end(reconcile, &mut flight);
        order_key::delete(reconcile).await;
    } else if reconcile.status().acme.is_some_and(|acme| acme.order_url.is_some()) {
        // Of before a restart: its key at least is not left lying about.
        order_key::delete(reconcile).await;
    }
}

/// An order has ended: answers are taken away, and the next in the queue may go.
pub fn end(reconcile: &Reconcile<'_>, flight: &mut InFlightOrder) {
    flight.clean_up();
    reconcile.ctx().leave(&flight.signer, &queue_key(reconcile));
}

/// A Certificate is gone, by its key in the queue: so is what was under way for it.
pub fn gone(ctx: &Context, key: &str) {
    let uid = uid_of(key);
    let mut parts = key.split('/');
    if let (Some(namespace), Some(name)) = (parts.next(), parts.next())
        // One of the same name may have come in its place.
        && !ctx.caches.iter().any(|cache| cache.has_named(namespace, name))
    {
        ctx.dependencies.forget(&dependencies::dependent(namespace, name));
    }
    ctx.forget(uid);
    ctx.rollouts(|rollouts| rollouts.remove(uid));
    ctx.outages.forget(key);
    ctx.slots.forget(key.split('/').next().unwrap_or_default(), key);
    ctx.note_passwords(uid, None);
    if let Some(mut flight) = ctx.orders.take(uid) {
        flight.clean_up();
        ctx.leave(&flight.signer, key);
    }
}

/// Its name in the queue of an account.
pub fn queue_key(reconcile: &Reconcile<'_>) -> String {
    identity(reconcile.certificate)
}
