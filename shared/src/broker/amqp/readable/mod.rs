//! Makes readable what lapin cannot parse, before lapin sees it.
//!
//! RabbitMQ carries ids and header names that are not UTF-8 just as they came. lapin takes them for the end of the
//! connection, for all that hang on it, and for each redelivery again. So what RabbitMQ sends passes through a
//! [`Sieve`]: a message that lapin could not parse comes out as one of a type that nobody reads, which says why (see
//! [`UNREADABLE`](crate::broker::UNREADABLE)); it is put aside like any other message that cannot be read, and its
//! neighbours do not notice.

mod content;
mod frames;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::tcp::AsyncTcpStream;

use self::frames::Sieve;

/// So much is read from the socket at a time.
const READ: usize = 64 * 1024;

/// A socket as tokio has it, with or without TLS.
pub(super) type Socket = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// A runtime for lapin whose sockets are [`Readable`].
pub(super) fn runtime() -> Runtime<RuntimeParts<Tokio, ReadableReactor>> {
    let tokio = Tokio::current();
    Runtime::new(RuntimeParts::new(tokio.clone(), ReadableReactor(tokio)))
}

/// A socket, read through a [`Sieve`].
pub(super) struct Readable {
    socket: Socket,
    sieve: Sieve,
    read: Box<[u8]>,
}

impl Readable {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, sieve: Sieve::default(), read: vec![0; READ].into() }
    }
}

impl AsyncRead for Readable {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { socket, sieve, read } = &mut *self;
        loop {
            let taken = sieve.take(into);
            if taken > 0 || into.is_empty() {
                return Poll::Ready(Ok(taken));
            }
            match ready!(Pin::new(&mut *socket).poll_read(context, read))? {
                0 => return Poll::Ready(Ok(0)),
                count => sieve.put(&read[..count]),
            }
        }
    }
}

impl AsyncWrite for Readable {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context)
    }
}

impl fmt::Debug for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readable").finish_non_exhaustive()
    }
}

/// tokio's reactor, but for the type of its sockets: lapin takes no other stream than its runtime's.
#[derive(Debug, Clone)]
pub(super) struct ReadableReactor(Tokio);

impl Reactor for ReadableReactor {
    type TcpStream = Readable;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, length: Duration) -> Self::Sleep {
        self.0.sleep(length)
    }

    fn interval(&self, length: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(length)
    }

    fn tcp_connect_addr(&self, address: SocketAddr) -> impl Future<Output = io::Result<Readable>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Readable::new(AsyncTcpStream::Plain(connecting.await?))) }
    }
}
