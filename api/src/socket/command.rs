//! What a client sends.

use std::fmt;

use buzzer_shared::id::JobId;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::extract::JsonBody;
use crate::jobs::{KeyName, SubmitJob};
use crate::problem::ApiError;

/// The most characters that the name of a request has.
const REQUEST_MAX: usize = 100;

/// A frame that a client sends.
#[derive(Debug, JsonSchema)]
#[serde(untagged)]
pub(super) enum ClientFrame<'a> {
    Submit(Submit<'a>),
    Follow(Follow),
    Unfollow(Unfollow),
    Cancel(Cancel),
}

/// Hands a job in, as `POST /v1/jobs/{kind}` does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Submit<'a> {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "submit"))]
    _type: Verb,
    #[serde(default, rename = "request")]
    _request: Option<Request>,
    /// The kind's name.
    kind: String,
    /// What a POST has as its body.
    #[serde(borrow)]
    #[schemars(with = "SubmitJob<'static>")]
    job: &'a RawValue,
    /// The same key with the same kind and job stands for the same job, whichever way it came.
    #[serde(default)]
    idempotency_key: Option<KeyName>,
    /// Whether its events are to be shown, from the first on.
    #[serde(default)]
    follow: bool,
}

/// Shows the events of a job, to its last.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Follow {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "follow"))]
    _type: Verb,
    #[serde(default, rename = "request")]
    _request: Option<Request>,
    job_id: JobId,
    /// Those after the one with this `seq`; from the first, when nothing is said.
    #[serde(default)]
    after: u32,
}

/// Shows them no longer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Unfollow {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "unfollow"))]
    _type: Verb,
    #[serde(default, rename = "request")]
    _request: Option<Request>,
    job_id: JobId,
}

/// Stops a job, as `POST /v1/jobs/{id}/cancel` does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "cancel"))]
    _type: Verb,
    #[serde(default, rename = "request")]
    _request: Option<Request>,
    job_id: JobId,
}

/// What a command asks for.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Verb {
    Submit,
    Follow,
    Unfollow,
    Cancel,
}

/// A text of the client's own, at most 100 characters, that the answer to its command bears, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Request(#[schemars(length(max = 100))] String);

impl<'de> Deserialize<'de> for Request {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.chars().count() > REQUEST_MAX {
            return Err(D::Error::custom(format_args!("at most {REQUEST_MAX} characters")));
        }
        Ok(Self(text))
    }
}

/// What every frame has, whatever else is in it.
#[derive(Debug, Deserialize)]
struct Head {
    r#type: Verb,
    #[serde(default)]
    request: Option<Request>,
}

/// The name of a request that asks for nothing known.
#[derive(Debug, Deserialize)]
struct Named {
    #[serde(default)]
    request: Option<Request>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Command {
    Submit { kind: String, body: JsonBody, key: Option<KeyName>, follow: bool },
    Follow { id: JobId, after: u32 },
    Unfollow { id: JobId },
    Cancel { id: JobId },
}

/// A frame that was read.
pub(super) struct Asked {
    pub request: Option<Request>,
    pub command: Result<Command, ApiError>,
    /// How long its text is.
    pub bytes: usize,
}

impl Asked {
    /// Reads a frame. The body of a job may have `max_body` bytes.
    pub(super) fn read(text: Bytes, max_body: usize) -> Self {
        let (bytes, text) = (text.len(), JsonBody(text));
        match text.read() {
            Ok(Head { r#type, request }) => Self { request, command: Command::read(r#type, &text, max_body), bytes },
            Err(error) => {
                let request = text.read().ok().and_then(|Named { request }| request);
                Self { request, command: Err(error), bytes }
            }
        }
    }

    /// Whether one more job may be followed when this is done.
    pub(super) fn may_follow(&self) -> bool {
        self.is_followed_submission() || matches!(self.command, Ok(Command::Follow { .. }))
    }

    /// Whether a job may be made that is to be followed.
    pub(super) fn is_followed_submission(&self) -> bool {
        matches!(self.command, Ok(Command::Submit { follow: true, .. }))
    }
}

impl Command {
    fn read(verb: Verb, text: &JsonBody, max_body: usize) -> Result<Self, ApiError> {
        let frame = match verb {
            Verb::Submit => ClientFrame::Submit(text.read()?),
            Verb::Follow => ClientFrame::Follow(text.read()?),
            Verb::Unfollow => ClientFrame::Unfollow(text.read()?),
            Verb::Cancel => ClientFrame::Cancel(text.read()?),
        };
        Ok(match frame {
            ClientFrame::Submit(Submit { kind, job, idempotency_key: key, follow, .. }) => {
                let body = text.part(job.get());
                if body.0.len() > max_body {
                    return Err(ApiError::TooLarge { limit: max_body });
                }
                Self::Submit { kind, body, key, follow }
            }
            ClientFrame::Follow(Follow { job_id: id, after, .. }) => Self::Follow { id, after },
            ClientFrame::Unfollow(Unfollow { job_id: id, .. }) => Self::Unfollow { id },
            ClientFrame::Cancel(Cancel { job_id: id, .. }) => Self::Cancel { id },
        })
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("request", &self.request).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "019ab4a6-2c00-7000-8000-000000000000";

    fn read(text: &str) -> Asked {
        Asked::read(Bytes::copy_from_slice(text.as_bytes()), 100)
    }

    fn refused(text: &str) -> (String, ApiError) {
        let Asked { request, command, .. } = read(text);
        (request.map_or(String::new(), |request| request.0), command.unwrap_err())
    }

    #[test]
    fn commands_are_read() {
        let follow = read(&format!(r#"{{"type": "follow", "request": "r", "job_id": "{ID}", "after": 3}}"#));
        assert!(matches!(follow.command, Ok(Command::Follow { after: 3, .. })) && follow.may_follow());
        assert_eq!(follow.request, Some(Request("r".into())));
        let follow = read(&format!(r#"{{"job_id": "{ID}", "type": "follow"}}"#));
        assert!(matches!(follow.command, Ok(Command::Follow { after: 0, .. })) && follow.request.is_none());
        for (verb, follows) in [("unfollow", false), ("cancel", false)] {
            let read = read(&format!(r#"{{"type": "{verb}", "job_id": "{ID}"}}"#));
            assert_eq!((read.command.is_ok(), read.may_follow()), (true, follows));
        }
    }

    #[test]
    fn the_job_of_a_submission_is_kept_as_it_was_sent() {
        let job = "{ \"input\" :\n [1.0, 1e2], \"priority\": 4 }";
        let text = format!(r#"{{"type":"submit","kind":"echo","job": {job} ,"idempotency_key":"k","follow":true}}"#);
        let Asked { command, bytes, .. } = read(&text);
        let Ok(Command::Submit { kind, body, key: Some(_), follow: true }) = command else { panic!("{command:?}") };
        assert_eq!((kind.as_str(), &body.0[..], bytes), ("echo", job.as_bytes(), text.len()));
    }

    #[test]
    fn what_is_no_command_is_refused_and_its_request_told() {
        let long = "x".repeat(101);
        for (text, request, pointer) in [
            (r#"{"type": "fly", "request": "r"}"#, "r", "/type"),
            (r#"{"request": "r"}"#, "r", ""),
            (r#"["follow"]"#, "", ""),
            (&format!(r#"{{"type": "cancel", "request": "{long}"}}"#), "", "/request"),
            (r#"{"type": "cancel", "request": 7}"#, "", "/request"),
            (r#"{"type": "cancel", "request": "r"}"#, "r", ""),
            (r#"{"type": "cancel", "request": "r", "job_id": "x"}"#, "r", "/job_id"),
            (&format!(r#"{{"type": "follow", "request": "r", "job_id": "{ID}", "after": -1}}"#), "r", "/after"),
            (&format!(r#"{{"type": "cancel", "request": "r", "job_id": "{ID}", "after": 1}}"#), "r", "/after"),
            (
                r#"{"type": "submit", "request": "r", "kind": "echo", "job": {}, "idempotency_key": ""}"#,
                "r",
                "/idempotency_key",
            ),
        ] {
            let (told, error) = refused(text);
            assert_eq!(told, request, "{text}");
            let ApiError::InvalidRequest(violations) = error else { panic!("{text}: {error}") };
            assert_eq!(violations[0].pointer, pointer, "{text}: {violations:?}");
        }
        for text in ["", "{", "follow", r#"{"type": "cancel"} {}"#] {
            assert!(matches!(refused(text), (_, ApiError::BrokenJson(_))), "{text}");
        }
    }

    #[test]
    fn a_job_is_as_large_as_a_body_may_be() {
        let submit = |length: usize| {
            let job = format!(r#"{{"input":"{}"}}"#, "x".repeat(length - 12));
            read(&format!(r#"{{"type": "submit", "kind": "echo", "job": {job}}}"#)).command
        };
        assert!(submit(100).is_ok());
        assert!(matches!(submit(101), Err(ApiError::TooLarge { limit: 100 })));
    }
}
