//! The accept loop: axum's own has no limits, and clients that are silent, or send byte by byte, would hold their
//! connections for ever.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use buzzer_shared::shutdown::Shutdown;
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// A client has so long from the connection to its first whole request header.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// So long may a connection rest between two requests, longer than clients keep theirs in their pools; the headers of
/// the next request have the same time.
const REST: Duration = Duration::from_secs(75);
/// A client that takes nothing of what there is for it is cut off after this. Whoever reads a stream of events goes on
/// from the last one that it had.
const STUCK: Duration = Duration::from_secs(30);
/// How often a connection of HTTP/2 is asked whether somebody is still there.
const PING_EVERY: Duration = Duration::from_secs(10);
/// So many connections are open at a time; more wait in the backlog of the socket.
const CONNECTIONS_MAX: usize = 16_384;
/// So does a connection of HTTP/2 begin (RFC 9113, section 3.4), and none of HTTP/1 does.
const HTTP_2: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A client that has sent a part of that is looked at again so soon, and then less and less often.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// After a failed accept, mostly for want of file descriptors, others get time to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until shutdown is requested, then lets what is under way finish, for at most `drain`. No connection is left
/// when this ends.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown, drain: Duration) {
    let connections = Connections::new(router, FIRST_REQUEST, STUCK);
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            accepted = connections.accept(&listener) => accepted,
        };
        match accepted {
            Ok((stream, place)) => connections.serve(stream, place),
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.end(drain, &shutdown).await;
}

/// Every open connection.
struct Connections {
    router: Router,
    first_request: Duration,
    stuck: Duration,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    cut: CancellationToken,
}

impl Connections {
    fn new(router: Router, first_request: Duration, stuck: Duration) -> Self {
        Self {
            router,
            first_request,
            stuck,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = listener.accept().await?;
        Ok((stream, place))
    }

    fn serve(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        // Answers are small and complete: waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let asked = CancellationToken::new();
        let connection = connection(stream, self.router.clone(), asked.clone(), self.stuck, self.stopping.clone());
        let (cut, first_request) = (self.cut.clone(), self.first_request);
        self.tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                }
                // hyper's own limits begin only once it knows the version of HTTP, and a silent client never tells.
                Err(_) = tokio::time::timeout(first_request, asked.cancelled()) => {
                    tracing::debug!("a connection without a request is closed");
                }
                () = cut.cancelled() => {}
            }
        });
    }

    /// Lets the requests under way finish, for at most `drain`; then cuts what is still open.
    async fn end(self, drain: Duration, shutdown: &Shutdown) {
        self.stopping.cancel();
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = tokio::time::sleep(drain) => tracing::warn!("some requests did not end in time; they are cut off"),
            () = shutdown.forced() => {}
        }
        self.cut.cancel();
        self.tasks.wait().await;
    }
}

/// One connection, to its end. `asked` is canceled by its first request.
async fn connection(
    stream: TcpStream,
    router: Router,
    asked: CancellationToken,
    stuck: Duration,
    stopping: CancellationToken,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let version = tokio::select! {
        version = version(&stream) => version?,
        () = stopping.cancelled() => return Ok(()),
    };
    let service = TowerToHyperService::new(router.map_request(move |request: Request<Incoming>| {
        asked.cancel();
        request
    }));
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(stuck));
    let stream = TokioIo::new(Box::pin(stream));
    if version == Version::HTTP_2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(Some(PING_EVERY));
        let connection = Box::pin(builder.serve_connection(stream, service));
        to_its_end(connection, &stopping, http2::Connection::graceful_shutdown).await?;
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(REST);
        let connection = Box::pin(builder.serve_connection(stream, service));
        to_its_end(connection, &stopping, http1::Connection::graceful_shutdown).await?;
    }
    Ok(())
}

/// Asked to stop, it finishes what is under way. In a box, for each future that a connection passes through would keep
/// room for it, as long as it lives.
async fn to_its_end<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<Box<C>>,
    stopping: &CancellationToken,
    finish: impl FnOnce(Pin<&mut C>),
) -> hyper::Result<()> {
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stopping.cancelled() => finish(connection.as_mut()),
    }
    connection.await
}

/// The version that a client begins with. hyper-util would find out by itself, but it takes the first bytes away for
/// that: hyper then reads the first request in two parts, and keeps a buffer of twice the size for as long as the
/// connection lives.
async fn version(stream: &TcpStream) -> io::Result<Version> {
    let mut begins = [0; HTTP_2.len()];
    let mut pause = LOOK_AGAIN;
    loop {
        let seen = stream.peek(&mut begins).await?;
        if begins == HTTP_2 {
            return Ok(Version::HTTP_2);
        }
        // Also where nothing came: hyper ends it.
        if seen == 0 || !HTTP_2.starts_with(&begins[..seen]) {
            return Ok(Version::HTTP_11);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const NEVER: Duration = Duration::from_secs(3600);

    async fn connected(connections: &Connections) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, place) = connections.accept(&listener).await.unwrap();
        connections.serve(stream, place);
        client
    }

    #[tokio::test]
    async fn a_client_that_never_asks_is_cut_off() {
        let connections = Connections::new(Router::new(), SOON, NEVER);
        for half in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let mut client = connected(&connections).await;
            client.write_all(half.as_bytes()).await.unwrap();
            // Closed, or reset: it has ended either way.
            let _ = client.read_to_end(&mut Vec::new()).await;
        }
        connections.tasks.close();
        connections.tasks.wait().await;
        assert_eq!(connections.places.available_permits(), CONNECTIONS_MAX);
    }

    #[tokio::test]
    async fn a_client_is_answered_in_the_version_that_it_begins_with() {
        let connections = Connections::new(Router::new(), NEVER, NEVER);
        // After that, HTTP/2 has a frame of settings: empty, and of type 4.
        let http_2 = [&HTTP_2[..], b"\0\0\0\x04\0\0\0\0\0"].concat();
        // The fourth byte of the answer tells: "HTTP", or the type of the server's own settings.
        for (request, fourth) in [(&http_2[..], 4), (b"PUT / HTTP/1.1\r\nhost: x\r\n\r\n", b'P')] {
            let mut client = connected(&connections).await;
            client.write_all(request).await.unwrap();
            let mut answer = [0; 4];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer[3], fourth, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn the_version_is_known_as_soon_as_the_first_bytes_tell() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (rest, expected) in [(&HTTP_2[2..], Version::HTTP_2), (b"OPFIND / HTTP/1.1", Version::HTTP_11)] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            client.write_all(&HTTP_2[..2]).await.unwrap();
            stream.readable().await.unwrap();
            let mut found = pin!(version(&stream));
            assert!(futures_util::poll!(found.as_mut()).is_pending(), "two bytes do not tell");
            client.write_all(rest).await.unwrap();
            assert_eq!(found.await.unwrap(), expected);
        }
    }

    /// It asks for more than any socket holds, and reads nothing.
    #[tokio::test]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let endless = async || {
            let chunks = std::iter::repeat_with(|| Ok::<_, io::Error>(vec![b'x'; 1 << 20]));
            axum::body::Body::from_stream(futures_util::stream::iter(chunks))
        };
        let connections = Connections::new(Router::new().route("/", get(endless)), NEVER, SOON);
        let mut client = connected(&connections).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        connections.tasks.close();
        connections.tasks.wait().await;
        drop(client);
    }

    #[tokio::test]
    async fn who_has_asked_nothing_holds_up_no_end() {
        let connections = Connections::new(Router::new(), NEVER, NEVER);
        let silent = connected(&connections).await;
        let mut rests = connected(&connections).await;
        rests.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        rests.read_exact(&mut [0; 4]).await.unwrap();
        connections.end(NEVER, &Shutdown::default()).await;
        drop(silent);
    }

    #[tokio::test]
    async fn a_request_that_outlasts_the_drain_is_cut_off() {
        let connections = Connections::new(Router::new().route("/", get(pending::<()>)), NEVER, NEVER);
        let mut client = connected(&connections).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        connections.end(SOON, &Shutdown::default()).await;
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
    }
}
