//! The accept loop: axum's own has no limits, and clients that are silent, or send byte by byte, would hold their
//! connections for ever.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use buzzer_shared::shutdown::Shutdown;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// A client has so long from the connection to its first whole request header.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// So long may a connection rest between two requests, longer than clients keep theirs in their pools; the headers of
/// the next request have the same time.
const REST: Duration = Duration::from_secs(75);
/// How often a connection of HTTP/2 is asked whether somebody is still there.
const PING_EVERY: Duration = Duration::from_secs(10);
/// So many connections are open at a time; more wait in the backlog of the socket.
const CONNECTIONS_MAX: usize = 16_384;
/// After a failed accept, mostly for want of file descriptors, others get time to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until shutdown is requested, then lets what is under way finish, for at most `drain`. No connection is left
/// when this ends.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown, drain: Duration) {
    let connections = Connections::new(router, FIRST_REQUEST);
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
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    graceful: GracefulShutdown,
    cut: CancellationToken,
}

impl Connections {
    fn new(router: Router, first_request: Duration) -> Self {
        Self {
            router,
            first_request,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks: TaskTracker::new(),
            graceful: GracefulShutdown::new(),
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
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(REST);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(PING_EVERY));
        let asked = CancellationToken::new();
        let service = self.router.clone().map_request({
            let asked = asked.clone();
            move |request: Request<Incoming>| {
                asked.cancel();
                request
            }
        });
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = self.graceful.watch(connection);
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
        tokio::select! {
            () = self.graceful.shutdown() => {}
            () = tokio::time::sleep(drain) => tracing::warn!("some requests did not end in time; they are cut off"),
            () = shutdown.forced() => {}
        }
        self.cut.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

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
        let connections = Connections::new(Router::new(), SOON);
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
    async fn a_request_that_outlasts_the_drain_is_cut_off() {
        let connections = Connections::new(Router::new().route("/", get(pending::<()>)), NEVER);
        let mut client = connected(&connections).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        connections.end(SOON, &Shutdown::default()).await;
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
    }
}
