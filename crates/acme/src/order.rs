//! An order, step by step (RFC 8555 §7.4 and §7.5).

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};

use super::account::Account;
use super::ari::certificate_id;
use super::authorization::{read_authorization, submit};
use super::error::{AcmeError, MAX_DETAIL};
use super::http::{Answer, Endpoint};
use super::objects::{self, RawOrder};
use super::problem::Problem;
use super::steps::AcmeOrder;
use super::transport::{Step, recall, take};
use super::view::{AuthorizationStatus, AuthorizationView, Chains, Identifier, NewOrder, OrderStatus, OrderView};
use gatehouse_egress::printable;

/// Authorizations read in one step, and how many of them at a time: a certificate of a hundred
/// names takes five steps.
const READ_AT_ONCE: usize = 20;
const READ_TOGETHER: usize = 10;

/// An order in flight.
pub struct OrderSession {
    account: Account,
    /// The order in instant-acme.
    handle: instant_acme::Order,
    /// Ordered identifiers: authorizations for anything else are refused.
    ordered: BTreeSet<Identifier>,
    view: OrderView,
    finalize_url: Option<String>,
    certificate_url: Option<String>,
    /// The order's status does not follow its authorizations at once: ask for it.
    lags: bool,
    /// The CSR was sent, and the answer was lost or refused it: the order is read before anything is sent again.
    finalize_sent: bool,
}

impl fmt::Debug for OrderSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderSession")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

impl OrderSession {
    /// Places an order: one request, and up to three more when the CA refuses `notAfter` or `replaces`.
    ///
    /// The advice that an order replaces a certificate only helps with limits; an order without
    /// it is as good. Fails with `invalidProfile` when the CA does not offer the profile, also where it would ignore it.
    pub async fn begin(account: &Account, order: &NewOrder) -> Result<Self, AcmeError> {
        let directory = match &order.profile {
            Some(profile) => {
                let directory = account.client().directory_with_profile(profile).await?;
                let offered = &directory.meta.profiles;
                if !offered.contains_key(profile) {
                    let names: Vec<_> = offered.keys().map(String::as_str).collect();
                    let offer = match names.as_slice() {
                        [] => "it has no profiles".to_owned(),
                        names => format!("it has {}", names.join(", ")),
                    };
                    return Err(AcmeError::Rejected(Problem {
                        kind: "invalidProfile".to_owned(),
                        detail: printable(&format!("the CA does not offer profile {profile}: {offer}"), MAX_DETAIL),
                        subproblems: Vec::new(),
                    }));
                }
                directory
            }
            None => account.client().directory().await?,
        };
        let at = (account.handle().await?, directory.new_order.as_str());
        // A CA without ARI knows of no replacement.
        let mut replaces = order.replaces.as_deref().filter(|_| directory.has_renewal_info());
        let mut placed = order.clone();
        let mut not_after_refused = None;
        // The end is left out first, since more CAs refuse it. Four requests at most.
        let (handle, answer) = loop {
            match place(account, &at, &placed, replaces).await {
                Err(error) if placed.not_after.is_some() && may_be_the_end(&error) => {
                    tracing::info!(%error, "ordering again without notAfter");
                    placed.not_after = None;
                    not_after_refused = Some(error.to_string());
                }
                Err(error) if replaces.is_some() && may_be_the_replacement(&error) => {
                    tracing::info!(%error, "ordering again without replaces");
                    // What was refused before may have been about the replacement.
                    (replaces, placed.not_after, not_after_refused) = (None, order.not_after, None);
                }
                result => break result?,
            }
        };
        let mut session = Self::new(account, handle, &order.identifiers, &answer)?;
        session.view.not_after_refused = not_after_refused;
        Ok(session)
    }

    /// Reads an order that was placed before, for these identifiers: one request. An order of another account is
    /// [`AcmeError::OrderGone`].
    pub async fn resume(account: &Account, url: &str, identifiers: &[Identifier]) -> Result<Self, AcmeError> {
        let handle = account.handle().await?;
        let (order, answer) =
            take!(Step::new(Endpoint::Order), handle.order(url.to_owned())).map_err(|error| match error {
                AcmeError::Unauthorized { detail } => AcmeError::OrderGone { detail },
                other => other,
            })?;
        let mut session = Self::new(account, order, identifiers, &answer)?;
        session.explain().await;
        Ok(session)
    }

    fn new(
        account: &Account,
        handle: instant_acme::Order,
        identifiers: &[Identifier],
        answer: &Answer,
    ) -> Result<Self, AcmeError> {
        let raw = RawOrder::read(answer)?;
        let mut session = Self {
            account: account.clone(),
            ordered: identifiers.iter().map(Identifier::canonical).collect(),
            finalize_url: None,
            certificate_url: None,
            lags: false,
            finalize_sent: false,
            view: OrderView {
                url: handle.url().to_owned(),
                status: raw.status,
                expires: None,
                replaces: None,
                not_after_refused: None,
                error: None,
                authorizations: Vec::new(),
                unread: Vec::new(),
                polls: 0,
                retry_after: None,
            },
            handle,
        };
        let (listed, ordered) = (raw.authorizations.len(), session.ordered.len());
        if listed > ordered {
            let problem = format!(
                "the order {} lists {listed} authorizations for {ordered} names",
                session.view.url
            );
            return Err(AcmeError::malformed(answer, &problem));
        }
        session.view.unread.clone_from(&raw.authorizations);
        session.take(raw, answer);
        Ok(session)
    }

    fn take(&mut self, raw: RawOrder, answer: &Answer) {
        let view = &mut self.view;
        view.status = raw.status;
        view.expires = raw.expires.or(view.expires);
        view.replaces = raw.replaces.or(view.replaces.take());
        view.error = raw.error;
        view.retry_after = answer.retry_after;
        self.finalize_url = raw.finalize;
        self.certificate_url = raw.certificate;
        if matches!(
            raw.status,
            OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid
        ) {
            view.unread.clear();
            for authorization in &mut view.authorizations {
                authorization.status = AuthorizationStatus::Valid;
            }
        }
    }

    async fn read_order(&mut self) -> Result<(), AcmeError> {
        let handle = &mut self.handle;
        let ((), answer) = take!(Step::new(Endpoint::Order), async { handle.refresh().await.map(drop) })?;
        self.take(RawOrder::read(&answer)?, &answer);
        Ok(())
    }

    async fn read_authorizations(&self, urls: &[String]) -> Result<Vec<(Answer, AuthorizationView)>, AcmeError> {
        let urls: Vec<String> = urls.iter().take(READ_AT_ONCE).cloned().collect();
        let read: Vec<_> = stream::iter(urls)
            .map(|url| read_authorization(&self.account, url))
            .buffered(READ_TOGETHER)
            .try_collect()
            .await?;
        read.into_iter()
            .map(|(answer, view)| match expected(view, &self.ordered) {
                Ok(view) => Ok((answer, view)),
                Err(problem) => Err(AcmeError::malformed(&answer, &problem)),
            })
            .collect()
    }

    /// Replaces the known authorizations by those that were read, keeping which challenges were submitted.
    fn put(&mut self, read: Vec<(Answer, AuthorizationView)>) {
        for (answer, mut new) in read {
            self.view.retry_after = answer.retry_after;
            self.view.unread.retain(|url| *url != new.url);
            let known = &mut self.view.authorizations;
            if let Some(old) = known.iter_mut().find(|old| old.url == new.url) {
                for challenge in &mut new.challenges {
                    challenge.submitted = old.challenges.iter().any(|c| c.submitted && c.url == challenge.url);
                }
                *old = new;
            } else {
                known.push(new);
            }
        }
        // The CA makes the order ready with its last authorization (§7.1.6): no need to ask.
        let all_valid = self.view.unread.is_empty()
            && !self.view.authorizations.is_empty()
            && self
                .view
                .authorizations
                .iter()
                .all(|authorization| authorization.status == AuthorizationStatus::Valid);
        if self.view.status == OrderStatus::Pending && all_valid && !self.lags {
            self.view.status = OrderStatus::Ready;
        }
    }

    /// Finds out which name made an order invalid. Best effort: the order is lost in any case.
    async fn explain(&mut self) {
        if self.view.status != OrderStatus::Invalid {
            return;
        }
        let mut urls = std::mem::take(&mut self.view.unread);
        urls.extend(self.pending());
        if let Ok(read) = self.read_authorizations(&urls).await {
            self.put(read);
        }
    }

    fn pending(&self) -> Vec<String> {
        self.view
            .authorizations
            .iter()
            .filter(|authorization| authorization.status == AuthorizationStatus::Pending)
            .map(|authorization| authorization.url.clone())
            .collect()
    }
}

#[async_trait]
impl AcmeOrder for OrderSession {
    fn view(&self) -> &OrderView {
        &self.view
    }

    /// Unread authorizations first, up to 20 of them; then the one that is pending, or the order
    /// when several are, which answers for all in one request.
    async fn refresh(&mut self) -> Result<(), AcmeError> {
        if self.view.status == OrderStatus::Pending && !self.view.unread.is_empty() {
            let read = self.read_authorizations(&self.view.unread).await?;
            self.put(read);
            return Ok(());
        }
        let pending = self.pending();
        match (self.view.status, pending.as_slice()) {
            (OrderStatus::Pending, [_]) => {
                let read = self.read_authorizations(&pending).await?;
                self.put(read);
            }
            // Ready or valid: the CA has not done what it has to do next.
            (OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid, _) => {
                self.read_order().await?;
                self.explain().await;
            }
            (OrderStatus::Invalid, _) => return Ok(()),
        }
        self.view.polls = self.view.polls.saturating_add(1);
        Ok(())
    }

    async fn read_decided(&mut self) -> Result<(), AcmeError> {
        while self.view.status != OrderStatus::Pending && !self.view.unread.is_empty() {
            let before = self.view.unread.len();
            let read = self.read_authorizations(&self.view.unread).await?;
            self.put(read);
            if self.view.unread.len() == before {
                break;
            }
        }
        Ok(())
    }

    async fn challenge_ready(&mut self, challenge_url: &str) -> Result<(), AcmeError> {
        let of_challenge =
            |authorization: &&AuthorizationView| authorization.challenges.iter().any(|c| c.url == challenge_url);
        let Some(authorization) = self.view.authorizations.iter().find(of_challenge).cloned() else {
            return Err(AcmeError::Invalid("the order has no such challenge".to_owned()));
        };
        let answer = match submit(&self.account, &authorization, challenge_url).await {
            // "Not pending": the challenge was submitted before a restart, and is validated.
            Err(AcmeError::Rejected(problem)) if problem.kind == "malformed" => {
                let read = self
                    .read_authorizations(std::slice::from_ref(&authorization.url))
                    .await?;
                let decided = read.iter().all(|(_, authorization)| authorization.is_answered());
                if !decided {
                    return Err(AcmeError::Rejected(problem));
                }
                self.put(read);
                self.view.polls = 0;
                return Ok(());
            }
            result => result?,
        };
        self.view.retry_after = answer.retry_after;
        self.view.polls = 0;
        let (status, error) = objects::submitted(&answer);
        let challenges = self.view.authorizations.iter_mut().flat_map(|a| &mut a.challenges);
        for challenge in challenges.filter(|challenge| challenge.url == challenge_url) {
            challenge.submitted = true;
            challenge.status = status;
            challenge.error.clone_from(&error);
        }
        Ok(())
    }

    async fn finalize(&mut self, csr_der: &[u8]) -> Result<(), AcmeError> {
        // A CA that continues after a broken answer would take a second CSR for a mistake, or for a second certificate.
        let doubtful = self.finalize_sent;
        if doubtful || self.finalize_url.is_none() {
            self.read_order().await?;
            self.finalize_sent = false;
            if self.view.status != OrderStatus::Ready {
                self.after_finalize().await;
                return Ok(());
            }
        }
        if self.finalize_url.is_none() {
            return Err(AcmeError::OrderNotReady {
                detail: format!("the order {} names no finalize URL", self.view.url),
            });
        }
        self.finalize_sent = true;
        let handle = &mut self.handle;
        match take!(Step::new(Endpoint::Finalize), handle.finalize_csr(csr_der)) {
            Ok(((), answer)) => {
                self.finalize_sent = false;
                self.take(RawOrder::read(&answer)?, &answer);
            }
            // Either an authorization is not valid after all, or the order was finalized before a
            // crash; the order shows which.
            Err(AcmeError::OrderNotReady { detail }) => {
                self.lags = true;
                self.read_order().await?;
                self.finalize_sent = false;
                // It contradicts itself: later.
                if self.view.status == OrderStatus::Ready {
                    return Err(AcmeError::OrderNotReady { detail });
                }
            }
            // "Already finalized", in the words of some.
            Err(AcmeError::Rejected(problem)) if problem.kind == "malformed" => {
                self.read_order().await?;
                self.finalize_sent = false;
                match self.view.status {
                    // It may still be busy with the first, and not show it.
                    OrderStatus::Ready if doubtful => {
                        self.finalize_sent = true;
                        return Err(AcmeError::OrderNotReady {
                            detail: problem.to_string(),
                        });
                    }
                    OrderStatus::Pending | OrderStatus::Ready => return Err(AcmeError::Rejected(problem)),
                    OrderStatus::Processing | OrderStatus::Valid | OrderStatus::Invalid => {}
                }
            }
            Err(error) => return Err(error),
        }
        self.after_finalize().await;
        Ok(())
    }

    async fn certificate(&mut self, alternates: bool) -> Result<Chains, AcmeError> {
        if self.certificate_url.is_none() {
            // A valid order that did not name its certificate, against §7.1.3: once more.
            self.read_order().await?;
        }
        let Some(url) = self.certificate_url.clone() else {
            return Err(AcmeError::OrderNotReady {
                detail: "the CA names no certificate".to_owned(),
            });
        };
        let handle = &mut self.handle;
        let (chain, answer) = take!(Step::new(Endpoint::Certificate), handle.certificate())?;
        let chain = chain.ok_or_else(|| AcmeError::malformed(&answer, "the certificate is not there yet"))?;
        let mut chains = Chains {
            all: vec![chain],
            urls: vec![url],
            unread: None,
        };
        if alternates {
            for url in &answer.alternates {
                match read_alternate(&self.account, url).await {
                    Ok(chain) => {
                        chains.all.push(chain);
                        chains.urls.push(url.clone());
                    }
                    // What was issued is worth more than the choice of its root.
                    Err(problem) => chains.unread = chains.unread.or(Some(problem)),
                }
            }
        }
        Ok(chains)
    }
}

impl OrderSession {
    /// Updates the order after the CSR was sent.
    async fn after_finalize(&mut self) {
        if self.view.status == OrderStatus::Pending {
            let known = self.view.authorizations.drain(..);
            self.view.unread.extend(known.map(|authorization| authorization.url));
        }
        self.explain().await;
        self.view.polls = 0;
    }
}

/// An order with an end (§7.4), which instant-acme cannot ask for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LimitedOrder<'a> {
    identifiers: Vec<Value>,
    not_after: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a str>,
}

/// Places an order, and gives it in instant-acme with the answer.
async fn place(
    account: &Account,
    (handle, new_order): &(instant_acme::Account, &str),
    order: &NewOrder,
    replaces: Option<&str>,
) -> Result<(instant_acme::Order, Answer), AcmeError> {
    if let Some(not_after) = order.not_after {
        let payload = LimitedOrder {
            identifiers: order.identifiers.iter().map(Identifier::json).collect(),
            not_after: not_after.to_string(),
            profile: order.profile.as_deref(),
            replaces,
        };
        let payload = Some(&json!(payload));
        let answer = account.post(Endpoint::NewOrder, new_order, payload).await?;
        let url = answer.location.clone().ok_or_else(|| no_url(&answer))?;
        let known = RawOrder::read(&answer)?.normal(None);
        return Ok((recall(known, handle.order(url)).await?, answer));
    }
    let identifiers: Vec<_> = order.identifiers.iter().map(Identifier::for_instant_acme).collect();
    let mut new = instant_acme::NewOrder::new(&identifiers);
    if let Some(profile) = &order.profile {
        new = new.profile(profile);
    }
    let replaces = replaces.and_then(certificate_id);
    if let Some(replaces) = &replaces {
        new = new.replaces(replaces.clone());
    }
    let step = Step::new(Endpoint::NewOrder).replacing(replaces.map(|id| id.to_string()));
    take!(step, handle.new_order(&new))
}

fn no_url(answer: &Answer) -> AcmeError {
    AcmeError::malformed(answer, "newOrder gave no order URL")
}

async fn read_alternate(account: &Account, url: &str) -> Result<String, String> {
    account.chain(url).await.map_err(|error| {
        let problem = match error {
            AcmeError::OrderGone { detail } => format!("the CA does not have it ({detail})"),
            other => other.to_string(),
        };
        printable(&format!("{url}: {problem}"), MAX_DETAIL)
    })
}

/// Refuses to answer challenges for what was not ordered: a server could have us prove another's name to another CA. One that
/// is proven already asks nothing of us.
fn expected(mut view: AuthorizationView, ordered: &BTreeSet<Identifier>) -> Result<AuthorizationView, String> {
    let star = Identifier::Dns(format!("*.{}", view.identifier));
    let is_ordered = |wildcard: bool| ordered.contains(if wildcard { &star } else { &view.identifier });
    // Some servers leave out that it is for the wildcard.
    let wildcard = view.wildcard || (!is_ordered(false) && is_ordered(true));
    if is_ordered(wildcard) || view.status == AuthorizationStatus::Valid {
        view.wildcard = wildcard;
        return Ok(view);
    }
    Err(format!(
        "the authorization {} is for {}, which was not ordered",
        view.url,
        view.name()
    ))
}

/// Whether the order may be refused for its `notAfter`: RFC 8555 has no error of its own for that. An order without
/// it shows if that was all.
fn may_be_the_end(error: &AcmeError) -> bool {
    let AcmeError::Rejected(problem) = error else {
        return false;
    };
    let detail = problem.detail.to_ascii_lowercase();
    problem.kind == "malformed"
        || ["notafter", "not after", "validity", "lifetime"]
            .iter()
            .any(|word| detail.contains(word))
}

/// Whether the order may be refused for what it replaces: replaced already (RFC 9773 §5), or unknown to this CA or
/// account, for which servers have different words. An order without it shows if that was all.
fn may_be_the_replacement(error: &AcmeError) -> bool {
    match error {
        AcmeError::Rejected(problem) => {
            matches!(problem.kind.as_str(), "alreadyReplaced" | "malformed" | "conflict")
        }
        AcmeError::Unauthorized { .. } => true,
        AcmeError::Malformed { status, .. } => matches!(status, 404 | 409),
        // Pebble does not know a certificate in the moment after it issued it, and calls that its own error.
        AcmeError::Unavailable {
            status: 500, detail, ..
        } => {
            let detail = detail.to_ascii_lowercase();
            ["given certificate", "existing order", "replace"]
                .iter()
                .any(|word| detail.contains(word))
        }
        _ => false,
    }
}
