use std::collections::HashMap;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::time::Time;
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::error::Failure;
use super::names::Names;
use super::row::{self, count, from_json};
use crate::lifecycle::Entry;
use crate::store::{Fed, code};

/// The log of one job after `after`, oldest first.
pub(super) async fn of_job(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    id: JobId,
    after: u32,
    most: usize,
) -> Result<Vec<Entry>, Failure> {
    let Some(tenant) = names.tenant_id(client, tenant).await? else {
        return Ok(Vec::new());
    };
    let rows = row::query(
        client,
        "SELECT e.seq, e.at, e.type, e.attempt, e.data FROM jobs AS j JOIN events AS e ON e.job = j.n \
         WHERE j.id = $1 AND j.tenant = $2 AND e.seq > $3 ORDER BY e.seq LIMIT $4",
        &[id.as_uuid(), &tenant, &i64::from(after), &code::limit(most)],
    )
    .await?;
    rows.iter().map(entry).collect()
}

/// The number of the newest entry of each of these jobs.
pub(super) async fn seqs(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    ids: &[JobId],
) -> Result<HashMap<JobId, u32>, Failure> {
    let Some(tenant) = names.tenant_id(client, tenant).await? else {
        return Ok(HashMap::new());
    };
    let ids: Vec<_> = ids.iter().map(|id| *id.as_uuid()).collect();
    let sql = "SELECT id, seq FROM jobs WHERE id = ANY($1) AND tenant = $2";
    let rows = row::query(client, sql, &[&ids, &tenant]).await?;
    rows.iter().map(|row| Ok((JobId::from(row.try_get::<_, Uuid>(0)?), count(row, 1)?))).collect()
}

/// What a tenant's jobs have logged after `after`, in the order of commits.
pub(super) async fn of_tenant(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    after: i64,
    most: usize,
) -> Result<Vec<Fed>, Failure> {
    let Some(tenant) = names.tenant_id(client, tenant).await? else {
        return Ok(Vec::new());
    };
    let rows = row::query(
        client,
        "SELECT e.seq, e.at, e.type, e.attempt, e.data, e.feed, j.id, j.kind, j.tags \
         FROM events AS e JOIN jobs AS j ON j.n = e.job \
         WHERE e.tenant = $1 AND e.feed > $2 ORDER BY e.feed LIMIT $3",
        &[&tenant, &after, &code::limit(most)],
    )
    .await?;
    let kinds = rows.iter().map(|row| row.try_get(7)).collect::<Result<Vec<i64>, _>>()?;
    names.learn_kinds(client, kinds).await?;
    let fed = |row: &Row| {
        Ok(Fed {
            feed: row.try_get(5)?,
            job: JobId::from(row.try_get::<_, Uuid>(6)?),
            kind: names.kind(row.try_get(7)?)?,
            tags: from_json(row, 8)?.unwrap_or_default(),
            entry: entry(row)?,
        })
    };
    rows.iter().map(fed).collect()
}

/// The number of a tenant's newest entry.
pub(super) async fn end(client: &impl GenericClient, tenant: &Tenant) -> Result<i64, Failure> {
    let end = row::first(client, "SELECT feed FROM tenants WHERE name = $1", &[&tenant.as_str()]).await?;
    Ok(end.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}

fn entry(row: &Row) -> Result<Entry, Failure> {
    Ok(Entry {
        seq: count(row, 0)?,
        at: Time::from_millis(row.try_get(1)?),
        r#type: code::log_type(row.try_get(2)?)?,
        attempt: count(row, 3)?,
        data: from_json(row, 4)?,
    })
}
