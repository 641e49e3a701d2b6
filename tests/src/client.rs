//! A small HTTP client of the API, for tests.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::wait::eventually;

/// Longer than the API holds any answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// Speaks to one API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
}

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

impl Client {
    /// For the API at `base`, like `http://127.0.0.1:8080`.
    pub fn new(base: impl Into<String>) -> Self {
        // reqwest takes its TLS provider from the process. The only error is that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(ANSWER_LIMIT).no_proxy().build().expect("a client");
        Self { base: base.into(), http }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// # Errors
    /// When there was no whole answer: what was asked for may have happened or not.
    pub async fn send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let status = response.status();
        Ok(Answer { status, text: response.text().await? })
    }

    /// # Errors
    /// As [`send`](Self::send).
    pub async fn get(&self, path: &str) -> reqwest::Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Hands a job in, without waiting for it. `key` is its `Idempotency-Key`: whoever gets no answer sends the same
    /// again.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn submit(&self, kind: &str, input: &Value, key: Option<&str>) -> reqwest::Result<Answer> {
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
    pub async fn job(&self, id: &str) -> reqwest::Result<Value> {
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
