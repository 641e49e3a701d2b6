use std::collections::BTreeMap;
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::Priority;
use buzzer_shared::kind::DeliveryMode;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Span, Time};
use bytes::Bytes;
use deadpool_postgres::GenericClient;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::error::Failure;
use super::names::Names;
use crate::lifecycle::{Early, Job, Suspicion};
use crate::store::code;
use crate::store::stored::{KIND, Stored, TENANT, select_jobs};

/// Parameters of a statement.
pub(super) type Parameters<'a> = [&'a (dyn ToSql + Sync)];

/// Runs a statement that is prepared once for each connection.
pub(super) async fn query(
    client: &impl GenericClient,
    sql: &str,
    parameters: &Parameters<'_>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query(&statement, parameters).await
}

/// The same for one row at most.
pub(super) async fn first(
    client: &impl GenericClient,
    sql: &str,
    parameters: &Parameters<'_>,
) -> Result<Option<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query_opt(&statement, parameters).await
}

/// The same for a statement that returns nothing; tells how many rows it changed.
pub(super) async fn execute(
    client: &impl GenericClient,
    sql: &str,
    parameters: &Parameters<'_>,
) -> Result<u64, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, parameters).await
}

/// Reads every row of a statement made with [`select_jobs`].
pub(super) async fn all(
    client: &impl GenericClient,
    names: &Names,
    sql: &str,
    parameters: &Parameters<'_>,
) -> Result<Vec<Stored>, Failure> {
    let rows = query(client, sql, parameters).await?;
    names.learn(client, &rows).await?;
    rows.iter().map(|row| stored(names, row)).collect()
}

/// The same for rows of many jobs that have nothing to do with each other, with what `more` makes of each row: one that
/// cannot be read is left out and told, and does not hold up the others.
pub(super) async fn readable<T>(
    client: &impl GenericClient,
    names: &Names,
    sql: &str,
    parameters: &Parameters<'_>,
    more: impl Fn(&Row) -> Result<T, Failure>,
) -> Result<Vec<(Stored, T)>, Failure> {
    let rows = query(client, sql, parameters).await?;
    names.learn(client, &rows).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        match stored(names, row).and_then(|stored| Ok((stored, more(row)?))) {
            Ok(readable) => found.push(readable),
            Err(Failure::Corrupt(reason)) => names.unreadable(row.try_get(0)?, &reason),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The job with this id, if it is this tenant's.
pub(super) async fn of_tenant(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    id: JobId,
) -> Result<Option<Stored>, Failure> {
    let found = all(client, names, select_jobs!("WHERE j.id = $1"), &[id.as_uuid()]).await?;
    Ok(found.into_iter().next().filter(|stored| stored.job.tenant == *tenant))
}

/// The same, and nobody else changes it until the transaction ends.
pub(super) async fn of_tenant_locked(
    client: &impl GenericClient,
    names: &Names,
    tenant: &Tenant,
    id: JobId,
) -> Result<Option<Stored>, Failure> {
    let found = all(client, names, select_jobs!("WHERE j.id = $1 FOR NO KEY UPDATE"), &[id.as_uuid()]).await?;
    Ok(found.into_iter().next().filter(|stored| stored.job.tenant == *tenant))
}

pub(super) fn stored(names: &Names, row: &Row) -> Result<Stored, Failure> {
    let tenant = row.try_get(TENANT)?;
    let priority = u8::try_from(row.try_get::<_, i16>(4)?).unwrap_or(u8::MAX);
    let job = Job {
        id: JobId::from(row.try_get::<_, Uuid>(1)?),
        tenant: names.tenant(tenant)?,
        kind: names.kind(row.try_get(KIND)?)?,
        priority: Priority::try_from(priority).map_err(|error| Failure::Corrupt(error.to_string()))?,
        timeout: length(row, 5)?,
        retry: RetryPolicy {
            max_attempts: count(row, 6)?,
            backoff: Span::from(length(row, 7)?),
            max_backoff: Span::from(length(row, 8)?),
        },
        created_at: Time::from_millis(row.try_get(9)?),
        expires_at: time(row, 10)?,
        tags: from_json::<BTreeMap<_, _>>(row, 11)?.unwrap_or_default(),
        phase: code::phase(row.try_get(12)?, time(row, 14)?)?,
        run_at: Time::from_millis(row.try_get(13)?),
        attempt: count(row, 15)?,
        dispatch: count(row, 16)?,
        awaited: row.try_get(17)?,
        signal: count(row, 18)?,
        seq: count(row, 19)?,
        started_at: time(row, 20)?,
        finished_at: time(row, 21)?,
        progress: from_json(row, 22)?,
        error: from_json(row, 23)?,
        retry_of: row.try_get::<_, Option<Uuid>>(24)?.map(JobId::from),
        delivery: if row.try_get(25)? { DeliveryMode::AtMostOnce } else { DeliveryMode::AtLeastOnce },
        cancel_requested_at: time(row, 26)?,
        early: row.try_get::<_, Option<bool>>(27)?.map(|charged| Early { charged }),
        suspicion: Suspicion { alone: row.try_get(28)?, vanished: count(row, 29)?, crashes: count(row, 30)? },
        told: count(row, 31)?,
        webhook: from_json(row, 32)?,
    };
    Ok(Stored { n: row.try_get(0)?, tenant, job })
}

pub(super) fn count(row: &Row, column: usize) -> Result<u32, Failure> {
    let count: i64 = row.try_get(column)?;
    u32::try_from(count).map_err(|_| Failure::Corrupt(format!("a count of {count}")))
}

pub(super) fn time(row: &Row, column: usize) -> Result<Option<Time>, Failure> {
    Ok(row.try_get::<_, Option<i64>>(column)?.map(Time::from_millis))
}

fn length(row: &Row, column: usize) -> Result<Duration, Failure> {
    Ok(code::length(row.try_get(column)?)?)
}

/// Bytes as they came.
pub(super) fn bytes(row: &Row, column: usize) -> Result<Option<Bytes>, Failure> {
    Ok(row.try_get::<_, Option<&[u8]>>(column)?.map(Bytes::copy_from_slice))
}

pub(super) fn json<T: Serialize>(value: Option<&T>) -> Result<Option<String>, Failure> {
    Ok(value.map(serde_json::to_string).transpose()?)
}

pub(super) fn from_json<T: DeserializeOwned>(row: &Row, column: usize) -> Result<Option<T>, Failure> {
    match row.try_get::<_, Option<&str>>(column)? {
        Some(text) => Ok(Some(serde_json::from_str(text)?)),
        None => Ok(None),
    }
}
