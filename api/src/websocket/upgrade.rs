use aide::OperationInput;
use aide::transform::TransformOperation;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Socket;
use crate::header::{HeaderDoc, gives};
use crate::problem::{self, ApiError, ProblemType, refuses};
use crate::serve::Hold;
use crate::state::AppState;

/// The only version there is (RFC 6455, section 4.1).
const VERSION: &str = "13";

/// A request to go on as a WebSocket, by somebody whose page may do that.
#[derive(Debug)]
pub struct Upgrade {
    accept: HeaderValue,
    line: OnUpgrade,
    hold: Hold,
}

impl Upgrade {
    /// The answer that agrees to that; `talk` has the socket then. A message of the client may have `largest` bytes.
    pub fn answer<F>(self, largest: usize, talk: impl FnOnce(Socket) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send,
    {
        let Self { accept, line, hold } = self;
        let talking = async move {
            match line.await {
                Ok(line) => talk(Socket::new(TokioIo::new(line), largest).await).await,
                Err(error) => tracing::debug!(%error, "a socket ended before it began"),
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = talking => {}
                () = hold.cut() => {}
            }
        });
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, accept),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    }

    /// What the request must have, but for the line itself.
    fn read(parts: &Parts) -> Result<HeaderValue, ApiError> {
        let headers = &parts.headers;
        if parts.method != Method::GET || !is_wanted(headers) || !has(headers, &header::CONNECTION, "upgrade") {
            return Err(ApiError::UpgradeRequired);
        }
        if !has(headers, &header::SEC_WEBSOCKET_VERSION, VERSION) {
            return Err(ApiError::WrongWebSocketVersion);
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
        let accept = key.and_then(|accept| accept.try_into().ok());
        accept.ok_or_else(|| ApiError::BadHeader("A WebSocket needs a `Sec-WebSocket-Key`.".into()))
    }
}

impl FromRequestParts<AppState> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let accept = Self::read(parts)?;
        allow_origin(&parts.headers, state)?;
        let line = parts.extensions.remove().ok_or(ApiError::UpgradeRequired)?;
        let hold = parts.extensions.remove().ok_or(ApiError::UpgradeRequired)?;
        Ok(Self { accept, line, hold })
    }
}

impl OptionalFromRequestParts<AppState> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Option<Self>, ApiError> {
        if !is_wanted(&parts.headers) {
            return Ok(None);
        }
        <Self as FromRequestParts<AppState>>::from_request_parts(parts, state).await.map(Some)
    }
}

/// A page of somebody else must not use what its reader's browser can reach: unlike all other requests, those for a WebSocket
/// are sent by browsers to any server, and their answers handed to the page. Who sends no `Origin` is no browser.
fn allow_origin(headers: &HeaderMap, state: &AppState) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let foreign = headers.get_all(header::ORIGIN).iter().find(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        !state.origins.allow(origin, host)
    });
    match foreign {
        Some(origin) => Err(ApiError::OriginNotAllowed(String::from_utf8_lossy(origin.as_bytes()).into_owned())),
        None => Ok(()),
    }
}

fn is_wanted(headers: &HeaderMap) -> bool {
    has(headers, &header::UPGRADE, "websocket")
}

/// Whether a header that is a list has this word in it.
fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|own| own.trim().eq_ignore_ascii_case(word))
}

impl OperationInput for Upgrade {}

/// Says that an endpoint becomes a WebSocket, when it is asked to, and how it refuses that.
pub fn or_upgrades<'t>(op: TransformOperation<'t>, description: &str) -> TransformOperation<'t> {
    const AGREED: &[HeaderDoc] = &[HeaderDoc::UPGRADE.always(), HeaderDoc::WEBSOCKET_ACCEPT.always()];
    const REFUSALS: &[ProblemType] = &[problem::UPGRADE_REQUIRED, problem::ORIGIN_NOT_ALLOWED, problem::BAD_HEADER];
    refuses(op, REFUSALS).response_with::<101, (), _>(|r| gives(r.description(description), AGREED))
}
