use std::time::Duration;

use buzzer_shared::id::JobId;
use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::http::request::Builder;
use hyper::http::response::Parts;
use url::Url;

use crate::client::{ClientError, ServerConfig, refusal};
use crate::failure::Failure;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The longest the server waits.
const WAIT: &str = "60";
/// When the server is busy and does not say for how long.
const BUSY: Duration = Duration::from_secs(1);

/// The server under load, and what is asked of it.
#[derive(Debug)]
pub struct Target {
    server: Url,
    /// What stands before `/v1`.
    prefix: String,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl Target {
    /// # Errors
    /// When the server is one that a bench cannot speak to, or the file of the key holds none.
    pub fn new(config: ServerConfig) -> Result<Self, Failure> {
        let (server, key) = config.read()?;
        if server.scheme() != "http" {
            return Err(Failure::Usage(format!(
                "a bench speaks plain http, and {server} does not: name the API itself, not the proxy before it"
            )));
        }
        let unfit = |_| Failure::Usage(format!("{server} cannot stand in a request"));
        let port = server.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", server.host_str().unwrap_or_default()).try_into().map_err(unfit)?;
        let bearer = |key: &buzzer_api::auth::Secret| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.reveal())).map_err(unfit)?;
            value.set_sensitive(true);
            Ok::<_, Failure>(value)
        };
        let authorization = key.as_ref().map(bearer).transpose()?;
        let prefix = server.path().trim_end_matches('/').to_owned();
        Ok(Self { server, prefix, host, authorization })
    }

    /// Host and port, to connect to.
    pub fn address(&self) -> (&str, u16) {
        let host = self.server.host_str().unwrap_or_default();
        (host.trim_start_matches('[').trim_end_matches(']'), self.server.port_or_known_default().unwrap_or(80))
    }

    /// Hands in a job; with `waits`, the answer is held until it is done.
    pub fn submission(&self, kind: &Kind, body: Bytes, waits: bool) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = self.request("POST", &format!("jobs/{kind}")).header(CONTENT_TYPE, "application/json");
        if waits {
            request = request.header(PREFER, format!("wait={WAIT}"));
        }
        self.built(request, body)
    }

    /// Asks for a job once it is done.
    pub fn poll(&self, id: JobId) -> Result<Request<Full<Bytes>>, ClientError> {
        self.built(self.request("GET", &format!("jobs/{id}?wait={WAIT}")), Bytes::new())
    }

    /// Asks for the jobs of a kind that come to this state, from now on or after the event of this id.
    pub fn feed(&self, kind: &Kind, state: State, after: Option<&str>) -> Result<Request<Full<Bytes>>, ClientError> {
        let request =
            self.request("GET", &format!("events?kind={kind}&state={state}")).header(ACCEPT, "text/event-stream");
        let request = match after {
            Some(id) => request.header(LAST_EVENT_ID, id),
            None => request,
        };
        self.built(request, Bytes::new())
    }

    /// The server cannot be reached.
    pub fn unreachable(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Unreachable { server: self.server.clone(), reason: reason.into(), in_doubt: false }
    }

    /// The server said something that Buzzer would not.
    pub fn strange(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Strange { server: self.server.clone(), reason: reason.into() }
    }

    /// The server said no.
    pub fn refusal(&self, head: &Parts, body: &[u8]) -> ClientError {
        refusal(&self.server, self.authorization.is_some(), head.status, body)
    }

    fn request(&self, method: &str, path: &str) -> Builder {
        let request = Request::builder().method(method).uri(format!("{}/v1/{path}", self.prefix));
        let request =
            request.header(HOST, &self.host).header(USER_AGENT, concat!("buzzer/", env!("CARGO_PKG_VERSION")));
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }

    fn built(&self, request: Builder, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
        request.body(Full::new(body)).map_err(|error| self.unreachable(error.to_string()))
    }
}

/// For how long a server that is busy wants to be left alone; `None` when it is not.
pub fn busy_for(head: &Parts) -> Option<Duration> {
    if !matches!(head.status.as_u16(), 429 | 503) {
        return None;
    }
    let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Some(seconds.map_or(BUSY, Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use hyper::Response;

    use super::*;

    fn head(status: u16, retry_after: Option<&str>) -> Parts {
        let response = Response::builder().status(status);
        let response = match retry_after {
            Some(value) => response.header(RETRY_AFTER, value),
            None => response,
        };
        response.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_busy_server_says_when_to_come_back() {
        assert_eq!(busy_for(&head(503, Some("7"))), Some(Duration::from_secs(7)));
        assert_eq!(busy_for(&head(429, None)), Some(BUSY));
        assert_eq!(busy_for(&head(503, Some("soon"))), Some(BUSY));
        assert_eq!(busy_for(&head(500, Some("7"))), None);
        assert_eq!(busy_for(&head(202, Some("1"))), None);
    }
}
