//! Which hosts are in flight, and the one task that writes their Ingresses.
//!
//! Challenges only change what is wanted; the task writes it. So no reconcile waits for the API server, and a host
//! that is refused, or that a webhook is slow about, holds up no other.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::FuturesUnordered};
use gatehouse_crds::solver::{Http01Ingress, IngressTemplateMetadata};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::Ingress};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Author, Challenge, Identifier, Readiness, SolverError},
    policy::IngressPolicy,
    probe::{self, Probe, Prober},
    responder::Answers,
    routing::{self, ResponderService, RouteKey, Wish},
    writes::{Due, Outcome, Schedule},
};

/// Writes of routes at once.
const MAX_CONCURRENT_WRITES: usize = 32;
/// Longest wait for one write: a webhook may take its ten seconds.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for an order of before a restart to ask for its route again: until then the route is kept.
const LEFTOVERS: Duration = Duration::from_secs(30);

/// Writes routes by server-side apply. Errors are text for people.
#[async_trait]
pub trait RouteWriter: Send + Sync {
    async fn apply_service(&self, service: &Service) -> Result<(), String>;
    async fn apply_endpoint_slice(&self, slice: &EndpointSlice) -> Result<(), String>;
    async fn apply_ingress(&self, ingress: &Ingress) -> Result<(), String>;
    /// Fine when it is gone already.
    async fn delete_ingress(&self, name: &str) -> Result<(), String>;
    /// Names of the Ingresses that an operator made here, this one or its predecessor: found by their labels.
    async fn list_ingresses(&self) -> Result<Vec<String>, String>;
}

/// Opens the way for challenges to the responder.
#[derive(Debug)]
pub struct Http01Router {
    responder_service: ResponderService,
    answers: Arc<Answers>,
    policy: IngressPolicy,
    /// After a write was acknowledged: what the fastest ingress controllers take to read it.
    grace: Duration,
    routes: Mutex<BTreeMap<RouteKey, Route>>,
    probes: Arc<Semaphore>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Route {
    /// By identifier, since all addresses share a route, and key authorization, since tenants' CAs choose tokens.
    claims: BTreeMap<(Identifier, String), Claim>,
    schedule: Schedule<Wish>,
}

/// Holds what one challenge wants.
#[derive(Debug)]
struct Claim {
    template: IngressTemplateMetadata,
    token: String,
    /// When the API server acknowledged the Ingress with its token.
    written: Option<Instant>,
    probe: Option<Arc<Probe>>,
}

fn claim_id(challenge: &Challenge) -> (Identifier, String) {
    (challenge.identifier.clone(), challenge.key_authorization.clone())
}

impl Route {
    /// Returns what the Ingress must have: the wishes of all challenges together, or nothing.
    fn wanted(&self) -> Option<Wish> {
        let mut all: Option<Wish> = None;
        for claim in self.claims.values() {
            let all = all.get_or_insert_default();
            all.template.labels.extend(claim.template.labels.clone());
            all.template.annotations.extend(claim.template.annotations.clone());
            all.tokens.insert(claim.token.clone());
        }
        all
    }

    /// Notes which tokens have been written.
    fn wrote(&mut self, tokens: &BTreeSet<String>, now: Instant) {
        let theirs = self.claims.values_mut().filter(|claim| tokens.contains(&claim.token));
        for claim in theirs {
            claim.written.get_or_insert(now);
        }
    }
}

impl Http01Router {
    pub fn new(
        responder_service: ResponderService,
        answers: Arc<Answers>,
        policy: IngressPolicy,
        grace: Duration,
    ) -> Self {
        Self {
            responder_service,
            answers,
            policy,
            grace,
            routes: Mutex::default(),
            probes: probe::together(),
            changed: Notify::new(),
        }
    }

    /// Checks whether the author may have this on an Ingress here.
    pub(in super::super) fn permits(&self, author: &Author, ingress: &Http01Ingress) -> Result<(), SolverError> {
        self.policy.check(author, ingress)
    }

    /// Bounds the tries of all solvers together.
    pub(super) fn probes(&self) -> Arc<Semaphore> {
        self.probes.clone()
    }

    fn routes(&self) -> MutexGuard<'_, BTreeMap<RouteKey, Route>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, key: &RouteKey, template: &IngressTemplateMetadata, challenge: &Challenge) {
        self.answers.put(challenge);
        let mut routes = self.routes();
        let route = routes.entry(key.clone()).or_default();
        let same = route.claims.values().find(|claim| claim.token == challenge.token);
        let written = same.and_then(|claim| claim.written);
        if let Entry::Vacant(claim) = route.claims.entry(claim_id(challenge)) {
            claim.insert(Claim {
                template: template.clone(),
                token: challenge.token.clone(),
                // Of one with the same token, nothing more is written.
                written,
                probe: None,
            });
            self.changed.notify_one();
        }
    }

    pub(super) fn close(&self, key: &RouteKey, challenge: &Challenge) {
        self.answers.remove(challenge);
        let mut routes = self.routes();
        if let Some(route) = routes.get_mut(key)
            && route.claims.remove(&claim_id(challenge)).is_some()
        {
            self.changed.notify_one();
        }
    }

    /// Says whether the CA may look. `bound` is how long the way is tried from inside.
    pub(super) fn readiness(
        &self,
        key: &RouteKey,
        challenge: &Challenge,
        prober: &Prober,
        bound: Duration,
    ) -> Result<Readiness, SolverError> {
        let mut routes = self.routes();
        let wait = |after, message| Ok(Readiness::Wait { after, message });
        let name = key.name();
        let Some(route) = routes.get_mut(key) else {
            return wait(
                Duration::from_millis(50),
                format!("the Ingress {name} is to be written"),
            );
        };
        let Some(claim) = route.claims.get_mut(&claim_id(challenge)) else {
            return wait(
                Duration::from_millis(50),
                format!("the Ingress {name} is to be written"),
            );
        };
        let Some(written) = claim.written else {
            return match route.schedule.failure() {
                Some(detail) => Err(SolverError::IngressWriteFailed {
                    host: challenge.identifier.to_string(),
                    ingress: name,
                    detail: detail.to_owned(),
                }),
                None => wait(
                    Duration::from_millis(50),
                    format!("the Ingress {name} is being written"),
                ),
            };
        };
        let open_for = written.elapsed();
        let left = self.grace.saturating_sub(open_for);
        if !left.is_zero() {
            return wait(
                left,
                format!("giving the ingress controller time to read the Ingress {name}"),
            );
        }
        if bound.is_zero() {
            return Ok(Readiness::Ready);
        }
        let probe = claim.probe.get_or_insert_with(|| prober.start(challenge, bound));
        Ok(probe::decide(
            &challenge.identifier,
            probe.seen().as_ref(),
            open_for,
            bound,
        ))
    }

    /// Writes routes until it is stopped. To be run by the leader only.
    ///
    /// Deletes what a predecessor left, but not before its orders had time to ask for their routes again: a CA
    /// may be looking at this moment.
    pub async fn run(&self, writer: &dyn RouteWriter, stop: CancellationToken) {
        let started = Instant::now();
        let mut front = Schedule::<()>::default();
        let mut leftovers = Leftovers::default();
        let mut pending = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            let mut next: Option<Instant> = None;
            let mut later = |at: Instant| next = Some(next.map_or(at, |before| before.min(at)));
            if leftovers.list.is_none() {
                leftovers.read(writer, self, started, now).await;
            }
            for name in leftovers.take_due(now) {
                if self.uses(&name) {
                    continue;
                }
                if pending.len() < MAX_CONCURRENT_WRITES {
                    pending.push(Work::Leftover(name).run(self, writer));
                } else {
                    leftovers.again(name, now);
                }
            }
            if let Some(at) = leftovers.next_at(now) {
                later(at);
            }
            let wanted = self.routes().values().any(|route| !route.claims.is_empty());
            match front.due(wanted.then_some(()), now) {
                Due::Apply(()) => {
                    front.begin();
                    pending.push(Work::Front.run(self, writer));
                }
                Due::Later(at) => later(at),
                // The Service stays: it costs nothing, and another order will want it.
                Due::Delete | Due::Nothing => {}
            }
            for (key, route) in self.routes().iter_mut() {
                let failed = front.failure().filter(|_| front.written_at().is_none());
                if let Some(detail) = failed.filter(|_| !route.claims.is_empty()) {
                    route.schedule.blocked(detail);
                    continue;
                }
                match route.schedule.due(route.wanted(), now) {
                    Due::Apply(_) if front.written_at().is_none() => {}
                    Due::Apply(_) | Due::Delete if pending.len() >= MAX_CONCURRENT_WRITES => {}
                    Due::Apply(wish) => {
                        route.schedule.begin();
                        pending.push(Work::Apply(key.clone(), wish).run(self, writer));
                    }
                    Due::Delete => {
                        route.schedule.begin();
                        pending.push(Work::Delete(key.clone()).run(self, writer));
                    }
                    Due::Later(at) => later(at),
                    Due::Nothing => {}
                }
            }
            self.routes()
                .retain(|_, route| !(route.claims.is_empty() && route.schedule.is_idle()));
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = timer => {}
                Some((work, outcome)) = pending.next() => self.finished(work, outcome, &mut front, &mut leftovers),
            }
        }
    }

    fn finished(&self, work: Work, outcome: Outcome, front: &mut Schedule<()>, leftovers: &mut Leftovers) {
        let now = Instant::now();
        if let Err(error) = &outcome {
            tracing::warn!(%error, object = work.name(), "route for HTTP-01 challenges not written");
        }
        let mut routes = self.routes();
        match work {
            Work::Front => front.applied((), outcome, now),
            Work::Leftover(name) => {
                if outcome.is_err() {
                    leftovers.again(name, now);
                }
            }
            Work::Apply(key, wish) => {
                if let Some(route) = routes.get_mut(&key) {
                    if outcome.is_ok() {
                        route.wrote(&wish.tokens, now);
                    }
                    route.schedule.applied(wish, outcome, now);
                }
            }
            Work::Delete(key) => {
                if let Some(route) = routes.get_mut(&key) {
                    route.schedule.deleted(outcome, now);
                }
            }
        }
    }

    /// Returns true when the Ingress is that of a route, which deletes it itself.
    fn uses(&self, name: &str) -> bool {
        self.routes().keys().any(|key| key.name() == name)
    }
}

/// A write.
enum Work {
    /// The Service and its EndpointSlice.
    Front,
    Apply(RouteKey, Wish),
    Delete(RouteKey),
    Leftover(String),
}

impl Work {
    fn name(&self) -> String {
        match self {
            Self::Front => routing::NAME.to_owned(),
            Self::Apply(key, _) | Self::Delete(key) => key.name(),
            Self::Leftover(name) => name.clone(),
        }
    }

    async fn run(self, door: &Http01Router, writer: &dyn RouteWriter) -> (Self, Outcome) {
        let write = async {
            match &self {
                Self::Front => {
                    writer.apply_service(&routing::service(&door.responder_service)).await?;
                    writer
                        .apply_endpoint_slice(&routing::endpoint_slice(&door.responder_service))
                        .await
                }
                Self::Apply(key, wish) => {
                    writer
                        .apply_ingress(&routing::ingress(&door.responder_service, key, wish))
                        .await
                }
                Self::Delete(key) => writer.delete_ingress(&key.name()).await,
                Self::Leftover(name) => writer.delete_ingress(name).await,
            }
        };
        let outcome = tokio::time::timeout(WRITE_TIMEOUT, write).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {} s", WRITE_TIMEOUT.as_secs())));
        (self, outcome)
    }
}

/// Ingresses of before a restart.
#[derive(Debug, Default)]
struct Leftovers {
    /// None until they were listed.
    list: Option<BTreeMap<String, Instant>>,
    retry: Option<Instant>,
}

impl Leftovers {
    async fn read(&mut self, writer: &dyn RouteWriter, door: &Http01Router, started: Instant, now: Instant) {
        if self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        let listed = tokio::time::timeout(WRITE_TIMEOUT, writer.list_ingresses()).await;
        match listed.unwrap_or_else(|_| Err("no answer".into())) {
            Ok(names) => {
                let names: BTreeSet<String> = names.into_iter().filter(|name| !door.uses(name)).collect();
                let due = |name: &String| {
                    // Those of an earlier version hold hosts that would be refused as taken.
                    let keep = if routing::is_of_one_host(name) {
                        LEFTOVERS
                    } else {
                        Duration::ZERO
                    };
                    started + keep
                };
                self.list = Some(names.into_iter().map(|name| (name.clone(), due(&name))).collect());
            }
            Err(error) => {
                tracing::warn!(%error, "Ingresses for HTTP-01 challenges cannot be listed");
                self.retry = Some(now + Duration::from_secs(5));
            }
        }
    }

    fn next_at(&self, now: Instant) -> Option<Instant> {
        match &self.list {
            Some(list) => list.values().copied().filter(|at| *at > now).min(),
            None => self.retry,
        }
    }

    fn take_due(&mut self, now: Instant) -> Vec<String> {
        let Some(list) = &mut self.list else {
            return Vec::new();
        };
        let due: Vec<String> = list
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &due {
            list.remove(name);
        }
        due
    }

    fn again(&mut self, name: String, now: Instant) {
        if let Some(list) = &mut self.list {
            list.insert(name, now + Duration::from_secs(5));
        }
    }
}

#[cfg(test)]
mod tests;
