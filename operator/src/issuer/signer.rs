//! The `acme` issuer when it is ready: the account, its queue, and its solvers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gatehouse_crds::issuer::AcmeIssuer;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    acme::{Account, FairQueue},
    records::Records,
    registry::Key,
    solver::{Author, SecretReader, Solver, SolverError, SolverFactory},
};

/// Credentials are read again at least this often: a Secret that was changed is used without a word.
const SOLVER_TTL: Duration = Duration::from_secs(300);

/// A solver, and when it was built.
type Built = (Arc<dyn Solver>, Instant);

/// An ACME account, ready to order.
pub struct AcmeSigner {
    pub account: Account,
    pub spec: AcmeIssuer,
    queue: Mutex<FairQueue>,
    /// Whether the CA does not know the account any more.
    forgotten: AtomicBool,
    /// Why the CA serves the account only after a user has acted there, until an order is placed.
    user_action: Mutex<Option<String>>,
    /// The CA's terms are to be agreed to once more.
    terms_due: AtomicBool,
    /// Channel to reconcile this issuer out of turn.
    again: (mpsc::UnboundedSender<Key>, Key),
    solver_factory: Arc<SolverFactory>,
    records: Arc<Records>,
    secrets: Arc<dyn SecretReader>,
    /// Cancelled when nothing may be written any more.
    ended: CancellationToken,
    solvers: tokio::sync::Mutex<HashMap<usize, Built>>,
}

impl AcmeSigner {
    /// `account` is established; `queue` knows what was learned before.
    pub fn new(
        account: Account,
        spec: AcmeIssuer,
        queue: FairQueue,
        (solver_factory, records): (Arc<SolverFactory>, Arc<Records>),
        secrets: Arc<dyn SecretReader>,
        again: (mpsc::UnboundedSender<Key>, Key),
        ended: CancellationToken,
    ) -> Self {
        Self {
            account,
            spec,
            queue: Mutex::new(queue),
            forgotten: AtomicBool::new(false),
            user_action: Mutex::default(),
            terms_due: AtomicBool::new(false),
            again,
            solver_factory,
            records,
            secrets,
            ended,
            solvers: tokio::sync::Mutex::default(),
        }
    }

    /// Runs `task` beside everything else, until it ends or nothing may be written any more.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        tokio::spawn(async move {
            ended.run_until_cancelled(task).await;
        });
    }

    /// Returns the issuer that it is.
    pub fn issuer(&self) -> &Key {
        &self.again.1
    }

    /// Returns the list of TXT records that its solvers wrote.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Works on the queue of the account.
    pub fn queue<T>(&self, work: impl FnOnce(&mut FairQueue) -> T) -> T {
        work(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps what the queue has learned in the issuer's status.
    pub fn keep(&self) {
        // Its controller is gone: the process is on its way out.
        let _ = self.again.0.send(self.again.1.clone());
    }

    /// Reconciles another issuer out of turn.
    pub fn look_at(&self, issuer: Key) {
        // Its controller is gone: the process is on its way out.
        let _ = self.again.0.send(issuer);
    }

    /// The CA does not know the account any more: it is to be established again.
    pub fn forget(&self) {
        self.forgotten.store(true, Ordering::Relaxed);
        self.keep();
    }

    /// Records that the CA serves the account only after a user has acted there; `message` has the CA's text.
    pub fn require_user_action(&self, message: String) {
        *self.lock_user_action() = Some(message);
        self.terms_due.store(true, Ordering::Relaxed);
        self.keep();
    }

    /// Takes the message of before a restart, which no request has confirmed yet.
    pub fn restore_user_action(&self, message: String) {
        *self.lock_user_action() = Some(message);
    }

    /// Records that the CA placed an order: nothing is required of a user any more.
    pub fn end_user_action(&self) {
        if self.lock_user_action().take().is_some() {
            self.keep();
        }
    }

    /// Returns the CA's text while a user has to act there.
    pub fn user_action(&self) -> Option<String> {
        self.lock_user_action().clone()
    }

    /// Returns, once for each refusal, whether the CA's terms are to be agreed to: they may be new.
    pub fn take_terms_due(&self) -> bool {
        self.terms_due.swap(false, Ordering::Relaxed)
    }

    fn lock_user_action(&self) -> MutexGuard<'_, Option<String>> {
        self.user_action.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether [`forget`](Self::forget) was called.
    pub fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// The solver at `index` of the spec, built when it is needed.
    pub async fn solver(&self, index: usize) -> Result<Arc<dyn Solver>, SolverError> {
        // Held while building: many certificates that start together read the credentials once.
        let mut solvers = self.solvers.lock().await;
        if let Some((solver, built)) = solvers.get(&index)
            && built.elapsed() < SOLVER_TTL
        {
            return Ok(solver.clone());
        }
        let spec = self.spec.solvers.get(index).ok_or_else(|| SolverError::InvalidSolver {
            field: "solvers".into(),
            detail: format!("there is no entry {index}"),
        })?;
        let author = Author::of(&self.again.1);
        let solver = self.solver_factory.build(&author, spec, self.secrets.as_ref()).await?;
        solvers.insert(index, (solver.clone(), Instant::now()));
        Ok(solver)
    }

    /// The credentials of solvers have changed: all are built again when they are needed.
    pub async fn forget_solvers(&self) {
        self.solvers.lock().await.clear();
    }

    /// The solver at `index` failed: its credentials are read again for the next attempt.
    pub async fn distrust(&self, index: usize) {
        self.solvers.lock().await.remove(&index);
    }
}
