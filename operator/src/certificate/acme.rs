//! One step of an order at an ACME CA: taken up, placed, advanced, brought home.

use std::{sync::Arc, time::Duration};

use gatehouse_crds::certificate::{CertificateStatus, ChallengeStatus};
use kube::{ResourceExt, runtime::controller::Action};
use tokio::time::Instant;

use super::{
    backoff,
    context::until,
    decide::IssuanceReason,
    desired::DesiredCertificate,
    failure::{Class, Failure},
    issue::{REQUEUE_AFTER, deliver, end, generate, queue_key},
    observed_secret::InvalidSecret,
    order::{self, InFlightOrder, Progress},
    order_key, put_back,
    reconcile::{ObservedSecret, Reconcile},
    renewal,
    secret::Passwords,
    secret_writer::{self, SecretContent, SignedBy},
    signing,
    status::Order,
};
use crate::{
    clock,
    issuer::{
        acme::{self, AcmeError, Admission, Endpoint, Problem},
        outage::{Ask, Away, Unserved},
        registry::{Key, Signer},
        server::{is_same_host, is_same_server},
        signer::AcmeSigner,
        slots,
    },
    kubernetes::{apply::WriteError, events::EventType},
    pki::PrivateKey,
};

/// A state that lasts longer than this is worth a write to the status.
const MIN_REPORTED_DURATION: Duration = Duration::from_secs(2);
/// An order that could not be taken up again so often is given up for a new one, where that can be placed.
const MAX_RESUME_FAILURES: u32 = 2;

/// One ACME step.
pub struct Acme<'a> {
    pub reconcile: &'a Reconcile<'a>,
    pub desired: &'a DesiredCertificate,
    pub observed: &'a ObservedSecret,
    pub cause: IssuanceReason,
    pub issuer: &'a Key,
    pub signer: Arc<AcmeSigner>,
}

impl Acme<'_> {
    /// Takes it. The inner error is to be told.
    pub async fn step(self) -> Result<Result<Action, Failure>, WriteError> {
        let reconcile = self.reconcile;
        // What is issued already needs no CA any more; everything else waits when it asks for a pause or is away.
        let landed = reconcile.ctx().orders.has_landed(reconcile.uid());
        if !landed && let Some(failure) = self.held() {
            reconcile.ctx().leave(&self.signer, &queue_key(reconcile));
            return Ok(Err(failure));
        }
        let Some(slot) = reconcile.ctx().slot(self.slot()) else {
            return Ok(Ok(Action::requeue(REQUEUE_AFTER)));
        };
        let mut flight = match reconcile.ctx().orders.take(reconcile.uid()) {
            Some(flight) if self.goes_on(&flight) => {
                flight.signer.queue(|queue| queue.resume(&queue_key(reconcile)));
                flight
            }
            other => {
                // With another account the order cannot be taken up again; with other solvers it can.
                let moved = other
                    .as_ref()
                    .is_some_and(|stale| stale.signer.account.uri() != self.signer.account.uri());
                if let Some(mut stale) = other {
                    end(reconcile, &mut stale);
                }
                match self.take_off(moved).await? {
                    Ok(flight) => flight,
                    Err(Ok(action)) => return Ok(Ok(action)),
                    Err(Err(failure)) => return Ok(Err(failure)),
                }
            }
        };
        let advanced = flight.advance(self.desired, reconcile.certificate.labels(), (reconcile.ctx().now)());
        let progress = match advanced.await {
            Ok(progress) => progress,
            Err(error) => {
                let error = self.explained(error).await;
                order::interrupted(&error, self.refused(&error, flight.endpoint(), false))
            }
        };
        for endpoint in std::mem::take(&mut flight.heard) {
            self.answered(endpoint);
        }
        // What follows is between us and the API server.
        drop(slot);
        match progress {
            Progress::Again(after) => {
                let result = self.write_progress(&mut flight).await;
                reconcile.ctx().orders.put(reconcile.uid(), flight);
                result.map(|()| Ok(Action::requeue(after)))
            }
            Progress::Issued => Box::pin(self.land(flight)).await,
            Progress::Paused(failure) => {
                pause(reconcile, flight);
                Ok(Err(failure))
            }
            Progress::Failed(failure) => {
                end(reconcile, &mut flight);
                order_key::delete(reconcile).await;
                Ok(Err(failure))
            }
            Progress::Lapsed(failure) => {
                end(reconcile, &mut flight);
                // Once at a time: an order that lapses again has something else the matter.
                let lapsed = reconcile
                    .ctx()
                    .attempt(reconcile.uid(), |attempt| std::mem::replace(&mut attempt.lapsed, true));
                if lapsed {
                    let mut failure = failure;
                    failure.class = Class::Refused;
                    return Ok(Err(failure));
                }
                tracing::info!(
                    namespace = reconcile.namespace(),
                    certificate = reconcile.certificate.name_any(),
                    detail = failure.message,
                    "the order is gone; another is placed"
                );
                let status = reconcile
                    .status_builder()
                    .issuing(self.cause, &self.issuer.signing(), None);
                reconcile.write_status(&status).await?;
                Ok(Ok(Action::requeue(Duration::ZERO)))
            }
        }
    }

    /// The account's limits and its CA's absence: why nothing may be asked now, if so.
    fn held(&self) -> Option<Failure> {
        let reconcile = self.reconcile;
        let (ctx, status) = (reconcile.ctx(), reconcile.status());
        let in_flight = ctx.orders.next_endpoint(reconcile.uid(), reconcile.now);
        let endpoint = in_flight.unwrap_or(Endpoint::Order);
        if let Some(time) = self
            .signer
            .queue(|queue| queue.not_before(endpoint, false, reconcile.now))
        {
            return Some(self.not_before(time));
        }
        // Its owner wants it asked now.
        let failed = clock::past(status.last_failure.as_ref().map(|failure| failure.time), reconcile.now);
        if renewal::requested(reconcile.certificate).is_some_and(|time| time <= reconcile.now && Some(time) > failed) {
            return None;
        }
        let has_order = status.acme.as_ref().is_some_and(|acme| acme.order_url.is_some());
        let first = if has_order { Endpoint::Order } else { Endpoint::NewOrder };
        let ask = Ask {
            certificate: &queue_key(reconcile),
            endpoint: in_flight.unwrap_or(first),
            urgency: backoff::urgency(reconcile.status_builder().serving_until(self.cause), reconcile.now),
            counts: true,
        };
        let away = ctx.outages.ask(self.issuer, &ask, Instant::now())?;
        Some(self.away(&away))
    }

    fn slot(&self) -> slots::Step {
        slots::Step {
            issuer: self.issuer.clone(),
            namespace: self.reconcile.namespace(),
            certificate: queue_key(self.reconcile),
        }
    }

    /// The CA is away: the failure of the first that met it, and what the others wait for.
    fn away(&self, away: &Away) -> Failure {
        let mut failure = if away.is_first {
            Failure::new(Class::Away(away.after), "Network", away.message.clone())
        } else if away.has_retry_after {
            let time = self.reconcile.now.checked_add(away.after).unwrap_or(self.reconcile.now);
            self.not_before(renewal::whole_seconds_up(time))
        } else {
            let message = format!("this Certificate waits for its CA to return: {}", away.message);
            Failure::new(Class::Held(away.after), "Network", message)
        };
        failure.tries = away.failures;
        failure
    }

    /// The CA answered a request to `endpoint`: whoever waits for that is woken.
    fn answered(&self, endpoint: Endpoint) {
        let (ctx, server) = (self.reconcile.ctx(), &self.signer.spec.server);
        let woken = ctx
            .outages
            .answered(self.issuer, server, &queue_key(self.reconcile), endpoint);
        ctx.woken(woken, &self.signer);
    }

    /// Whether an order in flight is still for what is wanted, and from the issuer as it is now: one whose spec
    /// was mended must not be kept to the solvers that failed.
    fn goes_on(&self, flight: &InFlightOrder) -> bool {
        flight.request_hash == self.desired.request_hash
            && flight.issuer == *self.issuer
            && self.is_at(Some(&flight.signer.spec.server))
            && (flight.pair.is_some() || Arc::ptr_eq(&flight.signer, &self.signer))
    }

    /// Whether `server` is the issuer's. What belongs to an order or a certificate of another server, such as URLs and
    /// identifiers, is never sent to this one.
    pub(super) fn is_at(&self, server: Option<&str>) -> bool {
        is_same_server(server, Some(&self.signer.spec.server))
    }

    /// Whether an order of before a restart is the issuer's server's. Versions before recorded no server.
    fn has_order(&self, server: Option<&str>, url: &str) -> bool {
        server.map_or_else(
            || is_same_host(url, &self.signer.spec.server),
            |server| self.is_at(Some(server)),
        )
    }

    /// The order of before a restart, or a new one. The inner error is what to do instead.
    async fn take_off(&self, moved: bool) -> Result<Result<InFlightOrder, Result<Action, Failure>>, WriteError> {
        let reconcile = self.reconcile;
        if let Some(result) = put_back::put_back(self).await? {
            return Ok(Err(result));
        }
        let challenges = match order::solvers(&self.signer, self.desired, reconcile.certificate.labels()) {
            Ok(challenges) => challenges,
            Err(failure) => return Ok(Err(Err(failure))),
        };
        let status = reconcile.status();
        if !moved
            && let Some(acme) = &status.acme
            && let Some(url) = &acme.order_url
            && acme.order_request.as_deref() == Some(&self.desired.request_hash)
            && acme.order_issuer == Some(self.issuer.signing())
            && self.has_order(acme.order_server.as_deref(), url)
            && let Some(key) = order_key::read(reconcile)
                .await?
                .filter(|key| key.parameters() == self.desired.key)
        {
            self.signer.queue(|queue| queue.resume(&queue_key(reconcile)));
            let at = (url.as_str(), acme.waiting_since);
            match InFlightOrder::resume(self.issuer.clone(), self.signer.clone(), self.desired, key, at).await {
                Ok(mut flight) => {
                    self.answered(Endpoint::Order);
                    flight.recorded = true;
                    tracing::info!(
                        namespace = reconcile.namespace(),
                        certificate = reconcile.certificate.name_any(),
                        order = url,
                        "an order is taken up again"
                    );
                    return Ok(Ok(flight));
                }
                Err(AcmeError::OrderGone { .. }) => {}
                Err(error) => {
                    let failure = self.refused(&error, Endpoint::Order, false);
                    reconcile.ctx().leave(&self.signer, &queue_key(reconcile));
                    // A server that never answers for it may be one that the issuer has left.
                    let unserved = matches!(failure.class, Class::Transient | Class::Away(_) | Class::Held(_));
                    let failures = failure.tries.max(reconcile.ctx().pause(reconcile.uid()).failures);
                    let lost = unserved && failures > MAX_RESUME_FAILURES;
                    if !lost {
                        return Ok(Err(Err(failure)));
                    }
                }
            }
        }
        let replaces = self.replaces();
        let desired = self.queued(replaces.is_some());
        let admission = self.signer.queue(|queue| queue.admit(&desired, reconcile.now));
        reconcile.ctx().attempt(reconcile.uid(), |attempt| {
            attempt.queued = (admission != Admission::Go).then(|| (self.signer.clone(), desired.key.clone()));
        });
        match admission {
            Admission::Go => {}
            Admission::Queued => return Ok(Err(Ok(Action::requeue(REQUEUE_AFTER)))),
            Admission::NotBefore(time) => return Ok(Err(Err(self.not_before(time)))),
        }
        match self.place(replaces.clone(), challenges).await {
            Ok(Ok(flight)) => Ok(Ok(flight)),
            other => {
                reconcile.ctx().leave(&self.signer, &desired.key);
                other.map(|result| result.map_err(Err))
            }
        }
    }

    /// As the account's queue knows it.
    fn queued(&self, replaces: bool) -> acme::OrderRequest {
        let request = self.desired.for_acme();
        let names = request.dns_names.iter().map(ToString::to_string);
        let addresses = request.ip_addresses.iter().map(ToString::to_string);
        acme::OrderRequest {
            key: queue_key(self.reconcile),
            namespace: self.reconcile.namespace(),
            names: names.chain(addresses).collect(),
            not_after: self.reconcile.status_builder().serving_until(self.cause),
            replaces,
        }
    }

    /// The CA asked for a pause, as others have found out.
    fn not_before(&self, time: jiff::Timestamp) -> Failure {
        Failure::new(
            Class::Held(until(time, self.reconcile.now)),
            "RateLimited",
            format!("{} takes no orders before {time}", self.issuer),
        )
    }

    /// Places a new order. Its key is kept before it, and its URL straight after.
    async fn place(
        &self,
        replaces: Option<String>,
        challenges: Vec<ChallengeStatus>,
    ) -> Result<Result<InFlightOrder, Failure>, WriteError> {
        let reconcile = self.reconcile;
        // An order each minute for want of a password would use up the CA's limits.
        let passwords = match secret_writer::passwords(reconcile).await? {
            Ok(passwords) => passwords,
            Err(failure) => return Ok(Err(failure)),
        };
        let key = match generate(reconcile, self.desired, self.observed, self.cause).await? {
            Ok(key) => key,
            Err(failure) => return Ok(Err(failure)),
        };
        if let Err(error) = order_key::write(reconcile, &key).await {
            return secret_writer::classify_write_error(error).map(Err);
        }
        // With the order's key in its place: a quota with room for one Secret more has none for both.
        match self.rehearse(key.clone(), &passwords).await {
            Ok(None) => {}
            Ok(Some(failure)) => {
                order_key::delete(reconcile).await;
                return Ok(Err(failure));
            }
            Err(error) => {
                order_key::delete(reconcile).await;
                return Err(error);
            }
        }
        let renews = replaces.is_some();
        let begun = InFlightOrder::begin(
            self.issuer.clone(),
            self.signer.clone(),
            self.desired,
            key,
            replaces,
            reconcile.now,
        );
        let mut flight = match begun.await {
            Ok(flight) => flight,
            Err(error) => {
                // No order, or one whose URL nobody knows: its key is of no use any more.
                order_key::delete(reconcile).await;
                let error = self.explained(error).await;
                return Ok(Err(self.refused(&error, Endpoint::NewOrder, renews)));
            }
        };
        self.answered(Endpoint::NewOrder);
        let desired = self.queued(renews);
        let next = self
            .signer
            .queue(|queue| queue.placed(&desired.key, &desired.names, renews, reconcile.now));
        reconcile.ctx().enqueue_named(&next);
        let status = self.order_status(&flight, challenges);
        let written = reconcile.write_status(&status).await;
        if let Err(error) = written {
            // Kept in memory at least: the status is tried again with the next step.
            reconcile.ctx().orders.put(reconcile.uid(), flight);
            return Err(error);
        }
        flight.recorded = true;
        if let Some(words) = flight.duration_refused() {
            let note = format!(
                "The CA refuses the requested end of the certificate ({words}), and decides the lifetime itself. Remove \
                 spec.duration, or acme.enableDurationFeature from {}.",
                self.issuer
            );
            reconcile
                .ctx()
                .publish_event(reconcile.certificate, EventType::Warning, "DurationRefused", &note);
        }
        Ok(Ok(flight))
    }

    /// Whether the Secret could be written if the order were done: asked before it is placed.
    async fn rehearse(&self, key: Arc<PrivateKey>, passwords: &Passwords) -> Result<Option<Failure>, WriteError> {
        // One of another type is deleted first, with its owner's consent, so that nothing can be asked about it.
        if matches!(self.observed.contents, Some(Err(InvalidSecret::Type(_)))) {
            return Ok(None);
        }
        let (ctx, namespace) = (self.reconcile.ctx(), self.reconcile.namespace());
        let passed = ctx.rehearsals().get(&namespace).copied();
        if !secret_writer::needs_rehearsal(
            self.reconcile.certificate,
            self.observed.metadata.is_some(),
            passed,
            self.reconcile.now,
        ) {
            return Ok(None);
        }
        let Ok(pair) = signing::by_itself(self.desired, key, self.reconcile.now) else {
            return Ok(None);
        };
        let by = SignedBy {
            issuer: self.issuer.signing(),
            authority: Signer::Acme(self.signer.clone()).authority(),
            ordered: true,
            gives_advice: false,
            certificate_url: None,
        };
        let delivery = SecretContent {
            desired: self.desired,
            pair: &pair,
            metadata: self.observed.metadata.as_deref(),
            issuer: Some(&by),
            cause: Some(self.cause),
        };
        let refusal = secret_writer::rehearse(self.reconcile, &delivery, passwords).await?;
        let mut rehearsed = ctx.rehearsals();
        match refusal {
            Some(_) => rehearsed.remove(&namespace),
            None => rehearsed.insert(namespace, self.reconcile.now),
        };
        Ok(refusal)
    }

    fn order_status(&self, flight: &InFlightOrder, challenges: Vec<ChallengeStatus>) -> CertificateStatus {
        let order = Order {
            url: flight.url().to_owned(),
            server: flight.signer.spec.server.clone(),
            request_hash: flight.request_hash.clone(),
            waiting_since: flight.waiting_since(),
            challenges,
            look_again: self
                .reconcile
                .now
                .checked_add(REQUEUE_AFTER)
                .unwrap_or(self.reconcile.now),
        };
        self.reconcile
            .status_builder()
            .issuing(self.cause, &self.issuer.signing(), Some(order))
    }

    /// The certificate that the order replaces, in the words of RFC 9773, when the same CA issued it.
    fn replaces(&self) -> Option<String> {
        let (metadata, status) = (self.observed.metadata.as_ref()?, self.reconcile.status());
        let same = status.serial_number == metadata.serial_number
            && status.issuer == Some(self.issuer.signing())
            && self.is_at(status.authority?.server.as_deref());
        metadata.ari_identifier.clone().filter(|_| same)
    }

    /// Finds out whether the CA refuses the account, or only this order: CAs have one word for both.
    async fn explained(&self, error: AcmeError) -> AcmeError {
        let words = match &error {
            AcmeError::Unauthorized { detail } => format!("unauthorized: {detail}"),
            AcmeError::AccountDoesNotExist { detail } => format!("accountDoesNotExist: {detail}"),
            _ => return error,
        };
        match self.signer.account.verify().await {
            Ok(()) => AcmeError::Rejected(Problem {
                detail: words,
                ..Problem::default()
            }),
            Err(AcmeError::Unauthorized { .. } | AcmeError::AccountDoesNotExist { .. }) => error,
            Err(other) => other,
        }
    }

    /// A request that was refused or not served: what the account's queue and the others learn of it, and the failure.
    fn refused(&self, error: &AcmeError, endpoint: Endpoint, replaces: bool) -> Failure {
        let desired = self.queued(replaces);
        let learned = self
            .signer
            .queue(|queue| queue.refused(&desired, endpoint, error, self.reconcile.now));
        if learned {
            self.signer.keep();
        }
        if matches!(
            error,
            AcmeError::AccountDoesNotExist { .. } | AcmeError::Unauthorized { .. }
        ) {
            self.signer.forget();
        }
        if error.requires_user_action() {
            self.signer.require_user_action(error.to_string());
        }
        let failure = order::failure(error);
        let Some((scope, retry_after)) = order::outage(error, endpoint) else {
            if !matches!(failure.reason, "Invalid") {
                self.answered(endpoint);
            }
            return failure;
        };
        let unserved = Unserved {
            certificate: &desired.key,
            scope,
            retry_after,
            message: &format!("{}: {}", self.issuer, failure.message),
            counts: true,
        };
        let outages = &self.reconcile.ctx().outages;
        match outages.unserved(self.issuer, &self.signer.spec.server, &unserved, Instant::now()) {
            Some(away) => self.away(&away),
            // Others are served: the trouble is with what this Certificate asks for.
            None => failure,
        }
    }

    /// Progress is written when it lasts: most orders are done before anybody could read of it.
    async fn write_progress(&self, flight: &mut InFlightOrder) -> Result<(), WriteError> {
        if flight.recorded && flight.told.elapsed() < MIN_REPORTED_DURATION {
            return Ok(());
        }
        let observed = flight.recorded;
        flight.told = Instant::now();
        let status = self.order_status(flight, flight.challenges());
        let same = |status: &CertificateStatus| {
            let acme = status.acme.as_ref();
            acme.map(|acme| (acme.challenges.clone(), acme.waiting_since))
        };
        let now = self.reconcile.now;
        let overdue = clock::ATTEMPT
            .believe(self.reconcile.status().next_attempt_time, now)
            .is_none_or(|time| time <= now);
        if observed && !overdue && same(&status) == same(&self.reconcile.status()) {
            return Ok(());
        }
        self.reconcile.write_status(&status).await?;
        flight.recorded = true;
        Ok(())
    }

    /// The certificate is there: it goes into its Secret, and the order's key goes.
    async fn land(&self, mut flight: InFlightOrder) -> Result<Result<Action, Failure>, WriteError> {
        let reconcile = self.reconcile;
        let Some(pair) = flight.pair.clone() else {
            reconcile.ctx().orders.put(reconcile.uid(), flight);
            return Ok(Ok(Action::requeue(Duration::ZERO)));
        };
        if let Some(note) = flight.chain_note.take() {
            reconcile.ctx().publish_event(
                reconcile.certificate,
                EventType::Warning,
                "AlternateChainUnreadable",
                &note,
            );
        }
        let gives_advice = self
            .signer
            .account
            .client()
            .directory()
            .await
            .is_ok_and(|directory| directory.has_renewal_info());
        match deliver(
            reconcile,
            self.desired,
            self.observed,
            self.cause,
            Ok(pair),
            SignedBy {
                issuer: self.issuer.signing(),
                authority: Signer::Acme(flight.signer.clone()).authority(),
                ordered: true,
                gives_advice,
                certificate_url: flight.certificate_url.clone(),
            },
        )
        .await
        {
            Ok(Ok(action)) => {
                end(reconcile, &mut flight);
                Ok(Ok(action))
            }
            // The certificate stays in hand until it can be written.
            Ok(Err(failure)) => {
                flight.clean_up();
                pause(reconcile, flight);
                Ok(Err(failure))
            }
            Err(error) => {
                flight.clean_up();
                pause(reconcile, flight);
                Err(error)
            }
        }
    }
}

/// An order that pauses takes nobody's place, or a few that go on failing would hold up all the others.
/// It takes its own again with its next step.
fn pause(reconcile: &Reconcile<'_>, flight: InFlightOrder) {
    reconcile.ctx().leave(&flight.signer, &queue_key(reconcile));
    reconcile.ctx().orders.put(reconcile.uid(), flight);
}
