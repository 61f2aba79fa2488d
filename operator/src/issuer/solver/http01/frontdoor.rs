//! Which hosts are in flight, and the one task that writes their routes.
//!
//! Challenges only change what is wanted; the task writes it, many hosts in one write. So a thousand orders
//! cost a handful of requests, and no reconcile waits for the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, networking::v1::Ingress};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Challenge, Identifier, Readiness, SolverError},
    responder::Answers,
    routing::{self, RouteKey, Site},
};

/// Between two writes: hosts that come in between share the second.
const GATHER: Duration = Duration::from_millis(100);
/// After a failed write, doubled up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Writes routes by server-side apply. Errors are text for people.
#[async_trait]
pub trait RouteWriter: Send + Sync {
    async fn apply_service(&self, service: &Service) -> Result<(), String>;
    async fn apply_endpoint_slice(&self, slice: &EndpointSlice) -> Result<(), String>;
    async fn apply_ingress(&self, ingress: &Ingress) -> Result<(), String>;
    /// Fine when it is gone already.
    async fn delete_ingress(&self, name: &str) -> Result<(), String>;
    /// Names of the Ingresses that an operator made here, this one or its predecessor.
    async fn list_ingresses(&self) -> Result<Vec<String>, String>;
}

/// Opens the way for challenges to the responder.
#[derive(Debug)]
pub struct Frontdoor {
    site: Site,
    answers: Arc<Answers>,
    /// After a write was acknowledged: what ingress controllers take to read it.
    grace: Duration,
    routes: Mutex<BTreeMap<RouteKey, Route>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Route {
    /// Tokens for each host.
    wanted: BTreeMap<Identifier, BTreeSet<String>>,
    /// The hosts that the API server acknowledged, and when.
    written: BTreeMap<Identifier, Instant>,
    failure: Option<String>,
}

impl Route {
    fn hosts(&self) -> BTreeSet<Identifier> {
        self.wanted.keys().cloned().collect()
    }

    fn settled(&self) -> bool {
        self.wanted.keys().eq(self.written.keys())
    }
}

impl Frontdoor {
    pub fn new(site: Site, answers: Arc<Answers>, grace: Duration) -> Self {
        Self {
            site,
            answers,
            grace,
            routes: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn routes(&self) -> MutexGuard<'_, BTreeMap<RouteKey, Route>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, key: &RouteKey, challenge: &Challenge) {
        self.answers.put(challenge);
        let mut routes = self.routes();
        let route = routes.entry(key.clone()).or_default();
        route
            .wanted
            .entry(challenge.identifier.clone())
            .or_default()
            .insert(challenge.token.clone());
        if !route.settled() {
            self.changed.notify_one();
        }
    }

    pub(super) fn close(&self, key: &RouteKey, challenge: &Challenge) {
        self.answers.remove(&challenge.token);
        let mut routes = self.routes();
        let Some(route) = routes.get_mut(key) else {
            return;
        };
        if let Some(tokens) = route.wanted.get_mut(&challenge.identifier) {
            tokens.remove(&challenge.token);
            if tokens.is_empty() {
                route.wanted.remove(&challenge.identifier);
                self.changed.notify_one();
            }
        }
    }

    pub(super) fn readiness(&self, key: &RouteKey, host: &Identifier) -> Result<Readiness, SolverError> {
        let routes = self.routes();
        let route = routes.get(key);
        if let Some(written) = route.and_then(|route| route.written.get(host)) {
            let left = self.grace.saturating_sub(written.elapsed());
            return Ok(if left.is_zero() {
                Readiness::Ready
            } else {
                let message = format!("giving the ingress controller time to read the Ingress {}", key.name());
                Readiness::Wait { after: left, message }
            });
        }
        match route.and_then(|route| route.failure.clone()) {
            Some(detail) => Err(SolverError::IngressWriteFailed { detail }),
            None => Ok(Readiness::Wait {
                after: GATHER / 2,
                message: format!("the Ingress {} is being written", key.name()),
            }),
        }
    }

    /// Writes routes until it is told to stop. To be run by the leader only.
    ///
    /// What a predecessor left is taken away first: orders that are still in flight open their routes again.
    pub async fn run(&self, writer: &dyn RouteWriter, stop: CancellationToken) {
        let mut front_written = false;
        let mut swept = false;
        let mut pause = PAUSE;
        loop {
            let started = Instant::now();
            let mut done = true;
            if !swept {
                swept = self.sweep(writer).await;
                done &= swept;
            }
            done &= self.write(writer, &mut front_written).await;
            let wait = if done { GATHER } else { pause };
            pause = if done { PAUSE } else { (pause * 2).min(MAX_PAUSE) };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(started + wait) => {}
            }
            if done {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.changed.notified() => {}
                }
            }
        }
    }

    async fn sweep(&self, writer: &dyn RouteWriter) -> bool {
        let names = match writer.list_ingresses().await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "Ingresses for HTTP-01 challenges cannot be listed");
                return false;
            }
        };
        let wanted: BTreeSet<String> = self
            .routes()
            .iter()
            .filter(|(_, route)| !route.wanted.is_empty())
            .map(|(key, _)| key.name())
            .collect();
        let mut done = true;
        for name in names.iter().filter(|name| !wanted.contains(*name)) {
            if let Err(error) = writer.delete_ingress(name).await {
                tracing::warn!(%error, ingress = name, "an Ingress left behind cannot be deleted");
                done = false;
            }
        }
        done
    }

    /// Writes every route that is not as it should be. False when a write failed.
    async fn write(&self, writer: &dyn RouteWriter, front_written: &mut bool) -> bool {
        let due: Vec<(RouteKey, BTreeSet<Identifier>)> = {
            let mut routes = self.routes();
            routes.retain(|_, route| !(route.wanted.is_empty() && route.written.is_empty()));
            let due = routes.iter().filter(|(_, route)| !route.settled());
            due.map(|(key, route)| (key.clone(), route.hosts())).collect()
        };
        let mut done = true;
        for (key, hosts) in due {
            let outcome = self.write_one(writer, front_written, &key, &hosts).await;
            let mut routes = self.routes();
            let Some(route) = routes.get_mut(&key) else {
                continue;
            };
            match outcome {
                Ok(()) => {
                    let now = Instant::now();
                    let old = std::mem::take(&mut route.written);
                    let since = |host: Identifier| (old.get(&host).copied().unwrap_or(now), host);
                    route.written = hosts.into_iter().map(since).map(|(at, host)| (host, at)).collect();
                    route.failure = None;
                }
                Err(detail) => {
                    tracing::warn!(error = %detail, ingress = key.name(), "the Ingress cannot be written");
                    route.failure = Some(detail);
                    done = false;
                }
            }
        }
        done
    }

    async fn write_one(
        &self,
        writer: &dyn RouteWriter,
        front_written: &mut bool,
        key: &RouteKey,
        hosts: &BTreeSet<Identifier>,
    ) -> Result<(), String> {
        if hosts.is_empty() {
            return writer.delete_ingress(&key.name()).await;
        }
        if !*front_written {
            writer.apply_service(&routing::service(&self.site)).await?;
            writer
                .apply_endpoint_slice(&routing::endpoint_slice(&self.site))
                .await?;
            *front_written = true;
        }
        writer.apply_ingress(&routing::ingress(&self.site, key, hosts)).await
    }
}

#[cfg(test)]
mod tests;
