//! Settings that the API and the workers share: flags or environment, the same names everywhere.

use std::net::SocketAddr;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::broker::amqp;
use crate::from_file::FromFile;
use crate::topology::Topology;

/// The broker, and what Buzzer's names on it begin with.
#[derive(Debug, Clone, Args)]
pub struct BrokerConfig {
    #[command(flatten)]
    place: BrokerPlace,

    /// What the names of all exchanges and queues begin with.
    #[arg(long, env = "BUZZER_PREFIX", default_value = "buzzer", value_parser = prefix)]
    pub prefix: String,
}

impl BrokerConfig {
    /// The broker that is named, here or in a file.
    pub fn address(&self) -> &BrokerAddress {
        self.place.address()
    }

    pub fn topology(&self) -> Topology {
        Topology::new(&self.prefix)
    }
}

/// Where the broker is.
#[derive(Debug, Clone, Args)]
pub struct BrokerPlace {
    /// RabbitMQ's address: `amqp://` or, with TLS, `amqps://`.
    #[arg(
        long,
        env = "BUZZER_BROKER",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    broker: BrokerAddress,

    /// A file that holds RabbitMQ's address, so that its password need not stand in the environment.
    #[arg(long, env = "BUZZER_BROKER_FILE", value_name = "FILE", conflicts_with = "broker")]
    broker_file: Option<FromFile<BrokerAddress>>,
}

impl BrokerPlace {
    /// The broker that is named, here or in a file.
    pub fn address(&self) -> &BrokerAddress {
        self.broker_file.as_deref().unwrap_or(&self.broker)
    }
}

/// Which broker.
#[derive(Clone, PartialEq, Eq)]
pub enum BrokerAddress {
    /// In this process.
    Embedded,
    /// RabbitMQ, at an `amqp://` or `amqps://` URL. Holds a password: it is never printed.
    Amqp(url::Url),
}

impl BrokerAddress {
    /// The address without its password.
    pub fn redacted(&self) -> String {
        match self {
            Self::Embedded => "embedded".into(),
            Self::Amqp(url) => format!(
                "{}://{}:{}{}",
                url.scheme(),
                url.host_str().unwrap_or_default(),
                url.port().unwrap_or(if url.scheme() == "amqps" { 5671 } else { 5672 }),
                url.path()
            ),
        }
    }
}

impl std::fmt::Debug for BrokerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl FromStr for BrokerAddress {
    type Err = InvalidBroker;

    fn from_str(text: &str) -> Result<Self, InvalidBroker> {
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        let url = url::Url::parse(text).map_err(|_| InvalidBroker)?;
        match (url.scheme(), url.host_str()) {
            ("amqp" | "amqps", Some(_)) if amqp::is_readable(&url) => Ok(Self::Amqp(url)),
            _ => Err(InvalidBroker),
        }
    }
}

/// A text that names no broker. Does not repeat the text, which may hold a password.
#[derive(Debug, Clone, thiserror::Error)]
#[error("expected `embedded` or a URL like amqp://user:password@host:5672/%2f")]
pub struct InvalidBroker;

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub struct LogConfig {
    /// What is logged: a level, or a filter like `info,buzzer_api=debug`.
    #[arg(long, env = "BUZZER_LOG", default_value = "info", value_parser = filter)]
    pub log: String,

    /// How a line of the log looks.
    #[arg(long, env = "BUZZER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A number of bytes. Written like `1MiB`, `512KiB`, `100000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

impl FromStr for ByteSize {
    type Err = InvalidByteSize;

    fn from_str(text: &str) -> Result<Self, InvalidByteSize> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(InvalidByteSize(text.into())),
        };
        let count: usize = digits.trim().parse().map_err(|_| InvalidByteSize(text.into()))?;
        count.checked_mul(unit).map(Self).ok_or_else(|| InvalidByteSize(text.into()))
    }
}

/// A text that is no number of bytes.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not a size, like 1MiB, 512KiB or 100000")]
pub struct InvalidByteSize(String);

fn filter(text: &str) -> Result<String, String> {
    let read = tracing_subscriber::EnvFilter::builder().parse(text);
    read.map(|_| text.into()).map_err(|_| "expected a level, like info, or a filter, like info,buzzer_api=debug".into())
}

/// Reads an address to listen on.
///
/// # Errors
/// A text that is none; the error shows one.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an address and a port, like 127.0.0.1:8080".into())
}

/// Reads a prefix: 1 to 50 characters that names on RabbitMQ may have.
///
/// # Errors
/// Any other text; the error says what is allowed.
pub fn prefix(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.');
    if !text.is_empty() && text.len() <= 50 && text.bytes().all(good) {
        Ok(text.into())
    } else {
        Err("a prefix is 1 to 50 characters of a-z, 0-9, '.', '_' and '-'".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_embedded_or_amqp() {
        assert_eq!("embedded".parse::<BrokerAddress>().unwrap(), BrokerAddress::Embedded);
        for not_one in ["http://localhost", "amqp://", "amqp://mq/%2f?heartbeat=often"] {
            assert!(not_one.parse::<BrokerAddress>().is_err(), "{not_one}");
        }
        let address: BrokerAddress = "amqp://api:s3cret@mq:5673/%2f".parse().unwrap();
        assert_eq!(format!("{address:?}"), "amqp://mq:5673/%2f");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!("1MiB".parse::<ByteSize>().unwrap().0, 1_048_576);
        assert_eq!("100000".parse::<ByteSize>().unwrap().0, 100_000);
        assert!("1MB".parse::<ByteSize>().is_err());
        assert!("".parse::<ByteSize>().is_err());
    }
}
