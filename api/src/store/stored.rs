//! The row of a job, as every store has it: the same columns in the same order.

use crate::lifecycle::Job;

/// A job with the numbers that its rows are found by.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) n: i64,
    pub(super) tenant: i64,
    pub(super) job: Job,
}

/// The columns of `j` that make a [`Stored`]. Each store reads them by their place.
macro_rules! job_columns {
    () => {
        "j.n, j.id, j.tenant, j.kind, j.priority, j.timeout, j.max_attempts, j.backoff, j.max_backoff, j.created_at, \
         j.expires_at, j.tags, j.phase, j.run_at, j.lease_until, j.attempt, j.dispatch, j.awaited, j.signal, j.seq, \
         j.started_at, j.finished_at, j.progress, j.error, j.retry_of, j.at_most_once, j.cancel_requested_at, j.early, \
         j.alone, j.vanished, j.crashes, j.told"
    };
}
pub(super) use job_columns;

/// Where some of them are.
pub(super) const TENANT: usize = 2;
pub(super) const KIND: usize = 3;
/// How many they are; what else a statement selects comes after them.
pub(super) const COLUMNS: usize = 32;

/// `SELECT` with these columns; the rest of the statement follows.
macro_rules! select_jobs {
    ($rest:literal) => {
        concat!("SELECT ", crate::store::stored::job_columns!(), " FROM jobs AS j ", $rest)
    };
}
pub(super) use select_jobs;
