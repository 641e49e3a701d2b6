//! How requests are read. What cannot be read is a problem, never plain text.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use aide::generate::GenContext;
use aide::openapi::Operation;
use aide::operation::OperationInput;
use axum::body::HttpBody;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::auth::TICKET;
use crate::problem::{self, ApiError, ProblemType, Violation, may_be};
use crate::state::AppState;

/// A body must have arrived within this, or a client that sends it byte by byte would hold a connection for ever.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How a body is refused.
const BODY_REFUSALS: &[ProblemType] = &[
    problem::BROKEN_JSON,
    problem::INTERRUPTED,
    problem::BODY_TIMEOUT,
    problem::TOO_LARGE,
    problem::WRONG_MEDIA_TYPE,
    problem::WRONG_ENCODING,
    problem::INVALID_REQUEST,
];

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
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        axum::extract::Path::<T>::operation_input(ctx, operation);
        may_be(ctx, operation, &[problem::NO_SUCH_PATH]);
    }
}

/// The query, as a struct that refuses unknown fields. A parameter without a value, as forms send them, is none. A ticket is
/// looked at where it is asked who calls, and is no parameter of any endpoint.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let is_given =
            |pair: &&str| pair.split_once('=').is_none_or(|(name, value)| !value.is_empty() && name != TICKET);
        let given = parts.uri.query().unwrap_or_default().split('&').filter(is_given);
        let given = format!("/?{}", given.collect::<Vec<_>>().join("&"));
        let uri = given.parse().map_err(|error: http::uri::InvalidUri| ApiError::BadQuery(error.to_string()))?;
        let query = axum::extract::Query::<T>::try_from_uri(&uri);
        query.map(|query| Self(query.0)).map_err(|error| ApiError::BadQuery(error.body_text()))
    }
}

impl<T: schemars::JsonSchema> OperationInput for Query<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        axum::extract::Query::<T>::operation_input(ctx, operation);
        may_be(ctx, operation, &[problem::BAD_QUERY]);
    }
}

/// The tag that a query names.
///
/// # Errors
/// When it is not `name:value`.
pub fn tag(text: &str) -> Result<(String, String), ApiError> {
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(ApiError::BadQuery("`tag` is `name:value`.".into())),
    }
}

/// The `id` of the last event that a client had, which browsers send when they come back.
///
/// # Errors
/// When it cannot be one.
pub fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let last = headers.get("last-event-id").map(|value| value.to_str().map_err(|_| ApiError::BadCursor));
    Ok(last.transpose()?.map(str::trim).filter(|last| !last.is_empty()))
}

/// A JSON body as it came, within the limit. Not read yet.
#[derive(Debug)]
pub struct JsonBody(pub Bytes);

impl FromRequest<AppState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        expect_json(request.headers())?;
        expect_plain(request.headers())?;
        let limit = state.max_body;
        let declared =
            request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_some_and(|length: usize| length > limit) {
            return Err(ApiError::TooLarge { limit });
        }
        match tokio::time::timeout(BODY_TIMEOUT, Limited::new(request.into_body(), limit).collect()).await {
            Ok(Ok(body)) => Ok(Self(body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge { limit }),
            Ok(Err(error)) => Err(ApiError::Interrupted(error.to_string())),
            Err(_) => Err(ApiError::BodyTimeout(BODY_TIMEOUT.as_secs())),
        }
    }
}

impl OperationInput for JsonBody {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        may_be(ctx, operation, BODY_REFUSALS);
    }
}

/// The same, or no body at all: then it is an empty object.
#[derive(Debug)]
pub struct MaybeJsonBody(JsonBody);

impl MaybeJsonBody {
    /// Reads the body as [`JsonBody::read`] does.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        self.0.read()
    }
}

impl FromRequest<AppState> for MaybeJsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        if HttpBody::is_end_stream(request.body()) {
            return Ok(Self(JsonBody(Bytes::from_static(b"{}"))));
        }
        JsonBody::from_request(request, state).await.map(Self)
    }
}

impl OperationInput for MaybeJsonBody {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        may_be(ctx, operation, BODY_REFUSALS);
    }
}

fn expect_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let found = headers.get(header::CONTENT_TYPE);
    if found.is_some_and(|found| is_json(found.as_bytes())) {
        return Ok(());
    }
    Err(ApiError::WrongMediaType(found.map(|found| String::from_utf8_lossy(found.as_bytes()).into_owned())))
}

/// `application/json`, or what is built on it, like `application/problem+json`; parameters do not matter.
fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let Some((kind, form)) = media_type.split_at_checked(b"application/".len()) else { return false };
    let ends_so = form.len().checked_sub(b"+json".len()).is_some_and(|at| form[at..].eq_ignore_ascii_case(b"+json"));
    kind.eq_ignore_ascii_case(b"application/") && (form.eq_ignore_ascii_case(b"json") || ends_so)
}

fn expect_plain(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    match encodings.find(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        Some(encoding) => Err(ApiError::WrongEncoding(String::from_utf8_lossy(encoding.as_bytes()).into_owned())),
        None => Ok(()),
    }
}

impl JsonBody {
    /// A part of this text, by itself. Shares its memory.
    pub fn part(&self, text: &str) -> Self {
        Self(self.0.slice_ref(text.as_bytes()))
    }

    /// Reads the body, a JSON object. What is not JSON is one problem; JSON that does not fit is another, with the
    /// place that is wrong.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        let mut deserializer = serde_json::Deserializer::from_slice(&self.0);
        let mut track = serde_path_to_error::Track::new();
        let value = object(serde_path_to_error::Deserializer::new(&mut deserializer, &mut track))
            .map_err(|error| unreadable(&error, pointer(&track.path())))?;
        deserializer.end().map_err(|error| unreadable(&error, String::new()))?;
        Ok(value)
    }
}

/// A struct from a JSON object and nothing else: by itself, serde takes an array for one, too.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_what_is_built_on_it_is_taken() {
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json ;v=1",
            "application/problem+json",
            "application/vnd.a+JSON",
        ] {
            assert!(is_json(json.as_bytes()), "{json}");
        }
        for other in ["", "json", "text/json", "application/", "application/xml", "application/jsonp", "text/a+json"] {
            assert!(!is_json(other.as_bytes()), "{other}");
        }
    }
}
