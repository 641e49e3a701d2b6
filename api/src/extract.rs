//! How requests are read. What cannot be read is a problem, never plain text.

use aide::operation::OperationInput;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use buzzer_shared::id::Tenant;

use crate::problem::{ApiError, Violation};
use crate::state::AppState;

/// Who asks. Without keys, everybody is the one tenant.
#[derive(Debug)]
pub struct Caller {
    pub tenant: Tenant,
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        Ok(Self { tenant: Tenant::default() })
    }
}

impl OperationInput for Caller {}

/// The parameters of the path, as a struct with named fields.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|_| ApiError::NoSuchPath(parts.uri.path().into()))
    }
}

impl<T: schemars::JsonSchema> OperationInput for Path<T> {
    fn operation_input(ctx: &mut aide::generate::GenContext, operation: &mut aide::openapi::Operation) {
        axum::extract::Path::<T>::operation_input(ctx, operation);
    }
}

/// The query, as a struct that refuses unknown fields.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|error| ApiError::BadQuery(error.body_text()))
    }
}

impl<T: schemars::JsonSchema> OperationInput for Query<T> {
    fn operation_input(ctx: &mut aide::generate::GenContext, operation: &mut aide::openapi::Operation) {
        axum::extract::Query::<T>::operation_input(ctx, operation);
    }
}

/// A JSON body as it came, within the limit. Not read yet.
#[derive(Debug)]
pub struct JsonBody(pub Bytes);

impl FromRequest<AppState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        expect_json(request.headers())?;
        let limit = state.max_body;
        let declared =
            request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_some_and(|length: usize| length > limit) {
            return Err(ApiError::TooLarge { limit });
        }
        match Limited::new(request.into_body(), limit).collect().await {
            Ok(body) => Ok(Self(body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge { limit }),
            Err(error) => Err(ApiError::Interrupted(error.to_string())),
        }
    }
}

impl OperationInput for JsonBody {}

fn expect_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let found = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let media_type = found.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_json = media_type.eq_ignore_ascii_case("application/json")
        || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    if is_json { Ok(()) } else { Err(ApiError::WrongMediaType(found)) }
}

impl JsonBody {
    /// Reads the body. What is not JSON is one problem; JSON that does not fit is another, with the place that is wrong.
    pub fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        let mut deserializer = serde_json::Deserializer::from_slice(&self.0);
        let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let pointer = pointer(error.path());
            unreadable(&error.into_inner(), pointer)
        })?;
        deserializer.end().map_err(|error| unreadable(&error, String::new()))?;
        Ok(value)
    }
}

fn unreadable(error: &serde_json::Error, pointer: String) -> ApiError {
    match error.classify() {
        serde_json::error::Category::Data => {
            ApiError::InvalidRequest(vec![Violation { pointer, detail: without_position(&error.to_string()) }])
        }
        _ => ApiError::BrokenJson(error.to_string()),
    }
}

/// serde's texts end in ` at line 1 column 9`, which a pointer says better.
fn without_position(text: &str) -> String {
    text.rsplit_once(" at line ").map_or(text, |(said, _)| said).into()
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => String::new(),
        })
        .collect()
}
