use aide::transform::TransformOperation;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;

use super::{JobPath, NO_JOB, get};
use crate::auth::Caller;
use crate::extract::Path;
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(refuses(op, NO_JOB), &[problem::NO_RESULT])
        .id("getResult")
        .tag("jobs")
        .summary("The bare output")
        .description("The output byte for byte, with its media type. `409` with the state while there is none.")
        .response::<200, axum::Json<serde_json::Value>>()
}

pub(super) async fn result(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<JobPath>,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let Some(found) = state.store.job_with_content(&caller.tenant, id).await? else {
        return Err(get::missing(&state, id));
    };
    match found.output {
        Some(output) => Ok(([(header::CONTENT_TYPE, "application/json")], output).into_response()),
        None => Err(ApiError::NoResult(found.job.phase.state())),
    }
}
