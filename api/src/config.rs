//! The settings of the API: flags or environment, the same names everywhere. `--help` is the manual.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use buzzer_shared::config::{ByteSize, listen};
use buzzer_shared::egress::AllowList;
use buzzer_shared::from_file::FromFile;
use buzzer_shared::time::{InvalidTime, Span};
use clap::{Args, ValueEnum};

use crate::bounds::Limits;
use crate::delivery::{Rules, Schedule};
use crate::origins::Origins;
use crate::retention::Retention;
use crate::senders::{Senders, WorkerUsers};
use crate::store::postgres::PostgresUrl;

/// What the API needs to know but for the broker, which a process may share between its parts.
#[derive(Debug, Clone, Args)]
pub struct ApiConfig {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "BUZZER_LISTEN", default_value = "127.0.0.1:8080", value_parser = listen)]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub store: StoreConfig,

    /// Who is let in. A key that was revoked lets nobody in after 5 s at most, and ends streams after half a minute.
    #[arg(long, env = "BUZZER_AUTH", value_enum, default_value_t = AuthMode::Keys)]
    pub auth: AuthMode,

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

    /// How many streams of events may be open, sockets among them; past that one is answered 503. An idle one takes
    /// 15 to 20 KiB and a file descriptor.
    #[arg(long, env = "BUZZER_MAX_STREAMS", default_value = "10000", value_parser = streams)]
    pub max_streams: usize,

    /// Whose pages may open a WebSocket here although they come from another server: origins like
    /// `https://app.example.com`, with commas between them; `*` is all. None unless given.
    #[arg(long, env = "BUZZER_ORIGINS", value_name = "ORIGINS", default_value_t, hide_default_value = true)]
    pub origins: Origins,

    #[command(flatten)]
    pub webhooks: WebhookConfig,

    /// The RabbitMQ users that workers log in as, with commas between them. What anybody else sends is not believed:
    /// parked, or dropped. Unless given, everybody who may write to the exchanges is.
    #[arg(long, env = "BUZZER_WORKER_USER", value_name = "USERS")]
    pub worker_user: Option<WorkerUsers>,

    /// How long what is under way may take to end when the process is asked to stop.
    #[arg(long, env = "BUZZER_DRAIN", default_value = "30s")]
    pub drain: Span,

    #[command(flatten)]
    pub leases: Leases,
}

impl ApiConfig {
    /// `own` is the user that the API itself logs in as; a broker without users is used by this process alone.
    pub fn senders(&self, own: Option<&str>) -> Senders {
        match (&self.worker_user, own) {
            (Some(workers), Some(own)) => Senders::new(workers, own),
            (None, _) | (_, None) => Senders::Anybody,
        }
    }

    /// Whether anybody on the network would be let in.
    pub fn is_open_to_all(&self) -> bool {
        self.auth == AuthMode::Off && !self.listen.ip().to_canonical().is_loopback()
    }

    pub fn limits(&self) -> Limits {
        Limits {
            waiting: self.max_waiting,
            stored: u64::try_from(self.max_stored.0).unwrap_or(u64::MAX),
            streams: self.max_streams,
        }
    }
}

/// Where the store is.
#[derive(Debug, Clone, Args)]
pub struct StoreConfig {
    /// Where everything is kept: `sqlite:FILE`, for one process; or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, which
    /// several may share. `?sslmode=verify-full` encrypts the line and checks the server.
    #[arg(long, env = "BUZZER_STORE", hide_env_values = true, default_value_t)]
    store: StoreAddress,

    /// A file that holds the store's address, so that its password need not stand in the environment.
    #[arg(long, env = "BUZZER_STORE_FILE", value_name = "FILE", conflicts_with = "store")]
    store_file: Option<FromFile<StoreAddress>>,
}

impl StoreConfig {
    /// The store that is named, here or in a file.
    pub fn address(&self) -> &StoreAddress {
        self.store_file.as_deref().unwrap_or(&self.store)
    }
}

impl From<StoreAddress> for StoreConfig {
    fn from(store: StoreAddress) -> Self {
        Self { store, store_file: None }
    }
}

/// What webhooks may be, and how patient Buzzer is with them.
#[derive(Debug, Clone, Args)]
pub struct WebhookConfig {
    /// Private networks that webhooks may be in although they are not public, and that may be reached without TLS: CIDRs with
    /// commas between them, like `10.0.0.0/8,fd12:3456::/32`. None unless given. Here it says what may be registered; the
    /// workers' own setting of this name says what they call.
    #[arg(long, env = "BUZZER_EGRESS_ALLOW", value_name = "CIDRS", default_value_t, hide_default_value = true)]
    pub egress_allow: AllowList,

    /// How long after each failure a delivery is tried again; after as many failures, and one more, it is given up.
    #[arg(long, env = "BUZZER_WEBHOOK_SCHEDULE", value_name = "WAITS", default_value_t)]
    pub webhook_schedule: Schedule,

    /// A webhook of which every attempt has failed for so long is disabled.
    #[arg(long, env = "BUZZER_WEBHOOK_PATIENCE", default_value = "5d")]
    pub webhook_patience: Span,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            egress_allow: AllowList::default(),
            webhook_schedule: Schedule::default(),
            webhook_patience: Span::from_secs(5 * 86_400),
        }
    }
}

impl WebhookConfig {
    pub fn rules(&self) -> Rules {
        Rules { schedule: self.webhook_schedule.clone(), patience: self.webhook_patience.as_duration() }
    }
}

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// Who sends an API key, made with `buzzer keys create`: each sees the jobs of its tenant.
    Keys,
    /// Everybody, and all see everything. Only for a loopback address.
    Off,
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

/// More connections than that are not taken at all.
const STREAMS_MAX: usize = 16_000;

fn streams(text: &str) -> Result<usize, String> {
    let streams: usize = text.parse().map_err(|_| format!("expected a number from 0 to {STREAMS_MAX}"))?;
    if streams > STREAMS_MAX { Err(format!("at most {STREAMS_MAX} are possible")) } else { Ok(streams) }
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

impl Default for StoreAddress {
    fn default() -> Self {
        Self::Sqlite("buzzer.db".into())
    }
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
    use clap::Parser;

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
    fn a_store_may_be_named_in_a_file() {
        #[derive(Debug, Parser)]
        struct Settings {
            #[command(flatten)]
            store: StoreConfig,
        }

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "postgres://me:s3cret@db:5433/buzzer\n").unwrap();
        let name = file.path().to_str().unwrap();
        let read = Settings::try_parse_from(["api", "--store-file", name]).unwrap();
        assert_eq!(read.store.address().to_string(), "postgres://me@db:5433/buzzer");
        assert!(!format!("{read:?}").contains("s3cret"));
        assert!(Settings::try_parse_from(["api", "--store-file", name, "--store", "sqlite:a.db"]).is_err());
        std::fs::write(file.path(), "mysql://me:s3cret@db").unwrap();
        let error = Settings::try_parse_from(["api", "--store-file", name]).unwrap_err().to_string();
        assert!(error.contains(name) && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn webhooks_are_treated_the_same_without_a_command_line() {
        #[derive(Debug, Parser)]
        struct Settings {
            #[command(flatten)]
            webhooks: WebhookConfig,
        }

        let parsed = Settings::try_parse_from(["api"]).unwrap();
        assert_eq!(format!("{:?}", parsed.webhooks), format!("{:?}", WebhookConfig::default()));
        let line = "api --egress-allow 10.0.0.0/8 --webhook-schedule 1s,2m --webhook-patience 1h";
        let parsed = Settings::try_parse_from(line.split(' ')).unwrap().webhooks;
        assert_eq!((parsed.rules().schedule.to_string(), parsed.rules().patience.as_secs()), ("1s,2m".into(), 3600));
        assert!(Settings::try_parse_from(["api", "--webhook-schedule", "soon"]).is_err());
    }

    #[test]
    fn a_lease_that_would_end_at_once_is_refused() {
        assert_eq!(lease("1s"), Ok(Span::from_secs(1)));
        assert!(lease("999ms").is_err());
        assert!(lease("0s").is_err());
    }
}
