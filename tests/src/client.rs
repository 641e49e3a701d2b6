//! A small HTTP client of the API, for tests.

use std::fmt;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::conformance::{self, Answered};
use crate::events::EventStream;
use crate::wait::eventually;

/// Longer than the API holds any answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// Speaks to one API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    key: Option<String>,
    inside: Option<Inside>,
}

/// The endpoints of an API in this process, until it is killed.
#[derive(Debug, Clone)]
struct Inside {
    router: Router,
    killed: CancellationToken,
}

/// There was no whole answer: what was asked for may have happened or not.
#[derive(Debug)]
pub struct NoAnswer(String);

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        Self(error.to_string())
    }
}

impl Inside {
    async fn answer(&self, request: reqwest::Request) -> Result<Answer, NoAnswer> {
        let answering = async {
            let response = self.response(request).await?;
            let status = response.status();
            let body = to_bytes(response.into_body(), usize::MAX).await.map_err(|error| NoAnswer(error.to_string()))?;
            Ok(Answer { status, text: String::from_utf8_lossy(&body).into_owned() })
        };
        self.while_it_lives(answering).await
    }

    async fn stream(&self, request: reqwest::Request) -> Result<Result<EventStream, StatusCode>, NoAnswer> {
        let response = self.while_it_lives(self.response(request)).await?;
        if response.status() != StatusCode::OK {
            return Ok(Err(response.status()));
        }
        let (head, body) = response.into_parts();
        // As a connection ends with the process at its other side.
        let body = body.into_data_stream().take_until(self.killed.clone().cancelled_owned());
        Ok(Ok(EventStream::read(head.headers, body)))
    }

    async fn response(&self, request: reqwest::Request) -> Result<Response, NoAnswer> {
        let request: axum::http::Request<reqwest::Body> = request.try_into()?;
        let Ok(response) = self.router.clone().oneshot(request.map(Body::new)).await;
        Ok(response)
    }

    async fn while_it_lives<T>(&self, answering: impl Future<Output = Result<T, NoAnswer>>) -> Result<T, NoAnswer> {
        tokio::select! {
            biased;
            () = self.killed.cancelled() => Err(NoAnswer("the API was killed".into())),
            answer = answering => answer,
        }
    }
}

impl Client {
    /// For the API at `base`, like `http://127.0.0.1:8080`.
    pub fn new(base: impl Into<String>) -> Self {
        // reqwest takes its TLS provider from the process. The only error is that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(ANSWER_LIMIT).no_proxy().build().expect("a client");
        Self { base: base.into(), http, key: None, inside: None }
    }

    /// Speaks to the endpoints of an API in this process, without a socket, until it is `killed`.
    pub fn inside(router: Router, killed: CancellationToken) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Nothing is ever dialled, so there is nobody to be trusted.
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().expect("a client");
        Self { base: "http://inside".into(), http, key: None, inside: Some(Inside { router, killed }) }
    }

    /// The same, as who has this API key.
    pub fn with_key(self, key: &str) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Where it speaks to.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The API key that it has.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// # Errors
    /// When there was no whole answer: what was asked for may have happened or not.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, NoAnswer> {
        if let Some(inside) = &self.inside {
            return inside.answer(request.build()?).await;
        }
        let (asked, response) = conformance::send(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        asked.answered(&Answered { status, headers: &headers, body: Some(text.as_bytes()) }).await;
        Ok(Answer { status, text })
    }

    /// # Errors
    /// As [`send`](Self::send).
    pub async fn get(&self, path: &str) -> Result<Answer, NoAnswer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Opens a stream of events that goes on after the event `last`. An error inside is what was answered instead: a `204`
    /// where there will be nothing more.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn stream(&self, path: &str, last: &str) -> Result<Result<EventStream, StatusCode>, NoAnswer> {
        let request = self.request(Method::GET, path).header("accept", "text/event-stream");
        let request = request.header("last-event-id", last);
        if let Some(inside) = &self.inside {
            return inside.stream(request.build()?).await;
        }
        let (asked, response) = conformance::send(request).await?;
        if response.status() != StatusCode::OK {
            return Ok(Err(response.status()));
        }
        Ok(Ok(EventStream::answered(&asked, response).await))
    }

    /// Hands a job in, without waiting for it. `key` is its `Idempotency-Key`: whoever gets no answer sends the same
    /// again.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn submit(&self, kind: &str, input: &Value, key: Option<&str>) -> Result<Answer, NoAnswer> {
        let mut request = self.request(Method::POST, &format!("/v1/jobs/{kind}"));
        request = request.json(&serde_json::json!({ "input": input }));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.send(request).await
    }

    /// Hands a job in, and returns its id.
    ///
    /// # Panics
    /// When it is not accepted.
    pub async fn accepted(&self, kind: &str, input: &Value) -> String {
        let answer = self.submit(kind, input, None).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn job(&self, id: &str) -> Result<Value, NoAnswer> {
        self.get(&format!("/v1/jobs/{id}")).await.map(|answer| answer.json())
    }

    /// The job once it is done. An API that is away meanwhile is asked again.
    ///
    /// # Panics
    /// When it is not done in time.
    pub async fn done(&self, id: &str, limit: Duration) -> Value {
        eventually(&format!("job {id} to be done"), limit, async || {
            let answer = self.get(&format!("/v1/jobs/{id}?wait=5")).await.ok()?;
            let job = (answer.status == StatusCode::OK).then(|| answer.json())?;
            (job["done"] == true).then_some(job)
        })
        .await
    }
}
