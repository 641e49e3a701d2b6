//! The rows of jobs, webhooks, deliveries and contracts, as every store has them: the same columns in the same order.

use crate::delivery::Wants;
use crate::lifecycle::{Job, LogType};
use crate::store::{KnownContract, KnownKind};

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
         j.alone, j.vanished, j.crashes, j.told, j.webhook"
    };
}
pub(super) use job_columns;

/// Where some of them are.
pub(super) const TENANT: usize = 2;
pub(super) const KIND: usize = 3;
/// How many they are; what else a statement selects comes after them.
pub(super) const COLUMNS: usize = 33;

/// `SELECT` with these columns; the rest of the statement follows.
macro_rules! select_jobs {
    ($rest:literal) => {
        concat!("SELECT ", crate::store::stored::job_columns!(), " FROM jobs AS j ", $rest)
    };
}
pub(super) use select_jobs;

/// A webhook that is enabled, as far as it must be known whenever a log grows.
#[derive(Debug)]
pub(super) struct Hook {
    pub(super) n: i64,
    pub(super) wants: Wants,
}

/// Those of them that are to be told of an entry of a job's log.
pub(super) fn wanting<'a>(hooks: &'a [Hook], job: &'a Job, r#type: LogType) -> impl Iterator<Item = &'a Hook> {
    hooks.iter().filter(move |hook| hook.wants.want(job, r#type))
}

/// The columns of `w` that make a webhook. Each store reads them by their place.
macro_rules! webhook_columns {
    () => {
        "w.n, w.id, w.url, w.wants, w.description, w.secrets, w.created_at, w.failing_since, w.paused_until, w.slow, \
         w.disabled_at, w.disabled_why"
    };
}
pub(super) use webhook_columns;

/// The columns of `d`, and of the job `j` of it, that make a delivery.
macro_rules! delivery_columns {
    () => {
        "d.n, d.id, d.url, j.id, d.seq, d.type, d.created_at, d.state, d.due_at, d.run, d.ended_at, d.failed, d.attempts"
    };
}
pub(super) use delivery_columns;
/// How many they are.
pub(super) const DELIVERY_COLUMNS: usize = 13;

/// The kinds whose contracts these are, which stand by kind and version.
pub(super) fn by_kind(contracts: Vec<KnownContract>) -> Vec<KnownKind> {
    let mut kinds: Vec<KnownKind> = Vec::new();
    for contract in contracts {
        match kinds.last_mut() {
            Some(kind) if kind.name == contract.spec.name => kind.contracts.push(contract),
            _ => kinds.push(KnownKind { name: contract.spec.name.clone(), contracts: vec![contract] }),
        }
    }
    kinds
}
