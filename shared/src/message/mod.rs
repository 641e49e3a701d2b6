//! What travels between the API and the workers.
//!
//! The body of a message is the bare input or output, so that it has the kind's own schema; all else stands in
//! properties and headers. Of what a user controls, only the last reports of a run go into a header, as JSON that cannot break it
//! (`docs/decisions/0007-reports-in-a-header.md`).
//!
//! [`Request`] goes out, [`Outcome`], [`Started`] and [`Signal`] come back, [`Announce`] and [`Beat`] tell of workers,
//! [`Control`] goes to all of them. Each is made into a [`Message`] and read back from one; the broker knows only the
//! latter.

mod control;
mod outcome;
mod pulse;
mod reply;
mod request;
mod signal;
mod spec;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use crate::time::Time;

pub use control::Control;
pub use outcome::{Outcome, Retry, ReturnReason, RunResult, TOLD_MAX};
pub use pulse::{ANNOUNCE_MAX, Announce, Beat, Knock, Pulse};
pub use reply::{Reply, Started};
pub use request::Request;
pub use signal::{Signal, SignalBody, Told};
pub use spec::{ALL as SPECS, HeaderForm, HeaderSpec, MessageSpec};

pub const JSON: &str = "application/json";

/// A message that is put aside keeps headers of so many bytes at most: with the reason, they must fit into one frame.
const PARKED_HEADERS_MAX: usize = 32 * 1024;
/// The headers that say why a message was put aside begin so.
const PARKED: &str = "parked-";

/// A message as a broker carries it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    /// What sort of message, with its version: `buzzer.request.v1`.
    pub r#type: Cow<'static, str>,
    /// At most 255 bytes, as AMQP has it; so are the next two.
    pub message_id: Option<String>,
    pub correlation_id: Option<String>,
    pub content_type: Cow<'static, str>,
    /// Who published it: set by the line that publishes, and vouched for by the broker.
    pub user_id: Option<String>,
    /// The broker drops the message when nobody took it for so long.
    pub expiration: Option<Duration>,
    /// 0 to 31, higher first, where the broker can.
    pub priority: Option<u8>,
    pub headers: Vec<(Cow<'static, str>, Header)>,
    pub body: Bytes,
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    Text(String),
    Int(i64),
    Bool(bool),
}

impl Header {
    /// About how many bytes it takes on the wire.
    fn size(&self) -> usize {
        match self {
            Header::Text(text) => text.len(),
            Header::Int(_) => 8,
            Header::Bool(_) => 1,
        }
    }
}

impl From<&str> for Header {
    fn from(text: &str) -> Self {
        Header::Text(text.into())
    }
}

impl From<u32> for Header {
    fn from(number: u32) -> Self {
        Header::Int(number.into())
    }
}

impl From<Duration> for Header {
    /// In milliseconds.
    fn from(length: Duration) -> Self {
        Header::Int(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Message {
    fn header(&self, name: &str) -> Option<&Header> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    fn text(&self, name: &'static str) -> Result<&str, Unreadable> {
        match self.header(name) {
            Some(Header::Text(text)) => Ok(text),
            Some(_) => Err(Unreadable::Header { name, expected: "a text" }),
            None => Err(Unreadable::Missing(name)),
        }
    }

    fn number<N: TryFrom<i64>>(&self, name: &'static str) -> Result<N, Unreadable> {
        match self.header(name) {
            Some(Header::Int(number)) => {
                N::try_from(*number).map_err(|_| Unreadable::Header { name, expected: "a number in range" })
            }
            Some(_) => Err(Unreadable::Header { name, expected: "a number" }),
            None => Err(Unreadable::Missing(name)),
        }
    }

    fn parsed<T: std::str::FromStr>(&self, name: &'static str, expected: &'static str) -> Result<T, Unreadable> {
        self.text(name)?.parse().map_err(|_| Unreadable::Header { name, expected })
    }

    /// A time in milliseconds, where there is one.
    fn time(&self, name: &'static str) -> Result<Option<Time>, Unreadable> {
        match self.header(name) {
            Some(_) => self.number(name).map(Time::from_millis).map(Some),
            None => Ok(None),
        }
    }

    /// A length of time in milliseconds, where there is one.
    fn length(&self, name: &'static str) -> Result<Option<Duration>, Unreadable> {
        match self.header(name) {
            Some(_) => self.duration(name).map(Some),
            None => Ok(None),
        }
    }

    /// Whether something is so; it is not where nothing is said.
    fn flag(&self, name: &'static str) -> Result<bool, Unreadable> {
        match self.header(name) {
            Some(Header::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Unreadable::Header { name, expected: "true or false" }),
            None => Ok(false),
        }
    }

    fn duration(&self, name: &'static str) -> Result<Duration, Unreadable> {
        self.number(name).map(Duration::from_millis)
    }

    fn run(&self) -> Result<crate::id::RunId, Unreadable> {
        let id = self.message_id.as_deref().ok_or(Unreadable::Missing("message_id"))?;
        id.parse().map_err(|_| Unreadable::Header { name: "message_id", expected: "{job}/{dispatch}" })
    }

    /// The same message, put aside: with where it was found, and why nobody could use it.
    #[must_use]
    pub fn parked(mut self, queue: &str, reason: &impl std::fmt::Display) -> Self {
        // It stays until somebody looks.
        self.expiration = None;
        let mut room = PARKED_HEADERS_MAX;
        self.headers.retain(|(name, value)| {
            let size = name.len() + value.size();
            // Who puts it aside says how it came here, and nobody else.
            let kept = !name.starts_with(PARKED) && size <= room;
            room -= if kept { size } else { 0 };
            kept
        });
        self.headers.push(("parked-from".into(), queue.into()));
        self.headers.push(("parked-reason".into(), Header::Text(reason.to_string())));
        self
    }

    fn expect_type(&self, expected: &'static str) -> Result<(), Unreadable> {
        if self.r#type == expected {
            Ok(())
        } else {
            Err(Unreadable::Type { found: self.r#type.to_string(), expected })
        }
    }
}

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("its type is {found:?}, expected {expected}")]
    Type { found: String, expected: &'static str },
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its {name} is not {expected}")]
    Header { name: &'static str, expected: &'static str },
    #[error("its body cannot be read: {0}")]
    Body(String),
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Unreadable::Body(error.to_string())
    }
}

/// Our own small messages are plain data with text keys; `serde_json` cannot fail on them.
fn to_json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_puts_a_message_aside_says_how_it_came_there() {
        let headers = ["parked-from", "parked-reason", "parked-sender", "parked-other", "result"];
        let headers = headers.map(|name| (name.into(), "forged".into())).to_vec();
        let parked = Message { headers, ..Message::default() }.parked("b.replies.v1", &"its type is wrong");
        assert_eq!(
            parked.headers,
            [
                ("result".into(), "forged".into()),
                ("parked-from".into(), "b.replies.v1".into()),
                ("parked-reason".into(), Header::from("its type is wrong"))
            ]
        );
    }
}
