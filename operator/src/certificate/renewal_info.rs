//! Asks the CA when it would like a certificate to be renewed (RFC 9773).

use std::time::Duration;

use gatehouse_crds::certificate::{AriStatus, CertificateStatus};
use jiff::Timestamp;

use tokio::time::Instant;

use super::{cache::identity, decide, observed_secret::SecretMetadata, order, reconcile::Reconcile, renewal};
use crate::issuer::{
    acme::Endpoint,
    outage::{Ask, Scope, Unserved},
    registry::{Key, Signer, State},
    server::is_same_server,
    slots::Step,
};

/// The first question comes this long after the certificate, so that issuing many is not slowed by it.
const FIRST_CHECK_AFTER: Duration = Duration::from_secs(30);
/// The next question after one that got no answer, without what is added to spread many.
const RETRY_AFTER: Duration = Duration::from_secs(810);
/// The most that a CA may put off the next question.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// When the CA is asked for the first time: half a minute on, spread over another half.
pub fn first(seed: u64, now: Timestamp) -> Timestamp {
    later(now, FIRST_CHECK_AFTER + Duration::from_millis(seed % 30_000))
}

/// Asks, and gives the status with the answer. No answer is no advice.
/// None when too much is asked at once: then the Certificate is woken when there is room.
pub async fn ask(
    reconcile: &Reconcile<'_>,
    metadata: Option<&SecretMetadata>,
    renewal: Timestamp,
) -> Option<CertificateStatus> {
    let status = reconcile.status();
    let before = status
        .acme
        .as_ref()
        .and_then(|acme| acme.ari.clone())
        .unwrap_or_default();
    let unchanged = |next| AriStatus {
        next_check_time: Some(renewal::whole_seconds(next)),
        ..before.clone()
    };
    let (Some(signing_issuer), Some(id)) = (
        &status.issuer,
        metadata.and_then(|metadata| metadata.ari_identifier.as_deref()),
    ) else {
        return Some(reconcile.status_builder().advised(AriStatus::default(), renewal));
    };
    let server = status
        .authority
        .as_ref()
        .and_then(|authority| authority.server.as_deref());
    let issuer = Key::of_signing(signing_issuer, &reconcile.namespace());
    let signer = match reconcile.ctx().registry.get(&issuer) {
        // An identifier is asked for at the server that issued, never at another that the issuer has now.
        Some(State::Ready(Signer::Acme(signer))) if is_same_server(server, Some(&signer.spec.server)) => Some(signer),
        _ => None,
    };
    let Some(signer) = signer else {
        return Some(
            reconcile
                .status_builder()
                .advised(unchanged(again(reconcile, RETRY_AFTER)), renewal),
        );
    };
    let (ctx, name) = (reconcile.ctx(), identity(reconcile.certificate));
    let question = Ask {
        certificate: &name,
        endpoint: Endpoint::RenewalInfo,
        urgency: None,
        counts: false,
    };
    if let Some(away) = ctx.outages.ask(&issuer, &question, Instant::now()) {
        return Some(
            reconcile
                .status_builder()
                .advised(unchanged(again(reconcile, away.after)), renewal),
        );
    }
    let _slot = ctx.slot(Step {
        issuer: issuer.clone(),
        namespace: reconcile.namespace(),
        certificate: name.clone(),
    })?;
    let answer = signer.account.renewal_info(id).await;
    if answer.is_ok() {
        let woken = ctx
            .outages
            .answered(&issuer, &signer.spec.server, &name, Endpoint::RenewalInfo);
        ctx.woken(woken, &signer);
    }
    let advice = match answer {
        Ok(Some(info)) => AriStatus {
            window_start: Some(info.window.start),
            window_end: Some(info.window.end),
            explanation_url: info.explanation_url,
            next_check_time: Some(renewal::whole_seconds(later(reconcile.now, info.check_after))),
        },
        Ok(None) => AriStatus::default(),
        Err(error) => {
            tracing::info!(%error, namespace = reconcile.namespace(), certificate = reconcile.certificate.metadata.name, "no usable renewal information from the CA");
            // Where it is asked may be another machine than where orders are placed: it holds no others.
            let away = order::outage(&error, Endpoint::RenewalInfo).and_then(|(_, retry_after)| {
                let unserved = Unserved {
                    certificate: &name,
                    scope: Scope::Endpoint(Endpoint::RenewalInfo),
                    retry_after,
                    message: &format!("{issuer}: {error}"),
                    counts: false,
                };
                ctx.outages
                    .unserved(&issuer, &signer.spec.server, &unserved, Instant::now())
            });
            let after = away
                .map(|away| away.after)
                .or(error.retry_after())
                .unwrap_or(RETRY_AFTER);
            unchanged(again(reconcile, after))
        }
    };
    let clock = reconcile.status_builder().clock().unwrap_or(renewal);
    let by_advice = metadata.is_some_and(decide::is_by_advice);
    let advised = renewal::advised_time(&advice, reconcile.status_builder().certificate_seed()).filter(|time| {
        let life = status.not_before.zip(status.not_after);
        life.is_some_and(|(start, end)| renewal::follows_advice(by_advice, start, end, reconcile.now))
            || renewal::is_recalled(&before, &advice, reconcile.now)
            // Recalled before, and said again.
            || status.renewal_time == Some(*time)
    });
    let time = advised.map_or(clock, |advised| advised.min(clock));
    Some(reconcile.status_builder().advised(advice, time))
}

/// When to ask again after there was no answer; a tenth is added to spread many.
fn again(reconcile: &Reconcile<'_>, after: Duration) -> Timestamp {
    let millis = u64::try_from(after.min(MAX_RETRY_AFTER).as_millis()).unwrap_or(u64::MAX);
    let spread = reconcile.status_builder().certificate_seed() % (millis / 10).max(1);
    later(reconcile.now, Duration::from_millis(millis + spread))
}

fn later(now: Timestamp, after: Duration) -> Timestamp {
    now.checked_add(after).unwrap_or(Timestamp::MAX)
}
