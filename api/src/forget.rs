//! Deletes what need not be kept any longer, jobs, deliveries and tickets: in a loop of its own, since it may have much to do.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Clock;

use crate::retention::Retention;
use crate::store::{Store, StoreError};
use crate::streak::Streak;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// So many rows of a sort are deleted in one transaction at most: the submissions that share it wait for no more than these.
const STEP: usize = 50;
/// A worker that was silent for so long is not listed any more.
const WORKERS: Duration = Duration::from_secs(60 * 60);

#[derive(Debug)]
pub struct Forgetter {
    pub store: Arc<dyn Store>,
    pub retention: Retention,
    pub clock: Arc<dyn Clock>,
}

impl Forgetter {
    /// Until shutdown is requested.
    pub async fn run(self, shutdown: Shutdown) {
        let mut timer = tokio::time::interval(EVERY);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut streak = Streak::new("old jobs are not deleted");
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = timer.tick() => {}
            }
            streak.note(self.all_of_now(&shutdown).await);
        }
    }

    async fn all_of_now(&self, shutdown: &Shutdown) -> Result<(), StoreError> {
        self.store.dismiss(None, self.clock.now() - WORKERS).await?;
        while self.step().await? == STEP && !shutdown.is_requested() {}
        while self.forget_deliveries().await? == STEP && !shutdown.is_requested() {}
        while self.store.forget_tickets(self.clock.now(), STEP).await? == STEP && !shutdown.is_requested() {}
        Ok(())
    }

    /// Deliveries go with their jobs; the rest of them here.
    async fn forget_deliveries(&self) -> Result<usize, StoreError> {
        let before = self.clock.now() - self.retention.longest().as_duration();
        self.store.forget_deliveries(before, STEP).await
    }

    /// Deletes some, and tells how many.
    async fn step(&self) -> Result<usize, StoreError> {
        self.store.forget(&self.retention, self.clock.now(), STEP).await
    }
}
