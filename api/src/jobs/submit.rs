use std::time::Duration;

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use buzzer_shared::id::Tenant;
use buzzer_shared::webhook;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::get::{self, Until};
use super::order::SubmitJob;
use super::{JobPath, accept, answer, headers};
use crate::auth::{Caller, Pass};
use crate::catalog::Entry;
use crate::extract::{JsonBody, Path};
use crate::lifecycle::Job;
use crate::negotiate::{self, EVENT_STREAM, JSON};
use crate::problem::{ApiError, KnownKinds};
use crate::state::AppState;
use crate::streams::{self, JobEvents, Live};
use crate::view::{Content, JobView};

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    use crate::header::{HeaderDoc, gives, takes};
    const ANSWERED: &[HeaderDoc] =
        &[HeaderDoc::LOCATION, HeaderDoc::ETAG, HeaderDoc::RETRY_AFTER, HeaderDoc::PREFERENCE_APPLIED];
    let op = takes(op, &[HeaderDoc::PREFER, HeaderDoc::IDEMPOTENCY_KEY]);
    op.id("submitJob")
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
        .response_with::<202, Json<JobView>, _>(|r| gives(r.description("Accepted: it is stored, and will be run."), ANSWERED))
        .response_with::<200, Json<JobView>, _>(|r| {
            let r = r.description("Done within the time that `Prefer: wait` gave; or the job's events.");
            streams::or_streams(gives(r, ANSWERED))
        })
}

pub(super) async fn submit(
    caller: Caller,
    pass: Pass,
    State(state): State<AppState>,
    Path(path): Path<JobPath>,
    request: HeaderMap,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let form = negotiate::best(&request, &[JSON, EVENT_STREAM])?;
    // Before anything is stored: who cannot be answered must not have a job either.
    let place = if form == EVENT_STREAM { Some(state.bounds.stream()?) } else { None };
    if path.job == webhook::KIND {
        return Err(ApiError::ReservedKind(webhook::KIND));
    }
    let Some(entry) = state.catalog.kind(&path.job) else {
        return Err(ApiError::UnknownKind(path.job, KnownKinds(state.catalog.names())));
    };
    let key = headers::key(&request, &entry.spec().name, &body.0)?;
    let waited = headers::wait(&request).unwrap_or_default();
    let tenant = caller.tenant;
    let (job, at_hand) = match read(&state, &tenant, &entry, &body) {
        Ok((draft, input)) => {
            let id = draft.id;
            let kept = accept::accept(&state, draft, input.clone(), key).await?;
            let is_new = kept.id == id;
            (kept, is_new.then_some(input))
        }
        Err(refused) => (accept::earlier(&state, &tenant, key).await?.ok_or(refused)?, None),
    };
    if let Some(place) = place {
        let location = answer::location(&job);
        let events = JobEvents::new(&state, tenant, job.id, 0, place);
        let mut response = Live::new(events, pass, state.shutdown.clone()).answer();
        response.headers_mut().extend(location);
        return Ok(response);
    }
    let (job, content) = match at_hand {
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

/// The job that a body asks for, and its input.
fn read(state: &AppState, tenant: &Tenant, entry: &Entry, body: &JsonBody) -> Result<(Job, Bytes), ApiError> {
    let order: SubmitJob<'_> = body.read()?;
    let input = body.0.slice_ref(order.input.get().as_bytes());
    let errors = entry.violations(&input);
    if !errors.is_empty() {
        return Err(ApiError::InvalidInput { kind: entry.spec().name.clone(), errors });
    }
    let draft = order.into_job(tenant.clone(), entry.spec(), &state.egress_allow, state.clock.now())?;
    state.bounds.admit()?;
    Ok((draft, input))
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
