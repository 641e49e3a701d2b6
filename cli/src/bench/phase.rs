use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use buzzer_shared::id::JobId;
use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::header::LOCATION;
use hyper::http::response::Parts;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::bar::Bar;
use super::connection::Connection;
use super::feed::Feed;
use super::ledger::{End, Ledger};
use super::plan::{Amount, Learn, Rate};
use super::schedule::{Pacer, Schedule};
use super::tally::Tally;
use super::target::{Target, busy_for};
use crate::client::ClientError;

/// The ends that are learned from the feed. Each takes a stream of its own; the others come to no job of a bench,
/// unless somebody cancels it.
const ENDS: [State; 2] = [State::Succeeded, State::Failed];
/// For all feeds to be open.
const OPEN_DEADLINE: Duration = Duration::from_secs(15);
/// How often it is looked whether anything moves.
const LOOK: Duration = Duration::from_millis(100);
/// A job that begins so long after its time is late: no connection was free for it.
const LATE: Duration = Duration::from_millis(10);

/// What every job of a bench is, and how it is handed in.
#[derive(Debug)]
pub struct Load {
    pub target: Target,
    pub kind: Kind,
    pub submission: Request<Full<bytes::Bytes>>,
    pub connections: usize,
    pub rate: Option<Rate>,
    pub learn: Learn,
    /// How long nothing may move.
    pub patience: Duration,
}

/// Some jobs, from the first submission to the last end. All of it is one task on one thread: what its parts share is
/// not locked, and a client that wakes nobody takes the least from what it measures.
struct Phase<'a> {
    load: &'a Load,
    tally: RefCell<Tally>,
    ledger: RefCell<Ledger>,
    /// A job is done.
    news: Notify,
}

/// When the next job goes.
#[derive(Debug)]
enum Pace {
    /// As soon as a connection is free, so many times.
    Times(Cell<u64>),
    /// As soon as a connection is free, until then.
    Until(Instant),
    /// At its time.
    Scheduled(Pacer),
}

/// What is wanted of a job.
#[derive(Debug, Deserialize)]
struct Seen {
    id: JobId,
    state: State,
    done: bool,
}

impl Load {
    /// Hands in so many jobs and learns their ends. What is under way still when nothing moves any more is left.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn run(&self, amount: Amount, title: &str) -> Result<Tally, ClientError> {
        let mut connections = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            connections.push(Connection::open(&self.target).await?);
        }
        let phase = Phase::new(self);
        let opened = ENDS.map(|_| Notify::new());
        let mut feeds: FuturesUnordered<_> = ENDS
            .into_iter()
            .zip(&opened)
            .filter(|_| self.learn == Learn::Feed)
            .map(|(state, opened)| {
                let (phase, succeeded) = (&phase, state == State::Succeeded);
                let tell = move |id| phase.learn(id, succeeded);
                Feed::new(&self.target, &self.kind, state).follow(opened, tell)
            })
            .collect();
        let count = feeds.len();
        let opening = async {
            for opened in &opened[..count] {
                opened.notified().await;
            }
        };
        tokio::select! {
            opened = timeout(OPEN_DEADLINE, opening) => {
                opened.map_err(|_| self.target.unreachable("its feed does not begin"))?;
            }
            Some(error) = feeds.next() => return Err(error),
        }
        let pace = Pace::start(self.rate, amount);
        tokio::select! {
            worked = phase.work(connections, &pace) => worked?,
            Some(error) = feeds.next() => return Err(error),
            () = phase.standstill() => {}
            () = Bar::show(title, amount, &phase.tally) => {}
        }
        drop(feeds);
        Ok(phase.tally.into_inner())
    }
}

impl<'a> Phase<'a> {
    fn new(load: &'a Load) -> Self {
        let tally = Tally::new(Instant::now()).into();
        Self { load, tally, ledger: RefCell::default(), news: Notify::new() }
    }

    /// Hands all in, and waits until nothing is under way.
    async fn work(&self, connections: Vec<Connection<'_>>, pace: &Pace) -> Result<(), ClientError> {
        let mut working: FuturesUnordered<_> = connections.into_iter().map(|own| self.keep_busy(own, pace)).collect();
        while let Some(ended) = working.next().await {
            ended?;
        }
        while self.tally.borrow().under_way > 0 {
            self.news.notified().await;
        }
        Ok(())
    }

    /// One job after the other, as the pace has it.
    async fn keep_busy(&self, mut connection: Connection<'_>, pace: &Pace) -> Result<(), ClientError> {
        while let Some(since) = pace.next().await {
            let now = Instant::now();
            self.tally.borrow_mut().begin(now, now.duration_since(since) > LATE);
            self.hand_in(&mut connection, since).await?;
        }
        Ok(())
    }

    /// Hands a job in that should have begun at `since`, and learns its end if that is done here.
    async fn hand_in(&self, connection: &mut Connection<'_>, since: Instant) -> Result<(), ClientError> {
        let (head, body) = self.answer(connection, &self.load.submission).await?;
        let now = Instant::now();
        match self.load.learn {
            Learn::None => {
                let mut tally = self.tally.borrow_mut();
                tally.answer(since, now);
                tally.let_go();
            }
            Learn::Feed => {
                let id = self.location(&head)?;
                self.tally.borrow_mut().answer(since, now);
                if let Some(end) = self.ledger.borrow_mut().accept(id, since) {
                    self.finish(since, end);
                }
            }
            Learn::Poll => {
                let id = self.location(&head)?;
                self.tally.borrow_mut().answer(since, now);
                self.poll(connection, id, since).await?;
            }
            // The answer is the end, or nearly: only the end is told.
            Learn::Wait => {
                let seen = self.seen(body)?;
                self.tally.borrow_mut().accept(now);
                match seen.end(now) {
                    Some(end) => self.finish(since, end),
                    None => self.poll(connection, seen.id, since).await?,
                }
            }
        }
        Ok(())
    }

    /// Asks for a job until it is done.
    async fn poll(&self, connection: &mut Connection<'_>, id: JobId, since: Instant) -> Result<(), ClientError> {
        let request = self.load.target.poll(id)?;
        loop {
            let (_, body) = self.answer(connection, &request).await?;
            if let Some(end) = self.seen(body)?.end(Instant::now()) {
                self.finish(since, end);
                return Ok(());
            }
        }
    }

    /// The feed told of a job, of ours or of somebody else's.
    fn learn(&self, id: JobId, succeeded: bool) {
        let end = End { at: Instant::now(), succeeded };
        if let Some(since) = self.ledger.borrow_mut().end(id, end) {
            self.finish(since, end);
        }
    }

    fn finish(&self, since: Instant, End { at, succeeded }: End) {
        self.tally.borrow_mut().finish(since, at, succeeded);
        self.news.notify_one();
    }

    /// The good answer to a request, asked again as long as the server is busy.
    async fn answer<'c>(
        &self,
        connection: &'c mut Connection<'_>,
        request: &Request<Full<bytes::Bytes>>,
    ) -> Result<(Parts, &'c [u8]), ClientError> {
        loop {
            let (head, body) = connection.send(request.clone()).await?;
            if let Some(pause) = busy_for(&head) {
                self.tally.borrow_mut().busy += 1;
                tokio::time::sleep(pause).await;
                continue;
            }
            if !head.status.is_success() {
                return Err(self.load.target.refusal(&head, body));
            }
            return Ok((head, connection.body()));
        }
    }

    /// The job that was accepted, as the head of the answer says.
    fn location(&self, head: &Parts) -> Result<JobId, ClientError> {
        let location = head.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let id = location.and_then(|location| location.rsplit('/').next()?.parse().ok());
        let missing = || self.load.target.strange("its answer does not say where the job is");
        id.filter(|_| head.status == StatusCode::ACCEPTED).ok_or_else(missing)
    }

    fn seen(&self, body: &[u8]) -> Result<Seen, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.load.target.strange(error.to_string()))
    }

    /// Ends when nothing has moved for too long.
    async fn standstill(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let still = self.tally.borrow().still_since();
            if still.is_some_and(|since| since.elapsed() > self.load.patience) {
                return;
            }
        }
    }
}

impl Pace {
    fn start(rate: Option<Rate>, amount: Amount) -> Self {
        let now = Instant::now();
        match (rate, amount) {
            (Some(rate), _) => Self::Scheduled(Pacer::start(Schedule::new(now, rate, amount.at(rate)))),
            (None, Amount::Jobs(jobs)) => Self::Times(Cell::new(jobs)),
            (None, Amount::Time(time)) => Self::Until(now + time),
        }
    }

    /// Waits until a job is to begin, and tells when it should have; `None` when there are no more.
    async fn next(&self) -> Option<Instant> {
        match self {
            Self::Times(left) => {
                left.set(left.get().checked_sub(1)?);
                Some(Instant::now())
            }
            Self::Until(end) => Some(Instant::now()).filter(|now| now < end),
            Self::Scheduled(pacer) => pacer.next().await,
        }
    }
}

impl Seen {
    fn end(&self, at: Instant) -> Option<End> {
        self.done.then_some(End { at, succeeded: self.state == State::Succeeded })
    }
}
