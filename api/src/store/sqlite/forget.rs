use buzzer_shared::time::Time;
use rusqlite::params;
use std::collections::BTreeMap;

use super::row::{from_json, limit};
use super::session::Session;
use crate::store::StoreError;

/// A job to be deleted, with what leads to its other rows.
struct Old {
    n: i64,
    tenant: i64,
    key: Option<String>,
    tags: BTreeMap<String, String>,
}

/// Deletes jobs that were done before `before`, but none whose key is younger than `keys_before`.
pub(super) fn forget(session: &Session, before: Time, keys_before: Time, most: usize) -> Result<usize, StoreError> {
    let jobs = old(session, before, keys_before, most)?;
    for job in &jobs {
        session.execute("DELETE FROM events WHERE job = ?1", [job.n])?;
        session.execute("DELETE FROM inputs WHERE n = ?1", [job.n])?;
        session.execute("DELETE FROM outputs WHERE n = ?1", [job.n])?;
        if let Some(key) = &job.key {
            session.execute("DELETE FROM keys WHERE tenant = ?1 AND name = ?2", params![job.tenant, key])?;
        }
        for (name, value) in &job.tags {
            session.execute(
                "DELETE FROM job_tags WHERE tenant = ?1 AND name = ?2 AND value = ?3 AND n = ?4",
                params![job.tenant, name, value, job.n],
            )?;
        }
        session.execute("DELETE FROM jobs WHERE n = ?1", [job.n])?;
    }
    Ok(jobs.len())
}

fn old(session: &Session, before: Time, keys_before: Time, most: usize) -> Result<Vec<Old>, StoreError> {
    let mut statement = session.prepare(
        "SELECT n, tenant, key, tags FROM jobs INDEXED BY jobs_finished \
         WHERE finished_at < ?1 AND (key IS NULL OR created_at < ?2) ORDER BY finished_at LIMIT ?3",
    )?;
    let mut rows = statement.query(params![before.as_millis(), keys_before.as_millis(), limit(most)])?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        let tags = from_json(row, 3)?.unwrap_or_default();
        jobs.push(Old { n: row.get(0)?, tenant: row.get(1)?, key: row.get(2)?, tags });
    }
    Ok(jobs)
}
