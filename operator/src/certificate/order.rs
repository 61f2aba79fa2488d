//! Issuing by ACME, one step at a time: nothing here waits; it says when to come again.
//!
//! What an order needs to be taken up after a crash is outside of the process before the CA can
//! need it: its URL in the status, its key in a Secret of its own. Everything else the CA tells.

mod challenges;
mod ending;

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
};
pub use self::{
    challenges::solvers,
    ending::{failure, interrupted, outage},
};
use super::{
    failure::{Class, Failure},
    holding::Held,
    wanted::Wanted,
};
use crate::{
    issuer::{
        acme::{
            self, AcmeAccount, AcmeError, AcmeOrder, AuthorizationView, Endpoint, NewOrder, OrderView, Step, next_step,
            poll_after,
        },
        registry::Key,
        signer::AcmeSigner,
    },
    pki::{self, PrivateKey, SubjectIn},
};

/// Steps that one call takes at most: a certificate of a hundred names needs seven.
const STEPS: usize = 32;

/// Orders in flight, by the UID of their Certificate.
#[derive(Default)]
pub struct Orders(Mutex<HashMap<String, Flight>>);

impl Orders {
    /// Takes an order out, to work on it.
    pub fn take(&self, uid: &str) -> Option<Flight> {
        self.lock().remove(uid)
    }

    /// Puts it back.
    pub fn put(&self, uid: &str, flight: Flight) {
        self.lock().insert(uid.to_owned(), flight);
    }

    /// What the order that is in flight asks of the CA next.
    pub fn next_endpoint(&self, uid: &str, now: Timestamp) -> Option<Endpoint> {
        self.lock().get(uid).map(|flight| flight.next_endpoint(now))
    }

    /// Whether one is in flight.
    pub fn has(&self, uid: &str) -> bool {
        self.lock().contains_key(uid)
    }

    /// Whether the certificate of the one in flight is there, and only has yet to be written.
    pub fn has_landed(&self, uid: &str) -> bool {
        self.lock().get(uid).is_some_and(|flight| flight.held.is_some())
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An order in flight.
pub struct Flight {
    pub issuer: Key,
    pub signer: Arc<AcmeSigner>,
    /// What it is for.
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
    /// The certificate, when it is there and has yet to be written.
    pub held: Option<Held>,
    /// Why the certificate's chain is not the preferred one, to be reported with it.
    pub chain_note: Option<String>,
    /// What is asked of the CA now, or was last.
    at: Endpoint,
    /// What the CA has answered since this was last emptied.
    pub heard: Vec<Endpoint>,
    /// Whether the status names it.
    pub recorded: bool,
    /// When its state was last written to the status.
    pub told: Instant,
}

/// How far an order came.
pub enum Progress {
    /// Call again after this time.
    Again(Duration),
    /// The certificate is in [`Flight::held`].
    Issued,
    /// The order goes on, but not now.
    Paused(Failure),
    /// This order will never give a certificate.
    Failed(Failure),
    /// The order is lost through nobody's fault; another one may be placed at once.
    Lapsed(Failure),
}

/// What is ordered.
pub fn new_order(signer: &AcmeSigner, wanted: &Wanted, replaces: Option<String>) -> NewOrder {
    let request = wanted.for_acme();
    let names = request
        .dns_names
        .iter()
        .map(|name| acme::Identifier::Dns(name.to_string()));
    let addresses = request
        .ip_addresses
        .iter()
        .map(|address| acme::Identifier::Ip(*address));
    NewOrder {
        identifiers: names.chain(addresses).collect(),
        profile: signer.spec.profile.clone(),
        not_after: None,
        replaces,
    }
}

impl Flight {
    /// Places an order. Its URL must be kept before anything else is done.
    pub async fn begin(
        issuer: Key,
        signer: Arc<AcmeSigner>,
        wanted: &Wanted,
        key: Arc<PrivateKey>,
        replaces: Option<String>,
    ) -> Result<Self, AcmeError> {
        let session = AcmeAccount::begin(&signer.account, &new_order(&signer, wanted, replaces)).await?;
        Ok(Self::new(issuer, signer, wanted, key, session))
    }

    /// Takes up an order that was placed before a restart.
    pub async fn resume(
        issuer: Key,
        signer: Arc<AcmeSigner>,
        wanted: &Wanted,
        key: Arc<PrivateKey>,
        url: &str,
    ) -> Result<Self, AcmeError> {
        let identifiers = new_order(&signer, wanted, None).identifiers;
        let mut session = AcmeAccount::resume(&signer.account, url, &identifiers).await?;
        if let Err(error) = session.read_decided().await {
            tracing::warn!(order = url, %error, "authorizations cannot be read; answers to their challenges may be left behind");
        }
        let mut flight = Self::new(issuer, signer, wanted, key, session);
        flight.resumed = true;
        Ok(flight)
    }

    fn new(
        issuer: Key,
        signer: Arc<AcmeSigner>,
        wanted: &Wanted,
        key: Arc<PrivateKey>,
        session: Box<dyn AcmeOrder>,
    ) -> Self {
        Self {
            issuer,
            signer,
            request_hash: wanted.request_hash.clone(),
            key,
            session,
            presented: HashMap::new(),
            resumed: false,
            labels: BTreeMap::new(),
            poll_at: None,
            held: None,
            chain_note: None,
            at: Endpoint::Order,
            heard: Vec::new(),
            recorded: false,
            told: Instant::now(),
        }
    }

    /// What of the CA was asked last.
    pub fn endpoint(&self) -> Endpoint {
        self.at
    }

    /// What of the CA is asked next.
    pub fn next_endpoint(&self, now: Timestamp) -> Endpoint {
        match next_step(self.session.view(), now) {
            Step::Finalize => Endpoint::Finalize,
            Step::Collect => Endpoint::Certificate,
            Step::Present(_) => Endpoint::Challenge,
            Step::Fetch | Step::Poll | Step::Failed(_) => Endpoint::Order,
        }
    }

    /// The order's URL.
    pub fn url(&self) -> &str {
        &self.session.view().url
    }

    /// Takes as many steps as can be taken without waiting. After an error it is as it was before the last of them.
    pub async fn advance(
        &mut self,
        wanted: &Wanted,
        labels: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Progress, AcmeError> {
        if self.held.is_some() {
            return Ok(Progress::Issued);
        }
        self.labels.clone_from(labels);
        for _ in 0..STEPS {
            if let Some(progress) = self.step(wanted, labels, now).await? {
                return Ok(progress);
            }
        }
        Ok(Progress::Again(Duration::from_millis(100)))
    }

    async fn step(
        &mut self,
        wanted: &Wanted,
        labels: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Option<Progress>, AcmeError> {
        self.at = self.next_endpoint(now);
        match next_step(self.session.view(), now) {
            Step::Fetch => {
                self.session.refresh().await?;
                self.heard.push(self.at);
            }
            Step::Present(authorizations) => {
                let authorizations: Vec<AuthorizationView> = authorizations.into_iter().cloned().collect();
                return self.answer(&authorizations, labels, now).await;
            }
            Step::Poll => {
                let due = *self
                    .poll_at
                    .get_or_insert_with(|| Instant::now() + pause(self.session.view()));
                let left = due.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Ok(Some(Progress::Again(left)));
                }
                self.poll_at = None;
                self.session.refresh().await?;
                self.heard.push(self.at);
            }
            Step::Finalize => {
                let csr =
                    match pki::certificate_signing_request(&wanted.for_acme(), &self.key, SubjectIn::CommonNameOnly) {
                        Ok(csr) => csr,
                        Err(error) => {
                            return Ok(Some(Progress::Failed(Failure::new(
                                Class::Spec,
                                "Invalid",
                                error.to_string(),
                            ))));
                        }
                    };
                self.poll_at = None;
                self.session.finalize(&csr).await?;
                self.heard.push(self.at);
            }
            Step::Collect => {
                let preferred = self.signer.spec.preferred_chain.clone();
                let chains = self.session.certificate(preferred.is_some()).await?;
                self.heard.push(self.at);
                return Ok(Some(
                    match chosen(&chains.all, preferred.as_deref(), wanted, &self.key) {
                        Ok(chain) => {
                            self.chain_note = unchosen(&chain, preferred.as_deref(), chains.unread.as_deref());
                            self.held = Some(Held::new(self.key.clone(), chain));
                            Progress::Issued
                        }
                        Err(failure) => Progress::Failed(failure),
                    },
                ));
            }
            Step::Failed(failure) => return Ok(Some(self.with_sights(ended(&failure)))),
        }
        Ok(None)
    }
}

/// When to look again after the CA was told something.
fn pause(view: &OrderView) -> Duration {
    poll_after(view.polls, view.retry_after)
}
