use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::open::Database;
use super::session::Session;
use crate::store::{DEADLINE, StoreError};

/// How many commands share a commit at most. Few enough that the first does not wait long for the last.
const BATCH: usize = 1024;

/// How many more may wait. Whoever comes then waits outside, with its deadline.
const WAITING: usize = 1024;

/// The one thread that writes.
///
/// It takes all commands that wait, runs them in one transaction, commits once, and only then answers. So a disk that
/// syncs a thousand times a second takes many thousand jobs, and nobody waits for a timer: alone, a command is
/// committed at once.
pub(super) struct Writer(Place);

/// Where commands are run.
enum Place {
    /// On a thread of its own. `None` once it is to end.
    Apart(Option<Apart>),
    /// On the thread of whoever has one, each by itself.
    Here(Box<Mutex<Committer>>),
}

struct Apart {
    commands: flume::Sender<Box<dyn Command>>,
    thread: JoinHandle<()>,
}

impl Writer {
    pub(super) fn start(database: Arc<Database>, connection: Connection) -> std::io::Result<Self> {
        let (commands, waiting) = flume::bounded(WAITING);
        let committer = Committer::new(database, connection);
        let thread = Builder::new().name("sqlite-writer".into()).spawn(move || committer.run(&waiting))?;
        Ok(Self(Place::Apart(Some(Apart { commands, thread }))))
    }

    /// Without a thread.
    pub(super) fn here(database: Arc<Database>, connection: Connection) -> Self {
        Self(Place::Here(Box::new(Mutex::new(Committer::new(database, connection)))))
    }

    /// Runs `work` in a transaction and answers when that is on disk. A failure leaves nothing of it.
    ///
    /// `work` may run twice, the first run being rolled back: so it must change nothing but the database.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Session) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Call { work, result: None, reply });
        let done = async {
            match &self.0 {
                Place::Apart(None) => return Err(stopped()),
                Place::Apart(Some(apart)) => apart.commands.send_async(call).await.map_err(|_| stopped())?,
                Place::Here(committer) => committer.lock().unwrap_or_else(PoisonError::into_inner).take(vec![call]),
            }
            answer.await.map_err(|_| stopped())?
        };
        timeout(DEADLINE, done).await.unwrap_or_else(|_| Err(too_slow()))
    }
}

impl Drop for Writer {
    /// Waits for what is under way: the file is closed, and its lock free, when the store is gone.
    fn drop(&mut self) {
        if let Place::Apart(apart) = &mut self.0
            && let Some(Apart { commands, thread }) = apart.take()
        {
            drop(commands);
            let _ended = thread.join();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

pub(super) fn stopped() -> StoreError {
    StoreError::Unavailable("it has been closed".into())
}

pub(super) fn too_slow() -> StoreError {
    StoreError::Unavailable(format!("it did not answer within {} s", DEADLINE.as_secs()))
}

/// What a panic says.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> StoreError {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no reason given");
    tracing::error!(panic = text, "a command of the store panicked; it was rolled back, the others go on");
    StoreError::Corrupt(format!("a command panicked: {text}"))
}

/// Something to do within a transaction, and somebody who waits for it.
trait Command: Send {
    /// Does it. `false` when it failed, and what it wrote must go.
    fn run(&mut self, session: &Session) -> bool;

    /// Tells how it went, once it is known whether it was committed.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Call<T, F> {
    work: F,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Command for Call<T, F>
where
    T: Send,
    F: FnMut(&Session) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, session: &Session) -> bool {
        if self.reply.is_closed() {
            return true; // Nobody waits any more, and nobody was promised anything.
        }
        let result = catch_unwind(AssertUnwindSafe(|| (self.work)(session)));
        let result = result.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        let done = result.is_ok();
        self.result = Some(result);
        done
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Err(error), _) => Err(error),
            (Ok(()), None) => return,
        };
        // Whoever has gone does not want to know.
        let _gone = self.reply.send(answer);
    }
}

/// How a batch failed.
enum Failure {
    /// One of the commands, by its own fault.
    Command,
    /// The transaction: nothing of it was kept.
    Transaction(StoreError),
}

impl<E: Into<StoreError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Transaction(error.into())
    }
}

struct Committer {
    session: Session,
    database: Arc<Database>,
    /// Whether the last commit failed: said once when it begins and once when it ends, not for each of thousands.
    failing: bool,
}

impl Committer {
    fn new(database: Arc<Database>, connection: Connection) -> Self {
        Self { session: Session::new(connection), database, failing: false }
    }

    fn run(mut self, waiting: &flume::Receiver<Box<dyn Command>>) {
        while let Ok(first) = waiting.recv() {
            let mut batch = vec![first];
            batch.extend(waiting.try_iter().take(BATCH - 1));
            self.take(batch);
        }
    }

    fn take(&mut self, mut batch: Vec<Box<dyn Command>>) {
        let committed = self.commit(&mut batch);
        self.report(committed.as_ref().err());
        for command in batch {
            command.answer(committed.clone());
        }
    }

    /// One transaction for all. Savepoints cost as much as the work itself, so they come into play only when a command
    /// has failed: then all is done again, each apart.
    fn commit(&mut self, batch: &mut [Box<dyn Command>]) -> Result<(), StoreError> {
        let failure = match self.together(batch) {
            Ok(()) => return Ok(()),
            Err(failure) => self.roll_back(failure),
        };
        match failure {
            Failure::Command if batch.len() == 1 => Ok(()),
            Failure::Command => self.apart(batch).map_err(|error| match self.roll_back(error.into()) {
                Failure::Transaction(error) => error,
                Failure::Command => stopped(),
            }),
            Failure::Transaction(error) => Err(error),
        }
    }

    fn together(&self, batch: &mut [Box<dyn Command>]) -> Result<(), Failure> {
        self.session.execute("BEGIN IMMEDIATE", [])?;
        for command in batch {
            if !command.run(&self.session) {
                return Err(Failure::Command);
            }
        }
        self.session.write_feeds()?;
        self.session.execute("COMMIT", [])?;
        Ok(())
    }

    fn apart(&self, batch: &mut [Box<dyn Command>]) -> Result<(), StoreError> {
        self.session.execute("BEGIN IMMEDIATE", [])?;
        for command in batch {
            self.session.execute("SAVEPOINT command", [])?;
            if command.run(&self.session) {
                self.session.write_feeds()?;
            } else {
                // Some errors, like a full disk, end the whole transaction: what came next would commit by itself.
                if self.session.connection.is_autocommit() {
                    return Err(StoreError::Unavailable("the transaction was rolled back".into()));
                }
                self.session.execute("ROLLBACK TO command", [])?;
                self.session.forget();
            }
            self.session.execute("RELEASE command", [])?;
        }
        self.session.execute("COMMIT", [])?;
        Ok(())
    }

    /// Ends a transaction that failed, and what is remembered of it.
    fn roll_back(&mut self, failure: Failure) -> Failure {
        self.session.forget();
        if !self.session.connection.is_autocommit() && self.session.execute("ROLLBACK", []).is_err() {
            // A connection that cannot even do that is of no use. Should there be no other, the next batch tries again.
            if let Ok(connection) = self.database.writer() {
                self.session = Session::new(connection);
            }
        }
        failure
    }

    fn report(&mut self, error: Option<&StoreError>) {
        match error {
            Some(error) if !self.failing => {
                tracing::error!(%error, "nothing can be stored; trying again with whatever comes next");
            }
            None if self.failing => tracing::info!("storing works again"),
            _ => {}
        }
        self.failing = error.is_some();
    }
}
