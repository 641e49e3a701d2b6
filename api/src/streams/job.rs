use std::collections::VecDeque;
use std::sync::Arc;

use buzzer_shared::id::{JobId, Tenant};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::{Said, Source, Step};
use crate::lifecycle::Entry;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::store::Store;
use crate::view::EventView;
use crate::wake::Listener;

/// So many entries are read at a time.
const PAGE: usize = 32;

/// The events of one job, to its end.
pub struct JobEvents {
    store: Arc<dyn Store>,
    tenant: Tenant,
    id: JobId,
    /// The number of the last event that was shown.
    after: u32,
    /// Heard from the beginning: what is stored after a read wakes it.
    listener: Listener<JobId>,
    /// Read and not shown yet.
    page: VecDeque<Entry>,
    progress: Progress,
    _place: OwnedSemaphorePermit,
}

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    New,
    /// There may be more in the store.
    Reading,
    /// Everything was read that was there.
    Waiting,
    Over,
}

impl JobEvents {
    /// What happened to the job after the event `after`, and what happens from now on.
    pub fn new(state: &AppState, tenant: Tenant, id: JobId, after: u32, place: OwnedSemaphorePermit) -> Self {
        let listener = state.wake.listen(id);
        Self {
            store: Arc::clone(&state.store),
            tenant,
            id,
            after,
            listener,
            page: VecDeque::new(),
            progress: Progress::New,
            _place: place,
        }
    }

    async fn read(&mut self) -> Result<(), ApiError> {
        self.page = self.store.events(&self.tenant, self.id, self.after, PAGE).await?.into();
        self.progress = if self.page.len() < PAGE { Progress::Waiting } else { Progress::Reading };
        Ok(())
    }

    fn show(&mut self, view: &EventView) -> Result<Said, ApiError> {
        self.after = view.seq;
        if view.r#type.is_terminal() {
            self.progress = Progress::Over;
        }
        Ok(Said::Event { id: view.seq.to_string(), r#type: view.r#type.as_str(), data: view.to_line()?.into() })
    }
}

impl Source for JobEvents {
    async fn step(&mut self, until: Instant) -> Result<Step, ApiError> {
        loop {
            if let Some(entry) = self.page.front() {
                let Some(view) = EventView::read(&*self.store, &self.tenant, self.id, entry).await? else {
                    return Ok(Step::End);
                };
                self.page.pop_front();
                return self.show(&view).map(Step::Show);
            }
            match self.progress {
                Progress::New => {
                    self.progress = Progress::Reading;
                    return Ok(Step::Show(Said::Greeting { id: None }));
                }
                Progress::Reading => self.read().await?,
                Progress::Waiting => {
                    // A beat of the worker wakes, too, and brings nothing to read: the time is counted from what was shown.
                    let woken = timeout_at(until, self.listener.woken()).await;
                    self.progress = Progress::Reading;
                    if woken.is_err() {
                        return Ok(Step::Quiet);
                    }
                }
                Progress::Over => return Ok(Step::End),
            }
        }
    }

    /// A job that was deleted has no events any more, and no end to wait for.
    async fn sign_of_life(&mut self) -> Result<Option<Said>, ApiError> {
        let job = self.store.job(&self.tenant, self.id).await?;
        Ok(job.map(|_| Said::Life { id: None }))
    }
}
