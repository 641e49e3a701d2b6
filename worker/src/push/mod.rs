//! Kinds that a service runs: its input is posted there, signed, and the answer is the output.

mod answer;

use std::sync::Arc;

use buzzer_shared::egress::Reach;
use buzzer_shared::kind::Kind;
use buzzer_shared::problem::push;
use buzzer_shared::time::{Clock, SystemClock};
use buzzer_shared::webhook::{Secret, Signed};
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Response};
use url::Url;

use self::answer::Answer;
pub(crate) use self::answer::broken;
use crate::context::JobContext;
use crate::egress::{Egress, EgressError};
use crate::error::JobError;
use crate::handler::RawJson;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A service that runs jobs of a kind, and how it is called.
#[derive(Debug)]
pub(crate) struct Service {
    url: Url,
    secret: Secret,
    /// The most bytes that are taken of an answer's body.
    answer_max: usize,
    egress: Egress,
    clock: Arc<dyn Clock>,
}

impl Service {
    /// It may be anywhere: the operator has written the URL, not a client.
    ///
    /// # Errors
    /// When it is no URL that can be called.
    pub(crate) fn new(url: Url, secret: Secret, answer_max: usize) -> Result<Self, EgressError> {
        let egress = Egress::reaching(Reach::of_operator());
        egress.check(&url)?;
        Ok(Self { url, secret, answer_max, egress, clock: Arc::new(SystemClock) })
    }

    /// Has one job run. When this is dropped, or somebody cancels the job, the connection is closed.
    pub(crate) async fn call(&self, kind: &Kind, ctx: &JobContext, input: &Bytes) -> Result<RawJson, JobError> {
        let request = self.request(kind, ctx, input)?;
        tokio::select! {
            answer = self.answer(request) => {
                let answer = answer.map_err(|error| self.unreachable(&error))?;
                answer.output(&self.name(), self.clock.now())
            }
            () = ctx.canceled() => Err(JobError::fail("The call was given up, for the job was asked to stop.")),
        }
    }

    fn request(&self, kind: &Kind, ctx: &JobContext, input: &Bytes) -> Result<Request, JobError> {
        let body = std::str::from_utf8(input).map_err(JobError::rejected_input)?;
        let (now, id) = (self.clock.now(), ctx.job_id().to_string());
        let signed = Signed::with([&self.secret], &id, now, body).headers();
        let of_job = [
            ("buzzer-job-id", id),
            ("buzzer-kind", kind.to_string()),
            ("buzzer-attempt", ctx.attempt().to_string()),
            ("buzzer-deadline", (now + ctx.remaining()).to_string()),
        ];
        let mut request = Request::new(Method::POST, self.url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, JSON);
        for (name, value) in signed.into_iter().chain(of_job) {
            headers.insert(HeaderName::from_static(name), value.try_into()?);
        }
        *request.body_mut() = Some(input.clone().into());
        Ok(request)
    }

    async fn answer(&self, request: Request) -> Result<Answer, EgressError> {
        let response = self.egress.send(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let (body, more) = read(response, self.answer_max).await?;
        Ok(Answer { status, headers, body: Bytes::from(body), more })
    }

    /// There was no whole answer. Another time may be better.
    fn unreachable(&self, error: &EgressError) -> JobError {
        let error = JobError::retry(format!("{}: {error}", self.name()));
        error.with_type(push::UNREACHABLE).with_title("The service could not be reached")
    }

    /// How it is called in problems: without path and query, which may hold secrets.
    fn name(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("POST {host}:{port}"),
            None => format!("POST {host}"),
        }
    }
}

/// As much of the body as is taken, and whether there is more.
async fn read(mut response: Response, most: usize) -> Result<(Vec<u8>, bool), EgressError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = most - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((body, true));
        }
    }
    Ok((body, false))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buzzer_shared::id::JobId;
    use buzzer_shared::time::Time;
    use reqwest::header::HeaderMap;

    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn service(url: &str) -> Result<Service, EgressError> {
        Service::new(url.parse().unwrap(), SECRET.parse().unwrap(), 100)
    }

    #[test]
    fn a_call_tells_of_the_job_and_is_signed() {
        let service = service("http://127.0.0.1:1/run?x=1").unwrap();
        let ctx = JobContext::detached(JobId::new(Time::from_millis(1)), 3, Duration::from_secs(60));
        let (kind, input) = ("a.b".parse().unwrap(), Bytes::from_static(b"{\"n\": 1.50}"));
        let request = service.request(&kind, &ctx, &input).unwrap();
        let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((request.method(), request.url().as_str()), (&Method::POST, "http://127.0.0.1:1/run?x=1"));
        assert_eq!(request.body().unwrap().as_bytes().unwrap(), &input[..]);
        assert_eq!(
            [header("content-type"), header("buzzer-kind"), header("buzzer-attempt")],
            ["application/json", "a.b", "3"]
        );
        assert_eq!(header("webhook-id"), header("buzzer-job-id"));
        let left = header("buzzer-deadline").parse::<Time>().unwrap().since(service.clock.now());
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");
        let at = Time::from_millis(header("webhook-timestamp").parse::<i64>().unwrap() * 1000);
        let again = Signed::with([&service.secret], &header("webhook-id"), at, "{\"n\": 1.50}");
        assert_eq!(header("webhook-signature"), again.signature);
        assert_eq!(HeaderMap::len(request.headers()), 9);
    }

    #[test]
    fn what_is_no_text_is_not_sent() {
        let service = service("https://a.example/").unwrap();
        let ctx = JobContext::detached(JobId::new(Time::from_millis(1)), 1, Duration::from_secs(60));
        let error = service.request(&"a".parse().unwrap(), &ctx, &Bytes::from_static(b"\"\xff\"")).unwrap_err();
        assert!(error.to_string().contains("utf-8"), "{error}");
    }

    #[test]
    fn a_url_without_http_or_with_a_password_is_refused() {
        assert!(matches!(service("ftp://a.example/"), Err(EgressError::WrongScheme)));
        assert!(matches!(service("https://u:p@a.example/"), Err(EgressError::Credentials)));
    }

    #[test]
    fn a_name_tells_no_path() {
        assert_eq!(service("http://[::1]:81/s3cret?key=s3cret").unwrap().name(), "POST [::1]:81");
        assert_eq!(service("https://a.example/s3cret").unwrap().name(), "POST a.example");
    }
}
