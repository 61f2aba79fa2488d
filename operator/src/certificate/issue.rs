//! Gets a new certificate: chooses the issuer, and takes the next step at it.

use std::{sync::Arc, time::Duration};

use gatehouse_crds::certificate::{Certificate, IssuerRef};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Resource, ResourceExt, api::ListParams, runtime::controller::Action};
use tokio::time::Instant;

use super::{
    breaker::Verdict,
    cache::{Cache, identity},
    context::Context,
    controller::{Known, Look, sentence},
    delivery::{self, Delivery, Signed},
    failure::{Class, Failure},
    holding::Held,
    order::{self, Flight, Progress},
    outcome::{Order, keeps_order},
    plan::{self, Cause},
    signing,
    wanted::Wanted,
};
use crate::{
    issuer::{
        acme::{self, Admission, Endpoint},
        registry::{Key, Signer, State},
        signer::AcmeSigner,
    },
    kubernetes::{
        apply::{Conflicts, Target, WriteError},
        events::EventType,
        names,
    },
    pki::{KeyEncoding, KeyParameters, PrivateKey},
    telemetry::metrics::Issuance,
};

/// An issuer that is not known yet may be on its way: applied a moment later, or not yet listed.
const GRACE: Duration = Duration::from_secs(1);
/// A state that lasts longer than this is worth a write to the status.
const WORTH_TELLING: Duration = Duration::from_secs(2);
/// An order that could not be taken up again so often is given up for a new one, where that can be placed.
const LOST_AFTER: i32 = 2;
/// An order in flight is looked at again at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

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
            deliver(look, wanted, known, cause, signed, at_once(&issuer)).await?
        }
        Signer::SelfSigned => {
            let signed = match generate(look, wanted, known, cause).await? {
                Ok(key) => signing::by_itself(wanted, key, look.now),
                Err(failure) => Err(failure),
            };
            deliver(look, wanted, known, cause, signed, at_once(&issuer)).await?
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

/// The issuer cannot or will not: the next one is asked, and when there is none the attempt has failed.
async fn refused(look: &Look<'_>, issuers: &[IssuerRef], failure: Failure, cause: Cause) -> Result<Action, WriteError> {
    let ctx = look.ctx();
    let (said, index) = ctx.attempt(look.uid(), |attempt| (attempt.refusals.clone(), attempt.issuer));
    if failure.may_fall_back()
        && let Some(next) = issuers.get(index + 1)
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
            attempt.refusals.push(failure.message.clone());
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
    let mut failure = failure;
    if !said.is_empty() {
        failure.message = format!("{}; before that: {}", failure.message, said.join("; "));
        // What a CA told us to wait is never shortened.
        if failure.class == Class::Transient {
            failure.class = Class::Refused;
        }
    }
    look.fail(&failure, Some(cause)).await
}

/// The key to be certified. One that is to be kept is read from the Secret.
async fn generate(
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
fn at_once(issuer: &Key) -> Signed {
    Signed {
        issuer: issuer.signing(),
        ordered: false,
        gives_advice: false,
    }
}

/// Brings a signed pair home, and counts it.
async fn deliver(
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
        delete_key(look).await;
    } else if look.status().acme.is_some_and(|acme| acme.order_url.is_some()) {
        // Of before a restart: its key at least is not left lying about.
        delete_key(look).await;
    }
}

/// An order has ended: answers are taken away, and the next in the queue may go.
fn end(look: &Look<'_>, flight: &mut Flight) {
    flight.clean_up();
    look.ctx().leave(&flight.signer, &queue_key(look));
}

/// An order that pauses takes nobody's place, or a few that go on failing would hold up all the others.
/// It takes its own again with its next step.
fn pause(look: &Look<'_>, flight: Flight) {
    look.ctx().leave(&flight.signer, &queue_key(look));
    look.ctx().orders.put(look.uid(), flight);
}

/// A Certificate is gone, by its key in the queue: so is what was under way for it.
pub fn gone(ctx: &Context, key: &str) {
    let uid = key.rsplit('/').next().unwrap_or_default();
    ctx.forget(uid);
    if let Some(mut flight) = ctx.orders.take(uid) {
        flight.clean_up();
        ctx.leave(&flight.signer, key);
    }
}

fn queue_key(look: &Look<'_>) -> String {
    identity(look.certificate)
}

/// One ACME step.
struct Acme<'a> {
    look: &'a Look<'a>,
    wanted: &'a Wanted,
    known: &'a Known,
    cause: Cause,
    issuer: &'a Key,
    signer: Arc<AcmeSigner>,
}

impl Acme<'_> {
    async fn step(self) -> Result<Result<Action, Failure>, WriteError> {
        let look = self.look;
        let mut flight = match look.ctx().orders.take(look.uid()) {
            Some(flight) if self.goes_on(&flight) => {
                flight.signer.queue(|queue| queue.resume(&queue_key(look)));
                flight
            }
            other => {
                // With another account the order cannot be taken up again; with other solvers it can.
                let moved = other
                    .as_ref()
                    .is_some_and(|stale| stale.signer.account.uri() != self.signer.account.uri());
                if let Some(mut stale) = other {
                    end(look, &mut stale);
                }
                match self.take_off(moved).await? {
                    Ok(flight) => flight,
                    Err(Ok(action)) => return Ok(Ok(action)),
                    Err(Err(failure)) => return Ok(Err(failure)),
                }
            }
        };
        let progress = flight
            .advance(self.wanted, look.certificate.labels(), (look.ctx().now)())
            .await;
        match progress {
            Progress::Again(after) => {
                let result = self.tell_progress(&mut flight).await;
                look.ctx().orders.put(look.uid(), flight);
                result.map(|()| Ok(Action::requeue(after)))
            }
            Progress::Issued => Box::pin(self.land(flight)).await,
            Progress::Paused(failure) => {
                pause(look, flight);
                Ok(Err(failure))
            }
            Progress::Failed(failure) => {
                end(look, &mut flight);
                delete_key(look).await;
                Ok(Err(failure))
            }
            Progress::Lapsed(failure) => {
                end(look, &mut flight);
                // Once at a time: an order that lapses again has something else the matter.
                let lapsed = look
                    .ctx()
                    .attempt(look.uid(), |attempt| std::mem::replace(&mut attempt.lapsed, true));
                if lapsed {
                    let mut failure = failure;
                    failure.class = Class::Refused;
                    return Ok(Err(failure));
                }
                tracing::info!(
                    namespace = look.namespace(),
                    certificate = look.certificate.name_any(),
                    detail = failure.message,
                    "the order is gone; another is placed"
                );
                let status = look.before().issuing(self.cause, &self.issuer.signing(), None);
                look.write_status(&status).await?;
                Ok(Ok(Action::requeue(Duration::ZERO)))
            }
        }
    }

    /// Whether an order in flight is still for what is wanted, and from the issuer as it is now: one whose spec
    /// was mended must not be kept to the solvers that failed.
    fn goes_on(&self, flight: &Flight) -> bool {
        flight.request_hash == self.wanted.request_hash
            && flight.issuer == *self.issuer
            && (flight.held.is_some() || Arc::ptr_eq(&flight.signer, &self.signer))
    }

    /// The order of before a restart, or a new one. The inner error is what to do instead.
    async fn take_off(&self, moved: bool) -> Result<Result<Flight, Result<Action, Failure>>, WriteError> {
        let look = self.look;
        let challenges = match order::solvers(&self.signer, self.wanted, look.certificate.labels()) {
            Ok(challenges) => challenges,
            Err(failure) => return Ok(Err(Err(failure))),
        };
        let status = look.status();
        if !moved
            && let Some(acme) = &status.acme
            && let Some(url) = &acme.order_url
            && acme.order_request.as_deref() == Some(&self.wanted.request_hash)
            && acme.order_issuer == Some(self.issuer.signing())
            && let Some(key) = read_key(look).await?.filter(|key| key.parameters() == self.wanted.key)
        {
            self.signer.queue(|queue| queue.resume(&queue_key(look)));
            match Flight::resume(self.issuer.clone(), self.signer.clone(), self.wanted, key, url).await {
                Ok(mut flight) => {
                    flight.recorded = true;
                    tracing::info!(
                        namespace = look.namespace(),
                        certificate = look.certificate.name_any(),
                        order = url,
                        "an order is taken up again"
                    );
                    return Ok(Ok(flight));
                }
                Err(acme::AcmeError::OrderGone { .. }) => {}
                Err(error) => {
                    let failure = self.refused(&error, Endpoint::Order, false);
                    look.ctx().leave(&self.signer, &queue_key(look));
                    // A server that never answers for it may be one that the issuer has left.
                    if failure.class != Class::Transient || status.failed_attempts.unwrap_or_default() < LOST_AFTER {
                        return Ok(Err(Err(failure)));
                    }
                }
            }
        }
        let replaces = self.replaces();
        let wanted = acme::Wanted {
            key: queue_key(look),
            not_after: status.not_after,
            replaces: replaces.is_some(),
        };
        let admission = self.signer.queue(|queue| queue.admit(&wanted, look.now));
        look.ctx().attempt(look.uid(), |attempt| {
            attempt.queued = (admission != Admission::Go).then(|| (self.signer.clone(), wanted.key.clone()));
        });
        match admission {
            Admission::Go => {}
            Admission::Queued => return Ok(Err(Ok(Action::requeue(LOOK_AGAIN)))),
            Admission::NotBefore(time) => {
                let told = Duration::try_from(time.duration_since(look.now)).unwrap_or_default();
                return Ok(Err(Err(Failure::new(
                    Class::RetryAfter(told),
                    "RateLimited",
                    format!("{} takes no orders before {time}", self.issuer),
                ))));
            }
        }
        match self.place(replaces.clone(), challenges).await {
            Ok(Ok(flight)) => Ok(Ok(flight)),
            other => {
                look.ctx().leave(&self.signer, &wanted.key);
                other.map(|result| result.map_err(Err))
            }
        }
    }

    /// Places a new order. Its key is kept before it, and its URL straight after.
    async fn place(
        &self,
        replaces: Option<String>,
        challenges: Vec<gatehouse_crds::certificate::ChallengeStatus>,
    ) -> Result<Result<Flight, Failure>, WriteError> {
        let look = self.look;
        if self.known.facts.is_none()
            && let Some(failure) = delivery::obstacle(look).await?
        {
            return Ok(Err(failure));
        }
        // An order each minute for want of a password would use up the CA's limits.
        if let Err(failure) = delivery::passwords(look).await? {
            return Ok(Err(failure));
        }
        let key = match generate(look, self.wanted, self.known, self.cause).await? {
            Ok(key) => key,
            Err(failure) => return Ok(Err(failure)),
        };
        if let Err(error) = write_key(look, &key).await {
            return delivery::told(error).map(Err);
        }
        let renews = replaces.is_some();
        let mut flight = match Flight::begin(self.issuer.clone(), self.signer.clone(), self.wanted, key, replaces).await
        {
            Ok(flight) => flight,
            Err(error) => {
                // No order, or one whose URL nobody knows: its key is of no use any more.
                delete_key(look).await;
                return Ok(Err(self.refused(&error, Endpoint::NewOrder, renews)));
            }
        };
        let next = self
            .signer
            .queue(|queue| queue.placed(&queue_key(look), renews, look.now));
        look.ctx().wake_named(&next);
        let status = self.order_status(&flight, challenges);
        let written = look.write_status(&status).await;
        if let Err(error) = written {
            // Kept in memory at least: the status is tried again with the next step.
            look.ctx().orders.put(look.uid(), flight);
            return Err(error);
        }
        flight.recorded = true;
        Ok(Ok(flight))
    }

    fn order_status(
        &self,
        flight: &Flight,
        challenges: Vec<gatehouse_crds::certificate::ChallengeStatus>,
    ) -> gatehouse_crds::certificate::CertificateStatus {
        let order = Order {
            url: flight.url().to_owned(),
            request_hash: flight.request_hash.clone(),
            challenges,
            look_again: self.look.now.checked_add(LOOK_AGAIN).unwrap_or(self.look.now),
        };
        self.look
            .before()
            .issuing(self.cause, &self.issuer.signing(), Some(order))
    }

    /// The certificate that the order replaces, in the words of RFC 9773, when the same CA issued it.
    fn replaces(&self) -> Option<String> {
        let facts = self.known.facts.as_ref()?;
        let same = facts.issuer.as_deref() == Some(&format!("{}/{}", self.issuer.kind, self.issuer.name));
        facts.ari_identifier.clone().filter(|_| same)
    }

    /// A request that was refused: what the account's queue learns of it, and the failure.
    fn refused(&self, error: &acme::AcmeError, endpoint: Endpoint, replaces: bool) -> Failure {
        let learned = self
            .signer
            .queue(|queue| queue.refused(&queue_key(self.look), endpoint, replaces, error, self.look.now));
        if learned {
            self.signer.keep();
        }
        if matches!(error, acme::AcmeError::AccountDoesNotExist { .. }) {
            self.signer.forget();
        }
        order::failure(error)
    }

    /// Progress is written when it lasts: most orders are done before anybody could read of it.
    async fn tell_progress(&self, flight: &mut Flight) -> Result<(), WriteError> {
        if flight.recorded && flight.told.elapsed() < WORTH_TELLING {
            return Ok(());
        }
        let known = flight.recorded;
        flight.told = Instant::now();
        let status = self.order_status(flight, flight.challenges());
        let same = |status: &gatehouse_crds::certificate::CertificateStatus| {
            status.acme.as_ref().map(|acme| acme.challenges.clone())
        };
        let overdue = self
            .look
            .status()
            .next_attempt_time
            .is_none_or(|time| time <= self.look.now);
        if known && !overdue && same(&status) == same(&self.look.status()) {
            return Ok(());
        }
        self.look.write_status(&status).await?;
        flight.recorded = true;
        Ok(())
    }

    /// The certificate is there: it goes into its Secret, and the order's key goes.
    async fn land(&self, mut flight: Flight) -> Result<Result<Action, Failure>, WriteError> {
        let look = self.look;
        let Some(held) = flight.held.clone() else {
            look.ctx().orders.put(look.uid(), flight);
            return Ok(Ok(Action::requeue(Duration::ZERO)));
        };
        let gives_advice = self
            .signer
            .account
            .client()
            .directory()
            .await
            .is_ok_and(|directory| directory.has_renewal_info());
        match deliver(
            look,
            self.wanted,
            self.known,
            self.cause,
            Ok(held),
            Signed {
                issuer: self.issuer.signing(),
                ordered: true,
                gives_advice,
            },
        )
        .await
        {
            Ok(Ok(action)) => {
                end(look, &mut flight);
                Ok(Ok(action))
            }
            // The certificate stays in hand until it can be written.
            Ok(Err(failure)) => {
                flight.clean_up();
                pause(look, flight);
                Ok(Err(failure))
            }
            Err(error) => {
                flight.clean_up();
                pause(look, flight);
                Err(error)
            }
        }
    }
}

/// The Secret that holds the key of an order in flight.
fn key_name(look: &Look<'_>) -> String {
    format!("{KEY_PREFIX}{}", look.uid())
}

const KEY: &str = "tls.key";
/// What the names of these Secrets begin with; the UID of the Certificate follows.
const KEY_PREFIX: &str = "gatehouse-order-";
/// What these Secrets are labelled.
const ORDER: &str = "acme-order";

async fn read_key(look: &Look<'_>) -> Result<Option<Arc<PrivateKey>>, WriteError> {
    let name = key_name(look);
    let secret = look
        .ctx()
        .secrets(&look.namespace())
        .get_opt(&name)
        .await
        .map_err(|error| WriteError::reading("Secret", &name, error))?;
    let pem = secret.and_then(|secret| secret.data?.remove(KEY));
    Ok(pem.and_then(|ByteString(pem)| PrivateKey::from_pem(&zeroize::Zeroizing::new(pem)).ok().map(Arc::new)))
}

async fn write_key(look: &Look<'_>, key: &PrivateKey) -> Result<(), WriteError> {
    let name = key_name(look);
    let pem = key
        .to_pem(KeyEncoding::Pkcs8)
        .map(|pem| pem.as_bytes().to_vec())
        .unwrap_or_default();
    let labels = [
        (names::MANAGED, names::TRUE),
        (names::APP_MANAGED_BY, names::FIELD_MANAGER),
        (names::APP_COMPONENT, ORDER),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels.map(|(key, value)| (key.into(), value.into())).into()),
            annotations: Some([(names::CERTIFICATE.into(), look.certificate.name_any())].into()),
            owner_references: look.certificate.owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some([(KEY.into(), ByteString(pem))].into()),
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    let api = look.ctx().secrets(&look.namespace());
    match look.ctx().writer.create(&api, &secret).await {
        Err(error) if error.is_already_exists() => {
            // Of an order that came to nothing.
            let body = serde_json::to_value(&secret).unwrap_or_default();
            look.ctx()
                .writer
                .apply::<Secret>(&api, Target::named(&name), body, Conflicts::Take)
                .await
                .map(drop)
        }
        result => result.map(drop),
    }
}

/// Deletes the keys of orders that ended in a crash: one list at the start, and nothing ever after.
///
/// A key that somebody still needs is one whose Certificate has an order in its status, or is being
/// worked on by now.
pub async fn sweep(ctx: &Context, cache: &Cache, namespace: Option<&str>) {
    let secrets: Api<Secret> = match namespace {
        Some(namespace) => Api::namespaced(ctx.client.clone(), namespace),
        None => Api::all(ctx.client.clone()),
    };
    let labels = format!("{}={},{}={ORDER}", names::MANAGED, names::TRUE, names::APP_COMPONENT);
    let found = match secrets.list_metadata(&ListParams::default().labels(&labels)).await {
        Ok(found) => found.items,
        Err(error) => {
            tracing::debug!(%error, "the keys of orders could not be listed");
            return;
        }
    };
    if !cache.synced().await {
        return;
    }
    for key in found {
        let (namespace, name) = (key.namespace().unwrap_or_default(), key.name_any());
        let Some(uid) = name.strip_prefix(KEY_PREFIX) else {
            continue;
        };
        let owner = key
            .annotations()
            .get(names::CERTIFICATE)
            .map(String::as_str)
            .unwrap_or_default();
        if ctx.is_busy(uid) || cache.has_order(&namespace, owner, uid) {
            continue;
        }
        if let Err(error) = ctx
            .writer
            .delete::<Secret>(&ctx.secrets(&namespace), Target::unchanged(&key))
            .await
        {
            tracing::debug!(%error, secret = name, "the key of an order of before could not be deleted");
        }
    }
}

/// Best effort: it belongs to the Certificate and goes with it at the latest.
pub async fn delete_key(look: &Look<'_>) {
    let name = key_name(look);
    if let Err(error) = look
        .ctx()
        .writer
        .delete::<Secret>(&look.ctx().secrets(&look.namespace()), Target::named(&name))
        .await
    {
        tracing::debug!(%error, secret = name, "the key of a finished order could not be deleted");
    }
}
