use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

/// The networks that may be called although they are not public. None unless given.
///
/// Written as CIDRs with commas between them, like `10.0.0.0/8,fd12:3456::/32`; an address alone is a network of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Arc<[IpNet]>);

impl AllowList {
    /// Whether this address, in its canonical form, is in one of them.
    pub(super) fn names(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
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
}
