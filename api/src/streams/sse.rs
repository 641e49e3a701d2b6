//! A stream as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{self, MediaType, Operation, SchemaObject};
use aide::transform::TransformResponse;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderName, HeaderValue};

use super::{Live, Said, Source};
use crate::header::{HeaderDoc, gives};
use crate::negotiate::EVENT_STREAM;

/// How soon a browser comes back whose stream was cut.
const COME_BACK: Duration = Duration::from_secs(1);

/// Tells proxies, nginx for one, to hand on what comes at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

impl<S: Source> Live<S> {
    /// The answer that shows it as server-sent events.
    pub fn answer(self) -> Response {
        let events = stream::unfold(self, async |mut live| {
            let said = live.next().await.ok()?;
            Some((Ok::<_, Infallible>(event(said)), live))
        });
        let mut response = Sse::new(events).into_response();
        response.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
        response
    }
}

fn event(said: Said) -> Event {
    let with_id = |event: Event, id: Option<String>| match id {
        Some(id) => event.id(id),
        None => event,
    };
    match said {
        Said::Greeting { id } => with_id(Event::default().retry(COME_BACK), id),
        Said::Event { id, r#type, data } => Event::default().id(id).event(r#type).data(data),
        Said::Life { id } => with_id(Event::default().comment(""), id),
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
pub fn or_streams<T>(response: TransformResponse<'_, T>) -> TransformResponse<'_, T> {
    let mut response = gives(response, &[HeaderDoc::BUFFERING]);
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
