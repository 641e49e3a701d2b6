use std::collections::BTreeMap;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::kind::Kind;
use buzzer_shared::time::Time;
use rusqlite::{Params, params};

use super::list;
use super::row::from_json;
use super::session::Session;
use crate::lifecycle::Phase;
use crate::retention::Retention;
use crate::store::{Deleted, StoreError, code};

/// A job to be deleted, with what leads to its other rows.
struct Old {
    n: i64,
    tenant: i64,
    key: Option<String>,
    tags: BTreeMap<String, String>,
}

/// Deletes jobs that need not be kept any longer, at most `most`.
pub(super) fn forget(session: &Session, retention: &Retention, now: Time, most: usize) -> Result<usize, StoreError> {
    let mut forgotten = 0;
    for (id, kind) in kinds(session)? {
        let cutoff = retention.cutoff(&kind, now);
        let (finished, keyed) = (cutoff.finished_before.as_millis(), cutoff.keyed_before.as_millis());
        let without_key = old(session, WITHOUT_KEY, params![id, finished, code::limit(most - forgotten)])?;
        forgotten += without_key.len();
        let with_key = old(session, WITH_KEY, params![id, finished, code::limit(most - forgotten), keyed])?;
        forgotten += with_key.len();
        without_key.iter().chain(&with_key).try_for_each(|job| erase(session, job))?;
        if forgotten == most {
            break;
        }
    }
    Ok(forgotten)
}

const WITHOUT_KEY: &str = "SELECT n, tenant, key, tags FROM jobs INDEXED BY jobs_finished \
                           WHERE kind = ?1 AND finished_at < ?2 AND key IS NULL ORDER BY finished_at LIMIT ?3";
const WITH_KEY: &str = "SELECT n, tenant, key, tags FROM jobs INDEXED BY jobs_finished_keyed \
                        WHERE kind = ?1 AND created_at < ?4 AND finished_at < ?2 AND key IS NOT NULL \
                        ORDER BY created_at LIMIT ?3";

/// Deletes one job of a tenant if it is done.
pub(super) fn delete(session: &Session, tenant: &Tenant, id: JobId) -> Result<Deleted, StoreError> {
    let Some(whole) = list::with_content(session, tenant, id)? else {
        return Ok(Deleted::Unknown);
    };
    if !matches!(whole.job.phase, Phase::Done(_)) {
        return Ok(Deleted::NotDone(whole.job));
    }
    let found = old(session, "SELECT n, tenant, key, tags FROM jobs WHERE id = ?1", [id.as_uuid()])?;
    found.iter().try_for_each(|job| erase(session, job))?;
    Ok(Deleted::Gone(whole))
}

fn erase(session: &Session, job: &Old) -> Result<(), StoreError> {
    session.execute("DELETE FROM events WHERE job = ?1", [job.n])?;
    session.execute("DELETE FROM deliveries WHERE job = ?1", [job.n])?;
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
    Ok(())
}

fn kinds(session: &Session) -> Result<Vec<(i64, Kind)>, StoreError> {
    let mut statement = session.prepare("SELECT id FROM kinds")?;
    let mut rows = statement.query([])?;
    let mut kinds = Vec::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        kinds.push((id, session.kind(id)?));
    }
    Ok(kinds)
}

fn old(session: &Session, sql: &'static str, params: impl Params) -> Result<Vec<Old>, StoreError> {
    let mut statement = session.prepare(sql)?;
    let mut rows = statement.query(params)?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        let tags = from_json(row, 3)?.unwrap_or_default();
        jobs.push(Old { n: row.get(0)?, tenant: row.get(1)?, key: row.get(2)?, tags });
    }
    Ok(jobs)
}
