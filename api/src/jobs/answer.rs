//! A job as an answer.

use aide::openapi::{Link, LinkOperation, ReferenceOr};
use aide::transform::TransformResponse;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::get;
use crate::header::{HeaderDoc, gives};
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

/// The same as the document has it: its headers, and what can be asked of the job next.
pub(super) fn describe<'t, T>(response: TransformResponse<'t, T>, description: &str) -> TransformResponse<'t, T> {
    const HEADERS: &[HeaderDoc] = &[
        HeaderDoc::LOCATION.always(),
        HeaderDoc::ETAG.always(),
        HeaderDoc::CACHE_CONTROL.always(),
        HeaderDoc::RETRY_AFTER,
    ];
    let mut response = gives(response.description(description), HEADERS);
    response.inner().links = NEXT.into_iter().map(|id| (id.into(), ReferenceOr::Item(link(id)))).collect();
    response
}

/// The operations that take the id of a job.
const NEXT: [&str; 6] = ["getJob", "getJobEvents", "getResult", "cancelJob", "retryJob", "deleteJob"];

fn link(operation: &str) -> Link {
    Link {
        description: None,
        operation: LinkOperation::OperationId(operation.into()),
        request_body: None,
        parameters: [("job".into(), "$response.body#/id".into())].into_iter().collect(),
        server: None,
        extensions: Default::default(),
    }
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
