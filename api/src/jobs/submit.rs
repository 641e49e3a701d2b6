use std::time::Duration;

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::get::{self, Until};
use super::hand_in::{HandIn, HandedIn};
use super::order::SubmitJob;
use super::{JobPath, answer, headers};
use crate::auth::Caller;
use crate::extract::{JsonBody, Path};
use crate::lifecycle::Job;
use crate::negotiate::{self, EVENT_STREAM, JSON};
use crate::openapi::calls_back;
use crate::problem::{self, ApiError, ProblemType, refuses};
use crate::state::AppState;
use crate::streams::{self, JobEvents, Live};
use crate::view::{Content, JobView};

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    use crate::header::{HeaderDoc, gives, takes};
    const REFUSALS: &[ProblemType] = &[
        problem::BAD_HEADER,
        problem::NOT_ACCEPTABLE,
        problem::RESERVED_KIND,
        problem::UNKNOWN_KIND,
        problem::INVALID_INPUT,
        problem::KEY_REUSED,
        problem::TOO_MANY_WAITING,
        problem::STORE_FULL,
        problem::TOO_MANY_STREAMS,
        // Of a job that its key has found, and that is deleted while it is waited for.
        problem::UNKNOWN_JOB,
        problem::JOB_GONE,
    ];
    let op = refuses(takes(op, &[HeaderDoc::PREFER, HeaderDoc::IDEMPOTENCY_KEY]), REFUSALS);
    calls_back(op)
        .id("submitJob")
        .tag("jobs")
        .summary("Hand in a job")
        .description(
            "Answers `202` with the job once it is stored. With `Prefer: wait=N` the answer is held for at most N \
             seconds (60 at most), and is `200` if the job is done by then. With an `Idempotency-Key`, sending the same \
             again answers with the same job. With `Accept: text/event-stream` the answer is the job's events, from its \
             acceptance to its end.",
        )
        .parameter_untyped("job", |parameter| parameter.description("The kind's name."))
        .input::<Json<SubmitJob<'static>>>()
        .response_with::<202, Json<JobView>, _>(|r| {
            let r = answer::describe(r, "Accepted: it is stored, and will be run.");
            gives(r, &[HeaderDoc::PREFERENCE_APPLIED])
        })
        .response_with::<200, Json<JobView>, _>(|r| {
            let r = answer::describe(r, "Done within the time that `Prefer: wait` gave; or the job's events.");
            // A stream has no `ETag`: it is never the same.
            let r = gives(r, &[HeaderDoc::PREFERENCE_APPLIED, HeaderDoc::ETAG]);
            streams::or_streams(r)
        })
}

pub(super) async fn submit(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<JobPath>,
    request: HeaderMap,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let form = negotiate::best(&request, &[JSON, EVENT_STREAM])?;
    // Before anything is stored: who cannot be answered must not have a job either.
    let place = if form == EVENT_STREAM { Some(state.bounds.stream()?) } else { None };
    let key = headers::key(&request)?;
    let waited = headers::wait(&request).unwrap_or_default();
    let pass = state.gate.pass(&caller);
    let tenant = caller.tenant;
    let HandedIn { job, input } = HandIn { kind: &path.job, body: &body, key }.take(&state, &tenant).await?;
    if let Some(place) = place {
        let location = answer::location(&job);
        let events = JobEvents::new(&state, tenant, job.id, 0, place);
        let mut response = Live::new(events, pass, state.shutdown.clone()).answer();
        response.headers_mut().extend(location);
        return Ok(response);
    }
    let (job, content) = match input {
        Some(input) => as_it_is(&state, job, input, waited).await,
        None => get::wait(&state, &tenant, job.id, Until::Done, waited).await?,
    };
    // `200` only for who waited and has the job done.
    let done = job.phase.state().is_done() && !waited.is_zero();
    let mut response = answer::with(&state, if done { StatusCode::OK } else { StatusCode::ACCEPTED }, &job, &content)?;
    if !waited.is_zero()
        && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", waited.as_secs()))
    {
        response.headers_mut().insert(headers::PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// A new job once it is done or the wait is over. It is accepted whatever happens now: when it cannot be read back, it
/// is told as it was stored.
async fn as_it_is(state: &AppState, job: Job, input: Bytes, waited: Duration) -> (Job, Content) {
    if waited.is_zero() {
        return (job, Content { input, output: None });
    }
    get::wait(state, &job.tenant, job.id, Until::Done, waited).await.unwrap_or_else(|error| {
        tracing::warn!(job.id = %job.id, %error, "an accepted job could not be read back");
        (job, Content { input, output: None })
    })
}
