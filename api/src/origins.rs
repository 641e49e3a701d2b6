//! Which pages may open a WebSocket.

use std::fmt;
use std::str::FromStr;

/// The origins whose pages may open a WebSocket although they come from another server. None unless given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    all: bool,
    named: Vec<Origin>,
}

/// Where a page comes from: scheme, host and port, in small letters, and without the port that goes without saying.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
}

/// A text that names no origins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no origin: one is like `https://app.example.com`, with its port if it has one, and without a path; `*` is all"
)]
pub struct InvalidOrigin(String);

impl Origins {
    /// Whether a page of this origin, as the header `Origin` has it, may open a socket at `host`, as the header `Host` has that.
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        if self.all {
            return true;
        }
        let Some(origin) = Origin::read(origin) else { return false };
        host.is_some_and(|host| origin.is_at(host)) || self.named.contains(&origin)
    }
}

impl Origin {
    fn read(text: &str) -> Option<Self> {
        let (scheme, host) = text.split_once("://")?;
        let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
        let is_one = !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
        let host = without_default_port(&scheme, &host).to_owned();
        is_one.then_some(Self { scheme, host })
    }

    /// Whether its pages come from this host. Its scheme says nothing: behind a proxy a page came by `https`, and this request
    /// does not.
    fn is_at(&self, host: &str) -> bool {
        without_default_port(&self.scheme, &host.to_ascii_lowercase()) == self.host
    }
}

fn without_default_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return host,
    };
    host.strip_suffix(port).unwrap_or(host)
}

impl FromStr for Origins {
    type Err = InvalidOrigin;

    /// With commas between them; `*` is all.
    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let mut origins = Self::default();
        for text in text.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            match text {
                "*" => origins.all = true,
                _ => origins.named.push(Origin::read(text).ok_or_else(|| InvalidOrigin(text.into()))?),
            }
        }
        Ok(origins)
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all.then(|| "*".to_owned()).into_iter();
        let named = self.named.iter().map(|origin| format!("{}://{}", origin.scheme, origin.host));
        f.write_str(&all.chain(named).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_open_a_socket_where_it_comes_from() {
        let own = Origins::default();
        for (origin, host) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://localhost", "localhost:80"),
            ("https://Buzzer.example", "buzzer.example"),
            ("https://buzzer.example", "buzzer.example:443"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(own.allow(origin, Some(host)), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://127.0.0.1:3000", Some("127.0.0.1:8080")),
            ("http://localhost:8080", Some("127.0.0.1:8080")),
            ("https://evil.example", Some("buzzer.example")),
            ("http://buzzer.example:443", Some("buzzer.example")),
            ("http://buzzer.example.evil.example", Some("buzzer.example")),
            ("http://evil.example/@buzzer.example", Some("buzzer.example")),
            ("null", Some("buzzer.example")),
            ("", Some("")),
            ("http://", Some("")),
            ("http://buzzer.example", None),
        ] {
            assert!(!own.allow(origin, host), "{origin} at {host:?}");
        }
    }

    #[test]
    fn origins_that_are_named_may_from_elsewhere() {
        let named: Origins = "https://app.example, http://localhost:3000".parse().unwrap();
        for origin in ["https://app.example", "https://APP.example:443", "http://localhost:3000"] {
            assert!(named.allow(origin, Some("buzzer.example")), "{origin}");
        }
        for origin in ["http://app.example", "https://app.example:8443", "https://evil.app.example", "null"] {
            assert!(!named.allow(origin, Some("buzzer.example")), "{origin}");
        }
        let all: Origins = "*".parse().unwrap();
        assert!(all.allow("null", None) && all.allow("https://evil.example", None));
    }

    #[test]
    fn what_is_read_is_shown_and_what_is_none_refused() {
        for text in ["", "*", "https://app.example,http://localhost:3000"] {
            assert_eq!(text.parse::<Origins>().unwrap().to_string(), text);
        }
        for bad in ["app.example", "https://app.example/", "https://", "https://a.example,nonsense"] {
            assert!(bad.parse::<Origins>().is_err(), "{bad}");
        }
    }
}
