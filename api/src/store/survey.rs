//! What a look at a store finds that changes nothing there: for `buzzer doctor`, beside a running API or before any.

use std::collections::BTreeMap;

use buzzer_shared::kind::Kind;
use buzzer_shared::time::Time;

use super::{Backlog, KnownWorker};

/// How a store is.
#[derive(Debug)]
pub struct Survey {
    /// Like `PostgreSQL 17.2`.
    pub version: String,
    pub schema: Schema,
    /// Whose clock leases go by: how far the server's is before this machine's, in milliseconds. `None` when it is this
    /// machine's own.
    pub clock_ahead: Option<i64>,
    /// How many bytes are left where the file is; `None` on a server.
    pub free: Option<u64>,
    /// `None` unless the tables are those of this build.
    pub content: Option<Content>,
}

/// Which tables there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// None yet: an API makes them.
    Missing,
    /// An API brings them up to date.
    Older {
        found: i32,
        known: i32,
    },
    Known(i32),
    /// Of a newer version of Buzzer.
    Newer {
        found: i32,
        known: i32,
    },
}

/// Who works, and what waits.
#[derive(Debug)]
pub struct Content {
    /// The time by the store's clock.
    pub now: Time,
    pub workers: Vec<KnownWorker>,
    /// Every kind that was ever announced.
    pub kinds: Vec<Kind>,
    /// Of each kind with jobs that are not done.
    pub backlog: BTreeMap<Kind, Backlog>,
}

impl Schema {
    pub(super) fn new(found: Option<i32>, known: i32) -> Self {
        match found {
            None => Self::Missing,
            Some(found) if found < known => Self::Older { found, known },
            Some(found) if found > known => Self::Newer { found, known },
            Some(found) => Self::Known(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_compared_with_the_one_that_is_known() {
        assert_eq!(Schema::new(None, 2), Schema::Missing);
        assert_eq!(Schema::new(Some(1), 2), Schema::Older { found: 1, known: 2 });
        assert_eq!(Schema::new(Some(2), 2), Schema::Known(2));
        assert_eq!(Schema::new(Some(3), 2), Schema::Newer { found: 3, known: 2 });
    }
}
