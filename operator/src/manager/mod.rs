//! The operator's process: which parts start when, and in which order they stop.
//!
//! - [`replica`]: what every replica has; [`servers`]: what it serves, also as a standby.
//! - [`leader`]: what only the leader runs, as [`component`]s: [`certificates`], [`issuers`], [`gateways`], [`alerts`] and
//!   [`wakeups`]. A process leads once, and ends with its leadership.

mod alerts;
mod certificates;
mod component;
mod gateways;
mod issuers;
mod leader;
mod replica;
mod servers;
mod settings;
mod snapshot;
mod wakeups;

use std::time::Duration;

use kube::{Api, Client, Resource, core::NamespaceResourceScope};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use self::settings::{OperatorError, Settings};
use self::{
    component::Tasks,
    leader::Leader,
    replica::Replica,
    servers::{Listeners, Servers},
};

/// Time to release the Lease at the end.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until a signal, or until leadership is lost.
pub async fn run(config: kube::Config, settings: Settings) -> Result<(), OperatorError> {
    let signalled = signals().map_err(OperatorError::Signals)?;
    tokio::pin!(signalled);
    let listeners = Listeners::bind(&settings).await?;
    let (replica, elector) = Replica::new(config, settings, &listeners)?;
    let (leadership, writer) = (replica.leadership.clone(), replica.writer.clone());
    let mut servers = Tasks::default();
    servers.start(Servers {
        listeners,
        metrics: replica.metrics.clone(),
        leadership: leadership.clone(),
        state: replica.state(),
        answers: replica.answers.clone(),
    });

    let release = CancellationToken::new();
    let election = elector.map(|elector| tokio::spawn(elector.run(release.clone())));
    let leads = tokio::select! {
        () = leadership.wait_until_leader() => true,
        () = &mut signalled => false,
    };
    let mut outcome = Ok(());
    if leads {
        tracing::info!("leading");
        let leader = Leader::start(replica);
        tokio::select! {
            () = &mut signalled => {
                tracing::info!("stopping: reconciles in progress are completed");
                leader.stop(writer.close()).await;
            }
            () = leadership.lost() => {
                outcome = Err(OperatorError::LeadershipLost);
                leader.abort().await;
            }
        }
    }
    // Only now: from here on the guard rejects every write, and a successor may start.
    release.cancel();
    if let Some(election) = election {
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, election).await;
    }
    servers.abort().await;
    outcome
}

/// Returns a future that ends with SIGTERM or Ctrl-C.
fn signals() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Returns the API of a kind in one namespace, or in all.
fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
