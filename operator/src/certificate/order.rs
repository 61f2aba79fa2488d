//! Issuing by ACME, one step at a time: nothing here waits; it says when to come again.
//!
//! What an order needs to be taken up after a crash is outside of the process before the CA can
//! need it: its URL in the status, its key in a Secret of its own. Everything else the CA tells.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream};
use gatehouse_crds::certificate::{ChallengeState, ChallengeStatus};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    failure::{Class, Failure},
    holding::Held,
    wanted::Wanted,
};
use crate::{
    issuer::{
        acme::{
            self, AcmeAccount, AcmeError, AcmeOrder, AuthorizationView, FailureKind, NewOrder, OrderView, Step,
            next_step, poll_after,
        },
        registry::Key,
        signer::AcmeSigner,
        solver::{self, Challenge, Readiness, Solver, SolverError},
    },
    pki::{self, Chain, Fidelity, PrivateKey, SubjectIn},
};

/// Steps that one call takes at most: a certificate of a hundred names needs seven.
const STEPS: usize = 32;
/// Challenges of one order that are worked on at once.
const TOGETHER: usize = 10;
/// Clean-up is best effort, and has this long.
const CLEAN_UP: Duration = Duration::from_secs(60);

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
    poll_at: Option<Instant>,
    /// The certificate, when it is there and has yet to be written.
    pub held: Option<Held>,
    /// Whether the status names it.
    pub recorded: bool,
    /// When its state was last written to the status.
    pub told: Instant,
}

/// An answer that is in place.
struct Presented {
    challenge: Challenge,
    solver: Arc<dyn Solver>,
    since: Timestamp,
    message: Option<String>,
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
        replaces,
    }
}

/// Whether an ACME CA can be asked for this at all, and which solver answers for each name: said before
/// anything is ordered.
pub fn solvers(
    signer: &AcmeSigner,
    wanted: &Wanted,
    labels: &std::collections::BTreeMap<String, String>,
) -> Result<Vec<ChallengeStatus>, Failure> {
    let request = wanted.for_acme();
    if request.is_ca || !request.uris.is_empty() || !request.email_addresses.is_empty() {
        return Err(Failure::new(
            Class::Spec,
            "Invalid",
            "an ACME CA signs host names and IP addresses only: take away isCA, uris and emailAddresses, or use a ca issuer",
        ));
    }
    if request.dns_names.is_empty() && request.ip_addresses.is_empty() {
        return Err(Failure::new(
            Class::Spec,
            "Invalid",
            "an ACME CA needs a host name or IP address: write dnsNames or ipAddresses",
        ));
    }
    new_order(signer, wanted, None)
        .identifiers
        .iter()
        .map(|identifier| {
            let (identifier, wildcard) = split(identifier);
            let index = solver::select(
                &signer.spec.solvers,
                solver::Wanted {
                    identifier: &identifier,
                    wildcard,
                    labels,
                },
            )
            .map_err(|error| Failure::new(Class::Refused, error.reason(), error.to_string()))?;
            let is_dns = signer
                .spec
                .solvers
                .get(index)
                .is_some_and(|solver| solver.dns01.is_some());
            Ok(ChallengeStatus {
                kind: if is_dns { "dns-01" } else { "http-01" }.into(),
                identifier: if wildcard {
                    format!("*.{identifier}")
                } else {
                    identifier.to_string()
                },
                state: ChallengeState::Presenting,
                message: None,
            })
        })
        .collect()
}

/// An identifier of an order, as solvers know it.
fn split(identifier: &acme::Identifier) -> (solver::Identifier, bool) {
    match identifier {
        acme::Identifier::Ip(address) => (solver::Identifier::Ip(*address), false),
        acme::Identifier::Dns(name) => match name.strip_prefix("*.") {
            Some(base) => (solver::Identifier::Dns(base.to_owned()), true),
            None => (solver::Identifier::Dns(name.clone()), false),
        },
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
        let session = AcmeAccount::resume(&signer.account, url).await?;
        Ok(Self::new(issuer, signer, wanted, key, session))
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
            poll_at: None,
            held: None,
            recorded: false,
            told: Instant::now(),
        }
    }

    /// The order's URL.
    pub fn url(&self) -> &str {
        &self.session.view().url
    }

    /// Takes as many steps as can be taken without waiting.
    pub async fn advance(
        &mut self,
        wanted: &Wanted,
        labels: &std::collections::BTreeMap<String, String>,
        now: Timestamp,
    ) -> Progress {
        if self.held.is_some() {
            return Progress::Issued;
        }
        for _ in 0..STEPS {
            match self.step(wanted, labels, now).await {
                Ok(Some(progress)) => return progress,
                Ok(None) => {}
                Err(error) => return trouble(&self.signer, &error),
            }
        }
        Progress::Again(Duration::from_millis(100))
    }

    async fn step(
        &mut self,
        wanted: &Wanted,
        labels: &std::collections::BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Option<Progress>, AcmeError> {
        match next_step(self.session.view(), now) {
            Step::Fetch => self.session.refresh().await?,
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
            }
            Step::Collect => {
                let preferred = self.signer.spec.preferred_chain.clone();
                let chains = self.session.certificate(preferred.is_some()).await?;
                return Ok(Some(match chosen(&chains, preferred.as_deref(), wanted, &self.key) {
                    Ok(chain) => {
                        self.held = Some(Held::new(self.key.clone(), chain));
                        Progress::Issued
                    }
                    Err(failure) => Progress::Failed(failure),
                }));
            }
            Step::Failed(failure) => return Ok(Some(ended(&failure))),
        }
        Ok(None)
    }

    /// Puts answers in place and, where they can be seen, tells the CA to look.
    async fn answer(
        &mut self,
        authorizations: &[AuthorizationView],
        labels: &std::collections::BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Option<Progress>, AcmeError> {
        let signer = &self.signer;
        let known = &self.presented;
        let work: Vec<_> = authorizations
            .iter()
            .map(|authorization| present(signer, known, authorization, labels, now).boxed())
            .collect();
        let outcomes: Vec<_> = stream::iter(work).buffer_unordered(TOGETHER).collect().await;
        let (mut ready, mut wait, mut failure) = (Vec::new(), None::<Duration>, None);
        for outcome in outcomes {
            match outcome {
                Ok((url, presented, readiness)) => {
                    match readiness {
                        Readiness::Ready => ready.push(url.clone()),
                        Readiness::Wait { after, .. } => wait = Some(wait.map_or(after, |before| before.min(after))),
                    }
                    self.presented.insert(url, presented);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        // Those that are ready are not held up by those that are not.
        for url in &ready {
            self.session.challenge_ready(url).await?;
            self.poll_at = None;
        }
        Ok(match (failure, wait) {
            (Some(failure), _) => Some(Progress::Paused(failure)),
            (None, Some(wait)) => Some(Progress::Again(wait.max(Duration::from_millis(20)))),
            (None, None) => None,
        })
    }

    /// The challenges, as the status shows them.
    pub fn challenges(&self) -> Vec<ChallengeStatus> {
        self.session
            .view()
            .authorizations
            .iter()
            .map(|authorization| self.challenge(authorization))
            .collect()
    }

    fn challenge(&self, authorization: &AuthorizationView) -> ChallengeStatus {
        let ours = authorization
            .challenges
            .iter()
            .find_map(|challenge| Some((challenge, self.presented.get(&challenge.url)?)));
        let state = match (authorization.status, ours) {
            (acme::AuthorizationStatus::Valid, _) => ChallengeState::Valid,
            (acme::AuthorizationStatus::Pending, None) => ChallengeState::Presenting,
            (acme::AuthorizationStatus::Pending, Some((challenge, _))) if challenge.told => ChallengeState::Validating,
            (acme::AuthorizationStatus::Pending, Some(_)) => ChallengeState::Propagating,
            _ => ChallengeState::Invalid,
        };
        ChallengeStatus {
            kind: ours
                .map_or("dns-01", |(_, presented)| presented.challenge.kind.as_str())
                .into(),
            identifier: authorization.name(),
            state,
            message: ours
                .and_then(|(_, presented)| presented.message.clone())
                .filter(|_| state == ChallengeState::Propagating),
        }
    }

    /// Takes the answers away in the background: best effort, never in the way of anything.
    pub fn clean_up(&mut self) {
        let presented: Vec<_> = self.presented.drain().map(|(_, presented)| presented).collect();
        if presented.is_empty() {
            return;
        }
        tokio::spawn(async move {
            let work = stream::iter(presented).for_each_concurrent(TOGETHER, |presented| async move {
                if let Err(error) = presented.solver.clean_up(&presented.challenge).await {
                    tracing::warn!(identifier = %presented.challenge.identifier, %error, "the answer to a challenge could not be taken away and is left behind");
                }
            });
            if tokio::time::timeout(CLEAN_UP, work).await.is_err() {
                tracing::warn!("taking away the answers to challenges took too long; some are left behind");
            }
        });
    }
}

/// When to look again after the CA was told something.
fn pause(view: &OrderView) -> Duration {
    poll_after(view.polls, view.retry_after)
}

/// One authorization: the answer in place, and whether it can be seen.
async fn present(
    signer: &AcmeSigner,
    known: &HashMap<String, Presented>,
    authorization: &AuthorizationView,
    labels: &std::collections::BTreeMap<String, String>,
    now: Timestamp,
) -> Result<(String, Presented, Readiness), Failure> {
    let (identifier, _) = split(&authorization.identifier);
    let wanted = solver::Wanted {
        identifier: &identifier,
        wildcard: authorization.wildcard,
        labels,
    };
    let index = solver::select(&signer.spec.solvers, wanted)
        .map_err(|error| Failure::new(Class::Refused, error.reason(), error.to_string()))?;
    let is_dns = signer
        .spec
        .solvers
        .get(index)
        .is_some_and(|solver| solver.dns01.is_some());
    let (kind, offered) = if is_dns {
        (solver::ChallengeKind::Dns01, acme::ChallengeKind::Dns01)
    } else {
        (solver::ChallengeKind::Http01, acme::ChallengeKind::Http01)
    };
    let Some(view) = authorization
        .challenges
        .iter()
        .find(|challenge| challenge.kind == offered)
    else {
        return Err(Failure::new(
            Class::Refused,
            "ChallengeFailed",
            format!(
                "the CA does not offer {} for {}; choose another solver for it",
                kind.as_str(),
                authorization.name()
            ),
        ));
    };
    let challenge = Challenge {
        kind,
        identifier,
        wildcard: authorization.wildcard,
        token: view.token.clone(),
        key_authorization: view.key_authorization.clone(),
        dns_value: view.dns_txt_value.clone(),
    };
    let result = async {
        let (solver, since) = if let Some(presented) = known.get(&view.url) {
            (presented.solver.clone(), presented.since)
        } else {
            let solver = signer.solver(index).await?;
            solver.present(&challenge).await?;
            (solver, now)
        };
        let readiness = solver.check(&challenge, since, now).await?;
        let message = match &readiness {
            Readiness::Ready => None,
            Readiness::Wait { message, .. } => Some(message.clone()),
        };
        Ok((
            view.url.clone(),
            Presented {
                challenge,
                solver,
                since,
                message,
            },
            readiness,
        ))
    };
    match result.await {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            signer.distrust(index).await;
            Err(unsolved(&authorization.name(), &error))
        }
    }
}

fn unsolved(name: &str, error: &SolverError) -> Failure {
    Failure::new(
        Class::Transient,
        "ChallengeFailed",
        format!("{name}: {error} ({})", error.reason()),
    )
}

/// Chooses among the chains that the CA gave, and checks that it is what was asked for.
fn chosen(chains: &[String], preferred: Option<&str>, wanted: &Wanted, key: &PrivateKey) -> Result<Chain, Failure> {
    let refuse = |message: String| {
        Failure::new(
            Class::Refused,
            "Rejected",
            format!("the CA gave a certificate that cannot be used: {message}"),
        )
    };
    let mut read = Vec::with_capacity(chains.len());
    for chain in chains {
        read.push(Chain::read(chain.as_bytes(), Some(key)).map_err(|error| refuse(error.to_string()))?);
    }
    let chain = preferred
        .and_then(|name| Chain::prefer(&read, name))
        .or(read.first())
        .cloned()
        .ok_or_else(|| refuse("there was none".into()))?;
    match chain
        .leaf
        .satisfies(&wanted.for_acme(), wanted.key, Fidelity::AuthorityDecides)
    {
        Ok(()) => Ok(chain),
        Err(mismatches) => Err(refuse(
            mismatches
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        )),
    }
}

/// An order that came to its end without a certificate.
fn ended(failure: &acme::Failure) -> Progress {
    let told = |class| Failure::new(class, failure.reason(), failure.to_string());
    match failure.kind {
        FailureKind::ChallengeFailed | FailureKind::Rejected => Progress::Failed(told(Class::Refused)),
        FailureKind::RateLimited => Progress::Failed(told(Class::RetryAfter(Duration::from_secs(3600)))),
        FailureKind::ServerFailed => Progress::Failed(told(Class::Transient)),
        FailureKind::Lapsed => Progress::Lapsed(told(Class::Transient)),
    }
}

/// A request that failed while an order is in flight.
fn trouble(signer: &AcmeSigner, error: &AcmeError) -> Progress {
    let failure = failure(error);
    match error {
        AcmeError::OrderGone { .. } => Progress::Lapsed(failure),
        AcmeError::AccountDoesNotExist { .. } => {
            signer.forget();
            Progress::Failed(failure)
        }
        AcmeError::Rejected(_) | AcmeError::Invalid(_) | AcmeError::InsecureUrl { .. } => Progress::Failed(failure),
        _ => Progress::Paused(failure),
    }
}

/// A refused or failed request, as the Certificate's failure.
pub fn failure(error: &AcmeError) -> Failure {
    let class = match error {
        AcmeError::RateLimited { retry_after, .. } => {
            Class::RetryAfter(retry_after.unwrap_or(Duration::from_secs(3600)))
        }
        AcmeError::Unavailable {
            retry_after: Some(told),
            ..
        } => Class::RetryAfter(*told),
        AcmeError::Rejected(_) | AcmeError::Invalid(_) | AcmeError::InsecureUrl { .. } => Class::Refused,
        AcmeError::AccountDoesNotExist { .. }
        | AcmeError::ExternalAccountRequired { .. }
        | AcmeError::Unauthorized { .. } => Class::Waiting(Duration::from_secs(60)),
        _ => Class::Transient,
    };
    Failure::new(class, error.reason(), error.to_string())
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
