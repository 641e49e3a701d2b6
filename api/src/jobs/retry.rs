use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use buzzer_shared::id::JobId;
use buzzer_shared::kind::KindSpec;
use buzzer_shared::time::Time;
use http::{HeaderMap, StatusCode};

use super::{JobPath, NO_JOB, accept, answer, get, headers};
use crate::auth::Caller;
use crate::extract::Path;
use crate::lifecycle::{Ignored, Job};
use crate::problem::{self, ApiError, ProblemType, refuses};
use crate::state::AppState;
use crate::store::{Asked, Wish};
use crate::view::{Content, JobView};

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    use crate::header::{HeaderDoc, takes};
    const REFUSALS: &[ProblemType] = &[
        problem::NOTHING_TO_RETRY,
        problem::BAD_HEADER,
        problem::KEY_REUSED,
        problem::UNKNOWN_KIND,
        problem::INVALID_INPUT,
        problem::TOO_MANY_WAITING,
        problem::STORE_FULL,
    ];
    let op = takes(op, &[HeaderDoc::IDEMPOTENCY_KEY]);
    refuses(refuses(op, NO_JOB), REFUSALS)
        .id("retryJob")
        .tag("jobs")
        .summary("Run a job again")
        .description(
            "The next attempt of a job that is `retrying` starts now. A job that is done stays as it is, and a new job \
             with the same input, priority, tags, webhook, policy and timeout is made, whose `retry_of` names it; with an \
             `Idempotency-Key`, asking for that again answers with the same new job.",
        )
        .response_with::<200, Json<JobView>, _>(|r| answer::describe(r, "Its next attempt starts now."))
        .response_with::<202, Json<JobView>, _>(|r| answer::describe(r, "The new job, accepted."))
}

pub(super) async fn retry(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<JobPath>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let asked = state.journal.ask(&caller.tenant, id, Wish::Retry).await?;
    let job = match asked.ok_or_else(|| get::missing(&state, id))? {
        Asked::Changed(change) => change.job,
        Asked::Refused(done, Ignored::Done) => return anew(&state, &done, &request).await,
        Asked::Refused(job, _) => return Err(ApiError::NothingToRetry(job.phase.state())),
    };
    let input = get::content(&state, &caller.tenant, id).await?.input;
    answer::with(&state, StatusCode::OK, &job, &Content { input, output: None })
}

/// A job that is done never changes: what was asked of it is asked of a new one.
async fn anew(state: &AppState, done: &Job, request: &HeaderMap) -> Result<Response, ApiError> {
    let Some(entry) = state.catalog.kind(done.kind.as_str()) else {
        return Err(ApiError::UnknownKind(done.kind.to_string(), state.catalog.instead_of(done.kind.as_str())));
    };
    let key = headers::key(request)?.map(|name| name.over(&done.kind, format!("retry of {}", done.id).as_bytes()));
    let input = get::content(state, &done.tenant, done.id).await?.input;
    let errors = entry.violations(&input);
    if !errors.is_empty() {
        return Err(ApiError::InvalidInput { kind: done.kind.clone(), errors });
    }
    let draft = again(done, entry.spec(), state.clock.now());
    let job = match state.bounds.admit() {
        Ok(()) => accept::accept(state, draft, input, key).await?,
        Err(full) => accept::earlier(state, &done.tenant, key).await?.ok_or(full)?,
    };
    let input = get::content(state, &done.tenant, job.id).await?.input;
    answer::with(state, StatusCode::ACCEPTED, &job, &Content { input, output: None })
}

/// The same job, from its beginning. Its kind may have become stricter since.
fn again(done: &Job, spec: &KindSpec, now: Time) -> Job {
    let expires = done.expires_at.map(|at| at.since(done.created_at));
    Job {
        priority: done.priority,
        tags: done.tags.clone(),
        retry_of: Some(done.id),
        retry: spec.retry_policy(Some(done.retry)),
        timeout: done.timeout.min(spec.timeout.as_duration()),
        expires_at: expires.map(|expires| now + expires),
        webhook: done.webhook.clone(),
        ..Job::new(JobId::new(now), done.tenant.clone(), spec, now)
    }
}
