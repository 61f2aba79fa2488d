//! Asks the CA when it would like a certificate to be renewed (RFC 9773).

use std::time::Duration;

use gatehouse_crds::certificate::{AriStatus, CertificateStatus};
use jiff::Timestamp;

use super::{holding::Facts, look::Look, plan, renewal};
use crate::issuer::registry::{Key, Signer, State};

/// The first question comes this long after the certificate, so that issuing many is not slowed by it.
const FIRST: Duration = Duration::from_secs(30);
/// The next question after one that got no answer.
const AFTER_TROUBLE: Duration = Duration::from_secs(3600);

/// When the CA is asked for the first time: half a minute on, spread over another half.
pub fn first(seed: u64, now: Timestamp) -> Timestamp {
    later(now, FIRST + Duration::from_millis(seed % 30_000))
}

/// Asks, and gives the status with the answer. No answer is no advice.
pub async fn ask(look: &Look<'_>, facts: Option<&Facts>, renewal: Timestamp) -> CertificateStatus {
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
        return look.before().advised(AriStatus::default(), renewal);
    };
    let namespace = if signed.kind == gatehouse_crds::certificate::IssuerKind::Issuer {
        look.namespace()
    } else {
        String::new()
    };
    let issuer = Key {
        kind: signed.kind,
        namespace,
        name: signed.name.clone(),
    };
    let Some(State::Ready(Signer::Acme(signer))) = look.ctx().registry.get(&issuer) else {
        return look
            .before()
            .advised(unchanged(later(look.now, AFTER_TROUBLE)), renewal);
    };
    let advice = match signer.account.renewal_info(id).await {
        Ok(Some(info)) => AriStatus {
            window_start: Some(info.window.start),
            window_end: Some(info.window.end),
            explanation_url: info.explanation_url,
            next_check_time: Some(renewal::whole_seconds(later(look.now, info.check_after))),
        },
        Ok(None) => AriStatus::default(),
        Err(error) => {
            tracing::info!(%error, namespace = look.namespace(), certificate = look.certificate.metadata.name, "the CA gave no usable renewal information");
            unchanged(later(look.now, error.retry_after().unwrap_or(AFTER_TROUBLE)))
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
    look.before()
        .advised(advice, advised.map_or(clock, |advised| advised.min(clock)))
}

fn later(now: Timestamp, after: Duration) -> Timestamp {
    now.checked_add(after).unwrap_or(Timestamp::MAX)
}
