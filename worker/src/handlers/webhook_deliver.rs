use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::egress::{AllowList, Reach};
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Clock, Span, SystemClock};
use buzzer_shared::webhook::{self, ANSWER_MAX, Answer, Post, Posted};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Response};
use tokio::time::{Instant, timeout};

use crate::context::JobContext;
use crate::egress::{Egress, EgressError};
use crate::error::JobError;
use crate::handler::{Handler, HandlerOptions};
use crate::retry_after::retry_after;

/// An endpoint must have answered by then.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Once its status is there, all is decided: what it says besides is not waited for any longer.
const BODY_LIMIT: Duration = Duration::from_secs(1);
/// The API leaves half of them to endpoints that are well: see `delivery::turns` there. Each takes a socket, and the body of
/// an event.
const SLOTS: u16 = 512;

const DESCRIPTION: &str = "\
Posts an event to a webhook endpoint. Buzzer itself makes these jobs, and nobody else can; what comes of one is seen at \
`/v1/webhooks/{id}/deliveries`.";

/// `webhook.deliver`: posts an event to a webhook endpoint, once. When it is to be tried again, the API decides.
#[derive(Debug)]
pub(crate) struct WebhookDeliver {
    encrypted: Egress,
    /// Without TLS, no further than to networks that somebody has named.
    plain: Egress,
    clock: Arc<dyn Clock>,
}

impl WebhookDeliver {
    /// Posts to what is public or in `allow`.
    pub(crate) fn new(allow: &AllowList) -> Self {
        let reaching = |url: &str| {
            let url = url.parse().expect("a URL");
            Egress::reaching(Reach::of_webhook(&url, allow.clone()))
        };
        Self { encrypted: reaching("https://a"), plain: reaching("http://a"), clock: Arc::new(SystemClock) }
    }

    async fn answer(&self, post: Post) -> Result<Answer, EgressError> {
        let egress = if post.url.scheme() == "https" { &self.encrypted } else { &self.plain };
        let response = egress.send(request(post)).await?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers(), self.clock.now()).map(Span::from);
        Ok(Answer::Response { status, body: beginning(response).await, retry_after })
    }
}

impl Handler for WebhookDeliver {
    const KIND: &'static str = webhook::KIND;
    type Input = Post;
    type Output = Posted;

    fn options(&self) -> HandlerOptions {
        let example = serde_json::json!({
            "url": "https://example.com/buzzer",
            "signed": {
                "id": "01a20543-0192-713f-b535-6d26a603aa42",
                "timestamp": 1_795_000_000,
                "signature": "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            },
            "body": { "type": "webhook.test", "timestamp": "2026-11-18T11:06:40.000Z", "data": {} },
        });
        HandlerOptions::new()
            .title("Deliver a webhook")
            .description(DESCRIPTION)
            .example(example)
            .retry(RetryPolicy::NEVER)
            .timeout(ANSWER_LIMIT * 2)
            .slots(SLOTS)
    }

    async fn run(&self, _: JobContext, input: Post) -> Result<Posted, JobError> {
        let began = Instant::now();
        let answer = match timeout(ANSWER_LIMIT, self.answer(input)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Nothing(error.to_string()),
            Err(_) => Answer::Nothing(format!("no answer within {} s", ANSWER_LIMIT.as_secs())),
        };
        Ok(Posted {
            duration: Span::from_millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)),
            answer,
        })
    }
}

fn request(post: Post) -> Request {
    let mut request = Request::new(Method::POST, post.url);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in post.signed.headers() {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    *request.body_mut() = Some(String::from(Box::<str>::from(post.body)).into());
    request
}

/// The first bytes of the body, as text. What does not come soon is left out.
async fn beginning(mut response: Response) -> String {
    let mut body = Vec::new();
    let read = async {
        while body.len() < ANSWER_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk[..chunk.len().min(ANSWER_MAX - body.len())]);
        }
    };
    let _ = timeout(BODY_LIMIT, read).await;
    text(&body)
}

/// A character that was cut in two is left out; what is no text at all becomes question marks.
fn text(bytes: &[u8]) -> String {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    };
    let mut text = String::from_utf8_lossy(whole).into_owned();
    text.truncate(text.floor_char_boundary(ANSWER_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_ends_between_characters() {
        assert_eq!(text("aä".as_bytes()), "aä");
        assert_eq!(text(&"aä".as_bytes()[..2]), "a");
        assert_eq!(text(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(text(&[0xff; ANSWER_MAX]).len(), ANSWER_MAX - 1);
    }

    #[test]
    fn a_post_is_sent_as_it_was_signed() {
        let post: Post = serde_json::from_str(
            r#"{"url": "https://a.example/x?y=1", "signed": {"id": "d", "timestamp": 7, "signature": "v1,a v1,b"},
                "body": {"n": 1.50,  "b": "ä"}}"#,
        )
        .unwrap();
        let request = request(post);
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        assert_eq!((request.method(), request.url().as_str()), (&Method::POST, "https://a.example/x?y=1"));
        assert_eq!(
            [header("webhook-id"), header("webhook-timestamp"), header("webhook-signature")],
            ["d", "7", "v1,a v1,b"]
        );
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(request.body().unwrap().as_bytes().unwrap(), "{\"n\": 1.50,  \"b\": \"ä\"}".as_bytes());
    }
}
