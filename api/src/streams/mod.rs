//! Events as they come, as server-sent events.
//!
//! A stream reads the store when its client has taken what came before, so nothing piles up here for a client that is
//! slow: its connection is cut when it takes nothing for a while (`serve.rs`), and it goes on from the last event that
//! it had. A stream ends with its job, and when this process stops; the store being away does not end it.

mod feed;
mod job;

use std::convert::Infallible;
use std::time::Duration;

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{self, MediaType, Operation, SchemaObject};
use aide::transform::TransformResponse;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use buzzer_shared::shutdown::Shutdown;
use futures_util::stream;
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::auth::Pass;
use crate::negotiate::EVENT_STREAM;
use crate::problem::ApiError;

pub use feed::{Choice, FeedEvents, read_cursor};
pub use job::JobEvents;

/// A stream that is quiet says so often that it is there: proxies cut what is silent, mostly after a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How soon the store is asked again.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How soon a browser comes back whose stream was cut.
const COME_BACK: Duration = Duration::from_secs(1);

/// How often it is asked whether a key is still good: a quiet stream sees to it with each sign of life.
const PASS: Duration = Duration::from_secs(10);

/// Tells proxies, nginx for one, to hand on what comes at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Where the events of a stream come from.
pub trait Source: Send + 'static {
    /// The next event. Nothing by `until` is [`Step::Quiet`], whatever came that nobody here wants: one who is told nothing
    /// must still be told that the stream lives.
    fn step(&mut self, until: Instant) -> impl Future<Output = Result<Step, ApiError>> + Send;

    /// What a quiet stream says; `None` when there is nothing left to wait for.
    fn sign_of_life(&mut self) -> impl Future<Output = Result<Option<Event>, ApiError>> + Send;
}

/// What came of waiting for the next event.
pub enum Step {
    Show(Event),
    Quiet,
    End,
}

/// The answer that shows what comes from `source` to who has this pass, as long as it is good and until `shutdown`.
pub fn answer(pass: Pass, shutdown: Shutdown, source: impl Source) -> Response {
    let now = Instant::now();
    let live = Live { source, pass, shutdown, good_until: now + PASS, quiet_until: now + KEEP_ALIVE };
    let events = stream::unfold(live, async |mut live| {
        let event = live.next().await?;
        Some((Ok::<_, Infallible>(event), live))
    });
    let mut response = Sse::new(events).into_response();
    response.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
    response
}

/// A source for somebody who is let in.
struct Live<S> {
    source: S,
    pass: Pass,
    shutdown: Shutdown,
    /// When the pass is looked at again.
    good_until: Instant,
    /// When the next sign of life is due.
    quiet_until: Instant,
}

impl<S: Source> Live<S> {
    /// The next event or sign of life; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            event = self.step() => event,
            () = shutdown.requested() => None,
        }
    }

    async fn step(&mut self) -> Option<Event> {
        let event = match self.source.step(self.quiet_until).await {
            Ok(Step::Show(event)) => Ok(Some(event)),
            Ok(Step::Quiet) => self.source.sign_of_life().await,
            Ok(Step::End) => Ok(None),
            Err(error) => Err(error),
        };
        let event = match event {
            Ok(event) => event?,
            Err(error) => {
                tracing::debug!(%error, "a stream waits for the store");
                tokio::time::sleep(STORE_RETRY).await;
                sign_of_life()
            }
        };
        // Last, so that whose key was revoked meanwhile is not shown what came since.
        if self.good_until <= Instant::now() {
            if !self.pass.is_good().await {
                return None;
            }
            self.good_until = Instant::now() + PASS;
        }
        self.quiet_until = Instant::now() + KEEP_ALIVE;
        Some(event)
    }
}

/// Such an answer, for the document.
pub struct EventStream;

impl OperationOutput for EventStream {
    type Inner = Self;

    fn operation_response(_: &mut GenContext, _: &mut Operation) -> Option<openapi::Response> {
        let content = [(EVENT_STREAM.into(), media_type())].into_iter().collect();
        Some(openapi::Response { content, ..openapi::Response::default() })
    }

    fn inferred_responses(
        _: &mut GenContext,
        _: &mut Operation,
    ) -> Vec<(Option<openapi::StatusCode>, openapi::Response)> {
        Vec::new()
    }
}

/// Says that an answer may be a stream instead.
pub fn or_streams<T>(mut response: TransformResponse<'_, T>) -> TransformResponse<'_, T> {
    response.inner().content.insert(EVENT_STREAM.into(), media_type());
    response
}

/// OpenAPI 3.1 has no word for the events within a stream.
fn media_type() -> MediaType {
    let json_schema = schemars::json_schema!({
        "type": "string",
        "description": "Server-sent events: `event` is the `type` of an event, `data` the event as JSON \
                        (`#/components/schemas/EventView`), `id` what to go on from.",
    });
    let schema = Some(SchemaObject { json_schema, external_docs: None, example: None });
    MediaType { schema, ..MediaType::default() }
}

/// The beginning of every stream, which also brings the head of the answer on its way.
fn greeting() -> Event {
    Event::default().retry(COME_BACK)
}

fn sign_of_life() -> Event {
    Event::default().comment("")
}

#[cfg(test)]
mod tests {
    use super::*;

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

        async fn sign_of_life(&mut self) -> Result<Option<Event>, ApiError> {
            Ok(Some(sign_of_life()))
        }
    }

    fn live(source: Silent, quiet: Duration) -> Live<Silent> {
        let now = Instant::now();
        Live { source, pass: Pass::default(), shutdown: Shutdown::default(), good_until: now, quiet_until: now + quiet }
    }

    #[tokio::test]
    async fn a_quiet_stream_says_that_it_lives_and_so_does_one_whose_store_is_away() {
        assert!(live(Silent { is_away: false }, Duration::from_millis(1)).next().await.is_some());
        assert!(live(Silent { is_away: true }, KEEP_ALIVE).next().await.is_some());
    }

    #[tokio::test]
    async fn the_time_of_the_next_sign_is_counted_from_the_last() {
        let mut live = live(Silent { is_away: false }, Duration::from_millis(1));
        assert!(live.next().await.is_some());
        assert!(live.quiet_until > Instant::now() + KEEP_ALIVE / 2);
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_process_stops() {
        let mut live = live(Silent { is_away: false }, KEEP_ALIVE);
        live.shutdown.request();
        assert!(live.next().await.is_none());
    }
}
