//! How an order ends, and what a failed request says.

use std::time::Duration;

use super::Progress;
use crate::{
    certificate::{
        failure::{Class, Failure},
        wanted::Wanted,
    },
    issuer::acme::{self, AcmeError, FailureKind},
    pki::{Chain, Fidelity, PrivateKey},
};

/// Chooses among the chains that the CA gave, and checks that it is what was asked for.
pub(super) fn chosen(
    chains: &[String],
    preferred: Option<&str>,
    wanted: &Wanted,
    key: &PrivateKey,
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
pub(super) fn ended(failure: &acme::Failure) -> Progress {
    let told = |class| Failure::new(class, failure.reason(), failure.to_string());
    match failure.kind {
        FailureKind::ChallengeFailed | FailureKind::Rejected => Progress::Failed(told(Class::Refused)),
        FailureKind::RateLimited => Progress::Failed(told(Class::RetryAfter(Duration::from_secs(3600)))),
        FailureKind::ServerFailed => Progress::Failed(told(Class::Transient)),
        FailureKind::Lapsed => Progress::Lapsed(told(Class::Transient)),
    }
}

/// A request that failed while an order is in flight, and its [`failure`].
pub fn interrupted(error: &AcmeError, failure: Failure) -> Progress {
    match error {
        AcmeError::OrderGone { .. } => Progress::Lapsed(failure),
        AcmeError::AccountDoesNotExist { .. }
        | AcmeError::Rejected(_)
        | AcmeError::Invalid(_)
        | AcmeError::InsecureUrl { .. } => Progress::Failed(failure),
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
#[path = "ending_tests.rs"]
mod tests;
