use std::time::Duration;

use buzzer_shared::id::Tenant;
use deadpool_postgres::{GenericClient, Transaction};
use futures_util::future::try_join;
use tokio::time::timeout;
use uuid::Uuid;

use super::error::Failure;
use super::hints::{Hints, News};
use super::hooks::Hooks;
use super::names::Names;
use super::pools::Pools;
use super::row::{self, Parameters};
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
    pub(super) hooks: Hooks,
}

impl House {
    /// Writes everything, commits, and tells the other replicas.
    pub(super) async fn commit(&self, transaction: Transaction<'_>, writes: Writes) -> Result<(), Failure> {
        if writes.is_empty() {
            return Ok(transaction.commit().await?);
        }
        let (mark, news) = try_join(Mark::leave(&transaction), writes.write(&transaction, &self.hooks)).await?;
        let committed = transaction.commit().await;
        self.settle(committed, &mark, news).await
    }

    /// Tells the other replicas of a commit.
    ///
    /// Where the line breaks during the commit, nobody here knows whether it came to pass: the server does, also after a
    /// crash, and is asked, as long as it is there again soon.
    pub(super) async fn settle(
        &self,
        committed: Result<(), tokio_postgres::Error>,
        mark: &Mark,
        news: News,
    ) -> Result<(), Failure> {
        match committed {
            Err(error) if error.code().is_none() => self.learn_fate(mark, error.into()).await?,
            committed => committed?,
        }
        self.hints.committed(news);
        Ok(())
    }

    /// The names of tenants that other replicas spoke of.
    pub(super) async fn names_of(&self, tenants: Vec<i64>) -> Result<Vec<Tenant>, Failure> {
        let known = |id: &i64| self.names.tenant(*id);
        match tenants.iter().map(known).collect() {
            Ok(names) => Ok(names),
            Err(_) => {
                self.names.learn_tenants(&self.pools.read().await?, tenants.clone()).await?;
                tenants.iter().map(known).collect()
            }
        }
    }

    async fn learn_fate(&self, mark: &Mark, failure: Failure) -> Result<(), Failure> {
        let known = async {
            loop {
                match self.fate(mark).await {
                    Ok(Fate::Committed) => return true,
                    Ok(Fate::Aborted) => return false,
                    // The server may not be there yet.
                    Ok(Fate::UnderWay) | Err(_) => tokio::time::sleep(ASK_AGAIN).await,
                }
            }
        };
        match timeout(FATE_LIMIT, known).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(failure),
        }
    }

    async fn fate(&self, mark: &Mark) -> Result<Fate, Failure> {
        let client = self.pools.work().await?;
        // In this order, one after the other: a mark that is not there once nothing is under way will never be.
        let under_way = "SELECT coalesce(pg_xact_status($1::text::xid8) = 'in progress', false)";
        if holds(&client, under_way, &[&mark.transaction]).await? {
            return Ok(Fate::UnderWay);
        }
        let is_there = holds(&client, "SELECT EXISTS (SELECT FROM commits WHERE mark = $1)", &[&mark.id]).await?;
        Ok(if is_there { Fate::Committed } else { Fate::Aborted })
    }
}

async fn holds(client: &impl GenericClient, question: &str, about: &Parameters<'_>) -> Result<bool, Failure> {
    Ok(row::first(client, question, about).await?.map_or(Ok(false), |row| row.try_get(0))?)
}

/// What became of a transaction.
enum Fate {
    Committed,
    Aborted,
    UnderWay,
}

/// What a transaction leaves behind if it is committed, and by which number the server knows it until then.
#[derive(Debug)]
pub(super) struct Mark {
    id: Uuid,
    transaction: String,
}

impl Mark {
    pub(super) async fn leave(client: &impl GenericClient) -> Result<Self, Failure> {
        let id = Uuid::now_v7();
        let leave = "INSERT INTO commits (mark) VALUES ($1) RETURNING pg_current_xact_id()::text";
        let row = row::first(client, leave, &[&id]).await?;
        Ok(Self { id, transaction: row.map_or_else(|| Ok(String::new()), |row| row.try_get(0))? })
    }
}
