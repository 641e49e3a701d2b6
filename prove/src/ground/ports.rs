use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Ports of this machine that nobody has now.
///
/// # Errors
/// When there are none left.
pub fn free<const N: usize>() -> io::Result<[u16; N]> {
    // Kept open together, so that they differ.
    let mut listeners = Vec::new();
    for _ in 0..N {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
