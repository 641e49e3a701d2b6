//! Asking a running service whether it is well, for the health checks of containers: their images have no `curl`.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A service that is well answers in less.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a service counts as not well.
#[derive(Debug, thiserror::Error)]
pub enum Unwell {
    #[error("nobody answers on {address}: {source}")]
    Silent { address: SocketAddr, source: std::io::Error },
    #[error("{address}{path} answers {answer:?}")]
    Says { address: SocketAddr, path: &'static str, answer: String },
}

/// Asks the service that listens on `listen` for `path`: any answer but 200 is none.
pub fn ask(listen: SocketAddr, path: &'static str) -> Result<(), Unwell> {
    let address = reachable(listen);
    let answer = first_line(address, path).map_err(|source| Unwell::Silent { address, source })?;
    if answer.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(Unwell::Says { address, path, answer }) }
}

/// Who listens on all addresses listens on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn first_line(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What one who asks hears from a service with this answer.
    fn told(answer: &'static str) -> Result<(), Unwell> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let service = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            asked
        });
        let told = ask(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), "/readyz");
        assert_eq!(service.join().unwrap(), "GET /readyz HTTP/1.1\r\n");
        told
    }

    #[test]
    fn only_200_is_well() {
        assert!(told("HTTP/1.1 200 OK\r\n\r\n").is_ok());
        let unwell = told("HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap_err().to_string();
        assert!(unwell.ends_with("/readyz answers \"HTTP/1.1 503 Service Unavailable\""), "{unwell}");
        assert!(told("").is_err());
    }

    #[test]
    fn who_does_not_listen_is_not_well() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(ask(free, "/livez"), Err(Unwell::Silent { .. })));
    }
}
