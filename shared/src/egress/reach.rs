use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::AllowList;
use super::address::is_public;

/// How far calls may go.
#[derive(Debug, Clone)]
pub struct Reach {
    allow: AllowList,
    public: bool,
}

/// Why a URL may not be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    WrongScheme,
    /// A user name or a password stands in it.
    Credentials,
    NotAllowed,
}

impl Reach {
    /// To public addresses, and to what the list names.
    pub fn public_and(allow: AllowList) -> Self {
        Self { allow, public: true }
    }

    /// Wherever a URL leads that the operator has written: whoever runs Buzzer may call into the own network.
    pub fn of_operator() -> Self {
        let everywhere = "0.0.0.0/0,::/0".parse().expect("these are networks");
        Self { allow: everywhere, public: true }
    }

    /// To what the list names alone.
    pub fn only(allow: AllowList) -> Self {
        Self { allow, public: false }
    }

    /// How far the POSTs of a webhook may go. Without TLS, anybody on the way could read them: they stay in networks that
    /// somebody has named.
    pub fn of_webhook(url: &Url, allow: AllowList) -> Self {
        Self { public: url.scheme() == "https", allow }
    }

    /// Whether a connection to this address may be made.
    pub fn permits(&self, address: IpAddr) -> bool {
        // Mapped addresses too are dialled by IPv4, so an allowed IPv4 network holds them.
        let address = address.to_canonical();
        (self.public && is_public(address)) || self.allow.names(address)
    }

    /// Refuses what no resolver needs to be asked for: an address that stands in the URL itself is dialled without one.
    /// `Url` has read it already, in whichever notation it was written. What a name resolves to is checked when it is
    /// dialled.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::WrongScheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        let allowed = match url.host() {
            Some(Host::Ipv4(address)) => self.permits(address.into()),
            Some(Host::Ipv6(address)) => self.permits(address.into()),
            Some(Host::Domain(name)) if is_here(name) => {
                self.permits(Ipv4Addr::LOCALHOST.into()) || self.permits(Ipv6Addr::LOCALHOST.into())
            }
            Some(Host::Domain(_)) => self.public || !self.allow.is_empty(),
            None => false,
        };
        if allowed { Ok(()) } else { Err(Refused::NotAllowed) }
    }
}

/// Whether a name stands for this machine, whoever resolves it (RFC 6761).
fn is_here(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(text: &str) -> AllowList {
        text.parse().unwrap()
    }

    fn check(reach: &Reach, url: &str) -> Result<(), Refused> {
        reach.check(&url.parse().unwrap_or_else(|_| panic!("{url}")))
    }

    #[test]
    fn the_operator_reaches_all_but_by_http() {
        let reach = Reach::of_operator();
        for url in
            ["http://127.0.0.1:1/", "http://localhost/", "http://[fd12::1]/", "http://10.0.0.1/", "https://a.example/"]
        {
            assert_eq!(check(&reach, url), Ok(()), "{url}");
        }
        assert_eq!(check(&reach, "file:///etc/passwd"), Err(Refused::WrongScheme));
        assert_eq!(check(&reach, "http://user@127.0.0.1/"), Err(Refused::Credentials));
    }

    #[test]
    fn what_is_not_public_must_be_named() {
        let permits = |reach: &Reach, address: &str| reach.permits(address.parse().unwrap());
        let (none, some) = (AllowList::default(), allow("10.0.0.0/8,fd12:3456::/32"));
        for (address, by_default, by_name) in [
            ("8.8.8.8", true, true),
            ("10.9.8.7", false, true),
            ("::ffff:10.9.8.7", false, true),
            ("fd12:3456:1::1", false, true),
            ("127.0.0.1", false, false),
            ("192.168.0.1", false, false),
            ("2002:a09:807::1", false, false),
            ("64:ff9b::10.9.8.7", false, false),
        ] {
            assert_eq!(permits(&Reach::public_and(none.clone()), address), by_default, "{address}");
            assert_eq!(permits(&Reach::public_and(some.clone()), address), by_name, "{address}");
            assert!(!permits(&Reach::only(none.clone()), address), "{address}");
            assert_eq!(permits(&Reach::only(some.clone()), address), by_name && !by_default, "{address}");
        }
    }

    #[test]
    fn a_private_address_is_refused_in_every_notation() {
        let reach = Reach::public_and(AllowList::default());
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "0x7f.1",
            "0X7F.0x0.0X0.0x1",
            "2130706433",
            "017700000001",
            "0177.0.0.01.",
            "0",
            "127%2e0%2e0%2e1",
            "１２７。０。０。１",
            "①②⑦.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "[::1]",
            "[::]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[fd00:ec2::254]",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
        ] {
            assert_eq!(check(&reach, &format!("https://{host}/")), Err(Refused::NotAllowed), "{host}");
        }
        assert_eq!(check(&Reach::public_and(allow("127.0.0.1")), "http://0x7f.1/"), Ok(()));
        assert_eq!(check(&Reach::public_and(allow("::1")), "http://localhost/"), Ok(()));
    }

    #[test]
    fn a_url_has_no_other_scheme_and_no_credentials() {
        let reach = Reach::public_and(allow("0.0.0.0/0"));
        for scheme in ["ftp", "gopher", "ws", "file"] {
            assert_eq!(check(&reach, &format!("{scheme}://example.com/")), Err(Refused::WrongScheme), "{scheme}");
        }
        for user in ["user@", "user:password@", ":password@", "example.com@"] {
            assert_eq!(check(&reach, &format!("http://{user}127.0.0.1/")), Err(Refused::Credentials), "{user}");
        }
    }

    #[test]
    fn a_webhook_without_tls_stays_where_somebody_allowed_it() {
        let of = |url: &str, list: &str| {
            let url: Url = url.parse().unwrap();
            Reach::of_webhook(&url, allow(list)).check(&url).is_ok()
        };
        for (url, by_default, by_name) in [
            ("https://example.com/", true, true),
            ("https://8.8.8.8/", true, true),
            ("https://10.0.0.1/", false, true),
            ("http://8.8.8.8/", false, false),
            ("http://10.0.0.1/", false, true),
            // It may resolve to an address of that network.
            ("http://receiver.internal/", false, true),
            ("http://localhost/", false, false),
        ] {
            assert_eq!((of(url, ""), of(url, "10.0.0.0/8")), (by_default, by_name), "{url}");
        }
    }
}
