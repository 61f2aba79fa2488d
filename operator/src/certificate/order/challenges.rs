//! The challenges of an order: which solver answers, the answers in place, and what the status shows of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream};
use gatehouse_crds::certificate::{ChallengeState, ChallengeStatus};
use jiff::Timestamp;

use super::{InFlightOrder, Progress, identifiers};
use crate::{
    certificate::{
        desired::DesiredCertificate,
        failure::{Class, Failure},
    },
    issuer::{
        acme::{self, AcmeError, AuthorizationView},
        records::Record,
        signer::AcmeSigner,
        solver::{self, Challenge, Readiness, Solver, SolverError},
    },
};

/// Challenges of one order that are worked on at once.
const MAX_CONCURRENT: usize = 10;
/// Clean-up is best effort, and has this long.
const CLEAN_UP: Duration = Duration::from_secs(60);

/// An answer that is in place, or may be: it is remembered whatever became of the write.
pub(super) struct Presented {
    pub(super) challenge: Challenge,
    solver: Arc<dyn Solver>,
    /// When it was put in place; none when that is to be done again.
    since: Option<Timestamp>,
    message: Option<String>,
}

/// Whether an ACME CA can be asked for this at all, and which solver answers for each name: said before
/// anything is ordered.
pub fn solvers(
    signer: &AcmeSigner,
    desired: &DesiredCertificate,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<ChallengeStatus>, Failure> {
    let request = desired.for_acme();
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
    identifiers(desired)
        .iter()
        .map(|identifier| {
            let (identifier, wildcard) = split(identifier);
            let index = solver::select(
                &signer.spec.solvers,
                solver::Challenged {
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

impl InFlightOrder {
    /// Publishes answers to challenges and, once they are visible, asks the CA to validate.
    pub(super) async fn answer(
        &mut self,
        authorizations: &[AuthorizationView],
        labels: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Option<Progress>, AcmeError> {
        let signer = &self.signer;
        let known = &self.presented;
        let order = self.url();
        let work: Vec<_> = authorizations
            .iter()
            .map(|authorization| present(signer, known, (order, authorization), labels, now).boxed())
            .collect();
        let outcomes: Vec<_> = stream::iter(work).buffer_unordered(MAX_CONCURRENT).collect().await;
        let (mut ready, mut wait, mut failure) = (Vec::new(), None::<Duration>, None);
        for Attempt { presented, outcome } in outcomes {
            let url = presented.map(|(url, presented)| {
                self.presented.insert(url.clone(), presented);
                url
            });
            match (outcome, url) {
                (Ok(Readiness::Ready | Readiness::Unseen { .. }), url) => ready.extend(url),
                (Ok(Readiness::Wait { after, .. }), _) => wait = Some(wait.map_or(after, |before| before.min(after))),
                (Err(error), _) => failure = failure.or(Some(error)),
            }
        }
        // Those that are ready are not held up by those that are not.
        for url in &ready {
            self.session.challenge_ready(url).await?;
            self.answered.push(self.at);
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
            (acme::AuthorizationStatus::Pending, Some((challenge, _))) if challenge.submitted => {
                ChallengeState::Validating
            }
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
                .filter(|_| state != ChallengeState::Valid),
        }
    }

    /// Adds to the CA's refusal what Gatehouse saw itself when it asked the CA to look.
    pub(super) fn with_sights(&self, mut progress: Progress) -> Progress {
        if let Progress::Failed(failure) | Progress::Lapsed(failure) = &mut progress {
            for presented in self.presented.values() {
                if let Some(message) = &presented.message {
                    failure.message = format!("{}; {message}", failure.message);
                }
            }
        }
        progress
    }

    /// Takes the answers away in the background: best effort, never in the way of anything.
    pub fn clean_up(&mut self) {
        let presented: Vec<_> = self.presented.drain().map(|(_, presented)| presented).collect();
        let inherited = self.inherited(&presented);
        if presented.is_empty() && inherited.is_empty() {
            return;
        }
        let signer = self.signer.clone();
        let order = self.url().to_owned();
        self.signer.spawn(async move {
            let ours = presented
                .into_iter()
                .map(|presented| (presented.challenge, Ok(presented.solver)));
            let inherited = inherited.into_iter().map(|(challenge, index)| (challenge, Err(index)));
            let (signer, order) = (&signer, order.as_str());
            let work = stream::iter(ours.chain(inherited)).for_each_concurrent(MAX_CONCURRENT, |(challenge, solver)| async move {
                if !signer.records().in_use().release(order, &challenge) {
                    // It goes with the other order.
                    signer.records().forget(order, &challenge.identifier.to_string(), &challenge.dns_value);
                    return;
                }
                let solver = match solver {
                    Ok(solver) => Ok(solver),
                    Err(index) => signer.solver(index).await,
                };
                let outcome = match solver {
                    Ok(solver) => solver.clean_up(&challenge).await,
                    Err(error) => Err(error),
                };
                match outcome {
                    Ok(()) => signer.records().forget(order, &challenge.identifier.to_string(), &challenge.dns_value),
                    Err(error) => tracing::warn!(identifier = %challenge.identifier, %error, "response to a challenge not removed"),
                }
            });
            if tokio::time::timeout(CLEAN_UP, work).await.is_err() {
                tracing::warn!("removing the answers to challenges took too long");
            }
            signer.records().leave(order);
        });
    }

    /// Challenges of an order that was taken up again, which the process before may have answered.
    fn inherited(&self, presented: &[Presented]) -> Vec<(Challenge, usize)> {
        if !self.resumed {
            return Vec::new();
        }
        let authorizations = &self.session.view().authorizations;
        let all = authorizations
            .iter()
            .filter_map(|authorization| challenge_of(&self.signer, authorization, &self.labels).ok());
        all.filter(|(_, challenge, _)| !presented.iter().any(|presented| presented.challenge == *challenge))
            .map(|(_, challenge, index)| (challenge, index))
            .collect()
    }
}

/// The challenge that answers an authorization: its URL, itself, and the index of its solver.
fn challenge_of(
    signer: &AcmeSigner,
    authorization: &AuthorizationView,
    labels: &BTreeMap<String, String>,
) -> Result<(String, Challenge, usize), Failure> {
    let (identifier, _) = split(&authorization.identifier);
    let desired = solver::Challenged {
        identifier: &identifier,
        wildcard: authorization.wildcard,
        labels,
    };
    let index = solver::select(&signer.spec.solvers, desired)
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
    Ok((view.url.clone(), challenge, index))
}

/// Holds the outcome for one authorization.
struct Attempt {
    /// By the URL of the challenge: also when the attempt failed, since the answer may be in place.
    presented: Option<(String, Presented)>,
    outcome: Result<Readiness, Failure>,
}

/// Puts the answer to one authorization in place, and checks whether it can be seen.
async fn present(
    signer: &AcmeSigner,
    known: &HashMap<String, Presented>,
    (order, authorization): (&str, &AuthorizationView),
    labels: &BTreeMap<String, String>,
    now: Timestamp,
) -> Attempt {
    let (url, challenge, index) = match challenge_of(signer, authorization, labels) {
        Ok(found) => found,
        Err(failure) => {
            return Attempt {
                presented: None,
                outcome: Err(failure),
            };
        }
    };
    let in_place = known
        .get(&url)
        .and_then(|presented| Some((presented.solver.clone(), presented.since?)));
    let solver = match &in_place {
        Some((solver, _)) => Ok(solver.clone()),
        None => signer.solver(index).await,
    };
    let solver = match solver {
        Ok(solver) => solver,
        Err(error) => {
            signer.distrust(index).await;
            return Attempt {
                presented: None,
                outcome: Err(unsolved(&authorization.name(), &error)),
            };
        }
    };
    if in_place.is_none()
        && let Some(record) = record(signer, order, &challenge, index, now)
    {
        signer.records().remember(record).await;
    }
    signer.records().in_use().hold(order, &challenge);
    let (since, result) = place(solver.as_ref(), &challenge, in_place.map(|(_, since)| since), now).await;
    let message = match &result {
        Ok(Readiness::Wait { message, .. } | Readiness::Unseen { message }) => Some(message.clone()),
        Ok(Readiness::Ready) | Err(_) => None,
    };
    if result.is_err() {
        signer.distrust(index).await;
    }
    let presented = Presented {
        challenge,
        solver,
        since,
        message,
    };
    Attempt {
        presented: Some((url, presented)),
        outcome: result.map_err(|error| unsolved(&authorization.name(), &error)),
    }
}

/// Returns what has to be kept of an answer before it is written, so that a later process can remove it.
fn record(signer: &AcmeSigner, order: &str, challenge: &Challenge, solver: usize, now: Timestamp) -> Option<Record> {
    let (solver::ChallengeKind::Dns01, solver::Identifier::Dns(name)) = (challenge.kind, &challenge.identifier) else {
        return None;
    };
    let issuer = signer.issuer();
    Some(Record {
        order: order.to_owned(),
        issuer_kind: issuer.kind,
        issuer_namespace: issuer.namespace.clone(),
        issuer: issuer.name.clone(),
        solver,
        name: name.clone(),
        value: challenge.dns_value.clone(),
        since: now,
    })
}

/// Puts the answer in place where it is not yet, and looks. After an error it is put in place again, with a time of
/// its own to be seen.
async fn place(
    solver: &dyn Solver,
    challenge: &Challenge,
    since: Option<Timestamp>,
    now: Timestamp,
) -> (Option<Timestamp>, Result<Readiness, SolverError>) {
    if since.is_none()
        && let Err(error) = solver.present(challenge).await
    {
        return (None, Err(error));
    }
    let since = since.unwrap_or(now);
    match solver.check(challenge, since, now).await {
        Ok(readiness) => (Some(since), Ok(readiness)),
        Err(error) => (None, Err(error)),
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

    /// A provider that fails, and remembers what it was asked.
    #[derive(Default)]
    struct Failing {
        present: bool,
        log: std::sync::Mutex<Vec<&'static str>>,
    }

    #[async_trait::async_trait]
    impl Solver for Failing {
        async fn present(&self, _: &Challenge) -> Result<(), SolverError> {
            self.log.lock().unwrap().push("present");
            if self.present { Err(failed()) } else { Ok(()) }
        }
        async fn check(&self, _: &Challenge, _: Timestamp, _: Timestamp) -> Result<Readiness, SolverError> {
            self.log.lock().unwrap().push("check");
            Err(failed())
        }
        async fn clean_up(&self, _: &Challenge) -> Result<(), SolverError> {
            self.log.lock().unwrap().push("clean up");
            Ok(())
        }
    }

    fn failed() -> SolverError {
        SolverError::DnsFailed {
            server: "pdns".into(),
            detail: "HTTP 500".into(),
        }
    }

    #[tokio::test]
    async fn an_answer_whose_check_failed_is_put_in_place_again_with_time_of_its_own() {
        let challenge = Challenge {
            kind: solver::ChallengeKind::Dns01,
            identifier: solver::Identifier::Dns("a.test".into()),
            wildcard: false,
            token: "t".into(),
            key_authorization: "t.k".into(),
            dns_value: "v".into(),
        };
        for (present, since, expected) in [
            (false, None, &["present", "check"][..]),
            (true, None, &["present"][..]),
            (false, Some(Timestamp::UNIX_EPOCH), &["check"][..]),
        ] {
            let solver = Failing {
                present,
                ..Failing::default()
            };
            let (since, result) = place(&solver, &challenge, since, Timestamp::UNIX_EPOCH).await;
            assert_eq!((since, result), (None, Err(failed())));
            assert_eq!(*solver.log.lock().unwrap(), expected);
        }
    }

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
