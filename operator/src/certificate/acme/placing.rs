//! Resumes the order of before a restart, or places a new one.

use std::sync::Arc;

use gatehouse_crds::certificate::{CertificateStatus, ChallengeStatus};
use kube::{ResourceExt, runtime::controller::Action};

use super::{
    super::{
        context::until,
        failure::{Class, Failure, Stopped},
        issue::{REQUEUE_AFTER, generate, queue_key},
        observed_secret::InvalidSecret,
        order::{self, InFlightOrder},
        order_key, put_back,
        secret::Passwords,
        secret_writer::{self, SecretContent, SignedBy, classify_write_error},
        signing,
        status::Order,
    },
    Acme,
};
use crate::{
    issuer::{
        acme::{self, AcmeError, Admission, Endpoint},
        registry::Signer,
    },
    kubernetes::events::EventType,
    pki::PrivateKey,
};

/// An order that cannot be resumed so often is replaced by a new one, where that can be placed.
const MAX_RESUME_FAILURES: u32 = 2;

/// An order to advance, or when to try again.
pub(super) enum Placed {
    /// Boxed, since it is much larger.
    Order(Box<InFlightOrder>),
    Later(Action),
}

impl Acme<'_> {
    /// Resumes the order in the status, unless the account has changed (`moved`), or places a new one.
    pub(super) async fn resume_or_place(&self, moved: bool) -> Result<Placed, Stopped> {
        let reconcile = self.reconcile;
        if let Some(action) = put_back::put_back(self).await? {
            return Ok(Placed::Later(action));
        }
        let challenges = order::solvers(&self.signer, self.desired, reconcile.certificate.labels())?;
        if !moved && let Some(flight) = self.resume().await? {
            return Ok(Placed::Order(Box::new(flight)));
        }
        let replaces = self.replaces();
        let request = self.queued(replaces.is_some());
        let admission = self.signer.queue(|queue| queue.admit(&request, reconcile.now));
        reconcile.ctx().attempt(reconcile.uid(), |attempt| {
            attempt.queued = (admission != Admission::Go).then(|| (self.signer.clone(), request.key.clone()));
        });
        match admission {
            Admission::Go => {}
            Admission::Queued => return Ok(Placed::Later(Action::requeue(REQUEUE_AFTER))),
            Admission::NotBefore(time) => return Err(self.not_before(time).into()),
        }
        let placed = self.place(replaces, challenges).await;
        if placed.is_err() {
            reconcile.ctx().leave(&self.signer, &request.key);
        }
        Ok(Placed::Order(Box::new(placed?)))
    }

    /// Resumes the order in the status; `None` when there is none for this request, or the CA does not have it any more.
    async fn resume(&self) -> Result<Option<InFlightOrder>, Stopped> {
        let reconcile = self.reconcile;
        let status = reconcile.status();
        let Some(acme) = &status.acme else { return Ok(None) };
        let Some(url) = acme.order_url.as_deref().filter(|url| {
            acme.order_request.as_deref() == Some(&self.desired.request_hash)
                && acme.order_issuer == Some(self.issuer.signing())
                && self.has_order(acme.order_server.as_deref(), url)
        }) else {
            return Ok(None);
        };
        let key = order_key::read(reconcile).await?;
        let Some(key) = key.filter(|key| key.parameters() == self.desired.key) else {
            return Ok(None);
        };
        self.signer.queue(|queue| queue.resume(&queue_key(reconcile)));
        let at = (url, acme.waiting_since);
        match InFlightOrder::resume(self.issuer.clone(), self.signer.clone(), self.desired, key, at).await {
            Ok(mut flight) => {
                self.answered(Endpoint::Order);
                flight.recorded = true;
                tracing::info!(
                    namespace = reconcile.namespace(),
                    certificate = reconcile.certificate.name_any(),
                    order = url,
                    "order resumed"
                );
                Ok(Some(flight))
            }
            Err(AcmeError::OrderGone { .. }) => Ok(None),
            Err(error) => {
                let failure = self.record_refusal(&error, Endpoint::Order, false);
                reconcile.ctx().leave(&self.signer, &queue_key(reconcile));
                // A server that never answers for it may be one that the issuer no longer names.
                let is_unserved = matches!(failure.class, Class::Transient | Class::Away(_) | Class::Held(_));
                let failures = failure.tries.max(reconcile.ctx().pause(reconcile.uid()).failures);
                if is_unserved && failures > MAX_RESUME_FAILURES {
                    return Ok(None);
                }
                Err(failure.into())
            }
        }
    }

    /// Returns the order as the account's queue knows it.
    pub(super) fn queued(&self, replaces: bool) -> acme::OrderRequest {
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

    /// Returns the failure while the CA has asked for a pause.
    pub(super) fn not_before(&self, time: jiff::Timestamp) -> Failure {
        let class = Class::Held(until(time, self.reconcile.now));
        match self.signer.user_action() {
            Some(message) => Failure::new(class, "IssuerNotReady", format!("{}: {message}", self.issuer)),
            None => Failure::new(
                class,
                "RateLimited",
                format!("{} takes no orders before {time}", self.issuer),
            ),
        }
    }

    /// Places a new order. Its key is kept before it, and its URL straight after.
    async fn place(
        &self,
        replaces: Option<String>,
        challenges: Vec<ChallengeStatus>,
    ) -> Result<InFlightOrder, Stopped> {
        let reconcile = self.reconcile;
        // An order each minute for want of a password would use up the CA's limits.
        let passwords = secret_writer::passwords(reconcile).await?;
        let key = generate(reconcile, self.desired, self.observed, self.cause).await?;
        if let Err(error) = order_key::write(reconcile, &key).await {
            return Err(classify_write_error(error));
        }
        // With the order's key in its place: a quota with room for one Secret more has none for both.
        if let Err(stopped) = self.dry_run(key.clone(), &passwords).await {
            order_key::delete(reconcile).await;
            return Err(stopped);
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
                // No order, or one whose URL is unknown: its key is of no use.
                order_key::delete(reconcile).await;
                let error = self.explained(error).await;
                return Err(self.record_refusal(&error, Endpoint::NewOrder, renews).into());
            }
        };
        self.answered(Endpoint::NewOrder);
        self.signer.end_user_action();
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
            return Err(error.into());
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
        Ok(flight)
    }

    /// Asks the API server before an order is placed whether it would take the Secret.
    async fn dry_run(&self, key: Arc<PrivateKey>, passwords: &Passwords) -> Result<(), Stopped> {
        // One of another type is deleted first, with its owner's consent, so that nothing can be asked about it.
        if matches!(self.observed.contents, Some(Err(InvalidSecret::Type(_)))) {
            return Ok(());
        }
        let (reconcile, exists) = (self.reconcile, self.observed.metadata.is_some());
        let (ctx, namespace) = (reconcile.ctx(), reconcile.namespace());
        let passed = ctx.rehearsals().get(&namespace).copied();
        if !secret_writer::needs_dry_run(reconcile.certificate, exists, passed, reconcile.now) {
            return Ok(());
        }
        let Ok(pair) = signing::by_itself(self.desired, key, reconcile.now) else {
            return Ok(());
        };
        let by = SignedBy {
            issuer: self.issuer.signing(),
            authority: Signer::Acme(self.signer.clone()).authority(),
            ordered: true,
            gives_advice: false,
            certificate_url: None,
        };
        let content = SecretContent {
            desired: self.desired,
            pair: &pair,
            metadata: self.observed.metadata.as_deref(),
            issuer: Some(&by),
            cause: Some(self.cause),
        };
        let result = secret_writer::dry_run(reconcile, &content, passwords).await;
        match &result {
            Ok(()) => drop(ctx.rehearsals().insert(namespace, reconcile.now)),
            Err(Stopped::Failed(_)) => drop(ctx.rehearsals().remove(&namespace)),
            Err(Stopped::Api(_)) => {}
        }
        result
    }

    pub(super) fn order_status(&self, flight: &InFlightOrder, challenges: Vec<ChallengeStatus>) -> CertificateStatus {
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
}
