use std::time::Duration;

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use buzzer_shared::id::{JobId, Tenant};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{JobPath, NO_JOB, PLACE_MAX, WAIT_MAX};
use crate::auth::Viewer;
use crate::extract::{Path, Query};
use crate::lifecycle::{Job, Phase};
use crate::problem::{ApiError, refuses};
use crate::state::AppState;
use crate::store::JobWithContent;
use crate::view::{Content, JobView, Waiting};

/// A client that asks again after this is neither late nor a burden.
const ASK_AGAIN: &str = "1";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GetQuery {
    /// Hold the answer for at most so many seconds, 60 at most, until the job is done.
    #[serde(default)]
    wait: Option<u64>,
    /// With `wait`: until there is an event after this number, too.
    #[serde(default)]
    after: Option<u32>,
}

/// What a long poll waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    Done,
    /// Any event after this number.
    After(u32),
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    use crate::header::{HeaderDoc, gives, takes};
    const ANSWERED: &[HeaderDoc] =
        &[HeaderDoc::ETAG.always(), HeaderDoc::CACHE_CONTROL.always(), HeaderDoc::RETRY_AFTER];
    let op = refuses(takes(op, &[HeaderDoc::IF_NONE_MATCH]), NO_JOB);
    op.id("getJob")
        .tag("jobs")
        .summary("Look after a job")
        .description(
            "Answers at once, or with `?wait=N` once the job is done, or with `?wait=N&after=SEQ` once anything happened \
             after that event.",
        )
        .response_with::<200, Json<JobView>, _>(|r| gives(r.description("The job as it is now."), ANSWERED))
        .response_with::<304, (), _>(|r| {
            gives(r.description("Nothing happened since the `ETag` that was sent."), ANSWERED)
        })
}

pub(super) async fn get(
    viewer: Viewer,
    State(state): State<AppState>,
    Path(path): Path<JobPath>,
    Query(query): Query<GetQuery>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let caller = viewer.of_job(id)?;
    let wait_for = Duration::from_secs(query.wait.unwrap_or(0)).min(WAIT_MAX);
    let until = query.after.map_or(Until::Done, Until::After);
    let (job, content) = wait(&state, &caller.tenant, id, until, wait_for).await?;
    if is_known(&request, &job) {
        return Ok((StatusCode::NOT_MODIFIED, headers(&job)).into_response());
    }
    let view = view(&state, &job, &content).await?;
    Ok((headers(&job), Json(view)).into_response())
}

/// The job as it is now, as this endpoint shows it.
///
/// # Errors
/// When there is no such job, or the store does not answer.
pub(crate) async fn look(state: &AppState, tenant: &Tenant, id: JobId) -> Result<JobView, ApiError> {
    let (job, content) = read(state, tenant, id).await?;
    view(state, &job, &content).await
}

async fn view(state: &AppState, job: &Job, content: &Content) -> Result<JobView, ApiError> {
    let place = match job.phase {
        Phase::Ready => state.store.place(job, PLACE_MAX).await?,
        _ => None,
    };
    JobView::whole(job, content, Waiting::of(job, place, &state.lanes))
}

/// The job once it is as far as `until` says, or as it is after `wait_for`, or when the process stops.
pub(super) async fn wait(
    state: &AppState,
    tenant: &Tenant,
    id: JobId,
    until: Until,
    wait_for: Duration,
) -> Result<(Job, Content), ApiError> {
    if !wait_for.is_zero() {
        tokio::select! {
            there = is_as_far(state, tenant, id, until) => there?,
            () = tokio::time::sleep(wait_for) => {}
            () = state.shutdown.requested() => {}
        }
    }
    read(state, tenant, id).await
}

/// The job as it is now.
async fn read(state: &AppState, tenant: &Tenant, id: JobId) -> Result<(Job, Content), ApiError> {
    match state.store.job_with_content(tenant, id).await? {
        Some(JobWithContent { job, input, output }) => Ok((job, Content { input, output })),
        None => Err(missing(state, id)),
    }
}

/// Input and output as they are now.
pub(crate) async fn content(state: &AppState, tenant: &Tenant, id: JobId) -> Result<Content, ApiError> {
    Ok(read(state, tenant, id).await?.1)
}

/// Ends once the job is there. Its input and output, which may be large, are not read for that.
async fn is_as_far(state: &AppState, tenant: &Tenant, id: JobId, until: Until) -> Result<(), ApiError> {
    let mut listener = state.wake.listen(id);
    loop {
        let job = state.store.job(tenant, id).await?.ok_or_else(|| missing(state, id))?;
        if is_there(&job, until) {
            return Ok(());
        }
        listener.woken().await;
    }
}

fn is_there(job: &Job, until: Until) -> bool {
    let done = job.phase.state().is_done();
    match until {
        Until::Done => done,
        Until::After(seq) => done || job.seq > seq,
    }
}

/// A job that was accepted before anything that is still kept is gone; any other was never there.
pub(crate) fn missing(state: &AppState, id: JobId) -> ApiError {
    let keep = state.retention.longest();
    let oldest_kept = state.clock.now() - keep.as_duration();
    match id.accepted_at() {
        Some(at) if at < oldest_kept => ApiError::JobGone(id.to_string(), keep.to_string()),
        _ => ApiError::UnknownJob(id.to_string()),
    }
}

/// `ETag`, and `Retry-After` while the job is not done.
pub(super) fn headers(job: &Job) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::from_str(&etag(job)) {
        headers.insert(header::ETAG, etag);
    }
    // A cache may keep it, but must ask with the `ETag` before each use.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if !job.phase.state().is_done() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(ASK_AGAIN));
    }
    headers
}

fn etag(job: &Job) -> String {
    format!("W/{}", opaque_tag(job))
}

/// The number of the last event; whether the job is to stop, which is no event; and where its log is full, the number of the
/// last signal, for its progress goes on.
fn opaque_tag(job: &Job) -> String {
    let to_stop = if job.is_to_stop() { "-to-stop" } else { "" };
    let signal = if job.is_truncated() { format!("-{}", job.signal) } else { String::new() };
    format!("\"{}{signal}{to_stop}\"", job.seq)
}

/// Compares weakly, as `If-None-Match` does: with or without `W/` it is the same (RFC 9110, 13.1.2).
fn is_known(request: &HeaderMap, job: &Job) -> bool {
    let etag = opaque_tag(job);
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}
