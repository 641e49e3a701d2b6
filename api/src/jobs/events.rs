use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{JobPath, NO_JOB, get};
use crate::auth::Viewer;
use crate::extract::{Path, Query, last_event_id};
use crate::lifecycle::Job;
use crate::negotiate::{self, EVENT_STREAM, JSON};
use crate::problem::{self, ApiError, ProblemType, refuses};
use crate::state::AppState;
use crate::streams::{self, JobEvents, Live};
use crate::view::EventView;
use crate::websocket::{Goodbye, Upgrade, or_upgrades};

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 500;
/// Nothing is taken on a socket that shows events: what comes may be a pong.
const FRAME_MAX: usize = 4 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// The events after the one with this `seq`; from the first, when nothing is said. `Last-Event-ID` wins.
    #[serde(default)]
    after: Option<u32>,
    /// How many events a page of JSON has: 1 to 500, 50 when nothing is said.
    #[serde(default)]
    limit: Option<usize>,
}

/// A page of a job's events, oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EventPage {
    items: Vec<EventView>,
    /// The `after` of the next page; null when this one ends with the newest event.
    next: Option<u32>,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    use crate::header::{HeaderDoc, gives, takes};
    const REFUSALS: &[ProblemType] =
        &[problem::BAD_CURSOR, problem::BAD_QUERY, problem::NOT_ACCEPTABLE, problem::TOO_MANY_STREAMS];
    let op = or_upgrades(op, "The events follow as messages of a WebSocket.");
    let op = refuses(refuses(op, NO_JOB), REFUSALS);
    takes(op, &[HeaderDoc::LAST_EVENT_ID])
        .id("getJobEvents")
        .tag("jobs")
        .summary("What happened to a job, and what happens")
        .description(
            "As server-sent events, unless `Accept` prefers JSON: what happened so far, then each event as it comes, to \
             the last, whose `data` is the job as `GET` shows it. A client that was cut off goes on with `Last-Event-ID` \
             or `?after=`, here or on another replica, and misses nothing. As JSON: a page of what happened so far. As a \
             WebSocket, when asked to upgrade: each text message is an event, as `data` of a server-sent event has it; \
             after the last one it is closed with 1000, and with 1001 when this API stops.",
        )
        .response_with::<200, Json<EventPage>, _>(|r| {
            let r = r.description("The events: as they come, or a page of them.");
            streams::or_streams(gives(r, &[HeaderDoc::CACHE_CONTROL.always()]))
        })
        .response_with::<204, (), _>(|r| {
            r.description("The job is done, and its last event is known. A browser does not come back after this.")
        })
}

pub(super) async fn events(
    viewer: Viewer,
    upgrade: Option<Upgrade>,
    State(state): State<AppState>,
    Path(path): Path<JobPath>,
    Query(query): Query<EventsQuery>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let caller = viewer.of_job(id)?;
    let pass = state.gate.pass(caller);
    // A socket has one form.
    let form = if upgrade.is_some() { None } else { Some(negotiate::best(&request, &[EVENT_STREAM, JSON])?) };
    let after = match last_event_id(&request)? {
        Some(last) => last.parse().map_err(|_| ApiError::BadCursor)?,
        None => query.after.unwrap_or_default(),
    };
    let job = state.store.job(&caller.tenant, id).await?.ok_or_else(|| get::missing(&state, id))?;
    if after > job.seq {
        return Err(ApiError::BadCursor);
    }
    if form == Some(JSON) {
        return page(&state, &job, after, query.limit.unwrap_or(LIMIT)).await;
    }
    let over = job.phase.state().is_done() && after == job.seq;
    let live = || {
        let events = JobEvents::new(&state, caller.tenant.clone(), id, after, state.bounds.stream()?);
        Ok::<_, ApiError>(Live::new(events, pass, state.shutdown.clone()))
    };
    match upgrade {
        None if over => Ok(StatusCode::NO_CONTENT.into_response()),
        None => Ok(live()?.answer()),
        // A browser cannot tell an answer that is no socket from a broken line, and would come back for ever.
        Some(upgrade) if over => Ok(upgrade.answer(FRAME_MAX, |socket| socket.close(Some(Goodbye::OVER)))),
        Some(upgrade) => {
            let live = live()?;
            Ok(upgrade.answer(FRAME_MAX, |socket| live.show_on(socket)))
        }
    }
}

async fn page(state: &AppState, job: &Job, after: u32, limit: usize) -> Result<Response, ApiError> {
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::BadQuery(format!("`limit` is 1 to {LIMIT_MAX}.")));
    }
    // One more than asked for tells whether there is another page.
    let mut entries = state.store.events(&job.tenant, job.id, after, limit + 1).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let mut items = Vec::with_capacity(entries.len());
    for entry in &entries {
        items.extend(EventView::read(&*state.store, &job.tenant, job.id, entry).await?);
    }
    let next = items.last().filter(|_| more).map(|last| last.seq);
    let no_cache = [(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))];
    Ok((no_cache, Json(EventPage { items, next })).into_response())
}
