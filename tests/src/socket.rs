//! A WebSocket client, for tests.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::Client;
use crate::wait::within;
use crate::wire::WireDocument;

/// For a word of the server, on a busy machine, also while something is started again.
const SOON: Duration = Duration::from_secs(90);

/// An open socket.
#[derive(Debug)]
pub struct Socket {
    line: WebSocketStream<TcpStream>,
    /// What frames are looked at by; `None` of a socket that shows bare events, and where it could not be had.
    document: Option<Arc<WireDocument>>,
}

/// How a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this code and reason.
    Closed { code: u16, reason: String },
    /// Without a word.
    Cut,
}

impl End {
    /// The code; 0 where there was none.
    pub fn code(&self) -> u16 {
        match self {
            Self::Closed { code, .. } => *code,
            Self::Cut => 0,
        }
    }
}

impl Socket {
    /// Opens the socket at this path, as whoever `client` is.
    ///
    /// # Errors
    /// When nobody answers, or the answer is none.
    pub async fn open(client: &Client, path: &str) -> Result<Self, Error> {
        Self::open_from(client, path, None).await
    }

    /// The same, as a browser does for a page of this origin.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_from(client: &Client, path: &str, origin: Option<&str>) -> Result<Self, Error> {
        let address = client.base().strip_prefix("http://").expect("an address");
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        if let Some(key) = client.key() {
            request.headers_mut().insert("authorization", header(&format!("Bearer {key}")));
        }
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", header(origin));
        }
        let line = TcpStream::connect(address).await?;
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let opened = tokio_tungstenite::client_async_with_config(request, line, Some(config));
        let line = within("a socket to open", SOON, opened).await?.0;
        let has_frames = path.split('?').next() == Some("/v1/socket");
        let document = if has_frames { WireDocument::of(client.base()).await } else { None };
        Ok(Self { line, document })
    }

    /// The next text.
    ///
    /// # Errors
    /// How the socket ended.
    pub async fn text(&mut self) -> Result<String, End> {
        loop {
            match within("a word on a socket", SOON, self.line.next()).await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let end = frame.map_or(End::Cut, |CloseFrame { code, reason }| End::Closed {
                        code: code.into(),
                        reason: reason.as_str().to_owned(),
                    });
                    // The server closes the line once it has our goodbye.
                    while let Some(Ok(_)) = within("the end of a line", SOON, self.line.next()).await {}
                    return Err(end);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(End::Cut),
            }
        }
    }

    /// The next text, which is JSON.
    ///
    /// # Errors
    /// How the socket ended.
    pub async fn next(&mut self) -> Result<Value, End> {
        let text = self.text().await?;
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let checked = self.document.as_ref().map_or(Ok(()), |document| document.check_frame(&value));
        checked.unwrap_or_else(|deviation| panic!("not as the document has it: {deviation}"));
        Ok(value)
    }

    /// All that comes to the end, and how it ended.
    pub async fn rest(mut self) -> (Vec<Value>, End) {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Ok(value) => all.push(value),
                Err(end) => return (all, end),
            }
        }
    }

    /// Says this. Whether it arrives, what is heard then tells.
    pub async fn say(&mut self, message: impl Into<Message>) {
        let _ = self.line.send(message.into()).await;
    }

    /// Puts this on its way, as far as there is room, and does not wait until it is gone.
    pub async fn feed(&mut self, message: impl Into<Message>) {
        let _ = self.line.feed(message.into()).await;
    }

    /// Sends on what is on its way.
    pub async fn flush(&mut self) {
        let _ = self.line.flush().await;
    }

    /// Says this text so many times as one message, in a frame for each.
    pub async fn pieces(&mut self, text: &str, count: usize) {
        for n in 1..=count {
            let part = if n == 1 { Data::Text } else { Data::Continue };
            let frame = Frame::message(text.to_owned(), OpCode::Data(part), n == count);
            self.feed(Message::Frame(frame)).await;
        }
        self.flush().await;
    }

    /// Says goodbye, and waits for the end.
    pub async fn close(mut self) -> End {
        let goodbye = CloseFrame { code: 1000.into(), reason: "".into() };
        let _ = self.line.close(Some(goodbye)).await;
        self.rest().await.1
    }
}

fn header(value: &str) -> HeaderValue {
    value.parse().expect("a header")
}
