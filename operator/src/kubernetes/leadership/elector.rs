//! Campaigns for the Lease and then renews it.

use std::{future::Future, ops::ControlFlow, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Decision, Identity, LEASE_NAME, Leadership, LeaseError, LeaseStore, OBSERVE_EVERY, Observed, RENEW_DEADLINE,
    RENEW_EVERY, REQUEST_TIMEOUT, RETRY_EVERY, decide,
    decision::holder,
    lease::{fresh, held, released},
};

/// Campaigns and renews, until leadership is lost or released.
pub struct Elector {
    store: Arc<dyn LeaseStore>,
    me: Identity,
    leadership: Leadership,
    /// The wall clock, for people who read the Lease; nothing is decided by it.
    wall: fn() -> Timestamp,
}

impl Elector {
    /// A candidate, and the handle on what it wins. Nothing happens before [`Elector::run`].
    pub fn new(store: impl LeaseStore, me: Identity) -> (Self, Leadership) {
        Self::with_wall_clock(store, me, Timestamp::now)
    }

    pub(super) fn with_wall_clock(store: impl LeaseStore, me: Identity, wall: fn() -> Timestamp) -> (Self, Leadership) {
        let leadership = Leadership::candidate();
        (
            Self {
                store: Arc::new(store),
                me,
                leadership: leadership.clone(),
                wall,
            },
            leadership,
        )
    }

    /// Runs until leadership is lost, or `stop` is cancelled and the Lease given back.
    ///
    /// Cancel `stop` after the workers have ended: from then on the guard fails.
    pub async fn run(self, stop: CancellationToken) {
        info!(identity = %self.me, lease = LEASE_NAME, "standing for election");
        let elected = tokio::select! {
            lease = self.campaign() => lease,
            () = stop.cancelled() => return self.leadership.give_up(),
        };
        let Some(mut lease) = elected else {
            return self.leadership.give_up();
        };
        info!(identity = %self.me, "leading");
        let stopped = tokio::select! {
            () = self.renew(&mut lease) => false,
            () = stop.cancelled() => true,
        };
        self.leadership.give_up();
        if stopped {
            self.release(lease).await;
        } else {
            warn!(identity = %self.me, "leadership lost");
        }
    }

    /// Looks at the Lease until it is ours. `None` when it came too late to count.
    async fn campaign(&self) -> Option<Lease> {
        let mut observed: Option<Observed> = None;
        loop {
            match limited(self.store.get()).await {
                Ok(lease) => observed = Observed::after(observed, lease, Instant::now()),
                Err(error) => {
                    warn!(reason = error.reason(), %error, "cannot look at the Lease");
                    sleep(OBSERVE_EVERY).await;
                    continue;
                }
            }
            let start = Instant::now();
            let attempt = match (decide(observed.as_ref(), self.me.as_str(), start), &observed) {
                (Decision::WaitUntil(expires), _) => {
                    sleep_until(expires.min(start + OBSERVE_EVERY)).await;
                    continue;
                }
                (Decision::Take, Some(Observed { lease: Some(lease), .. })) => {
                    limited(self.store.replace(&held(lease, &self.me, (self.wall)()))).await
                }
                (Decision::Create | Decision::Take, _) => {
                    limited(self.store.create(&fresh(&self.me, (self.wall)()))).await
                }
            };
            match attempt {
                Ok(lease) => {
                    return self.leadership.extend(start + RENEW_DEADLINE).then_some(lease);
                }
                Err(LeaseError::Conflict | LeaseError::Missing) => {
                    debug!("another candidate was faster");
                }
                Err(error) => warn!(reason = error.reason(), %error, "cannot take the Lease"),
            }
            // Also after a conflict: the winner holds it now, and a Lease that others write continuously must not make us spin.
            sleep(OBSERVE_EVERY).await;
        }
    }

    /// Renews until leadership is lost.
    async fn renew(&self, lease: &mut Lease) {
        let mut next = Instant::now() + RENEW_EVERY;
        while let Some(deadline) = self.leadership.deadline() {
            sleep_until(next.min(deadline)).await;
            let start = Instant::now();
            if start >= deadline {
                return;
            }
            let attempt = timeout_at((start + REQUEST_TIMEOUT).min(deadline), self.renew_once(lease, start)).await;
            next = match attempt {
                Ok(Ok(ControlFlow::Continue(()))) => start + RENEW_EVERY,
                Ok(Ok(ControlFlow::Break(()))) => return,
                Ok(Err(error)) => {
                    warn!(reason = error.reason(), %error, "cannot renew the Lease");
                    start + RETRY_EVERY
                }
                Err(_) => {
                    warn!(reason = "Timeout", "cannot renew the Lease: no answer");
                    start + RETRY_EVERY
                }
            };
        }
    }

    /// One renewal. A conflict need not be a loss: a renewal of ours whose answer was lost
    /// also changes the `resourceVersion`, as does a client that adds a label.
    async fn renew_once(&self, lease: &mut Lease, start: Instant) -> Result<ControlFlow<()>, LeaseError> {
        let renewed = match self.store.replace(&held(lease, &self.me, (self.wall)())).await {
            Ok(renewed) => renewed,
            Err(LeaseError::Conflict) => match self.store.get().await? {
                Some(current) if holder(&current) == Some(self.me.as_str()) => {
                    // Kept before the second try, so that the next attempt starts from here if this one fails.
                    *lease = current;
                    self.store.replace(&held(lease, &self.me, (self.wall)())).await?
                }
                Some(current) => {
                    warn!(
                        holder = holder(&current).unwrap_or_default(),
                        "the Lease has another holder"
                    );
                    return Ok(ControlFlow::Break(()));
                }
                None => self.store.create(&fresh(&self.me, (self.wall)())).await?,
            },
            Err(LeaseError::Missing) => self.store.create(&fresh(&self.me, (self.wall)())).await?,
            Err(error) => return Err(error),
        };
        *lease = renewed;
        let in_time = self.leadership.extend(start + RENEW_DEADLINE);
        Ok(if in_time {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    }

    /// Gives the Lease back, so that the successor need not wait for it to expire.
    async fn release(&self, lease: Lease) {
        let given_back = async {
            match self.store.replace(&released(&lease, (self.wall)())).await {
                // The renewal that was interrupted may have taken effect.
                Err(LeaseError::Conflict) => match self.store.get().await? {
                    Some(current) if holder(&current) == Some(self.me.as_str()) => {
                        self.store.replace(&released(&current, (self.wall)())).await.map(drop)
                    }
                    _ => Ok(()),
                },
                other => other.map(drop),
            }
        };
        match limited(given_back).await {
            Ok(()) => info!(identity = %self.me, "leadership given back"),
            Err(error) => {
                warn!(reason = error.reason(), %error, "the Lease is not given back and will expire");
            }
        }
    }
}

/// `request`, given up after [`REQUEST_TIMEOUT`].
async fn limited<T>(request: impl Future<Output = Result<T, LeaseError>>) -> Result<T, LeaseError> {
    timeout(REQUEST_TIMEOUT, request)
        .await
        .unwrap_or_else(|_| Err(LeaseError::Unavailable("no answer in time".into())))
}
