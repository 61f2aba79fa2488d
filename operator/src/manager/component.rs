//! Parts of the control plane that start and stop together.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A part of the control plane, such as the controller of a kind.
pub(super) trait Component: Sized {
    /// Returns the name for logs.
    fn name(&self) -> &'static str;

    /// Starts its tasks. Subscriptions to stores are complete when it returns.
    fn start(self, tasks: &mut Tasks);
}

/// Tasks that run until the process stops or leadership is lost.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<()>,
    stop: CancellationToken,
}

impl Tasks {
    /// Starts a component.
    pub(super) fn start(&mut self, component: impl Component) {
        let name = component.name();
        component.start(self);
        tracing::debug!(component = name, "component started");
    }

    /// Returns a token that is cancelled when the tasks are to stop.
    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task that is dropped when the tasks are to stop.
    pub(super) fn until_stopped(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.running.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Runs a task that ends by itself after [`stop`](Self::stop) is cancelled.
    pub(super) fn until_done(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(task);
    }

    /// Stops the tasks. Returns whether all of them ended within `grace`.
    pub(super) async fn stop_within(&mut self, grace: Duration) -> bool {
        self.stop.cancel();
        let ended = async { while self.running.join_next().await.is_some() {} };
        tokio::time::timeout(grace, ended).await.is_ok()
    }

    /// Drops what still runs.
    pub(super) async fn abort(&mut self) {
        self.stop.cancel();
        self.running.shutdown().await;
    }
}
