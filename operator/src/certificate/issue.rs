//! Gets a new certificate: chooses the issuer, and takes the next step at it.

use std::{sync::Arc, time::Duration};

use gatehouse_crds::certificate::{Certificate, IssuerRef, SigningAuthority};
use kube::{ResourceExt, runtime::controller::Action};

use super::{
    acme::Acme,
    backoff,
    breaker::Verdict,
    cache::identity,
    context::{Context, uid_of, until},
    controller::sentence,
    delivery::{self, Delivery, Signed},
    dependencies,
    failure::{Class, Failure},
    fallback,
    holding::Held,
    look::{Known, Look},
    order::Flight,
    order_key,
    outcome::keeps_order,
    plan::{self, Cause},
    signing,
    wanted::Wanted,
};
use crate::{
    issuer::registry::{Key, Signer, State},
    kubernetes::{apply::WriteError, events::EventType},
    pki::{KeyParameters, PrivateKey},
    telemetry::metrics::Issuance,
};

/// An issuer that is not known yet may be on its way: applied a moment later, or not yet listed.
const GRACE: Duration = Duration::from_secs(1);
/// An order in flight is looked at again at least this often.
pub const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// One step towards a new certificate.
pub async fn obtain(look: &Look<'_>, wanted: &Wanted, known: &Known, cause: Cause) -> Result<Action, WriteError> {
    let ctx = look.ctx();
    // What goes to a CA or a name server is a write as well.
    ctx.writer.check()?;
    let is_unasked = cause.is_unasked() && !plan::is_requested(look.certificate, look.now);
    // Asked once for an attempt, however many steps it takes, and restarts.
    let under_way = || ctx.orders.has(look.uid()) || look.status().acme.is_some_and(|acme| acme.order_url.is_some());
    if is_unasked && !under_way() && !ctx.attempt(look.uid(), |attempt| attempt.passed) {
        let total = ctx.total();
        if let Verdict::Held { until } = ctx.breaker(|breaker| breaker.ask(look.uid(), total, look.now)) {
            return hold(look, cause, until).await;
        }
        ctx.attempt(look.uid(), |attempt| attempt.passed = true);
    }
    let issuers: Vec<IssuerRef> = issuers(look.certificate).cloned().collect();
    let index = ctx.attempt(look.uid(), |attempt| attempt.issuer.min(issuers.len() - 1));
    let Some(reference) = issuers.get(index) else {
        return Ok(Action::await_change());
    };
    let issuer = Key::of(reference, &look.namespace());
    let signer = match ctx.registry.get(&issuer) {
        Some(State::Ready(signer)) => signer,
        Some(State::Examining) => return Ok(Action::requeue(LOOK_AGAIN)),
        Some(State::Refused(message)) => {
            let message = format!("{issuer} cannot sign: {message}");
            let failure = Failure::new(Class::Refused, "IssuerNotReady", message);
            return refused(look, &issuers, failure, cause).await;
        }
        Some(State::NotReady(message)) => {
            let failure = not_ready(format!("{issuer} cannot sign: {message}"));
            return refused(look, &issuers, failure, cause).await;
        }
        None if ctx.attempt(look.uid(), |attempt| attempt.since.elapsed()) < GRACE => {
            return Ok(Action::requeue(GRACE / 4));
        }
        None => {
            let failure = not_ready(missing(look, &issuer));
            return refused(look, &issuers, failure, cause).await;
        }
    };
    let authority = signer.authority();
    let outcome = match signer {
        Signer::Ca(ca) if let Some(failure) = signing::in_vain(&issuer, &ca, cause, look.status().not_after) => {
            Err(failure)
        }
        Signer::Ca(ca) => {
            let Ok(permit) = ctx.writes.acquire().await else {
                return Ok(Action::await_change());
            };
            let signed = match generate(look, wanted, known, cause).await? {
                Ok(key) => signing::by_ca(&ca, wanted, key, look.now),
                Err(failure) => Err(failure),
            };
            drop(permit);
            deliver(look, wanted, known, cause, signed, at_once(&issuer, authority)).await?
        }
        Signer::SelfSigned => {
            let signed = match generate(look, wanted, known, cause).await? {
                Ok(key) => signing::by_itself(wanted, key, look.now),
                Err(failure) => Err(failure),
            };
            deliver(look, wanted, known, cause, signed, at_once(&issuer, authority)).await?
        }
        Signer::Acme(signer) => {
            let step = Acme {
                look,
                wanted,
                known,
                cause,
                issuer: &issuer,
                signer,
            }
            .step();
            Box::pin(step).await?
        }
    };
    match outcome {
        Ok(action) => Ok(action),
        Err(failure) => refused(look, &issuers, failure, cause).await,
    }
}

/// Whether the issuer that is asked next spends an order.
pub fn orders(look: &Look<'_>) -> bool {
    let index = look.ctx().attempt(look.uid(), |attempt| attempt.issuer);
    let reference = issuers(look.certificate).nth(index);
    reference.is_some_and(|reference| {
        let state = look.ctx().registry.get(&Key::of(reference, &look.namespace()));
        matches!(state, Some(State::Ready(Signer::Acme(_))))
    })
}

/// The issuers of a certificate, in the order in which they are asked.
pub fn issuers(certificate: &Certificate) -> impl Iterator<Item = &IssuerRef> {
    std::iter::once(&certificate.spec.issuer_ref).chain(&certificate.spec.fallback_issuer_refs)
}

fn not_ready(message: String) -> Failure {
    Failure::new(Class::Waiting(Duration::from_secs(300)), "IssuerNotReady", message)
}

fn missing(look: &Look<'_>, issuer: &Key) -> String {
    use gatehouse_crds::certificate::IssuerKind::{ClusterIssuer, Issuer};
    match issuer.kind {
        Issuer => format!(
            "there is no Issuer {} in namespace {}; make it, or correct spec.issuerRef (kind: ClusterIssuer names one for the whole cluster)",
            issuer.name, issuer.namespace
        ),
        ClusterIssuer if look.ctx().cluster_issuers => format!(
            "there is no ClusterIssuer {}; make it, or correct spec.issuerRef",
            issuer.name
        ),
        ClusterIssuer => format!(
            "this operator looks after single namespaces (--namespace) and cannot read ClusterIssuer {}; use an Issuer",
            issuer.name
        ),
    }
}

/// The breaker holds it: said once, and asked again when it may go.
async fn hold(look: &Look<'_>, cause: Cause, until: jiff::Timestamp) -> Result<Action, WriteError> {
    let status = look.before().held(cause, until);
    if look.certificate.status.as_ref() != Some(&status) {
        look.write_status(&status).await?;
        look.ctx().tell(
            look.certificate,
            EventType::Warning,
            "IssuanceFailed",
            &format!(
                "Held until {until}: too many certificates would be issued again at once, since {}.",
                cause.because()
            ),
        );
    }
    Ok(look.rest(plan::or_requested(look.certificate, look.now, until)))
}

/// The issuer cannot or will not: the next one is asked when that is due, and else the attempt has failed.
async fn refused(look: &Look<'_>, issuers: &[IssuerRef], failure: Failure, cause: Cause) -> Result<Action, WriteError> {
    let ctx = look.ctx();
    let (said, index) = ctx.attempt(look.uid(), |attempt| (attempt.refusals.clone(), attempt.issuer));
    if let Some(next) = issuers.get(index + 1)
        && falls_back(look, &failure, cause)
    {
        abandon(look, "the next issuer is asked").await;
        let note = format!(
            "{} {} {} is asked instead.",
            sentence(&failure.message),
            next.kind(),
            next.name
        );
        let queued = ctx.attempt(look.uid(), |attempt| {
            attempt.issuer = index + 1;
            attempt.refusals.push(failure.clone());
            attempt.queued.take()
        });
        if let Some((signer, name)) = queued {
            ctx.leave(&signer, &name);
        }
        ctx.tell(look.certificate, EventType::Warning, "FallbackIssuer", &note);
        return Ok(Action::requeue(Duration::ZERO));
    }
    // An order that was only interrupted stays where it is, unless others were asked before: the next attempt begins with the first.
    if !(ctx.orders.has_landed(look.uid()) || said.is_empty() && keeps_order(failure.class)) {
        abandon(look, "it failed").await;
    }
    look.fail(&together(failure, &said), Some(cause)).await
}

/// Whether the next issuer is asked after this failure.
fn falls_back(look: &Look<'_>, failure: &Failure, cause: Cause) -> bool {
    let status = look.status();
    let attempts = status.failed_attempts.unwrap_or_default().saturating_add(1);
    let attempts = u32::try_from(attempts).unwrap_or(1);
    let serves = look.before().serving_until(cause).and_then(|end| {
        // Its lifetime, and what is left of it.
        fallback::serves(status.not_before, Some(end), look.now)
    });
    let next = backoff::next_attempt(failure.class, attempts, status.not_after, 0, look.now);
    fallback::is_due(&fallback::Attempt {
        failure,
        failures: failure
            .tries
            .max(look.ctx().pause(look.uid()).failures.saturating_add(1)),
        serves,
        pause: until(next, look.now),
    })
}

/// What several issuers said, as one failure. The one that asks for the longest pause has it: a CA that said no is not
/// asked sooner because another could not be reached.
fn together(mut failure: Failure, before: &[Failure]) -> Failure {
    for other in before {
        failure.message = format!("{}; before that: {}", failure.message, other.message);
        failure.class = match (failure.class, other.class) {
            (Class::RetryAfter(one), Class::RetryAfter(other)) => Class::RetryAfter(one.max(other)),
            (Class::RetryAfter(told), _) | (_, Class::RetryAfter(told)) => Class::RetryAfter(told),
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
    look: &Look<'_>,
    wanted: &Wanted,
    known: &Known,
    cause: Cause,
) -> Result<Result<Arc<PrivateKey>, Failure>, WriteError> {
    let mut kept = known.held().map(|held| held.key.clone());
    // A certificate that cannot be read takes no key with it.
    if wanted.keep_key && kept.is_none() && known.facts.is_some() && cause != Cause::Consent {
        kept = look.read_key().await?;
    }
    if let Some(key) = kept.filter(|key| wanted.keep_key && key.parameters() == wanted.key) {
        return Ok(Ok(key));
    }
    let parameters = wanted.key;
    let made = if let KeyParameters::Rsa(_) = parameters {
        // Seconds of arithmetic, which would hold up the others.
        tokio::task::spawn_blocking(move || PrivateKey::generate(parameters))
            .await
            .map_err(|_| "the key could not be made".to_owned())
            .and_then(|made| made.map_err(|error| error.to_string()))
    } else {
        PrivateKey::generate(parameters).map_err(|error| error.to_string())
    };
    Ok(made
        .map(Arc::new)
        .map_err(|message| Failure::new(Class::Transient, "KeyGenerationFailed", message)))
}

/// Signed by an issuer in this process.
fn at_once(issuer: &Key, authority: SigningAuthority) -> Signed {
    Signed {
        issuer: issuer.signing(),
        authority,
        ordered: false,
        gives_advice: false,
        certificate_url: None,
    }
}

/// Brings a signed pair home, and counts it.
pub async fn deliver(
    look: &Look<'_>,
    wanted: &Wanted,
    known: &Known,
    cause: Cause,
    signed: Result<Held, Failure>,
    by: Signed,
) -> Result<Result<Action, Failure>, WriteError> {
    let held = match signed {
        Ok(held) => held,
        Err(failure) => return Ok(Err(failure)),
    };
    let delivery = Delivery {
        wanted,
        held: &held,
        facts: known.facts.as_deref(),
        issuer: Some(&by),
        cause: Some(cause),
    };
    let outcome = delivery::deliver(look, &delivery).await?;
    if outcome.is_ok() {
        let took = look
            .ctx()
            .end_attempt(look.uid())
            .map(|attempt| attempt.since.elapsed());
        look.ctx().forget(look.uid());
        look.ctx().outages.forget(&queue_key(look));
        let reason = if look.status().revision.is_some() {
            "Renewed"
        } else {
            "Issued"
        };
        look.ctx().metrics.issuance(Issuance {
            issuer_kind: by.issuer.kind.as_str(),
            issuer: &by.issuer.name,
            reason,
            took: Some(took.unwrap_or_default()),
        });
    }
    Ok(outcome)
}

/// Gives up an order that is in flight, if there is one: answers are taken away, and the next in the queue may go.
pub async fn abandon(look: &Look<'_>, why: &str) {
    if let Some(mut flight) = look.ctx().orders.take(look.uid()) {
        tracing::info!(
            namespace = look.namespace(),
            certificate = look.certificate.name_any(),
            order = flight.url(),
            why,
            "an order is given up"
        );
        end(look, &mut flight);
        order_key::delete(look).await;
    } else if look.status().acme.is_some_and(|acme| acme.order_url.is_some()) {
        // Of before a restart: its key at least is not left lying about.
        order_key::delete(look).await;
    }
}

/// An order has ended: answers are taken away, and the next in the queue may go.
pub fn end(look: &Look<'_>, flight: &mut Flight) {
    flight.clean_up();
    look.ctx().leave(&flight.signer, &queue_key(look));
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
pub fn queue_key(look: &Look<'_>) -> String {
    identity(look.certificate)
}
