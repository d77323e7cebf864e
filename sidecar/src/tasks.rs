//! Everything that runs beside: started here, so that everything is known when the sidecar stops.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Owns tasks. Clones own the same ones.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// No tasks, and nothing asked to stop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. It must end soon after [`Tasks::stopping`] fires.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Fires when the tasks are asked to end.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Running tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Asks every task to end and waits for them, but not longer than `grace`.
    ///
    /// Returns how many had to be abandoned; a healthy stop returns 0.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.stop.cancel();
        self.tracker.close();
        // Running out of time is not an error here: the count says it.
        let _ = tokio::time::timeout(grace, self.tracker.wait()).await;
        self.tracker.len()
    }
}
