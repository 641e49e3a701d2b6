use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::http::response::Parts;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::target::Target;
use crate::client::{ClientError, root_cause};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// One connection, with one request under way at a time. It has no task of its own: whoever waits for an answer drives
/// it, which saves two wake-ups for each request.
pub struct Connection<'a> {
    target: &'a Target,
    sender: http1::SendRequest<Full<Bytes>>,
    line: Line,
    /// The line has ended, and must not be driven again.
    is_closed: bool,
    body: Vec<u8>,
}

/// What moves the bytes of a connection.
pub type Line = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// Opens a line to the server.
pub async fn open(target: &Target) -> Result<(http1::SendRequest<Full<Bytes>>, Line), ClientError> {
    let connecting = timeout(CONNECT_DEADLINE, TcpStream::connect(target.address())).await;
    let socket = connecting.map_err(|_| target.unreachable("it does not answer in time"))?;
    let socket = socket.map_err(|error| target.unreachable(error.to_string()))?;
    socket.set_nodelay(true).map_err(|error| target.unreachable(error.to_string()))?;
    http1::handshake(TokioIo::new(socket)).await.map_err(|error| target.unreachable(root_cause(&error)))
}

impl<'a> Connection<'a> {
    pub async fn open(target: &'a Target) -> Result<Self, ClientError> {
        let (sender, line) = open(target).await?;
        Ok(Self { target, sender, line, is_closed: false, body: Vec::new() })
    }

    /// The answer to a request, read to its end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<(Parts, &[u8]), ClientError> {
        self.see_that_it_is_open().await?;
        let Self { target, sender, line, is_closed, body } = self;
        let exchange = async {
            let (head, mut incoming) = sender.send_request(request).await?.into_parts();
            body.clear();
            while let Some(frame) = incoming.frame().await {
                if let Some(data) = frame?.data_ref() {
                    body.extend_from_slice(data);
                }
            }
            Ok(head)
        };
        let answered: hyper::Result<Parts> = {
            let mut exchange = pin!(exchange);
            tokio::select! {
                biased;
                answered = &mut exchange => answered,
                // The answer may have come whole with the end.
                _ = line => {
                    *is_closed = true;
                    exchange.await
                }
            }
        };
        let head = answered.map_err(|error| target.unreachable(root_cause(&error)))?;
        Ok((head, &self.body))
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// A server may close a connection that was idle. Nothing was asked on it, so another one does as well.
    async fn see_that_it_is_open(&mut self) -> Result<(), ClientError> {
        let is_open = !self.is_closed
            && tokio::select! {
                biased;
                _ = &mut self.line => false,
                ready = self.sender.ready() => ready.is_ok(),
            };
        if !is_open {
            (self.sender, self.line) = open(self.target).await?;
            self.is_closed = false;
        }
        Ok(())
    }
}
