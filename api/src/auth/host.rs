use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, header};

use crate::problem::ApiError;

/// Lets in who calls this machine by a name that it has for itself. Where nobody needs a key, a page of the web could let its
/// own name lead to this machine, and its visitors' browsers would ask here for it: but by that name.
///
/// A request without `Host` is not a browser's.
pub(crate) async fn names_this_machine(request: Request, next: Next) -> Result<Response, ApiError> {
    match foreign(request.headers()) {
        Some(host) => Err(ApiError::HostNotAllowed(host)),
        None => Ok(next.run(request).await),
    }
}

/// A `Host` that is not this machine.
fn foreign(headers: &HeaderMap) -> Option<String> {
    let mut hosts = headers.get_all(header::HOST).iter().map(|host| String::from_utf8_lossy(host.as_bytes()));
    hosts.find(|host| !is_loopback(host)).map(Cow::into_owned)
}

/// Whether that is an address of this machine for itself, or a name that browsers take for one, with or without a port.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    if !port.bytes().all(|digit| digit.is_ascii_digit()) {
        return false;
    }
    let in_brackets = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let address = match in_brackets {
        Some(address) => address.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => name.parse().map(IpAddr::V4),
    };
    match address {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => is_localhost(name.strip_suffix('.').unwrap_or(name)),
    }
}

/// The name, or one below it (RFC 6761, 6.3).
fn is_localhost(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn names_of_this_machine_and_no_others() {
        for own in [
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "buzzer.localhost:80",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.255.0.3:1",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "",
            "example.com",
            "example.com:8080",
            "localhost.example.com",
            "notlocalhost",
            "127.0.0.1.example.com",
            "127.0.0.1@example.com",
            "localhost:80@example.com",
            "10.0.0.1",
            "128.0.0.1:127",
            "0.0.0.0:8080",
            "[::2]:8080",
            "[::1",
            "::1",
            "169.254.169.254",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn each_host_of_a_request_counts_and_none_is_no_browsers() {
        let request = |hosts: &[&'static str]| {
            hosts.iter().map(|host| (header::HOST, HeaderValue::from_static(host))).collect::<HeaderMap>()
        };
        assert_eq!(foreign(&request(&[])), None);
        assert_eq!(foreign(&request(&["localhost"])), None);
        let mut two = request(&["localhost"]);
        two.append(header::HOST, HeaderValue::from_static("example.com"));
        assert_eq!(foreign(&two).as_deref(), Some("example.com"));
    }
}
