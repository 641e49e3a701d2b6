use std::collections::{BTreeMap, HashMap};

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::kind::Kind;
use buzzer_shared::time::Time;
use rusqlite::params;

use super::row;
use super::session::Session;
use crate::lifecycle::Phase;
use crate::store::stored::Stored;
use crate::store::{Backlog, StoreError, Usage};

/// How many jobs of each kind are out.
pub(super) fn out(session: &Session) -> Result<HashMap<Kind, usize>, StoreError> {
    let mut counted = HashMap::new();
    for (kind, _, count) in by_kind(session, OUT)? {
        counted.insert(kind, usize::try_from(count).unwrap_or(usize::MAX));
    }
    Ok(counted)
}

/// Numbers for each kind that has jobs which are not done.
pub(super) fn backlog(session: &Session) -> Result<BTreeMap<Kind, Backlog>, StoreError> {
    let mut backlog: BTreeMap<Kind, Backlog> = BTreeMap::new();
    for (kind, _, count) in by_kind(session, OUT)? {
        backlog.entry(kind).or_default().out = count;
    }
    for (kind, phase, count) in by_kind(session, DUE)? {
        let of_kind = backlog.entry(kind).or_default();
        if phase == 0 {
            of_kind.scheduled = count;
        } else {
            of_kind.retrying = count;
        }
    }
    for (kind, first, count) in by_kind(session, READY)? {
        let accepted = row::value(session, "SELECT created_at FROM jobs WHERE n = ?1", &[&first])?;
        let of_kind = backlog.entry(kind).or_default();
        of_kind.ready = count;
        of_kind.oldest = accepted.map(Time::from_millis);
    }
    Ok(backlog)
}

// Each is answered by an index alone.
const OUT: &str = "SELECT kind, 0, count(*) FROM jobs INDEXED BY jobs_leases \
                   WHERE lease_until IS NOT NULL GROUP BY kind";
const DUE: &str = "SELECT kind, phase, count(*) FROM jobs INDEXED BY jobs_due \
                   WHERE phase IN (0, 4) GROUP BY kind, phase";
const READY: &str = "SELECT kind, min(n), count(*) FROM jobs INDEXED BY jobs_ready WHERE phase = 1 GROUP BY kind";

fn by_kind(session: &Session, sql: &'static str) -> Result<Vec<(Kind, i64, u64)>, StoreError> {
    let mut statement = session.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut counts = Vec::new();
    while let Some(row) = rows.next()? {
        let count: i64 = row.get(2)?;
        counts.push((session.kind(row.get(0)?)?, row.get(1)?, count.unsigned_abs()));
    }
    Ok(counts)
}

/// How many ready jobs of its kind go out before this one; `None` beyond `limit`, or when it is not ready itself.
pub(super) fn place(session: &Session, tenant: &Tenant, id: JobId, limit: u32) -> Result<Option<u32>, StoreError> {
    let Some(stored) = row::of_tenant(session, tenant, id)?.filter(is_ready) else {
        return Ok(None);
    };
    let Some(kind) = session.kind_id(&stored.job.kind)? else {
        return Ok(None);
    };
    let before: u32 = session
        .prepare(
            "SELECT count(*) FROM (\
             SELECT 1 FROM jobs INDEXED BY jobs_ready WHERE phase = 1 AND kind = ?1 AND priority > ?2 UNION ALL \
             SELECT 1 FROM jobs INDEXED BY jobs_ready WHERE phase = 1 AND kind = ?1 AND priority = ?2 AND n < ?3 \
             LIMIT ?4)",
        )?
        .query_one(params![kind, stored.job.priority.get(), stored.n, i64::from(limit) + 1], |row| row.get(0))?;
    Ok(Some(before).filter(|before| *before <= limit))
}

fn is_ready(stored: &Stored) -> bool {
    stored.job.phase == Phase::Ready
}

/// How much there is. Counts are read from indexes that hold only what is not done. Deliveries have jobs, too, that no tenant
/// has handed in; some of them may be done already.
pub(super) fn usage(session: &Session) -> Result<Usage, StoreError> {
    let unfinished: i64 = session
        .prepare(
            "SELECT (SELECT count(*) FROM jobs INDEXED BY jobs_ready WHERE phase = 1) \
             + (SELECT count(*) FROM jobs INDEXED BY jobs_leases WHERE lease_until IS NOT NULL) \
             + (SELECT count(*) FROM jobs INDEXED BY jobs_due WHERE phase IN (0, 4)) \
             - (SELECT count(*) FROM deliveries INDEXED BY deliveries_under_way WHERE state = 1)",
        )?
        .query_one([], |row| row.get(0))?;
    let pragma = |name: &str| session.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok(Usage { unfinished: unfinished.max(0).unsigned_abs(), bytes: (pages * pragma("page_size")?).unsigned_abs() })
}

/// Writes a row and reads it back.
pub(super) fn probe(session: &Session, now: Time) -> Result<(), StoreError> {
    session.execute(
        "INSERT INTO probes (id, at) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET at = excluded.at",
        [now.as_millis()],
    )?;
    match row::value(session, "SELECT at FROM probes", &[])? {
        Some(at) if now == Time::from_millis(at) => Ok(()),
        found => Err(StoreError::Corrupt(format!("a probe of {now} is read back as {found:?}"))),
    }
}
