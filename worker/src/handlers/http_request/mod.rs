//! `http.request`: calls another service.

mod call;
mod failure;
mod input;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use buzzer_shared::egress::AllowList;
use buzzer_shared::time::{Clock, SystemClock};
use reqwest::Response;
use reqwest::header::HeaderMap;
use schemars::JsonSchema;
use serde::Serialize;

use self::call::Call;
use self::failure::Failure;
use self::input::Input;
use crate::context::JobContext;
use crate::egress::{Egress, EgressError};
use crate::error::JobError;
use crate::handler::{Handler, HandlerOptions};

/// How long one call may take, redirects and the whole response included.
const TIMEOUT: Duration = Duration::from_secs(60);

const DESCRIPTION: &str = "\
Makes one HTTP call; its output is the response. A response of 2xx succeeds, and so does one of 3xx that is not \
followed. `429`, `5xx`, a connection that fails or breaks and a call that takes too long are tried again as the job's \
`retry` has it, or when `Retry-After` says, up to a day later. Every other 4xx fails for good.

Only public addresses can be called, and those that the worker's `BUZZER_EGRESS_ALLOW` names. Each redirect is \
checked like the first URL; `Authorization` and `Cookie` are not sent on to another origin.

A call may reach the service twice, after a crash and when it is tried again: give it an idempotency key of its own \
in `headers` if that matters. Bodies are handed on as they come, never decompressed.";

/// `http.request`: calls another service.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    egress: Egress,
    /// The most bytes of a response that any job can ask for.
    max_response: usize,
    clock: Arc<dyn Clock>,
}

/// What came back.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Answer {
    /// The status of the response.
    #[schemars(range(min = 200, max = 399))]
    status: u16,
    /// The headers of the response, with their names in lower case. What came several times is joined by `, `.
    headers: BTreeMap<String, String>,
    /// The body of the response, when it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The body of the response in Base64, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl HttpRequest {
    /// Calls what is public or in `allow`, and takes responses of up to `max_response` bytes.
    pub(crate) fn new(allow: AllowList, max_response: usize) -> Self {
        Self { egress: Egress::new(allow), max_response, clock: Arc::new(SystemClock) }
    }

    async fn answer(&self, input: Input) -> Result<Answer, Failure> {
        let most = input.max_response().min(self.max_response);
        let redirects = input.redirects();
        let mut call = Call::try_from(input)?;
        let response = self.follow(&mut call, redirects).await.map_err(|error| Failure::no_answer(&call, &error))?;
        let (status, headers) = (response.status(), response.headers());
        if !(status.is_success() || status.is_redirection()) {
            return Err(Failure::status(&call, status, headers, self.clock.now()));
        }
        let headers = by_name(headers);
        let body = read(response, most, &call).await?;
        let (body, body_base64) = match String::from_utf8(body) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(BASE64_STANDARD.encode(error.as_bytes()))),
        };
        Ok(Answer { status: status.as_u16(), headers, body, body_base64 })
    }

    /// Makes the call and the ones that its answers redirect to. Afterwards `call` is the last that was made.
    async fn follow(&self, call: &mut Call, redirects: u8) -> Result<Response, EgressError> {
        let mut response = self.egress.send(call.request()).await?;
        for _ in 0..redirects {
            let Some(target) = call.redirect(response.status(), response.headers()) else { break };
            call.go_to(target, response.status());
            response = self.egress.send(call.request()).await?;
        }
        Ok(response)
    }
}

impl Handler for HttpRequest {
    const KIND: &'static str = "http.request";
    type Input = Input;
    type Output = Answer;

    fn options(&self) -> HandlerOptions {
        let example = serde_json::json!({
            "url": "https://example.com/orders",
            "method": "POST",
            "headers": { "idempotency-key": "order-7" },
            "json": { "customer": 7, "dish": "soup" },
        });
        HandlerOptions::new().title("Call another service").description(DESCRIPTION).example(example).timeout(TIMEOUT)
    }

    async fn run(&self, _: JobContext, input: Input) -> Result<Answer, JobError> {
        self.answer(input).await.map_err(Failure::into_job_error)
    }
}

/// The body, if it has at most `most` bytes.
async fn read(mut response: Response, most: usize, call: &Call) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::no_answer(call, &error.into()))? {
        if body.len() + chunk.len() > most {
            return Err(Failure::too_large(call, most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn by_name(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut joined = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let known = joined.entry(name.to_string()).or_default();
        if !known.is_empty() {
            known.push_str(", ");
        }
        known.push_str(&value);
    }
    joined
}
