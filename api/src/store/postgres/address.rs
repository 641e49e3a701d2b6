use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use url::Url;

use super::open::OpenError;

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// A server that has gone without a word is noticed after so long.
const SILENCE: Duration = Duration::from_secs(10);

/// Where a PostgreSQL database is: `postgres://user:password@host:port/database?sslmode=…`. Holds a password: it is never
/// printed.
///
/// Any text that begins like one is taken, and read when the store is opened: a complaint of the command line would
/// repeat the text.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

/// How an address is reached.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) config: tokio_postgres::Config,
    pub(super) trust: Trust,
    /// The address without its password.
    pub(super) shown: String,
}

/// Which certificate of a server is taken. The names of `sslmode` mean what they mean to PostgreSQL's own programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// `disable`, `allow`, `prefer` and `require`: any. The line may be encrypted, but nobody knows by whom.
    Any,
    /// `verify-full`: one for the name of the host, from an authority that this machine trusts.
    System,
    /// `verify-full` with `sslrootcert`: one for the name of the host, from an authority in this file.
    File(PathBuf),
}

impl PostgresUrl {
    pub(super) fn target(&self) -> Result<Target, OpenError> {
        let mut url = Url::parse(&self.0).map_err(|error| OpenError::Address { reason: error.to_string() })?;
        let ours = |name: &str| ["sslmode", "sslrootcert"].contains(&name);
        let asked =
            |name: &str| url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned());
        let (mode, root) =
            (asked("sslmode").unwrap_or_else(|| "prefer".into()), asked("sslrootcert").map(PathBuf::from));
        let all = url.query().unwrap_or_default().split('&');
        let rest: Vec<_> = all.filter(|part| !ours(part.split('=').next().unwrap_or_default())).collect();
        // As it was written: PostgreSQL does not take a plus for a space.
        let rest = rest.join("&");
        url.set_query((!rest.is_empty()).then_some(&rest));
        let (ssl_mode, trust) = read_mode(&mode, root)?;
        let mut config: tokio_postgres::Config =
            url.as_str().parse().map_err(|error: tokio_postgres::Error| OpenError::Address {
                // Its own words name the parameter, not what is in it.
                reason: std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
            })?;
        config.ssl_mode(ssl_mode).connect_timeout(CONNECT_PATIENCE).tcp_user_timeout(SILENCE);
        config.keepalives_idle(SILENCE / 2).keepalives_interval(SILENCE / 5).keepalives_retries(3);
        // A standby is no help: it is tried again until it has been promoted.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("buzzer-api");
        }
        if config.get_dbname().is_none() {
            return Err(OpenError::Address { reason: "it names no database".into() });
        }
        Ok(Target { config, trust, shown: self.to_string() })
    }
}

fn read_mode(mode: &str, root: Option<PathBuf>) -> Result<(SslMode, Trust), OpenError> {
    match (mode, root) {
        ("disable", _) => Ok((SslMode::Disable, Trust::Any)),
        ("allow" | "prefer", _) => Ok((SslMode::Prefer, Trust::Any)),
        ("require", None) => Ok((SslMode::Require, Trust::Any)),
        ("verify-full", None) => Ok((SslMode::Require, Trust::System)),
        // A name that is not checked would make the authority worthless.
        ("require" | "verify-ca" | "verify-full", Some(root)) => Ok((SslMode::Require, Trust::File(root))),
        _ => Err(OpenError::Address {
            reason: format!("sslmode is {mode:?}; it takes disable, prefer, require or verify-full"),
        }),
    }
}

impl FromStr for PostgresUrl {
    type Err = NotPostgres;

    fn from_str(text: &str) -> Result<Self, NotPostgres> {
        let ours = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        if ours { Ok(Self(text.into())) } else { Err(NotPostgres) }
    }
}

/// A text that is no address of a PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `postgres://user:password@host:5432/database`")]
pub struct NotPostgres;

impl fmt::Display for PostgresUrl {
    /// Without the password, wherever in the address it may stand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(url) = Url::parse(&self.0) else { return f.write_str("postgres://…") };
        f.write_str("postgres://")?;
        if !url.username().is_empty() {
            write!(f, "{}@", url.username())?;
        }
        f.write_str(url.host_str().unwrap_or_default())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Target, OpenError> {
        text.parse::<PostgresUrl>().unwrap().target()
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "postgres://me:s3cret@db:5433/buzzer?sslmode=require",
            "postgresql://me@db:5433/buzzer?password=s3cret",
            "postgres://me:s3cret@/buz zer:5433/buzzer",
            "postgres://me:s3cret@[::1/buzzer",
        ] {
            let url: PostgresUrl = text.parse().unwrap();
            assert!(!format!("{url} {url:?}").contains("s3cret"), "{url}");
            if let Err(error) = url.target() {
                assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
            }
        }
        let url: PostgresUrl = "postgres://me:s3cret@db:5433/buzzer?x=y".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://me@db:5433/buzzer");
    }

    #[test]
    fn sslmode_means_what_it_means_to_postgresql() {
        let mode =
            |query: &str| read(&format!("postgres://db/buzzer{query}")).map(|t| (t.config.get_ssl_mode(), t.trust));
        assert_eq!(mode("").unwrap(), (SslMode::Prefer, Trust::Any));
        assert_eq!(mode("?sslmode=disable").unwrap(), (SslMode::Disable, Trust::Any));
        assert_eq!(mode("?sslmode=require").unwrap(), (SslMode::Require, Trust::Any));
        assert_eq!(mode("?sslmode=verify-full").unwrap(), (SslMode::Require, Trust::System));
        let file = mode("?sslmode=verify-full&sslrootcert=/ca.pem").unwrap();
        assert_eq!(file, (SslMode::Require, Trust::File("/ca.pem".into())));
        assert!(mode("?sslmode=maybe").is_err());
        assert!(read("postgres://db").is_err(), "no database");
    }

    #[test]
    fn what_else_is_asked_for_is_passed_on() {
        let target = read("postgres://me:p%40ss@db:5433/buzzer?sslmode=disable&options=-c%20geqo%3Doff").unwrap();
        assert_eq!(target.config.get_options(), Some("-c geqo=off"));
        assert_eq!(target.config.get_password(), Some(&b"p@ss"[..]));
    }
}
