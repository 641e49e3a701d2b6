//! Tells the store what happened to jobs, and tells what came of it to whoever must know.

use std::sync::Arc;

use buzzer_shared::time::Clock;

use crate::lanes::Lanes;
use crate::store::{Applied, Change, Happening, Store, StoreError};
use crate::wake::Wake;

/// The one way by which jobs change after their submission. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    pub store: Arc<dyn Store>,
    pub lanes: Lanes,
    pub wake: Wake,
    pub clock: Arc<dyn Clock>,
}

impl Journal {
    /// Applies happenings in one transaction; then frees their places and wakes those who wait.
    pub async fn apply(&self, happenings: Vec<Happening>) -> Result<(), StoreError> {
        let jobs: Vec<_> = happenings.iter().map(|happening| happening.job).collect();
        let applied = self.store.apply(happenings, self.clock.now()).await?;
        let mut changes = Vec::with_capacity(applied.len());
        let mut unknown = 0;
        for applied in applied {
            match applied {
                Applied::Changed(change) => changes.push(change),
                Applied::Ignored(reason) => tracing::debug!(%reason, "an event was ignored"),
                Applied::Unknown => unknown += 1,
            }
        }
        if unknown > 0 {
            tracing::warn!(
                events = unknown,
                "events of unknown jobs were ignored: does another store share this broker's prefix?"
            );
        }
        self.lanes.changed(&changes);
        // Also where nothing changed: an earlier try may have been stored without an answer, and nobody was woken then.
        jobs.into_iter().for_each(|job| self.wake.changed(job));
        Ok(())
    }

    /// Tells of changes that the store made by itself.
    pub fn changed(&self, changes: &[Change]) {
        self.lanes.changed(changes);
        for Change { job, .. } in changes {
            self.wake.changed(job.id);
        }
    }
}
