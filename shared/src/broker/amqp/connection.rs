//! One connection to RabbitMQ, from its opening to its end.

use std::fmt;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_rs::Tokio;
use futures_util::{Stream, StreamExt};
use lapin::options::ConfirmSelectOptions;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::DEADLINE;
use super::readable::{self, Readable};

/// Seconds. RabbitMQ's own default of 60 lets a dead line go unseen for two minutes.
const HEARTBEAT: u16 = 10;
/// Bytes; what RabbitMQ itself asks for. lapin has two buffers of 32 frames for each connection: those that it enlarges once it has
/// heard RabbitMQ's number are memory from then on, 8 MiB for each connection; those that it makes large are memory where data was.
const FRAME_MAX: u32 = 131_072;
/// For the socket and TLS; less than [`DEADLINE`], so that a connection that was given up never opens a socket late.
const SOCKET_DEADLINE: Duration = Duration::from_secs(8);
/// How often the connection is looked at besides its events, since a connection may also close without one.
const LOOK: Duration = Duration::from_millis(500);
/// A clean close is a courtesy to the broker's log.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Where the broker is. Holds a password: it is never printed.
#[derive(Clone)]
pub(super) struct Address {
    uri: Result<AMQPUri, String>,
    shown: String,
}

impl Address {
    pub(super) fn new(url: &url::Url) -> Self {
        let shown = crate::config::BrokerAddress::Amqp(url.clone()).redacted();
        let uri = url.as_str().parse::<AMQPUri>().map(|mut uri| {
            // lapin's parser takes an IPv6 address for no host at all, and that for localhost.
            if let Some(url::Host::Ipv6(host)) = url.host() {
                uri.authority.host = host.to_string();
            }
            uri.query.heartbeat = Some(HEARTBEAT);
            uri.query.frame_max.get_or_insert(FRAME_MAX);
            uri
        });
        Self { uri, shown }
    }

    pub(super) fn uri(&self) -> Result<AMQPUri, String> {
        self.uri.clone().map_err(|error| format!("the address in BUZZER_BROKER cannot be read: {error}"))
    }

    /// Who logs in.
    pub(super) fn user(&self) -> Option<&str> {
        self.uri.as_ref().ok().map(|uri| uri.authority.userinfo.username.as_str())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// An open connection.
pub(super) struct Connection {
    inner: lapin::Connection,
    socket: Socket,
    blocked: watch::Sender<Option<String>>,
    given_up: CancellationToken,
    reason: OnceLock<String>,
}

/// What RabbitMQ says about a connection.
pub(super) type Events = std::pin::Pin<Box<dyn Stream<Item = Event> + Send>>;

impl Connection {
    /// Opens a connection that RabbitMQ's pages show as `name`.
    pub(super) async fn open(address: &Address, name: &str) -> Result<(Arc<Self>, Events), Unopened> {
        let uri = address.uri().map_err(Unopened::Refused)?;
        let socket = Socket::default();
        let ours = socket.clone();
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connecting = async move |uri: AMQPUri, _| {
            let opening = async {
                let stream = connect(&uri).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    ours.keep(plain.get_ref())?;
                }
                Ok(AsyncTcpStream::Plain(Readable::new(encrypted(stream, &uri).await?)))
            };
            let late = |_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to the connect"));
            timeout(SOCKET_DEADLINE, opening).await.unwrap_or_else(late).map_err(lapin::Error::from)
        };
        let opening = lapin::Connection::connector(uri, readable::runtime(), connecting, properties);
        let inner = match timeout(DEADLINE, Box::pin(opening)).await {
            Ok(opened) => opened.map_err(|error| Unopened::from(&error))?,
            Err(_) => {
                socket.shut();
                return Err(Unopened::Away("no answer to the handshake".into()));
            }
        };
        let events: Events = Box::pin(inner.events_listener());
        let connection = Self {
            inner,
            socket,
            blocked: watch::Sender::new(None),
            given_up: CancellationToken::new(),
            reason: OnceLock::new(),
        };
        Ok((Arc::new(connection), events))
    }

    /// A fresh channel.
    pub(super) async fn channel(&self) -> Result<Channel, String> {
        within(self.inner.create_channel()).await.map_err(|failed| failed.to_string())
    }

    /// A fresh channel on which every publish is confirmed.
    pub(super) async fn confirm_channel(&self) -> Result<Channel, String> {
        let channel = self.channel().await?;
        let confirming = within(channel.confirm_select(ConfirmSelectOptions::default())).await;
        confirming.map_err(|failed| failed.to_string())?;
        Ok(channel)
    }

    pub(super) fn is_open(&self) -> bool {
        self.inner.status().connected() && !self.given_up.is_cancelled()
    }

    /// Why RabbitMQ takes no messages now, and whenever that changes.
    pub(super) fn blocked(&self) -> watch::Receiver<Option<String>> {
        self.blocked.subscribe()
    }

    /// Breaks the connection off: it is of no use any more. Cuts the socket, since lapin waits for a silent broker
    /// until the heartbeat ends it, and for a blocked one for ever.
    pub(super) fn give_up(&self, reason: &str) {
        // The first reason is the true one.
        let _ = self.reason.set(reason.into());
        self.given_up.cancel();
        self.socket.shut();
    }

    /// Waits for the connection's end, tells `blocked` of alarms meanwhile, and says why it ended.
    pub(super) async fn ended(&self, mut events: Events, mut blocked: impl FnMut(Option<&str>)) -> String {
        let mut look = tokio::time::interval(LOOK);
        let mut last_error = None;
        let reason = loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.given_up.cancelled() => break self.reason.get().cloned(),
                _ = look.tick() => if self.is_open() { continue } else { None },
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    blocked(Some(&reason));
                    self.blocked.send_replace(Some(reason));
                }
                Some(Event::ConnectionUnblocked) => {
                    self.blocked.send_replace(None);
                    blocked(None);
                }
                // A channel's error comes this way too.
                Some(Event::Error(error)) if !self.inner.status().connected() => last_error = Some(shown(&error)),
                Some(_) => {}
                None => break last_error,
            }
            if !self.is_open() {
                break last_error;
            }
        };
        self.socket.shut();
        reason.unwrap_or_else(|| "the broker closed the connection".into())
    }

    /// Closes the connection as AMQP has it.
    pub(super) async fn close(&self) {
        // Whether the broker heard it makes no difference any more.
        let _ = timeout(CLOSE_DEADLINE, self.inner.close(200, "OK".into())).await;
        self.give_up("closed");
    }
}

/// A socket to RabbitMQ, encrypted if the address says so.
pub(super) async fn dial(uri: &AMQPUri) -> std::io::Result<readable::Socket> {
    encrypted(connect(uri).await?, uri).await
}

async fn connect(uri: &AMQPUri) -> std::io::Result<readable::Socket> {
    let host = (uri.authority.host.as_str(), uri.authority.port);
    let addresses: Vec<_> = tokio::net::lookup_host(host).await?.collect();
    readable::Socket::connect(&Tokio::current(), addresses).await
}

async fn encrypted(stream: readable::Socket, uri: &AMQPUri) -> std::io::Result<readable::Socket> {
    match uri.scheme {
        AMQPScheme::AMQP => Ok(stream),
        AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, OwnedTLSConfig::default().as_ref()).await,
    }
}

/// A connection for one errand, which must touch no other. Cut when it is dropped.
#[derive(Debug)]
pub(super) struct Errand(Arc<Connection>);

impl Errand {
    pub(super) async fn open(address: &Address, name: &str) -> Result<Self, Unopened> {
        let (connection, _) = Connection::open(address, name).await?;
        Ok(Self(connection))
    }
}

impl std::ops::Deref for Errand {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.0.give_up("done");
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

/// A second handle of a connection's socket.
///
/// lapin drives a socket in a thread of its own, which lives on while the peer keeps silent. Shutting the socket is
/// the one thing that always ends it; without it, each try to reach a frozen broker would leave a thread behind.
#[derive(Debug, Clone, Default)]
struct Socket(Arc<Mutex<Option<std::net::TcpStream>>>);

impl Socket {
    fn keep(&self, stream: &impl std::os::fd::AsFd) -> std::io::Result<()> {
        let handle = stream.as_fd().try_clone_to_owned()?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.into());
        Ok(())
    }

    fn shut(&self) {
        if let Some(stream) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error says that it is shut already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Why an operation did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failed {
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Silent,
    #[error("{0}")]
    Refused(String),
}

/// What an operation said within the deadline, or why it did not.
pub(super) async fn within<T>(operation: impl Future<Output = lapin::Result<T>>) -> Result<T, Failed> {
    match timeout(DEADLINE, operation).await {
        Ok(answer) => answer.map_err(|error| Failed::Refused(shown(&error))),
        Err(_) => Err(Failed::Silent),
    }
}

/// An error as people should read it.
pub(super) fn shown(error: &lapin::Error) -> String {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

/// Why a connection could not be opened. Without the password.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Unopened {
    /// It is there and says no: that lasts until somebody changes something.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Away(String),
}

impl From<&lapin::Error> for Unopened {
    fn from(error: &lapin::Error) -> Self {
        let words = shown(error);
        match way_out(error, &words) {
            Some(way_out) => Self::Refused(format!("{way_out} ({words})")),
            None => Self::Away(words),
        }
    }
}

/// What RabbitMQ says to a user without a permission, with what to do about it.
pub(super) fn with_way_out(words: &str) -> String {
    if words.starts_with("ACCESS_REFUSED") {
        format!("{words}; give the user in BUZZER_BROKER this permission, `buzzer doctor` tells how")
    } else {
        words.into()
    }
}

/// What to do about a broker that says no.
fn way_out(error: &lapin::Error, words: &str) -> Option<&'static str> {
    let lapin::ErrorKind::ProtocolError(protocol) = error.kind() else { return None };
    match protocol.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
            Some("wrong name or password: correct them in BUZZER_BROKER, or set the user's password on the broker")
        }
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if words.contains("refused for user") => {
            Some("the user may not use this vhost: give it permissions there, or correct BUZZER_BROKER")
        }
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if words.contains("vhost") => {
            Some("there is no such vhost: add it on the broker, or correct BUZZER_BROKER")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn unopened(kind: AMQPErrorKind, words: &str) -> String {
        let error = lapin::Error::from(lapin::ErrorKind::ProtocolError(AMQPError::new(kind, words.into())));
        format!("{:?}", Unopened::from(&error))
    }

    #[test]
    fn a_broker_that_says_no_is_told_with_the_way_out() {
        let not_allowed = || AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED);
        for (kind, words, said) in [
            (
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED),
                "ACCESS_REFUSED - Login was refused",
                "wrong name or password",
            ),
            (not_allowed(), "NOT_ALLOWED - vhost b not found", "there is no such vhost"),
            (not_allowed(), "NOT_ALLOWED - access to vhost 'b' refused for user 'u'", "may not use this vhost"),
        ] {
            let told = unopened(kind, words);
            assert!(told.starts_with("Refused") && told.contains(said) && told.contains(words), "{told}");
        }
        let forced = unopened(AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED), "CONNECTION_FORCED - shutdown");
        assert!(forced.starts_with("Away"), "{forced}");
    }
}
