use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::trouble::{Flow, Way, Weather};

const PIECE: usize = 16 * 1024;
const DROP: usize = 64;
const BETWEEN_DROPS: Duration = Duration::from_millis(5);

/// One client and what it speaks to.
pub struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    pub fn new(client: TcpStream, server: TcpStream) -> Self {
        Self { client, server }
    }

    /// Carries both ways until both have ended, or the connection is cut.
    pub async fn carry(self, mut weather: watch::Receiver<Weather>) {
        let cuts = weather.borrow().cuts();
        let (from_client, to_client) = self.client.into_split();
        let (from_server, to_server) = self.server.into_split();
        let there = Pump { from: from_client, to: to_server, way: Way::There, weather: weather.clone() };
        let back = Pump { from: from_server, to: to_client, way: Way::Back, weather: weather.clone() };
        tokio::select! {
            // One that broke takes the other with it.
            _ = async { tokio::try_join!(there.run(), back.run()) } => {}
            // An error means that the proxy is gone.
            _ = weather.wait_for(|weather| weather.cuts() != cuts) => {}
        }
    }
}

/// One direction of a connection.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    way: Way,
    weather: watch::Receiver<Weather>,
}

impl Pump {
    async fn run(mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let flow = self.weather.borrow_and_update().flow(self.way);
            if flow == Flow::Ended {
                return self.to.shutdown().await;
            }
            let read = tokio::select! {
                read = self.from.read(&mut piece), if flow != Flow::Frozen => read?,
                changed = self.weather.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Ok(()),
                },
            };
            if read == 0 {
                return self.to.shutdown().await;
            }
            self.write(&piece[..read]).await?;
        }
    }

    async fn write(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let flow = self.weather.borrow_and_update().flow(self.way);
            let (now, later) = match flow {
                Flow::Dripping => piece.split_at(DROP.min(piece.len())),
                Flow::Open | Flow::Frozen | Flow::Slow(_) | Flow::Ended => (piece, &[][..]),
            };
            match flow {
                Flow::Open | Flow::Ended => {}
                Flow::Slow(length) => tokio::time::sleep(length).await,
                Flow::Dripping => tokio::time::sleep(BETWEEN_DROPS).await,
                // The piece waits for other weather.
                Flow::Frozen => match self.weather.changed().await {
                    Ok(()) => continue,
                    Err(_) => return Ok(()),
                },
            }
            self.to.write_all(now).await?;
            piece = later;
        }
        Ok(())
    }
}
