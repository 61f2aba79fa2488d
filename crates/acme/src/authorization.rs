//! One authorization of an order (RFC 8555 §7.5), by itself: several are read at a time.

use instant_acme::ChallengeType;

use super::account::Account;
use super::error::AcmeError;
use super::http::{Answer, Endpoint};
use super::objects;
use super::transport::{Step, recall, take};
use super::view::{AuthorizationView, ChallengeKind};

/// Returns one authorization of an order by itself, so that several can be read at a time. No request is made.
async fn alone(account: &Account, url: &str) -> Result<instant_acme::Order, AcmeError> {
    let handle = account.handle().await?;
    recall(objects::order_of(url), handle.order(url.to_owned())).await
}

/// Reads an authorization: one request.
pub(super) async fn read_authorization(
    account: &Account,
    url: String,
) -> Result<(Answer, AuthorizationView), AcmeError> {
    let mut order = alone(account, &url).await?;
    let ((), answer) = take!(Step::authorization(&url, account.shared_key()), async {
        match order.authorizations().next().await {
            Some(read) => read.map(drop),
            None => Err(instant_acme::Error::Str("authorization")),
        }
    })?;
    let view = objects::authorization(&answer, &url, account.key())?;
    Ok((answer, view))
}

/// Asks the CA to validate a challenge.
pub(super) async fn submit(
    account: &Account,
    authorization: &AuthorizationView,
    url: &str,
) -> Result<Answer, AcmeError> {
    let kind = authorization.challenges.iter().find(|c| c.url == url).map(|c| &c.kind);
    let kind = match kind {
        Some(ChallengeKind::Http01) => ChallengeType::Http01,
        Some(ChallengeKind::Dns01) => ChallengeType::Dns01,
        Some(ChallengeKind::TlsAlpn01) => ChallengeType::TlsAlpn01,
        Some(ChallengeKind::Other(kind)) => ChallengeType::Unknown(kind.clone()),
        None => ChallengeType::Unknown(String::new()),
    };
    let mut order = alone(account, &authorization.url).await?;
    let known = objects::normal_authorization(authorization);
    let mut authorizations = order.authorizations();
    let missing = || AcmeError::Invalid("instant-acme: it has no such challenge".to_owned());
    let mut authorization = recall(known, async { authorizations.next().await.transpose() })
        .await?
        .ok_or_else(missing)?;
    let mut challenge = authorization.challenge(kind).ok_or_else(missing)?;
    let ((), answer) = take!(Step::new(Endpoint::Challenge), challenge.set_ready())?;
    Ok(answer)
}
