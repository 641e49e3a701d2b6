//! Does what time alone asks for: wakes jobs that are due, takes back those nobody speaks for.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Clock;

use crate::bounds::Bounds;
use crate::catalog::Catalog;
use crate::config::Leases;
use crate::hearing::Hearing;
use crate::journal::Journal;
use crate::lifecycle::{Done, Job, Phase};
use crate::store::{Change, StoreError};

/// How late a job that is due may be noticed.
const DUE_EVERY: Duration = Duration::from_millis(200);
/// How often everything else is looked after.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// So many jobs are moved in one transaction at most, so that a sweep does not hold up the submissions behind it.
const STEP: usize = 500;

#[derive(Debug)]
pub struct Sweeper {
    pub journal: Journal,
    pub catalog: Catalog,
    /// Outcomes, and beats: a run lives on both.
    pub hearing: [Hearing; 2],
    pub leases: Leases,
    pub bounds: Bounds,
    pub clock: Arc<dyn Clock>,
}

impl Sweeper {
    pub async fn run(self, shutdown: Shutdown) {
        let mut due = tokio::time::interval(DUE_EVERY);
        let mut round = tokio::time::interval(ROUND_EVERY);
        for timer in [&mut due, &mut round] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        loop {
            let swept = tokio::select! {
                () = shutdown.requested() => return,
                _ = due.tick() => self.wake_due().await,
                _ = round.tick() => self.round().await,
            };
            if let Err(error) = swept {
                tracing::warn!(%error, "a sweep was cut short; trying again");
            }
        }
    }

    async fn round(&self) -> Result<(), StoreError> {
        self.end_leases().await?;
        self.look_around().await
    }

    /// Sends jobs on whose time has come.
    pub async fn wake_due(&self) -> Result<(), StoreError> {
        loop {
            let changes = self.journal.store.wake_due(self.clock.now(), STEP).await?;
            self.journal.changed(&changes);
            if changes.len() < STEP {
                return Ok(());
            }
        }
    }

    /// Takes back jobs whose lease has ended, but not before this replica has heard every outcome and beat for one
    /// whole lease: until then silence may be its own.
    pub async fn end_leases(&self) -> Result<(), StoreError> {
        let (lease, now) = (self.leases.claim_lease.as_duration(), self.clock.now());
        if !self.hearing.iter().all(|hearing| hearing.for_at_least(lease, now)) {
            return Ok(());
        }
        loop {
            let changes = self.journal.store.end_leases(&self.catalog.bereft(), self.clock.now(), STEP).await?;
            for Change { job, .. } in &changes {
                tell(job);
            }
            if !changes.is_empty() {
                tracing::info!(jobs = changes.len(), "leases ended without a word");
            }
            self.journal.changed(&changes);
            if changes.len() < STEP {
                return Ok(());
            }
        }
    }

    /// Learns what other replicas have learned, and which workers have gone silent.
    async fn look_around(&self) -> Result<(), StoreError> {
        self.catalog.refresh(&*self.journal.store, self.clock.now()).await?;
        self.journal.lanes.set_slots(&self.catalog.slots());
        self.journal.lanes.set_early(&self.catalog.early());
        self.journal.lanes.reconcile(&self.journal.store.out().await?);
        self.bounds.refresh(&*self.journal.store).await
    }
}

/// A job that ends for its workers' loss is worth a line of its own.
fn tell(job: &Job) {
    match (&job.phase, &job.error) {
        (Phase::Done(Done::Failed), Some(problem)) => {
            tracing::warn!(job.id = %job.id, job.kind = %job.kind, problem = problem.r#type, "a job ended because its workers were lost");
        }
        _ => tracing::debug!(job.id = %job.id, dispatch = job.dispatch, "the lease of a job ended"),
    }
}
