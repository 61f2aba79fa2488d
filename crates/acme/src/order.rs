//! An order, step by step (RFC 8555 §7.4 and §7.5).

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};

use super::account::Account;
use super::error::{AcmeError, MAX_DETAIL};
use super::http::{Answer, Endpoint};
use super::key::encode;
use super::problem::Problem;
use super::steps::AcmeOrder;
use super::view::{
    AuthorizationStatus, AuthorizationView, Identifier, NewOrder, OrderStatus, OrderView, RawAuthorization,
    RawChallenge, RawOrder, timestamp,
};
use gatehouse_egress::printable;

/// Authorizations read in one step, and how many of them at a time: a certificate of a hundred
/// names takes five steps.
const READ_AT_ONCE: usize = 20;
const READ_TOGETHER: usize = 10;

const CHAIN: &str = "application/pem-certificate-chain";

/// An order in flight.
#[derive(Debug)]
pub struct OrderSession {
    account: Account,
    view: OrderView,
    finalize_url: String,
    certificate_url: Option<String>,
    /// The order's status does not follow its authorizations at once: ask for it.
    lags: bool,
}

impl OrderSession {
    /// Places an order: one request, two when the CA refuses `replaces`.
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
        let place = async |replaces: Option<&String>| {
            let payload = payload(order, replaces);
            account
                .post(Endpoint::NewOrder, &directory.new_order, Some(&payload), None)
                .await
        };
        // A CA without ARI knows of no replacement.
        let replaces = order.replaces.as_ref().filter(|_| directory.renewal_info.is_some());
        let answer = match place(replaces).await {
            Err(error) if replaces.is_some() && may_be_the_replacement(&error) => {
                tracing::info!(%error, "ordering again without replaces");
                place(None).await?
            }
            result => result?,
        };
        let url = answer
            .location
            .clone()
            .ok_or_else(|| AcmeError::malformed(&answer, "newOrder gave no order URL"))?;
        Self::new(account, url, &answer)
    }

    /// Reads an order that was placed before: one request. An order of another account is
    /// [`AcmeError::OrderGone`].
    pub async fn resume(account: &Account, url: &str) -> Result<Self, AcmeError> {
        let answer = account
            .post(Endpoint::Order, url, None, None)
            .await
            .map_err(|error| match error {
                AcmeError::Unauthorized { detail } => AcmeError::OrderGone { detail },
                other => other,
            })?;
        let mut session = Self::new(account, url.to_owned(), &answer)?;
        session.explain().await;
        Ok(session)
    }

    fn new(account: &Account, url: String, answer: &Answer) -> Result<Self, AcmeError> {
        let raw: RawOrder = answer.json()?;
        let mut session = Self {
            account: account.clone(),
            finalize_url: raw.finalize.clone(),
            certificate_url: None,
            lags: false,
            view: OrderView {
                url,
                status: raw.status,
                expires: None,
                replaces: None,
                error: None,
                authorizations: Vec::new(),
                unread: raw.authorizations.clone(),
                polls: 0,
                retry_after: None,
            },
        };
        session.take(raw, answer);
        Ok(session)
    }

    fn take(&mut self, raw: RawOrder, answer: &Answer) {
        let view = &mut self.view;
        view.status = raw.status;
        view.expires = timestamp(raw.expires.as_deref()).or(view.expires);
        view.replaces = raw.replaces.or(view.replaces.take());
        view.error = raw.error.map(Problem::from);
        view.retry_after = answer.retry_after;
        self.finalize_url = raw.finalize;
        self.certificate_url = raw.certificate.or(self.certificate_url.take());
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
        let answer = self.account.post(Endpoint::Order, &self.view.url, None, None).await?;
        let raw = answer.json()?;
        self.take(raw, &answer);
        Ok(())
    }

    async fn read_authorizations(&self, urls: &[String]) -> Result<Vec<(Answer, AuthorizationView)>, AcmeError> {
        let urls: Vec<String> = urls.iter().take(READ_AT_ONCE).cloned().collect();
        stream::iter(urls)
            .map(|url| read_authorization(&self.account, url))
            .buffered(READ_TOGETHER)
            .try_collect()
            .await
    }

    /// Puts what was read in the place of what was known, keeping that we told the CA to look.
    fn put(&mut self, read: Vec<(Answer, AuthorizationView)>) {
        for (answer, mut new) in read {
            self.view.retry_after = answer.retry_after;
            self.view.unread.retain(|url| *url != new.url);
            let known = &mut self.view.authorizations;
            if let Some(old) = known.iter_mut().find(|old| old.url == new.url) {
                for challenge in &mut new.challenges {
                    challenge.told = old.challenges.iter().any(|c| c.told && c.url == challenge.url);
                }
                *old = new;
            } else {
                known.push(new);
            }
        }
        // The CA makes the order ready with its last authorization (§7.1.6): no need to ask.
        let all_valid = self.view.unread.is_empty()
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
            (OrderStatus::Pending | OrderStatus::Processing, _) => {
                self.read_order().await?;
                self.explain().await;
            }
            // Nothing changes these but what we do next.
            (OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Invalid, _) => return Ok(()),
        }
        self.view.polls = self.view.polls.saturating_add(1);
        Ok(())
    }

    async fn challenge_ready(&mut self, challenge_url: &str) -> Result<(), AcmeError> {
        let of_challenge =
            |authorization: &&mut AuthorizationView| authorization.challenges.iter().any(|c| c.url == challenge_url);
        let Some(authorization) = self.view.authorizations.iter_mut().find(of_challenge) else {
            return Err(AcmeError::Invalid("the order has no such challenge".to_owned()));
        };
        let url = authorization.url.clone();
        let sent = self
            .account
            .post(Endpoint::Challenge, challenge_url, Some(&json!({})), None)
            .await;
        let answer = match sent {
            // "Not pending": the CA was told before a restart, and has already looked.
            Err(AcmeError::Rejected(problem)) if problem.kind == "malformed" => {
                let read = self.read_authorizations(std::slice::from_ref(&url)).await?;
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
        let raw: RawChallenge = answer.json()?;
        self.view.retry_after = answer.retry_after;
        self.view.polls = 0;
        for challenge in &mut authorization.challenges {
            if challenge.url == challenge_url {
                challenge.told = true;
                challenge.status = raw.status;
                challenge.error = raw.error.map(Problem::from);
                break;
            }
        }
        Ok(())
    }

    async fn finalize(&mut self, csr_der: &[u8]) -> Result<(), AcmeError> {
        let payload = json!({"csr": encode(csr_der)});
        let sent = self
            .account
            .post(Endpoint::Finalize, &self.finalize_url, Some(&payload), None)
            .await;
        match sent {
            Ok(answer) => {
                let raw = answer.json()?;
                self.take(raw, &answer);
            }
            // Either an authorization is not valid after all, or the order was finalized before a
            // crash; the order tells.
            Err(AcmeError::OrderNotReady { detail }) => {
                self.lags = true;
                self.read_order().await?;
                match self.view.status {
                    // It contradicts itself: later.
                    OrderStatus::Ready => return Err(AcmeError::OrderNotReady { detail }),
                    OrderStatus::Pending => {
                        let known = self.view.authorizations.drain(..);
                        self.view.unread.extend(known.map(|authorization| authorization.url));
                    }
                    OrderStatus::Processing | OrderStatus::Valid | OrderStatus::Invalid => {}
                }
            }
            Err(error) => return Err(error),
        }
        self.explain().await;
        self.view.polls = 0;
        Ok(())
    }

    async fn certificate(&mut self, alternates: bool) -> Result<Vec<String>, AcmeError> {
        if self.certificate_url.is_none() {
            // A valid order that did not name its certificate, against §7.1.3: once more.
            self.read_order().await?;
        }
        let url = self.certificate_url.clone().ok_or_else(|| AcmeError::OrderNotReady {
            detail: "the CA names no certificate".to_owned(),
        })?;
        let fetch = async |url: &str| self.account.post(Endpoint::Certificate, url, None, Some(CHAIN)).await;
        let answer = fetch(&url).await?;
        let mut chains = vec![chain(&answer)?];
        if alternates {
            for url in &answer.alternates {
                chains.push(chain(&fetch(url).await?)?);
            }
        }
        Ok(chains)
    }
}

async fn read_authorization(account: &Account, url: String) -> Result<(Answer, AuthorizationView), AcmeError> {
    let answer = account.post(Endpoint::Authz, &url, None, None).await?;
    let raw: RawAuthorization = answer.json()?;
    let view = raw
        .view(&url, account.key())
        .ok_or_else(|| AcmeError::malformed(&answer, "an authorization for something that is no name"))?;
    Ok((answer, view))
}

fn payload(order: &NewOrder, replaces: Option<&String>) -> Value {
    #[derive(Serialize)]
    struct Payload<'a> {
        identifiers: Vec<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        profile: Option<&'a String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        replaces: Option<&'a String>,
    }
    json!(Payload {
        identifiers: order.identifiers.iter().map(Identifier::json).collect(),
        profile: order.profile.as_ref(),
        replaces,
    })
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
        _ => false,
    }
}

/// The chain in its plain form: certificates and nothing else, as §11.4 wants it checked before it
/// is written to where keys are.
fn chain(answer: &Answer) -> Result<String, AcmeError> {
    let blocks = pem::parse_many(&answer.body).map_err(|_| AcmeError::malformed(answer, "the chain is not PEM"))?;
    if blocks.is_empty() || blocks.iter().any(|block| block.tag() != "CERTIFICATE") {
        return Err(AcmeError::malformed(
            answer,
            "the chain must be certificates in PEM, and nothing else",
        ));
    }
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(pem::encode_many_config(&blocks, config))
}
