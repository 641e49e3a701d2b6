use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use buzzer_shared::id::{JobId, Tenant};
use http::StatusCode;

use super::{JobPath, NO_JOB, answer, get};
use crate::auth::Caller;
use crate::extract::Path;
use crate::lifecycle::{Done, Job, Phase};
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;
use crate::store::{Asked, Wish};
use crate::view::{Content, JobView};

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(refuses(op, NO_JOB), &[problem::TOO_LATE])
        .id("cancelJob")
        .tag("jobs")
        .summary("Stop a job")
        .description(
            "A job that is not with a worker is canceled at once. One that is out is asked to stop: it ends as \
             `canceled`, unless its work gets done first. The wish outlives every restart. Asking again is safe.",
        )
        .response_with::<200, Json<JobView>, _>(|r| answer::describe(r, "It is canceled."))
        .response_with::<202, Json<JobView>, _>(|r| answer::describe(r, "It was asked to stop."))
}

pub(super) async fn cancel(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<JobPath>,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let job = ask(&state, &caller.tenant, id).await?;
    let canceled = job.phase == Phase::Done(Done::Canceled);
    let input = get::content(&state, &caller.tenant, id).await?.input;
    let status = if canceled { StatusCode::OK } else { StatusCode::ACCEPTED };
    answer::with(&state, status, &job, &Content { input, output: None })
}

/// Asks a job to stop. It is canceled when this answers, or asked to.
///
/// # Errors
/// When there is no such job, or it is done and was not canceled, or the store does not answer.
pub(crate) async fn ask(state: &AppState, tenant: &Tenant, id: JobId) -> Result<Job, ApiError> {
    let job = match state.journal.ask(tenant, id, Wish::Cancel).await? {
        Some(Asked::Changed(change)) => change.job,
        Some(Asked::Refused(job, _)) => job,
        None => return Err(get::missing(state, id)),
    };
    match job.phase {
        Phase::Done(Done::Canceled) => Ok(job),
        Phase::Done(_) => Err(ApiError::TooLate(job.phase.state())),
        _ => Ok(job),
    }
}
