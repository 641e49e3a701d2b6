use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use super::address::is_public;

/// The networks that may be called although they are not public. None unless given.
///
/// Written as CIDRs with commas between them, like `10.0.0.0/8,fd12:3456::/32`; an address alone is a network of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Arc<[IpNet]>);

impl AllowList {
    /// Whether a connection to this address may be made.
    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        // Mapped addresses too are dialled by IPv4, so an allowed IPv4 network holds them.
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|net| net.contains(&address))
    }
}

impl FromStr for AllowList {
    type Err = InvalidAllowList;

    fn from_str(text: &str) -> Result<Self, InvalidAllowList> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(network).collect::<Result<_, _>>().map(Self)
    }
}

fn network(text: &str) -> Result<IpNet, InvalidAllowList> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| InvalidAllowList(text.into()))
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&networks.join(","))
    }
}

/// A text that is no network.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not a network: write CIDRs with commas between them, like 10.0.0.0/8,fd12:3456::/32")]
pub struct InvalidAllowList(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AllowList {
        text.parse().unwrap()
    }

    #[test]
    fn networks_have_commas_between_them() {
        assert_eq!(list(""), AllowList::default());
        assert_eq!(list("10.1.2.3/8, ::1 ,192.168.7.7,").to_string(), "10.1.2.3/8,::1/128,192.168.7.7/32");
        for wrong in ["10.0.0.0/33", "localhost", "10.0.0.0/8 fd00::/8", "10.*"] {
            assert!(wrong.parse::<AllowList>().unwrap_err().to_string().contains("like 10.0.0.0/8"), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_public_must_be_named() {
        let permits = |list: &AllowList, address: &str| list.permits(address.parse().unwrap());
        let some = list("10.0.0.0/8,fd12:3456::/32");
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
            assert_eq!(permits(&AllowList::default(), address), by_default, "{address}");
            assert_eq!(permits(&some, address), by_name, "{address}");
        }
    }
}
