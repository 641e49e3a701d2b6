//! The settings of the API: flags or environment, the same names everywhere. `--help` is the manual.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use buzzer_shared::config::ByteSize;
use buzzer_shared::time::{InvalidTime, Span};
use clap::Args;

use crate::bounds::Limits;
use crate::retention::Retention;
use crate::store::postgres::PostgresUrl;

/// What the API needs to know but for the broker, which a process may share between its parts.
#[derive(Debug, Clone, Args)]
pub struct ApiConfig {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "BUZZER_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Where everything is kept: `sqlite:FILE`, for one process; or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, which
    /// several may share. `?sslmode=verify-full` encrypts the line and checks the server.
    #[arg(long, env = "BUZZER_STORE", hide_env_values = true, default_value_t = StoreAddress::Sqlite(PathBuf::from("buzzer.db")))]
    pub store: StoreAddress,

    /// How large a request may be, and with it an input; in `buzzer up`, an output too.
    #[arg(long, env = "BUZZER_MAX_BODY", default_value = "1MiB")]
    pub max_body: ByteSize,

    /// How long jobs are kept after they are done, and after it where kinds differ: `7d,demo.sleep=1h`.
    #[arg(long, env = "BUZZER_KEEP", default_value = "7d")]
    pub keep: Retention,

    /// How many jobs may be accepted and not done; past that a submission is answered 503.
    #[arg(long, env = "BUZZER_MAX_WAITING", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_waiting: u64,

    /// How many bytes the store may hold; past that a submission is answered 503.
    #[arg(long, env = "BUZZER_MAX_STORED", default_value = "100GiB")]
    pub max_stored: ByteSize,

    /// How long what is under way may take to end when the process is asked to stop.
    #[arg(long, env = "BUZZER_DRAIN", default_value = "30s")]
    pub drain: Span,

    #[command(flatten)]
    pub leases: Leases,
}

impl ApiConfig {
    pub fn limits(&self) -> Limits {
        Limits { waiting: self.max_waiting, stored: u64::try_from(self.max_stored.0).unwrap_or(u64::MAX) }
    }
}

/// How long silence is waited for before a job is sent out again.
#[derive(Debug, Clone, Copy, Args)]
pub struct Leases {
    /// How long a job that was sent out may go unheard of; 1s at least. Shorter heals faster; too short runs jobs
    /// twice.
    #[arg(long, env = "BUZZER_CLAIM_LEASE", default_value = "30s", value_parser = lease)]
    pub claim_lease: Span,

    /// How long a run may go without a sign of life of its worker, several beats; 1s at least. Shorter heals faster;
    /// too short runs jobs twice.
    #[arg(long, env = "BUZZER_RUN_LEASE", default_value = "60s", value_parser = lease)]
    pub run_lease: Span,
}

fn lease(text: &str) -> Result<Span, String> {
    let lease: Span = text.parse().map_err(|error: InvalidTime| error.to_string())?;
    if lease < Span::from_secs(1) { Err("a lease is 1s at least".into()) } else { Ok(lease) }
}

/// Which store. Printed without a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    Sqlite(PathBuf),
    Postgres(PostgresUrl),
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl FromStr for StoreAddress {
    type Err = InvalidStore;

    fn from_str(text: &str) -> Result<Self, InvalidStore> {
        match text.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            _ => text.parse().map(Self::Postgres).map_err(|_| InvalidStore),
        }
    }
}

/// A text that names no store.
#[derive(Debug, Clone, thiserror::Error)]
#[error("expected `sqlite:FILE`, like sqlite:buzzer.db, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`")]
pub struct InvalidStore;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_file_or_a_database() {
        assert_eq!("sqlite:a.db".parse::<StoreAddress>().unwrap(), StoreAddress::Sqlite("a.db".into()));
        let address: StoreAddress = "postgres://me:s3cret@db:5433/buzzer".parse().unwrap();
        assert_eq!(address.to_string(), "postgres://me@db:5433/buzzer");
        assert!(!format!("{address:?}").contains("s3cret"));
        assert!("sqlite:".parse::<StoreAddress>().is_err());
        assert!("mysql://x".parse::<StoreAddress>().is_err());
    }

    #[test]
    fn a_lease_that_would_end_at_once_is_refused() {
        assert_eq!(lease("1s"), Ok(Span::from_secs(1)));
        assert!(lease("999ms").is_err());
        assert!(lease("0s").is_err());
    }
}
