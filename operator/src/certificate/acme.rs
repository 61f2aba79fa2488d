//! One step of an order at an ACME CA: resumed or placed, advanced, and completed with its Secret.

mod placing;
mod refusal;

use std::{sync::Arc, time::Duration};

use gatehouse_crds::certificate::CertificateStatus;
use kube::{ResourceExt, runtime::controller::Action};
use tokio::time::Instant;

use self::placing::Placed;
use super::{
    decide::IssuanceReason,
    desired::DesiredCertificate,
    failure::{Class, Failure, Stopped},
    issue::{REQUEUE_AFTER, deliver, end, queue_key},
    order::{self, InFlightOrder, Progress},
    order_key,
    reconcile::{ObservedSecret, Reconcile},
    secret_writer::SignedBy,
};
use crate::{
    clock,
    issuer::{
        registry::{Key, Signer},
        server::{is_same_host, is_same_server},
        signer::AcmeSigner,
        slots,
    },
    kubernetes::{apply::WriteError, events::EventType},
};

/// A state that lasts longer than this is written to the status.
const MIN_REPORTED_DURATION: Duration = Duration::from_secs(2);

/// One step of an order.
pub struct Acme<'a> {
    pub reconcile: &'a Reconcile<'a>,
    pub desired: &'a DesiredCertificate,
    pub observed: &'a ObservedSecret,
    pub cause: IssuanceReason,
    pub issuer: &'a Key,
    pub signer: Arc<AcmeSigner>,
}

impl Acme<'_> {
    /// Takes the step.
    pub async fn step(self) -> Result<Action, Stopped> {
        let reconcile = self.reconcile;
        // A certificate that is issued needs no CA any more; everything else waits while the CA asks for a pause or is down.
        let is_issued = reconcile.ctx().orders.has_landed(reconcile.uid());
        if !is_issued && let Some(failure) = self.held() {
            reconcile.ctx().leave(&self.signer, &queue_key(reconcile));
            return Err(failure.into());
        }
        let Some(slot) = reconcile.ctx().slot(self.slot()) else {
            return Ok(Action::requeue(REQUEUE_AFTER));
        };
        let mut flight = match reconcile.ctx().orders.take(reconcile.uid()) {
            Some(flight) if self.continues(&flight) => {
                flight.signer.queue(|queue| queue.resume(&queue_key(reconcile)));
                flight
            }
            other => {
                // With another account the order cannot be resumed; with other solvers it can.
                let moved = other
                    .as_ref()
                    .is_some_and(|stale| stale.signer.account.uri() != self.signer.account.uri());
                if let Some(mut stale) = other {
                    end(reconcile, &mut stale);
                }
                match self.resume_or_place(moved).await? {
                    Placed::Order(flight) => *flight,
                    Placed::Later(action) => return Ok(action),
                }
            }
        };
        let advanced = flight.advance(self.desired, reconcile.certificate.labels(), (reconcile.ctx().now)());
        let progress = match advanced.await {
            Ok(progress) => progress,
            Err(error) => {
                let error = self.explained(error).await;
                order::interrupted(&error, self.record_refusal(&error, flight.endpoint(), false))
            }
        };
        for endpoint in std::mem::take(&mut flight.answered) {
            self.answered(endpoint);
        }
        // What follows is between the operator and the API server.
        drop(slot);
        match progress {
            Progress::Again(after) => {
                let result = self.write_progress(&mut flight).await;
                reconcile.ctx().orders.put(reconcile.uid(), flight);
                result?;
                Ok(Action::requeue(after))
            }
            Progress::Issued => Box::pin(self.complete(flight)).await,
            Progress::Paused(failure) => {
                pause(reconcile, flight);
                Err(failure.into())
            }
            Progress::Failed(failure) => {
                end(reconcile, &mut flight);
                order_key::delete(reconcile).await;
                Err(failure.into())
            }
            Progress::Lapsed(failure) => self.replace_lapsed(flight, failure).await,
        }
    }

    /// Places another order after the CA has dropped this one. Once in an attempt: an order that lapses again has another
    /// cause.
    async fn replace_lapsed(&self, mut flight: InFlightOrder, mut failure: Failure) -> Result<Action, Stopped> {
        let reconcile = self.reconcile;
        end(reconcile, &mut flight);
        let lapsed = reconcile
            .ctx()
            .attempt(reconcile.uid(), |attempt| std::mem::replace(&mut attempt.lapsed, true));
        if lapsed {
            failure.class = Class::Refused;
            return Err(failure.into());
        }
        tracing::info!(
            namespace = reconcile.namespace(),
            certificate = reconcile.certificate.name_any(),
            detail = failure.message,
            "order is gone; placing another"
        );
        let status = reconcile
            .status_builder()
            .issuing(self.cause, &self.issuer.signing(), None);
        reconcile.write_status(&status).await?;
        Ok(Action::requeue(Duration::ZERO))
    }

    fn slot(&self) -> slots::Step {
        slots::Step {
            issuer: self.issuer.clone(),
            namespace: self.reconcile.namespace(),
            certificate: queue_key(self.reconcile),
        }
    }

    /// Returns whether an order in flight is still for the spec, and from the issuer as it is now: after the issuer's spec
    /// was corrected, an order must not keep the solvers that failed.
    fn continues(&self, flight: &InFlightOrder) -> bool {
        flight.request_hash == self.desired.request_hash
            && flight.issuer == *self.issuer
            && self.is_at(Some(&flight.signer.spec.server))
            && (flight.pair.is_some() || Arc::ptr_eq(&flight.signer, &self.signer))
    }

    /// Returns whether `server` is the issuer's. What belongs to an order or a certificate of another server, such as URLs and
    /// identifiers, is never sent to this one.
    pub(super) fn is_at(&self, server: Option<&str>) -> bool {
        is_same_server(server, Some(&self.signer.spec.server))
    }

    /// Returns whether an order of before a restart is the issuer's server's. Earlier versions recorded no server.
    fn has_order(&self, server: Option<&str>, url: &str) -> bool {
        server.map_or_else(
            || is_same_host(url, &self.signer.spec.server),
            |server| self.is_at(Some(server)),
        )
    }

    /// Writes the progress once it lasts: most orders are complete before anyone could read it.
    async fn write_progress(&self, flight: &mut InFlightOrder) -> Result<(), WriteError> {
        if flight.recorded && flight.reported_at.elapsed() < MIN_REPORTED_DURATION {
            return Ok(());
        }
        let is_recorded = flight.recorded;
        flight.reported_at = Instant::now();
        let status = self.order_status(flight, flight.challenges());
        let progress = |status: &CertificateStatus| {
            let acme = status.acme.as_ref();
            acme.map(|acme| (acme.challenges.clone(), acme.waiting_since))
        };
        let now = self.reconcile.now;
        let overdue = clock::ATTEMPT
            .believe(self.reconcile.status().next_attempt_time, now)
            .is_none_or(|time| time <= now);
        if is_recorded && !overdue && progress(&status) == progress(&self.reconcile.status()) {
            return Ok(());
        }
        self.reconcile.write_status(&status).await?;
        flight.recorded = true;
        Ok(())
    }

    /// Writes the issued certificate to its Secret, after which the order's key is deleted.
    async fn complete(&self, mut flight: InFlightOrder) -> Result<Action, Stopped> {
        let reconcile = self.reconcile;
        let Some(pair) = flight.pair.clone() else {
            reconcile.ctx().orders.put(reconcile.uid(), flight);
            return Ok(Action::requeue(Duration::ZERO));
        };
        if let Some(note) = flight.chain_note.take() {
            let (certificate, type_) = (reconcile.certificate, EventType::Warning);
            reconcile
                .ctx()
                .publish_event(certificate, type_, "AlternateChainUnreadable", &note);
        }
        let directory = self.signer.account.client().directory().await;
        let by = SignedBy {
            issuer: self.issuer.signing(),
            authority: Signer::Acme(flight.signer.clone()).authority(),
            ordered: true,
            gives_advice: directory.is_ok_and(|directory| directory.has_renewal_info()),
            certificate_url: flight.certificate_url.clone(),
        };
        let delivered = deliver(reconcile, self.desired, self.observed, self.cause, pair, by).await;
        if delivered.is_ok() {
            end(reconcile, &mut flight);
        } else {
            // The certificate is kept until it can be written.
            flight.clean_up();
            pause(reconcile, flight);
        }
        delivered
    }
}

/// Keeps an order that pauses, without its place in the queue: else a few that fail again and again would hold up all others.
/// It takes its place again with its next step.
fn pause(reconcile: &Reconcile<'_>, flight: InFlightOrder) {
    reconcile.ctx().leave(&flight.signer, &queue_key(reconcile));
    reconcile.ctx().orders.put(reconcile.uid(), flight);
}
