use std::collections::BTreeMap;
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::Priority;
use buzzer_shared::kind::DeliveryMode;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Span, Time};
use rusqlite::types::FromSql;
use rusqlite::{Params, Row, ToSql, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::session::Session;
use crate::lifecycle::{Early, Job, Suspicion};
use crate::store::stored::{Stored, select_jobs};
use crate::store::{StoreError, code};

/// Reads every row of a statement made with [`select_jobs`].
pub(super) fn all(session: &Session, sql: &str, params: impl Params) -> Result<Vec<Stored>, StoreError> {
    let mut statement = session.prepare(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(stored(session, row)?);
    }
    Ok(found)
}

/// The same for rows of many jobs that have nothing to do with each other: one that cannot be read is left out and
/// told, and does not hold up the others.
pub(super) fn readable(session: &Session, sql: &str, params: impl Params) -> Result<Vec<Stored>, StoreError> {
    let mut statement = session.prepare(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match stored(session, row) {
            Ok(stored) => found.push(stored),
            Err(StoreError::Corrupt(reason)) => session.unreadable(row.get(0)?, &reason),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The job with this id, whosever it is.
pub(super) fn by_id(session: &Session, id: JobId) -> Result<Option<Stored>, StoreError> {
    let found = all(session, select_jobs!("WHERE j.id = ?1"), [id.as_uuid()])?;
    Ok(found.into_iter().next())
}

/// The job with this id, if it is this tenant's.
pub(super) fn of_tenant(session: &Session, tenant: &Tenant, id: JobId) -> Result<Option<Stored>, StoreError> {
    Ok(by_id(session, id)?.filter(|stored| stored.job.tenant == *tenant))
}

/// Writes a new row. `key` is the name of its idempotency key.
pub(super) fn insert(session: &Session, job: &Job, tenant: i64, key: Option<&str>) -> Result<i64, StoreError> {
    let tags = if job.tags.is_empty() { None } else { Some(serde_json::to_string(&job.tags)?) };
    session.execute(
        "INSERT INTO jobs (id, tenant, kind, priority, timeout, max_attempts, backoff, max_backoff, created_at, \
         expires_at, key, tags, phase, run_at, lease_until, attempt, dispatch, awaited, signal, seq, started_at, \
         finished_at, progress, error, retry_of, at_most_once, webhook) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, \
         ?23, ?24, ?25, ?26, ?27)",
        params![
            job.id.as_uuid(),
            tenant,
            session.keep_kind(&job.kind)?,
            job.priority.get(),
            code::of_length(job.timeout),
            job.retry.max_attempts,
            code::of_length(job.retry.backoff.as_duration()),
            code::of_length(job.retry.max_backoff.as_duration()),
            job.created_at.as_millis(),
            job.expires_at.map(Time::as_millis),
            key,
            tags,
            code::of_phase(job.phase),
            job.run_at.as_millis(),
            job.phase.lease().map(Time::as_millis),
            job.attempt,
            job.dispatch,
            job.awaited,
            job.signal,
            job.seq,
            job.started_at.map(Time::as_millis),
            job.finished_at.map(Time::as_millis),
            json(job.progress.as_ref())?,
            json(job.error.as_ref())?,
            job.retry_of.as_ref().map(JobId::as_uuid),
            job.delivery == DeliveryMode::AtMostOnce,
            json(job.webhook.as_ref())?,
        ],
    )?;
    Ok(session.connection.last_insert_rowid())
}

/// Writes all of a row that ever changes.
pub(super) fn update(session: &Session, stored: &Stored) -> Result<(), StoreError> {
    let job = &stored.job;
    session.execute(
        "UPDATE jobs SET phase = ?2, run_at = ?3, lease_until = ?4, attempt = ?5, dispatch = ?6, awaited = ?7, \
         signal = ?8, seq = ?9, started_at = ?10, finished_at = ?11, progress = ?12, error = ?13, cancel_requested_at = ?14, \
         early = ?15, alone = ?16, vanished = ?17, crashes = ?18, told = ?19 WHERE n = ?1",
        params![
            stored.n,
            code::of_phase(job.phase),
            job.run_at.as_millis(),
            job.phase.lease().map(Time::as_millis),
            job.attempt,
            job.dispatch,
            job.awaited,
            job.signal,
            job.seq,
            job.started_at.map(Time::as_millis),
            job.finished_at.map(Time::as_millis),
            json(job.progress.as_ref())?,
            json(job.error.as_ref())?,
            job.cancel_requested_at.map(Time::as_millis),
            job.early.map(|early| early.charged),
            job.suspicion.alone,
            job.suspicion.vanished,
            job.suspicion.crashes,
            job.told,
        ],
    )?;
    Ok(())
}

/// The job in the columns of [`crate::store::stored`].
pub(super) fn stored(session: &Session, row: &Row<'_>) -> Result<Stored, StoreError> {
    let tenant = row.get(2)?;
    let job = Job {
        id: JobId::from(row.get::<_, Uuid>(1)?),
        tenant: session.tenant(tenant)?,
        kind: session.kind(row.get(3)?)?,
        priority: Priority::try_from(row.get::<_, u8>(4)?).map_err(|error| StoreError::Corrupt(error.to_string()))?,
        timeout: length(row, 5)?,
        retry: RetryPolicy {
            max_attempts: row.get(6)?,
            backoff: Span::from(length(row, 7)?),
            max_backoff: Span::from(length(row, 8)?),
        },
        created_at: Time::from_millis(row.get(9)?),
        expires_at: time(row, 10)?,
        tags: from_json::<BTreeMap<_, _>>(row, 11)?.unwrap_or_default(),
        phase: code::phase(row.get(12)?, time(row, 14)?)?,
        run_at: Time::from_millis(row.get(13)?),
        attempt: row.get(15)?,
        dispatch: row.get(16)?,
        awaited: row.get(17)?,
        signal: row.get(18)?,
        seq: row.get(19)?,
        started_at: time(row, 20)?,
        finished_at: time(row, 21)?,
        progress: from_json(row, 22)?,
        error: from_json(row, 23)?,
        retry_of: row.get::<_, Option<Uuid>>(24)?.map(JobId::from),
        delivery: if row.get(25)? { DeliveryMode::AtMostOnce } else { DeliveryMode::AtLeastOnce },
        cancel_requested_at: time(row, 26)?,
        early: row.get::<_, Option<bool>>(27)?.map(|charged| Early { charged }),
        suspicion: Suspicion { alone: row.get(28)?, vanished: row.get(29)?, crashes: row.get(30)? },
        told: row.get(31)?,
        webhook: from_json(row, 32)?,
    };
    Ok(Stored { n: row.get(0)?, tenant, job })
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Time>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Time::from_millis))
}

fn length(row: &Row<'_>, column: usize) -> Result<Duration, StoreError> {
    Ok(code::length(row.get(column)?)?)
}

pub(super) fn json<T: Serialize>(value: Option<&T>) -> Result<Option<String>, StoreError> {
    Ok(value.map(serde_json::to_string).transpose()?)
}

pub(super) fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<Option<T>, StoreError> {
    match row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)? {
        Some(text) => Ok(Some(serde_json::from_str(text)?)),
        None => Ok(None),
    }
}

/// One value of one row, where there is one.
pub(super) fn value<T: FromSql>(
    session: &Session,
    sql: &'static str,
    params: &[&dyn ToSql],
) -> Result<Option<T>, StoreError> {
    let mut statement = session.prepare(sql)?;
    let mut rows = statement.query(params)?;
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
}
