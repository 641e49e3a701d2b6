//! What comes of a service's answer: pure.

use buzzer_shared::problem::push;
use buzzer_shared::text::shorten;
use buzzer_shared::time::Time;
use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use serde::Deserialize;
use url::Url;

use crate::error::JobError;
use crate::handler::RawJson;
use crate::retry_after::again;

/// So much of a body that cannot be used is shown.
const SHOWN: usize = 200;

/// A service's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// As much as was taken.
    pub(super) body: Bytes,
    /// Whether there is more, beyond what is taken.
    pub(super) more: bool,
}

/// What a service says is wrong with an input, in a problem (RFC 9457).
#[derive(Debug, Deserialize)]
struct ItsProblem {
    detail: Option<String>,
    title: Option<String>,
}

impl Answer {
    /// The output, or why there is none. `name` is how the call is named to the client.
    pub(super) fn output(self, name: &str, now: Time) -> Result<RawJson, JobError> {
        match self.status {
            StatusCode::NO_CONTENT => whole(name, Bytes::from_static(b"null")),
            status if status.is_success() && self.more => {
                let most = self.body.len();
                Err(broken(format!("{name} answered with a body of more than {most} bytes. {}", self.beginning())))
            }
            status if status.is_success() => match RawJson::try_from(self.body.clone()) {
                Ok(output) => Ok(output),
                Err(_) => Err(broken(self.no_json(name))),
            },
            status if status.is_redirection() => Err(broken(self.redirect(name))),
            StatusCode::UNPROCESSABLE_ENTITY => Err(JobError::rejected_input(self.complaint(name))),
            status => {
                let detail = format!("{name} answered {status}. {}", self.beginning());
                Err(titled(JobError::again(again(status, &self.headers, now), detail)))
            }
        }
    }

    fn no_json(&self, name: &str) -> String {
        if self.body.is_empty() {
            return format!("{name} answered {} without a body; 204 stands for the output null.", self.status);
        }
        let media = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("no media type");
        format!("{name} answered with what is no JSON ({media}). {}", self.beginning())
    }

    /// Tells where to, without path and query, which may hold secrets.
    fn redirect(&self, name: &str) -> String {
        let location = self.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let origin = location.and_then(|location| Url::parse(location).ok());
        let target = match origin.as_ref().and_then(Url::host_str) {
            Some(host) => format!(" to {host}"),
            None => String::new(),
        };
        let status = self.status;
        format!(
            "{name} answered {status}: a redirect{target}, which is not followed; let worker.toml name the right URL."
        )
    }

    fn complaint(&self, name: &str) -> String {
        let problem: Option<ItsProblem> = serde_json::from_slice(&self.body).ok();
        match problem.and_then(|problem| problem.detail.or(problem.title)) {
            Some(detail) => detail,
            None => format!("{name} answered {}. {}", self.status, self.beginning()),
        }
    }

    /// The first words of the body.
    fn beginning(&self) -> String {
        if self.body.is_empty() {
            return "Its body is empty.".into();
        }
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(SHOWN * 4)]).into_owned();
        format!("Its body begins with `{}`.", shorten(text.trim().into(), SHOWN))
    }
}

/// The answer gives no output, and would not do so another time.
pub(crate) fn broken(detail: String) -> JobError {
    titled(JobError::fail(detail))
}

fn titled(error: JobError) -> JobError {
    error.with_type(push::ANSWER).with_title("The service's answer cannot be used")
}

fn whole(name: &str, body: Bytes) -> Result<RawJson, JobError> {
    RawJson::try_from(body).map_err(|error| broken(format!("{name}: {error}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buzzer_shared::message::{Retry, RunResult};
    use buzzer_shared::problem::job;
    use reqwest::header::{HeaderName, HeaderValue, RETRY_AFTER};

    use super::*;

    const NOW: Time = Time::from_millis(1_795_367_640_000);

    fn answer(status: u16, headers: &[(HeaderName, &'static str)], body: impl AsRef<[u8]>) -> Result<String, JobError> {
        let body = body.as_ref();
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        let status = StatusCode::from_u16(status).unwrap();
        let answer =
            Answer { status, headers: headers.collect(), body: Bytes::copy_from_slice(body), more: body.len() > 500 };
        answer.output("POST a.example", NOW).map(|output| String::from_utf8_lossy(output.as_bytes()).into_owned())
    }

    fn problem(status: u16, headers: &[(HeaderName, &'static str)], body: impl AsRef<[u8]>) -> (String, String, Retry) {
        match answer(status, headers, body).unwrap_err().into_result() {
            RunResult::Failed { problem, retry } => (problem.r#type, problem.detail.unwrap(), retry),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_body_of_2xx_is_the_output_byte_for_byte() {
        for status in [200, 201, 202, 206] {
            assert_eq!(answer(status, &[], " {\"n\": 1.50} ").unwrap(), " {\"n\": 1.50} ");
        }
        assert_eq!(answer(204, &[], "").unwrap(), "null");
    }

    #[test]
    fn what_is_no_output_is_told_for_what_it_is() {
        let html = [(CONTENT_TYPE, "text/html; charset=utf-8")];
        let elsewhere = [(LOCATION, "https://b.example/s3cret?key=s3cret")];
        for (told, part) in [
            (
                problem(200, &html, "<!doctype html><p>hi"),
                "no JSON (text/html; charset=utf-8). Its body begins with `<!doctype",
            ),
            (problem(200, &[], "{} {}"), "no JSON (no media type)"),
            (problem(200, &[], b"\"caf\xe9\""), "no JSON (no media type). Its body begins with `\"caf"),
            (problem(200, &[], ""), "without a body; 204 stands for the output null"),
            (problem(200, &[], "1".repeat(501)), "a body of more than 501 bytes. Its body begins with `111"),
            (problem(302, &elsewhere, ""), "a redirect to b.example, which is not followed"),
            (problem(307, &[(LOCATION, "/other")], ""), "a redirect, which is not followed"),
            (problem(404, &html, "<p>no"), "answered 404 Not Found. Its body begins with `<p>no`"),
            (problem(400, &[], ""), "answered 400 Bad Request. Its body is empty."),
        ] {
            let (r#type, detail, retry) = told;
            assert_eq!((r#type.as_str(), retry), (push::ANSWER, Retry::Never), "{detail}");
            assert!(detail.starts_with("POST a.example answered") && detail.contains(part), "{detail}");
            assert!(!detail.contains("s3cret") && detail.len() < 500, "{detail}");
        }
    }

    #[test]
    fn a_busy_or_broken_service_is_called_again() {
        for status in [429, 500, 502, 503, 504] {
            assert_eq!(problem(status, &[], "").2, Retry::Policy, "{status}");
            let later = [(RETRY_AFTER, "7")];
            assert_eq!(problem(status, &later, "").2, Retry::After(Duration::from_secs(7)), "{status}");
        }
    }

    #[test]
    fn an_input_that_a_service_rejects_is_rejected_in_its_words() {
        for (body, expected) in [
            (r#"{"type": "x", "title": "t", "detail": "no such dish", "status": 422}"#, "no such dish"),
            (r#"{"title": "t"}"#, "t"),
            ("<p>no", "POST a.example answered 422 Unprocessable Entity. Its body begins with `<p>no`."),
        ] {
            let (r#type, detail, retry) = problem(422, &[], body);
            assert_eq!((r#type.as_str(), retry, detail.as_str()), (job::REJECTED_INPUT, Retry::Never, expected));
        }
    }
}
