use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::session::Session;
use super::writer::{panicked, stopped, too_slow};
use crate::store::{DEADLINE, StoreError};

/// How many questions may wait for a reader.
const WAITING: usize = 1024;

type Question = Box<dyn FnOnce(&Session) + Send>;

/// Threads that read, a connection each. They see the last commit, and neither wait for the writer nor hold it up.
pub(super) struct Readers(Place);

/// Where questions are answered.
enum Place {
    /// On threads of their own. `None` once they are to end.
    Apart(Option<Apart>),
    /// On the thread of whoever has one.
    Here(Box<Mutex<Session>>),
}

struct Apart {
    questions: flume::Sender<Question>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(connections: Vec<Connection>) -> std::io::Result<Self> {
        let (questions, waiting) = flume::bounded::<Question>(WAITING);
        let threads = connections.into_iter().map(|connection| {
            let waiting = waiting.clone();
            Builder::new().name("sqlite-reader".into()).spawn(move || {
                let session = Session::new(connection);
                for question in waiting {
                    question(&session);
                }
            })
        });
        let threads = threads.collect::<Result<_, _>>()?;
        Ok(Self(Place::Apart(Some(Apart { questions, threads }))))
    }

    /// Without threads.
    pub(super) fn here(connection: Connection) -> Self {
        Self(Place::Here(Box::new(Mutex::new(Session::new(connection)))))
    }

    /// Runs `look` on a connection that cannot write.
    pub(super) async fn read<T, F>(&self, look: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Session) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |session| {
            if reply.is_closed() {
                return;
            }
            let found = catch_unwind(AssertUnwindSafe(|| snapshot(session, look)));
            let _gone = reply.send(found.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))));
        });
        let done = async {
            match &self.0 {
                Place::Apart(None) => return Err(stopped()),
                Place::Apart(Some(apart)) => apart.questions.send_async(question).await.map_err(|_| stopped())?,
                Place::Here(session) => question(&session.lock().unwrap_or_else(PoisonError::into_inner)),
            }
            answer.await.map_err(|_| stopped())?
        };
        timeout(DEADLINE, done).await.unwrap_or_else(|_| Err(too_slow()))
    }
}

/// Two statements of one question must see the same state, or a job could lack the output that it has by then.
fn snapshot<T>(session: &Session, look: impl FnOnce(&Session) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let transaction = session.connection.unchecked_transaction()?;
    let found = look(session)?;
    transaction.commit()?;
    Ok(found)
}

impl Drop for Readers {
    fn drop(&mut self) {
        if let Place::Apart(apart) = &mut self.0
            && let Some(Apart { questions, threads }) = apart.take()
        {
            drop(questions);
            for thread in threads {
                let _ended = thread.join();
            }
        }
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}
