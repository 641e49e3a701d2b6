use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Target;
use super::error::Failure;
use super::open::OpenError;
use crate::store::DEADLINE;

/// How many transactions of the writer may be open at a time: while one waits for the disk, the other does its work.
pub(super) const WRITERS: usize = 2;
/// For claims, sweeps, beats: what is neither a submission nor an outcome.
const WORK: usize = 4;
/// Enough that a long list does not hold up a short question.
const READS: usize = 4;

/// What every connection is told first.
///
/// The limits of time end what the caller has given up already, so that it holds no locks for nobody. The indexes are
/// made for the statements: PostgreSQL, which plans by what it last counted, must not read all of a table that has
/// grown since, and needs no compiler for rows that are found by their key. A commit counts when it is on disk, or where
/// the operator has asked for more, on the replicas' disks.
pub(super) const SESSION: &str = "SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write'); SET statement_timeout = '25s'; SET lock_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '30s'; SET TIME ZONE 'UTC'; \
     SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET jit = off; \
     SET plan_cache_mode = force_generic_plan";

/// A batch that waits for a row holds up all that is in it.
const WRITERS_PATIENCE: &str = "SET lock_timeout = '2s'";

/// The connections of one replica. Each purpose has its own, so that none can starve another.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    writers: Pool,
    work: Pool,
    reads: Pool,
}

impl Pools {
    pub(super) fn new(target: &Target, tls: &MakeRustlsConnect) -> Result<Self, OpenError> {
        Ok(Self {
            writers: pool(target, tls, WRITERS, &[SESSION, WRITERS_PATIENCE])?,
            work: pool(target, tls, WORK, &[SESSION])?,
            reads: pool(target, tls, READS, &[SESSION])?,
        })
    }

    /// For submissions and outcomes.
    pub(super) async fn writer(&self) -> Result<Object, Failure> {
        Ok(self.writers.get().await?)
    }

    /// For everything else that writes.
    pub(super) async fn work(&self) -> Result<Object, Failure> {
        Ok(self.work.get().await?)
    }

    /// For questions.
    pub(super) async fn read(&self) -> Result<Object, Failure> {
        Ok(self.reads.get().await?)
    }
}

fn pool(
    target: &Target,
    tls: &MakeRustlsConnect,
    size: usize,
    session: &'static [&'static str],
) -> Result<Pool, OpenError> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(target.config.clone(), tls.clone(), recycling);
    let prepare = Hook::async_fn(move |client, _| {
        Box::pin(async move {
            for words in session {
                client.batch_execute(words).await.map_err(HookError::Backend)?;
            }
            Ok(())
        })
    });
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts { wait: Some(DEADLINE), create: Some(DEADLINE), recycle: Some(DEADLINE) })
        .post_create(prepare)
        .build()
        .map_err(|error| OpenError::Refused { at: target.shown.clone(), reason: error.to_string() })
}
