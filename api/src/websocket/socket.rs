use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Goodbye;

/// So often a client is pinged: proxies cut what is silent, mostly after a minute.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A client of which nothing is heard for so long, no pong either, is gone: three pings.
const SILENCE: Duration = Duration::from_secs(45);
/// So long is waited for a client to say goodbye, too.
const PARTING: Duration = Duration::from_secs(2);
/// A message goes out in frames of so many bytes, for what is on its way is held twice.
const PIECE: usize = 16 * 1024;
/// A socket keeps so much room to read into, as long as it lives.
const READ_BUFFER: usize = 4 * 1024;

/// An open WebSocket. Whoever falls behind the pace of `pace.rs` is cut off under it.
#[derive(Debug)]
pub struct Socket<S = TokioIo<Upgraded>> {
    line: WebSocketStream<S>,
    /// The most bytes that a message of the client may have.
    largest: usize,
    ping_at: Instant,
    /// By then something must be heard; `None` as long as nobody listens.
    heard_by: Option<Instant>,
    /// Something came that cannot be read as WebSocket, and nothing can any more.
    is_garbled: bool,
}

/// What came from a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Text(Bytes),
    /// Something that nobody may send, or nothing for too long: it is to be told so, and there is nothing more to hear.
    Wrong(Goodbye),
    /// It has said goodbye, or is not there any longer.
    Gone,
}

/// Nothing can be said any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// The server's end of a line on which both have agreed to speak WebSocket.
    pub(super) async fn new(line: S, largest: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(largest))
            .max_frame_size(Some(largest));
        let line = WebSocketStream::from_raw_socket(line, Role::Server, Some(config)).await;
        let ping_at = Instant::now() + PING_EVERY;
        Self { line, largest, ping_at, heard_by: None, is_garbled: false }
    }

    /// Says one message, and ends when it is on its way. Must not be dropped half-way: the message would never end.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn say(&mut self, text: &str) -> Result<(), Gone> {
        let began = Instant::now();
        let mut rest = text.as_bytes();
        let mut part = Data::Text;
        loop {
            let (piece, more) = rest.split_at(rest.len().min(PIECE));
            let frame = Frame::message(Bytes::copy_from_slice(piece), OpCode::Data(part), more.is_empty());
            self.line.send(Message::Frame(frame)).await.map_err(|_| Gone)?;
            if more.is_empty() {
                break;
            }
            (rest, part) = (more, Data::Continue);
        }
        // As long as the client took that, nobody listened.
        self.heard_by = self.heard_by.map(|by| by + began.elapsed());
        Ok(())
    }

    /// The next that comes from the client. Sees to it that it is pinged, also when it is not to be listened to now. May be
    /// dropped at any time.
    pub async fn next(&mut self, listens: bool) -> Heard {
        self.heard_by = if listens { self.heard_by.or_else(heard_by) } else { None };
        loop {
            let silent = async |by: Option<Instant>| match by {
                Some(by) => sleep_until(by).await,
                None => pending().await,
            };
            tokio::select! {
                message = self.line.next(), if listens => {
                    self.heard_by = heard_by();
                    match message {
                        Some(Ok(Message::Text(text))) => return Heard::Text(text.into()),
                        Some(Ok(Message::Binary(_))) => return Heard::Wrong(Goodbye::BINARY),
                        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                        Some(Ok(Message::Close(_))) | None => return Heard::Gone,
                        Some(Err(error)) => return self.misheard(&error),
                    }
                }
                () = sleep_until(self.ping_at) => {
                    if self.ping().await.is_err() {
                        return Heard::Gone;
                    }
                }
                () = silent(self.heard_by) => return Heard::Wrong(Goodbye::SILENT),
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Error> {
        self.line.feed(Message::Ping(Bytes::new())).await?;
        self.ping_at = Instant::now() + PING_EVERY;
        self.line.flush().await
    }

    fn misheard(&mut self, error: &Error) -> Heard {
        self.is_garbled = true;
        tracing::debug!(%error, "a socket cannot be read");
        match error {
            Error::Capacity(_) => Heard::Wrong(Goodbye::too_large(self.largest)),
            Error::Utf8(_) => Heard::Wrong(Goodbye::NOT_UTF8),
            Error::Protocol(_) => Heard::Wrong(Goodbye::NO_WEBSOCKET),
            _ => Heard::Gone,
        }
    }

    /// Says goodbye, unless the client has done so already, and waits a moment for its answer.
    pub async fn close(mut self, goodbye: Option<Goodbye>) {
        let parting = async {
            if let Some(goodbye) = goodbye
                && self.line.send(Message::Close(Some(goodbye.into()))).await.is_err()
            {
                return;
            }
            loop {
                match self.line.next().await {
                    Some(Ok(_)) => {}
                    None if !self.is_garbled => return,
                    Some(Err(_)) | None => break,
                }
            }
            // What cannot be read as WebSocket is read as bytes: were they left lying, the system would reset the line, and the
            // client might never see why.
            let mut dropped = [0; 1024];
            while self.line.get_mut().read(&mut dropped).await.is_ok_and(|read| read > 0) {}
        };
        // Whoever has not answered by then will see the line end.
        let _ = timeout(PARTING, parting).await;
    }
}

fn heard_by() -> Option<Instant> {
    Some(Instant::now() + SILENCE)
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;

    use super::*;

    type Client = WebSocketStream<DuplexStream>;

    const LARGEST: usize = 1000;

    /// Both ends of a line that holds so many bytes.
    async fn line(bytes: usize) -> (Socket<DuplexStream>, Client) {
        let (server, client) = duplex(bytes);
        (Socket::new(server, LARGEST).await, WebSocketStream::from_raw_socket(client, Role::Client, None).await)
    }

    /// What a client sees, to the end: its close frame, if there is one.
    async fn farewell(mut client: Client) -> Option<CloseFrame> {
        let mut farewell = None;
        while let Some(Ok(message)) = client.next().await {
            if let Message::Close(frame) = message {
                farewell = frame;
            }
        }
        farewell
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_goes_out_in_pieces_and_arrives_as_one() {
        let (mut socket, mut client) = line(64).await;
        for length in [0, 1, PIECE, PIECE + 1, 5 * PIECE - 1] {
            // Pieces end within characters, too.
            let text = "ä".repeat(length);
            let (said, heard) = tokio::join!(socket.say(&text), client.next());
            said.unwrap();
            assert!(heard.unwrap().unwrap() == Message::text(text), "{length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_be_sent_is_told_by_its_code() {
        let text = |length: usize| Message::text("x".repeat(length));
        let raw = |bytes: &'static [u8]| {
            Message::Frame(Frame::message(Bytes::from_static(bytes), OpCode::Data(Data::Text), true))
        };
        for (message, heard) in [
            (text(LARGEST), Heard::Text("x".repeat(LARGEST).into())),
            (text(LARGEST + 1), Heard::Wrong(Goodbye::too_large(LARGEST))),
            (Message::binary("x"), Heard::Wrong(Goodbye::BINARY)),
            (raw(b"\xff"), Heard::Wrong(Goodbye::NOT_UTF8)),
            (Message::Close(None), Heard::Gone),
        ] {
            let (mut socket, mut client) = line(1 << 16).await;
            client.send(message).await.unwrap();
            assert_eq!(socket.next(true).await, heard);
        }
        let (mut socket, client) = line(1 << 16).await;
        drop(client);
        assert!(matches!(socket.next(true).await, Heard::Wrong(_) | Heard::Gone));
    }

    /// It has sent more than is read, and sees why it is closed all the same.
    #[tokio::test(start_paused = true)]
    async fn who_sends_too_much_is_told_so() {
        let (mut socket, client) = line(1 << 10).await;
        let (mut sending, telling) = (client, Goodbye::too_large(LARGEST));
        let client = tokio::spawn(async move {
            let _ = sending.send(Message::text("x".repeat(100_000))).await;
            farewell(sending).await
        });
        assert_eq!(socket.next(true).await, Heard::Wrong(telling.clone()));
        socket.close(Some(telling.clone())).await;
        assert_eq!(client.await.unwrap(), Some(telling.into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_pinged_and_gone_after_three() {
        let (server, mut client) = duplex(1 << 16);
        let mut socket = Socket::new(server, LARGEST).await;
        let began = Instant::now();
        assert_eq!(socket.next(true).await, Heard::Wrong(Goodbye::SILENT));
        assert_eq!(began.elapsed().as_secs(), SILENCE.as_secs());
        drop(socket);
        let mut pings = Vec::new();
        client.read_to_end(&mut pings).await.unwrap();
        assert!(pings.len() >= 4 && pings.chunks(2).all(|ping| ping == [0x89, 0]), "{pings:x?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_pings_stays_and_who_is_not_listened_to_is_not_silent() {
        let (mut socket, mut client) = line(1 << 16).await;
        let long = 10 * SILENCE;
        assert!(timeout(long, socket.next(false)).await.is_err());
        assert!(timeout(SILENCE / 2, socket.next(true)).await.is_err(), "it has the whole time again");
        let answers = tokio::spawn(async move { while let Some(Ok(_)) = client.next().await {} });
        assert!(timeout(long, socket.next(true)).await.is_err());
        answers.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_long_is_not_silent_meanwhile() {
        let (mut socket, mut client) = line(16).await;
        assert!(timeout(SILENCE / 4, socket.next(true)).await.is_err());
        let text = "x".repeat(PIECE);
        let takes = async {
            tokio::time::sleep(2 * SILENCE).await;
            client.next().await
        };
        let (said, _) = tokio::join!(socket.say(&text), takes);
        said.unwrap();
        assert!(timeout(SILENCE / 2, socket.next(true)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_much_and_says_nothing_is_silent_all_the_same() {
        let (server, _client) = duplex(1 << 16);
        let mut socket = Socket::new(server, LARGEST).await;
        let began = Instant::now();
        let heard = loop {
            socket.say("news").await.unwrap();
            if let Ok(heard) = timeout(Duration::from_secs(10), socket.next(true)).await {
                break heard;
            }
        };
        assert_eq!((heard, began.elapsed().as_secs()), (Heard::Wrong(Goodbye::SILENT), SILENCE.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_goodbye_is_not_waited_for_long() {
        let (socket, client) = line(1 << 16).await;
        let began = Instant::now();
        socket.close(Some(Goodbye::OVER)).await;
        assert_eq!(began.elapsed().as_secs(), PARTING.as_secs());
        assert_eq!(farewell(client).await, Some(Goodbye::OVER.into()));
        let (socket, client) = line(1 << 16).await;
        let (began, client) = (Instant::now(), tokio::spawn(farewell(client)));
        socket.close(Some(Goodbye::STOPPING)).await;
        assert!(began.elapsed() < PARTING);
        assert_eq!(client.await.unwrap(), Some(Goodbye::STOPPING.into()));
    }
}
