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

#[cfg(test)]
mod tests {
    use buzzer_shared::kind::KindSpec;
    use buzzer_shared::time::Time;
    use bytes::Bytes;
    use futures_util::FutureExt;
    use tempfile::TempDir;

    use super::*;
    use crate::lifecycle::{Job, LogType, accept};
    use crate::store::sqlite::SqliteStore;
    use crate::store::{Asked, Submission, Wish};

    const NOW: Time = Time::from_millis(1_795_000_000_000);

    struct Stage {
        store: Arc<dyn Store>,
        wake: Wake,
        _directory: TempDir,
    }

    impl Stage {
        fn new() -> Self {
            let directory = TempDir::new().unwrap();
            let store = SqliteStore::open(&directory.path().join("buzzer.db")).unwrap();
            Self { store: Arc::new(store), wake: Wake::default(), _directory: directory }
        }

        async fn submit(&self) -> JobId {
            let accepted =
                accept(Job::new(JobId::new(NOW), Tenant::default(), &KindSpec::any("echo".parse().unwrap()), NOW));
            let id = accepted.job.id;
            self.store.submit(Submission { accepted, input: Bytes::from_static(b"1"), key: None }).await.unwrap();
            id
        }

        /// Ends it, and tells nobody.
        async fn cancel(&self, id: JobId) {
            let asked = self.store.ask(&Tenant::default(), id, Wish::Cancel, NOW).await.unwrap();
            assert!(matches!(asked, Some(Asked::Changed(_))), "{asked:?}");
        }

        fn followed(&self) -> Followed {
            Followed::new(Arc::clone(&self.store), Tenant::default(), &self.wake)
        }
    }

    fn shown(told: Told) -> (JobId, u32, LogType) {
        match told {
            Told::Event(view) => (view.job_id, view.seq, view.r#type),
            Told::Gone(id) => panic!("{id} is gone"),
        }
    }

    #[tokio::test]
    async fn what_was_and_what_comes_is_told_and_the_last_event_ends_it() {
        let stage = Stage::new();
        let (one, other) = (stage.submit().await, stage.submit().await);
        let mut followed = stage.followed();
        followed.follow(ToFollow { id: one, after: 0 });
        followed.follow(ToFollow { id: other, after: 1 });
        assert_eq!(shown(followed.next().await), (one, 1, LogType::Accepted));
        stage.cancel(other).await;
        stage.wake.changed(other);
        assert_eq!(shown(followed.next().await), (other, 2, LogType::Canceled));
        assert_eq!((followed.len(), followed.has(one), followed.has(other)), (1, true, false));
        stage.cancel(one).await;
        stage.wake.everybody();
        assert_eq!(shown(followed.next().await), (one, 2, LogType::Canceled));
        assert_eq!(followed.len(), 0);
    }

    #[tokio::test]
    async fn what_no_word_came_of_is_found_when_all_are_looked_at() {
        let stage = Stage::new();
        let (one, other) = (stage.submit().await, stage.submit().await);
        let mut followed = stage.followed();
        for id in [one, other] {
            followed.follow(ToFollow { id, after: 1 });
        }
        for id in [one, other] {
            stage.cancel(id).await;
        }
        assert!(matches!(stage.store.delete(&Tenant::default(), other).await, Ok(crate::store::Deleted::Gone(_))));
        (followed.turns, followed.has_turn) = Default::default();
        followed.look_at = Instant::now();
        let mut told = [followed.next().await, followed.next().await];
        told.sort_by_key(|told| matches!(told, Told::Event(_)));
        let [Told::Gone(gone), Told::Event(last)] = told else { panic!("{told:?}") };
        assert_eq!((gone, last.job_id, last.seq), (other, one, 2));
        assert_eq!(followed.len(), 0);
    }

    /// Whatever is dropped half-way is told all the same, and once.
    #[tokio::test]
    async fn a_wait_that_is_dropped_loses_nothing() {
        let stage = Stage::new();
        let ids = [stage.submit().await, stage.submit().await];
        let mut followed = stage.followed();
        for id in ids {
            followed.follow(ToFollow { id, after: 0 });
        }
        for id in ids {
            let told = match followed.next().now_or_never() {
                Some(told) => told,
                None => followed.next().await,
            };
            assert_eq!(shown(told), (id, 1, LogType::Accepted));
        }
        assert!(tokio::time::timeout(Duration::from_millis(50), followed.next()).await.is_err());
    }

    #[tokio::test]
    async fn who_is_followed_again_is_told_from_there_and_who_is_not_is_told_nothing() {
        let stage = Stage::new();
        let id = stage.submit().await;
        let mut followed = stage.followed();
        for _ in 0..2 {
            followed.follow(ToFollow { id, after: 0 });
            assert_eq!(shown(followed.next().await), (id, 1, LogType::Accepted));
        }
        followed.unfollow(id);
        stage.cancel(id).await;
        stage.wake.changed(id);
        followed.look_at = Instant::now();
        assert!(tokio::time::timeout(Duration::from_millis(50), followed.next()).await.is_err());
        assert_eq!(followed.len(), 0);
    }
}
