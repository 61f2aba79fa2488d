//! Issuing by ACME, one step at a time: nothing here waits; it says when to come again.
//!
//! An order can be resumed after a crash because its URL is in the status and its key in a Secret of its own before the
//! CA can need them. Everything else is read from the CA.

mod challenges;
mod ending;
mod waiting;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use self::{
    challenges::Presented,
    ending::{chosen, ended, unchosen},
    waiting::Waiting,
};
pub use self::{
    challenges::solvers,
    ending::{failure, interrupted, outage},
};
use super::{
    desired::DesiredCertificate,
    failure::{Class, Failure},
    observed_secret::KeyPair,
    renewal,
};
use crate::{
    issuer::{
        acme::{
            self, AcmeAccount, AcmeError, AcmeOrder, AuthorizationView, Endpoint, FailureKind, NewOrder, OrderStatus,
            Step, next_step, poll_after,
        },
        registry::Key,
        signer::AcmeSigner,
    },
    pki::{self, Chain, PrivateKey, SubjectIn},
};

/// Steps that one call takes at most: a certificate of a hundred names needs seven.
const MAX_STEPS: usize = 32;

/// Orders in flight, by the UID of their Certificate.
#[derive(Default)]
pub struct Orders(Mutex<HashMap<String, InFlightOrder>>);

impl Orders {
    /// Takes an order out, to work on it.
    pub fn take(&self, uid: &str) -> Option<InFlightOrder> {
        self.lock().remove(uid)
    }

    /// Puts it back.
    pub fn put(&self, uid: &str, flight: InFlightOrder) {
        self.lock().insert(uid.to_owned(), flight);
    }

    /// Returns the endpoint that the order in progress uses next.
    pub fn next_endpoint(&self, uid: &str, now: Timestamp) -> Option<Endpoint> {
        self.lock().get(uid).map(|flight| flight.next_endpoint(now))
    }

    /// Whether one is in flight.
    pub fn has(&self, uid: &str) -> bool {
        self.lock().contains_key(uid)
    }

    /// Returns whether the certificate is issued, and only has to be written.
    pub fn has_landed(&self, uid: &str) -> bool {
        self.lock().get(uid).is_some_and(|flight| flight.pair.is_some())
    }

    /// Challenges that are in place and not yet decided, by type.
    pub fn challenges(&self) -> Vec<(&'static str, u64)> {
        let mut counts = [("dns-01", 0), ("http-01", 0)];
        for presented in self.lock().values().flat_map(|flight| flight.presented.values()) {
            for (kind, count) in &mut counts {
                *count += u64::from(*kind == presented.challenge.kind.as_str());
            }
        }
        counts.to_vec()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, InFlightOrder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An order in flight.
pub struct InFlightOrder {
    pub issuer: Key,
    pub signer: Arc<AcmeSigner>,
    /// Identifiers of the request.
    pub request_hash: String,
    key: Arc<PrivateKey>,
    session: Box<dyn AcmeOrder>,
    /// By the URL of the challenge.
    presented: HashMap<String, Presented>,
    /// Set when a process before placed it, and may have answered challenges.
    resumed: bool,
    /// Those of the Certificate, by which solvers are selected.
    labels: BTreeMap<String, String>,
    poll_at: Option<Instant>,
    /// Since when the CA has the next move.
    waiting: Option<Waiting>,
    /// The CA took the CSR, whatever the order's status says.
    finalized: bool,
    /// Number of times that the CA was not ready although its own answer said so.
    unready: u32,
    /// The issued certificate, until it is written.
    pub pair: Option<KeyPair>,
    /// URL of the certificate at the CA.
    pub certificate_url: Option<String>,
    /// Why the certificate's chain is not the preferred one, to be reported with it.
    pub chain_note: Option<String>,
    /// Present or last endpoint.
    at: Endpoint,
    /// Endpoints that answered since this list was last emptied.
    pub answered: Vec<Endpoint>,
    /// Whether the status names it.
    pub recorded: bool,
    /// When its state was last written to the status.
    pub reported_at: Instant,
}

/// Progress of an order after a step.
pub enum Progress {
    /// Call again after this time.
    Again(Duration),
    /// The certificate is in [`InFlightOrder::pair`].
    Issued,
    /// The order continues later.
    Paused(Failure),
    /// This order will never give a certificate.
    Failed(Failure),
    /// The order was lost without a failure; another may be placed at once.
    Lapsed(Failure),
}

/// Returns what the CA has to verify.
pub fn identifiers(desired: &DesiredCertificate) -> Vec<acme::Identifier> {
    let request = desired.for_acme();
    let names = request
        .dns_names
        .iter()
        .map(|name| acme::Identifier::Dns(name.to_string()));
    let addresses = request
        .ip_addresses
        .iter()
        .map(|address| acme::Identifier::Ip(*address));
    names.chain(addresses).collect()
}

/// Returns what is ordered. The duration is requested only where the issuer says so: most CAs refuse it.
fn new_order(signer: &AcmeSigner, desired: &DesiredCertificate, replaces: Option<String>, now: Timestamp) -> NewOrder {
    let requested = signer.spec.enable_duration_feature == Some(true);
    let duration = desired.duration.filter(|_| requested);
    NewOrder {
        identifiers: identifiers(desired),
        profile: signer.spec.profile.clone(),
        replaces,
        not_after: duration.and_then(|lifetime| renewal::whole_seconds_up(now).checked_add(lifetime).ok()),
    }
}

impl InFlightOrder {
    /// Places an order. Its URL must be kept before anything else is done.
    pub async fn begin(
        issuer: Key,
        signer: Arc<AcmeSigner>,
        desired: &DesiredCertificate,
        key: Arc<PrivateKey>,
        replaces: Option<String>,
        now: Timestamp,
    ) -> Result<Self, AcmeError> {
        let session = AcmeAccount::begin(&signer.account, &new_order(&signer, desired, replaces, now)).await?;
        Ok(Self::new(issuer, signer, desired, key, session))
    }

    /// Takes up an order that was placed before a restart.
    pub async fn resume(
        issuer: Key,
        signer: Arc<AcmeSigner>,
        desired: &DesiredCertificate,
        key: Arc<PrivateKey>,
        (url, waiting_since): (&str, Option<Timestamp>),
    ) -> Result<Self, AcmeError> {
        let identifiers = identifiers(desired);
        let mut session = AcmeAccount::resume(&signer.account, url, &identifiers).await?;
        if let Err(error) = session.read_decided().await {
            tracing::warn!(order = url, %error, "authorizations cannot be read; answers to their challenges may be left behind");
        }
        let mut flight = Self::new(issuer, signer, desired, key, session);
        flight.resumed = true;
        flight.waiting = waiting_since.map(|since| Waiting::resumed(since, flight.session.view()));
        Ok(flight)
    }

    fn new(
        issuer: Key,
        signer: Arc<AcmeSigner>,
        desired: &DesiredCertificate,
        key: Arc<PrivateKey>,
        session: Box<dyn AcmeOrder>,
    ) -> Self {
        Self {
            issuer,
            signer,
            request_hash: desired.request_hash.clone(),
            key,
            session,
            presented: HashMap::new(),
            resumed: false,
            labels: BTreeMap::new(),
            poll_at: None,
            waiting: None,
            finalized: false,
            unready: 0,
            pair: None,
            certificate_url: None,
            chain_note: None,
            at: Endpoint::Order,
            answered: Vec::new(),
            recorded: false,
            reported_at: Instant::now(),
        }
    }

    /// Returns the endpoint that was used last.
    pub fn endpoint(&self) -> Endpoint {
        self.at
    }

    /// Returns the endpoint that is used next.
    pub fn next_endpoint(&self, now: Timestamp) -> Endpoint {
        match next_step(self.session.view(), now) {
            Step::Finalize => Endpoint::Finalize,
            Step::Collect => Endpoint::Certificate,
            Step::Present(_) => Endpoint::Challenge,
            Step::Fetch | Step::Poll | Step::Failed(_) => Endpoint::Order,
        }
    }

    /// Returns why the CA refused the requested end of the certificate, so that it was ordered without.
    pub fn duration_refused(&self) -> Option<&str> {
        self.session.view().not_after_refused.as_deref()
    }

    /// Returns since when the CA has had the next move, to be kept over a restart.
    pub fn waiting_since(&self) -> Option<Timestamp> {
        self.waiting.map(Waiting::since)
    }

    /// The order's URL.
    pub fn url(&self) -> &str {
        &self.session.view().url
    }

    /// Takes as many steps as can be taken without waiting. After an error it is as it was before the last of them.
    pub async fn advance(
        &mut self,
        desired: &DesiredCertificate,
        labels: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Progress, AcmeError> {
        if self.pair.is_some() {
            return Ok(Progress::Issued);
        }
        self.labels.clone_from(labels);
        for _ in 0..MAX_STEPS {
            if let Some(progress) = self.step(desired, labels, now).await? {
                return Ok(progress);
            }
        }
        Ok(Progress::Again(Duration::from_millis(100)))
    }

    async fn step(
        &mut self,
        desired: &DesiredCertificate,
        labels: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Option<Progress>, AcmeError> {
        self.at = self.next_endpoint(now);
        match next_step(self.session.view(), now) {
            Step::Fetch => {
                self.session.refresh().await?;
                self.answered.push(self.at);
            }
            Step::Present(authorizations) => {
                let authorizations: Vec<AuthorizationView> = authorizations.into_iter().cloned().collect();
                return self.answer(&authorizations, labels, now).await;
            }
            Step::Poll => return self.poll(now).await,
            // A second CSR would be a mistake, or a second certificate.
            Step::Finalize if self.finalized => return self.poll(now).await,
            Step::Finalize | Step::Collect if let Some(left) = self.pause_left() => {
                return Ok(Some(Progress::Again(left)));
            }
            Step::Finalize => {
                let csr =
                    match pki::certificate_signing_request(&desired.for_acme(), &self.key, SubjectIn::CommonNameOnly) {
                        Ok(csr) => csr,
                        Err(error) => {
                            return Ok(Some(Progress::Failed(Failure::new(
                                Class::Spec,
                                "Invalid",
                                error.to_string(),
                            ))));
                        }
                    };
                match self.session.finalize(&csr).await {
                    Ok(()) => self.finalized = self.session.view().status != OrderStatus::Pending,
                    Err(AcmeError::OrderNotReady { .. }) => return Ok(Some(self.unready(now))),
                    Err(error) => return Err(error),
                }
                self.poll_at = None;
                self.answered.push(self.at);
            }
            Step::Collect => {
                let preferred = self.signer.spec.preferred_chain.clone();
                let chains = match self.session.certificate(preferred.is_some()).await {
                    Ok(chains) => chains,
                    Err(AcmeError::OrderNotReady { .. }) => return Ok(Some(self.unready(now))),
                    Err(error) => return Err(error),
                };
                self.answered.push(self.at);
                return Ok(Some(
                    match chosen(&chains.all, preferred.as_deref(), desired, &self.key, now) {
                        Ok(chain) => {
                            let is_chosen = |pem: &String| {
                                Chain::read(pem.as_bytes(), Some(&self.key)).is_ok_and(|read| read == chain)
                            };
                            let all = chains.all.iter().zip(&chains.urls);
                            self.certificate_url = all
                                .into_iter()
                                .find(|(pem, _)| is_chosen(pem))
                                .map(|(_, url)| url.clone());
                            self.chain_note = unchosen(&chain, preferred.as_deref(), chains.unread.as_deref());
                            self.pair = Some(KeyPair::new(self.key.clone(), chain));
                            Progress::Issued
                        }
                        Err(failure) => Progress::Failed(failure),
                    },
                ));
            }
            Step::Failed(failure) => {
                // It expired while the CA had the next move.
                let late = (failure.kind == FailureKind::Lapsed)
                    .then(|| self.waiting?.overdue(self.session.view(), now))
                    .flatten();
                let ended = late.map_or_else(|| ended(&failure), Progress::Failed);
                return Ok(Some(self.with_sights(ended)));
            }
        }
        Ok(None)
    }

    /// The CA has the next move: reads the order when it is time to.
    async fn poll(&mut self, now: Timestamp) -> Result<Option<Progress>, AcmeError> {
        if self.poll_at.is_none() {
            let view = self.session.view();
            let pause = poll_after(view.polls, view.retry_after);
            if let Some(failure) = self.wait(now, pause) {
                return Ok(Some(Progress::Failed(failure)));
            }
        }
        if let Some(left) = self.pause_left() {
            return Ok(Some(Progress::Again(left)));
        }
        // After the answer: the known state of the order is older, and says nothing about a wait that continued without it.
        self.session.refresh().await?;
        self.answered.push(self.at);
        self.poll_at = None;
        Ok(None)
    }

    /// The CA is not ready for what its own answer had asked for: the same is tried again a little later.
    fn unready(&mut self, now: Timestamp) -> Progress {
        self.unready = self.unready.saturating_add(1);
        let pause = poll_after(self.unready, self.session.view().retry_after);
        match self.wait(now, pause) {
            Some(failure) => Progress::Failed(failure),
            None => Progress::Again(self.pause_left().unwrap_or_default()),
        }
    }

    /// Waits for the CA, for `pause` or as long as it still has; gives the failure when its time is over.
    fn wait(&mut self, now: Timestamp, pause: Duration) -> Option<Failure> {
        let view = self.session.view();
        let waiting = Waiting::continued(self.waiting, view, now);
        self.waiting = Some(waiting);
        let failure = waiting.overdue(view, now);
        let pause = pause.min(waiting.left(view, now));
        self.poll_at = Some(Instant::now() + pause);
        failure
    }

    /// Returns what is left of the pause between two requests, if any.
    fn pause_left(&self) -> Option<Duration> {
        let left = self.poll_at?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}
