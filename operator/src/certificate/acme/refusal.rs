//! Consequences of a refusal or an outage of the CA: for the account's queue, for other Certificates, and for this attempt.

use tokio::time::Instant;

use super::{
    super::{
        backoff,
        failure::{Class, Failure},
        issue::queue_key,
        order, renewal,
    },
    Acme,
};
use crate::{
    clock,
    issuer::{
        account,
        acme::{AcmeError, Endpoint, Problem},
        outage::{Ask, Away, Unserved},
    },
};

impl Acme<'_> {
    /// Returns why nothing may be requested now: the account's limits, or a CA that is down.
    pub(super) fn held(&self) -> Option<Failure> {
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

    /// Records that the CA answered a request to `endpoint`, and enqueues the Certificates that wait for that.
    pub(super) fn answered(&self, endpoint: Endpoint) {
        let (ctx, server) = (self.reconcile.ctx(), &self.signer.spec.server);
        let woken = ctx
            .outages
            .answered(self.issuer, server, &queue_key(self.reconcile), endpoint);
        ctx.woken(woken, &self.signer);
    }

    /// Finds out whether the CA refuses the account, or only this order: CAs have one word for both.
    pub(super) async fn explained(&self, error: AcmeError) -> AcmeError {
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
    pub(super) fn record_refusal(&self, error: &AcmeError, endpoint: Endpoint, replaces: bool) -> Failure {
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
            self.signer.require_user_action(account::user_action(error));
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
}
