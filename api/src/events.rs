//! The events of all jobs of a tenant, as they come.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use aide::transform::TransformOperation;
use axum::extract::State;
use axum::response::Response;
use buzzer_shared::job::State as JobState;
use buzzer_shared::kind::Kind;
use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::auth::Viewer;
use crate::extract::{Query, last_event_id, tag};
use crate::negotiate::{self, EVENT_STREAM};
use crate::problem::{self, ApiError, ProblemType, refuses};
use crate::state::AppState;
use crate::streams::{self, Choice, EventStream, FeedEvents, Live};

pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new().api_route("/v1/events", get_with(events, doc))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FeedQuery {
    /// Those of jobs of this kind.
    #[serde(default)]
    kind: Option<Kind>,
    /// Those of jobs with this tag, as `name:value`.
    #[serde(default)]
    tag: Option<String>,
    /// Those that left their job in this state.
    #[serde(default)]
    state: Option<JobState>,
    /// The `id` of the last event that is known; from now on, when nothing is said. `Last-Event-ID` wins.
    #[serde(default)]
    after: Option<String>,
}

fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    use crate::header::{HeaderDoc, gives, takes};
    const STREAMED: &[HeaderDoc] = &[HeaderDoc::CACHE_CONTROL.always(), HeaderDoc::BUFFERING.always()];
    const REFUSALS: &[ProblemType] = &[problem::BAD_CURSOR, problem::NOT_ACCEPTABLE, problem::TOO_MANY_STREAMS];
    refuses(takes(op, &[HeaderDoc::LAST_EVENT_ID]), REFUSALS)
        .id("getEvents")
        .tag("jobs")
        .summary("What happens to your jobs")
        .description(
            "The events of all your jobs as server-sent events, in the order in which they were stored, from now on or \
             after the one that `Last-Event-ID` or `?after=` names. A client that was cut off goes on there, here or on \
             another replica, and misses nothing, as long as its jobs are kept.",
        )
        .response_with::<200, EventStream, _>(|r| {
            gives(r.description("The events as they come."), STREAMED)
        })
}

async fn events(
    viewer: Viewer,
    State(state): State<AppState>,
    Query(query): Query<FeedQuery>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let caller = viewer.of_all()?;
    negotiate::best(&request, &[EVENT_STREAM])?;
    let after = last_event_id(&request)?.or(query.after.as_deref()).map(streams::read_cursor).transpose()?;
    let tag = query.tag.as_deref().map(tag).transpose()?;
    let choice = Choice { kind: query.kind, tag, state: query.state };
    let (pass, place) = (state.gate.pass(caller), state.bounds.stream()?);
    let events = FeedEvents::new(&state, caller.tenant.clone(), choice, after, place).await?;
    Ok(Live::new(events, pass, state.shutdown.clone()).answer())
}
