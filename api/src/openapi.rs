//! The OpenAPI document, made from the routes as they are.

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::openapi::{Info, OpenApi, ReferenceOr};
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Json, Router};

use crate::state::AppState;

/// Where a job is submitted and looked after, as the router has it and as the document shows it.
const JOB_PATH: &str = "/v1/jobs/{job}";

/// Finishes the router and gives it its document.
pub(crate) fn finish(router: ApiRouter<AppState>) -> Router<AppState> {
    let mut document = OpenApi {
        info: Info {
            title: "Buzzer".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            description: Some("Slow work made asynchronous over HTTP.".into()),
            ..Info::default()
        },
        ..OpenApi::default()
    };
    router.finish_api(&mut document).route("/openapi.json", get(openapi)).layer(Extension(Arc::new(document)))
}

/// The document with one path to submit each kind that is known now.
async fn openapi(State(state): State<AppState>, Extension(document): Extension<Arc<OpenApi>>) -> Json<OpenApi> {
    let mut document = OpenApi::clone(&document);
    if let Some(paths) = &mut document.paths
        && let Some(ReferenceOr::Item(job)) = paths.paths.get_mut(JOB_PATH)
        && let Some(submit) = job.post.take()
    {
        for entry in state.catalog.kinds() {
            let mut submit = submit.clone();
            let spec = entry.spec();
            submit.operation_id = Some(format!("submit:{}", spec.name));
            submit.summary = Some(spec.title.clone());
            submit.description = Some(format!("{}\n\n{}", spec.description, submit.description.unwrap_or_default()));
            submit.parameters.clear();
            let path = aide::openapi::PathItem { post: Some(submit), ..Default::default() };
            paths.paths.insert(format!("/v1/jobs/{}", spec.name), ReferenceOr::Item(path));
        }
    }
    Json(document)
}
