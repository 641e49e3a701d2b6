//! The jobs that one socket follows, and what happens to them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant};
use tokio::time::{Instant, sleep, sleep_until};

use super::carry_out::ToFollow;
use crate::lifecycle::Entry;
use crate::problem::ApiError;
use crate::store::Store;
use crate::view::EventView;
use crate::wake::{Lookout, News, Wake};

/// So many entries of one job are read at a time; then it is another's turn.
const PAGE: usize = 32;
/// How often it is looked, by one question for all, whether a job has events of which no word came.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How soon the store is asked again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Jobs, each with the number of its last event that was shown.
///
/// Interest is registered first, and the store read second; then it is read for a job of which a word came, and for no other.
/// One page is read at a time, when what came before has been taken.
pub(super) struct Followed {
    store: Arc<dyn Store>,
    tenant: Tenant,
    shown: HashMap<JobId, u32>,
    lookout: Lookout,
    /// Those that may have more to show, in the order of their turns.
    turns: VecDeque<JobId>,
    /// The same; each has one turn.
    has_turn: HashSet<JobId>,
    page: Option<Page>,
    /// Found to be deleted, and not told yet.
    gone: Vec<JobId>,
    look_at: Instant,
}

/// Read and not shown yet.
struct Page {
    job: JobId,
    entries: VecDeque<Entry>,
    /// Whether there may be more in the store.
    is_full: bool,
}

/// What is to be told of a job.
#[derive(Debug)]
pub(super) enum Told {
    Event(EventView),
    /// It was deleted, and is followed no longer.
    Gone(JobId),
}

impl Followed {
    pub(super) fn new(store: Arc<dyn Store>, tenant: Tenant, wake: &Wake) -> Self {
        Self {
            store,
            tenant,
            shown: HashMap::new(),
            lookout: wake.lookout(),
            turns: VecDeque::new(),
            has_turn: HashSet::new(),
            page: None,
            gone: Vec::new(),
            look_at: Instant::now() + LOOK_EVERY,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    pub(super) fn has(&self, id: JobId) -> bool {
        self.shown.contains_key(&id)
    }

    /// Follows a job from there on, also one that is followed already.
    pub(super) fn follow(&mut self, ToFollow { id, after }: ToFollow) {
        self.unfollow(id);
        if self.shown.is_empty() {
            self.look_at = Instant::now() + LOOK_EVERY;
        }
        self.lookout.add(id);
        self.shown.insert(id, after);
        self.give_turn(id);
    }

    /// Nothing that is told from now on is about this job.
    pub(super) fn unfollow(&mut self, id: JobId) {
        self.lookout.remove(id);
        self.shown.remove(&id);
        self.gone.retain(|gone| *gone != id);
        self.page.take_if(|page| page.job == id);
    }

    /// The next that there is to tell, in the order of its events for each job. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Told {
        loop {
            match self.step().await {
                Ok(Some(told)) => return told,
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "a socket waits for the store");
                    sleep(STORE_RETRY).await;
                }
            }
        }
    }

    /// One step on the way to what there is to tell. Changes nothing before it is done.
    async fn step(&mut self) -> Result<Option<Told>, ApiError> {
        if let Some(gone) = self.gone.pop() {
            return Ok(Some(Told::Gone(gone)));
        }
        if let Some(page) = &self.page {
            let job = page.job;
            let Some(entry) = page.entries.front() else {
                let is_full = page.is_full;
                self.page = None;
                if is_full {
                    self.give_turn(job);
                }
                return Ok(None);
            };
            let view = EventView::read(&*self.store, &self.tenant, job, entry).await?;
            return Ok(Some(self.show(job, view)));
        }
        if let Some(job) = self.turns.front().copied() {
            let entries = match self.shown.get(&job) {
                Some(after) => self.store.events(&self.tenant, job, *after, PAGE).await?,
                None => Vec::new(),
            };
            self.turns.pop_front();
            self.has_turn.remove(&job);
            self.page = Some(Page { job, is_full: entries.len() == PAGE, entries: entries.into() });
            return Ok(None);
        }
        tokio::select! {
            news = self.lookout.woken() => self.hear(news),
            () = sleep_until(self.look_at), if !self.shown.is_empty() => self.look().await?,
        }
        Ok(None)
    }

    fn show(&mut self, job: JobId, view: Option<EventView>) -> Told {
        let Some(view) = view else {
            self.unfollow(job);
            return Told::Gone(job);
        };
        if view.r#type.is_terminal() {
            self.unfollow(job);
        } else {
            self.shown.insert(job, view.seq);
            if let Some(page) = &mut self.page {
                page.entries.pop_front();
            }
        }
        Told::Event(view)
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Of(jobs) => jobs.into_iter().for_each(|job| self.give_turn(job)),
            News::Any => self.look_at = Instant::now(),
        }
    }

    fn give_turn(&mut self, job: JobId) {
        if self.shown.contains_key(&job) && self.has_turn.insert(job) {
            self.turns.push_back(job);
        }
    }

    /// Asks the store how far all are.
    async fn look(&mut self) -> Result<(), ApiError> {
        let ids: Vec<_> = self.shown.keys().copied().collect();
        let seqs = self.store.seqs(&self.tenant, &ids).await?;
        self.look_at = Instant::now() + LOOK_EVERY;
        for id in ids {
            match seqs.get(&id) {
                None => {
                    self.unfollow(id);
                    self.gone.push(id);
                }
                Some(seq) if self.shown.get(&id).is_some_and(|shown| shown < seq) => self.give_turn(id),
                Some(_) => {}
            }
        }
        Ok(())
    }
}
