use deadpool_postgres::Transaction;

use super::error::Failure;
use super::hints::Hints;
use super::names::Names;
use super::pools::Pools;
use super::writes::Writes;

/// What every step of the store needs.
#[derive(Debug)]
pub(super) struct House {
    pub(super) pools: Pools,
    pub(super) names: Names,
    pub(super) hints: Hints,
}

impl House {
    /// Writes everything, commits, and tells the other replicas.
    pub(super) async fn commit(&self, transaction: Transaction<'_>, writes: Writes) -> Result<(), Failure> {
        let news = writes.write(&transaction).await?;
        transaction.commit().await?;
        self.hints.committed(news);
        Ok(())
    }
}
