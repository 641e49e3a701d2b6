//! A line between two parts that can be disturbed: cut, frozen, slow, dripping, closed in one direction.

mod connection;
mod trouble;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::connection::Connection;
use self::trouble::Weather;
pub use self::trouble::{Trouble, Way};

/// A target that is frozen does not answer; then the client is let go after this.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Listens on a port of its own, and carries each connection to its target and back. Dropped, it is gone with all of them.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    listening: JoinHandle<()>,
}

impl Proxy {
    /// Carries to `target`, a host and a port.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(target: impl Into<Arc<str>>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let weather = watch::Sender::new(Weather::default());
        let listening = tokio::spawn(listen(listener, target.into(), weather.subscribe()));
        Ok(Self { address, weather, listening })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Disturbs the line until it is [`mend`](Self::mend)ed.
    pub fn disturb(&self, trouble: Trouble) {
        self.weather.send_modify(|weather| weather.turn(trouble));
    }

    /// Ends every trouble. What was broken stays broken; new connections are whole.
    pub fn mend(&self) {
        self.weather.send_modify(Weather::clear);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.weather.send_modify(|weather| weather.turn(Trouble::Gone));
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, target: Arc<str>, weather: watch::Receiver<Weather>) {
    loop {
        // The only errors are those of a client that has gone again, or of too many open files.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if weather.borrow().lets_in() {
            tokio::spawn(carry(client, Arc::clone(&target), weather.clone()));
        }
    }
}

async fn carry(client: TcpStream, target: Arc<str>, weather: watch::Receiver<Weather>) {
    let Ok(Ok(server)) = timeout(CONNECT_LIMIT, TcpStream::connect(&*target)).await else { return };
    for socket in [&client, &server] {
        // Without it, all is slower and as right.
        let _ = socket.set_nodelay(true);
    }
    Connection::new(client, server).carry(weather).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    /// Long enough to see that nothing comes.
    const A_WHILE: Duration = Duration::from_millis(150);

    /// A proxy before a server that says again whatever it hears, and a client of it.
    async fn echoing() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let proxy = Proxy::start(address.to_string()).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut client, b"hello").await.unwrap(), b"hello");
        (proxy, client)
    }

    /// What comes back, within a while.
    async fn say(client: &mut TcpStream, words: &[u8]) -> io::Result<Vec<u8>> {
        client.write_all(words).await?;
        hear(client, words.len()).await
    }

    async fn hear(client: &mut TcpStream, length: usize) -> io::Result<Vec<u8>> {
        let mut heard = vec![0; length];
        timeout(SOON, client.read_exact(&mut heard)).await.unwrap()?;
        Ok(heard)
    }

    async fn is_silent(client: &mut TcpStream) -> bool {
        timeout(A_WHILE, client.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_open_and_lets_in_what_is_new() {
        let (proxy, mut client) = echoing().await;
        proxy.disturb(Trouble::Cut);
        assert!(hear(&mut client, 1).await.is_err());
        let mut next = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut next, b"again").await.unwrap(), b"again");
    }

    #[tokio::test]
    async fn a_line_that_is_gone_lets_nobody_in_until_it_is_mended() {
        let (proxy, mut client) = echoing().await;
        proxy.disturb(Trouble::Gone);
        assert!(hear(&mut client, 1).await.is_err());
        let mut shut_out = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(say(&mut shut_out, b"anybody?").await.is_err());
        proxy.mend();
        let mut next = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut next, b"again").await.unwrap(), b"again");
    }

    #[tokio::test]
    async fn what_was_frozen_comes_once_it_is_mended() {
        let (proxy, mut client) = echoing().await;
        for trouble in [Trouble::Freeze, Trouble::FreezeOneWay(Way::There), Trouble::FreezeOneWay(Way::Back)] {
            proxy.disturb(trouble);
            client.write_all(b"cold").await.unwrap();
            assert!(is_silent(&mut client).await, "{trouble}");
            proxy.mend();
            assert_eq!(hear(&mut client, 4).await.unwrap(), b"cold", "{trouble}");
        }
    }

    #[tokio::test]
    async fn a_slow_line_takes_its_time_and_a_dripping_one_brings_all() {
        let (proxy, mut client) = echoing().await;
        proxy.disturb(Trouble::Delay(Duration::from_millis(60)));
        let asked = Instant::now();
        assert_eq!(say(&mut client, b"slow").await.unwrap(), b"slow");
        assert!(asked.elapsed() >= Duration::from_millis(120), "there and back");
        proxy.disturb(Trouble::Drip);
        let words: Vec<u8> = (0..1000_u32).map(|n| n.to_be_bytes()[3]).collect();
        assert_eq!(say(&mut client, &words).await.unwrap(), words);
    }

    #[tokio::test]
    async fn a_half_closed_line_carries_the_other_way() {
        let (proxy, mut client) = echoing().await;
        proxy.disturb(Trouble::HalfClose(Way::Back));
        let mut rest = Vec::new();
        timeout(SOON, client.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.is_empty());
        // Nobody says no: the way there is open.
        client.write_all(b"to nobody").await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_ends_is_told_on() {
        let (_proxy, mut client) = echoing().await;
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        timeout(SOON, client.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.is_empty());
    }
}
