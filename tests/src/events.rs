//! A reader of server-sent events, as a browser has one: it knows what it saw last.

use std::sync::Arc;
use std::{error, io};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use futures_util::{Stream, TryStreamExt};
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use sse_stream::SseByteStream;

use crate::conformance::{self, Answered, Asked, Document};

/// An open stream.
#[expect(missing_debug_implementations, reason = "what it reads from cannot be shown")]
pub struct EventStream {
    blocks: SseByteStream<BoxStream<'static, io::Result<Bytes>>>,
    /// The last `id` that came, with an event or without.
    pub last_id: Option<String>,
    pub headers: HeaderMap,
    /// What each event is looked at by, where it could be had.
    document: Option<Arc<Document>>,
}

/// An event as a stream shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub id: String,
    pub r#type: String,
    pub event: Value,
}

impl EventStream {
    /// Opens a stream. `Ok(None)`: there will be nothing more.
    ///
    /// # Errors
    /// When nobody answers.
    ///
    /// # Panics
    /// When something else than a stream is answered.
    pub async fn open(request: RequestBuilder) -> reqwest::Result<Option<Self>> {
        let (asked, response) = conformance::send(request.header("accept", "text/event-stream")).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        if response.status() != StatusCode::OK {
            panic!("no stream, but {}: {}", response.status(), response.text().await?);
        }
        Ok(Some(Self::answered(&asked, response).await))
    }

    /// Reads the body of this answer, which is looked at as the document of its server has it.
    pub(crate) async fn answered(asked: &Asked, response: Response) -> Self {
        let headers = response.headers().clone();
        let document = asked.answered(&Answered { status: response.status(), headers: &headers, body: None }).await;
        Self { document, ..Self::read(headers, response.bytes_stream()) }
    }

    /// Reads the body of an answer that has these headers.
    ///
    /// # Panics
    /// When they are not those of a stream.
    pub fn read<E>(headers: HeaderMap, body: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Self
    where
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        assert_eq!(headers["content-type"], "text/event-stream");
        Self {
            blocks: SseByteStream::new(body.map_err(io::Error::other).boxed()),
            last_id: None,
            headers,
            document: None,
        }
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// When the stream is cut.
    ///
    /// # Panics
    /// When what comes is not as it should be.
    pub async fn next(&mut self) -> Result<Option<Shown>, sse_stream::Error> {
        while let Some(block) = self.blocks.next().await {
            let block = block?;
            if block.id.is_some() {
                self.last_id.clone_from(&block.id);
            }
            let Some(data) = block.data else { continue };
            let event: Value = serde_json::from_str(&data).expect("JSON");
            let r#type = block.event.expect("a type");
            assert_eq!(event["type"], r#type);
            let checked = self.document.as_ref().map_or(Ok(()), |document| document.check_event(&event));
            checked.unwrap_or_else(|deviation| panic!("not as the document has it: {deviation}"));
            return Ok(Some(Shown { id: block.id.expect("an id"), r#type, event }));
        }
        Ok(None)
    }

    /// All that comes until the end.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn rest(mut self) -> Result<Vec<Shown>, sse_stream::Error> {
        let mut all = Vec::new();
        while let Some(shown) = self.next().await? {
            all.push(shown);
        }
        Ok(all)
    }
}
