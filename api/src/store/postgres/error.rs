use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::store::code::Unknown;
use crate::store::{DEADLINE, StoreError};

/// Why nothing of a transaction was kept.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another transaction was in the way: done again, it may well work.
    Clash(String),
    /// Somebody holds a row for longer than we wait.
    Held(String),
    /// What room, time or a restart may mend.
    Unavailable(String),
    /// What is there, or was to be written, makes no sense.
    Corrupt(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = in_words(&error);
        match error.code() {
            Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE) => Self::Clash(reason),
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Self::Held(reason),
            Some(code) if is_about_content(code) => Self::Corrupt(reason),
            None if is_conversion(&error) => Self::Corrupt(reason),
            _ => Self::Unavailable(reason),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) => Self::Unavailable("all of its connections are in use".into()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<Unknown> for Failure {
    fn from(unknown: Unknown) -> Self {
        Self::Corrupt(unknown.to_string())
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Clash(reason) | Failure::Held(reason) | Failure::Unavailable(reason) => Self::Unavailable(reason),
            Failure::Corrupt(reason) => Self::Corrupt(reason),
        }
    }
}

pub(super) fn too_slow() -> Failure {
    Failure::Unavailable(format!("it did not answer within {} s", DEADLINE.as_secs()))
}

pub(super) fn stopped() -> Failure {
    Failure::Unavailable("it has been closed".into())
}

/// Whether a row is to blame, and not the server or the line to it: data exceptions, violated constraints, and what is
/// too large for PostgreSQL.
fn is_about_content(code: &SqlState) -> bool {
    ["22", "23", "54"].iter().any(|class| code.code().starts_with(class))
}

/// A value that is not of the type it should be, on the way to the server or back.
fn is_conversion(error: &Error) -> bool {
    let text = error.to_string();
    text.starts_with("error serializing") || text.starts_with("error deserializing")
}

/// What went wrong, with its cause: the error alone often says no more than `db error`.
pub(super) fn in_words(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return said.message().to_owned();
    }
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
