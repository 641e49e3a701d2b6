use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;

use super::{JobPath, NO_JOB, get};
use crate::auth::Caller;
use crate::extract::Path;
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;
use crate::store::{Deleted, JobWithContent};
use crate::view::{Content, JobView};

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(refuses(op, NO_JOB), &[problem::NOT_DONE])
        .id("deleteJob")
        .tag("jobs")
        .summary("Delete a job that is done")
        .description(
            "Deletes the job with its input, output, events and key, before its time. Answers with the job as it was.",
        )
        .response_with::<200, Json<JobView>, _>(|r| r.description("It is deleted."))
}

pub(super) async fn delete(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<JobPath>,
) -> Result<Json<JobView>, ApiError> {
    let id = path.id()?;
    match state.store.delete(&caller.tenant, id).await? {
        Deleted::Gone(whole) => {
            let JobWithContent { job, input, output } = whole;
            // Without the headers that would lead to it.
            Ok(Json(JobView::whole(&job, &Content { input, output }, None)?))
        }
        Deleted::NotDone(job) => Err(ApiError::NotDone(job.phase.state())),
        Deleted::Unknown => Err(get::missing(&state, id)),
    }
}
