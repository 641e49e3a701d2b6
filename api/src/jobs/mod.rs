//! Jobs over HTTP: a file for each endpoint, and for what they read and show.

mod cancel;
mod delete;
mod events;
mod get;
mod list;
mod result;
mod retry;
mod submit;

mod accept;
mod answer;
mod hand_in;
mod headers;
mod key;
mod order;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use buzzer_shared::id::JobId;

use crate::problem::{self, ApiError, ProblemType};
use crate::state::AppState;

// What is asked over a socket is done by the same hands.
pub(crate) use answer::view;
pub(crate) use cancel::ask as cancel;
pub(crate) use get::{content, look, missing};
pub(crate) use hand_in::{HandIn, HandedIn};
pub(crate) use key::KeyName;
pub(crate) use order::SubmitJob;

/// Beyond this place in the queue nobody counts: it would cost more than it tells.
const PLACE_MAX: u32 = 1000;
/// So long may an answer be held at most.
const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// How a path is refused that names no job.
const NO_JOB: &[ProblemType] = &[problem::BAD_ID, problem::UNKNOWN_JOB, problem::JOB_GONE];

/// `/v1/jobs/{job}` is one route with one name for its parameter: a kind when posted to, an id otherwise.
pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new()
        .api_route("/v1/jobs", get_with(list::list, list::doc))
        .api_route(
            crate::openapi::JOB_PATH,
            post_with(submit::submit, submit::doc)
                .get_with(get::get, get::doc)
                .delete_with(delete::delete, delete::doc),
        )
        .api_route("/v1/jobs/{job}/events", get_with(events::events, events::doc))
        .api_route("/v1/jobs/{job}/cancel", post_with(cancel::cancel, cancel::doc))
        .api_route("/v1/jobs/{job}/retry", post_with(retry::retry, retry::doc))
        .api_route("/v1/jobs/{job}/result", get_with(result::result, result::doc))
}

/// A job's id, or a kind's name, in the path.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct JobPath {
    /// The job's id.
    job: String,
}

impl JobPath {
    fn id(&self) -> Result<JobId, ApiError> {
        self.job.parse().map_err(|_| ApiError::BadId(self.job.clone()))
    }
}
