//! Events as they come: as server-sent events, or on a WebSocket.
//!
//! A stream reads the store when its client has taken what came before, so nothing piles up here for a client that is
//! slow: its connection is cut when it takes nothing for a while (`serve.rs`), and it goes on from the last event that
//! it had. A stream ends with its job, and when this process stops; the store being away does not end it.

mod feed;
mod job;
mod socket;
mod sse;

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::shutdown::Shutdown;
use tokio::time::Instant;

use crate::auth::Pass;
use crate::problem::ApiError;

pub use feed::{Choice, FeedEvents, read_cursor};
pub use job::JobEvents;
pub use sse::{EventStream, or_streams};

/// A stream that is quiet says so often that it is there: proxies cut what is silent, mostly after a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How soon the store is asked again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// How often it is asked whether a key is still good: a quiet stream sees to it with each sign of life.
const PASS: Duration = Duration::from_secs(10);

/// Where the events of a stream come from.
pub trait Source: Send + 'static {
    /// The next event. Nothing by `until` is [`Step::Quiet`], whatever came that nobody here wants: one who is told nothing
    /// must still be told that the stream lives.
    fn step(&mut self, until: Instant) -> impl Future<Output = Result<Step, ApiError>> + Send;

    /// What a quiet stream says; `None` when there is nothing left to wait for.
    fn sign_of_life(&mut self) -> impl Future<Output = Result<Option<Said>, ApiError>> + Send;
}

/// What came of waiting for the next event.
pub enum Step {
    Show(Said),
    Quiet,
    End,
}

/// What a stream says. An `id` is what a client goes on from that has heard this last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The beginning of every stream, which also brings the head of the answer on its way.
    Greeting { id: Option<String> },
    /// An event: its type, and all of it as one line of JSON.
    Event { id: String, r#type: &'static str, data: Arc<str> },
    /// That the stream lives.
    Life { id: Option<String> },
}

/// Why a stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// There will be nothing more.
    Over,
    /// This process stops.
    Stopping,
    /// The pass is good no longer.
    Unwelcome,
}

/// A source for somebody who is let in, until `shutdown`.
pub struct Live<S> {
    source: S,
    pass: Pass,
    shutdown: Shutdown,
    /// When the pass is looked at again.
    good_until: Instant,
    /// When the next sign of life is due.
    quiet_until: Instant,
}

impl<S: Source> Live<S> {
    /// Shows what comes from `source` to who has this pass, as long as it is good and until `shutdown`.
    pub fn new(source: S, pass: Pass, shutdown: Shutdown) -> Self {
        let now = Instant::now();
        Self { source, pass, shutdown, good_until: now + PASS, quiet_until: now + KEEP_ALIVE }
    }

    /// The next event or sign of life. Dropped half-way, it may lose one.
    async fn next(&mut self) -> Result<Said, Ending> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            said = self.step() => said,
            () = shutdown.requested() => Err(Ending::Stopping),
        }
    }

    async fn step(&mut self) -> Result<Said, Ending> {
        let said = match self.source.step(self.quiet_until).await {
            Ok(Step::Show(said)) => Ok(Some(said)),
            Ok(Step::Quiet) => self.source.sign_of_life().await,
            Ok(Step::End) => Ok(None),
            Err(error) => Err(error),
        };
        let said = match said {
            Ok(said) => said.ok_or(Ending::Over)?,
            Err(error) => {
                tracing::debug!(%error, "a stream waits for the store");
                tokio::time::sleep(STORE_RETRY).await;
                Said::Life { id: None }
            }
        };
        // Last, so that whose key was revoked meanwhile is not shown what came since.
        if self.good_until <= Instant::now() {
            if !self.pass.is_good().await {
                return Err(Ending::Unwelcome);
            }
            self.good_until = Instant::now() + PASS;
        }
        self.quiet_until = Instant::now() + KEEP_ALIVE;
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use buzzer_shared::id::Tenant;
    use buzzer_shared::time::{ManualClock, Time};

    use super::*;
    use crate::auth::{Gate, Secret};
    use crate::store::sqlite::SqliteStore;
    use crate::store::{ApiKey, Keyring, Scopes};

    const NOW: Time = Time::from_millis(1_795_000_000_000);

    /// Has nothing to show, or nothing to read it from.
    struct Silent {
        is_away: bool,
    }

    impl Source for Silent {
        async fn step(&mut self, until: Instant) -> Result<Step, ApiError> {
            if self.is_away {
                return Err(ApiError::Internal("the store is away".into()));
            }
            tokio::time::sleep_until(until).await;
            Ok(Step::Quiet)
        }

        async fn sign_of_life(&mut self) -> Result<Option<Said>, ApiError> {
            Ok(Some(Said::Life { id: None }))
        }
    }

    fn live(source: Silent, quiet: Duration) -> Live<Silent> {
        let now = Instant::now();
        Live { source, pass: Pass::default(), shutdown: Shutdown::default(), good_until: now, quiet_until: now + quiet }
    }

    #[tokio::test]
    async fn a_quiet_stream_says_that_it_lives_and_so_does_one_whose_store_is_away() {
        let life = Ok(Said::Life { id: None });
        assert_eq!(live(Silent { is_away: false }, Duration::from_millis(1)).next().await, life);
        assert_eq!(live(Silent { is_away: true }, KEEP_ALIVE).next().await, life);
    }

    #[tokio::test]
    async fn the_time_of_the_next_sign_is_counted_from_the_last() {
        let mut live = live(Silent { is_away: false }, Duration::from_millis(1));
        assert!(live.next().await.is_ok());
        assert!(live.quiet_until > Instant::now() + KEEP_ALIVE / 2);
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_pass_is_good_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&directory.path().join("buzzer.db")).unwrap());
        let clock = Arc::new(ManualClock::at(NOW));
        let secret = Secret::random().unwrap();
        let key = ApiKey {
            hash: secret.hash(),
            tenant: Tenant::default(),
            name: None,
            scopes: Scopes::default(),
            created_at: NOW,
            revoked_at: None,
        };
        store.keep_api_key(&key).await.unwrap();
        let request = http::Request::get("/").header("authorization", format!("Bearer {}", secret.reveal()));
        let (request, ()) = request.body(()).unwrap().into_parts();
        // Two gates: each remembers for some seconds whom it has let in.
        let gate = || {
            Gate::of(
                Arc::<SqliteStore>::clone(&store),
                Arc::<SqliteStore>::clone(&store),
                Arc::<ManualClock>::clone(&clock),
            )
        };
        let caller = gate().caller(&request).await.unwrap();
        let welcome = |pass| Live { pass, ..live(Silent { is_away: false }, Duration::from_millis(1)) };
        assert!(welcome(gate().pass(&caller)).next().await.is_ok());
        store.revoke_api_key(&key.id(), NOW).await.unwrap();
        assert_eq!(welcome(gate().pass(&caller)).next().await, Err(Ending::Unwelcome));
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_process_stops() {
        let mut live = live(Silent { is_away: false }, KEEP_ALIVE);
        live.shutdown.request();
        assert_eq!(live.next().await, Err(Ending::Stopping));
    }
}
