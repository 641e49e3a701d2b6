//! Does what time alone asks for: wakes jobs that are due, takes back those nobody speaks for.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Clock;

use crate::catalog::Catalog;
use crate::config::Leases;
use crate::hearing::Hearing;
use crate::journal::Journal;
use crate::lifecycle::{Done, Job, Phase};
use crate::store::{Change, StoreError};
use crate::streak::Streak;

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
    pub clock: Arc<dyn Clock>,
}

impl Sweeper {
    pub async fn run(self, shutdown: Shutdown) {
        let mut due = tokio::time::interval(DUE_EVERY);
        let mut round = tokio::time::interval(ROUND_EVERY);
        for timer in [&mut due, &mut round] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        let mut streak = Streak::new("jobs that are due, and leases that ended, are not looked after");
        loop {
            let swept = tokio::select! {
                () = shutdown.requested() => return,
                _ = due.tick() => self.wake_due().await,
                _ = round.tick() => self.round().await,
            };
            if streak.note(swept).is_none() {
                // Jobs may have been moved although the answer was lost, and nobody knows which.
                self.journal.wake.everybody();
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
        let heard_all = self.hearing.iter().all(|hearing| hearing.for_at_least(lease, now));
        if (!heard_all && !bites(Fault::SweepWhileDeaf)) || bites(Fault::ForgetLeases) {
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
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use buzzer_shared::broker::Line;
    use buzzer_shared::id::{JobId, Tenant};
    use buzzer_shared::kind::KindSpec;
    use buzzer_shared::time::{ManualClock, Span, Time};
    use tokio::sync::watch;

    use super::*;
    use crate::bell::Bell;
    use crate::cancel::Cancels;
    use crate::lanes::Lanes;
    use crate::lifecycle::{Event, accept, step};
    use crate::store::Store;
    use crate::store::Submission;
    use crate::store::sqlite::SqliteStore;
    use crate::tally::Tally;
    use crate::wake::Wake;

    /// Its outcome may wait in the queue.
    #[tokio::test]
    async fn no_lease_is_ended_by_who_has_not_heard_everything_for_a_whole_lease() {
        let (folder, now) = (tempfile::tempdir().unwrap(), Time::from_millis(1_000_000));
        let store = Arc::new(SqliteStore::open(&folder.path().join("buzzer.db")).unwrap());
        let spec = KindSpec::any("echo".parse().unwrap());
        let accepted = accept(Job::new(JobId::new(now), Tenant::default(), &spec, now));
        let claimed = step(&accepted.job, &Event::Claimed { until: now }, now).unwrap();
        store.submit(Submission { accepted: claimed, input: "1".into(), key: None }).await.unwrap();

        let lease = Span::from_secs(2);
        let manual = Arc::new(ManualClock::at(now));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&manual);
        let hearing = [Hearing::default(), Hearing::default()];
        let sweeper = Sweeper {
            journal: Journal {
                store: Arc::<SqliteStore>::clone(&store),
                lanes: Lanes::new(watch::channel(Line::Up).1, Arc::clone(&clock)),
                wake: Wake::default(),
                cancels: Cancels::new().0,
                bell: Bell::default(),
                tally: Tally::default(),
                clock: Arc::clone(&clock),
            },
            catalog: Catalog::default(),
            hearing: hearing.clone(),
            leases: Leases { claim_lease: lease, run_lease: lease },
            clock,
        };
        let echo = spec.name;
        let out = |count| HashMap::from([(echo.clone(), count)]);
        for seconds in 0..2 {
            hearing.iter().for_each(|hearing| hearing.note(true, now + Duration::from_secs(seconds)));
            sweeper.end_leases().await.unwrap();
            assert_eq!(store.out().await.unwrap(), out(1), "after {seconds} s");
            manual.advance(Duration::from_secs(1));
        }
        hearing.iter().for_each(|hearing| hearing.note(true, now + Duration::from_secs(2)));
        sweeper.end_leases().await.unwrap();
        assert!(store.out().await.unwrap().is_empty());
    }
}
