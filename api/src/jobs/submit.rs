use std::time::Duration;

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use buzzer_shared::id::Tenant;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::get::{self, Until};
use super::order::SubmitJob;
use super::view::{Content, JobView, Waiting};
use super::{JobPath, headers};
use crate::catalog::Entry;
use crate::extract::{Caller, JsonBody, Path};
use crate::lifecycle::{self, Event, Job, Phase, Transition};
use crate::problem::{ApiError, KnownKinds};
use crate::state::AppState;
use crate::store::{Key, Outgoing, Submission, Submitted};

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
             again answers with the same job.",
        )
        .parameter_untyped("job", |parameter| parameter.description("The kind's name."))
        .input::<Json<SubmitJob<'static>>>()
        .response_with::<202, Json<JobView>, _>(|r| gives(r.description("Accepted: it is stored, and will be run."), ANSWERED))
        .response_with::<200, Json<JobView>, _>(|r| gives(r.description("Done within the time that `Prefer: wait` gave."), ANSWERED))
}

pub(super) async fn submit(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<JobPath>,
    request: HeaderMap,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let Some(entry) = state.catalog.kind(&path.job) else {
        return Err(ApiError::UnknownKind(path.job, KnownKinds(state.catalog.names())));
    };
    let key = headers::key(&request, &entry.spec().name, &body.0)?;
    let waited = headers::wait(&request).unwrap_or_default();
    let tenant = caller.tenant;
    let (job, at_hand) = match read(&state, &tenant, &entry, &body) {
        Ok((draft, input)) => {
            let id = draft.id;
            let kept = keep(&state, draft, input.clone(), key).await?;
            let is_new = kept.id == id;
            (kept, is_new.then_some(input))
        }
        Err(refused) => (earlier(&state, &tenant, key).await?.ok_or(refused)?, None),
    };
    let (job, content) = match at_hand {
        Some(input) => as_it_is(&state, job, input, waited).await,
        None => get::wait(&state, &tenant, job.id, Until::Done, waited).await?,
    };
    Answer { state: &state, waited }.with(&job, &content)
}

/// The job that a body asks for, and its input.
fn read(state: &AppState, tenant: &Tenant, entry: &Entry, body: &JsonBody) -> Result<(Job, Bytes), ApiError> {
    let order: SubmitJob<'_> = body.read()?;
    let input = body.0.slice_ref(order.input.get().as_bytes());
    let errors = entry.violations(&input);
    if !errors.is_empty() {
        return Err(ApiError::InvalidInput { kind: entry.spec().name.clone(), errors });
    }
    Ok((order.into_job(tenant.clone(), entry.spec(), state.clock.now())?, input))
}

/// The job that the key stands for. Asked for when the body is refused: what was accepted once is answered for with
/// its job, even if its kind has become stricter since.
async fn earlier(state: &AppState, tenant: &Tenant, key: Option<Key>) -> Result<Option<Job>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    match state.store.keyed(tenant, &key).await? {
        Some(Submitted::Repeated(earlier)) => Ok(Some(*earlier)),
        Some(Submitted::KeyReused) => Err(ApiError::KeyReused),
        Some(Submitted::New) | None => Ok(None),
    }
}

/// Stores the job and sends it out, or finds the earlier one under the same key.
async fn keep(state: &AppState, draft: Job, input: Bytes, key: Option<Key>) -> Result<Job, ApiError> {
    // In a task of its own: when the client hangs up, this handler is dropped where it stands. Between the commit and
    // the outbox that would leave a job claimed which nobody sends, until its lease ends.
    let kept = tokio::spawn(keep_and_send(state.clone(), draft, input, key));
    kept.await.map_err(|error| ApiError::Internal(error.to_string()))?
}

/// Already claimed, where the window has room, a job goes from memory straight to the broker.
async fn keep_and_send(state: AppState, draft: Job, input: Bytes, key: Option<Key>) -> Result<Job, ApiError> {
    let mut accepted = lifecycle::accept(draft);
    let place = match accepted.job.phase {
        Phase::Ready => state.lanes.reserve(&accepted.job.kind),
        _ => None,
    };
    if place.is_some() {
        accepted = claim(accepted, &state);
    }
    let job = accepted.job.clone();
    match state.store.submit(Submission { accepted, input: input.clone(), key }).await? {
        Submitted::New => {}
        Submitted::Repeated(earlier) => return Ok(*earlier),
        Submitted::KeyReused => return Err(ApiError::KeyReused),
    }
    match place {
        Some(place) => {
            place.taken();
            state.outbox.send(Outgoing { job: job.clone(), input }).await;
        }
        None if job.phase == Phase::Ready => state.lanes.waiting(&job.kind),
        None => {}
    }
    Ok(job)
}

fn claim(accepted: Transition, state: &AppState) -> Transition {
    let now = state.clock.now();
    match lifecycle::step(&accepted.job, &Event::Claimed { until: now + state.claim_lease }, now) {
        Ok(mut claimed) => {
            claimed.effects = [accepted.effects, claimed.effects].concat();
            claimed
        }
        Err(_) => accepted,
    }
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

/// How a submission is answered.
struct Answer<'a> {
    state: &'a AppState,
    waited: Duration,
}

impl Answer<'_> {
    /// `200` only for who waited and has the job done; otherwise `202`, and where to look.
    fn with(&self, job: &Job, content: &Content) -> Result<Response, ApiError> {
        let done = job.phase.state().is_done() && !self.waited.is_zero();
        let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
        let view = JobView::whole(job, content, Waiting::of(job, None, self.state))?;
        let mut response = (status, get::headers(job), Json(&view)).into_response();
        let fields = response.headers_mut();
        if let Ok(location) = HeaderValue::from_str(&view.links.this) {
            fields.insert(header::LOCATION, location);
        }
        if !self.waited.is_zero()
            && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", self.waited.as_secs()))
        {
            fields.insert(headers::PREFERENCE_APPLIED, applied);
        }
        Ok(response)
    }
}
