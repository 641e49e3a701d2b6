//! Events as the server tells them.

use std::fmt;
use std::str::FromStr;

use buzzer_shared::id::JobId;
use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use buzzer_shared::time::Time;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sse_stream::{Sse, SseByteStream};
use url::Url;

use super::error::root_cause;
use super::{ClientError, Said};

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
pub(super) struct EventPage {
    pub(super) items: Vec<Box<RawValue>>,
}

/// The events of a job as they come.
pub struct Events {
    server: Url,
    stream: SseByteStream<BoxStream<'static, reqwest::Result<Bytes>>>,
}

impl Events {
    /// Those that this answer will have.
    pub(super) fn of(server: Url, response: Response) -> Self {
        Self { server, stream: SseByteStream::new(response.bytes_stream().boxed()) }
    }

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
pub struct Feed(pub(super) Events);

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
