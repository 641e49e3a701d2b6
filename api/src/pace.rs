//! Clients that take too little of what there is for them, however steadily: each would hold its connection, and what is
//! to be written there, for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How much a client takes in a time, as long as there is so much for it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub bytes: usize,
    pub each: Duration,
}

/// A connection that fails once its client falls behind the pace. Who takes all that there is keeps up, however little that
/// is and however long nothing comes.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    pace: Pace,
    behind: Option<Behind>,
}

/// There is something that the client has not taken yet.
#[derive(Debug)]
struct Behind {
    /// By then it must have taken as much as the pace says.
    until: Pin<Box<Sleep>>,
    taken: usize,
}

impl<S> Paced<S> {
    pub fn new(stream: S, pace: Pace) -> Self {
        Self { stream, pace, behind: None }
    }

    /// Looks at what came of writing `offered` bytes.
    fn keep_pace(
        &mut self,
        cx: &mut Context<'_>,
        offered: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Pace { bytes, each } = self.pace;
        match &written {
            Poll::Ready(Ok(taken)) if *taken == offered => self.behind = None,
            Poll::Ready(Ok(taken)) => {
                if let Some(behind) = &mut self.behind {
                    behind.taken += taken;
                    if behind.taken >= bytes {
                        behind.taken = 0;
                        behind.until.as_mut().reset(Instant::now() + each);
                    }
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let begins = || Behind { until: Box::pin(tokio::time::sleep(each)), taken: 0 };
                ready!(self.behind.get_or_insert_with(begins).until.as_mut().poll(cx));
                let too_slow = format!("the client took less than {bytes} bytes in {each:?}");
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, too_slow)));
            }
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.keep_pace(cx, buf.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.keep_pace(cx, bufs.iter().map(|buf| buf.len()).sum(), written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const PACE: Pace = Pace { bytes: 1000, each: Duration::from_secs(30) };

    /// A connection that holds 100 bytes, and its client.
    fn connection() -> (Paced<DuplexStream>, DuplexStream) {
        let (stream, client) = duplex(100);
        (Paced::new(stream, PACE), client)
    }

    /// Takes `bytes` each second, as long as there are any.
    async fn take(mut client: DuplexStream, bytes: usize) {
        let mut taken = vec![0; bytes];
        while client.read_exact(&mut taken).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_or_takes_it_drop_by_drop_is_cut_off() {
        for bytes in [0, 1, 30] {
            let (mut stream, client) = connection();
            let client =
                async move { if bytes == 0 { std::future::pending().await } else { take(client, bytes).await } };
            let began = Instant::now();
            let written = tokio::select! {
                written = stream.write_all(&[0; 100_000]) => written,
                () = client => panic!("it had not taken all"),
            };
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(began.elapsed().as_secs(), 30, "at {bytes} bytes a second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_and_keeps_the_pace_gets_all() {
        let (mut stream, client) = connection();
        let client = tokio::spawn(take(client, 50));
        let began = Instant::now();
        stream.write_all(&[0; 10_000]).await.unwrap();
        assert!(began.elapsed() > 5 * PACE.each);
        drop(stream);
        client.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_taken_all_may_rest_and_has_the_whole_time_again() {
        let (mut stream, mut client) = connection();
        let mut taken = [0; 110];
        for _ in 0..3 {
            let (written, read) = tokio::join!(stream.write_all(&[0; 110]), async {
                tokio::time::sleep(PACE.each - Duration::from_secs(1)).await;
                client.read_exact(&mut taken).await
            });
            written.unwrap();
            read.unwrap();
            tokio::time::sleep(10 * PACE.each).await;
        }
    }
}
