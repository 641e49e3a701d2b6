//! A job as an answer.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::get;
use super::view::{Content, JobView, Waiting};
use crate::lifecycle::Job;
use crate::problem::ApiError;
use crate::state::AppState;

/// The whole job, where to find it, and when to ask again.
pub(super) fn with(state: &AppState, status: StatusCode, job: &Job, content: &Content) -> Result<Response, ApiError> {
    let view = JobView::whole(job, content, Waiting::of(job, None, state))?;
    let mut response = (status, get::headers(job), Json(&view)).into_response();
    if let Ok(location) = HeaderValue::from_str(&view.links.this) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}
