use std::collections::HashMap;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::time::Time;
use rusqlite::{Row, params};
use uuid::Uuid;

use super::deliveries;
use super::row::{self, from_json, json};
use super::session::Session;
use crate::lifecycle::{Effect, Entry};
use crate::store::stored::Stored;
use crate::store::{Fed, StoreError, code};

/// Writes the rows that go with a move of a job. Of the internal tenant nobody reads the logs: it has none.
pub(super) fn write(session: &Session, stored: &Stored, effects: &[Effect], now: Time) -> Result<(), StoreError> {
    for effect in effects {
        match effect {
            Effect::Log(_) if stored.job.tenant.is_internal() => {}
            Effect::Log(entry) => {
                append(session, stored, entry)?;
                deliveries::raise(session, stored, entry, now)?;
            }
            Effect::KeepOutput(output) => {
                session.execute("INSERT INTO outputs (n, output) VALUES (?1, ?2)", params![stored.n, &output[..]])?;
            }
        }
    }
    Ok(())
}

fn append(session: &Session, stored: &Stored, entry: &Entry) -> Result<(), StoreError> {
    session.execute(
        "INSERT INTO events (tenant, feed, job, seq, at, type, attempt, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            stored.tenant,
            session.next_feed(stored.tenant)?,
            stored.n,
            entry.seq,
            entry.at.as_millis(),
            code::of_log_type(entry.r#type),
            entry.attempt,
            json(entry.data.as_ref())?,
        ],
    )?;
    Ok(())
}

/// The log of one job after `after`, oldest first.
pub(super) fn of_job(
    session: &Session,
    tenant: &Tenant,
    id: JobId,
    after: u32,
    most: usize,
) -> Result<Vec<Entry>, StoreError> {
    let Some(stored) = row::of_tenant(session, tenant, id)? else {
        return Ok(Vec::new());
    };
    let mut statement = session.prepare(
        "SELECT seq, at, type, attempt, data FROM events INDEXED BY events_job WHERE job = ?1 AND seq > ?2 \
         ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = statement.query(params![stored.n, after, code::limit(most)])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(entry(row)?);
    }
    Ok(entries)
}

/// The number of the newest entry of each of these jobs.
pub(super) fn seqs(session: &Session, tenant: &Tenant, ids: &[JobId]) -> Result<HashMap<JobId, u32>, StoreError> {
    let Some(tenant) = session.tenant_id(tenant)? else {
        return Ok(HashMap::new());
    };
    let mut statement = session.prepare("SELECT seq FROM jobs WHERE id = ?1 AND tenant = ?2")?;
    let mut seqs = HashMap::with_capacity(ids.len());
    for id in ids {
        let mut rows = statement.query(params![id.as_uuid(), tenant])?;
        if let Some(row) = rows.next()? {
            seqs.insert(*id, row.get(0)?);
        }
    }
    Ok(seqs)
}

/// What a tenant's jobs have logged after `after`, in the order of commits.
pub(super) fn of_tenant(session: &Session, tenant: &Tenant, after: i64, most: usize) -> Result<Vec<Fed>, StoreError> {
    let Some(tenant) = session.tenant_id(tenant)? else {
        return Ok(Vec::new());
    };
    let mut statement = session.prepare(
        "SELECT e.seq, e.at, e.type, e.attempt, e.data, e.feed, j.id, j.kind, j.tags FROM events AS e CROSS JOIN jobs AS j \
         ON j.n = e.job WHERE e.tenant = ?1 AND e.feed > ?2 ORDER BY e.feed LIMIT ?3",
    )?;
    let mut rows = statement.query(params![tenant, after, code::limit(most)])?;
    let mut fed = Vec::new();
    while let Some(row) = rows.next()? {
        fed.push(Fed {
            feed: row.get(5)?,
            job: JobId::from(row.get::<_, Uuid>(6)?),
            kind: session.kind(row.get(7)?)?,
            tags: from_json(row, 8)?.unwrap_or_default(),
            entry: entry(row)?,
        });
    }
    Ok(fed)
}

/// The number of a tenant's newest entry.
pub(super) fn end(session: &Session, tenant: &Tenant) -> Result<i64, StoreError> {
    let end = row::value(session, "SELECT feed FROM tenants WHERE name = ?1", &[&tenant.as_str()])?;
    Ok(end.unwrap_or_default())
}

fn entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    Ok(Entry {
        seq: row.get(0)?,
        at: Time::from_millis(row.get(1)?),
        r#type: code::log_type(row.get(2)?)?,
        attempt: row.get(3)?,
        data: from_json(row, 4)?,
    })
}
