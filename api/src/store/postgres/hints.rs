//! What replicas tell each other: which jobs have changed, so that those who wait elsewhere look again.
//!
//! `NOTIFY` takes a lock for the whole database until its commit: in the transactions of jobs it would make them wait for
//! each other. So it has its own transactions, one at a time, and what is committed meanwhile goes with the next. Such a
//! word may be lost, with a connection or with the replica that would have said it. The feeds have no gaps, and each word
//! says which of their numbers it is about: so once a second the numbers that nobody has spoken of are looked up.

mod coverage;
mod note;

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buzzer_shared::id::JobId;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Connection};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use coverage::Coverage;
use note::Note;

use super::address::Target;
use super::clock::DatabaseClock;
use super::error::in_words;
use super::open::read_clock;
use super::pools::SESSION;

/// How often it is looked whether a word was lost, and what time it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a look may take before the connection counts as lost.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Between two words: what is committed in that time goes together.
const PACE: Duration = Duration::from_millis(5);
/// How soon a lost connection is made again.
const AGAIN: Duration = Duration::from_millis(500);
/// So many jobs are named; when there are more, everybody looks again.
const JOBS_MAX: usize = 10_000;

/// The numbers that a transaction has given to a tenant's events: those after `after`, up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FeedRange {
    pub(super) tenant: i64,
    pub(super) after: i64,
    pub(super) last: i64,
}

/// What a transaction has done, as far as others may wait for it.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) jobs: Vec<JobId>,
    pub(super) feeds: Vec<FeedRange>,
}

/// What was heard since it was last asked for.
#[derive(Debug)]
pub(super) enum Heard {
    Of { jobs: Vec<JobId>, tenants: Vec<i64> },
    Anything,
}

/// Both directions. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Hints(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// There is something to tell.
    to_tell: Notify,
    /// There is something to hear.
    heard: Notify,
}

#[derive(Debug, Default)]
struct State {
    news: News,
    heard: HashSet<JobId>,
    /// The tenants whose feeds have grown.
    heard_of: HashSet<i64>,
    /// More than could be named.
    heard_too_much: bool,
    coverage: Coverage,
}

impl Hints {
    /// Takes note of a commit of this replica, for the others.
    pub(super) fn committed(&self, news: News) {
        if news.feeds.is_empty() && news.jobs.is_empty() {
            return;
        }
        let mut state = self.state();
        news.feeds.iter().for_each(|range| state.coverage.note(*range));
        state.news.feeds.extend(news.feeds);
        state.news.jobs.extend(news.jobs);
        if state.news.jobs.len() > JOBS_MAX {
            // Nothing can be told for long. The others find by the numbers what they were not told.
            state.news = News::default();
        }
        drop(state);
        self.0.to_tell.notify_one();
    }

    /// The next hint of what other replicas did.
    pub(super) async fn next(&self) -> Heard {
        loop {
            if let Some(heard) = self.take() {
                return heard;
            }
            self.0.heard.notified().await;
        }
    }

    fn take(&self) -> Option<Heard> {
        let mut state = self.state();
        let (jobs, tenants) = (std::mem::take(&mut state.heard), std::mem::take(&mut state.heard_of));
        if std::mem::take(&mut state.heard_too_much) {
            return Some(Heard::Anything);
        }
        let something = !jobs.is_empty() || !tenants.is_empty();
        something.then(|| Heard::Of { jobs: jobs.into_iter().collect(), tenants: tenants.into_iter().collect() })
    }

    fn hear(&self, note: Note) {
        let mut state = self.state();
        note.feeds.iter().for_each(|range| state.coverage.note(*range));
        state.heard_of.extend(note.feeds.iter().map(|range| range.tenant));
        state.heard.extend(note.jobs);
        if state.heard.len() > JOBS_MAX {
            state.heard.clear();
            state.heard_too_much = true;
        }
        drop(state);
        self.0.heard.notify_one();
    }

    fn hear_anything(&self) {
        self.state().heard_too_much = true;
        self.0.heard.notify_one();
    }

    /// Everything here is whole after every operation, so a panic elsewhere cannot have left it broken.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one who talks with the other replicas, on a connection of its own.
pub(super) struct Messenger {
    pub(super) target: Target,
    pub(super) tls: MakeRustlsConnect,
    pub(super) hints: Hints,
    pub(super) clock: Arc<DatabaseClock>,
    /// Which replica this is.
    pub(super) own: Uuid,
}

impl Messenger {
    /// For ever: a connection that is lost is made again.
    pub(super) async fn run(self) {
        let mut lost = false;
        loop {
            let Err(error) = self.talk(&mut lost).await else { continue };
            if !lost {
                tracing::warn!(
                    error = in_words(&error),
                    "the line to the other replicas is lost; what they do is noticed later until it is back"
                );
            }
            lost = true;
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn talk(&self, lost: &mut bool) -> Result<(), tokio_postgres::Error> {
        let (sender, mut notes) = mpsc::unbounded_channel();
        let Ok(connected) = timeout(LOOK_LIMIT, self.connect(sender)).await else { return Ok(()) };
        let Connected { client, channel, _reading } = connected?;
        if std::mem::take(lost) {
            tracing::info!("the line to the other replicas is back");
        }
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                note = notes.recv() => match note {
                    Some(payload) => self.listen(&payload),
                    // The connection has ended; whoever uses it is told why.
                    None => return client.batch_execute("SELECT 1").await,
                },
                () = self.hints.0.to_tell.notified() => {
                    tokio::time::sleep(PACE).await;
                    let Ok(told) = timeout(LOOK_LIMIT, self.tell(&client, &channel)).await else { return Ok(()) };
                    told?;
                }
                _ = look.tick() => {
                    let Ok(looked) = timeout(LOOK_LIMIT, self.look(&client)).await else { return Ok(()) };
                    looked?;
                }
            }
        }
    }

    /// A connection that hears what the others say.
    async fn connect(&self, notes: mpsc::UnboundedSender<String>) -> Result<Connected, tokio_postgres::Error> {
        let (client, connection) = self.target.config.connect(self.tls.clone()).await?;
        let reading = AbortOnDrop(tokio::spawn(forward(connection, notes)));
        client.batch_execute(SESSION).await?;
        // A word that is lost is found again: it need not be on disk.
        client.batch_execute("SET synchronous_commit = off").await?;
        let channel = channel(&client).await?;
        client.batch_execute(&format!("LISTEN {channel}")).await?;
        Ok(Connected { client, channel, _reading: reading })
    }

    fn listen(&self, payload: &str) {
        match Note::read(payload) {
            Some(note) if note.by == self.own => {}
            Some(note) => self.hints.hear(note),
            None => tracing::warn!("somebody else speaks on the replicas' channel"),
        }
    }

    async fn tell(&self, client: &Client, channel: &str) -> Result<(), tokio_postgres::Error> {
        let news = std::mem::take(&mut self.hints.state().news);
        let payloads: Vec<String> = Note::of(self.own, &news).iter().map(Note::write).collect();
        if payloads.is_empty() {
            return Ok(());
        }
        let tell = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload";
        client.query(tell, &[&channel, &payloads]).await?;
        Ok(())
    }

    /// Looks at the clock, and for events of which nobody has spoken.
    async fn look(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        self.clock.correct(read_clock(client).await?);
        let mut feeds = Vec::new();
        for row in client.query("SELECT id, feed FROM tenants", &[]).await? {
            feeds.push((row.try_get(0)?, row.try_get(1)?));
        }
        let unheard = self.hints.state().coverage.look(&feeds);
        for range in unheard {
            // Each may be about another job.
            if usize::try_from(range.last - range.after).map_or(true, |events| events > JOBS_MAX) {
                self.hints.hear_anything();
                continue;
            }
            let jobs = changed(client, range).await?;
            tracing::debug!(
                tenant = range.tenant,
                jobs = jobs.len(),
                "other replicas have done what they did not tell"
            );
            self.hints.hear(Note { by: self.own, feeds: vec![range], jobs });
        }
        Ok(())
    }
}

struct Connected {
    client: Client,
    channel: String,
    _reading: AbortOnDrop,
}

/// The jobs that these events are about.
async fn changed(client: &Client, range: FeedRange) -> Result<Vec<JobId>, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT DISTINCT j.id FROM (SELECT job FROM events WHERE tenant = $1 AND feed > $2 AND feed <= $3 \
             ORDER BY feed) AS e JOIN jobs AS j ON j.n = e.job",
            &[&range.tenant, &range.after, &range.last],
        )
        .await?;
    rows.iter().map(|row| Ok(JobId::from(row.try_get::<_, Uuid>(0)?))).collect()
}

/// Channels belong to the database, and two Buzzers may share one: each in a schema of its own.
async fn channel(client: &Client) -> Result<String, tokio_postgres::Error> {
    client.query_one("SELECT 'buzzer_' || 'jobs'::regclass::oid", &[]).await?.try_get(0)
}

/// Drives a connection, and passes on what comes without having been asked for.
async fn forward<S, T>(mut connection: Connection<S, T>, notes: mpsc::UnboundedSender<String>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message {
            // Nobody listens any more: then the connection ends, too.
            let _ = notes.send(notification.payload().to_owned());
        }
    }
}

/// A task that does not outlive whoever started it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
