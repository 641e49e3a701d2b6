//! The OpenAPI document, made from the routes as they are and the kinds as they were announced.

mod kind;
mod page;
mod plain;

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::openapi::{
    ApiKeyLocation, Info, OpenApi, Parameter, ParameterData, ParameterSchemaOrContent, ReferenceOr, SecurityScheme,
};
use aide::transform::TransformOpenApi;
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::Value;

use crate::auth;
use crate::problem::ApiError;
use crate::state::AppState;

use plain::plain;

/// Where a job is submitted and looked after, as the router has it and as the document shows it.
pub(crate) const JOB_PATH: &str = "/v1/jobs/{job}";

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
    let router = router.finish_api_with(&mut document, with_the_rest);
    parameters(&mut document).for_each(tidy);
    router.route("/openapi.json", get(openapi)).route("/docs", get(page::page)).layer(Extension(Arc::new(document)))
}

/// What no endpoint tells of itself. Every operation has a problem as an answer, also where its handler cannot fail: the
/// layers around it can.
fn with_the_rest(api: TransformOpenApi<'_>) -> TransformOpenApi<'_> {
    let key = SecurityScheme::Http {
        scheme: "bearer".into(),
        bearer_format: Some("bz_…".into()),
        description: Some(
            "An API key, made with `buzzer keys create`. It tells the tenant, and with the scope `operator` lets its owner \
             see what belongs to all tenants. Where the API runs with `BUZZER_AUTH=off`, nobody needs one."
                .into(),
        ),
        extensions: Default::default(),
    };
    let ticket = SecurityScheme::ApiKey {
        location: ApiKeyLocation::Query,
        name: auth::TICKET.into(),
        description: Some(
            "A ticket, made with `POST /v1/tickets`, for browsers: what they look at cannot be asked for with a header.".into(),
        ),
        extensions: Default::default(),
    };
    let api = api.default_response::<ApiError>();
    api.security_scheme(auth::KEY_SCHEME, key).security_scheme(auth::TICKET_SCHEME, ticket)
}

fn parameters(document: &mut OpenApi) -> impl Iterator<Item = &mut ParameterData> {
    let paths = document.paths.iter_mut().flat_map(|paths| paths.paths.values_mut());
    let operations = paths
        .filter_map(ReferenceOr::as_item_mut)
        .flat_map(|path| [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete]);
    let parameters = operations.flatten().flat_map(|operation| &mut operation.parameters);
    parameters.filter_map(ReferenceOr::as_item_mut).map(Parameter::parameter_data_mut)
}

/// The description stands at the parameter itself. A default of null is none: a query cannot say null, and validators
/// refuse the document for it.
fn tidy(parameter: &mut ParameterData) {
    if let ParameterSchemaOrContent::Schema(schema) = &mut parameter.format {
        schema.json_schema.remove("description");
        if schema.json_schema.get("default").is_some_and(Value::is_null) {
            schema.json_schema.remove("default");
        }
    }
}

/// The document with one path to submit each kind that is known now.
async fn openapi(
    State(state): State<AppState>,
    Extension(document): Extension<Arc<OpenApi>>,
) -> Result<Json<Value>, ApiError> {
    let mut document = OpenApi::clone(&document);
    let job = document.paths.as_ref().and_then(|paths| paths.paths.get(JOB_PATH)).and_then(ReferenceOr::as_item);
    if let Some(submit) = job.and_then(|job| job.post.clone()) {
        for entry in state.catalog.kinds() {
            kind::add(&mut document, &submit, entry.spec());
        }
    }
    let document = serde_json::to_value(document).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(Json(plain(document)))
}
