//! Buzzer's HTTP interface, as far as the commands use it.

mod config;
mod error;
mod events;

use std::collections::BTreeMap;
use std::time::Duration;

use buzzer_api::auth::Secret;
use buzzer_shared::id::JobId;
use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use buzzer_shared::time::Span;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use crate::job::Job;

pub use config::ServerConfig;
pub use error::{ClientError, refusal, root_cause};
pub use events::{Choice, Event, Events, Fed, Feed, FeedPlace};

use error::unreachable;
use events::EventPage;

/// A job to hand in.
#[derive(Debug, Serialize)]
pub struct Order {
    pub input: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<OrderWebhook>,
}

/// Who is told of the end of one job.
#[derive(Debug, Serialize)]
pub struct OrderWebhook {
    pub url: String,
}

/// Which jobs, and which part of them. The names are those of the query.
#[derive(Debug, Default, Serialize)]
pub struct Filter {
    pub state: Option<State>,
    pub kind: Option<Kind>,
    /// `name:value`.
    pub tag: Option<String>,
    pub limit: Option<u16>,
    pub cursor: Option<String>,
}

/// Some jobs, newest first.
#[derive(Debug, Deserialize)]
pub struct Jobs {
    pub items: Vec<Job>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// Some parked messages, oldest first.
#[derive(Debug, Deserialize)]
pub struct ParkedList {
    pub items: Vec<ParkedMessage>,
    /// How many there are.
    pub total: usize,
}

/// A message that nobody could use. What a newer server says beyond this is left alone.
#[derive(Debug, Deserialize)]
pub struct ParkedMessage {
    pub id: String,
    pub from: Option<String>,
    pub reason: Option<String>,
    pub r#type: String,
    pub message_id: Option<String>,
    pub size: usize,
    pub body: Option<String>,
}

/// What the server said, and the JSON it said it in.
#[derive(Debug)]
pub struct Said<T> {
    pub value: T,
    pub json: Vec<u8>,
}

/// How long a question for news is held.
const POLL: Duration = Duration::from_secs(20);
/// The longest a request takes, beside what it is asked to wait.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// The server looks through a queue for it, one message after the other.
const PARKING_DEADLINE: Duration = Duration::from_secs(60);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A stream in which nothing comes for so long is cut: the server says each 15 seconds that it is there.
const SILENCE: Duration = Duration::from_secs(45);
/// No answer of Buzzer's is larger; one that is would fill the memory here.
const ANSWER_MAX: usize = 256 * 1024 * 1024;

/// A server, and the way to it.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    /// For streams, which may take as long as their job.
    streams: reqwest::Client,
    server: Url,
    key: Option<Secret>,
}

impl Client {
    /// # Errors
    /// When the key's file holds none, or this machine cannot make HTTP requests at all, for instance for lack of
    /// certificates.
    pub fn new(config: ServerConfig) -> Result<Self, ClientError> {
        let builder = || {
            let builder = reqwest::Client::builder().user_agent(concat!("buzzer/", env!("CARGO_PKG_VERSION")));
            // A key must not follow to another host, and a POST must not become a GET.
            builder.connect_timeout(CONNECT_DEADLINE).redirect(reqwest::redirect::Policy::none())
        };
        let (server, key) = config.read()?;
        let made = |error| unreachable(&server, &error, false);
        let (http, streams) = (builder().build(), builder().read_timeout(SILENCE).build());
        let (http, streams) = (http.map_err(made)?, streams.map_err(made)?);
        Ok(Self { http, streams, server, key })
    }

    /// Hands in a job. Under the same `key`, the same order is answered with the same job.
    pub async fn submit(&self, kind: &Kind, order: &Order, key: Option<&str>) -> Result<Said<Job>, ClientError> {
        let mut request = self.request(Method::POST, &["jobs", kind.as_str()]).json(order);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request, DEADLINE).await
    }

    /// The job as it is.
    pub async fn job(&self, id: JobId) -> Result<Said<Job>, ClientError> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string()]), DEADLINE).await
    }

    /// The events of a job after event `seq`, as they come. `None`: that was the last.
    pub async fn events(&self, id: JobId, seq: u32) -> Result<Option<Events>, ClientError> {
        self.stream(self.request(Method::GET, &["jobs", &id.to_string(), "events"]).query(&[("after", seq)])).await
    }

    /// The events of all jobs that fit, after a place in the feed or from now on, as they come.
    pub async fn feed(&self, choice: &Choice, after: Option<&FeedPlace>) -> Result<Feed, ClientError> {
        let request = self.request(Method::GET, &["events"]).query(choice).query(&[("after", after)]);
        let stream = self.stream(request).await?;
        stream.map(Feed).ok_or_else(|| self.strange("the feed has an end".into()))
    }

    /// A stream of events; `None` where there will be no more.
    async fn stream(&self, request: RequestBuilder) -> Result<Option<Events>, ClientError> {
        let request = request.header("accept", "text/event-stream").build();
        let request = request.map_err(|error| self.unreachable(&error, false))?;
        let response = self.streams.execute(request).await.map_err(|error| self.unreachable(&error, false))?;
        let status = response.status();
        if !status.is_success() {
            let problem = read(response).await.map_err(|error| self.unreachable(&error, false))?;
            return Err(self.refusal(status, &problem));
        }
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        Ok(Some(Events::of(self.server.clone(), response)))
    }

    /// The events of a job after event `seq`, as soon as there are any, or none after a while. For who gets no stream.
    pub async fn news(&self, id: JobId, seq: u32) -> Result<Vec<Said<Event>>, ClientError> {
        let id = id.to_string();
        let wait = POLL.as_secs().to_string();
        let waiting = self.request(Method::GET, &["jobs", &id]).query(&[("wait", wait), ("after", seq.to_string())]);
        let _as_it_is: Said<Job> = self.send(waiting, DEADLINE + POLL).await?;
        let request = self.request(Method::GET, &["jobs", &id, "events"]).query(&[("after", seq)]);
        let page: Said<EventPage> = self.send(request.header("accept", "application/json"), DEADLINE).await?;
        let read = |json: Box<RawValue>| match serde_json::from_str(json.get()) {
            // One line, as in a stream: within JSON, a line break can only be white space.
            Ok(value) => Ok(Said { value, json: json.get().replace(['\n', '\r'], " ").into_bytes() }),
            Err(error) => Err(self.strange(error.to_string())),
        };
        page.value.items.into_iter().map(read).collect()
    }

    /// Asks a job to stop.
    pub async fn cancel(&self, id: JobId) -> Result<Said<Job>, ClientError> {
        self.send(self.request(Method::POST, &["jobs", &id.to_string(), "cancel"]), DEADLINE).await
    }

    /// Has a job run again; under the same `key`, a job that is done only once.
    pub async fn retry(&self, id: JobId, key: Option<&str>) -> Result<Said<Job>, ClientError> {
        let mut request = self.request(Method::POST, &["jobs", &id.to_string(), "retry"]);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request, DEADLINE).await
    }

    /// A page of jobs.
    pub async fn jobs(&self, filter: &Filter) -> Result<Said<Jobs>, ClientError> {
        self.send(self.request(Method::GET, &["jobs"]).query(filter), DEADLINE).await
    }

    /// The oldest parked messages.
    pub async fn parked(&self, limit: u16) -> Result<Said<ParkedList>, ClientError> {
        let request = self.request(Method::GET, &["parked"]).query(&[("limit", limit)]);
        self.send(request, PARKING_DEADLINE).await
    }

    /// One parked message, with its whole body.
    pub async fn parked_message(&self, id: &str) -> Result<Said<ParkedMessage>, ClientError> {
        self.send(self.request(Method::GET, &["parked", id]), PARKING_DEADLINE).await
    }

    /// Sends a parked message back to where it came from.
    pub async fn replay(&self, id: &str) -> Result<Said<ParkedMessage>, ClientError> {
        self.send(self.request(Method::POST, &["parked", id, "replay"]), PARKING_DEADLINE).await
    }

    /// Drops a parked message for good.
    pub async fn drop_parked(&self, id: &str) -> Result<Said<ParkedMessage>, ClientError> {
        self.send(self.request(Method::DELETE, &["parked", id]), PARKING_DEADLINE).await
    }

    /// A request to a path under `/v1`.
    pub fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.key {
            Some(key) => request.bearer_auth(key.reveal()),
            None => request,
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.server.clone();
        // Only a URL without a host has no segments, and `server` takes none of those.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        url
    }

    /// What is answered within `deadline`.
    ///
    /// # Errors
    /// When nobody answers, or the answer is no success.
    pub async fn send<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        deadline: Duration,
    ) -> Result<Said<T>, ClientError> {
        let request = request.timeout(deadline).build().map_err(|error| self.unreachable(&error, false))?;
        // What makes a job takes a body or a key; all else may be asked again.
        let path = request.url().path();
        let hands_in = request.method() == Method::POST
            && path.contains("/v1/jobs/")
            && (request.body().is_some() || path.ends_with("/retry"));
        let response = self.http.execute(request).await.map_err(|error| self.unreachable(&error, hands_in))?;
        let status = response.status();
        let json = read(response).await.map_err(|error| self.unreachable(&error, hands_in))?;
        if json.len() > ANSWER_MAX {
            return Err(self.strange(format!("its answer has more than {ANSWER_MAX} bytes")));
        }
        if !status.is_success() {
            return Err(self.refusal(status, &json));
        }
        match serde_json::from_slice(&json) {
            Ok(value) => Ok(Said { value, json }),
            Err(error) => Err(self.strange(error.to_string())),
        }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> ClientError {
        refusal(&self.server, self.key.is_some(), status, body)
    }

    /// What answers is not Buzzer.
    pub fn strange(&self, reason: String) -> ClientError {
        ClientError::Strange { server: self.server.clone(), reason }
    }

    fn unreachable(&self, error: &reqwest::Error, hands_in: bool) -> ClientError {
        unreachable(&self.server, error, hands_in)
    }
}

/// The body, or so much of it that it is certainly too long.
async fn read(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() <= ANSWER_MAX
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(server: &str) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = Url::parse(server).unwrap();
        Client::new(ServerConfig::at(server)).unwrap()
    }

    #[test]
    fn a_server_may_live_under_a_path() {
        for (server, url) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/jobs/http.request"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1/jobs/http.request"),
            ("https://example.test/buzzer", "https://example.test/buzzer/v1/jobs/http.request"),
        ] {
            assert_eq!(client(server).url(&["jobs", "http.request"]).as_str(), url);
        }
    }

    #[test]
    fn an_order_carries_its_input_untouched_and_nothing_that_was_not_said() {
        let input = RawValue::from_string(r#"{ "n": 1.500 }"#.into()).unwrap();
        let order = Order { input, priority: None, delay: None, tags: BTreeMap::new(), webhook: None };
        assert_eq!(serde_json::to_string(&order).unwrap(), r#"{"input":{ "n": 1.500 }}"#);
        let tags = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let webhook = Some(OrderWebhook { url: "https://a".into() });
        let order = Order { priority: Some(9), delay: Some(Span::from_secs(90)), tags, webhook, ..order };
        let json =
            r#"{"input":{ "n": 1.500 },"priority":9,"delay":"1m 30s","tags":{"a":"b"},"webhook":{"url":"https://a"}}"#;
        assert_eq!(serde_json::to_string(&order).unwrap(), json);
    }

    #[test]
    fn a_key_is_sent_and_not_printed() {
        let key = Secret::random().unwrap();
        let client = client("http://a");
        let client = Client { key: Some(key.clone()), ..client };
        let request = client.request(Method::GET, &["jobs"]).build().unwrap();
        assert_eq!(request.headers()["authorization"], format!("Bearer {}", key.reveal()));
        assert!(!format!("{client:?} {request:?}").contains(key.reveal()));
    }

    #[test]
    fn who_is_not_let_in_is_told_where_the_key_goes() {
        let error = client("http://a").refusal(StatusCode::UNAUTHORIZED, br#"{"type":"t"}"#);
        assert!(error.to_string().contains("set BUZZER_KEY"), "{error}");
        assert!(!error.is_passing());
    }

    #[test]
    fn a_filter_says_only_what_was_asked() {
        let filter = Filter { state: Some(State::Failed), tag: Some("a:b c".into()), ..Filter::default() };
        let request = client("http://a").request(Method::GET, &["jobs"]).query(&filter).build().unwrap();
        assert_eq!(request.url().query(), Some("state=failed&tag=a%3Ab+c"));
    }

    #[test]
    fn only_what_may_pass_is_worth_another_try() {
        let client = client("http://a");
        let refused = |status: u16| client.refusal(StatusCode::from_u16(status).unwrap(), br#"{"type":"t"}"#);
        assert!(refused(503).is_passing());
        assert!(!refused(404).is_passing());
        let proxy = client.refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert!(matches!(proxy, ClientError::Strange { .. }) && proxy.is_passing());
        assert!(!client.refusal(StatusCode::NOT_FOUND, b"<html>").is_passing());
    }

    #[tokio::test]
    async fn where_nobody_listens_the_server_cannot_be_reached() {
        // Bound and not listening: nobody else gets the port meanwhile, and it refuses connections.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = format!("http://{}", socket.local_addr().unwrap());
        let error = client(&server).jobs(&Filter::default()).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { in_doubt: false, .. }), "{error:?}");
    }
}
