use std::time::{Duration, Instant};

use buzzer_shared::time::Time;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Target;
use super::clock::Reading;
use super::error::in_words;
use super::pools::SESSION;

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// The oldest server that its makers still look after.
const OLDEST: i32 = 140_000;

/// `Buzz`: the number of the lock under which one replica brings the tables up to date while the others wait.
const MIGRATION_LOCK: i64 = 0x4275_7A7A;

/// How long another replica may take to bring the tables up to date.
const MIGRATION_LIMIT: Duration = Duration::from_secs(600);

/// Why a store cannot be opened. Each says what to do, and none tells a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("BUZZER_STORE cannot be read: {reason}; it looks like postgres://user:password@host:5432/database")]
    Address { reason: String },
    #[error(
        "the encrypted line to PostgreSQL cannot be made: {reason}; see to sslmode and sslrootcert in BUZZER_STORE"
    )]
    Tls { reason: String },
    #[error("{at} lets nobody in as that user: {reason}; see to user and password in BUZZER_STORE")]
    Password { at: String, reason: String },
    #[error("{at} has no such database: {reason}; create it, or name another in BUZZER_STORE")]
    NoDatabase { at: String, reason: String },
    #[error("{at} refuses: {reason}; see to that, and start again")]
    Refused { at: String, reason: String },
    #[error("{at} is PostgreSQL {found}; Buzzer needs 14 or newer")]
    Old { at: String, found: String },
    #[error("{at} runs with {setting}, and would lose what it has confirmed; set that to on in postgresql.conf")]
    Unsafe { at: String, setting: String },
    #[error(
        "the tables at {at} were written by a newer version (schema {found}, this one knows {known}); run that one, or name another database in BUZZER_STORE"
    )]
    Newer { at: String, found: i32, known: i32 },
    #[error(
        "the tables at {at} are of an older version (schema {found}, this one knows {known}); start an API of this \
         version, which brings them up to date, or run the command of that one"
    )]
    Older { at: String, found: i32, known: i32 },
    #[error(
        "{at} has no tables yet, and so there are no keys; name the database of an API in BUZZER_STORE, or make a key \
         with `buzzer keys create`"
    )]
    Missing { at: String },
    #[error("the tables at {at} cannot be brought up to date: {reason}; see to that, and start again")]
    Migration { at: String, reason: String },
    /// It may come yet.
    #[error("{at} cannot be reached: {reason}; does it run, and does BUZZER_STORE name it?")]
    Away { at: String, reason: String },
}

/// What becomes of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tables {
    /// They are made, or brought up to date.
    UpToDate,
    /// They are made where there are none.
    NewIfMissing,
    AsTheyAre,
}

/// Connects, checks all that must hold before anything may rely on the server, and sees to the tables.
pub(super) async fn prepare(target: &Target, tls: &MakeRustlsConnect, tables: Tables) -> Result<Client, OpenError> {
    let mut client = connect(target, tls).await?;
    check_version(target, &client).await?;
    check_safety(target, &client).await?;
    if tables == Tables::UpToDate || !are_known(target, schema(target, &client).await?, tables)? {
        migrate(target, &mut client).await?;
    }
    Ok(client)
}

pub(super) async fn connect(target: &Target, tls: &MakeRustlsConnect) -> Result<Client, OpenError> {
    let (client, connection) = target.config.connect(tls.clone()).await.map_err(|error| failed(target, &error))?;
    // Ends with the client, or with the server.
    tokio::spawn(connection);
    client.batch_execute(SESSION).await.map_err(|error| failed(target, &error))?;
    Ok(client)
}

pub(super) async fn check_version(target: &Target, client: &Client) -> Result<(), OpenError> {
    let number = ask(target, client, "SELECT current_setting('server_version_num')").await?;
    if number.parse().unwrap_or(0) < OLDEST {
        let found = ask(target, client, "SELECT current_setting('server_version')").await?;
        return Err(OpenError::Old { at: target.shown.clone(), found });
    }
    Ok(())
}

/// What is confirmed must be on the server's disk. Who has asked for more, replicas that have applied it, gets more. The session
/// has asked for that already: a pooler in between may have lost it.
pub(super) async fn check_safety(target: &Target, client: &Client) -> Result<(), OpenError> {
    for (setting, safe) in [("fsync", &["on"][..]), ("synchronous_commit", &["on", "remote_apply"])] {
        let found = ask(target, client, &format!("SELECT current_setting('{setting}')")).await?;
        if !safe.contains(&found.as_str()) {
            return Err(OpenError::Unsafe { at: target.shown.clone(), setting: format!("{setting} = {found}") });
        }
    }
    Ok(())
}

pub(super) async fn ask(target: &Target, client: &Client, question: &str) -> Result<String, OpenError> {
    let row = client.query_one(question, &[]).await.map_err(|error| failed(target, &error))?;
    row.try_get(0).map_err(|error| failed(target, &error))
}

/// Whether the tables can be used as they are; else they are to be made.
fn are_known(target: &Target, (found, known): (Option<i32>, i32), tables: Tables) -> Result<bool, OpenError> {
    let at = target.shown.clone();
    match found {
        None if tables == Tables::AsTheyAre => Err(OpenError::Missing { at }),
        None => Ok(false),
        Some(found) if found < known => Err(OpenError::Older { at, found, known }),
        Some(found) if found > known => Err(OpenError::Newer { at, found, known }),
        Some(_) => Ok(true),
    }
}

/// One replica does it, the others wait, and find it done.
async fn migrate(target: &Target, client: &mut Client) -> Result<(), OpenError> {
    let away = |error: Error| failed(target, &error);
    client.batch_execute("SET statement_timeout = 0; SET lock_timeout = 0").await.map_err(away)?;
    let lock = client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]);
    match tokio::time::timeout(MIGRATION_LIMIT, lock).await {
        Ok(locked) => locked.map_err(away)?,
        Err(_) => return Err(migration(target, "another replica has not come to an end with it".into())),
    };
    // Asked first: refinery's own complaint does not say what to do.
    let (found, known) = schema(target, client).await?;
    if let Some(found) = found.filter(|found| *found > known) {
        return Err(OpenError::Newer { at: target.shown.clone(), found, known });
    }
    embedded::migrations::runner().run_async(client).await.map_err(|error| migration(target, said(&error)))?;
    client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await.map_err(away)?;
    client.batch_execute(SESSION).await.map_err(away)
}

/// The version of the tables, if there are any, and the one that this build knows.
pub(super) async fn schema(target: &Target, client: &Client) -> Result<(Option<i32>, i32), OpenError> {
    let runner = embedded::migrations::runner();
    let known = runner.get_migrations().iter().map(refinery::Migration::version).max().unwrap_or_default();
    let begun = "SELECT (to_regclass('refinery_schema_history') IS NOT NULL)::text";
    if ask(target, client, begun).await? != "true" {
        return Ok((None, known));
    }
    let found = ask(target, client, "SELECT coalesce(max(version), 0)::text FROM refinery_schema_history").await?;
    Ok((found.parse().ok().filter(|found| *found > 0), known))
}

fn migration(target: &Target, reason: String) -> OpenError {
    OpenError::Migration { at: target.shown.clone(), reason }
}

/// refinery's error with its cause, where the server has said why.
fn said(error: &refinery::Error) -> String {
    match std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(cause) => format!("{error}: {}", in_words(cause)),
        None => error.to_string(),
    }
}

/// The database's time, by which this replica goes.
pub(super) async fn read_clock(client: &Client) -> Result<Reading, Error> {
    let asked = Instant::now();
    let row = client.query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", &[]).await?;
    Ok(Reading { asked, answered: Instant::now(), told: Time::from_millis(row.try_get(0)?) })
}

/// Whether it may come yet, or somebody must do something.
pub(super) fn failed(target: &Target, error: &Error) -> OpenError {
    let (at, reason) = (target.shown.clone(), in_words(error));
    let Some(code) = error.code() else {
        return match () {
            () if is_about_tls(error) => OpenError::Tls { reason },
            // The server asks for one, and the address has none.
            () if reason.contains("password missing") => OpenError::Password { at, reason },
            () => OpenError::Away { at, reason },
        };
    };
    match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            OpenError::Password { at, reason }
        }
        SqlState::INVALID_CATALOG_NAME => OpenError::NoDatabase { at, reason },
        _ if passes(code) => OpenError::Away { at, reason },
        _ => OpenError::Refused { at, reason },
    }
}

/// The server starts, stops, or has no connection left now.
fn passes(code: &SqlState) -> bool {
    ["08", "53", "57"].iter().any(|class| code.code().starts_with(class))
}

/// A server that cannot encrypt, or whose certificate is not taken, does not change by itself.
fn is_about_tls(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(found) = cause {
        let inner = found.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if found.is::<rustls::Error>() || inner.is_some() {
            return true;
        }
        cause = found.source();
    }
    in_words(error).contains("server does not support TLS")
}
