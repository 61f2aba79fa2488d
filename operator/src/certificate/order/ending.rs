//! The end of an order, and the meaning of a failed request.

use std::time::Duration;

use jiff::Timestamp;

use super::Progress;
use crate::{
    certificate::{
        desired::DesiredCertificate,
        failure::{Class, Failure},
    },
    issuer::{
        acme::{self, AcmeError, Endpoint, FailureKind},
        outage::Scope,
    },
    pki::{Chain, Fidelity, PrivateKey},
};

/// Chooses among the chains that the CA gave, and checks that it is for the key and has every name that was ordered.
/// Everything else is the CA's decision.
pub(super) fn chosen(
    chains: &[String],
    preferred: Option<&str>,
    desired: &DesiredCertificate,
    key: &PrivateKey,
    now: Timestamp,
) -> Result<Chain, Failure> {
    let refuse = |message: String| {
        Failure::new(
            Class::Refused,
            "Rejected",
            format!("the CA gave a certificate that cannot be used: {message}"),
        )
    };
    let mut read = Vec::with_capacity(chains.len());
    for chain in chains {
        match Chain::read(chain.as_bytes(), Some(key)) {
            Ok(chain) => read.push(chain),
            // The first is the CA's own; the others only serve the choice.
            Err(error) if read.is_empty() => return Err(refuse(error.to_string())),
            Err(error) => tracing::warn!(%error, "alternate chain cannot be used"),
        }
    }
    let chain = preferred
        .and_then(|name| Chain::prefer(&read, name))
        .or(read.first())
        .cloned()
        .ok_or_else(|| refuse("there was none".into()))?;
    if chain.leaf.not_after <= now {
        return Err(refuse(format!("it expired at {}", chain.leaf.not_after)));
    }
    match chain
        .leaf
        .satisfies(&desired.for_acme(), desired.key, Fidelity::NamesAndKey)
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

/// Says that the preferred chain may be one that could not be read, and was not used for that.
pub(super) fn unchosen(chain: &Chain, preferred: Option<&str>, unread: Option<&str>) -> Option<String> {
    let (preferred, unread) = (preferred?, unread?);
    if Chain::prefer(std::slice::from_ref(chain), preferred).is_some() {
        return None;
    }
    Some(format!(
        "An alternate chain could not be read ({unread}), so the CA's own chain is used in place of {preferred:?}. \
         The next renewal asks for it again; to ask now, run: gatehouse renew."
    ))
}

/// An order that came to its end without a certificate.
pub(super) fn ended(failure: &acme::Failure) -> Progress {
    let failed = |class| Failure::new(class, failure.reason(), failure.to_string());
    match failure.kind {
        // Also when the CA failed: each try is another order.
        FailureKind::ChallengeFailed | FailureKind::Rejected | FailureKind::ServerFailed => {
            Progress::Failed(failed(Class::Refused))
        }
        FailureKind::RateLimited => Progress::Failed(failed(Class::RetryAfter(Duration::from_secs(3600)))),
        FailureKind::Lapsed => Progress::Lapsed(failed(Class::Transient)),
    }
}

/// A request that failed while an order is in flight, and its [`failure`].
pub fn interrupted(error: &AcmeError, failure: Failure) -> Progress {
    match error {
        AcmeError::OrderGone { .. } => Progress::Lapsed(failure),
        AcmeError::AccountDoesNotExist { .. }
        | AcmeError::Unauthorized { .. }
        | AcmeError::Rejected(_)
        | AcmeError::Invalid(_)
        | AcmeError::InsecureUrl { .. } => Progress::Failed(failure),
        _ => Progress::Paused(failure),
    }
}

/// Returns the part of the CA that is unavailable after a request to `endpoint` failed, and its `Retry-After`.
pub fn outage(error: &AcmeError, endpoint: Endpoint) -> Option<(Scope, Option<Duration>)> {
    match error {
        AcmeError::Network { .. } | AcmeError::Tls { .. } => Some((Scope::Server, None)),
        AcmeError::Unavailable {
            retry_after: Some(wait),
            ..
        } => Some((Scope::Server, Some(*wait))),
        AcmeError::Unavailable { .. }
        | AcmeError::Timeout { .. }
        | AcmeError::Malformed { .. }
        | AcmeError::BadNonce { .. } => Some((Scope::Endpoint(endpoint), None)),
        _ => None,
    }
}

/// A refused or failed request, as the Certificate's failure.
pub fn failure(error: &AcmeError) -> Failure {
    let class = match error {
        AcmeError::RateLimited { retry_after, .. } => {
            Class::RetryAfter(retry_after.unwrap_or(Duration::from_secs(3600)))
        }
        AcmeError::Unavailable {
            retry_after: Some(wait),
            ..
        } => Class::RetryAfter(*wait),
        AcmeError::Rejected(_)
        | AcmeError::Invalid(_)
        | AcmeError::InsecureUrl { .. }
        | AcmeError::ExternalAccountRequired { .. }
        | AcmeError::Unauthorized { .. } => Class::Refused,
        // The issuer makes another account, and its Certificates are woken.
        AcmeError::AccountDoesNotExist { .. } => Class::Waiting(Duration::from_secs(60)),
        _ => Class::Transient,
    };
    Failure::new(class, error.reason(), error.to_string())
}

#[cfg(test)]
#[path = "ending_tests.rs"]
mod tests;
