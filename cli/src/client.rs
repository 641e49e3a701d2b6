//! Buzzer's HTTP interface, as far as the commands use it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use buzzer_api::auth::{NotAKey, Secret};
use buzzer_shared::from_file::{FromFile, InvalidFile};
use buzzer_shared::id::JobId;
use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use buzzer_shared::problem::Problem;
use buzzer_shared::time::{Span, Time};
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sse_stream::{Sse, SseByteStream};
use url::Url;

use crate::failure::in_words;
use crate::job::Job;

/// Which server.
#[derive(Debug, Clone, Args)]
pub struct ServerConfig {
    /// Where Buzzer answers.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "BUZZER_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_parser = server,
        help_heading = "Server"
    )]
    server: Url,

    /// The API key to get in with. Other users of this machine see what stands here, but not `BUZZER_KEY`.
    #[arg(
        long,
        global = true,
        env = "BUZZER_KEY",
        hide_env_values = true,
        value_parser = key,
        help_heading = "Server"
    )]
    key: Option<Secret>,

    /// A file that holds the API key, so that it need not stand in the environment.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "BUZZER_KEY_FILE",
        conflicts_with = "key",
        help_heading = "Server"
    )]
    key_file: Option<String>,
}

impl ServerConfig {
    /// The server, and the key to get in with.
    ///
    /// # Errors
    /// When the key's file holds none.
    pub fn read(self) -> Result<(Url, Option<Secret>), ClientError> {
        let server = self.server.clone();
        Ok((server, self.key()?))
    }

    /// Reads the file only here: `buzzer keys create >key` is just about to write it.
    fn key(self) -> Result<Option<Secret>, InvalidFile> {
        let Some(file) = self.key_file else { return Ok(self.key) };
        let secret: FromFile<Secret> = file.parse()?;
        Ok(Some(Secret::clone(&secret)))
    }
}

fn key(text: &str) -> Result<Secret, String> {
    text.parse().map_err(|error: NotAKey| format!("{error}; the idempotency key of a job is --idempotency-key"))
}

fn server(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Err("leave user and password out: they would be printed with each error".into())
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("expected a URL like http://127.0.0.1:8080".into()),
    }
}

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

/// Which events of the feed. The names are those of the query.
#[derive(Debug, Default, Serialize)]
pub struct Choice {
    pub kind: Option<Kind>,
    /// `name:value`.
    pub tag: Option<String>,
    pub state: Option<State>,
}

/// A place in the feed: what the server said as `id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeedPlace(String);

impl FromStr for FeedPlace {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let number = text.strip_prefix('f').filter(|number| number.parse::<u64>().is_ok());
        number.map(|_| Self(text.into())).ok_or(NotAPlace)
    }
}

impl fmt::Display for FeedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a place in the feed is `f` and a number, like f0")]
pub struct NotAPlace;

/// Something that happened to a job.
#[derive(Debug, Deserialize)]
pub struct Event {
    pub seq: u32,
    pub job_id: JobId,
    pub at: Time,
    pub r#type: String,
    pub data: Option<Box<RawValue>>,
}

/// Some events of a job, oldest first.
#[derive(Debug, Deserialize)]
struct EventPage {
    items: Vec<Box<RawValue>>,
}

/// The events of a job as they come.
pub struct Events {
    server: Url,
    stream: SseByteStream<BoxStream<'static, reqwest::Result<Bytes>>>,
}

impl Events {
    /// The next event; `None` when the server has no more to say.
    pub async fn next(&mut self) -> Result<Option<Said<Event>>, ClientError> {
        while let Some(block) = self.block().await? {
            // What has no data is no event, but a sign of life.
            if let Some(json) = block.data {
                return self.read(json).map(Some);
            }
        }
        Ok(None)
    }

    async fn block(&mut self) -> Result<Option<Sse>, ClientError> {
        self.stream.next().await.transpose().map_err(|error| self.cut(&error))
    }

    fn read(&self, json: String) -> Result<Said<Event>, ClientError> {
        match serde_json::from_str(&json) {
            Ok(value) => Ok(Said { value, json: json.into_bytes() }),
            Err(error) => Err(ClientError::Strange { server: self.server.clone(), reason: error.to_string() }),
        }
    }

    fn cut(&self, error: &sse_stream::Error) -> ClientError {
        ClientError::Unreachable { server: self.server.clone(), reason: root_cause(error), in_doubt: false }
    }
}

/// The events of all jobs of a tenant as they come, each with its place. They have no end of their own.
pub struct Feed(Events);

/// What comes in a feed.
#[derive(Debug)]
pub struct Fed {
    pub place: FeedPlace,
    /// `None`: the server says only where it is.
    pub event: Option<Said<Event>>,
}

impl Feed {
    /// What comes next; `None` when the server stops.
    pub async fn next(&mut self) -> Result<Option<Fed>, ClientError> {
        while let Some(block) = self.0.block().await? {
            if let Some(place) = block.id {
                let event = block.data.map(|json| self.0.read(json)).transpose()?;
                return Ok(Some(Fed { place: FeedPlace(place), event }));
            }
        }
        Ok(None)
    }
}

/// What the server said, and the JSON it said it in.
#[derive(Debug)]
pub struct Said<T> {
    pub value: T,
    pub json: Vec<u8>,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot reach {server}: {reason}{}", doubt(*.in_doubt))]
    Unreachable {
        server: Url,
        reason: String,
        /// Whether a job that was handed in may have been accepted all the same.
        in_doubt: bool,
    },
    /// The file that is to hold the API key does not.
    #[error("invalid BUZZER_KEY_FILE (--key-file): {0}")]
    KeyFile(#[from] InvalidFile),
    #[error("{}", in_words(.0))]
    Refused(Box<Problem>),
    #[error("{server} {}; `buzzer keys create` makes one", want(*.had_key))]
    NotLetIn {
        server: Url,
        /// Whether a key was sent: then it is the wrong one.
        had_key: bool,
    },
    /// Somebody answers there, but not Buzzer, or one of another age.
    #[error("{server} does not answer as Buzzer does: {reason}")]
    Strange { server: Url, reason: String },
}

fn doubt(in_doubt: bool) -> &'static str {
    if in_doubt { ". It may have been accepted; with --idempotency-key it is safe to ask again" } else { "" }
}

fn want(had_key: bool) -> &'static str {
    if had_key {
        "does not know this API key, or it was revoked: set BUZZER_KEY to another"
    } else {
        "lets nobody in without an API key: set BUZZER_KEY to one"
    }
}

impl ClientError {
    /// Whether the same request may well be answered a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::KeyFile(_) | Self::NotLetIn { .. } => false,
            Self::Refused(problem) => problem.status.is_some_and(|status| status >= 500 || status == 429),
            // A proxy whose server is just being restarted.
            Self::Strange { reason, .. } => reason.starts_with("it answered 5"),
        }
    }

    /// Whether the server has no place left for another stream of events; all else it answers.
    pub fn is_want_of_streams(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.r#type == "/problems/too-many-streams")
    }
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
        let made = |error| unreachable(&config.server, &error, false);
        let (http, streams) = (builder().build(), builder().read_timeout(SILENCE).build());
        let (http, streams, server) = (http.map_err(made)?, streams.map_err(made)?, config.server.clone());
        Ok(Self { http, streams, server, key: config.key()? })
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
        let stream = SseByteStream::new(response.bytes_stream().boxed());
        Ok(Some(Events { server: self.server.clone(), stream }))
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

/// What an answer says that is no success.
pub fn refusal(server: &Url, had_key: bool, status: StatusCode, body: &[u8]) -> ClientError {
    let server = server.clone();
    match serde_json::from_slice::<Problem>(body) {
        Ok(_) if status == StatusCode::UNAUTHORIZED => ClientError::NotLetIn { server, had_key },
        Ok(problem) => ClientError::Refused(Box::new(Problem { status: Some(status.as_u16()), ..problem })),
        Err(_) => ClientError::Strange { server, reason: format!("it answered {status}") },
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

fn unreachable(server: &Url, error: &reqwest::Error, hands_in: bool) -> ClientError {
    let connected = !error.is_connect() && !error.is_builder();
    let reason = if error.is_timeout() { "it does not answer in time".into() } else { root_cause(error) };
    ClientError::Unreachable { server: server.clone(), reason, in_doubt: hands_in && connected }
}

/// The innermost error is the one that says something: `Connection refused`, not `error sending request`.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(server: &str) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = super::server(server).unwrap();
        Client::new(ServerConfig { server, key: None, key_file: None }).unwrap()
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
        assert!(server("127.0.0.1:8080").is_err());
        assert!(server("ftp://127.0.0.1").is_err());
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
    fn the_file_of_a_key_is_read_by_who_talks_to_a_server() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = file.path().to_str().unwrap();
        let config =
            || ServerConfig { server: server("http://a").unwrap(), key: None, key_file: Some(name.parse().unwrap()) };
        let refused = config().key().unwrap_err().to_string();
        assert!(refused.contains(name) && refused.contains("is empty"), "{refused}");
        let key = Secret::random().unwrap();
        std::fs::write(file.path(), key.reveal()).unwrap();
        assert_eq!(config().key().unwrap(), Some(key));
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
    fn a_text_that_is_no_key_is_refused_and_not_repeated() {
        let refused = key("order-4711").unwrap_err();
        assert!(refused.contains("--idempotency-key") && !refused.contains("4711"), "{refused}");
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
