//! A job as an answer.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::get;
use crate::lifecycle::Job;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::view::{Content, JobView, Waiting};

/// The whole job, where to find it, and when to ask again.
pub(super) fn with(state: &AppState, status: StatusCode, job: &Job, content: &Content) -> Result<Response, ApiError> {
    let view = view(state, job, content)?;
    let mut response = (status, get::headers(job), Json(&view)).into_response();
    response.headers_mut().extend(location(job));
    Ok(response)
}

/// The whole job, as far as that can be told without counting who goes before it.
pub(crate) fn view(state: &AppState, job: &Job, content: &Content) -> Result<JobView, ApiError> {
    JobView::whole(job, content, Waiting::of(job, None, &state.lanes))
}

/// Where to find the job.
pub(super) fn location(job: &Job) -> HeaderMap {
    let location = HeaderValue::from_str(&format!("/v1/jobs/{}", job.id));
    location.into_iter().map(|location| (header::LOCATION, location)).collect()
}
