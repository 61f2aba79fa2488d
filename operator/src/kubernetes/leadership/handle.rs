//! The handle that every writer holds.

use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{LEASE_DURATION, RENEW_DEADLINE};

/// This process does not lead, or no longer: nothing may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process is not the leader")]
pub struct NotLeader;

impl NotLeader {
    /// Stable name of the error.
    pub fn reason(&self) -> &'static str {
        "NotLeader"
    }
}

/// Leadership of a process. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Candidate,
    Leader,
    Lost,
}

#[derive(Debug)]
struct State {
    /// `deadline` counts from here.
    origin: Instant,
    /// Nanoseconds from `origin` until which the guard passes; 0 when it does not pass.
    deadline: AtomicU64,
    standing: watch::Sender<Standing>,
}

/// Whether this process may write. Cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct Leadership {
    /// `None`: no election is held, this process always leads.
    state: Option<Arc<State>>,
}

impl Leadership {
    /// Runs without election: the guard always passes.
    pub fn always() -> Self {
        Self { state: None }
    }

    /// A candidate that does not lead yet.
    pub(crate) fn candidate() -> Self {
        let state = State {
            origin: Instant::now(),
            deadline: AtomicU64::new(0),
            standing: watch::Sender::new(Standing::Candidate),
        };
        Self {
            state: Some(Arc::new(state)),
        }
    }

    /// Whether the guard passes now.
    pub fn is_leader(&self) -> bool {
        self.check().is_ok()
    }

    /// The guard before each external write.
    ///
    /// # Errors
    /// [`NotLeader`] before election, after release, and once the renew deadline has passed.
    pub fn check(&self) -> Result<(), NotLeader> {
        match &self.state {
            None => Ok(()),
            Some(state) if Instant::now() < state.deadline() => Ok(()),
            Some(_) => Err(NotLeader),
        }
    }

    /// Returns how long a write that begins now may take: no successor can start before.
    /// Zero when the guard does not pass, `None` when no election is held.
    pub fn time_left(&self) -> Option<Duration> {
        let state = self.state.as_ref()?;
        let (now, deadline) = (Instant::now(), state.deadline());
        let margin = LEASE_DURATION.saturating_sub(RENEW_DEADLINE);
        Some(if now < deadline {
            deadline - now + margin
        } else {
            Duration::ZERO
        })
    }

    /// Returns once this process leads; never when it was lost before that.
    pub async fn wait_until_leader(&self) {
        let Some(state) = &self.state else { return };
        let mut standing = state.standing.subscribe();
        if standing
            .wait_for(|standing| *standing == Standing::Leader)
            .await
            .is_err()
        {
            future::pending::<()>().await;
        }
    }

    /// Returns once leadership is lost or given back, or the candidacy ended: the process ends then.
    ///
    /// It watches the deadline itself, so it returns even when the renewing task hangs.
    pub async fn lost(&self) {
        let Some(state) = &self.state else {
            return future::pending().await;
        };
        let mut standing = state.standing.subscribe();
        loop {
            let now_standing = *standing.borrow_and_update();
            match now_standing {
                Standing::Lost => return,
                Standing::Candidate => {
                    if standing.changed().await.is_err() {
                        future::pending::<()>().await;
                    }
                }
                Standing::Leader => {
                    let deadline = state.deadline();
                    if deadline <= Instant::now() {
                        return;
                    }
                    tokio::select! {
                        () = sleep_until(deadline) => {}
                        _ = standing.changed() => {}
                    }
                }
            }
        }
    }

    /// The guard passes from now until `deadline`. False when leadership was lost already: a
    /// leader that was late is not one again, for what it has cached may be stale.
    pub(crate) fn extend(&self, deadline: Instant) -> bool {
        let Some(state) = &self.state else {
            return true;
        };
        let held = match *state.standing.borrow() {
            Standing::Candidate => true,
            Standing::Leader => Instant::now() < state.deadline(),
            Standing::Lost => false,
        };
        if !held || deadline <= Instant::now() {
            return false;
        }
        let nanos = deadline.saturating_duration_since(state.origin).as_nanos();
        state
            .deadline
            .store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Release);
        state.standing.send_if_modified(|standing| {
            let elected = *standing == Standing::Candidate;
            *standing = Standing::Leader;
            elected
        });
        true
    }

    /// The guard fails from now on, for good.
    pub(super) fn give_up(&self) {
        let Some(state) = &self.state else { return };
        state.deadline.store(0, Ordering::Release);
        state.standing.send_replace(Standing::Lost);
    }

    /// Until when the guard passes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.state.as_ref().map(|state| state.deadline())
    }
}

impl State {
    fn deadline(&self) -> Instant {
        self.origin + Duration::from_nanos(self.deadline.load(Ordering::Acquire))
    }
}
