//! Tells the workers which runs are to stop.
//!
//! The wish itself is in the store. A word to the workers may be lost, so it is said again with every sign of life of
//! a run that should have stopped: a late start, a report, a beat.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::Broker;
use buzzer_shared::id::RunId;
use buzzer_shared::message::Control;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::topology::Topology;
use tokio::sync::mpsc;

use crate::lifecycle::Job;

/// So many may wait to be told. What finds no room is told with the run's next sign of life.
const WAITING: usize = 4096;
/// So many are told in one message at most.
const TOLD_MAX: usize = 500;
/// While the broker does not take it, it is not tried more often.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes runs that are to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cancels(mpsc::Sender<RunId>);

impl Cancels {
    pub fn new() -> (Self, mpsc::Receiver<RunId>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Has the workers told to stop the last run of this job, if there was any.
    pub fn tell(&self, job: &Job) {
        if job.dispatch > 0 {
            self.tell_run(RunId { job: job.id, dispatch: job.dispatch });
        }
    }

    /// Has the workers told to stop this run.
    pub fn tell_run(&self, run: RunId) {
        // No room: the run's next sign of life brings it here again.
        let _ = self.0.try_send(run);
    }
}

/// Says it to all workers, since nobody keeps who runs what.
#[derive(Debug)]
pub struct CancelBroadcast {
    pub broker: Arc<dyn Broker>,
    pub topology: Topology,
}

impl CancelBroadcast {
    /// Until shutdown is requested.
    pub async fn run(self, mut cancels: mpsc::Receiver<RunId>, shutdown: Shutdown) {
        let mut runs = Vec::new();
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = cancels.recv_many(&mut runs, TOLD_MAX) => self.step(&mut runs).await,
            }
        }
    }

    async fn step(&self, runs: &mut Vec<RunId>) {
        let told = Control::Cancel { runs: std::mem::take(runs) };
        if let Err(error) = self.broker.publish(self.topology.to_workers(), told.to_message()).await {
            tracing::debug!(%error, "the workers were not told to stop; they will be with their next sign of life");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
