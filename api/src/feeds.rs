//! The feeds of tenants, as they grow. Each is read once for all who follow it here.
//!
//! Whoever follows registers first, then reads the store up to its end, and then takes what comes: so nothing is
//! missed. A wake-up says that there is more; once a second the store is asked in any case, for a word may be lost.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use buzzer_shared::shutdown::Shutdown;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::task::TaskTracker;

use crate::lifecycle::{Entry, LogType};
use crate::problem::ApiError;
use crate::store::{Fed, JobWithContent, Store, StoreError};
use crate::streak::Streak;
use crate::view::EventView;
use crate::wake::Wake;

/// How often a feed is looked at if nobody says that it has grown.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many entries are read at a time.
const PAGE: usize = 256;
/// So many a follower reads for itself, where many do: each holds its own, and thousands may come back at once.
const SMALL_PAGE: usize = 16;
/// So many followers at a time read whole pages for themselves.
const WHOLE_PAGES: usize = 16;
/// So many wait for the slowest follower; one that lags further behind reads the store by itself.
const LAG_MAX: usize = 1024;
/// A larger text is not kept for others: many of them would fill the memory.
const SHARED_MAX: usize = 16 * 1024;
/// Jobs with more input and output than that are not read together with others, for the same reason.
const TOGETHER_MAX: usize = 4 * 1024;

/// Every feed that somebody follows here. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feeds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    wake: Wake,
    shutdown: Shutdown,
    readers: Mutex<HashMap<Tenant, broadcast::Sender<Arc<FeedEvent>>>>,
    tasks: TaskTracker,
    whole_pages: Arc<Semaphore>,
}

/// A part of a feed, read for one follower.
#[derive(Debug, Default)]
pub struct FeedPage {
    pub events: VecDeque<Arc<FeedEvent>>,
    /// Of a whole page, until the next one is read.
    _place: Option<OwnedSemaphorePermit>,
}

/// An entry of a feed, and what it may be chosen by.
#[derive(Debug)]
pub struct FeedEvent {
    /// Its number in the feed.
    pub feed: i64,
    pub kind: Kind,
    pub tags: BTreeMap<String, String>,
    pub entry: Entry,
    job: JobId,
    ended: Arc<Ended>,
    /// Written by the first who shows it.
    text: OnceCell<Text>,
}

/// The jobs that have ended on one page of a feed. Read together by the first who shows one of them: one by one would
/// cost a turn to the store for each.
#[derive(Debug)]
struct Ended {
    ids: Vec<JobId>,
    jobs: OnceCell<HashMap<JobId, JobWithContent>>,
}

#[derive(Debug, Clone)]
enum Text {
    Shared(Arc<str>),
    /// Too large to be kept: everybody writes it for himself.
    Large,
    /// The job was deleted meanwhile.
    Gone,
}

/// One who follows a feed.
#[derive(Debug)]
pub struct Follower {
    /// What is stored from now on.
    pub news: broadcast::Receiver<Arc<FeedEvent>>,
    /// The number of the last entry that was there before: all behind it will be among the news.
    pub end: i64,
}

impl Feeds {
    pub fn new(store: Arc<dyn Store>, wake: Wake, shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner {
            store,
            wake,
            shutdown,
            readers: Mutex::default(),
            tasks: TaskTracker::new(),
            whole_pages: Arc::new(Semaphore::new(WHOLE_PAGES)),
        }))
    }

    /// Follows the feed of a tenant.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn follow(&self, tenant: &Tenant) -> Result<Follower, StoreError> {
        let end = self.0.store.feed_end(tenant).await?;
        let (news, new) = self.join(tenant, end);
        if let Some(reader) = new {
            self.0.tasks.spawn(reader.run());
        }
        Ok(Follower { news, end })
    }

    /// A place among those who are told what is in the feed of a tenant behind `end`; and who is to read that for them, where
    /// nobody does yet.
    fn join(&self, tenant: &Tenant, end: i64) -> (broadcast::Receiver<Arc<FeedEvent>>, Option<Reader>) {
        let mut readers = self.readers();
        if let Some(reader) = readers.get(tenant) {
            return (reader.subscribe(), None);
        }
        let (followers, news) = broadcast::channel(LAG_MAX);
        readers.insert(tenant.clone(), followers.clone());
        (news, Some(Reader { feeds: self.clone(), tenant: tenant.clone(), last: end, followers }))
    }

    /// What stands in the feed of a tenant behind `after`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn page(&self, tenant: &Tenant, after: i64) -> Result<FeedPage, StoreError> {
        let place = Arc::clone(&self.0.whole_pages).try_acquire_owned().ok();
        let limit = if place.is_some() { PAGE } else { SMALL_PAGE };
        let events = self.read(tenant, after, limit).await?;
        let place = place.filter(|_| !events.is_empty());
        Ok(FeedPage { events: events.into(), _place: place })
    }

    async fn read(&self, tenant: &Tenant, after: i64, limit: usize) -> Result<Vec<Arc<FeedEvent>>, StoreError> {
        let page = self.0.store.feed(tenant, after, limit).await?;
        let ended = page.iter().filter(|fed| fed.entry.r#type.is_terminal()).map(|fed| fed.job);
        let ended = Arc::new(Ended { ids: ended.collect(), jobs: OnceCell::new() });
        Ok(page.into_iter().map(|fed| Arc::new(FeedEvent::new(fed, Arc::clone(&ended)))).collect())
    }

    /// The event as it is shown; `None` when its job was deleted meanwhile.
    ///
    /// # Errors
    /// When the store does not answer, or what it holds cannot be shown.
    pub async fn text(&self, tenant: &Tenant, event: &FeedEvent) -> Result<Option<Arc<str>>, ApiError> {
        let written = async || match self.ended(tenant, event).await {
            Some(ended) => EventView::last(ended, &event.entry).map(Some),
            None => EventView::read(&*self.0.store, tenant, event.job, &event.entry).await,
        };
        let shared = event.text.get_or_try_init(async || {
            Ok::<_, ApiError>(match written().await?.map(|view| view.to_line()).transpose()? {
                Some(text) if text.len() <= SHARED_MAX => Text::Shared(text.into()),
                Some(_) => Text::Large,
                None => Text::Gone,
            })
        });
        match shared.await? {
            Text::Shared(text) => Ok(Some(Arc::clone(text))),
            Text::Large => Ok(written().await?.map(|view| view.to_line()).transpose()?.map(Arc::from)),
            Text::Gone => Ok(None),
        }
    }

    /// The job of its last event, if it is small. What is large, or cannot be read, must be asked for by itself.
    async fn ended(&self, tenant: &Tenant, event: &FeedEvent) -> Option<JobWithContent> {
        if !event.entry.r#type.is_terminal() {
            return None;
        }
        let jobs = event.ended.jobs.get_or_init(async || {
            let found = self.0.store.small_jobs(tenant, &event.ended.ids, TOGETHER_MAX).await.unwrap_or_default();
            found.into_iter().map(|whole| (whole.job.id, whole)).collect()
        });
        jobs.await.get(&event.job).cloned()
    }

    /// Ends once shutdown was requested and nothing of this reads the store any more.
    pub async fn run(self, shutdown: Shutdown) {
        shutdown.requested().await;
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Whole after every operation, so a panic elsewhere cannot have left it broken.
    fn readers(&self) -> MutexGuard<'_, HashMap<Tenant, broadcast::Sender<Arc<FeedEvent>>>> {
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FeedEvent {
    fn new(fed: Fed, ended: Arc<Ended>) -> Self {
        let Fed { feed, job, kind, tags, entry } = fed;
        Self { feed, kind, tags, entry, job, ended, text: OnceCell::new() }
    }

    /// The state that its job was in when it was written.
    pub fn state(&self) -> State {
        match self.entry.r#type {
            LogType::Accepted if self.entry.data.is_some() => State::Scheduled,
            LogType::Accepted => State::Queued,
            LogType::Started | LogType::Progress | LogType::Log | LogType::Output | LogType::Truncated => {
                State::Running
            }
            LogType::Retrying => State::Retrying,
            LogType::Succeeded => State::Succeeded,
            LogType::Failed => State::Failed,
            LogType::Canceled => State::Canceled,
            LogType::Expired => State::Expired,
        }
    }
}

/// Reads one feed for all who follow it, until nobody does.
struct Reader {
    feeds: Feeds,
    tenant: Tenant,
    /// The number of the last entry that was handed on.
    last: i64,
    followers: broadcast::Sender<Arc<FeedEvent>>,
}

impl Drop for Reader {
    /// However it ends: who comes next starts another, and who follows this one is told that it has ended.
    fn drop(&mut self) {
        let mut readers = self.feeds.readers();
        if readers.get(&self.tenant).is_some_and(|reader| reader.same_channel(&self.followers)) {
            readers.remove(&self.tenant);
        }
    }
}

impl Reader {
    async fn run(mut self) {
        let Inner { wake, shutdown, .. } = &*Arc::clone(&self.feeds.0);
        let mut listener = wake.listen_to_feed(self.tenant.clone());
        let mut streak = Streak::new("a feed is not read");
        while !self.is_alone() {
            if streak.note(self.step().await) == Some(PAGE) {
                continue;
            }
            tokio::select! {
                () = listener.woken() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.requested() => return,
            }
        }
    }

    /// Hands on what is new. Tells how much that was.
    async fn step(&mut self) -> Result<usize, StoreError> {
        let page = self.feeds.read(&self.tenant, self.last, PAGE).await?;
        let read = page.len();
        for event in page {
            self.last = event.feed;
            // Nobody may follow any more: then there is nobody to tell.
            let _ = self.followers.send(event);
        }
        // Those who follow should have their turn before there is more than waits for them.
        tokio::task::yield_now().await;
        Ok(read)
    }

    /// Leaves, if nobody follows any more. Who comes at the same moment finds it or starts another.
    fn is_alone(&self) -> bool {
        let mut readers = self.feeds.readers();
        let alone = self.followers.receiver_count() == 0;
        if alone {
            readers.remove(&self.tenant);
        }
        alone
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::id::WorkerId;
    use buzzer_shared::kind::KindSpec;
    use buzzer_shared::message::RunResult;
    use buzzer_shared::time::Time;
    use bytes::Bytes;
    use tempfile::TempDir;

    use super::*;
    use crate::lifecycle::{Event, Job, accept};
    use crate::store::sqlite::SqliteStore;
    use crate::store::{Happening, Submission};

    const NOW: Time = Time::from_millis(1_795_000_000_000);

    fn feeds() -> (Feeds, TempDir) {
        let directory = TempDir::new().unwrap();
        let store = SqliteStore::open(&directory.path().join("buzzer.db")).unwrap();
        (Feeds::new(Arc::new(store), Wake::default(), Shutdown::default()), directory)
    }

    async fn submit(feeds: &Feeds, input: Bytes) -> JobId {
        let spec = KindSpec::any("echo".parse().unwrap());
        let accepted = accept(Job::new(JobId::new(NOW), Tenant::default(), &spec, NOW));
        let id = accepted.job.id;
        feeds.0.store.submit(Submission { accepted, input, key: None }).await.unwrap();
        id
    }

    #[tokio::test]
    async fn where_many_read_for_themselves_the_rest_reads_little() {
        let (feeds, _directory) = feeds();
        for _ in 0..=SMALL_PAGE {
            submit(&feeds, Bytes::from_static(b"1")).await;
        }
        let page = async || feeds.page(&Tenant::default(), 0).await.unwrap();
        let mut pages = Vec::new();
        for _ in 0..WHOLE_PAGES {
            pages.push(page().await);
            assert_eq!(pages.last().unwrap().events.len(), SMALL_PAGE + 1);
        }
        assert_eq!(page().await.events.len(), SMALL_PAGE);
        pages.pop();
        assert_eq!(page().await.events.len(), SMALL_PAGE + 1, "the place is given back");
    }

    #[tokio::test]
    async fn a_last_event_shows_its_job_whether_that_is_small_or_large() {
        let (feeds, _directory) = feeds();
        let quoted = |size| Bytes::from(format!("\"{}\"", "x".repeat(size)));
        let mut jobs = Vec::new();
        for size in [1, TOGETHER_MAX, SHARED_MAX] {
            jobs.push((submit(&feeds, quoted(size)).await, quoted(size)));
        }
        let kind = "echo".parse().unwrap();
        feeds.0.store.claim(&kind, jobs.len(), NOW + LOOK_EVERY, NOW).await.unwrap();
        let ended = |(job, input): &(JobId, Bytes)| {
            let (worker, result) = (WorkerId::new(NOW), RunResult::Succeeded(input.clone()));
            let (started_at, late) = (Some(NOW), Vec::new());
            Happening {
                job: *job,
                event: Event::Finished { dispatch: 1, worker, started_at, late, result, chance: 0.5 },
            }
        };
        feeds.0.store.apply(jobs.iter().map(ended).collect(), NOW).await.unwrap();
        let page = feeds.page(&Tenant::default(), 0).await.unwrap();
        let mut shown = Vec::new();
        for event in page.events.iter().filter(|event| event.state() == State::Succeeded) {
            let text = feeds.text(&Tenant::default(), event).await.unwrap().unwrap();
            let text: serde_json::Value = serde_json::from_str(&text).unwrap();
            shown.push((event.job, Bytes::from(text["data"]["output"].to_string())));
        }
        assert_eq!(shown, jobs);
    }
}
