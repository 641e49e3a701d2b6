use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
pub(super) struct Readers {
    questions: Option<flume::Sender<Question>>,
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
        Ok(Self { threads: threads.collect::<Result<_, _>>()?, questions: Some(questions) })
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
            let questions = self.questions.as_ref().ok_or_else(stopped)?;
            questions.send_async(question).await.map_err(|_| stopped())?;
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
        self.questions = None;
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}
