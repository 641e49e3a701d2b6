use std::time::Duration;

use deadpool_postgres::Transaction;
use futures_util::future::try_join;
use tokio::time::timeout;

use super::error::Failure;
use super::hints::Hints;
use super::names::Names;
use super::pools::Pools;
use super::row;
use super::writes::Writes;

/// How soon a server is asked again what became of a commit.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// How long it is asked: meanwhile others wait behind this transaction, and would rather know that nothing works.
const FATE_LIMIT: Duration = Duration::from_secs(5);

/// What every step of the store needs.
#[derive(Debug)]
pub(super) struct House {
    pub(super) pools: Pools,
    pub(super) names: Names,
    pub(super) hints: Hints,
}

impl House {
    /// Writes everything, commits, and tells the other replicas.
    ///
    /// Where the line breaks during the commit, nobody here knows whether it came to pass: the server does, also after a
    /// crash, and is asked, as long as it is there again soon.
    pub(super) async fn commit(&self, transaction: Transaction<'_>, writes: Writes) -> Result<(), Failure> {
        if writes.is_empty() {
            return Ok(transaction.commit().await?);
        }
        let (number, news) = try_join(number(&transaction), writes.write(&transaction)).await?;
        match transaction.commit().await {
            Err(error) if error.code().is_none() => self.learn_fate(&number, error.into()).await?,
            committed => committed?,
        }
        self.hints.committed(news);
        Ok(())
    }

    async fn learn_fate(&self, number: &str, failure: Failure) -> Result<(), Failure> {
        let known = async {
            loop {
                match self.fate(number).await.as_deref() {
                    Ok("committed") => return true,
                    Ok("aborted") => return false,
                    // It is under way, or the server is not there yet.
                    Ok(_) | Err(_) => tokio::time::sleep(ASK_AGAIN).await,
                }
            }
        };
        match timeout(FATE_LIMIT, known).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(failure),
        }
    }

    async fn fate(&self, number: &str) -> Result<String, Failure> {
        let client = self.pools.work().await?;
        let fate =
            row::first(&client, "SELECT coalesce(pg_xact_status($1::text::xid8), 'aborted')", &[&number]).await?;
        fate.map_or_else(|| Ok("aborted".into()), |row| Ok(row.try_get(0)?))
    }
}

/// The number by which the server knows this transaction.
async fn number(transaction: &Transaction<'_>) -> Result<String, Failure> {
    let row = row::first(transaction, "SELECT pg_current_xact_id()::text", &[]).await?;
    row.map_or_else(|| Ok(String::new()), |row| Ok(row.try_get(0)?))
}
