//! The OpenAPI document, made from the routes as they are and the kinds as they were announced.

mod kind;
mod page;
mod plain;
mod webhook;

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use aide::generate::in_context;
use aide::openapi::{
    ApiKeyLocation, Info, License, OpenApi, Operation, Parameter, ParameterData, ParameterSchemaOrContent, ReferenceOr,
    SecurityScheme, Tag,
};
use aide::transform::{TransformOpenApi, TransformOperation};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde_json::Value;

use crate::auth;
use crate::problem::{self, may_be};
use crate::state::AppState;

pub(crate) use kind::{moved, word};
pub(crate) use webhook::calls_back;

/// Where a job is submitted and looked after, as the router has it and as the document shows it.
pub(crate) const JOB_PATH: &str = "/v1/jobs/{job}";

/// Finishes the router and gives it its document.
pub(crate) fn finish(router: ApiRouter<AppState>) -> Router<AppState> {
    let mut document = OpenApi {
        info: Info {
            title: "Buzzer".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            description: Some("Slow work made asynchronous over HTTP.".into()),
            license: Some(License { identifier: Some(env!("CARGO_PKG_LICENSE").into()), ..License::default() }),
            ..Info::default()
        },
        tags: TAGS.into_iter().map(tag).collect(),
        ..OpenApi::default()
    };
    let router = router.api_route("/openapi.json", get_with(openapi, doc)).merge(page::router());
    let router = router.finish_api_with(&mut document, with_the_rest);
    operations(&mut document).for_each(plain::spell_out);
    plain::list_words(&mut document);
    let parameters = operations(&mut document).flat_map(|operation| &mut operation.parameters);
    parameters.filter_map(ReferenceOr::as_item_mut).for_each(tidy);
    router.layer(Extension(Arc::new(document)))
}

/// What the endpoints are about, by their tags.
const TAGS: [(&str, &str); 5] = [
    ("jobs", "Hand in slow work, look after it, and learn what came of it."),
    ("kinds", "What work there is, as the workers announced it."),
    ("webhooks", "Be told of events by a POST."),
    ("tickets", "Let browsers look on."),
    ("operation", "For those who run Buzzer."),
];

fn tag((name, description): (&str, &str)) -> Tag {
    Tag { name: name.into(), description: Some(description.into()), ..Tag::default() }
}

/// What no endpoint tells of itself.
fn with_the_rest(mut api: TransformOpenApi<'_>) -> TransformOpenApi<'_> {
    let document = api.inner_mut();
    document.webhooks = webhook::all().collect();
    for operation in operations(document) {
        // The layers around every endpoint refuse, too.
        in_context(|ctx| may_be(ctx, operation, &[problem::HOST_NOT_ALLOWED, problem::INTERNAL]));
    }
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
    api.security_scheme(auth::KEY_SCHEME, key).security_scheme(auth::TICKET_SCHEME, ticket)
}

fn operations(document: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    let paths = document.paths.iter_mut().flat_map(|paths| paths.paths.values_mut());
    let operations = paths
        .filter_map(ReferenceOr::as_item_mut)
        .flat_map(|path| [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete]);
    operations.flatten()
}

/// The description stands at the parameter itself. A default of null is none: a query cannot say null, and validators
/// refuse the document for it.
fn tidy(parameter: &mut Parameter) {
    let parameter: &mut ParameterData = parameter.parameter_data_mut();
    if let ParameterSchemaOrContent::Schema(schema) = &mut parameter.format {
        schema.json_schema.remove("description");
        if schema.json_schema.get("default").is_some_and(Value::is_null) {
            schema.json_schema.remove("default");
        }
    }
}

fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.id("getOpenApi")
        .tag("operation")
        .summary("This document")
        .description(
            "All that is asked and answered over HTTP, with a path for each kind that is known now: OpenAPI 3.1.",
        )
        .response::<200, Json<Value>>()
}

/// The document with one path to submit each kind that is known now.
async fn openapi(State(state): State<AppState>, Extension(document): Extension<Arc<OpenApi>>) -> Response {
    let mut document = OpenApi::clone(&document);
    let job = document.paths.as_ref().and_then(|paths| paths.paths.get(JOB_PATH)).and_then(ReferenceOr::as_item);
    if let Some(submit) = job.and_then(|job| job.post.clone()) {
        for entry in state.catalog.kinds() {
            kind::add(&mut document, &submit, entry.spec(), state.max_body);
        }
    }
    Json(document).into_response()
}
