//! Tells the store what happened to jobs, and tells what came of it to whoever must know.

use std::sync::Arc;

use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::id::{JobId, RunId, Tenant};
use buzzer_shared::time::Clock;

use crate::bell::Bell;
use crate::cancel::Cancels;
use crate::lanes::Lanes;
use crate::lifecycle::{Event, Ignored, Job};
use crate::store::{Applied, Asked, Change, Happening, Store, StoreError, Wish};
use crate::tally::Tally;
use crate::wake::Wake;

/// The one way by which jobs change after their submission. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    pub store: Arc<dyn Store>,
    pub lanes: Lanes,
    pub wake: Wake,
    pub cancels: Cancels,
    /// Rung when a webhook may be told of a change.
    pub bell: Bell,
    pub tally: Tally,
    pub clock: Arc<dyn Clock>,
}

impl Journal {
    /// Applies happenings in one transaction; then frees their places and wakes those who wait.
    pub async fn apply(&self, happenings: Vec<Happening>) -> Result<(), StoreError> {
        let told: Vec<_> = happenings.iter().map(Told::of).collect();
        if bites(Fault::WakeBeforeCommit) {
            told.iter().for_each(|told| self.wake.changed(told.job));
        }
        let applied = self.store.apply(happenings, self.clock.now()).await?;
        let mut changes = Vec::with_capacity(applied.len());
        let mut unknown = 0;
        for (applied, told) in applied.into_iter().zip(&told) {
            match applied {
                Applied::Changed(change) => changes.push(change),
                Applied::Ignored(reason) => self.ignored(told, reason),
                Applied::Unknown => {
                    self.tally.unknown_job();
                    unknown += 1;
                    // Deleted while an old run of it goes on: nobody waits for that.
                    if let Some(dispatch) = told.held {
                        self.cancels.tell_run(RunId { job: told.job, dispatch });
                    }
                }
            }
        }
        if unknown > 0 {
            tracing::warn!(
                events = unknown,
                "events of unknown jobs were ignored: they were deleted, or another store shares this broker's prefix"
            );
        }
        self.lanes.changed(&changes);
        changes.iter().for_each(|change| self.tell_of(&change.job));
        changes.iter().filter(|change| change.job.is_to_stop()).for_each(|change| self.cancels.tell(&change.job));
        // Also where nothing changed: an earlier try may have been stored without an answer, and nobody was woken then.
        // A sign of life alone is nothing that anybody waits for.
        let news = told.into_iter().filter(|told| told.held.is_none() && !bites(Fault::WakeBeforeCommit));
        news.for_each(|told| self.wake.changed(told.job));
        Ok(())
    }

    /// Tells one job of a tenant what its owner wants, and its worker if it has one.
    pub async fn ask(&self, tenant: &Tenant, id: JobId, wish: Wish) -> Result<Option<Asked>, StoreError> {
        let asked =
            self.store.ask(tenant, id, wish, self.clock.now()).await.inspect_err(|_| self.unsure(tenant, id))?;
        if let Some(Asked::Changed(change)) = &asked {
            self.changed(std::slice::from_ref(change));
        }
        if let (Wish::Cancel, Some(Asked::Changed(Change { job, .. }) | Asked::Refused(job, Ignored::Known))) =
            (wish, &asked)
        {
            // Also when the job is done now: a run whose lease has ended may still go on.
            self.cancels.tell(job);
        }
        Ok(asked)
    }

    /// Tells of changes that the store made by itself.
    pub fn changed(&self, changes: &[Change]) {
        self.lanes.changed(changes);
        for Change { job, .. } in changes {
            self.wake.changed(job.id);
            self.tell_of(job);
        }
    }

    /// A change may be stored although its answer was lost: whoever waits for it must look.
    fn unsure(&self, tenant: &Tenant, id: JobId) {
        self.wake.changed(id);
        self.wake.feed_grew(tenant);
    }

    /// Tells those who wait for the feed of its tenant, and who tells webhooks, that something happened to a job.
    pub fn tell_of(&self, job: &Job) {
        self.wake.feed_grew(&job.tenant);
        self.bell.happened(job);
    }

    fn ignored(&self, told: &Told, reason: Ignored) {
        self.tally.ignored(reason);
        match told.outcome_of {
            Some(dispatch) => tracing::info!(
                job.id = %told.job, dispatch, %reason,
                "an outcome changes nothing: the job was run again, or has ended, without it"
            ),
            None => tracing::debug!(job.id = %told.job, %reason, "an event was ignored"),
        }
    }
}

/// What is kept of a happening, to tell what came of it.
struct Told {
    job: JobId,
    /// The dispatch whose outcome it was, if it was one.
    outcome_of: Option<u32>,
    /// The dispatch that a worker says it holds, if it was that.
    held: Option<u32>,
}

impl Told {
    fn of(happening: &Happening) -> Self {
        let (outcome_of, held) = match &happening.event {
            Event::Finished { dispatch, .. } => (Some(*dispatch), None),
            Event::Held { dispatch, .. } => (None, Some(*dispatch)),
            _ => (None, None),
        };
        Self { job: happening.job, outcome_of, held }
    }
}
