use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::store::{DEADLINE, StoreError};

impl From<Error> for StoreError {
    /// What room, time, a restart or another replica may mend is `Unavailable`; what is there and makes no sense is
    /// `Corrupt`.
    fn from(error: Error) -> Self {
        let text = in_words(&error);
        if is_about_content(&error) { Self::Corrupt(text) } else { Self::Unavailable(text) }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) => Self::Unavailable("all of its connections are in use".into()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

pub(super) fn too_slow() -> StoreError {
    StoreError::Unavailable(format!("it did not answer within {} s", DEADLINE.as_secs()))
}

pub(super) fn stopped() -> StoreError {
    StoreError::Unavailable("it has been closed".into())
}

/// Whether a row is to blame, and not the server or the line to it.
fn is_about_content(error: &Error) -> bool {
    match error.code() {
        // Data exceptions, violated constraints, and what is too large for PostgreSQL.
        Some(code) => ["22", "23", "54"].iter().any(|class| code.code().starts_with(class)),
        None => !error.is_closed() && is_conversion(error),
    }
}

/// A value that is not of the type it should be, on the way to the server or back.
fn is_conversion(error: &Error) -> bool {
    let text = error.to_string();
    text.starts_with("error serializing") || text.starts_with("error deserializing")
}

/// Whether the same may well work when it is done again now: another transaction was in the way.
pub(super) fn is_clash(error: &Error) -> bool {
    let clashes = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| clashes.contains(code))
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
