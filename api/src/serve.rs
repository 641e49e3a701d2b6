//! The accept loop: axum's own has no limits, and clients that are silent, or send byte by byte, would hold their
//! connections for ever.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use buzzer_shared::shutdown::Shutdown;
use http::{Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::ServiceExt;

use crate::pace::{Pace, Paced};

/// A client has so long from the connection to its first whole request header.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// So long may a connection rest between two requests, longer than clients keep theirs in their pools; the headers of
/// the next request have the same time.
const REST: Duration = Duration::from_secs(75);
/// A client that takes less of what there is for it is cut off. Whoever reads a stream of events goes on from the last one
/// that it had.
const PACE: Pace = Pace { bytes: 64 * 1024, each: Duration::from_secs(30) };
/// So many bytes does the system take for a client beyond those that are on their way to it. It would take megabytes, and
/// ask for more only when a good part of them was taken: that would hold memory, and hide the pace.
const UNSENT_MAX: u32 = 64 * 1024;
/// So many connections are open at a time; more wait in the backlog of the socket.
const CONNECTIONS_MAX: usize = 16_384;
/// After a failed accept, mostly for want of file descriptors, others get time to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until shutdown is requested, then lets what is under way finish, for at most `drain`. No connection is left
/// when this ends.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown, drain: Duration) {
    let connections = Connections::new(router, FIRST_REQUEST, PACE);
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
    pace: Pace,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    cut: CancellationToken,
}

impl Connections {
    fn new(router: Router, first_request: Duration, pace: Pace) -> Self {
        Self {
            router,
            first_request,
            pace,
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
        let _ = bound_unsent(&stream);
        let asked = CancellationToken::new();
        let hold = self.hold(place);
        let stream = Paced::new(stream, self.pace);
        let connection = connection(stream, self.router.clone(), asked.clone(), hold.clone(), self.stopping.clone());
        let first_request = self.first_request;
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                }
                // hyper has one limit for the first request and those that follow, and it fits those.
                Err(_) = tokio::time::timeout(first_request, asked.cancelled()) => {
                    tracing::debug!("a connection without a request is closed");
                }
                () = hold.cut() => {}
            }
        });
    }

    fn hold(&self, place: OwnedSemaphorePermit) -> Hold {
        Hold { cut: self.cut.clone(), _counted: self.tasks.token(), _place: Arc::new(place) }
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

/// A connection's place among all that are open. Who takes the connection over from HTTP, as a WebSocket does, holds it on: it
/// is in the extensions of a request to upgrade.
#[derive(Debug, Clone)]
pub struct Hold {
    cut: CancellationToken,
    _counted: TaskTrackerToken,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Hold {
    /// Ends when the connection is to end at once, wherever it stands.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }
}

/// One connection, to its end, or until it is taken over. `asked` is canceled by its first request; asked to stop, it
/// finishes what is under way.
///
/// HTTP/1.1 alone, which is what proxies speak to what stands behind them: in HTTP/2 each stream has a window of its own, and
/// a client that opens none of them would be alive as far as its connection tells.
async fn connection(
    stream: Paced<TcpStream>,
    router: Router,
    asked: CancellationToken,
    hold: Hold,
    stopping: CancellationToken,
) -> hyper::Result<()> {
    let service = TowerToHyperService::new(router.map_request(move |mut request: Request<Incoming>| {
        asked.cancel();
        if request.headers().contains_key(header::UPGRADE) {
            request.extensions_mut().insert(hold.clone());
        }
        request
    }));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REST);
    // In a box, for each future that a connection passes through would keep room for it, as long as it lives.
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Where the system knows no such bound, a slow client is noticed later.
fn bound_unsent(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_MAX)?;
    Ok(())
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::response::IntoResponse;
    use axum::routing::get;
    use http::StatusCode;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const NEVER: Duration = Duration::from_secs(3600);
    const NO_PACE: Pace = Pace { bytes: 1, each: NEVER };

    async fn connected(connections: &Connections) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, place) = connections.accept(&listener).await.unwrap();
        connections.serve(stream, place);
        client
    }

    #[tokio::test]
    async fn a_client_that_never_asks_is_cut_off() {
        let connections = Connections::new(Router::new(), SOON, NO_PACE);
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
    async fn who_begins_in_http_2_is_closed_at_once() {
        let connections = Connections::new(Router::new(), NEVER, NO_PACE);
        let mut client = connected(&connections).await;
        // After that (RFC 9113, section 3.4) comes a frame of settings: empty, and of type 4.
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
        connections.tasks.close();
        connections.tasks.wait().await;
    }

    /// It asks for more than any socket holds, and takes nothing, or too little.
    #[tokio::test]
    async fn a_client_that_takes_next_to_nothing_is_cut_off() {
        let endless = async || {
            let chunks = std::iter::repeat_with(|| Ok::<_, io::Error>(vec![b'x'; 1 << 20]));
            axum::body::Body::from_stream(futures_util::stream::iter(chunks))
        };
        for takes in [0, 1 << 10] {
            let pace = Pace { bytes: 64 << 20, each: 4 * SOON };
            let connections = Connections::new(Router::new().route("/", get(endless)), NEVER, pace);
            let mut client = connected(&connections).await;
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let trickle = tokio::spawn(async move {
                let mut taken = vec![0; takes];
                while client.read_exact(&mut taken).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            connections.tasks.close();
            connections.tasks.wait().await;
            trickle.abort();
        }
    }

    #[tokio::test]
    async fn who_has_asked_nothing_holds_up_no_end() {
        let connections = Connections::new(Router::new(), NEVER, NO_PACE);
        let silent = connected(&connections).await;
        let mut rests = connected(&connections).await;
        rests.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        rests.read_exact(&mut [0; 4]).await.unwrap();
        connections.end(NEVER, &Shutdown::default()).await;
        drop(silent);
    }

    #[tokio::test]
    async fn a_request_that_outlasts_the_drain_is_cut_off() {
        let connections = Connections::new(Router::new().route("/", get(pending::<()>)), NEVER, NO_PACE);
        let mut client = connected(&connections).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        connections.end(SOON, &Shutdown::default()).await;
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
    }

    /// Goes on by another protocol, in which it sends without end.
    async fn taken_over(mut request: axum::extract::Request) -> axum::response::Response {
        let line = hyper::upgrade::on(&mut request);
        let hold: Hold = request.extensions_mut().remove().unwrap();
        tokio::spawn(async move {
            let mut line = TokioIo::new(line.await.unwrap());
            let endless = async { while line.write_all(&[b'x'; 1 << 16]).await.is_ok() {} };
            tokio::select! {
                () = endless => {}
                () = hold.cut() => {}
            }
        });
        (StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "other")]).into_response()
    }

    async fn take_over(connections: &Connections) -> TcpStream {
        let mut client = connected(connections).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        client
    }

    #[tokio::test]
    async fn who_has_taken_a_connection_over_is_cut_off_like_any_other_that_takes_nothing() {
        let pace = Pace { bytes: 64 << 20, each: 4 * SOON };
        let connections = Connections::new(Router::new().route("/", get(taken_over)), SOON, pace);
        let _client = take_over(&connections).await;
        connections.tasks.close();
        connections.tasks.wait().await;
        assert_eq!(connections.places.available_permits(), CONNECTIONS_MAX);
    }

    #[tokio::test]
    async fn a_connection_that_was_taken_over_is_waited_for_and_cut_off_after_the_drain() {
        let connections = Connections::new(Router::new().route("/", get(taken_over)), NEVER, NO_PACE);
        let _client = take_over(&connections).await;
        let began = std::time::Instant::now();
        connections.end(4 * SOON, &Shutdown::default()).await;
        assert!(began.elapsed() >= 4 * SOON, "nobody waited for it");
    }
}
