use std::time::Duration;

use bytes::Bytes;

use super::{Header, HeaderForm, HeaderSpec, JSON, Message, MessageSpec, Unreadable};
use crate::id::RunId;
use crate::job::Priority;
use crate::kind::Kind;

/// Run this job. From the API to whichever worker takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub run: RunId,
    pub kind: Kind,
    /// 1 for the first; rises only after a reported failure or timeout.
    pub attempt: u32,
    pub priority: Priority,
    /// How long the run may take.
    pub timeout: Duration,
    /// A copy that nobody has taken by then is dropped by the broker, before a second one goes out.
    pub expiration: Duration,
    /// Not to be started any more so long after it was taken. A length, since clocks differ.
    pub expires_in: Option<Duration>,
    /// Promised never to be run twice, whatever its kind says now.
    pub at_most_once: bool,
    /// A suspect, which may bring its worker down: it is run with nothing beside it, and acknowledged before.
    pub alone: bool,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
    /// JSON, as the client sent it.
    pub input: Bytes,
}

impl Request {
    pub const TYPE: &'static str = "buzzer.request.v1";
    pub const SPEC: MessageSpec = MessageSpec {
        r#type: Self::TYPE,
        summary: "Run this job. The body is its input.",
        of_run: true,
        waits: true,
        headers: &[
            HeaderSpec::always("kind", HeaderForm::Text, "The job's kind."),
            HeaderSpec::always(
                "dispatch",
                HeaderForm::Number,
                "Rises whenever the job is sent out: a failure counts only of the newest.",
            ),
            HeaderSpec::always("attempt", HeaderForm::Number, "1 for the first; rises after a failure."),
            HeaderSpec::always("timeout-ms", HeaderForm::Number, "How long the run may take, in milliseconds."),
            HeaderSpec::perhaps(
                "expires-in-ms",
                HeaderForm::Number,
                "Hand it back as `expired` when it cannot be started within so many milliseconds after it was taken.",
            ),
            HeaderSpec::perhaps(
                "at-most-once",
                HeaderForm::Flag,
                "Never to be run twice: say `started`, acknowledge, and only then run it. Refuse a copy that comes again.",
            ),
            HeaderSpec::perhaps(
                "alone",
                HeaderForm::Flag,
                "It may bring a worker down: run nothing beside it, and acknowledge it before, with `started`.",
            ),
            HeaderSpec::perhaps("traceparent", HeaderForm::Text, "W3C trace context of the submission."),
        ],
    };

    pub fn to_message(&self) -> Message {
        let mut headers: Vec<(std::borrow::Cow<'static, str>, Header)> = vec![
            ("kind".into(), self.kind.as_str().into()),
            ("dispatch".into(), self.run.dispatch.into()),
            ("attempt".into(), self.attempt.into()),
            ("timeout-ms".into(), self.timeout.into()),
        ];
        if let Some(left) = self.expires_in {
            headers.push(("expires-in-ms".into(), left.into()));
        }
        if self.at_most_once {
            headers.push(("at-most-once".into(), Header::Bool(true)));
        }
        if self.alone {
            headers.push(("alone".into(), Header::Bool(true)));
        }
        if let Some(traceparent) = &self.traceparent {
            headers.push(("traceparent".into(), traceparent.as_str().into()));
        }
        Message {
            r#type: Self::TYPE.into(),
            message_id: Some(self.run.to_string()),
            correlation_id: Some(self.run.job.to_string()),
            content_type: JSON.into(),
            expiration: Some(self.expiration),
            priority: Some(self.priority.get()),
            headers,
            body: self.input.clone(),
            ..Message::default()
        }
    }

    pub fn read(message: &Message) -> Result<Self, Unreadable> {
        message.expect_type(Self::TYPE)?;
        if message.content_type != JSON {
            return Err(Unreadable::Header { name: "content_type", expected: JSON });
        }
        let priority = message.priority.map_or(Ok(Priority::default()), Priority::try_from);
        Ok(Self {
            run: message.run()?,
            kind: message.parsed("kind", "the name of a kind")?,
            attempt: message.number("attempt")?,
            priority: priority.map_err(|_| Unreadable::Header { name: "priority", expected: "0 to 31" })?,
            timeout: message.duration("timeout-ms")?,
            expiration: message.expiration.unwrap_or_default(),
            expires_in: message.length("expires-in-ms")?,
            at_most_once: message.flag("at-most-once")?,
            alone: message.flag("alone")?,
            traceparent: message.text("traceparent").ok().map(Into::into),
            input: message.body.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;
    use crate::time::Time;

    pub(crate) fn request() -> Request {
        Request {
            run: RunId { job: JobId::new(Time::from_millis(1)), dispatch: 2 },
            kind: "echo".parse().unwrap(),
            attempt: 1,
            priority: Priority::default(),
            timeout: Duration::from_secs(30),
            expiration: Duration::from_secs(20),
            expires_in: Some(Duration::from_secs(9)),
            at_most_once: true,
            alone: true,
            traceparent: None,
            input: Bytes::from_static(b"{\"a\":\"\\u0000\"}"),
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request = request();
        assert_eq!(Request::read(&request.to_message()), Ok(request));
    }

    #[test]
    fn what_is_no_request_says_why() {
        let good = request().to_message();
        let other_type = Message { r#type: "buzzer.request.v9".into(), ..good.clone() };
        assert!(matches!(Request::read(&other_type), Err(Unreadable::Type { .. })));
        let no_id = Message { message_id: None, ..good.clone() };
        assert_eq!(Request::read(&no_id), Err(Unreadable::Missing("message_id")));
        let no_headers = Message { headers: Vec::new(), ..good.clone() };
        assert_eq!(Request::read(&no_headers), Err(Unreadable::Missing("kind")));
        let not_json = Message { content_type: "text/plain".into(), ..good };
        assert!(matches!(Request::read(&not_json), Err(Unreadable::Header { name: "content_type", .. })));
    }
}
