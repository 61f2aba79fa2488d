//! The challenges of an order: which solver answers, the answers in place, and what the status shows of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream};
use gatehouse_crds::certificate::{ChallengeState, ChallengeStatus};
use jiff::Timestamp;

use super::{Flight, Progress, new_order};
use crate::{
    certificate::{
        failure::{Class, Failure},
        wanted::Wanted,
    },
    issuer::{
        acme::{self, AcmeError, AuthorizationView},
        signer::AcmeSigner,
        solver::{self, Challenge, Readiness, Solver, SolverError},
    },
};

/// Challenges of one order that are worked on at once.
const TOGETHER: usize = 10;
/// Clean-up is best effort, and has this long.
const CLEAN_UP: Duration = Duration::from_secs(60);

/// An answer that is in place.
pub(super) struct Presented {
    pub(super) challenge: Challenge,
    solver: Arc<dyn Solver>,
    since: Timestamp,
    message: Option<String>,
}

/// Whether an ACME CA can be asked for this at all, and which solver answers for each name: said before
/// anything is ordered.
pub fn solvers(
    signer: &AcmeSigner,
    wanted: &Wanted,
    labels: &BTreeMap<String, String>,
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
    /// Puts answers in place and, where they can be seen, tells the CA to look.
    pub(super) async fn answer(
        &mut self,
        authorizations: &[AuthorizationView],
        labels: &BTreeMap<String, String>,
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

/// One authorization: the answer in place, and whether it can be seen.
async fn present(
    signer: &AcmeSigner,
    known: &HashMap<String, Presented>,
    authorization: &AuthorizationView,
    labels: &BTreeMap<String, String>,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_and_addresses_are_split_as_solvers_know_them() {
        let dns = |name: &str| acme::Identifier::Dns(name.into());
        for (identifier, expected) in [
            (dns("a.test"), (solver::Identifier::Dns("a.test".into()), false)),
            (dns("*.a.test"), (solver::Identifier::Dns("a.test".into()), true)),
            (
                acme::Identifier::Ip("192.0.2.7".parse().unwrap()),
                (solver::Identifier::Ip("192.0.2.7".parse().unwrap()), false),
            ),
        ] {
            assert_eq!(split(&identifier), expected);
        }
    }
}
