//! Asks the CA when it would like a certificate to be renewed (RFC 9773).

use std::time::Duration;

use gatehouse_crds::certificate::{AriStatus, CertificateStatus};
use jiff::Timestamp;

use tokio::time::Instant;

use super::{cache::identity, holding::Facts, look::Look, order, plan, renewal};
use crate::issuer::{
    acme::Endpoint,
    outage::{Ask, Scope, Unserved},
    registry::{Key, Signer, State},
    server::is_same_server,
    slots::Step,
};

/// The first question comes this long after the certificate, so that issuing many is not slowed by it.
const FIRST: Duration = Duration::from_secs(30);
/// The next question after one that got no answer, without what is added to spread many.
const AFTER_TROUBLE: Duration = Duration::from_secs(810);
/// The most that a CA may put off the next question.
const LONGEST: Duration = Duration::from_secs(86_400);

/// When the CA is asked for the first time: half a minute on, spread over another half.
pub fn first(seed: u64, now: Timestamp) -> Timestamp {
    later(now, FIRST + Duration::from_millis(seed % 30_000))
}

/// Asks, and gives the status with the answer. No answer is no advice.
/// None when too much is asked at once: then the Certificate is woken when there is room.
pub async fn ask(look: &Look<'_>, facts: Option<&Facts>, renewal: Timestamp) -> Option<CertificateStatus> {
    let status = look.status();
    let before = status
        .acme
        .as_ref()
        .and_then(|acme| acme.ari.clone())
        .unwrap_or_default();
    let unchanged = |next| AriStatus {
        next_check_time: Some(renewal::whole_seconds(next)),
        ..before.clone()
    };
    let (Some(signed), Some(id)) = (&status.issuer, facts.and_then(|facts| facts.ari_identifier.as_deref())) else {
        return Some(look.before().advised(AriStatus::default(), renewal));
    };
    let server = status
        .authority
        .as_ref()
        .and_then(|authority| authority.server.as_deref());
    let issuer = Key::of_signing(signed, &look.namespace());
    let signer = match look.ctx().registry.get(&issuer) {
        // An identifier is asked for at the server that issued, never at another that the issuer has now.
        Some(State::Ready(Signer::Acme(signer))) if is_same_server(server, Some(&signer.spec.server)) => Some(signer),
        _ => None,
    };
    let Some(signer) = signer else {
        return Some(look.before().advised(unchanged(again(look, AFTER_TROUBLE)), renewal));
    };
    let (ctx, name) = (look.ctx(), identity(look.certificate));
    let question = Ask {
        certificate: &name,
        endpoint: Endpoint::RenewalInfo,
        hurry: None,
        counts: false,
    };
    if let Some(away) = ctx.outages.ask(&issuer, &question, Instant::now()) {
        return Some(look.before().advised(unchanged(again(look, away.after)), renewal));
    }
    let _slot = ctx.slot(Step {
        issuer: issuer.clone(),
        namespace: look.namespace(),
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
            next_check_time: Some(renewal::whole_seconds(later(look.now, info.check_after))),
        },
        Ok(None) => AriStatus::default(),
        Err(error) => {
            tracing::info!(%error, namespace = look.namespace(), certificate = look.certificate.metadata.name, "the CA gave no usable renewal information");
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
                .unwrap_or(AFTER_TROUBLE);
            unchanged(again(look, after))
        }
    };
    let clock = look.before().clock().unwrap_or(renewal);
    let by_advice = facts.is_some_and(plan::is_by_advice);
    let advised = renewal::advised_time(&advice, look.before().certificate_seed()).filter(|time| {
        let life = status.not_before.zip(status.not_after);
        life.is_some_and(|(start, end)| renewal::follows_advice(by_advice, start, end, look.now))
            || renewal::is_recalled(&before, &advice, look.now)
            // Recalled before, and said again.
            || status.renewal_time == Some(*time)
    });
    let time = advised.map_or(clock, |advised| advised.min(clock));
    Some(look.before().advised(advice, time))
}

/// When to ask again after there was no answer; a tenth is added to spread many.
fn again(look: &Look<'_>, after: Duration) -> Timestamp {
    let millis = u64::try_from(after.min(LONGEST).as_millis()).unwrap_or(u64::MAX);
    let spread = look.before().certificate_seed() % (millis / 10).max(1);
    later(look.now, Duration::from_millis(millis + spread))
}

fn later(now: Timestamp, after: Duration) -> Timestamp {
    now.checked_add(after).unwrap_or(Timestamp::MAX)
}
