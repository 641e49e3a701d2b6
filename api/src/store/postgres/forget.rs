use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::time::Time;
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::error::Failure;
use super::house::House;
use super::list;
use super::row::{self, Parameters};
use crate::lifecycle::Phase;
use crate::retention::Retention;
use crate::store::{Deleted, code};

const WITHOUT_KEY: &str = "SELECT n FROM jobs WHERE kind = $1 AND finished_at < $2 AND finished_at IS NOT NULL \
                           AND key IS NULL ORDER BY finished_at LIMIT $3 FOR UPDATE SKIP LOCKED";
const WITH_KEY: &str = "SELECT n FROM jobs WHERE kind = $1 AND created_at < $4 AND finished_at < $2 \
                        AND finished_at IS NOT NULL AND key IS NOT NULL ORDER BY created_at LIMIT $3 \
                        FOR UPDATE SKIP LOCKED";

/// Deletes jobs that need not be kept any longer, at most `most`. Those that another replica deletes now are passed by.
pub(super) async fn forget(house: &House, retention: &Retention, now: Time, most: usize) -> Result<usize, Failure> {
    let mut client = house.pools.work().await?;
    let kinds = house.names.all_kinds(&client).await?;
    let transaction = client.transaction().await?;
    let mut old: Vec<i64> = Vec::new();
    for (id, kind) in kinds {
        let cutoff = retention.cutoff(&kind, now);
        let (finished, keyed) = (cutoff.finished_before.as_millis(), cutoff.keyed_before.as_millis());
        old.extend(numbers(&transaction, WITHOUT_KEY, &[&id, &finished, &code::limit(most - old.len())]).await?);
        old.extend(numbers(&transaction, WITH_KEY, &[&id, &finished, &code::limit(most - old.len()), &keyed]).await?);
        if old.len() == most {
            break;
        }
    }
    erase(&transaction, &old).await?;
    // Whoever left it has long known what became of its commit.
    row::execute(&transaction, "DELETE FROM commits WHERE at < now() - interval '1 minute'", &[]).await?;
    transaction.commit().await?;
    Ok(old.len())
}

/// Deletes one job of a tenant if it is done.
pub(super) async fn delete(house: &House, tenant: &Tenant, id: JobId) -> Result<Deleted, Failure> {
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    let Some(stored) = row::of_tenant_locked(&transaction, &house.names, tenant, id).await? else {
        return Ok(Deleted::Unknown);
    };
    if !matches!(stored.job.phase, Phase::Done(_)) {
        return Ok(Deleted::NotDone(stored.job));
    }
    let Some(whole) = list::with_content(&transaction, &house.names, tenant, id).await? else {
        return Ok(Deleted::Unknown);
    };
    erase(&transaction, &[stored.n]).await?;
    transaction.commit().await?;
    Ok(Deleted::Gone(whole))
}

/// Deletes jobs, whose rows are locked, with all that belongs to them.
async fn erase(transaction: &Transaction<'_>, jobs: &[i64]) -> Result<(), Failure> {
    if jobs.is_empty() {
        return Ok(());
    }
    for sql in [
        "DELETE FROM events WHERE job = ANY($1)",
        "DELETE FROM deliveries WHERE job = ANY($1) AND job IS NOT NULL",
        "DELETE FROM job_tags WHERE n = ANY($1)",
        "DELETE FROM keys AS k USING jobs AS j \
         WHERE j.n = ANY($1) AND j.key IS NOT NULL AND k.tenant = j.tenant AND k.name = j.key",
        "DELETE FROM jobs WHERE n = ANY($1)",
    ] {
        row::execute(transaction, sql, &[&jobs]).await?;
    }
    Ok(())
}

async fn numbers(transaction: &Transaction<'_>, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<i64>, Failure> {
    let rows = row::query(transaction, sql, parameters).await?;
    Ok(rows.iter().map(|row: &Row| row.try_get(0)).collect::<Result<_, _>>()?)
}
