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
    pub async fn apply(&self, happenings: Vec<Happening>) -> Result<Vec<Applied>, StoreError> {
        let applied = self.store.apply(happenings, self.clock.now()).await?;
        let mut changes = Vec::with_capacity(applied.len());
        for one in &applied {
            match one {
                Applied::Changed(change) => changes.push(change.clone()),
                Applied::Ignored(reason) => tracing::debug!(%reason, "an event was ignored"),
                Applied::Unknown => tracing::debug!("an event of an unknown job was ignored"),
            }
        }
        self.changed(&changes);
        Ok(applied)
    }

    /// Tells of changes that the store made by itself.
    pub fn changed(&self, changes: &[Change]) {
        self.lanes.changed(changes);
        for Change { job, .. } in changes {
            self.wake.changed(job.id, job.seq);
        }
    }
}
