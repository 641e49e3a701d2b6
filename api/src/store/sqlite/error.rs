use rusqlite::{Error, ErrorCode};

use crate::store::StoreError;

impl From<Error> for StoreError {
    /// What room, time, another process or a restored file may mend is `Unavailable`; what is there and makes no sense
    /// is `Corrupt`. A damaged file must not count as that: outcomes that are held can still be stored once it is
    /// mended.
    fn from(error: Error) -> Self {
        match error {
            Error::SqliteFailure(failure, _) if !is_about_content(failure.code) => Self::Unavailable(error.to_string()),
            _ => Self::Corrupt(error.to_string()),
        }
    }
}

fn is_about_content(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::ParameterOutOfRange)
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}
